"""What a tile asks for while its products are made: a list of addresses, one for each position of the reduction (``microkernel.py``).

Asked for all at once, the lines of a tile's outputs keep the first-level cache from anything else until most of them have come: it waits
for some sixteen lines at a time. So they are asked for one by one, and in a part's first panel, which reads A from memory or from the
third level, then those of the next tile's rows. Later panels find A in the second level.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.contract_block import LINE
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.microkernel import splat
from rushlight.compile.cpu.product_sums import STRETCH

__all__ = ["Asked"]

#: Addresses of a list: the micro-kernel goes through it once, in its first stretch.
_ENTRIES = STRETCH + 8
#: Lines that are written down together.
_TOGETHER = 8


@dataclass(frozen=True)
class Asked:
    """Two lists on a thread's stack: of tiles in a part's first panel, and of others. What is left of a list is its own address: a line
    that is there."""

    lists: str

    @classmethod
    def begin(cls, f: Function) -> Asked:
        lists = f.slot(f"[{2 * _ENTRIES} x i64]", align=LINE)
        with f.loop(0, str(2 * _ENTRIES)) as i:
            f.set(f.at(lists, i), f.let(f"ptrtoint ptr {lists} to i64"))
        return cls(lists)

    def list_of(self, f: Function, first: str) -> str:
        """Where the addresses of a tile are; ``first`` (i1): it is in the first panel."""
        return f.let(f"select i1 {first}, ptr {self.lists}, ptr {f.at(self.lists, _ENTRIES)}")

    @staticmethod
    def fits(lines: int) -> bool:
        """Whether a tile's outputs may have so many lines."""
        return lines + _TOGETHER <= STRETCH

    @staticmethod
    def lines(f: Function, end: str, start: str, count: int) -> None:
        """``count`` neighbouring lines from the address ``start`` on; ``end``: slot with the place in the list that comes next."""
        here = f.get(end, "ptr")
        numbers = ", ".join(f"i64 {LINE * i}" for i in range(count))
        first = splat(f, start, "i64", count)
        f.do(f"store <{count} x i64> {f.let(f'add <{count} x i64> {first}, <{numbers}>')}, ptr {here}, align 8")
        f.set(end, f.at(here, count), "ptr")

    @staticmethod
    def rows(f: Function, end: str, used: str, rows: str, count: str, offset: str, nbytes: str) -> None:
        """The lines of ``count`` rows, ``nbytes`` of each from ``offset`` on, as far as there is room behind the ``used`` addresses."""
        each = f.add(f.div(nbytes, LINE * _TOGETHER), 1)
        room = f.div(f.sub(str(STRETCH), used), f.mul(each, _TOGETHER))
        with f.loop(0, f.minimum(count, room)) as r:
            start = f.add(f.load(rows, r), offset)
            with f.loop(0, each) as i:
                Asked.lines(f, end, f.add(start, f.mul(i, LINE * _TOGETHER)), _TOGETHER)
