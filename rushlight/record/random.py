"""The random stream that matches PyTorch's CPU generator number for number: its state, and raw draws.

`Mt19937Stream` owns the 32-bit Mersenne Twister and the one cached normal; what it makes of them is in `draws.py`. Same seed, same
calls, same numbers as PyTorch 2.13; `get_state` returns PyTorch's 5,056 bytes, so that states can be carried from one to the other.

    >>> stream = Mt19937Stream(0)
    >>> stream.uniform(2).tolist()
    [0.49625658988952637, 0.7682217955589294]
    >>> stream.manual_seed(0).randperm(5).tolist()
    [4, 0, 1, 3, 2]

Counts of elements are flat: shapes belong to the rooms above. Every draw holds the stream's lock.
"""

from __future__ import annotations

import os
import threading
import weakref
from ctypes import addressof, c_char, c_double, c_int64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compile.cpu import twister_ir as layout
from ..compile.cpu.twister import draw
from ..compile.cpu.twister_ir import WORDS
from .draws import Draws, address_of
from .seeds import Seeds
from .value import Value

DEFAULT_SEED = 67280421310721
STATE_BYTES = 5056

# PyTorch keeps each 32-bit word of the twister in a 64-bit slot; the last slots are the cached normals.
_STATE = np.dtype(
    {
        "names": ["seed", "left", "seeded", "next", "words", "normal", "has_normal"],
        "formats": ["<u8", "<i4", "<i4", "<u8", ("<u8", WORDS), "<f8", "<i4"],
        "offsets": [0, 8, 12, 16, 24, 24 + 8 * WORDS + 8, 24 + 8 * WORDS + 24],
        "itemsize": STATE_BYTES,
    }
)
_LONG = 20_000  # elements: from here on others may have the GIL meanwhile
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


class Mt19937Stream(Draws):
    """A seeded stream of random numbers with PyTorch's CPU generator's algorithm and state.

    Args:
        seed: any integer in [-2**63, 2**64); negative ones wrap around.
    """

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._lock = threading.RLock()
        _streams.add(self)
        self._memory = (c_char * layout.STATE_BYTES)()
        at = self._at = addressof(self._memory)
        self._position, self._untouched, self._has_normal = [
            c_int64.from_address(at + k) for k in (layout.POSITION, layout.UNTOUCHED, layout.HAS_NORMAL)]
        self._normal = c_double.from_address(at + layout.NORMAL)
        self.seeds = Seeds(lambda state, memory, n: draw("seeds")(state, memory, n), at, layout.STATE_BYTES)
        self._seeded = False
        self.manual_seed(seed)

    # -- state ---------------------------------------------------------------------------------------------------

    def manual_seed(self, seed: int) -> Mt19937Stream:
        """Start over from `seed`; returns self. ValueError outside [-2**63, 2**64)."""
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"Overflow when unpacking long long: seed {seed} is outside [-2**63, 2**64)")
        with self._lock:
            self.seeds.settle()
            self._seed = seed % (1 << 64)
            # The words follow when they are asked for: a program's imports make streams that nobody draws from.
            self._seeded = False
        return self

    def _start(self) -> None:
        draw("seed")(self._at, 0, self._seed & 0xFFFFFFFF)
        self._seeded = True

    def seed(self) -> int:
        """Start over from a seed that the operating system makes up; returns it."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed that the stream was last started from."""
        return self._seed

    def _words(self) -> NDArray[np.uint32]:
        return np.frombuffer(memoryview(self._memory), np.uint32, WORDS)

    def get_state(self) -> NDArray[np.uint8]:
        """The whole state as PyTorch lays it out: 5,056 bytes, uint8."""
        state = np.zeros(1, _STATE)
        with self._lock:
            if not self._seeded:
                self._start()
            self.seeds.settle()
            position = self._position.value
            state["seed"] = self._seed
            state["left"] = WORDS + 1 - position
            state["seeded"] = 1
            # Nothing drawn since seeding: PyTorch counts such a state apart from a used-up one.
            state["next"] = 0 if self._untouched.value else position
            state["words"] = self._words()
            if self._has_normal.value:
                state["normal"], state["has_normal"] = self._normal.value, 1
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
        if fields["seeded"] != 1 or not (fresh or (1 <= left <= WORDS and left + following == WORDS + 1)):
            raise RuntimeError(f"Invalid mt19937 state: seeded={fields['seeded']}, left={left}, next={following}")
        if (words >> np.uint64(32)).any():
            raise RuntimeError("Invalid mt19937 state: a word is wider than 32 bits")
        with self._lock:
            self.seeds.settle()
            self._seed = int(fields["seed"])
            self._words()[:] = words
            self._position.value, self._untouched.value = WORDS if fresh else following, fresh
            self._has_normal.value, self._normal.value = bool(fields["has_normal"]), float(fields["normal"])
            self._seeded = True

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

    def fill(self, name: str, address: int, n: int, *numbers: float) -> int:
        """Fill memory with `n` draws of a native function (`compile/cpu/twister_ir.py`); returns what it returns."""
        with self._lock:
            if not self._seeded:
                self._start()
            if self.seeds.run:
                self.seeds.settle()
            return draw(name, n < _LONG)(self._at, address, n, *numbers)

    def raw32(self, n: int) -> NDArray[np.uint64]:
        """`n` draws of 32 random bits, as uint64."""
        made = np.empty(n, np.uint32)
        self.fill("raw", address_of(made), n)
        return made.astype(np.uint64)

    def raw64(self, n: int) -> NDArray[np.uint64]:
        """`n` draws of 64 random bits, each from two of 32, the high half first."""
        made = np.empty(n, np.uint64)
        self.fill("raw_wide", address_of(made), n)
        return made

    def seed_value(self) -> Value:
        """63 random bits from two draws, the low half first, as an int64 scalar; every dropout asks (``seeds.py``)."""
        with self._lock:
            if not self._seeded:
                self._start()
            return self.seeds.next()


default_stream = Mt19937Stream()
