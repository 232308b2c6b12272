"""Public functions, compiled and interpreted: the reference interpreter is the oracle of the compiler.

Every case draws an operation, shapes (none, empty and odd ones among them), layouts (transposed, stepped, expanded
inputs), dtypes and values (NaN, infinities, extremes), runs it both ways, and compares: integers exactly, floats closely,
errors by their class. The operations are data: add a row.
"""
from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings as recorder


def examples(n: int) -> settings:
    return settings(max_examples=n, deadline=None, database=None, suppress_health_check=list(HealthCheck))


INTS = ("uint8", "int8", "int16", "int32", "int64")
HALVES = ("float16", "bfloat16")
FLOATS = (*HALVES, "float32", "float64")
NUMBERS = (*INTS, *FLOATS)
EVERY = ("bool", *NUMBERS)
TOLERANCE = {"float64": 1e-10, "float32": 3e-5, "float16": 6e-3, "bfloat16": 4e-2}


# -- inputs ------------------------------------------------------------------------------------------------------------
def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, kind: str) -> np.ndarray:
    """``kind``: plain (near one), wild (with NaN, infinities, extremes), small (integers near zero)."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in INTS:
        info = np.iinfo(dtype)
        if kind == "wild":
            return rng.choice(np.array([info.min, info.max, 0, 1, info.max // 2, 3, 7]), shape).astype(dtype)
        return rng.integers(max(info.min, -5), 6, shape).astype(dtype)
    x = np.asarray(rng.normal(size=shape))
    if kind == "wild":
        odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30, 0.5, -1.5, 2.5, 1.0])
        x = np.where(rng.random(shape) < 0.5, rng.choice(odd, shape), x * 10)
    elif kind == "small":
        x = np.round(x * 2)
    return x


def tensor(x: np.ndarray, dtype: str) -> Any:
    with np.errstate(all="ignore"):
        kind = {"float16": np.float16, "float64": np.float64}.get(dtype, np.float32 if dtype in FLOATS else dtype)
        t = torch.tensor(np.asarray(x).astype(kind))
    return t.to(getattr(torch, dtype))


class Input:
    """A drawn input: an array and how it lies in memory."""

    def __init__(self, x: np.ndarray, dtype: str, layout: str) -> None:
        self.x, self.dtype, self.layout = x, dtype, layout

    def make(self) -> Any:
        x, d = self.x, self.dtype
        if self.layout == "transposed" and x.ndim >= 2:
            return tensor(x.swapaxes(-1, -2), d).transpose(-1, -2)
        if self.layout == "stepped" and x.ndim:
            wide = np.repeat(x, 2, axis=-1)
            wide[..., 1::2] = 1
            return tensor(wide, d)[..., ::2]
        if self.layout == "offset" and x.ndim:
            return tensor(np.concatenate([x[:1], x]) if len(x) else x, d)[1 if len(x) else 0:]
        if self.layout == "expanded" and x.ndim and x.shape[0]:
            return tensor(x[:1], d).expand(x.shape)
        return tensor(x, d)

    def __repr__(self) -> str:
        return f"{self.layout} {self.dtype}{list(self.x.shape)}"


LAYOUTS = st.sampled_from(["plain", "plain", "transposed", "stepped", "offset", "expanded"])
EXTENTS = st.sampled_from([0, 1, 1, 2, 3, 3, 5, 8, 16, 17, 33])
SHAPES = st.lists(EXTENTS, min_size=0, max_size=4).map(tuple).filter(lambda s: np.prod(s, dtype=int) < 20_000)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def inputs(draw: Any, shape: tuple[int, ...], dtype: str, kind: str = "plain") -> Input:
    return Input(values(np.random.default_rng(draw(SEEDS)), shape, dtype, kind), dtype, draw(LAYOUTS))


def broadcast_pair(draw: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts with ``shape``."""
    other = tuple(1 if draw(st.integers(0, 3)) == 0 else n for n in shape)
    return other[draw(st.integers(0, len(other))):] if draw(st.booleans()) else other


# -- running both ways ---------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def tier(compiled: bool) -> Iterator[None]:
    before = recorder.eager, recorder.cold_limit
    start_afresh()
    recorder.eager, recorder.cold_limit = not compiled, 0
    try:
        yield
    finally:
        recorder.eager, recorder.cold_limit = before
        start_afresh()


def outcome(function: Callable[..., Any], given_: list[Input], compiled: bool) -> Any:
    """The results as arrays, or the class of the error. Inputs are made first: only the function itself is pending."""
    made = [x.make() for x in given_]
    for t in made:
        t.tolist()
    with tier(compiled):
        try:
            out = function(*made)
            out = list(out) if isinstance(out, (tuple, list)) else [out]
            return [t.detach().numpy() if t.dtype is not torch.bfloat16 else t.detach().to(torch.float32).numpy()
                    for t in out], [t.dtype for t in out]
        except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
            return type(error), str(error)


def check(name: str, function: Callable[..., Any], given_: list[Input], slack: float = 1.0) -> None:
    want = outcome(function, given_, False)
    got = outcome(function, given_, True)
    label = f"{name} of {given_}"
    if isinstance(want[0], type) or isinstance(got[0], type):
        assert got[0] is want[0], f"{label}: compiled {got}, interpreted {want}"
        return
    assert got[1] == want[1], label
    for k, (a, b, dtype) in enumerate(zip(got[0], want[0], want[1])):
        assert a.shape == b.shape, label
        if a.dtype.kind not in "fc":
            np.testing.assert_array_equal(a, b, err_msg=f"result {k} of {label}")
            continue
        finite = b[np.isfinite(b)]
        scale = max(float(np.abs(finite).max(initial=0.0)), 1.0) if slack > 1 else 1.0
        tolerance = TOLERANCE.get(str(dtype).removeprefix("torch."), 3e-5)
        # A result that is out of the range of its type is infinite, or the last number before that.
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(a, b, rtol=tolerance * slack, atol=tolerance * min(scale, 1e30), equal_nan=True,
                                       err_msg=f"result {k} of {label}")


# -- pointwise -----------------------------------------------------------------------------------------------------------
UNARY_ANY = ["abs", "neg", "sign", "square", "isnan", "isinf", "isfinite", "signbit", "logical_not", "exp", "log", "sqrt", "sin",
             "tanh", "sigmoid", "reciprocal", "positive", "isposinf"]
UNARY_FLOAT = ["exp2", "expm1", "log2", "log10", "log1p", "rsqrt", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh",
               "acosh", "atanh", "erf", "erfc", "floor", "ceil", "round", "trunc", "frac", "nan_to_num", "deg2rad", "sinc",
               "lgamma", "digamma", "erfinv", "logit"]
ACTIVATIONS = ["relu", "gelu", "silu", "softplus", "logsigmoid", "relu6", "hardtanh", "hardswish", "hardsigmoid", "elu", "selu",
               "celu", "mish", "softsign", "leaky_relu", "tanhshrink", "softshrink", "hardshrink"]
UNARY_INT = ["bitwise_not"]
UNARY = ([(n, getattr(torch, n), EVERY) for n in UNARY_ANY if n not in ("neg", "sign", "positive", "square", "abs")]
         + [(n, getattr(torch, n), NUMBERS) for n in ("neg", "sign", "positive", "square", "abs")]
         + [(n, getattr(torch, n), FLOATS) for n in UNARY_FLOAT] + [(n, getattr(F, n), FLOATS) for n in ACTIVATIONS]
         + [(n, getattr(torch, n), ("bool", *INTS)) for n in UNARY_INT])
BINARY_ANY = ["add", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
              "logical_xor", "true_divide"]
BINARY_NUMBER = ["sub", "floor_divide", "remainder", "fmod", "pow", "atan2", "fmax", "fmin"]
BINARY_FLOAT = ["hypot", "copysign", "logaddexp", "xlogy", "heaviside"]
BINARY_INT = ["bitwise_and", "bitwise_or", "bitwise_xor"]
BINARY = ([(n, getattr(torch, n), EVERY) for n in BINARY_ANY] + [(n, getattr(torch, n), NUMBERS) for n in BINARY_NUMBER]
          + [(n, getattr(torch, n), FLOATS) for n in BINARY_FLOAT] + [(n, getattr(torch, n), ("bool", *INTS)) for n in BINARY_INT]
          + [(n, getattr(torch, n), INTS) for n in ("bitwise_left_shift", "bitwise_right_shift")])


@pytest.mark.parametrize("name, function, dtypes", UNARY, ids=[u[0] for u in UNARY])
def test_unary(name, function, dtypes):
    @examples(3)
    @given(st.data())
    def run(data):
        dtype, shape = data.draw(st.sampled_from(dtypes)), data.draw(SHAPES)
        check(name, function, [data.draw(inputs(shape, dtype, data.draw(st.sampled_from(["plain", "wild"]))))])
    run()


@pytest.mark.parametrize("name, function, dtypes", BINARY, ids=[b[0] for b in BINARY])
def test_binary(name, function, dtypes):
    @examples(4)
    @given(st.data())
    def run(data):
        first, second = data.draw(st.sampled_from(dtypes)), data.draw(st.sampled_from(dtypes))
        shape = data.draw(SHAPES)
        kind = data.draw(st.sampled_from(["plain", "wild", "small"]))
        other = broadcast_pair(data.draw, shape)
        check(name, function, [data.draw(inputs(shape, first, kind)), data.draw(inputs(other, second, kind))])
    run()


@examples(60)
@given(st.data())
def test_casts(data):
    a, b = data.draw(st.sampled_from(EVERY)), data.draw(st.sampled_from(EVERY))
    check(f"to {b}", lambda x: x.to(getattr(torch, b)),
          [data.draw(inputs(data.draw(SHAPES), a, data.draw(st.sampled_from(["plain", "wild"]))))])


@examples(40)
@given(st.data())
def test_ternary(data):
    shape, dtype = data.draw(SHAPES), data.draw(st.sampled_from(FLOATS))
    x, y, z = (data.draw(inputs(s, dtype, "plain")) for s in (shape, broadcast_pair(data.draw, shape), broadcast_pair(data.draw, shape)))
    mask = data.draw(inputs(shape, "bool"))
    name, function, args = data.draw(st.sampled_from([
        ("where", torch.where, [mask, x, y]), ("lerp", torch.lerp, [x, y, z]), ("addcmul", torch.addcmul, [x, y, z]),
        ("clamp", torch.clamp, [x, y, z]), ("addcdiv", lambda a, b, c: torch.addcdiv(a, b, c, value=0.5), [x, y, z]),
        ("masked_fill", lambda a, m: a.masked_fill(m, 2.5), [x, mask])]))
    check(name, function, args)


# -- reductions and scans ------------------------------------------------------------------------------------------------
REDUCE = {
    "sum": EVERY, "mean": FLOATS, "prod": EVERY, "amax": EVERY, "amin": EVERY, "any": EVERY, "all": EVERY, "var": FLOATS, "std": FLOATS,
    "logsumexp": FLOATS, "norm": FLOATS, "count_nonzero": EVERY, "nansum": FLOATS}
REDUCE_ONE = {"argmax": NUMBERS, "argmin": NUMBERS, "max": EVERY, "min": EVERY, "cumsum": EVERY, "cumprod": EVERY, "cummax": NUMBERS,
              "softmax": FLOATS, "log_softmax": FLOATS, "flip": EVERY, "sort": NUMBERS, "median": NUMBERS, "logcumsumexp": FLOATS}


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")  # as PyTorch has it, of one element
@pytest.mark.parametrize("name", [*REDUCE, *REDUCE_ONE])
def test_reductions(name):
    function = getattr(torch, name)

    @examples(6)
    @given(st.data())
    def run(data):
        dtype = data.draw(st.sampled_from(REDUCE.get(name) or REDUCE_ONE[name]))
        shape = data.draw(SHAPES)
        kinds = ["plain", "small", "wild" if name in ("amax", "any", "max") else "plain"]
        x = data.draw(inputs(shape, dtype, data.draw(st.sampled_from(kinds))))
        if name in REDUCE and shape and data.draw(st.booleans()):
            axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
            check(f"{name} over {axes}", lambda t: function(t, dim=axes) if name not in ("prod",) else function(t, dim=axes[0]), [x], 8)
        elif name in REDUCE and name != "logsumexp":
            check(name, function, [x], 8)
        elif shape:
            axis = data.draw(st.integers(-len(shape), len(shape) - 1))
            check(f"{name} along {axis}", lambda t: function(t, dim=axis) if name != "flip" else function(t, [axis]), [x], 8)
    run()


# -- views and moving things -----------------------------------------------------------------------------------------------
def view_steps(draw: Any, shape: tuple[int, ...]) -> tuple[str, Callable[[Any], Any]]:
    rank = len(shape)
    axis = draw(st.integers(0, rank - 1)) if rank else 0
    other = draw(st.integers(0, rank - 1)) if rank else 0
    n = shape[axis] if rank else 1
    start = draw(st.integers(0, n))
    step = draw(st.integers(1, 3))
    order = draw(st.permutations(range(rank)))
    table: dict[str, Callable[[Any], Any]] = {
        "permute": lambda t: t.permute(order), "unsqueeze": lambda t: t.unsqueeze(axis), "reshape": lambda t: t.reshape(-1),
        "cat": lambda t: torch.cat([t.unsqueeze(0), t.unsqueeze(0) + 1]), "stack": lambda t: torch.stack([t, t], axis),
        "expand": lambda t: t.unsqueeze(0).expand(3, *t.shape), "clone": lambda t: t.clone()}
    if rank:
        table |= {
            "slice": lambda t: t[(slice(None),) * axis + (slice(start, None, step),)], "flip": lambda t: t.flip(axis),
            "roll": lambda t: t.roll(start, axis), "narrow": lambda t: t.narrow(axis, start, n - start),
            "repeat": lambda t: t.repeat(*[2 if a == axis else 1 for a in range(rank)]), "split": lambda t: t.split(2, axis)[-1],
            "pad": lambda t: F.pad(t, (1, 2)), "movedim": lambda t: t.movedim(axis, other), "sum": lambda t: t.sum(axis).to(t.dtype)}
        if n:
            table |= {"select": lambda t: t.select(axis, start % n), "unfold": lambda t: t.unfold(axis, 1 + start % n, step),
                      "amax": lambda t: t.amax(axis)}
    if rank >= 2:
        table |= {"diagonal": lambda t: t.diagonal(start - 1, 0, 1), "triu": lambda t: t.triu(step - 1), "tril": lambda t: t.tril(-step),
                  "flatten": lambda t: t.flatten(0, 1), "matrix": lambda t: t.matmul(t.transpose(-1, -2))}
    table |= {"add": lambda t: t + t, "double": lambda t: t * 2, "max": lambda t: torch.maximum(t, t.flip(0) if t.ndim else t)}
    name = draw(st.sampled_from(sorted(table)))
    return name, table[name]


@examples(130)
@given(st.data())
def test_chains_of_views_and_arithmetic(data):
    """Several operations in one program: views fold into loads, reductions fuse with what is around them."""
    dtype = data.draw(st.sampled_from(["int64", "float32", "float64", "uint8", "int32"]))
    x = data.draw(inputs(data.draw(SHAPES), dtype, "small"))
    shape, chain = x.x.shape, []
    for _ in range(data.draw(st.integers(1, 5))):
        name, step = view_steps(data.draw, shape)
        try:
            shape = tuple(step(torch.zeros(shape, dtype=getattr(torch, dtype))).shape)
        except (RuntimeError, IndexError, ValueError):
            continue  # does not fit this shape
        if np.prod(shape, dtype=int) > 50_000:
            break
        chain.append((name, step))

    def run(t):
        for _, step in chain:
            t = step(t)
        return t
    check(" > ".join(n for n, _ in chain), run, [x], 10)


# -- indexing ----------------------------------------------------------------------------------------------------------------
@examples(90)
@given(st.data())
def test_indexing(data):
    shape = data.draw(SHAPES.filter(lambda s: len(s) > 0))
    axis = data.draw(st.integers(0, len(shape) - 1))
    dtype = data.draw(st.sampled_from(EVERY))
    x = data.draw(inputs(shape, dtype, "small"))
    rng = np.random.default_rng(data.draw(SEEDS))
    n, over = shape[axis], data.draw(st.sampled_from([0, 0, 0, 0, 1]))  # over: an index may be out of range
    count = data.draw(EXTENTS) if n or over else 0
    line = Input(rng.integers(0, n + over, count) if n + over else np.zeros(0, np.int64), "int64", data.draw(LAYOUTS))
    full = Input(rng.integers(0, max(n, 1), [count if a == axis else s for a, s in enumerate(shape)]) if n
                 else np.zeros([0 if a == axis else s for a, s in enumerate(shape)], np.int64), "int64", data.draw(LAYOUTS))
    src = data.draw(inputs(full.x.shape, dtype, "small"))
    slab = data.draw(inputs(tuple(len(line.x) if a == axis else s for a, s in enumerate(shape)), dtype, "small"))
    before = (slice(None),) * axis
    mask = Input(rng.random(shape) < 0.4, "bool", data.draw(LAYOUTS))

    def put(t, i, v):
        t = t.clone()
        t[before + (i,)] = v
        return t

    def write(t, m):
        t = t.clone()
        t[m] = 1
        return t

    name, function, args = data.draw(st.sampled_from([
        ("index", lambda t, i: t[before + (i,)], [x, line]), ("index_select", lambda t, i: t.index_select(axis, i), [x, line]),
        ("gather", lambda t, i: t.gather(axis, i), [x, full]), ("scatter", lambda t, i: t.scatter(axis, i, 1), [x, full]),
        ("scatter_add", lambda t, i, s: t.scatter_add(axis, i, s), [x, full, src]),
        ("index_add", lambda t, i, s: t.index_add(axis, i, s), [x, line, slab]),
        ("index_put", put, [x, line, data.draw(inputs((), dtype, "small"))]),
        ("index_put accumulate", lambda t, i, s: t.index_put((i,), s, True), [x, line, slab] if axis == 0 else
         [slab, Input(np.arange(len(slab.x)), "int64", "plain"), slab]),
        ("index_fill", lambda t, i: t.index_fill(axis, i, 1), [x, line]),
        ("take", lambda t, i: t.take(i), [x, line]), ("mask", lambda t, m: t[m], [x, mask]), ("mask write", write, [x, mask]),
        ("masked_select", torch.masked_select, [x, mask]), ("nonzero", torch.nonzero, [x]),
        ("negative index", lambda t, i: t[before + (i - n,)] if n else t[before + (i,)], [x, line])]))
    check(f"{name} along {axis}", function, args)


# -- contractions --------------------------------------------------------------------------------------------------------------
@examples(60)
@given(st.data())
def test_products(data):
    dtype = data.draw(st.sampled_from(["float32", "float32", "float64", "float16", "bfloat16", "int32", "int64"]))
    m, n, k, b = (data.draw(EXTENTS) for _ in range(4))

    def draw(*shape):
        return data.draw(inputs(shape, dtype))
    name, function, args = data.draw(st.sampled_from([
        ("mm", lambda: (torch.mm, [draw(m, k), draw(k, n)])), ("bmm", lambda: (torch.bmm, [draw(b, m, k), draw(b, k, n)])),
        ("matmul", lambda: (torch.matmul, [draw(b, 1, m, k), draw(3, k, n)])), ("mv", lambda: (torch.mv, [draw(m, k), draw(k)])),
        ("dot", lambda: (torch.dot, [draw(k), draw(k)])), ("outer", lambda: (torch.outer, [draw(m), draw(n)])),
        ("linear", lambda: (F.linear, [draw(b, m, k), draw(n, k), draw(n)])),
        ("addmm", lambda: (lambda c, x, y: torch.addmm(c, x, y, beta=2, alpha=3), [draw(n), draw(m, k), draw(k, n)])),
        ("einsum", lambda: (lambda x, y: torch.einsum("bik,jkb->ijb", x, y), [draw(b, m, k), draw(n, k, b)])),
    ]).map(lambda row: (row[0], *row[1]())))
    check(name, function, args, 10)


# -- layers, with their gradients ------------------------------------------------------------------------------------------------
def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """The result, and the gradients of a fixed weighting of it."""
    def run(*args: Any) -> list[Any]:
        leaves = [t.detach().clone().requires_grad_() if t.dtype.is_floating_point else t for t in args]
        out = function(*leaves)
        weight = (torch.arange(out.numel(), dtype=torch.float64) % 7 - 3).to(out.dtype).reshape(out.shape)
        (out * weight).sum().backward()
        return [out, *(t.grad for t in leaves if t.requires_grad and t.grad is not None)]
    return run


def spatial(draw: Any, rank: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(5, 10)) for _ in range(rank))


def layer_cases(draw: Any) -> tuple[str, Callable[..., Any], list[Input]]:
    dtype = draw(st.sampled_from(["float32", "float32", "float64"]))
    rank = draw(st.integers(1, 3))
    batch, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    ci, co = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    stride, padding, dilation = draw(st.integers(1, 2)), draw(st.integers(0, 2)), draw(st.integers(1, 2))
    size = spatial(draw, rank)

    def new(*shape: int, kind: str = "plain") -> Input:
        return draw(inputs(shape, dtype, kind))

    def classes(n: int, *shape: int) -> Input:
        return Input(np.random.default_rng(draw(SEEDS)).integers(0, n, shape), "int64", "plain")
    rows, width = draw(EXTENTS.filter(bool)), draw(EXTENTS.filter(bool))
    image = (batch, ci, *size)
    pool = {1: (F.max_pool1d, F.avg_pool1d), 2: (F.max_pool2d, F.avg_pool2d), 3: (F.max_pool3d, F.avg_pool3d)}[rank]
    conv = getattr(F, f"conv{rank}d")
    transposed = getattr(F, f"conv_transpose{rank}d")
    adaptive = getattr(F, f"adaptive_avg_pool{rank}d")
    table: dict[str, Callable[[], tuple[Callable[..., Any], list[Input]]]] = {
        "conv": lambda: (lambda x, w, b: conv(x, w, b, stride, padding, dilation, groups),
                         [new(*image), new(co, ci // groups, *kernel), new(co)]),
        "conv_transpose": lambda: (lambda x, w, b: transposed(x, w, b, stride, min(padding, min(kernel) - 1), 0, groups, dilation),
                                   [new(*image), new(ci, co // groups, *kernel), new(co)]),
        "max_pool": lambda: (lambda x: pool[0](x, kernel, stride, min(padding, min(kernel) // 2)), [new(*image)]),
        "avg_pool": lambda: (lambda x: pool[1](x, kernel, stride, min(padding, min(kernel) // 2)), [new(*image)]),
        "adaptive_avg_pool": lambda: (lambda x: adaptive(x, draw_sizes), [new(*image)]),
        "batch_norm": lambda: (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), [new(batch + 1, *image[1:]), new(ci), new(ci)]),
        "group_norm": lambda: (lambda x, w, b: F.group_norm(x, groups, w, b), [new(*image), new(ci), new(ci)]),
        "layer_norm": lambda: (lambda x, w, b: F.layer_norm(x, (width,), w, b), [new(batch, rows, width), new(width), new(width)]),
        "softmax": lambda: (lambda x: F.softmax(x, rank - 1), [new(*image)]),
        "log_softmax": lambda: (lambda x: F.log_softmax(x, -1), [new(*image)]),
        "gelu": lambda: (F.gelu, [new(*image)]),
        "cross_entropy": lambda: (F.cross_entropy, [new(rows, width), classes(width, rows)]),
        "cross_entropy weighted": lambda: (lambda x, y, w: F.cross_entropy(x, y, w.abs() + 1, label_smoothing=0.1),
                                           [new(rows, width), classes(width, rows), new(width)]),
        "nll_loss": lambda: (F.nll_loss, [new(rows, width), classes(width, rows)]),
        "embedding": lambda: (lambda w, i: F.embedding(i, w), [new(rows, width), classes(rows, batch, 4)]),
        "mse_loss": lambda: (F.mse_loss, [new(*image), new(*image)]),
        "smooth_l1_loss": lambda: (F.smooth_l1_loss, [new(*image), new(*image)]),
        "bce_with_logits": lambda: (lambda x, y: F.binary_cross_entropy_with_logits(x, torch.sigmoid(y)),
                                    [new(rows, width), new(rows, width)]),
        "linear": lambda: (F.linear, [new(batch, rows, ci), new(width, ci), new(width)]),
        "matmul": lambda: (torch.matmul, [new(batch, rows, ci), new(ci, width)]),
        "attention": lambda: (F.scaled_dot_product_attention,
                              [new(batch, 2, rows, 8), new(batch, 2, width, 8), new(batch, 2, width, 8)]),
        "var": lambda: (lambda x: x.var(-1), [new(*image)]),
        "prod": lambda: (lambda x: x.prod(-1), [new(*image)]),
        "cumsum": lambda: (lambda x: x.cumsum(1), [new(*image)]),
        "index": lambda: (lambda x, i: x[:, i], [new(batch, rows, width), classes(rows, 7)]),
        "sort": lambda: (lambda x: x.sort(-1)[0], [new(*image)]),
        "amax": lambda: (lambda x: x.amax((0, -1)), [new(*image, kind="small")]),
        "norm": lambda: (lambda x: x.norm(dim=-1), [new(*image)]),
    }
    draw_sizes = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    name = draw(st.sampled_from(sorted(table)))
    function, args = table[name]()
    return f"{name} rank {rank} kernel {kernel} stride {stride} padding {padding} dilation {dilation} groups {groups}", function, args


@examples(110)
@given(st.data())
def test_layers_and_their_gradients(data):
    name, function, args = layer_cases(data.draw)
    check(name, with_gradients(function), args, 20)


@pytest.fixture(scope="module", autouse=True)
def _forget_the_paths():
    yield
    start_afresh()
    gc.collect()
