"""Numbers that dropout masks are computed from: each is one draw of a stream, and many are drawn in advance.

A step of training asks for a few at a time, many times over. Asking the native generator takes longer than all the rest of recording a
dropout, so it is asked once for many, and they are handed out from a list. The stream itself stands where the first of them was
drawn. Before anybody else draws from it, or looks at its state, it moves on by those that were handed out, and the others are
forgotten: what is drawn, and in which order, is as if each number had been drawn when it was asked for.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from ctypes import addressof, c_char, memmove
from sys import getrefcount
from typing import Any

from ..compile.cpu.flight import in_flight
from ..compile.dtypes import int64
from .meta import meta_of
from .value import Buffer, Value, allocate, block_at, new_value

__all__ = ["Seeds"]

FEW, MOST = 4, 128  # numbers in a row from which on more are drawn in advance, and how many at most
KEPT = 16           # times as many, at most, whose objects serve again
_SEED = meta_of((), int64)


class Seeds:
    """63 bits each, from two words of a stream, the low half first; each a value that is to enter a trace once.

    Args:
        draw: ``(state, memory, n)``: draws ``n`` of them from the generator's state at an address.
        state, nbytes: where that state is, and how long.

    Attributes:
        pop: takes the next one of those that were drawn in advance. It needs no lock. IndexError: there is none.
        run: how many have been asked for, or drawn in advance, since ``settle``, which has nothing to do where this is 0.

    The methods want the stream's lock.
    """

    __slots__ = ("pop", "run", "_ahead", "_draw", "_state", "_copy", "_drawn", "_usual", "_kept", "_memory")

    def __init__(self, draw: Callable[[int, int, int], Any], state: int, nbytes: int) -> None:
        self._ahead: list[Value] = []  # the next one is at the end
        self.pop = self._ahead.pop
        self._draw, self._state = draw, state
        self._copy = (c_char * nbytes)()
        self._drawn = 0  # how many the list had at first
        self.run = 0
        self._usual = 0  # how many were asked for in a row the last time
        self._kept: deque[list[Value]] = deque()  # the oldest first
        self._memory: Buffer | None = None

    def next(self) -> Value:
        """One more, when there are none in advance."""
        try:
            return self.pop()  # another thread has seen to it, while this one waited for the lock
        except IndexError:
            self._catch_up()
        run = max(self.run, self._usual)
        self.run += 1
        if run < FEW:
            return self._values(1, self._state)[0]
        self._drawn = min(run, MOST)
        memmove(self._copy, self._state, len(self._copy))
        first, *others = self._values(self._drawn, addressof(self._copy))
        self._ahead += reversed(others)
        self.run += self._drawn - 1
        return first

    def _values(self, count: int, state: int) -> list[Value]:
        values = self._former()[:count] if count > 1 else _over(allocate(8), 1)
        self._draw(state, values[0].buffer.ptr, count)  # type: ignore[union-attr]
        return values

    def _former(self) -> list[Value]:
        """``MOST`` values of former numbers, if nobody refers to any of them, and no program reads their memory: making new ones takes
        longer than all the rest. All lie in memory that is asked for once."""
        kept = self._kept
        if kept:
            values = kept[0]
            kept.rotate(-1)
            blocks: list[Any] = [v.buffer for v in values]
            if max(map(getrefcount, values)) == 2 and max(map(getrefcount, blocks)) == 3:  # the list, the argument; and the value
                if not in_flight or all(block.flight is None or block.flight.done for block in blocks):
                    return values
        if self._memory is None:
            self._memory = allocate(8 * MOST * KEPT)
        if len(kept) == KEPT:
            return _over(allocate(8 * MOST), MOST)
        kept.append(_over(self._memory, MOST, 8 * MOST * len(kept)))
        return kept[-1]

    def _catch_up(self) -> int:
        """The stream moves on by those that were handed out; returns how many are left, which are forgotten."""
        left = 0
        try:
            while True:
                self.pop(0)  # the one that would have been the last: another thread may take the next meanwhile
                left += 1
        except IndexError:
            pass
        count, self._drawn = self._drawn - left, 0
        if count:
            scratch = allocate(8 * count)
            self._draw(self._state, scratch.ptr, count)
        return left

    def settle(self) -> None:
        """Somebody else is going to use the stream."""
        self._usual = self.run - self._catch_up()
        self.run = 0


def _over(memory: Buffer, count: int, start: int = 0) -> list[Value]:
    """Values that lie in this memory one behind the other."""
    values = []
    for at in range(memory.ptr + start, memory.ptr + start + 8 * count, 8):
        v = new_value(_SEED)
        v.buffer = block_at(at, 8, memory)
        values.append(v)
    return values
