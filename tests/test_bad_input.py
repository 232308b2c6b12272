"""Bad input: PyTorch's exception class, a message that names the culprit, and a process that goes on.

A case is a program that runs with either package, the class of the error, and words that its message must hold. Where
PyTorch is installed the class is checked against it, too.
"""
from __future__ import annotations

import importlib
import pickle
import re
import struct
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import rushlight
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings


class Case(NamedTuple):
    name: str
    program: Callable[[Any], Any]
    error: type[BaseException]
    words: tuple[str, ...] = ()  # regular expressions


def loss_of(torch: Any, x: Any, y: Any) -> float:
    return torch.nn.functional.cross_entropy(x, y).item()


def trained(torch: Any, layer: Any, x: Any) -> Any:
    out = layer(x).sum()
    out.backward()
    return out.item()


SHAPES = [
    Case("linear", lambda t: t.nn.Linear(4, 3)(t.zeros(2, 5)), RuntimeError, (r"2x5", r"4x3")),
    Case("linear with a weight of three dimensions", lambda t: t.nn.functional.linear(t.zeros(2, 2, 3), t.zeros(2, 2, 3)), RuntimeError,
         (r"<= 2 dimensions", r"3D")),
    Case("linear without batch", lambda t: t.nn.Linear(4, 3)(t.zeros(5)), RuntimeError, (r"5", r"4")),
    Case("conv2d channels", lambda t: t.nn.Conv2d(3, 8, 3)(t.zeros(2, 4, 9, 9)), RuntimeError, (r"3", r"4 channels")),
    Case("conv2d rank", lambda t: t.nn.Conv2d(3, 8, 3)(t.zeros(9, 9)), RuntimeError, (r"3D.*4D|conv2d",)),
    Case("conv2d kernel too large", lambda t: t.nn.Conv2d(1, 1, 5)(t.zeros(1, 1, 3, 3)), RuntimeError, (r"3 x 3", r"5 x 5")),
    Case("conv1d groups", lambda t: t.nn.Conv1d(4, 6, 3, groups=3), ValueError, (r"in_channels must be divisible by groups",)),
    Case("matmul", lambda t: t.zeros(2, 3) @ t.zeros(4, 5), RuntimeError, (r"2x3", r"4x5")),
    Case("mm of vectors", lambda t: t.mm(t.zeros(3), t.zeros(3)), RuntimeError, (r"matri(x|ces)",)),
    Case("bmm", lambda t: t.bmm(t.zeros(2, 3, 4), t.zeros(3, 4, 5)), RuntimeError, (r"2", r"3")),
    Case("addition", lambda t: t.zeros(2, 3) + t.zeros(2, 4), RuntimeError, (r"\(3\)", r"\(4\)", r"dimension 1")),
    Case("addition in place", lambda t: t.zeros(3).add_(t.zeros(2, 3)), RuntimeError, (r"\[3\]", r"\[2, 3\]")),
    Case("reshape", lambda t: t.zeros(6).reshape(4, 2), RuntimeError, (r"\[4, 2\]", r"size 6")),
    Case("view", lambda t: t.zeros(2, 3).t().view(6), RuntimeError, (r"stride",)),
    Case("expand", lambda t: t.zeros(3).expand(4), RuntimeError, (r"\(4\)", r"\(3\)")),
    Case("cat", lambda t: t.cat([t.zeros(2, 3), t.zeros(2, 4)]), RuntimeError, (r"3", r"4")),
    Case("stack", lambda t: t.stack([t.zeros(2), t.zeros(3)]), RuntimeError, (r"\[2\]", r"\[3\]")),
    Case("no such dimension", lambda t: t.zeros(2, 3).sum(5), IndexError, (r"\[-2, 1\]", r"5")),
    Case("a slice from a fraction", lambda t: t.zeros(5)[1.0:3], TypeError, (r"slice indices must be integers or None",)),
    Case("a slice of a fraction's step", lambda t: t.zeros(2, 5)[:, ::2.0], TypeError, (r"slice indices must be integers or None",)),
    Case("a slice from a floating tensor", lambda t: t.zeros(5)[t.tensor(1.0):], TypeError, (r"only integer tensors of a single element",)),
    Case("writing a slice to a fraction", lambda t: t.zeros(5).__setitem__(slice(None, np.float64(3)), 1), TypeError,
         (r"slice indices must be integers or None",)),
    Case("no such index", lambda t: t.zeros(2, 3)[4], IndexError, (r"4", r"size 2")),
    Case("too many indices", lambda t: t.zeros(2, 3)[0, 0, 0], IndexError, (r"too many indices", r"2")),
    Case("loss.data[0]", lambda t: t.tensor(1.0)[0], IndexError, (r"invalid index of a 0-dim tensor", r"`tensor\.item\(\)`")),
    Case("a slice of a number", lambda t: t.tensor(1.0)[:], IndexError, (r"slice\(\) cannot be applied to a 0-dim tensor",)),
    Case("mask of another shape", lambda t: t.zeros(2, 3)[t.ones(3, 2) > 0], IndexError, (r"\[3, 2\]", r"\[2, 3\]")),
    Case("batch norm", lambda t: t.nn.BatchNorm2d(3)(t.zeros(2, 4, 5, 5)), RuntimeError, (r"4", r"3")),
    Case("batch norm rank", lambda t: t.nn.BatchNorm2d(3)(t.zeros(2, 3)), ValueError, (r"4D", r"2D")),
    Case("batch norm of one value", lambda t: t.nn.BatchNorm1d(3)(t.zeros(1, 3)), ValueError, (r"\[1, 3\]",)),
    Case("layer norm", lambda t: t.nn.LayerNorm(4)(t.zeros(2, 3)), RuntimeError, (r"\[4\]", r"\[2, 3\]")),
    Case("cross entropy batch", lambda t: loss_of(t, t.zeros(4, 3), t.zeros(5, dtype=t.int64)), ValueError, (r"4", r"5")),
    Case("nll loss batch", lambda t: t.nn.functional.nll_loss(t.zeros(4, 3), t.zeros(5, dtype=t.int64)), ValueError, (r"4", r"5")),
    Case("binary cross entropy", lambda t: t.nn.BCELoss()(t.ones(4, 1), t.ones(4)), ValueError, (r"\[4\]", r"\[4, 1\]")),
    Case("binary cross entropy with logits", lambda t: t.nn.BCEWithLogitsLoss()(t.ones(4, 1), t.ones(4)), ValueError,
         (r"\[4\]", r"\[4, 1\]")),
    Case("backward of many", lambda t: t.zeros(3, requires_grad=True).exp().backward(), RuntimeError, (r"scalar",)),
    Case("backward without a graph", lambda t: t.zeros(()).backward(), RuntimeError, (r"does not require grad",)),
    Case("backward twice", lambda t: twice(t), RuntimeError, (r"second time|retain_graph",)),
    Case("negative size", lambda t: t.zeros(-1), RuntimeError, (r"-1",)),
    Case("item of many", lambda t: t.zeros(3).item(), RuntimeError, (r"3 elements",)),
    Case("truth of many", lambda t: bool(t.zeros(3)), RuntimeError, (r"ambiguous",)),
    Case("one number of many", lambda t: float(t.zeros(3)), ValueError, (r"only one element",)),
    Case("a whole number of none", lambda t: int(t.zeros(0)), ValueError, (r"only one element",)),
    Case("a hook that changes the size", lambda t: hooked(t, lambda g: t.ones(5)), RuntimeError, (r"changed the size",)),
    Case("a hook that changes the size of a result's gradient", lambda t: hooked(t, lambda g: t.ones(5), True), RuntimeError,
         (r"changed the size",)),
]


def hooked(torch: Any, hook: Callable[[Any], Any], inner: bool = False) -> None:
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    (y if inner else x).register_hook(hook)
    y.sum().backward()


def twice(torch: Any) -> None:
    x = torch.ones(3, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    y.backward()


DTYPES = [
    Case("order of complex numbers", lambda t: t.zeros(2) < t.tensor([1j, 0j]), NotImplementedError, (r"lt", r"[cC]omplex")),
    Case("bits of floats", lambda t: t.zeros(2) & t.zeros(2), NotImplementedError, (r"bitwise_and", r"[fF]loat")),
    Case("a difference to True", lambda t: t.zeros(2) - True, RuntimeError, (r"Subtraction", r"bool tensor")),
    Case("True less something", lambda t: True - t.zeros(2), RuntimeError, (r"Subtraction", r"bool tensor")),
    Case("a number in cat", lambda t: t.cat([t.zeros(2), 3]), TypeError, (r"element 1", r"int")),
    Case("a number in matmul", lambda t: t.zeros(2, 3) @ 3, TypeError, (r"Tensor", r"int")),
    Case("a number as data", lambda t: setattr(t.zeros(2), "data", 3), TypeError, (r"int",)),
    Case("a name as dtype", lambda t: t.zeros(2, dtype="float32"), TypeError, (r"dtype", r"str")),
    Case("a name as dtype of data", lambda t: t.tensor([1.0], dtype="float32"), TypeError, (r"dtype", r"str")),
    Case("a name as dtype of an empty tensor", lambda t: t.empty(2, 3, dtype="float32"), TypeError, (r"dtype", r"str")),
    Case("a hook that changes the dtype", lambda t: hooked(t, lambda g: g.double()), RuntimeError, (r"changed the type",)),
    Case("a hook that returns a number", lambda t: hooked(t, lambda g: 3), TypeError, (r"hook|Variable", r"int")),
    Case("linear", lambda t: t.nn.Linear(4, 3)(t.zeros(2, 4, dtype=t.float64)), RuntimeError, (r"[dD]ouble|float64", r"[fF]loat")),
    Case("conv2d", lambda t: t.nn.Conv2d(1, 1, 3)(t.zeros(1, 1, 5, 5, dtype=t.float64)), RuntimeError, (r"[dD]ouble|float64",)),
    Case("matmul", lambda t: t.zeros(2, 3) @ t.zeros(3, 2, dtype=t.int64), RuntimeError, (r"[lL]ong|int64",)),
    Case("float labels", lambda t: loss_of(t, t.zeros(4, 3), t.zeros(4)), RuntimeError, (r"[lL]ong|int64|probabilities \[4\]",)),
    Case("float labels of nll", lambda t: t.nn.functional.nll_loss(t.zeros(4, 3), t.zeros(4)), RuntimeError, (r"[lL]ong|int64",)),
    Case("float indices", lambda t: t.nn.Embedding(4, 3)(t.zeros(2)), RuntimeError, (r"[fF]loat", r"[lL]ong|int64")),
    Case("index by floats", lambda t: t.zeros(4)[t.zeros(2)], IndexError, (r"long, int, byte or bool",)),
    Case("gather", lambda t: t.zeros(4).gather(0, t.zeros(2)), RuntimeError, (r"int64",)),
    Case("gradient of integers", lambda t: t.zeros(3, dtype=t.int64, requires_grad=True), RuntimeError, (r"floating point",)),
    Case("mean of integers", lambda t: t.zeros(3, dtype=t.int64).mean(), RuntimeError, (r"[lL]ong|int64",)),
    Case("softmax of integers", lambda t: t.softmax(t.zeros(3, dtype=t.int64), 0).tolist(), RuntimeError, (r"[lL]ong|int64",)),
    Case("float into integers", lambda t: t.zeros(3, dtype=t.int64).add_(0.5), RuntimeError, (r"[fF]loat", r"[lL]ong|int64")),
    Case("minus of booleans", lambda t: (t.ones(2) > 0) - (t.ones(2) > 0), RuntimeError, (r"bool",)),
    Case("bits of floats", lambda t: t.zeros(2) & t.zeros(2), RuntimeError, (r"[fF]loat",)),
    Case("array of strings", lambda t: t.tensor(np.array(["a"])), TypeError, (r"str",)),
    Case("ragged list", lambda t: t.tensor([[1, 2], [3]]), ValueError, (r"2", r"1", r"dim 1")),
    Case("no number", lambda t: t.tensor(["a"]), ValueError, (r"str",)),
    Case("integer division by zero", lambda t: (t.ones(3, dtype=t.int64) // t.zeros(3, dtype=t.int64)).tolist(), RuntimeError,
         (r"ZeroDivision",)),
    Case("optimizer of a tensor", lambda t: t.optim.SGD(t.zeros(3), lr=0.1), TypeError, (r"iterable",)),
    Case("optimizer of nothing", lambda t: t.optim.SGD([], lr=0.1), ValueError, (r"empty",)),
    Case("optimizer of a non-leaf", lambda t: t.optim.SGD([t.zeros(3, requires_grad=True) * 2], lr=0.1), ValueError, (r"leaf",)),
    Case("negative learning rate", lambda t: t.optim.Adam([t.zeros(3, requires_grad=True)], lr=-1.0), ValueError, (r"-1",)),
    Case("dropout probability", lambda t: t.nn.Dropout(1.5), ValueError, (r"1\.5",)),
]


def classes(torch: Any, label: int, n: int = 4) -> tuple[Any, Any]:
    return torch.zeros(n, 3, requires_grad=True), torch.tensor([0, 1, label, 2])


LABELS = [
    Case("cross entropy", lambda t: loss_of(t, *classes(t, 3)), IndexError, (r"3 is out of bounds",)),
    Case("cross entropy, negative", lambda t: loss_of(t, *classes(t, -1)), IndexError, (r"-1 is out of bounds",)),
    Case("nll loss", lambda t: t.nn.functional.nll_loss(*classes(t, 7)).item(), IndexError, (r"7 is out of bounds",)),
    Case("nll loss of images", lambda t: t.nn.functional.nll_loss(t.zeros(1, 3, 2, 2), t.full((1, 2, 2), 9)).item(), IndexError, (r"9",)),
    Case("only the gradient is read", lambda t: gradient(t, *classes(t, 5)), IndexError, (r"5 is out of bounds",)),
    Case("only the gradient is read, negative", lambda t: gradient(t, *classes(t, -7)), IndexError, (r"-7 is out of bounds",)),
    Case("embedding", lambda t: t.nn.Embedding(4, 3)(t.tensor([1, 4])).tolist(), IndexError, (r"index", r"out of")),
    Case("embedding, negative", lambda t: t.nn.Embedding(4, 3)(t.tensor([-1])).tolist(), IndexError, (r"index", r"out of")),
    Case("index", lambda t: t.zeros(3)[t.tensor([0, 3])].tolist(), IndexError, (r"index 3 is out of bounds", r"size 3")),
    Case("index that Python knows", lambda t: t.zeros(2, 3)[:, [0, 3]], IndexError,
         (r"index 3 is out of bounds for dimension 1 with size 3",)),
    Case("index that NumPy knows", lambda t: t.zeros(3)[np.array([-4])], IndexError, (r"index -4 is out of bounds", r"size 3")),
    Case("index that Python knows, written", lambda t: t.zeros(3).__setitem__([0, 3], 1.0), IndexError, (r"index 3 is out of bounds",)),
    Case("index, written", lambda t: write_at(t, 5), IndexError, (r"index 5 is out of bounds",)),
    Case("gather", lambda t: t.zeros(3).gather(0, t.tensor([3])).tolist(), RuntimeError, (r"index 3 is out of bounds", r"size 3")),
    Case("scatter", lambda t: t.zeros(3).scatter(0, t.tensor([3]), 1.0).tolist(), RuntimeError, (r"index 3 is out of bounds", r"size 3")),
    Case("index_select", lambda t: t.zeros(3).index_select(0, t.tensor([3])).tolist(), IndexError, (r"index", r"out of")),
    Case("one_hot", lambda t: t.nn.functional.one_hot(t.tensor([3]), 3).tolist(), RuntimeError, (r"smaller than num_classes|class",)),
]


def gradient(torch: Any, x: Any, y: Any) -> list:
    torch.nn.functional.cross_entropy(x, y).backward()
    return x.grad.tolist()


def write_at(torch: Any, k: int) -> Any:
    x = torch.zeros(3)
    x[torch.tensor([k])] = 1.0
    return x.tolist()


def state(t: Any, change: Callable[[dict], Any], strict: bool = True) -> Any:
    model = t.nn.Sequential(t.nn.Linear(2, 3), t.nn.Linear(3, 1))
    saved = dict(model.state_dict())
    change(saved)
    return model.load_state_dict(saved, strict=strict)


STATES = [
    Case("missing key", lambda t: state(t, lambda s: s.pop("1.bias")), RuntimeError, (r"Missing key\(s\)", r'"1\.bias"', r"Sequential")),
    Case("extra key", lambda t: state(t, lambda s: s.update({"2.weight": t.zeros(1)})), RuntimeError,
         (r"Unexpected key\(s\)", r'"2\.weight"')),
    Case("size", lambda t: state(t, lambda s: s.update({"0.weight": t.zeros(4, 2)})), RuntimeError,
         (r"size mismatch for 0\.weight", r"\[4, 2\]", r"\[3, 2\]")),
    Case("size without strictness", lambda t: state(t, lambda s: s.update({"0.weight": t.zeros(4, 2)}), False), RuntimeError,
         (r"0\.weight",)),
    Case("no mapping", lambda t: t.nn.Linear(1, 1).load_state_dict([1]), TypeError, (r"dict-like", r"list")),
    Case("all at once", lambda t: state(t, lambda s: (s.pop("1.bias"), s.update({"x": t.zeros(1), "0.bias": t.zeros(9)}))), RuntimeError,
         (r"1\.bias", r'"x"', r"0\.bias")),
    Case("optimizer groups", lambda t: t.optim.SGD([t.zeros(1, requires_grad=True)], lr=1.0).load_state_dict(
        t.optim.SGD([t.zeros(1, requires_grad=True), t.zeros(1, requires_grad=True)], lr=1.0).state_dict()), ValueError,
         (r"size of optimizer's group|parameter group",)),
]


class Ragged:
    """Samples that do not fit one batch."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> Any:
        return self.torch.zeros(2 + k % 2), 1


def loader(t: Any, workers: int = 0, dataset: Any = None) -> list:
    data = importlib.import_module(t.__name__ + ".utils.data")
    return list(data.DataLoader(dataset or Ragged(t), batch_size=2, num_workers=workers))


def anomaly(t: Any, function: Callable[[Any], Any]) -> None:
    x = t.zeros(3, requires_grad=True)
    with t.autograd.detect_anomaly(check_nan=True):
        function(x).sum().backward()


INVERTED = [
    Case(f"bits of {d} inverted", lambda t, d=d: ~t.ones(2, dtype=getattr(t, d)), TypeError, (r"operator\.invert", r"integer and Boolean"))
    for d in ("float32", "bfloat16", "complex64")
]

DATA = [
    Case("ragged batch", loader, RuntimeError, (r"equal size", r"\[2\]", r"\[3\]")),
    Case("ragged batch in a worker", lambda t: loader(t, 1), RuntimeError, (r"worker", r"\[2\]", r"\[3\]")),
    Case("samples of no type", lambda t: loader(t, 0, [object()] * 4), TypeError, (r"object",)),
    Case("no batch", lambda t: importlib.import_module(t.__name__ + ".utils.data").DataLoader([1], batch_size=0), ValueError, (r"0",)),
    Case("tensors of different lengths",
         lambda t: importlib.import_module(t.__name__ + ".utils.data").TensorDataset(t.zeros(2), t.zeros(3)),
         AssertionError, (r"[sS]ize mismatch",)),
]

# PyTorch warns that anomaly mode is slow, and tells the place of the forward call by a warning.
ANOMALY = [
    Case("square root", lambda t: anomaly(t, lambda x: x.sqrt() * 0), RuntimeError, (r"SqrtBackward0", r"nan values in its 0th output")),
    Case("logarithm", lambda t: anomaly(t, lambda x: (x.log() * x)), RuntimeError, (r"Backward0", r"nan values")),
    Case("loss", lambda t: anomaly(t, lambda x: t.nn.functional.mse_loss(x / x, x)), RuntimeError, (r"Backward0", r"nan values")),
]

DEVICES = [
    lambda t: t.zeros(3, device="cuda"), lambda t: t.zeros(3).to("cuda"), lambda t: t.zeros(3).cuda(),
    lambda t: t.nn.Linear(2, 2).to("cuda"), lambda t: t.nn.Linear(2, 2).cuda(), lambda t: t.tensor([1.0], device=t.device("cuda", 0)),
    lambda t: t.zeros(3).to(t.device("cuda:1"))]

ROWS = [pytest.param(c, id=f"{family}: {c.name}") for family, cases in (
    ("shapes", SHAPES), ("dtypes", DTYPES), ("labels", LABELS), ("states", STATES), ("data", DATA), ("inverted", INVERTED),
    ("anomaly", ANOMALY)) for c in cases]


@pytest.fixture(autouse=True)
def the_process_goes_on():
    """After every mistake another program runs, and what was recorded before it is not lost."""
    x = rushlight.arange(4.0)
    before = x * 2
    yield
    assert before.tolist() == [0, 2, 4, 6]
    w = rushlight.ones(4, requires_grad=True)
    (w * x).sum().backward()
    assert w.grad.tolist() == [0, 1, 2, 3]
    assert rushlight.is_grad_enabled()


@pytest.mark.filterwarnings("ignore:Error detected in", "ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("case", ROWS)
def test_the_error_names_the_culprit(case):
    with pytest.raises(case.error) as caught:
        case.program(rushlight)
    message = str(caught.value)
    for word in case.words:
        assert re.search(word, message, re.DOTALL), f"{message!r} does not hold {word!r}"


@pytest.mark.parametrize("case", [c for c in ROWS if c.id.startswith("labels") or "division" in c.id])
def test_the_same_compiled(case):
    """Run-time errors of compiled programs name the user's line as well."""
    before = settings.cold_limit
    settings.cold_limit = 0
    start_afresh()
    try:
        test_the_error_names_the_culprit(case)
    finally:
        settings.cold_limit = before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ROWS)
def test_pytorch_raises_the_same_class(case):
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception) as caught:  # noqa: B017
        case.program(torch)
    assert isinstance(caught.value, case.error), repr(caught.value)


@pytest.mark.parametrize("mode", [lambda a: a.detect_anomaly(check_nan=False), lambda a: a.set_detect_anomaly(True, check_nan=False)],
                         ids=["detect", "set"])
def test_anomaly_mode_that_lets_nans_pass(mode):
    x = rushlight.tensor([-1.0], requires_grad=True)
    with mode(rushlight.autograd):
        assert rushlight.is_anomaly_enabled()
        (x.sqrt() * 0).sum().backward()
    assert np.isnan(x.grad.item()) and not rushlight.is_anomaly_enabled()
    with pytest.raises(RuntimeError, match="nan values"), pytest.warns(UserWarning, match="Error detected"), \
            rushlight.autograd.detect_anomaly():
        (x.sqrt() * 0).sum().backward()


@pytest.mark.parametrize("program", DEVICES, ids=range(len(DEVICES)))
def test_cuda_where_there_is_none(program):
    assert not rushlight.cuda.is_available()
    # PyTorch's CPU build raises AssertionError; its CUDA build, where there is no GPU, RuntimeError. Programs catch either.
    for kind in (AssertionError, RuntimeError):
        with pytest.raises(kind, match=r"(?s)Torch not compiled with CUDA enabled.*cuda.*cpu"):
            program(rushlight)


@pytest.mark.parametrize("name", ["current_device", "get_device_name", "get_device_properties", "synchronize"])
def test_questions_about_a_gpu_that_is_not_there(name):
    with pytest.raises(AssertionError, match="Torch not compiled with CUDA enabled"):
        getattr(rushlight.cuda, name)()


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("label", [7, -1])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_out_of_range_have_pytorchs_message(loss, label, weighted):
    """Interpreted, and compiled, with and without a gradient."""
    function, limit = getattr(rushlight.nn.functional, loss), settings.cold_limit
    weight = rushlight.ones(3) if weighted else None
    try:
        for settings.cold_limit in (limit, 0):
            start_afresh()
            for backward in (False, True):
                scores = rushlight.zeros(2, 3, requires_grad=backward)
                with pytest.raises(IndexError, match=rf"^Target {label} is out of bounds\."):
                    lost = function(scores, rushlight.tensor([0, label]), weight)
                    if backward:
                        lost.backward()
                    (scores.grad.sum() if backward else lost).item()
    finally:
        settings.cold_limit = limit
        start_afresh()


@pytest.mark.parametrize("text", ["hello world\n", "epoch,loss\n1,0.5\n", "{}\n", ""])
def test_a_text_file_is_no_checkpoint(tmp_path, text):
    """PyTorch tells it by what its unpickler stumbles on (UnpicklingError, KeyError, ...); here it is always an
    UnpicklingError that names the file, except that an empty file is an EOFError in both."""
    path = tmp_path / "notes.txt"
    path.write_text(text)
    for weights_only in (True, False):
        with pytest.raises((pickle.UnpicklingError, EOFError)) as caught:
            rushlight.load(path, weights_only=weights_only)
        assert isinstance(caught.value, EOFError) == (not text)
        assert not text or "notes.txt" in str(caught.value)


def test_an_unknown_device():
    with pytest.raises(RuntimeError, match="toaster"):
        rushlight.device("toaster")


def test_a_runtime_error_names_the_users_line():
    table = rushlight.nn.Embedding(4, 3)
    for _ in range(3):  # interpreted, then compiled
        with pytest.raises(IndexError):
            table(rushlight.tensor([1, 9])).tolist()
    with pytest.raises(IndexError, match=Path(__file__).name):
        rushlight.zeros(300, 300)[rushlight.tensor([7, 300])].exp().sum().item()


def test_a_failed_step_can_be_repeated():
    """A label out of range spoils neither the model nor the optimizer."""
    model = rushlight.nn.Linear(2, 3)
    optimizer = rushlight.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = rushlight.ones(4, 2)

    def step(labels):
        optimizer.zero_grad()
        loss = rushlight.nn.functional.cross_entropy(model(x), rushlight.tensor(labels))
        loss.backward()
        optimizer.step()
        return loss.item()
    good = [step([0, 1, 2, 0]) for _ in range(3)]
    weights = model.weight.tolist()
    with pytest.raises(IndexError, match="8 is out of bounds"):
        step([0, 1, 8, 0])
    assert model.weight.tolist() == weights
    assert step([0, 1, 2, 0]) < good[-1]


# -- files ---------------------------------------------------------------------------------------------------------------------
def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(np.zeros((5, 28, 28))))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(5)))
    return folder


@pytest.mark.parametrize("keep", [0, 3, 10, 16, 1000])
def test_truncated_idx_file(mnist, keep):
    datasets = importlib.import_module("rushlight.vision.datasets")
    assert len(datasets.MNIST(mnist.parents[1])) == 5
    path = mnist / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RuntimeError, match=f"{path.name}.*(cut short|not an IDX file)"):
        datasets.MNIST(mnist.parents[1])
    assert path.stat().st_size == keep


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    rushlight.save(rushlight.nn.Linear(30, 20).state_dict(), path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_truncated_checkpoint(checkpoint, share):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((RuntimeError, EOFError), match=re.escape(str(checkpoint))):
        rushlight.load(checkpoint)
    torch = pytest.importorskip("torch")
    with pytest.raises((RuntimeError, EOFError)):
        torch.load(checkpoint)


def test_corrupt_checkpoint(checkpoint):
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 0x55
    checkpoint.write_bytes(bytes(data))
    with pytest.raises(RuntimeError, match=re.escape(checkpoint.name)):
        rushlight.load(checkpoint)


def test_text_is_no_checkpoint(checkpoint):
    checkpoint.write_text("hello")
    with pytest.raises(pickle.UnpicklingError, match=re.escape(checkpoint.name)):
        rushlight.load(checkpoint)


def test_a_save_that_fails_leaves_no_file(checkpoint):
    before, names = checkpoint.read_bytes(), sorted(checkpoint.parent.iterdir())
    with pytest.raises(Exception, match="(?i)pickle"):
        rushlight.save({"weights": rushlight.ones(1000), "bad": types.ModuleType("nothing")}, checkpoint)
    with pytest.raises(Exception, match="(?i)pickle"):
        rushlight.save({"bad": lambda: None}, checkpoint.parent / "other.pt")
    assert checkpoint.read_bytes() == before
    assert sorted(checkpoint.parent.iterdir()) == names
    with pytest.raises((RuntimeError, FileNotFoundError), match="nowhere"):
        rushlight.save({}, checkpoint.parent / "nowhere" / "x.pt")


def test_no_such_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        rushlight.load(tmp_path / "absent.pt")


def test_ctrl_c_in_a_step_is_not_swallowed():
    x = rushlight.ones(3, requires_grad=True)

    def interrupt(_):
        raise KeyboardInterrupt
    x.register_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        (x * 2).sum().backward()


@pytest.mark.parametrize("make", [lambda p: rushlight.optim.Adam(p), lambda p: rushlight.optim.SGD(p, lr=0.1, momentum=0.9)])
def test_a_failed_first_step_begins_no_state(make):
    model = rushlight.nn.Linear(2, 3)
    optimizer, x = make(model.parameters()), rushlight.ones(4, 2)

    def step(labels):
        optimizer.zero_grad()
        loss = rushlight.nn.functional.cross_entropy(model(x), rushlight.tensor(labels))
        loss.backward()
        optimizer.step()
        return loss.item()
    before = model.weight.tolist()
    with pytest.raises(IndexError, match="9 is out of bounds"):
        step([0, 1, 9, 2])
    assert model.weight.tolist() == before and not optimizer.state
    first = step([0, 1, 2, 0])
    assert step([0, 1, 2, 0]) < first


def test_a_failed_program_undoes_writes_through_windows():
    """A part of a tensor that the failing program reads, and writes in place afterwards."""
    for _ in range(3):  # interpreted, then compiled
        x = rushlight.arange(6.0)
        x.tolist()
        part = x[2:5]
        y = part * 2
        bad = rushlight.zeros(3)[rushlight.tensor([5])]
        with pytest.raises(IndexError, match="index 5 is out of bounds"):
            part.add_(bad.sum())
            part.tolist()
        assert y.tolist() == [4, 6, 8]
        assert x.tolist() == [0, 1, 2, 3, 4, 5] and x[2:5].tolist() == [2, 3, 4]
