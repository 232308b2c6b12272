"""What the package promises about itself: few dependencies, typed, and with its data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.check_floors import main as check_floors

ROOT = Path(__file__).parent.parent


def project_table():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_core_needs_three_packages():
    names = {dependency.split(">")[0] for dependency in project_table()["dependencies"]}
    assert names == {"numpy", "llvmlite", "ml_dtypes"}


def test_extras_are_not_imported_with_the_package():
    """Neither by `import rushlight` nor by its rooms: an extra is imported by the function that needs it."""
    code = (
        "import sys, rushlight, rushlight.vision, rushlight.io, rushlight.metrics, rushlight.utils.data\n"
        "extras = {'PIL', 'matplotlib', 'scipy', 'sklearn', 'tqdm', 'torch', 'soundfile'} & set(sys.modules)\n"
        "assert not extras, extras"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_the_first_step_of_a_network_loads_no_extra():
    """SciPy takes a quarter of a second, and a GELU's first run wanted its error function."""
    code = (
        "import sys, rushlight as torch\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))\n"
        "model(torch.randn(3, 4)).erfc().sum().backward()\n"
        "assert model[0].weight.grad.abs().sum() > 0\n"
        "assert 'scipy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_data_files_travel_with_the_package():
    assert (ROOT / "rushlight" / "py.typed").exists()
    assert (ROOT / "rushlight" / "vision" / "data" / "digits.npz").stat().st_size < 60_000
    assert "CC BY 4.0" in (ROOT / "rushlight" / "vision" / "data" / "README.md").read_text()


def report(tmp_path, *items):
    path = tmp_path / "report.json"
    rows = [
        {"kind": kind, "fwd_ok": forward, "columns": {"grad": {"passed": passed, "total": 4}}}
        for kind, forward, passed in items
    ]
    path.write_text(json.dumps({"items": rows}))
    return str(path)


def test_floors_only_go_up(tmp_path, capsys):
    floors = tmp_path / "floors.json"
    good = report(tmp_path, ("op", True, 4), ("op", True, 2), ("module", False, 0))
    assert check_floors([good, str(floors), "--raise"]) == 0
    reached = json.loads(floors.read_text())
    assert (reached["ops_forward"], reached["ops_forward_and_gradient"], reached["modules_forward"]) == (2, 1, 0)
    worse = report(tmp_path, ("op", True, 2), ("module", True, 4))
    assert check_floors([worse, str(floors), "--raise"]) == 1
    assert "FELL" in capsys.readouterr().out
    raised = json.loads(floors.read_text())
    assert (raised["ops_forward"], raised["ops_forward_and_gradient"], raised["modules_forward"]) == (2, 1, 1)
    (tmp_path / "report.json").write_text(json.dumps({"error": "no package"}))
    assert check_floors([worse, str(floors)]) == 1
