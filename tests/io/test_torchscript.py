"""Archives that ``torch.jit.save`` writes: what they hold, and what their code does."""
from __future__ import annotations

import importlib
import io
import warnings
import zipfile

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # making archives is deprecated there, not reading them
SOURCE = '''
import torch
from torch import nn, Tensor
from typing import Dict, List, Tuple

class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.linear, self.scale, self.names = nn.Linear(n, n), 2.0, ["a", "b"]

    def forward(self, x, k: int = 2):
        for i in range(k):
            x = nn.functional.relu(self.linear(x)) * self.scale
            if x.sum() > 100 and len(self.names) == 2:
                x = x / 2
            elif i == 1:
                x = x - 1
        assert x.dim() == 2, "two dimensions"
        return x

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.conv, self.norm, self.lstm = nn.Conv1d(1, 2, 3, padding=1), nn.BatchNorm1d(4), nn.LSTM(4, 3)
        self.register_buffer("shift", torch.arange(4.0))

    def forward(self, x):
        y = x
        for block in self.blocks:
            y = block(y)
        y = self.norm(y) + self.shift
        z = self.conv(y.unsqueeze(1))[:, -1, 1:]
        best, at = torch.max(z, dim=1)
        while bool((best > 1).any()):
            best = best * 0.5
        out, (h, c) = self.lstm(y.unsqueeze(1))
        return {"best": best}, (z, [at.float(), h, c]), z.shape[0], torch.zeros(2, dtype=torch.float64) + out.sum(), x[None, ..., 0]

    @torch.jit.export
    def told(self, x, text: str = "abc") -> str:
        return "{} of {}".format(text, x.size(0))
'''


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(PyTorch's scripted module, its archive)."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "script_source.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        source = importlib.import_module("script_source")
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.script(source.Net().eval())
            buffer = io.BytesIO()
            torch.jit.save(module, buffer, _extra_files={"note.txt": "hello"})
    return module, buffer.getvalue()


def alike(ours, theirs):
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            alike(a, b)
    elif isinstance(theirs, torch.Tensor):
        assert str(ours.dtype) == str(theirs.dtype)
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    else:
        assert ours == theirs


def test_scripted_modules_do_what_they_did(saved):
    theirs, data = saved
    ours = rushlight.jit.load(io.BytesIO(data))
    x = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    alike(ours(rushlight.tensor(x)), theirs(torch.from_numpy(x)))
    assert ours.told(rushlight.ones(5)) == theirs.told(torch.ones(5)) == "abc of 5"
    assert not ours.training and isinstance(ours, rushlight.jit.ScriptModule)
    assert str(ours) == str(theirs)
    with pytest.raises(rushlight.jit.Error, match="two dimensions"):
        getattr(ours.blocks, "0")(rushlight.ones(1, 1, 4))


def test_what_an_archive_holds(saved):
    theirs, data = saved
    files = {"note.txt": "", "other": "kept"}
    ours = rushlight.jit.load(io.BytesIO(data), _extra_files=files)
    assert files == {"note.txt": b"hello", "other": "kept"}
    state, expected = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(expected)
    alike(dict(state), dict(expected))
    assert [n for n, p in ours.named_parameters() if p.requires_grad] == [n for n, p in theirs.named_parameters()]
    plain = rushlight.nn.Linear(4, 4)
    plain.load_state_dict(getattr(ours.blocks, "0").linear.state_dict())
    ours(rushlight.ones(2, 4))[1][0].sum().backward()
    assert ours.conv.weight.grad.abs().sum() > 0


def test_traced_modules(tmp_path):
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU6(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
                                 torch.nn.Linear(2, 3), torch.nn.Softmax(1)).eval()
    x = np.random.default_rng(1).standard_normal((2, 1, 5, 5), dtype=np.float32)
    torch.jit.trace(module, torch.from_numpy(x)).save(str(tmp_path / "traced.pt"))
    alike(rushlight.jit.load(tmp_path / "traced.pt")(rushlight.tensor(x)), module(torch.from_numpy(x)))


class Indexing(torch.nn.Module):
    """What a trace or script writes with other operators than those that the source names."""

    def forward(self, x):
        at = torch.arange(x.shape[1], device=x.device)
        y = x.clone()
        y[at > 2] = 9.0
        y[:, at[:2]] = x[at][:, [0, 1]]
        lower = torch.tril_indices(4, 4, device=x.device)
        both = (x > 1) ^ (x[at, at] < 0.5)
        return (y, x[lower[0], lower[1]], both, torch.linalg.vector_norm(x, dim=1), torch.nn.functional.unfold(x[None, None], 2), x.norm(),
                torch.eye(3, 2), x.new_full((2,), 4.0, dtype=torch.float64), torch.linspace(0, 1, 3, dtype=torch.float64),
                x.index_put((at, at), x[0], accumulate=True), x.new_zeros(2, 0), torch.randperm(1))


@pytest.mark.parametrize("how", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(4, 4), check_trace=False)],
                         ids=["script", "trace"])
def test_indices_and_tensors_that_are_made(how):
    data = io.BytesIO()
    torch.jit.save(how(Indexing()), data)
    data.seek(0)
    x = np.random.default_rng(2).random((4, 4), dtype=np.float32) * 2
    alike(rushlight.jit.load(data)(rushlight.tensor(x)), Indexing()(torch.from_numpy(x)))


def changed(data, code):
    """The archive with another body of ``Net.told``."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("script_source.py"):
                head, _, _ = content.decode().partition("  def told")
                rest = content.decode()[content.decode().index("class Block"):]
                content = f"{head}  def told(self, x: Tensor) -> Tensor:\n{code}\n{rest}".encode()
            new.writestr(name, content)
    made.seek(0)
    return made


@pytest.mark.parametrize("code", ["    return __import__('os').getcwd()", "    return (x).__class__", "    return (x).numpy().tofile('f')",
                                  "    import os\n    return x", "    return open('f')", "    return (lambda: x)()",
                                  "    return getattr(x, 'T')", "    return eval('x')", "    return torch.Tensor.__init__(x)",
                                  "    __bound0 = x\n    return x", "    return x[__builtins__]"])
def test_code_that_is_no_torchscript_is_not_run(saved, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = rushlight.jit.load(changed(saved[1], code))
    with pytest.raises((RuntimeError, NameError)):
        module.told(rushlight.ones(2))
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_archive(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        rushlight.jit.load(tmp_path / "none.pt")
    with pytest.raises(RuntimeError, match="zip archive"):
        rushlight.jit.load(io.BytesIO(b"text"))
    rushlight.save({"a": 1}, tmp_path / "plain.pt")
    with pytest.raises(RuntimeError, match=r"torch\.load"):
        rushlight.jit.load(tmp_path / "plain.pt")
