"""Formulas as native vectors: accuracy over the whole range, PyTorch's rules for integers and conversions."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import itertools
import math

import numpy as np
import pytest

from rushlight.compile import dtypes as dt
from rushlight.compile.cpu import jit, registers, target, vecmath
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.values import V
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import FUNCTIONS, Expr, canonical, e, input_, inputs_of
from rushlight.compile.flags import flags
from rushlight.compile.reference.evaluate import FUNCTIONS as MEANING
from rushlight.compile.reference.evaluate import evaluate

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
FLOATS = (dt.float32, dt.float64)
INTEGERS = (dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64, dt.uint16, dt.uint32, dt.uint64)
HALVES = (dt.float16, dt.bfloat16)


def address(expr: Expr, dtypes: tuple[DType, ...], lanes: int) -> int:
    """The address of ``void k(ptr pointers, i64 n)``: pointers[0] is the result, the others the inputs."""
    return _address(canonical(expr), expr, dtypes, lanes, target.current().key)


@functools.cache  # to be cleared where processors differ in more than their key
def _address(text: str, expr: Expr, dtypes: tuple[DType, ...], lanes: int, cpu: str) -> int:
    module = Module()
    f = Function("void @k(ptr %pointers, i64 %n)", module)
    pointers = [f.load("%pointers", k, "ptr") for k in range(1 + len(dtypes))]
    with f.loop("0", "%n", max(lanes, 1)) as i:
        env = {}
        for k, d in enumerate(dtypes):
            type_ = vecmath.memory_type(d)
            vector = f"<{lanes} x {type_}>" if lanes else type_
            at = f.at(pointers[1 + k], i, type_)
            env[k] = vecmath.load_form(V(f, f.let(f"load {vector}, ptr {at}, align {d.itemsize}"), type_, lanes), d)
        value = vecmath.store_form(vecmath.emit(f, expr, env, lanes), expr.dtype)
        f.do(f"store {value!r}, ptr {f.at(pointers[0], i, vecmath.memory_type(expr.dtype))}, align {expr.dtype.itemsize}")
    module.functions.append(f.finish())
    made = module.text()
    return jit.kernel("test|" + hashlib.blake2b(made.encode()).hexdigest(), lambda: made, "k")


def run(expr: Expr, *inputs: np.ndarray, lanes: int = 16) -> np.ndarray:
    """``expr`` of 1-d inputs, computed natively."""
    dtypes = tuple(dt.from_numpy(x.dtype) for x in inputs)
    n = len(inputs[0])
    size = -(-n // max(lanes, 1)) * max(lanes, 1)
    padded = [np.resize(x, size) for x in inputs]
    out = np.empty(size, expr.dtype.numpy)
    pointers = np.array([out.ctypes.data, *(x.ctypes.data for x in padded)], np.int64)
    ENTRY(address(expr, dtypes, lanes))(pointers.ctypes.data, size)
    return out[:n]


# -- accuracy ----------------------------------------------------------------------------------------------------------
def samples(dtype: DType, n: int, seed: int) -> np.ndarray:
    """Every size of number: random bits, ordinary ranges, and the special values."""
    rng = np.random.default_rng(seed)
    bits = np.int32 if dtype is dt.float32 else np.int64
    ends = np.iinfo(bits)
    info = np.finfo(dtype.numpy)
    special = [0, -0.0, np.inf, -np.inf, np.nan, 1, -1, info.max, -info.max, info.tiny, info.smallest_subnormal, 0.5,
               -0.5, 2, 3, math.pi, 1e-5, 88.7, -87.4, 709.7, -745.0, 1e6]  # fmt: skip
    with np.errstate(all="ignore"):
        parts = [rng.integers(ends.min, ends.max, n // 2, dtype=bits).view(dtype.numpy), rng.standard_normal(n // 8) * 3,
                 rng.uniform(-1, 1, n // 8), rng.uniform(-100, 100, n // 8), 1 + rng.standard_normal(n // 8) * 0.3]
        parts = [np.where(np.isnan(p), np.nan, p).astype(dtype.numpy) for p in parts]  # no signalling NaN: they warn
        x = np.concatenate(parts)
    x[: len(special)] = np.array(special, np.float64).astype(dtype.numpy) if dtype is dt.float64 else [
        np.float32(min(max(v, -3.4e38), 3.4e38)) if np.isfinite(v) and abs(v) > 1e-300 else np.float32(v) for v in special]
    return x


NUMPY = {"asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh,
         "atanh": np.arctanh, "atan2": np.arctan2, "pow": np.power, "rsqrt": lambda x: 1 / np.sqrt(x),
         "reciprocal": lambda x: 1 / x, "log1p_exp": lambda x: np.logaddexp(x, x.dtype.type(0))}  # fmt: skip


def exact(name: str, dtype: DType, *args: np.ndarray) -> np.ndarray:
    """The function in a wider type: float64 for float32, 80-bit long double (or mpmath) for float64."""
    if name in ("erf", "erfc"):
        if dtype is dt.float32:
            from scipy import special

            return getattr(special, name)(args[0].astype(np.float64))
        return _with_mpmath(name, args[0])
    with np.errstate(all="ignore"):
        wide = [x.astype(np.float64 if dtype is dt.float32 else np.longdouble) for x in args]
        return (NUMPY.get(name) or getattr(np, name))(*wide)


def _with_mpmath(name: str, x: np.ndarray) -> np.ndarray:
    mpmath = pytest.importorskip("mpmath")
    out = np.empty(len(x), np.longdouble)
    with mpmath.workprec(120):
        for i, v in enumerate(x.tolist()):
            if v != v:
                out[i] = np.nan
                continue
            y = getattr(mpmath, name)(mpmath.mpf(max(min(v, 30.0), -30.0)))
            high = float(y)
            out[i] = np.longdouble(high) + np.longdouble(float(y - mpmath.mpf(high)))
    return np.where(x == 0, np.where(np.signbit(x), -out, out), out) if name == "erf" else out


def ulps(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of the rounded exact value; beyond the range counts as the next step."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        near = wanted.astype(got.dtype)
        unit = np.where(np.isfinite(near), np.spacing(np.abs(near)), info.max * info.eps / 2)
        edge = wanted.dtype.type(info.max) * wanted.dtype.type(1 + info.eps / 2)
        distance = np.abs(np.clip(got.astype(wanted.dtype), -edge, edge) - np.clip(wanted, -edge, edge)) / unit
    nan = np.isnan(near)
    distance = np.where(nan | np.isnan(got), np.where(nan == np.isnan(got), 0, np.inf), distance)
    return np.where((near == 0) & (wanted == 0) & (got == 0) & (np.signbit(got) != np.signbit(near)), np.inf, distance)


ONE = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "log1p_exp", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tan",
       "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc"]  # fmt: skip
TWO = ["pow", "atan2", "hypot", "fmod"]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
@pytest.mark.parametrize("name", ONE + TWO)
def test_within_two_ulp_over_the_whole_range(name: str, dtype: DType) -> None:
    n = 1 << (15 if dtype is dt.float32 else 9 if name in ("erf", "erfc") else 13)
    args = [samples(dtype, n, 0)]
    if name in TWO:
        args.append(np.random.default_rng(7).permutation(samples(dtype, n, 1)))
        few = np.array([0, -0.0, 1, -1, 2, -3, 0.5, -0.5, np.inf, -np.inf, np.nan, 3, 1e30, -1e30], dtype.numpy)
        pairs = np.array(list(itertools.product(few, few)))
        args = [np.concatenate([a, p.astype(dtype.numpy)]) for a, p in zip(args, pairs.T)]
    expr = getattr(e, name)(*(input_(k, dtype) for k in range(len(args))))
    got = run(expr, *args)
    distance = ulps(got, exact(name, dtype, *args))
    worst = int(np.argmax(distance))
    assert distance[worst] <= 2, f"{name}{tuple(a[worst] for a in args)} = {got[worst]}: {distance[worst]} ulp"
    np.testing.assert_array_equal(run(expr, *(a[:256] for a in args), lanes=0), got[:256], "scalars differ from vectors")


@pytest.mark.parametrize("level", ["avx2", "sse"])
@pytest.mark.parametrize("name", ["exp", "log", "erf", "tanh", "pow", "sin", "tan", "asin", "acos", "atan", "log10"])
def test_other_instruction_sets_are_as_accurate(name: str, level: str) -> None:
    if target.machine() != "x86_64":
        pytest.skip("levels of x86")
    args = [samples(dt.float32, 1 << 10, 3 + k) for k in range(1 + (name in TWO))]
    with target.using(level):
        got = run(getattr(e, name)(*(input_(k, dt.float32) for k in range(len(args)))), *args)
    # Without fused multiply-add the polynomials round a little more.
    assert ulps(got, exact(name, dt.float32, *args)).max() <= (2 if level == "avx2" else 3)


def test_tangents_near_quarters_of_a_turn() -> None:
    """Where next to nothing is left of the argument, every digit of it counts, and the reciprocal doubles what rounding took."""
    quarters = (np.arange(1, 5000) * (np.pi / 2)).astype(np.float32)
    bits = quarters.view(np.int32)[:, None] + np.arange(-20, 21, dtype=np.int32)
    x = np.concatenate([bits.view(np.float32).ravel(), (quarters[:, None] + np.float32([-0.0079, 0.0079, 0.7, 0.785])).ravel()])
    for level in [None, *(["avx2"] if target.machine() == "x86_64" else [])]:
        with target.using(level) if level else contextlib.nullcontext():
            distance = ulps(run(e.tan(input_(0, dt.float32)), x), exact("tan", dt.float32, x))
        assert distance.max() <= 2, x[np.argmax(distance)]


@pytest.mark.parametrize("name", ["exp", "log", "log10", "log1p", "expm1", "tanh"])
def test_polynomials_alone_are_as_accurate_as_tables(name: str) -> None:
    """Two sets of kernels, that do not take each other's place in the cache."""
    expr, x = getattr(e, name)(input_(0, dt.float32)), samples(dt.float32, 1 << 12, 5)
    both, keys = [], []
    for tables in (1, 0):
        with flags.using(tables=tables):
            both.append(run(expr, x))
            keys.append(target.current().key)
            assert registers.available() <= tables
    for got in both:
        assert ulps(got, exact(name, dt.float32, x)).max() <= 2
    assert len(set(keys)) == 2


def test_constant_powers_are_products_and_roots() -> None:
    x = np.linspace(-3, 3, 48, dtype=np.float32)
    for p in (2, 3, 4, -1, -2, 0.5, -0.5, 0, 1, 2.5):
        expr = e.pow(input_(0, dt.float32), p)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(run(expr, x), np.power(x.astype(np.float64), p), rtol=3e-7)
    i = np.arange(-8, 8, dtype=np.int32)
    np.testing.assert_array_equal(run(e.pow(input_(0, dt.int32), 5), i), i**5)


# -- every function against the reference ------------------------------------------------------------------------------
def values(dtype: DType, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(0, 2, n).astype(bool)
    if dtype.kind == "f":
        x = rng.standard_normal(n) * 4
        x[rng.integers(0, n, n // 4)] = rng.integers(-3, 4, n // 4)
        return x.astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    small = rng.integers(max(info.min, -9), 10, n)
    wide = rng.integers(info.min, info.max, n, dtype=dtype.numpy, endpoint=True)
    return np.where(rng.random(n) < 0.5, small.astype(dtype.numpy), wide)


EXACT = ["add", "sub", "mul", "neg", "abs", "min", "max", "lt", "le", "gt", "ge", "eq", "ne", "where", "mod", "fmod",
         "floordiv", "truncdiv", "sign", "floor", "ceil", "round", "trunc", "copysign", "div", "isnan", "isinf"]  # fmt: skip
BITS = ["and", "or", "xor", "not", "shl", "shr", "pow"]


def arguments(name: str, dtype: DType) -> list[np.ndarray]:
    arity, result = FUNCTIONS[name]
    args = [values(dtype, 160, 10 + k) for k in range(arity)]
    if result == "cond":
        args[0] = values(dt.bool_, 160, 5)
    if name in ("floordiv", "truncdiv", "mod", "fmod") and dtype.kind in "iu":
        args[1] = np.where(args[1] == 0, 3, args[1]).astype(dtype.numpy)
    if name in ("shl", "shr"):
        args[1] = np.random.default_rng(3).integers(0, 8 * dtype.itemsize + 3, 160).astype(dtype.numpy)
    return args


CASES = [(n, d) for n in EXACT for d in (*FLOATS, *HALVES, *INTEGERS)
         if not (d.kind in "iu" and (FUNCTIONS[n][1] == "float"))] + [(n, d) for n in BITS for d in INTEGERS]  # fmt: skip
CASES += [(n, dt.bool_) for n in ("and", "or", "xor", "not", "eq", "ne", "lt", "where", "add", "mul", "min", "max")]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda v: getattr(v, "name", v))
def test_exact_functions_agree_with_the_reference(name: str, dtype: DType) -> None:
    args = arguments(name, dtype)
    dtypes = [dt.from_numpy(a.dtype) for a in args]
    expr = getattr(e, name)(*(input_(k, d) for k, d in enumerate(dtypes)))
    wanted = evaluate(expr, args, (160,))
    for lanes in (16, 0):
        got = run(expr, *args, lanes=lanes)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got.astype(np.float64) if dtype.kind == "f" else got,
                                      wanted.astype(np.float64) if dtype.kind == "f" else wanted)


def test_sums_and_signs_of_special_numbers() -> None:
    x = np.array([np.nan, 1, np.nan, -0.0, np.inf, -np.inf], np.float32)
    y = np.array([1, np.nan, np.nan, 0.0, 1, 1], np.float32)
    a, b = input_(0, dt.float32), input_(1, dt.float32)
    for name in ("min", "max"):
        np.testing.assert_array_equal(run(getattr(e, name)(a, b), x, y), getattr(np, name + "imum")(x, y))
    np.testing.assert_array_equal(run(e.max(a, 0), x), np.maximum(x, 0))
    np.testing.assert_array_equal(run(e.min(const_first(0), a), x), np.minimum(0, x))
    np.testing.assert_array_equal(run(e.sign(a), x), [0, 1, 0, 0, 1, -1])  # of NaN: 0, as PyTorch has it
    np.testing.assert_array_equal(run(e.mod(a, b), np.float32([-5.5, 5.5, 5]), np.float32([2, -2, np.inf])),
                                  np.float32([0.5, -0.5, 5]))


def const_first(value: float) -> Expr:
    return e.const(value, dt.float32)


@pytest.mark.parametrize("dtype", [d for d in INTEGERS if d.kind == "i"], ids=lambda d: d.name)
@pytest.mark.parametrize("name", ["floordiv", "truncdiv", "mod", "fmod"])
def test_integer_division_never_traps(name: str, dtype: DType) -> None:
    least = np.iinfo(dtype.numpy).min
    x = np.array([least, least, 7, -7, 0], dtype.numpy)
    y = np.array([-1, 0, 0, 0, 0], dtype.numpy)
    expr = getattr(e, name)(input_(0, dtype), input_(1, dtype))
    got = run(expr, x, y)
    assert got[0] == (least if name.endswith("div") else 0)  # the quotient wraps
    for c in (0, -1, 3):
        run(getattr(e, name)(input_(0, dtype), c), x)


@pytest.mark.parametrize("dtype", [d for d in INTEGERS if d.itemsize >= 4], ids=lambda d: d.name)
def test_integer_division_in_floating_point_is_exact(dtype: DType) -> None:
    """Quotients just below a whole number are the ones that rounding would spoil."""
    rng = np.random.default_rng(5)
    top = 1 << (51 if dtype.itemsize == 8 else 31)
    b = rng.integers(1, 1 << rng.integers(1, top.bit_length() - 1, 512), dtype=np.int64)
    q = rng.integers(1, np.maximum(top // b, 2), dtype=np.int64)
    a = np.minimum(q * b - rng.integers(0, 2, 512), top - 1)
    if dtype.kind == "i":
        a, b = a * rng.choice([-1, 1], 512), b * rng.choice([-1, 1], 512)
    a, b = a.astype(dtype.numpy), b.astype(dtype.numpy)
    for name in ("floordiv", "truncdiv", "mod", "fmod"):
        expr = getattr(e, name)(input_(0, dtype), input_(1, dtype))
        np.testing.assert_array_equal(run(expr, a, b), evaluate(expr, [a, b], (512,)), name)
        by_seven = getattr(e, name)(input_(0, dtype), 7)
        np.testing.assert_array_equal(run(by_seven, a), evaluate(by_seven, [a], (512,)), name)


def test_shifts_by_the_width_and_more() -> None:
    x = np.array([1, -1, -8, 5], np.int32)
    n = np.array([32, 40, 33, -1], np.int32)
    a, b = input_(0, dt.int32), input_(1, dt.int32)
    np.testing.assert_array_equal(run(e.shl(a, b), x, n), [0, 0, 0, 0])
    np.testing.assert_array_equal(run(e.shr(a, b), x, n), [0, -1, -1, 0])


# -- conversions -------------------------------------------------------------------------------------------------------
EVERY = (dt.bool_, *INTEGERS, *HALVES, *FLOATS)


@pytest.mark.parametrize("to", EVERY, ids=lambda d: d.name)
@pytest.mark.parametrize("source", EVERY, ids=lambda d: d.name)
def test_casts_agree_with_the_reference(source: DType, to: DType) -> None:
    x = values(source, 80, 1)
    if source.kind == "f" and to.kind == "u" and to.itemsize == 8:
        x = np.abs(x.astype(np.float64)).astype(source.numpy)
    expr = e.cast(input_(0, source), to)
    wanted = evaluate(expr, [x], (80,))
    for lanes in (16, 0):
        got = run(expr, x, lanes=lanes)
        assert got.tobytes() == np.ascontiguousarray(wanted).tobytes()


def test_float_to_integer_out_of_range_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = np.array([1e10, -1e10, 300.0, -1.0, -1.5, np.nan, np.inf, -np.inf, 1e19, 2147483648.0, -2147483648.0, 2.0**31 + 5,
                  2.0**32 + 7, -(2.0**33) - 9, 3e9, 70000.0, -300.7] * 4)
    for source in FLOATS:
        y = x.astype(source.numpy)
        for to in (dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64, dt.uint16, dt.uint64, dt.bool_):
            wanted = torch.from_numpy(y).to(getattr(torch, to.name)).numpy()
            for got in (run(e.cast(input_(0, source), to), y), evaluate(e.cast(input_(0, source), to), [y], y.shape)):
                np.testing.assert_array_equal(got, wanted, f"{source.name} to {to.name}")


def test_the_sign_of_nan_is_zero() -> None:
    x = np.array([np.nan, -0.5, 0.0, 3.0])
    for d in (*HALVES, *FLOATS):
        y = x.astype(d.numpy)
        for got in (run(e.sign(input_(0, d)), y), evaluate(e.sign(input_(0, d)), [y], y.shape)):
            np.testing.assert_array_equal(got.astype(np.float64), [0, -1, 0, 1])


@pytest.mark.parametrize("name", ["asin", "asinh", "atan", "atanh", "sinh", "tan"])
def test_half_precision_from_doubles_calls_no_library(name: str) -> None:
    """LLVM once converted the sign of a result, a double, by a function that is in no library here."""
    x = np.array([-0.5, 0.25, -0.0, 0.875], np.float16)
    expr = getattr(e, name)(input_(0, dt.float16))
    for lanes in (0, 16):
        np.testing.assert_allclose(run(expr, x, lanes=lanes).astype(np.float32), evaluate(expr, [x], x.shape), rtol=1e-3)


def test_half_precision_without_instructions_for_it() -> None:
    if target.machine() != "x86_64":
        pytest.skip("levels of x86")
    with target.using("sse"):
        test_rounding_to_half_precision_is_nearest_even(dt.float16)
        x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(run(e.cast(input_(0, dt.float16), dt.float32), x), x.astype(np.float32))


@pytest.mark.parametrize("to", HALVES, ids=lambda d: d.name)
def test_rounding_to_half_precision_is_nearest_even(to: DType) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 14, dtype=np.uint64).astype(np.uint32)
    halves = np.arange(1 << 16, dtype=np.uint32) << 16  # every bfloat16, and with the next bit every tie
    x = np.concatenate([bits, halves[::7], halves[::5] | 0x8000, halves[::11] | 0x18000]).view(np.float32)
    with np.errstate(all="ignore"):
        x = np.where(np.isnan(x), np.float32(np.nan), x)
        small = np.linspace(-1e-4, 1e-4, 4096, dtype=np.float32)  # denormal in float16
        x = np.concatenate([x, small, np.float32([65519, 65520, 65536])])
        wanted = x.astype(to.numpy).astype(np.float32)
    got = run(e.cast(input_(0, dt.float32), to), x).astype(np.float32)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(run(e.cast(input_(0, to), dt.float32), x.astype(to.numpy)) if to is dt.bfloat16 else got,
                                  wanted)


@pytest.mark.parametrize("lanes", [0, 16, 64])
def test_bfloat16_has_the_same_bits_by_instruction_and_by_arithmetic(lanes: int) -> None:
    """Denormal numbers, which the instruction takes for zero, zeros with their signs and NaNs with their digits included."""
    rng = np.random.default_rng(1)
    denormal = rng.integers(0, 1 << 23, 4096, dtype=np.uint32) | rng.integers(0, 2, 4096, dtype=np.uint32) << 31
    ties = np.arange(1 << 8, dtype=np.uint32) << 16 | 0x8000
    nans = 0x7F800000 | rng.integers(1, 1 << 23, 256, dtype=np.uint32)
    bits = np.concatenate([denormal, ties, nans, nans | 1 << 31, np.uint32([0, 1 << 31, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x00800000])])
    is_nan = bits & 0x7FFFFFFF > 0x7F800000
    wanted = np.where(is_nan, bits | 0x400000, bits + (bits >> 16 & 1) + 0x7FFF) >> 16
    x = input_(0, dt.float32)
    for cpu in (target.host(), dataclasses.replace(target.host(), bf16_dot=False)):
        _address.cache_clear()
        with target.using(cpu):
            got = run(e.cast(x, dt.bfloat16), bits.view(np.float32), lanes=lanes)
            np.testing.assert_array_equal(got.view(np.uint16), wanted.astype(np.uint16))
            again = run(e.cast(-e.cast(x, dt.bfloat16), dt.float32), bits.view(np.float32), lanes=lanes)
            np.testing.assert_array_equal(again.view(np.uint32), (wanted << 16 ^ 1 << 31).astype(np.uint32))


def test_half_precision_rounds_after_every_operation() -> None:
    for d in HALVES:
        x, y = values(d, 160, 2), values(d, 160, 3)
        a, b = input_(0, d), input_(1, d)
        expr = e.exp(a * b) + a / (e.abs(b) + 1) * a
        got, wanted = run(expr, x, y).astype(np.float32), evaluate(expr, [x, y], (160,)).astype(np.float32)
        np.testing.assert_allclose(got, wanted, rtol=2 * float(np.float32(2.0 ** (-8 if d is dt.bfloat16 else -11))))
        assert (got == wanted).mean() > 0.97


def test_bitcast_and_masks() -> None:
    x = values(dt.float32, 64, 0)
    np.testing.assert_array_equal(run(e.bitcast(input_(0, dt.float32), dt.int32), x), x.view(np.int32))
    h = values(dt.bfloat16, 64, 0)
    np.testing.assert_array_equal(run(e.bitcast(input_(0, dt.bfloat16), dt.int16), h), h.view(np.int16))
    i = values(dt.int16, 64, 0)
    np.testing.assert_array_equal(run(e.bitcast(input_(0, dt.int16), dt.float16), i).view(np.int16), i)


def test_what_has_no_native_form() -> None:
    x = input_(0, dt.float32)
    assert vecmath.supports(e.exp(x) + e.erf(x))
    assert not vecmath.supports(e.exp(e.lgamma(x)))
    assert not vecmath.supports(e.exp(input_(0, dt.complex64)))
    with pytest.raises(NotImplementedError, match="lgamma of float32"):
        run(e.lgamma(x), np.ones(16, np.float32))
    assert inputs_of(x) == {0}


def test_common_subexpressions_are_emitted_once() -> None:
    f = Function("void @k()")
    x = V(f, "%x", "float", 16)
    shared = e.exp(input_(0, dt.float32))
    vecmath.emit(f, shared * shared + shared, {0: x}, 16)
    assert sum("call" in line for line in f.lines) == 1


def test_the_bits_of_a_number_beyond_its_type():
    assert vecmath.constant_bits(2.0 ** 128, dt.float32) == 0x7F800000
    assert vecmath.constant_bits(-1e39, dt.float32) == 0xFF800000
    assert vecmath.constant_bits(-1, dt.int8) == 0xFF


@pytest.mark.parametrize("level", ["", "avx2", "sse"])
@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log2", "log1p", "log1p_exp", "tanh", "sin", "cos", "erf", "normal_cdf"])
def test_a_result_does_not_depend_on_its_neighbours(name: str, level: str) -> None:
    """Numbers that are taken care of apart lie beside all others here, and then none of them."""
    if level and target.machine() != "x86_64":
        pytest.skip("levels of x86")
    x = np.linspace(0.01, 12, 4096, dtype=np.float32)
    expr = getattr(e, name)(input_(0, dt.float32))
    with target.using(level) if level else contextlib.nullcontext():
        alone = run(expr, x)
        for rare in (1e30, -1e30, np.inf, np.nan, 0.0, 1e-40):
            mixed = x.copy()
            mixed[::16] = rare
            np.testing.assert_array_equal(run(expr, mixed)[1::16], alone[1::16])


@pytest.mark.parametrize("lanes", [0, 4, 8, 16, 48, 64])
def test_instructions_of_registers_on_any_number_of_lanes(lanes: int) -> None:
    if target.machine() != "x86_64" or not registers.available():
        pytest.skip("instructions of AVX-512")
    x = np.random.default_rng(0).standard_normal(192).astype(np.float32) * 5
    for name in ("exp", "log", "tanh", "log1p_exp"):
        expr = getattr(e, name)(input_(0, dt.float32))
        np.testing.assert_array_equal(run(expr, x, lanes=lanes), run(expr, x, lanes=16))
    for d in FLOATS:
        expr = e.exp(input_(0, d))  # scales by a power of two
        np.testing.assert_array_equal(run(expr, x.astype(d.numpy), lanes=lanes), run(expr, x.astype(d.numpy), lanes=16))


@pytest.mark.parametrize("level", ["", "avx2", "sse"])
def test_log_of_one_plus_exp_for_any_number(level: str) -> None:
    if level and target.machine() != "x86_64":
        pytest.skip("levels of x86")
    x = samples(dt.float32, 1 << 12, 8)
    with target.using(level) if level else contextlib.nullcontext():
        got = run(e.log1p_exp(input_(0, dt.float32)), x)
    assert ulps(got, exact("log1p_exp", dt.float32, x)).max() <= (3 if level == "sse" else 2)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
@pytest.mark.parametrize("level", ["", "avx2", "sse"])
def test_powers_become_zero_where_rounding_makes_them_zero(level: str, dtype: DType) -> None:
    """What is below half the smallest number is 0, everything above it is not."""
    if level and target.machine() != "x86_64":
        pytest.skip("levels of x86")
    half = -150 if dtype is dt.float32 else -1075
    x = np.array([half + 0.01, half - 0.01, half - 0.4, half - 0.6, half - 1, half - 40, -1e30, -np.inf, np.nan, half + 25], dtype.numpy)
    with target.using(level) if level else contextlib.nullcontext():
        for got in (run(e.exp2(input_(0, dtype)), x), run(e.exp(input_(0, dtype)), (x * math.log(2)).astype(dtype.numpy))):
            assert got[0] == 2.0 ** (half + 1)
            assert (got[1:8] == 0).all() and np.isnan(got[8])
            assert 0 < got[9] < 2.0 ** (half + 25.5)


@pytest.mark.parametrize("name", ["erf", "erfc"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_error_function_of_few_numbers_and_of_many(name, dtype):
    special = pytest.importorskip("scipy.special")
    for n in (0, 1, 1000, 70_000):
        x = np.linspace(-4, 4, n).astype(dtype)
        got = MEANING[name](x)
        assert got.dtype == dtype and got.shape == x.shape
        np.testing.assert_allclose(got, getattr(special, name)(x.astype("f8")), rtol=3e-7 if dtype == "f4" else 1e-14)
    assert MEANING[name](np.array(np.inf, dtype)).shape == ()
