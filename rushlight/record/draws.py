"""Distributions of a random stream, with PyTorch's checks, errors and numbers.

A method that makes an array comes with one, `fill_...`, that writes float32 or float64 (or int64) to an address without making any.
What is here in NumPy is rarely drawn, or converts the numbers to narrower types; the rest is native (`compile/cpu/twister_ir.py`).
"""

from __future__ import annotations

import functools
import math

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..compile.cpu.twister import draw
from ..compile.dtypes import from_numpy
from .warn import warn

__all__ = ["Draws", "address_of", "integer_range"]

F32 = np.float32
F64 = np.float64

_WIDE_RANGE = 1 << 28  # from here on an integer in a range takes 64 bits of the stream
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Significand bits (the hidden one counted): the integers that the type holds without a gap reach 2**bits.
_DIGITS = {np.dtype(F64): 53, np.dtype(F32): 24, np.dtype(np.float16): 11, _BFLOAT16: 8}
_LARGEST = {dtype: float(ml_dtypes.finfo(dtype).max) for dtype in _DIGITS}
_RANDOM_INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
_DOUBLE = np.dtype(F64)
_SINGLE = np.dtype(F32)


def address_of(array: NDArray) -> int:
    """The address of the first element of an array."""
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def _floating(dtype: DTypeLike, what: str) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype not in _DIGITS:
        raise NotImplementedError(f'"{what}" not implemented for \'{dtype.name}\': expected a floating point dtype')
    return dtype


def _cast(values: NDArray, dtype: np.dtype) -> NDArray:
    """Conversion as C does it: a narrower dtype overflows to infinity (or wraps) in silence."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return from_numpy(dtype).rounded(values)


def _mapped(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A function of the C library of every element of a fresh array, in place."""
    draw("map_" + name)(0, address_of(values), values.size)
    return values


class Draws:
    """What a stream that fills memory (`fill`) can draw."""

    def fill(self, name: str, address: int, n: int, *numbers: float) -> int:
        raise NotImplementedError

    # -- continuous distributions --------------------------------------------------------------------------------

    def fill_uniform(self, address: int, n: int, low: float, high: float, dtype: np.dtype) -> None:
        """`n` numbers in [low, high), float32 or float64. RuntimeError unless low <= high and both fit the dtype."""
        if low == 0.0 and high == 1.0:
            scale = 1.0
        else:
            _check_range(low, high, dtype)
            scale = high - low if dtype.itemsize == 8 else float(F32(high) - F32(low))
        self.fill("uniform64" if dtype.itemsize == 8 else "uniform32", address, n, scale, low, high)

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` numbers in [low, high): `rand`, `uniform_`. RuntimeError unless low <= high and both fit the dtype."""
        dtype = _floating(dtype, "check_uniform_bounds")
        _check_range(low, high, dtype)
        wide = dtype if dtype.itemsize >= 4 else _SINGLE
        values = np.empty(n, wide)
        self.fill_uniform(address_of(values), n, low, high, wide)
        if wide is dtype:
            return values
        narrow = values.astype(dtype)
        return np.where(narrow == dtype.type(high), dtype.type(low), narrow)  # rounding may have reached the excluded end

    def fill_normal(self, address: int, n: int, mean: float, std: float, dtype: np.dtype, contiguous: bool = True) -> None:
        """`n` normals, float32 or float64: see `normal`."""
        _check_std(std)
        suffix = "64" if dtype.itemsize == 8 else "32"
        if n < 16 or not contiguous:
            self.fill("pairs" + suffix, address, n, mean, std)
        else:
            self.fill("normals" + suffix, address, n, mean, std, n % 16)

    def normal(
        self, n: int, mean: float = 0.0, std: float = 1.0, dtype: DTypeLike = F32, *, contiguous: bool = True
    ) -> NDArray:
        """`n` normals: `randn`, `normal_`. RuntimeError unless std >= 0.

        Sixteen or more that fill a contiguous tensor come in blocks; fewer, or through strides (`contiguous=False`),
        come in pairs of which the second waits in the stream for the next call.
        """
        dtype = _floating(dtype, "normal_kernel_cpu")
        if dtype.itemsize >= 4:
            values = np.empty(n, dtype)
            self.fill_normal(address_of(values), n, mean, std, dtype, contiguous)
            return values
        if n < 16 or not contiguous:
            return _cast(self.normal(n, mean, std, F64, contiguous=False), dtype)
        _check_std(std)
        values = np.empty(n, F32)
        # Single and double precision draw for the tail before the last sixteen are drawn anew, and drop it; half does not.
        self.fill("normals32", address_of(values), n, mean, std, 0)
        return _cast(values, dtype)

    def log_normal(self, n: int, mean: float = 1.0, std: float = 2.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` numbers whose logarithm is normal: `log_normal_`. RuntimeError unless std > 0."""
        dtype = _floating(dtype, "log_normal_cpu")
        if not std > 0.0:
            raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
        return _cast(_mapped("exp", self.normal(n, mean, std, F64, contiguous=False)), dtype)

    def fill_exponential(self, address: int, n: int, lambd: float, dtype: np.dtype) -> None:
        """`n` exponentially distributed numbers, float32 or float64. RuntimeError unless lambd > 0."""
        if not lambd > 0.0:
            raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
        self.fill("exponential64" if dtype.itemsize == 8 else "exponential32", address, n, -1.0 / lambd)

    def exponential(self, n: int, lambd: float = 1.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` exponentially distributed numbers of rate `lambd`: `exponential_`. RuntimeError unless lambd > 0."""
        dtype = _floating(dtype, "exponential_cpu")
        wide = dtype if dtype.itemsize >= 4 else _DOUBLE
        values = np.empty(n, wide)
        self.fill_exponential(address_of(values), n, lambd, wide)
        return _cast(values, dtype)

    def cauchy(self, n: int, median: float = 0.0, sigma: float = 1.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` Cauchy distributed numbers: `cauchy_`. RuntimeError unless sigma > 0."""
        dtype = _floating(dtype, "cauchy_cpu")
        if not sigma > 0.0:
            raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
        tangents = _mapped("tan", math.pi * (self.uniform(n, dtype=F64) - 0.5))
        draw("map_fma")(0, address_of(tangents), n, sigma, median)
        return _cast(tangents, dtype)

    def gammas(self, shapes: NDArray) -> NDArray[np.float64]:
        """A gamma number of rate 1 for each of the shapes, which are floating: `_standard_gamma`."""
        return self._each("gammas", shapes)

    def geometric(self, n: int, p: float, dtype: DTypeLike = F32) -> NDArray:
        """`n` numbers of trials up to the first success of probability `p`: `geometric_`, also for integer dtypes.

        RuntimeError unless 0 < p < 1.
        """
        dtype = np.dtype(dtype)
        if dtype == np.bool_:
            raise NotImplementedError("\"geometric_cpu\" not implemented for 'bool'")
        if not 0.0 < p < 1.0:
            raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
        trials = np.ceil(_mapped("log", self.uniform(n, dtype=F64)) / math.log(1.0 - p))
        return _cast(trials, dtype)

    def _each(self, name: str, given: NDArray) -> NDArray[np.float64]:
        """A number for each of those that are given, its parameter."""
        made = np.array(given, F64, order="C")
        self.fill(name, address_of(made), made.size)
        return made

    # -- discrete distributions ----------------------------------------------------------------------------------

    def poissons(self, rates: NDArray) -> NDArray[np.float64]:
        """A Poisson number for each of the rates, which are floating: `poisson`. RuntimeError for a rate that is negative or NaN."""
        if not (rates >= 0).all():
            raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
        return self._each("poissons", rates)

    def bernoulli(self, n: int, p: float | NDArray) -> NDArray[np.bool_]:
        """`n` trials that succeed with probability `p`: bool.

        A Python number (`bernoulli_(p)`, dropout) or a float64 array compares 53 random bits with it; an array of a
        smaller dtype (`n` elements, `torch.bernoulli(t)`) compares 24. RuntimeError outside [0, 1].
        """
        made = np.empty(n, np.bool_)
        if isinstance(p, np.ndarray):
            dtype = _floating(p.dtype, "bernoulli_tensor_cpu_p_")
            flat = np.ascontiguousarray(p).reshape(-1)
            if flat.size != n:
                raise RuntimeError(f"bernoulli expects {n} probabilities, got {flat.size}")
            if dtype.itemsize < 4:
                flat = flat.astype(F32)
            self.fill_trials("trials_each", address_of(made), n, address_of(flat), dtype)
        elif not 0.0 <= p <= 1.0:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        else:
            self.fill("trials", address_of(made), n, p)
        return made

    def fill_trials(self, name: str, address: int, n: int, chances: int, dtype: np.dtype) -> None:
        """`n` trials with the probabilities at an address, float32 or float64: as bytes ("trials_each") or of that type ("bernoulli").

        RuntimeError for a probability outside [0, 1]: nothing is drawn.
        """
        if self.fill(name + ("64" if dtype.itemsize == 8 else "32"), address, n, chances):
            raise RuntimeError("bernoulli expects every probability to be in [0, 1]")

    def fill_integers(self, address: int, n: int, low: int, high: int) -> None:
        """`n` integers in [low, high), int64, whose bounds have been checked."""
        span = high - low
        self.fill("integers_wide" if span >= _WIDE_RANGE else "integers", address, n, span, low)

    def randint(self, low: int, high: int, n: int, dtype: DTypeLike = np.int64) -> NDArray:
        """`n` integers in [low, high): `randint`, `random_(from, to)`; for floating dtypes as well.

        RuntimeError for an empty range or bounds that the dtype cannot hold; a warning where a floating dtype has gaps.
        """
        dtype = np.dtype(dtype)
        low, high = integer_range(low, high, dtype)
        made = np.empty(n, np.int64)
        self.fill_integers(address_of(made), n, low, high)
        return made.astype(dtype, copy=False)

    def random(self, n: int, dtype: DTypeLike = np.int64) -> NDArray:
        """`n` integers over the non-negative range of the dtype (of a floating one, the gapless range): `random_()`."""
        dtype = np.dtype(dtype)
        if dtype in _DIGITS:
            modulus = (1 << _DIGITS[dtype]) + 1
        elif dtype.name in _RANDOM_INTEGERS:
            modulus = 2 if dtype == np.bool_ else int(np.iinfo(dtype).max) + 1
        else:
            raise NotImplementedError(f'"random_kernel_cpu" not implemented for \'{dtype.name}\'')
        made = np.empty(n, np.int64)
        self.fill("integers_wide" if dtype.itemsize == 8 else "integers", address_of(made), n, modulus, 0)
        return made.astype(dtype, copy=False)

    def random_from_lowest(self, n: int) -> NDArray[np.int64]:
        """`n` integers over the whole int64 range: `random_(-2**63, None)`."""
        made = np.empty(n, np.int64)
        self.fill("raw_wide", address_of(made), n)
        return made

    def fill_permutation(self, address: int, n: int) -> None:
        """A permutation of 0 … n-1, int64, by the shuffle that walks up and swaps with a later place."""
        self.fill("shuffle" if n < 0xFFFFFFFF // 20 else "shuffle_wide", address, n)

    def randperm(self, n: int) -> NDArray[np.int64]:
        """A permutation of 0 … n-1. RuntimeError for a negative `n`."""
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
        order = np.empty(n, np.int64)
        self.fill_permutation(address_of(order), n)
        return order

    def multinomial(self, probabilities: NDArray, num_samples: int, replacement: bool = False) -> NDArray[np.int64]:
        """`num_samples` category numbers drawn by weight: `(c,)` to `(num_samples,)`, `(r, c)` to `(r, num_samples)`.

        Without replacement they come in the order of drawing. RuntimeError for negative, infinite, NaN or all-zero
        weights, or for more samples than categories without replacement.
        """
        dtype = probabilities.dtype
        if dtype not in _DIGITS:
            raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {dtype.name}")
        if probabilities.ndim not in (1, 2):
            raise RuntimeError(f"prob_dist must be 1 or 2 dim, got shape {probabilities.shape}")
        if num_samples <= 0:
            raise RuntimeError(f"cannot sample n_sample <= 0 samples: {num_samples}")
        categories = probabilities.shape[-1]
        if not replacement and num_samples > categories:
            raise RuntimeError(
                f"cannot sample n_sample > prob_dist.size(-1) samples without replacement: {num_samples} > {categories}"
            )
        work = F64 if dtype == F64 else F32
        weights = np.ascontiguousarray(np.atleast_2d(probabilities)).astype(work, copy=False)
        rows = len(weights)
        if num_samples == 1 and dtype.itemsize >= 4 and weights.size:
            first = np.empty(rows, np.int64)
            self.race(address_of(first), rows, address_of(weights), categories, dtype)
            return first.reshape((rows, 1) if probabilities.ndim == 2 else (1,))
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise RuntimeError(_INVALID)
        if weights.size and (weights.sum(axis=1) == 0).any():
            raise RuntimeError(_EMPTY)
        if not replacement or num_samples == 1:
            # The largest of weight / exponential is an exact draw; the next largest ones are the following draws.
            clocks = self.exponential(weights.size, 1.0, dtype).astype(work).reshape(weights.shape)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                race = (weights / clocks).astype(dtype).astype(work)
            chosen = np.argsort(-race, axis=1, kind="stable")[:, :num_samples]
        else:
            uniforms = self.uniform(rows * num_samples, dtype=F64).reshape(rows, num_samples)
            cumulative = np.cumsum(weights, axis=1, dtype=work)
            cumulative /= cumulative[:, -1:]
            cumulative[:, -1] = 1
            found = [np.searchsorted(edges, u) for edges, u in zip(cumulative.astype(F64), uniforms)]
            chosen = np.array(found, np.int64).reshape(uniforms.shape)
        chosen = chosen.astype(np.int64, copy=False)
        return chosen if probabilities.ndim == 2 else chosen[0]

    def race(self, address: int, rows: int, weights: int, categories: int, dtype: np.dtype) -> None:
        """A category number, int64, for each row of weights at an address, float32 or float64, as `multinomial` draws one.

        RuntimeError for negative, infinite, NaN or all-zero weights: nothing is drawn.
        """
        verdict = self.fill("race64" if dtype.itemsize == 8 else "race32", address, rows, weights, categories)
        if verdict:
            raise RuntimeError(_EMPTY if verdict == 1 else _INVALID)


_INVALID = "probability tensor contains either `inf`, `nan` or element < 0"
_EMPTY = "invalid multinomial distribution (sum of probabilities <= 0)"


def _check_std(std: float) -> None:
    if not std >= 0.0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")


def _check_range(low: float, high: float, dtype: np.dtype) -> None:
    largest = _LARGEST[dtype]
    for name, bound in (("from", low), ("to", high)):
        if not -largest <= bound <= largest:
            raise RuntimeError(f"{name} is out of bounds for {dtype.name}: {bound}")
    if low > high:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}"
        )
    if high - low > largest:
        raise RuntimeError(
            f"uniform_ expects to-from <= the largest {dtype.name}, but found to={high:g} and from={low:g} "
            "which result in to-from to exceed the limit"
        )


def integer_range(low: int, high: int, dtype: np.dtype) -> tuple[int, int]:
    """The bounds of integers in [low, high) of a dtype, after the checks of `randint`."""
    low, high = int(low), int(high)
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    _check_integer_bounds(low, high, dtype)
    if dtype in _DIGITS:
        low, high = _inner_bounds(low, high, dtype)
        if low >= high:
            raise RuntimeError(
                f"random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, "
                f"but got from={low} >= to={high}"
            )
    return low, high


def _check_integer_bounds(low: int, high: int, dtype: np.dtype) -> None:
    if dtype in _DIGITS:
        exact = 1 << _DIGITS[dtype]
        largest = _LARGEST[dtype]
        least, most = -largest, largest
    else:
        exact = None
        least, most = (0, 1) if dtype == np.bool_ else _integer_limits(dtype)
    for name, bound in (("from", low), ("to - 1", high - 1)):
        if not least <= bound <= most:
            raise RuntimeError(f"{name} is out of bounds for {dtype.name}: {bound}")
        if exact is not None and not -exact <= bound <= exact:
            warn(f"{name} is out of bounds [-(2^{_DIGITS[dtype]}), 2^{_DIGITS[dtype]}]. Due to precision "
                 f"limitations {dtype.name} can support discrete uniform distribution only within this range.", UserWarning)


@functools.cache
def _integer_limits(dtype: np.dtype) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _inner_bounds(low: int, high: int, dtype: np.dtype) -> tuple[int, int]:
    """The range shrunk so that no integer of it rounds, in the floating dtype, onto a number outside."""
    rounded = int(dtype.type(low))
    if rounded < low:
        low = rounded + _spacing(rounded, dtype)
    rounded = int(dtype.type(high - 1))
    if rounded >= high:
        high = rounded - _spacing(high - 1, dtype)
    return low, high


def _spacing(value: int, dtype: np.dtype) -> int:
    return 1 << max(0, abs(value).bit_length() - _DIGITS[dtype])
