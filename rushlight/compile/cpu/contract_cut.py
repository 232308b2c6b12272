"""How a contraction is cut into parts: rows and panels of one part, pieces of the reduction. Decided by sizes alone."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from rushlight.compile.cpu.contract_roles import CHUNK
from rushlight.compile.cpu.contract_rows import MAX_ROWS
from rushlight.compile.cpu.microkernel import ROW_CYCLES, TILE_CYCLES
from rushlight.compile.sizes import numeric

__all__ = ["LONGEST", "TURNED_AT_ONCE", "cut", "even_rows"]

#: Longest reduction in one go.
LONGEST = 4096
#: ... where blocks of A are turned.
TURNED_AT_ONCE = CHUNK
#: Threads that a cut is to be good for. What is computed never depends on how many there are.
THREADS = (1, 2, 4)


@numeric
def cut(extents: tuple[Any, ...], wanted: int) -> tuple[int, int, int]:
    """(rows of a part, panels of a part, pieces of the reduction); ``extents``: a :class:`Cut`'s fields, ``wanted``: parts."""
    return Cut(*extents).blocks(wanted)


class Cut(NamedTuple):
    """``heights`` of tiles, the tallest first, ``panel`` columns of ``item`` bytes in a panel, ``fits`` bytes in a share of the cache,
    ``longest`` reduction in one go, ``turned`` rows of A turned at a time."""

    rows: int
    panels: int
    columns: int
    depth: int
    batches: int
    heights: tuple[int, ...]
    panel: int
    item: int
    fits: int
    longest: int
    turned: int
    dots: bool

    def blocks(self, wanted: int) -> tuple[int, int, int]:
        """Rows and panels of one part, and into how many pieces the reduction is split."""
        item, tall, fits = self.item, self.heights[0], self.fits
        # A split costs another M x N numbers to write and add up: less than a twentieth of the work for this many.
        most_splits = max(1, self.depth // (2 * CHUNK))
        if self.turned:
            return self._turned_blocks(wanted)
        if self.dots:
            return self.rows, -(-self.panels // min(self.panels, max(1, wanted // self.batches))), 1
        if self.depth > self.longest or most_splits > 1 and self.batches * -(-self.rows // tall) * self.panels < wanted:
            # Parts are pieces of the reduction, as long as one part's sums fit into the cache: each then reads
            # its piece of A and B once.
            block_n = max(1, min(self.panels, fits // (4 * tall * self.panel * item)))
            block_m = min(MAX_ROWS, max(tall, fits // (block_n * self.panel * item)))
            parts = self.batches * -(-self.rows // block_m) * -(-self.panels // block_n)
            splits = max(1, min(most_splits, -(-wanted // parts)))
            if parts * splits < wanted:
                block_m = -(-self.rows // min(-(-self.rows // tall), -(-wanted // (parts * splits))))
            return self._even(block_m, -(-self.panels // block_n)), block_n, splits
        most = min(MAX_ROWS, max(tall, fits // (max(1, self.depth) * item)))
        fewest_m = -(-self.rows // most)
        best: tuple[tuple[int, int], int, int] | None = None
        for block_n in sorted({-(-self.panels // p) for p in range(1, min(self.panels, wanted) + 1)}):
            parts_n = -(-self.panels // block_n)
            parts_m = max(fewest_m, -(-wanted // (self.batches * parts_n)))
            parts_m = max(fewest_m, min(parts_m, -(-self.rows // tall)))
            parts = min(parts_m * parts_n * self.batches, wanted)
            traffic = parts_m * self.columns + parts_n * self.rows
            if best is None or (-parts, traffic) < best[0]:
                best = (-parts, traffic), -(-self.rows // parts_m), block_n
        assert best is not None
        return self._even(best[1], -(-self.panels // best[2])), best[2], 1

    def _turned_blocks(self, wanted: int) -> tuple[int, int, int]:
        """As ``blocks``: all panels use a turned block if there are parts enough without cutting there.

        With a long reduction a part is a piece of it: what it reads of A and B stays in the cache for all its rows."""
        tall, deep = self.heights[0], self.depth > TURNED_AT_ONCE
        splits = max(1, min(self.depth // (2 * CHUNK), -(-wanted // self.batches))) if deep else 1
        parts_m = -(-self.rows // MAX_ROWS)
        # Rows enough to use a panel that comes from memory, panels enough to use the turned block.
        tiles, panels = (8, 6) if deep else (4, 4)
        parts_m = max(parts_m, min(-(-self.rows // (tiles * tall)), -(-wanted // (self.batches * splits))))
        parts_n = max(1, min(self.panels // panels, -(-wanted // (self.batches * splits * parts_m))))
        return self._even(-(-self.rows // parts_m), parts_n), -(-self.panels // parts_n), splits

    def _even(self, about: int, parts_n: int) -> int:
        return even_rows(self.rows, about, parts_n, self.heights)


@functools.lru_cache(maxsize=4096)
def even_rows(rows: int, about: int, parts_n: int, heights: tuple[int, ...]) -> int:
    """Rows of a block: ``about`` as many as given, for tiles of ``heights``; each block makes ``parts_n`` parts.

    Blocks of whole tiles use the micro-kernel best, but may leave a small rest for the last block, and one thread with a block
    more than the others. Between such choices an estimate of the cycles decides.
    """
    blocks = -(-rows // about)
    even, tall = -(-rows // blocks), heights[0]
    if even <= tall:
        return even
    choices: dict[int, None] = {}
    for count in range(blocks, blocks + blocks // 8 + 2):
        least = -(-rows // count)
        for whole in (1, *heights[:-1]):
            choices[min(-(-least // whole) * whole, MAX_ROWS)] = None
    return min(choices, key=lambda block: _time(rows, block, parts_n, heights))


def _time(rows: int, block: int, parts_n: int, heights: tuple[int, ...]) -> float:
    """Cycles for one position of the reduction and a panel, of all threads together, idle or not."""
    whole, rest = divmod(rows, block)
    full, total = whole * parts_n, (whole + (rest > 0)) * parts_n
    each, last = _tiles(block, heights), _tiles(rest, heights)
    time = 0.0
    for threads in THREADS:
        longest = 0.0
        for i in range(threads):
            start, end = total * i // threads, total * (i + 1) // threads
            inside = min(end, full) - min(start, full)
            longest = max(longest, inside * each + (end - start - inside) * last)
        time += threads * longest
    return time


def _tiles(rows: int, heights: tuple[int, ...]) -> float:
    cycles = 0.0
    for height in heights:
        cycles += rows // height * (TILE_CYCLES + ROW_CYCLES * height)
        rows %= height
    return cycles
