"""How a contraction is cut into parts: rows and panels of one part, pieces of the reduction. Decided by sizes alone."""

from __future__ import annotations

import functools
from typing import NamedTuple

from rushlight.compile.cpu.contract_rows import MAX_ROWS
from rushlight.compile.cpu.contract_sizes import CHUNK
from rushlight.compile.cpu.microkernel import ROW_CYCLES, TILE_CYCLES
from rushlight.compile.sizes import numeric

__all__ = ["LONGEST", "TURNED_AT_ONCE", "cut", "even_blocks", "even_rows", "panels_of_a_part"]

#: Longest reduction in one go.
LONGEST = 4096
#: ... where blocks of A are turned.
TURNED_AT_ONCE = CHUNK
#: Into how many pieces a reduction is split, at most, where blocks of A are turned.
MOST_SPLITS = 8
#: Cycles, as in ``microkernel.py``, for one position of the reduction: of a tile that is turned (where its rows come from a slow cache:
#: measured on Emerald Rapids), of a vector of B that comes from memory, and the same where caches are slow.
TURN_CYCLES, FAR_TURN_CYCLES, NEAR_CYCLES, FAR_CYCLES = 7.0, 18.0, 0.75, 2.0
#: Cycles for a vector of sums, written and read again; for waiting until all are written.
SUM_CYCLES, JOIN_CYCLES = 15.0, 20_000.0
#: The part of a part that a thread waits for another, on average.
UNEVEN = 0.1
#: Threads that a cut is to be good for. What is computed never depends on how many there are.
THREADS = (1, 2, 4)


@numeric
def cut(wanted: int, rows: int, panels: int, columns: int, depth: int, batches: int, panel: int, item: int, cache: int, longest: int,
        turned: int, dots: bool, vectors: int, far: bool, slow: bool, *heights: int) -> tuple[int, int, int]:  # fmt: skip
    """(rows of a part, panels of a part, pieces of the reduction); ``wanted``: parts, the others: a :class:`Cut`'s fields."""
    sizes = rows, panels, columns, depth, batches
    return _blocks(Cut(*sizes, heights, panel, item, cache, longest, turned, dots, vectors, far, slow), wanted)


@functools.lru_cache(maxsize=4096)
def _blocks(cut: Cut, wanted: int) -> tuple[int, int, int]:
    return cut.blocks(wanted)


class Cut(NamedTuple):
    """``heights`` of tiles, the tallest first, ``panel`` columns of ``item`` bytes in a panel, ``fits`` bytes in a share of the cache,
    ``longest`` reduction in one go, ``turned`` rows of A turned at a time, ``vectors`` in a panel, ``far``: B comes from
    a slow cache, ``slow``: so do rows that are turned."""

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
    vectors: int
    far: bool
    slow: bool

    def blocks(self, wanted: int) -> tuple[int, int, int]:
        """Rows and panels of one part, and into how many pieces the reduction is split."""
        item, tall, fits = self.item, self.heights[0], self.fits
        # A split costs another M x N numbers to write and add up: less than a twentieth of the work for this many.
        most_splits = max(1, self.depth // (2 * CHUNK))
        if self.turned:
            return self._turned_chunks(wanted) if self.depth > TURNED_AT_ONCE else self._turned_blocks(wanted)
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
            stays = self.far and block_n * self.panel * self.depth * item <= 2 * fits
            traffic = (1 if stays else parts_m) * self.columns + parts_n * self.rows
            if best is None or (-parts, traffic) < best[0]:
                best = (-parts, traffic), -(-self.rows // parts_m), block_n
        assert best is not None
        return self._even(best[1], -(-self.panels // best[2])), best[2], 1

    def _turned_blocks(self, wanted: int) -> tuple[int, int, int]:
        """As ``blocks``: all panels use a turned block if there are parts enough without cutting there."""
        parts_m = max(-(-self.rows // MAX_ROWS), min(-(-self.rows // (4 * self.heights[0])), -(-wanted // self.batches)))
        parts_n = max(1, min(self.panels // 4, -(-wanted // (self.batches * parts_m))))
        return self._even(-(-self.rows // parts_m), parts_n), -(-self.panels // parts_n), 1

    def _turned_chunks(self, wanted: int) -> tuple[int, int, int]:
        """As ``blocks``, for a reduction in chunks, by an estimate of the cycles of all threads together, idle or not."""
        tall = self.heights[0]
        fewest_m, most_m = -(-self.rows // (MAX_ROWS // tall * tall)), -(-self.rows // tall)
        best: tuple[float, int, int, int] | None = None
        chunks = -(-self.depth // CHUNK)
        for each in sorted({-(-chunks // n) for n in range(1, max(1, min(self.depth // (2 * CHUNK), MOST_SPLITS)) + 1)}, reverse=True):
            splits = -(-chunks // each)
            for parts_m in range(fewest_m, max(fewest_m, min(most_m, wanted // splits)) + 1):
                block_m = min(self.rows, -(-self.rows // (parts_m * tall)) * tall)
                for parts_n in range(1, max(1, min(self.panels, wanted // (splits * parts_m))) + 1):
                    block_n = -(-self.panels // parts_n)
                    time = self._turned_time(block_m, block_n, splits)
                    if best is None or time < best[0]:
                        best = time, block_m, block_n, splits
        assert best is not None
        return best[1:]

    def _turned_time(self, block_m: int, block_n: int, splits: int) -> float:
        """A part turns its rows for each chunk of the reduction, and reads each panel of B from memory once. Splits are written and read
        once more, and threads wait for each other before that."""
        panel, turn = self.vectors * (FAR_CYCLES if self.far else NEAR_CYCLES), FAR_TURN_CYCLES if self.slow else TURN_CYCLES

        def part(rows: int, panels: int) -> float:
            tiles = -(-rows // self.heights[0])
            return self.depth / splits * (turn * tiles + panels * (panel + _tiles(rows, self.heights, self.vectors)))

        parts_m, parts_n = -(-self.rows // block_m), -(-self.panels // block_n)
        parts, full = self.batches * splits * parts_m * parts_n, part(block_m, block_n)
        last_m, last_n = self.rows - (parts_m - 1) * block_m, self.panels - (parts_n - 1) * block_n
        total = self.batches * splits * ((parts_m - 1) * ((parts_n - 1) * full + part(block_m, last_n))
                                         + (parts_n - 1) * part(last_m, block_n) + part(last_m, last_n))  # fmt: skip
        adding = self.batches * self.rows * self.panels * self.vectors * SUM_CYCLES * (splits + 1) + JOIN_CYCLES if splits > 1 else 0.0
        return sum(max(total, threads * full * -(-parts // threads)) + threads * full * UNEVEN + adding for threads in THREADS)

    def _even(self, about: int, parts_n: int) -> int:
        return even_rows(self.rows, about, parts_n, self.heights, self.vectors)


@numeric
def panels_of_a_part(panels: int, batches: int, wanted: int) -> int:
    """Where a part has all rows."""
    return -(-panels // min(panels, max(1, -(-wanted // batches))))


@numeric
def even_blocks(rows: int, most: int, tall: int) -> int:
    """Rows of as many blocks as there must be if one has ``most`` rows; whole tiles."""
    return min(rows, -(-rows // (-(-rows // most) * tall)) * tall)


@functools.lru_cache(maxsize=4096)
def even_rows(rows: int, about: int, parts_n: int, heights: tuple[int, ...], vectors: int = 2) -> int:
    """Rows of a block: ``about`` as many as given, for tiles of ``heights`` and ``vectors``; each block makes ``parts_n`` parts.

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
    return min(choices, key=lambda block: _time(rows, block, parts_n, heights, vectors))


def _time(rows: int, block: int, parts_n: int, heights: tuple[int, ...], vectors: int) -> float:
    """Cycles for one position of the reduction and a panel, of all threads together, idle or not."""
    whole, rest = divmod(rows, block)
    full, total = whole * parts_n, (whole + (rest > 0)) * parts_n
    each, last = _tiles(block, heights, vectors), _tiles(rest, heights, vectors)
    time = 0.0
    for threads in THREADS:
        longest, start = 0.0, 0
        for i in range(1, threads + 1):
            end = total * i // threads
            if end <= full:
                share = (end - start) * each
            elif start >= full:
                share = (end - start) * last
            else:
                share = (full - start) * each + (end - full) * last
            if share > longest:
                longest = share
            start = end
        time += threads * longest
    return time


@functools.lru_cache(maxsize=4096)
def _tiles(rows: int, heights: tuple[int, ...], vectors: int) -> float:
    cycles, row = 0.0, ROW_CYCLES * vectors / 2
    for height in heights:
        cycles += rows // height * (TILE_CYCLES + row * height)
        rows %= height
    return cycles
