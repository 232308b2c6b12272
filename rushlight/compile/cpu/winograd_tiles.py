"""Where the tiles of Winograd's convolutions lie, and asking for them while products are made, as LLVM IR text.

What the transforms read and the results overwrite lies all over memory, a few lines in each place, and each would be waited for. The
products are long and leave time for loads, but a processor waits for few lines at a time. So a kernel lists the places that it comes to
next, and the products ask the second-level cache for them at an even pace.
"""

from __future__ import annotations

from rushlight.compile.cpu.irtext import Function

__all__ = ["LISTED", "TILE", "Pace", "list_tiles", "place", "share"]

TILE = 4

#: Bytes of each place in a list, and of a cache line.
LISTED, LINE = 256, 64
#: Units of the way from one place in a list to the next.
UNITS = 1024


def place(f: Function, tile: str, tiles_y: str, tiles_x: str) -> tuple[str, str, str]:
    """Image, first row and first column (of the results) of a tile."""
    across, rest = f.rem(tile, tiles_x), f.div(tile, tiles_x)
    return f.div(rest, tiles_y), f.mul(f.rem(rest, tiles_y), TILE), f.mul(across, TILE)


def list_tiles(f: Function, end: str, base: str, steps: tuple[str, str, str], tiles: tuple[str, str], sides: tuple[str, str], first: str,
               count: str, border: int = 0, times: str = "1") -> None:  # fmt: skip
    """Lists the 4×4 places of ``count`` tiles from ``first`` on, ``times`` of them side by side; ``end``: a slot with the end of the list.

    ``steps``: bytes along images, y and x. ``tiles``: down and across an image. ``sides``: its rows and columns, within the ``border``."""
    with f.loop(0, count) as t:
        image, y, x = place(f, f.add(first, t), *tiles)
        here = f.at(base, f.mul(image, steps[0]), "i8")
        ys, xs = ([f.add(f.minimum(f.add(start, i), f.sub(side, 1)), border) for i in range(TILE)]
                  for start, side in ((y, sides[0]), (x, sides[1])))  # fmt: skip
        rows, columns = [f.at(here, f.mul(i, steps[1]), "i8") for i in ys], [f.mul(j, steps[2]) for j in xs]
        with f.loop(0, times) as n:
            to, beside = f.get(end, "ptr"), f.mul(n, LISTED)
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    f.do(f"store ptr {f.at(f.at(row, column, 'i8'), beside, 'i8')}, ptr {f.at(to, TILE * i + j)}")
            f.set(end, f.at(to, TILE * TILE), "ptr")


def share(f: Function, begin: str, end: str, number: str, of: int) -> tuple[str, str]:
    """The ``number``-th of ``of`` nearly equal shares of a list: where it begins, and how many places it has."""
    first, last = (f.let(f"ptrtoint ptr {x} to i64") for x in (begin, end))
    places = f.div(f.sub(last, first), 8)
    start, until = f.div(f.mul(places, number), of), f.div(f.mul(places, f.add(number, 1)), of)
    return f.at(begin, start), f.sub(until, start)


class Pace:
    """Asks for the lines of ``count`` places in the list at ``places`` in so many ``steps``. There has to be a first place even if it
    is not asked for."""

    def __init__(self, f: Function, places: str, count: str, steps: str) -> None:
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.places, self.way = places, f.slot("i64", "0")
        self.step = f.minimum(f.div(f.mul(count, UNITS), steps), UNITS * LINE // LISTED)

    def ask(self, f: Function) -> None:
        """At each step."""
        way = f.get(self.way)
        at = f.load(self.places, f.div(way, UNITS), "ptr")
        line = f.let(f"and i64 {f.div(way, UNITS // LISTED)}, {LISTED - LINE}")
        f.do(f"call void @llvm.prefetch.p0(ptr {f.at(at, line, 'i8')}, i32 0, i32 2, i32 1)")
        f.set(self.way, f.add(way, self.step))
