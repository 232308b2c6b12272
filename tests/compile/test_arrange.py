"""Which axis of a body lies along vectors."""
from __future__ import annotations

from rushlight.compile import dtypes as dt
from rushlight.compile.arrange import arrange
from rushlight.compile.body import Body, Put, Value
from rushlight.compile.expr import input_
from rushlight.compile.index import Ix

IMAGES, CHANNELS, SIDE = 32, 128, 28


def padded(loads: int) -> Body:
    """Images, channels first, with a border around them, to channels last; the same place is loaded so many times."""
    wide = SIDE + 2
    conds = tuple((Ix(-1, ((a, 1),)), 0, SIDE) for a in (2, 3))
    read = Ix(-1 - SIDE, ((0, CHANNELS * SIDE * SIDE), (1, SIDE * SIDE), (2, SIDE), (3, 1)))
    written = Ix(0, ((0, wide * wide * CHANNELS), (1, 1), (2, wide * CHANNELS), (3, CHANNELS)))
    values = [Value("load", dt.float32, read, 0, conds) for _ in range(loads)]
    return Body({0: IMAGES, 1: CHANNELS, 2: wide, 3: wide}, [0, 1, 2, 3], [], values,
                [Put(1, written, input_(loads - 1, dt.float32))], [], {})


def test_a_place_that_is_loaded_twice_counts_once():
    """The border of a convolution's input was written channel by channel, a line of the cache for each number."""
    assert [arrange(padded(n), frozenset()).vector for n in (1, 2, 3)] == [1, 1, 1]
