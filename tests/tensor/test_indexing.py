"""Indexing of all kinds, and numbers that integer tensors are given, against PyTorch."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight
from rushlight.record.settings import settings as limits

oracle = pytest.importorskip("torch")


#: What both packages say of a list of lists, and of bytes, as an index.
DEPRECATED = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence", "ignore:indexing with dtype torch.uint8")


def outcome(package, code, **names):
    """What a program leaves in ``x`` and ``out``, or the built-in class of its error."""
    scope = {"torch": package, "np": np, **names}
    try:
        exec(code, scope)
        return [(tuple(scope[n].shape), str(scope[n].dtype)[-8:], scope[n].tolist()) for n in ("x", "out") if n in scope]
    except Exception as error:
        return next(c for c in type(error).__mro__ if c.__module__ == "builtins")


def same(code):
    ours, theirs = outcome(rushlight, code), outcome(oracle, code)
    assert ours == theirs, code


KEYS = ["[[0], [1]]", "[[0, 1]]", "[[True, False], [False, True]]", "[[[0, 1]]]", "[[]]", "[]", "()", "[None]", "[slice(1)]",
        "[[0, 1], slice(1)]", "[torch.tensor(0), torch.tensor(1)]", "[torch.tensor([0]), torch.tensor([1])]", "[np.array([0, 1])]",
        "[(0, 1)]", "[[0]] * 33",
        "range(2)", "(slice(None), range(2))", "torch.Size([0])", "np.array([[0, 1], [1, 0]])", "np.int64(1)", "np.array(1)",
        "1.0", "np.float64(1)", "1j", "'a'", "b'a'", "object()", "{0}", "{0: 1}", "(0, 'a')", "iter([0])", "[1.0]",
        "torch.tensor(1, dtype=torch.uint8)", "([[True, False], [False, True]],)",
        "(..., torch.tensor(0), None)", "(False, 0)", "torch.tensor([True, False])", "torch.tensor([True])", "torch.tensor([0.0])"]


@pytest.mark.parametrize("key", ["(..., [0, 1])", "(slice(None), slice(None), [5])", "(slice(None), [0])", "(0, slice(None), [3])"])
def test_positions_in_what_has_no_elements(key):
    """Nothing is read, so none is out of range, but for those along a dimension of length 0."""
    same(f"x = torch.arange(0.).reshape(2, 0, 1)\nout = x[{key}]")


@DEPRECATED
@pytest.mark.parametrize("key", KEYS)
def test_what_an_index_may_be(key):
    same(f"x = torch.arange(8.).reshape(2, 2, 2)\nout = x[{key}]")
    same(f"x = torch.arange(8.).reshape(2, 2, 2)\nx[{key}] = -1")


@DEPRECATED
def test_bytes_are_a_mask():
    same("x = torch.arange(8.).reshape(2, 2, 2)\nout = x[torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)]")


def test_deprecated_indices_warn():
    x = rushlight.zeros(2, 2)
    with pytest.warns(UserWarning, match="non-tuple sequence"):
        assert x[[[0], [1]]].shape == (1,)
    with pytest.warns(UserWarning, match="indexing with dtype torch.uint8"):
        assert x[rushlight.tensor([0, 1], dtype=rushlight.uint8)].shape == (1, 2)


@pytest.mark.parametrize("key", ["torch.tensor([0, 1])", "torch.tensor([True, True, False])", "slice(0, 2)", "torch.tensor(1)",
                                 "(..., 0)"])
@pytest.mark.parametrize("value", ["torch.tensor(1)", "torch.tensor([1, 1])", "torch.tensor(1.0, dtype=torch.float64)",
                                   "torch.tensor(True)", "1", "True", "1j", "np.float64(3)", "'a'", "None", "object()"])
def test_what_may_be_assigned(key, value):
    same(f"x = torch.zeros(3)\nx[{key}] = {value}")


@pytest.mark.parametrize("write", ["x[-2::3] = -7", "x[1] += 1", "x[-1, :1].mul_(2)", "x[[0, 1]] = 3", "x[:, None].fill_(1)"])
def test_writes_where_there_is_no_element(write):
    same(f"x = torch.zeros(3, 3, 0)\n{write}")


NUMBERS = (-2, 300, -129, 255, -255, 2**31)
GIVEN = ["x + v", "x - v", "v - x", "x * v", "x == v", "x < v", "x & v", "torch.full((2,), v, dtype=x.dtype)", "torch.full_like(x, v)",
         "x.clone().fill_(v)", "x.masked_fill(x > 0, v)", "x.clamp(max=v)", "x.clamp(min=v)", "x.index_fill(0, torch.tensor([0]), v)",
         "x.scatter(0, torch.tensor([0]), v)", "x.__setitem__(0, v) or x", "torch.tensor([v, 0], dtype=x.dtype)",
         "torch.tensor(v, dtype=x.dtype)"]


@pytest.mark.parametrize(("dtype", "compiled"), [("uint8", False), ("uint8", True), ("int8", False), ("int32", False)])
@pytest.mark.parametrize("expression", GIVEN)
def test_numbers_outside_of_an_integer_dtype(expression, dtype, compiled, monkeypatch):
    """Arithmetic wraps around; what stores the number as it is raises, unless it is a negative one for an unsigned dtype."""
    if compiled:
        monkeypatch.setattr(limits, "cold_limit", 0)
    for v in NUMBERS:
        same(f"v = {v}\nx = torch.arange(3).to(torch.{dtype})\nout = {expression}")


@pytest.mark.parametrize("number", ["255.5", "-1.5", "float('nan')", "1e10"])
def test_floats_outside_of_an_integer_dtype(number):
    same(f"out = torch.tensor([{number}], dtype=torch.uint8)")
    same(f"x = torch.zeros(2, dtype=torch.uint8)\nx.fill_({number})")


@pytest.mark.parametrize("call", ["torch.full((2,), 'a')", "torch.zeros(2).fill_('a')", "torch.full((2,), None)",
                                  "torch.zeros(2).masked_fill(torch.ones(2).bool(), 'a')"])
def test_what_is_no_number(call):
    same(f"out = {call}")


@st.composite
def programs(draw):
    """A read, a write or an update in place through a random index of a random tensor."""
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    parts, dim, ellipsis = [], 0, False
    kinds = st.sampled_from(["number", "slice", "list", "tensor", "mask", "None", "..."])
    for kind in draw(st.lists(kinds, min_size=1, max_size=len(shape) + 1)):
        n = shape[min(dim, len(shape) - 1)]
        if kind == "None" or kind == "..." and ellipsis:
            parts.append("None")
            continue
        if kind == "...":
            parts.append("...")
            ellipsis = True
            continue
        if kind == "number":
            parts.append(str(draw(st.integers(-n - 1, n))))
        elif kind == "slice":
            a, b = (draw(st.one_of(st.just(""), st.integers(-n - 1, n + 1))) for _ in range(2))
            parts.append(f"{a}:{b}:{draw(st.integers(1, 3))}")
        elif kind == "mask":
            parts.append(f"torch.tensor({draw(st.lists(st.booleans(), min_size=n, max_size=n))}, dtype=torch.bool)")
        else:
            positions = draw(st.lists(st.integers(-n, max(n - 1, 0)), min_size=2, max_size=2))
            parts.append(str(positions) if kind == "list" else f"torch.tensor({positions})")
        dim += 1
    key = ", ".join(parts)
    made = draw(st.sampled_from(["", ".flip(0)", ".transpose(0, -1)"]))
    start = f"x = torch.arange({int(np.prod(shape))}.).reshape({shape}){made}\n"
    return start + draw(st.sampled_from([f"out = x[{key}]", f"x[{key}] = -7", f"x[{key}] = x[{key}] * 0 - 1"]))


@settings(max_examples=150, deadline=None)
@given(programs())
def test_random_indices(code):
    same(code)


@pytest.mark.parametrize("name", ["index_add", "index_copy"])
@pytest.mark.parametrize("shape, given, index, dim", [
    ((1,), (8,), [0], 0), ((2, 1), (2,), [0, 1], 0), ((2, 4), (8,), [0, 1], 0), ((), (1,), [0, 0], 0), ((2, 1), (), [0], 0),
    ((2,), (1,), [[0]], 0), ((), (), [0, 0], 0)])
def test_what_does_not_fit_is_refused_before_anything_is_recorded(name, shape, given, index, dim):
    """What was recorded and cannot run would take everything along that is pending."""
    for package in (oracle, rushlight):
        x, source, i = package.ones(shape), package.ones(given), package.tensor(index)
        pending = x + 1
        with pytest.raises((RuntimeError, IndexError)):
            getattr(x, name)(dim, i, source)
        assert pending.sum().item() == 2 * x.numel()


@pytest.mark.parametrize("name", ["index_add", "index_copy"])
def test_sources_of_another_dtype_are_refused(name):
    for package in (oracle, rushlight):
        for x in (package.ones(3, dtype=package.int64), package.ones((), dtype=package.int64)):
            with pytest.raises(RuntimeError, match="same (scalar type|dtype)"):
                getattr(x, name)(-1, package.tensor([0]), package.ones(1))


@pytest.mark.parametrize("made", ["", " * 1", ".transpose(0, 1)"])
@pytest.mark.parametrize("line", ["x[:] = x[0]", "x[...] = x[1, 2]", "x[0] = x[0, 1]", "x[0] = x[0, :1]", "x[:] = x[:1]",
                                  "x[0, :2] = x[0, 1]", "x[0] = x[0]", "x[1:] = x[:1]"])
def test_parts_are_spread_over_what_they_lie_in(line, made):
    same(f"x = torch.arange(27.).reshape(3, 3, 3){made}\n{line}")
