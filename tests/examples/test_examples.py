"""The example programs run, and reach what they promise."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import rushlight
from rushlight.vision import datasets
from tests.vision.files import write_mnist

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Loads an example by its name, as `python examples/NAME.py` would see it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("mnist", None)


def test_linear_regression_reaches_the_closed_form(example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    example("linear_regression").main(["--plot", str(tmp_path / "fit.png")])
    assert "gradient descent" in capsys.readouterr().out
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_linear_regression_says_when_it_is_off(example):
    with pytest.raises(SystemExit, match="off the closed form"):
        example("linear_regression").main(["--steps", "2", "--plot", ""])


def test_logistic_regression_tells_tumours_apart(example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    example("logistic_regression").main(["--epochs", "10", "--plot", str(tmp_path / "roc.png")])
    text = capsys.readouterr().out
    assert float(text.split("ROC-AUC: ")[1].split()[0]) > 0.98
    assert "malignant" in text
    assert (tmp_path / "roc.png").stat().st_size > 10_000


def test_mnist_program_runs_unchanged(example, tmp_path, monkeypatch, capsys):
    write_mnist(tmp_path / "MNIST" / "raw")
    checkpoint = tmp_path / "cnn.pt"
    arguments = ["mnist.py", "--data", str(tmp_path), "--epochs", "1", "--batch-size", "8", "--save", str(checkpoint)]
    monkeypatch.setattr(sys, "argv", arguments)
    module = example("mnist")
    module.main()
    text = capsys.readouterr().out
    assert "Train Epoch: 1 [0/30 (0%)]\tLoss: " in text
    assert "/7 (" in text
    model = module.Net()
    model.load_state_dict(rushlight.load(checkpoint))


def test_demo_reports_and_draws(example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    write_mnist(tmp_path / "mnist", zipped=True)
    outputs = ["--plot", str(tmp_path / "mnist.png"), "--save", str(tmp_path / "mnist.pt")]
    example("demo").main(["--data", str(tmp_path), "--epochs", "2", "--batch-size", "10", *outputs])
    text = capsys.readouterr().out
    assert "epoch 2: loss " in text
    assert "weighted avg" in text
    assert (tmp_path / "mnist.png").read_bytes().startswith(b"\x89PNG")
    saved = rushlight.load(tmp_path / "mnist.pt")
    assert len(saved["history"]) == 2
    assert saved["optimizer"]["param_groups"][0]["lr"] == 1e-3


def test_demo_without_a_network_takes_the_bundled_digits(example, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    name, train, test = example("demo").load_data(str(tmp_path / "data"))
    assert (name, len(train), len(test)) == ("UCI digits", 1437, 360)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Downloading")]
    assert len(lines) == 1
    assert "no network" in lines[0]
    image, label = train[0]
    assert image.shape == (1, 28, 28)
    assert np.isfinite(image.numpy()).all()
    assert label == 0


def test_demo_does_not_hide_damaged_files(example, tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(RuntimeError, match=r"train-images-idx3-ubyte is cut short"):
        example("demo").load_data(str(tmp_path))
