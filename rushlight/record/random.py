"""The random stream that matches PyTorch's CPU generator number for number.

`Mt19937Stream` owns the 32-bit Mersenne Twister and the one cached normal, and turns draws into distributions with
NumPy. Same seed, same calls, same numbers as PyTorch 2.13; `get_state` returns PyTorch's 5,056 bytes, so that states
can be carried from one to the other.

    >>> stream = Mt19937Stream(0)
    >>> stream.uniform(2).tolist()
    [0.49625658988952637, 0.7682217955589294]
    >>> stream.manual_seed(0).randperm(5).tolist()
    [4, 0, 1, 3, 2]

Counts of elements are flat: shapes belong to the rooms above. Every draw holds the stream's lock.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from ctypes import c_float
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from .random_math import F32, F64, box_muller32, box_muller64, c_exp, c_log, cast, fma32, fma64, libm
from .warn import warn

DEFAULT_SEED = 67280421310721
STATE_BYTES = 5056

_WORDS = 624
# PyTorch keeps each 32-bit word of the twister in a 64-bit slot; the last slots are the cached normals.
_STATE = np.dtype(
    {
        "names": ["seed", "left", "seeded", "next", "words", "normal", "has_normal"],
        "formats": ["<u8", "<i4", "<i4", "<u8", ("<u8", _WORDS), "<f8", "<i4"],
        "offsets": [0, 8, 12, 16, 24, 24 + 8 * _WORDS + 8, 24 + 8 * _WORDS + 24],
        "itemsize": STATE_BYTES,
    }
)
_WIDE_RANGE = 1 << 28  # from here on an integer in a range takes 64 bits of the stream
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Significand bits (the hidden one counted): the integers that the type holds without a gap reach 2**bits.
_FEW = 32  # categories of one row, at most, that are drawn from without arrays
_DIGITS = {np.dtype(F64): 53, np.dtype(F32): 24, np.dtype(np.float16): 11, _BFLOAT16: 8}
_RANDOM_INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")


def _floating(dtype: DTypeLike, what: str) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype not in _DIGITS:
        raise NotImplementedError(f'"{what}" not implemented for \'{dtype.name}\': expected a floating point dtype')
    return dtype


_streams: weakref.WeakSet[Mt19937Stream] = weakref.WeakSet()
_held_for_fork: list[Mt19937Stream] = []


def _before_fork() -> None:
    """No fork in the middle of a draw: the child would wait for ever for the lock of a thread that it does not have."""
    _held_for_fork.extend(_streams)
    for stream in _held_for_fork:
        stream._lock.acquire()


def _after_fork() -> None:
    while _held_for_fork:
        _held_for_fork.pop()._lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class Mt19937Stream:
    """A seeded stream of random numbers with PyTorch's CPU generator's algorithm and state.

    Args:
        seed: any integer in [-2**63, 2**64); negative ones wrap around.
    """

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._lock = threading.RLock()
        _streams.add(self)
        self._bits = np.random.MT19937(0)
        self.manual_seed(seed)

    # -- state ---------------------------------------------------------------------------------------------------

    def manual_seed(self, seed: int) -> Mt19937Stream:
        """Start over from `seed`; returns self. ValueError outside [-2**63, 2**64)."""
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"Overflow when unpacking long long: seed {seed} is outside [-2**63, 2**64)")
        with self._lock:
            self._seed = seed % (1 << 64)
            seeded: Any = np.random.RandomState(self._seed & 0xFFFFFFFF).get_state(legacy=False)
            self._bits.state = seeded
            self._untouched = True  # nothing drawn since seeding: PyTorch counts such a state apart from a used-up one
            self._cached_normal: float | None = None
        return self

    def seed(self) -> int:
        """Start over from a seed that the operating system makes up; returns it."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed that the stream was last started from."""
        return self._seed

    def get_state(self) -> NDArray[np.uint8]:
        """The whole state as PyTorch lays it out: 5,056 bytes, uint8."""
        state = np.zeros(1, _STATE)
        with self._lock:
            twister = self._bits.state["state"]
            position = int(twister["pos"])
            state["seed"] = self._seed
            state["left"] = _WORDS + 1 - position
            state["seeded"] = 1
            state["next"] = 0 if self._untouched else position
            state["words"] = twister["key"]
            if self._cached_normal is not None:
                state["normal"], state["has_normal"] = self._cached_normal, 1
        return state.view(np.uint8).reshape(STATE_BYTES)

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Continue from a state that `get_state` (or PyTorch's) returned.

        TypeError unless uint8; RuntimeError for a wrong size or impossible contents (the stream is then unchanged).
        """
        state = np.ascontiguousarray(state)
        if state.dtype != np.uint8:
            raise TypeError(f"RNG state must be a ByteTensor (uint8), got {state.dtype}")
        if state.size != STATE_BYTES:
            raise RuntimeError(
                f"Expected a CPUGeneratorImplState of size {STATE_BYTES} but found the input RNG state size "
                f"to be {state.size}"
            )
        fields = state.reshape(-1).view(_STATE)[0]
        left, following = int(fields["left"]), int(fields["next"])
        fresh = (left, following) == (1, 0)
        words = fields["words"]
        if fields["seeded"] != 1 or not (fresh or (1 <= left <= _WORDS and left + following == _WORDS + 1)):
            raise RuntimeError(f"Invalid mt19937 state: seeded={fields['seeded']}, left={left}, next={following}")
        if (words >> np.uint64(32)).any():
            raise RuntimeError("Invalid mt19937 state: a word is wider than 32 bits")
        with self._lock:
            self._seed = int(fields["seed"])
            key = words.astype(np.uint32)
            position = _WORDS if fresh else following
            self._bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
            self._untouched = fresh
            self._cached_normal = float(fields["normal"]) if fields["has_normal"] else None

    def clone(self) -> Mt19937Stream:
        """An independent stream that continues with the same numbers."""
        other = Mt19937Stream(0)
        other.set_state(self.get_state())
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {"state": self.get_state()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__init__(0)  # type: ignore[misc]
        self.set_state(saved["state"])

    # -- raw draws -----------------------------------------------------------------------------------------------

    def raw32(self, n: int) -> NDArray[np.uint64]:
        """`n` draws of 32 random bits, as uint64."""
        if n == 0:
            return np.empty(0, np.uint64)
        with self._lock:
            self._untouched = False
            return self._bits.random_raw(n)

    def seed63(self) -> int:
        """63 random bits from two draws, the low half first; no array is made, because every dropout asks."""
        with self._lock:
            self._untouched = False
            return self._bits.random_raw() | (self._bits.random_raw() & 0x7FFFFFFF) << 32  # type: ignore[no-any-return]

    def raw64(self, n: int) -> NDArray[np.uint64]:
        """`n` draws of 64 random bits, each from two of 32, the high half first."""
        pairs = self.raw32(2 * n)
        return (pairs[0::2] << np.uint64(32)) | pairs[1::2]

    def _unit32(self, n: int) -> NDArray[np.float32]:
        """`n` float32 in [0, 1): 24 bits each."""
        return (self.raw32(n) & np.uint64((1 << 24) - 1)).astype(F32) * F32(2.0**-24)

    def _unit64(self, n: int) -> NDArray[np.float64]:
        """`n` float64 in [0, 1): 53 bits each."""
        return (self.raw64(n) & np.uint64((1 << 53) - 1)).astype(F64) * 2.0**-53

    # -- continuous distributions --------------------------------------------------------------------------------

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` numbers in [low, high): `rand`, `uniform_`. RuntimeError unless low <= high and both fit the dtype."""
        dtype = _floating(dtype, "check_uniform_bounds")
        largest = float(ml_dtypes.finfo(dtype).max)
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
        plain = (low, high) == (0.0, 1.0)
        if dtype == F64:
            wide = self._unit64(n)
            values: NDArray = wide if plain else fma64(wide, high - low, low)
        else:
            unit = self._unit32(n)
            values = unit if plain else fma32(unit, F32(high) - F32(low), F32(low))
            values = values.astype(dtype, copy=False)
        top = dtype.type(high)
        if not (plain and dtype.itemsize >= 4):  # rounding may have reached the excluded end
            values = np.where(values == top, dtype.type(low), values)
        return values

    def normal(
        self, n: int, mean: float = 0.0, std: float = 1.0, dtype: DTypeLike = F32, *, contiguous: bool = True
    ) -> NDArray:
        """`n` normals: `randn`, `normal_`. RuntimeError unless std >= 0.

        Sixteen or more that fill a contiguous tensor come in blocks; fewer, or through strides (`contiguous=False`),
        come in pairs of which the second waits in the stream for the next call.
        """
        dtype = _floating(dtype, "normal_kernel_cpu")
        if not std >= 0.0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
        if n < 16 or not contiguous:
            return cast(fma64(self._paired_normals(n), std, mean), dtype)
        with self._lock:
            full, rest = divmod(n, 16)
            unit, box_muller = (self._unit64, box_muller64) if dtype == F64 else (self._unit32, box_muller32)
            # The last sixteen places are drawn anew, over the tail and part of the last whole block. Single and double
            # precision draw for the tail before that as well, and drop it; half precision does not.
            dropped = rest if dtype.itemsize >= 4 else 0
            drawn = unit(16 * full + dropped + (16 if rest else 0))
            values = box_muller(drawn[: 16 * full].reshape(-1, 16), mean, std).reshape(-1)
        if rest:
            tail = box_muller(drawn[-16:].reshape(1, 16), mean, std).reshape(-1)
            values = np.concatenate([values[: n - 16], tail])
        return cast(values, dtype)

    def _paired_normals(self, n: int) -> NDArray[np.float64]:
        """`n` standard normals by the polar form of Box-Muller; an odd one out is kept for the next call."""
        if n == 0:
            return np.empty(0, F64)
        with self._lock:
            kept = self._cached_normal
            missing = n - (kept is not None)
            unit = self._unit64(2 * ((missing + 1) // 2))
            radius = np.sqrt(-2.0 * libm(math.log1p, -unit[1::2]))
            angle = 2.0 * math.pi * unit[0::2]
            pairs = np.stack([radius * libm(math.cos, angle), radius * libm(math.sin, angle)], axis=1).reshape(-1)
            self._cached_normal = float(pairs[-1]) if missing % 2 else None
        head = [] if kept is None else [kept]
        return np.concatenate([np.array(head, F64), pairs[:missing]])

    def log_normal(self, n: int, mean: float = 1.0, std: float = 2.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` numbers whose logarithm is normal: `log_normal_`. RuntimeError unless std > 0."""
        dtype = _floating(dtype, "log_normal_cpu")
        if not std > 0.0:
            raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
        exponents = fma64(self._paired_normals(n), std, mean)
        return cast(libm(c_exp, exponents), dtype)

    def exponential(self, n: int, lambd: float = 1.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` exponentially distributed numbers of rate `lambd`: `exponential_`. RuntimeError unless lambd > 0."""
        dtype = _floating(dtype, "exponential_cpu")
        if not lambd > 0.0:
            raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
        return cast(-1.0 / lambd * libm(math.log1p, -self._unit64(n)), dtype)

    def cauchy(self, n: int, median: float = 0.0, sigma: float = 1.0, dtype: DTypeLike = F32) -> NDArray:
        """`n` Cauchy distributed numbers: `cauchy_`. RuntimeError unless sigma > 0."""
        dtype = _floating(dtype, "cauchy_cpu")
        if not sigma > 0.0:
            raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
        tangents = libm(math.tan, math.pi * (self._unit64(n) - 0.5))
        return cast(fma64(tangents, sigma, median), dtype)

    def geometric(self, n: int, p: float, dtype: DTypeLike = F32) -> NDArray:
        """`n` numbers of trials up to the first success of probability `p`: `geometric_`, also for integer dtypes.

        RuntimeError unless 0 < p < 1.
        """
        dtype = np.dtype(dtype)
        if dtype == np.bool_:
            raise NotImplementedError("\"geometric_cpu\" not implemented for 'bool'")
        if not 0.0 < p < 1.0:
            raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
        trials = np.ceil(libm(c_log, self._unit64(n)) / math.log(1.0 - p))
        return cast(trials, dtype)

    # -- discrete distributions ----------------------------------------------------------------------------------

    def bernoulli(self, n: int, p: float | NDArray) -> NDArray[np.bool_]:
        """`n` trials that succeed with probability `p`: bool.

        A Python number (`bernoulli_(p)`, dropout) or a float64 array compares 53 random bits with it; an array of a
        smaller dtype (`n` elements, `torch.bernoulli(t)`) compares 24. RuntimeError outside [0, 1].
        """
        if isinstance(p, np.ndarray):
            dtype = _floating(p.dtype, "bernoulli_tensor_cpu_p_")
            flat = p.reshape(-1)
            if flat.size != n:
                raise RuntimeError(f"bernoulli expects {n} probabilities, got {flat.size}")
            if not ((flat >= dtype.type(0)) & (flat <= dtype.type(1))).all():
                raise RuntimeError("bernoulli expects every probability to be in [0, 1]")
            return self._unit64(n) < flat if dtype == F64 else self._unit32(n) < flat.astype(F32)
        if not 0.0 <= p <= 1.0:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        return self._unit64(n) < p

    def randint(self, low: int, high: int, n: int, dtype: DTypeLike = np.int64) -> NDArray:
        """`n` integers in [low, high): `randint`, `random_(from, to)`; for floating dtypes as well.

        RuntimeError for an empty range or bounds that the dtype cannot hold; a warning where a floating dtype has gaps.
        """
        dtype = np.dtype(dtype)
        low, high = int(low), int(high)
        if low >= high:
            raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
        self._check_integer_bounds(low, high, dtype)
        if dtype in _DIGITS:
            low, high = _inner_bounds(low, high, dtype)
            if low >= high:
                raise RuntimeError(
                    f"random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, "
                    f"but got from={low} >= to={high}"
                )
        span = high - low
        bits = self.raw64(n) if span >= _WIDE_RANGE else self.raw32(n)
        return ((bits % np.uint64(span)) + np.uint64(low % (1 << 64))).view(np.int64).astype(dtype)

    @staticmethod
    def _check_integer_bounds(low: int, high: int, dtype: np.dtype) -> None:
        if dtype in _DIGITS:
            exact = 1 << _DIGITS[dtype]
            largest = float(ml_dtypes.finfo(dtype).max)
            least, most = -largest, largest
        else:
            exact = None
            least, most = (0, 1) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        for name, bound in (("from", low), ("to - 1", high - 1)):
            if not least <= bound <= most:
                raise RuntimeError(f"{name} is out of bounds for {dtype.name}: {bound}")
            if exact is not None and not -exact <= bound <= exact:
                warn(
           f"{name} is out of bounds [-(2^{_DIGITS[dtype]}), 2^{_DIGITS[dtype]}]. Due to precision "
           f"limitations {dtype.name} can support discrete uniform distribution only within this range.",
           UserWarning)

    def random(self, n: int, dtype: DTypeLike = np.int64) -> NDArray:
        """`n` integers over the non-negative range of the dtype (of a floating one, the gapless range): `random_()`."""
        dtype = np.dtype(dtype)
        if dtype in _DIGITS:
            modulus = (1 << _DIGITS[dtype]) + 1
        elif dtype.name in _RANDOM_INTEGERS:
            modulus = 2 if dtype == np.bool_ else int(np.iinfo(dtype).max) + 1
        else:
            raise NotImplementedError(f'"random_kernel_cpu" not implemented for \'{dtype.name}\'')
        bits = self.raw64(n) if dtype.itemsize == 8 else self.raw32(n)
        return (bits % np.uint64(modulus)).astype(dtype)

    def random_from_lowest(self, n: int) -> NDArray[np.int64]:
        """`n` integers over the whole int64 range: `random_(-2**63, None)`."""
        return self.raw64(n).view(np.int64)

    def randperm(self, n: int) -> NDArray[np.int64]:
        """A permutation of 0 … n-1, by the shuffle that walks up and swaps with a later place."""
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
        if n < 2:
            return np.arange(n, dtype=np.int64)
        draw = self.raw32 if n < 0xFFFFFFFF // 20 else self.raw64
        partners = (np.arange(n - 1) + (draw(n - 1) % np.arange(n, 1, -1, dtype=np.uint64)).view(np.int64)).tolist()
        order = list(range(n))
        for place, partner in enumerate(partners):
            order[place], order[partner] = order[partner], order[place]
        return np.array(order, np.int64)

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
        if num_samples == 1 and 0 < probabilities.size == categories <= _FEW and dtype in (F32, F64):
            first = self._first(probabilities.ravel().tolist(), dtype == F32)
            if first is not None:
                return np.array(first, np.int64).reshape((1,) * probabilities.ndim)
        weights = np.atleast_2d(probabilities).astype(work)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if weights.size and (weights.sum(axis=1) == 0).any():
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
        if not replacement or num_samples == 1:
            # The largest of weight / exponential is an exact draw; the next largest ones are the following draws.
            clocks = self.exponential(weights.size, 1.0, dtype).astype(work).reshape(weights.shape)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                race = (weights / clocks).astype(dtype).astype(work)
            chosen = np.argsort(-race, axis=1, kind="stable")[:, :num_samples]
        else:
            uniforms = self._unit64(len(weights) * num_samples).reshape(len(weights), num_samples)
            cumulative = np.cumsum(weights, axis=1, dtype=work)
            cumulative /= cumulative[:, -1:]
            cumulative[:, -1] = 1
            rows = [np.searchsorted(edges, u) for edges, u in zip(cumulative.astype(F64), uniforms)]
            chosen = np.array(rows, np.int64).reshape(uniforms.shape)
        chosen = chosen.astype(np.int64, copy=False)
        return chosen if probabilities.ndim == 2 else chosen[0]


    def _first(self, weights: list[float], narrow: bool) -> int | None:
        """One draw from few weights, as ``multinomial`` makes it (``narrow``: in float32), but without arrays: they would take longer than
        the arithmetic. None, and nothing is drawn, where the weights are not valid."""
        if not all(0.0 <= w < math.inf for w in weights) or not any(weights):
            return None
        bits = self.raw32(2 * len(weights)).tolist()
        race = []
        for w, high, low in zip(weights, bits[::2], bits[1::2]):
            clock = -math.log1p(-(((high << 32 | low) & (1 << 53) - 1) * 2.0**-53))
            if narrow:
                clock = c_float(clock).value
            at = w / clock if clock else math.inf if w else -1.0  # 0 / 0 is never the first
            race.append(c_float(at).value if narrow else at)
        return race.index(max(race))


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


default_stream = Mt19937Stream()
