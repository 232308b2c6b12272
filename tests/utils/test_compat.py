"""``import torch`` served by Rushlight: unmodified programs and libraries. In processes of their own: these may have PyTorch."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(code, *arguments, folder):
    (folder / "program.py").write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=folder, timeout=120, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


PROGRAM = """
    import sys
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    import torchvision.transforms.functional
    from torch.utils.data import DataLoader
    from torchvision import transforms
    import beside
    import rushlight

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

    if __name__ == "__main__":
        assert torch is rushlight and nn is rushlight.nn and F is rushlight.nn.functional
        assert DataLoader is rushlight.utils.data.DataLoader and transforms is rushlight.vision.transforms
        assert nn.__name__ == nn.__spec__.name == "rushlight.nn" and torch.__spec__.origin == torch.__file__
        torch.save(Net(), "net.pt")
        assert torch.load("net.pt", weights_only=False).layer.in_features == 2
        print(*sys.argv[1:], torch.arange(3).sum().item(), beside.answer)
"""


@pytest.mark.parametrize("how", [["program.py"], ["-m", "program"]], ids=["file", "module"])
def test_a_program_runs_as_it_stands(tmp_path, how):
    (tmp_path / "beside.py").write_text("import torch\nanswer = torch.__version__.split('+')[-1]\n")
    assert run(PROGRAM, "-m", "rushlight.compat", *how, "--epochs", "2", folder=tmp_path) == ["--epochs", "2", "3", "rushlight"]


def test_install_inside_a_program_and_what_is_not_there(tmp_path):
    assert run("""
        import rushlight.compat
        rushlight.compat.install()
        rushlight.compat.install()
        for name in ("torch.no_such_module", "torch.nn.no_such_module", "torchvision.no_such_module", "torch.random.no_such_module"):
            try:
                __import__(name)
            except ModuleNotFoundError as error:
                assert name in str(error), error
            else:
                raise AssertionError(name)
        import torch, sys
        rushlight.compat.uninstall()
        assert "torch" not in sys.modules and "rushlight" in sys.modules
        sys.modules["torchvision"] = sys
        try:
            rushlight.compat.install()
        except RuntimeError as error:
            print(str(error).split()[0])
        """, "program.py", folder=tmp_path) == ["torchvision"]


def test_names_inside_modules_and_the_name_of_the_package(tmp_path):
    assert run("""
        import torch.backends.cudnn as cudnn
        import torch.backends.cuda
        from torch.distributions.log_normal import LogNormal
        import torch
        import rushlight
        assert cudnn is torch.backends.cudnn is rushlight.backends.cudnn and LogNormal is torch.distributions.LogNormal
        assert "torch._C._log_api_usage_once".split(".")[0] == torch.__name__ and torch.torch is torch
        assert rushlight.linalg.norm(torch.ones(4)) == 2
        assert torch.Tensor.__module__ == "torch" and type(torch.nn.Linear(1, 1).weight.data).__module__ == "torch"
        import copy, pickle
        assert pickle.loads(pickle.dumps(torch.ones(2))).equal(copy.deepcopy(torch.ones(2)))
        rushlight.compat.uninstall()
        assert rushlight.Tensor.__module__ == "rushlight.tensor.tensor"
        print(rushlight.__name__, rushlight.hub.__name__)
        """, "-m", "rushlight.compat", "program.py", folder=tmp_path) == ["rushlight", "rushlight.hub"]


def test_libraries_that_ask_for_torch_take_it(tmp_path):
    pytest.importorskip("einops")
    assert run("""
        import torch
        from einops import rearrange
        from einops.layers.torch import Rearrange
        layer = torch.nn.Sequential(Rearrange("b (h w) -> b w h", h=2), torch.nn.Linear(2, 1))
        print(*rearrange(layer(torch.ones(3, 8)), "b w 1 -> (b w)").shape)
        """, "-m", "rushlight.compat", "program.py", folder=tmp_path) == ["12"]


def test_the_version_is_told_without_an_import(tmp_path):
    assert run("""
        import sys
        from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
        print(version("torch"), version("torchvision"), "torch" in sys.modules)
        import torch, torchvision
        assert version("torch") == torch.__version__ and version("torchvision") == torchvision.__version__
        assert distribution("torch").metadata["Name"] == "torch" and packages_distributions()["torchvision"] == ["torchvision"]
        try:
            version("torch-no-such-package")
        except PackageNotFoundError:
            print("absent")
        """, "-m", "rushlight.compat", "program.py", folder=tmp_path) == ["2.13.0+rushlight", "0.28.0+rushlight", "False", "absent"]
