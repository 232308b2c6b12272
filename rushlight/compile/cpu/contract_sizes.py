"""What planning a contraction decides from sizes alone: questions and estimates, each a condition by its answer (``compile/sizes.py``).

How an answer comes about is no condition, so a plan holds for all sizes for which the answers are the same.
"""

from __future__ import annotations

import math

from rushlight.compile.cpu.contract_block import LINE
from rushlight.compile.cpu.contract_rows import MAX_ROWS
from rushlight.compile.sizes import choice, decision, numeric

__all__ = ["CHUNK", "FEW_ROWS", "cycles", "dot_vectors", "is_across", "is_beyond", "is_by_dots", "is_copied", "is_deep", "is_far",
           "is_in_chunks", "is_lifted", "is_near", "is_read_once", "is_tall", "is_turned", "is_wide", "masked_panels", "panel_vectors",
           "parts_wanted", "places", "scattering", "stays"]  # fmt: skip

#: Up to so many rows, dot products are faster than packing B.
FEW_ROWS = 16
#: Elements of B from which on packing waits for memory: overlapping windows, packed, are many times their tensor.
PACKED_IN_CACHE = 4 << 20
#: Positions of the reduction between visits of the partial sums.
CHUNK = 256
#: A part should keep a core busy for some twenty microseconds, and there should be enough to balance two threads.
PART_FLOPS = 4_000_000
PART_BYTES = 512 << 10  # or this much to read: half a cache, some twenty microseconds from memory
#: ... with few rows, where a product is the reading of a matrix: one core alone does not get what the caches can give.
FEW_ROWS_BYTES = 64 << 10
MOST_PARTS = 32
#: Bytes from one position of B to the next from which on its lines share few places of the second-level cache.
FAR = 1024
#: Tiles of rows from which on packing pays even if all of B stays in the second-level cache: by a tenth at twice as many (Granite Rapids).
ROWS_TO_PACK = 24
#: Fewest vectors of B's columns for which turning pays, and copying.
FEWEST_TURNED, FEWEST_COPIED = 8, 12
#: How many times as long products take whose A is read in place, its rows side by side and its positions :data:`FAR` apart or farther.
IN_PLACE = 2.5
#: Fewest rows for wide tiles, and for those that read rows side by side in place (3x3 convolutions: nine for each channel).
FEWEST_WIDE, FEWEST_NEAR = 96, 512


@numeric
def cycles(rows: int, columns: int, depth: int, extent: int, packing: float, storing: float, dots: bool, across: int, lanes: int,
           rate: int) -> float:  # fmt: skip
    """About how long a contraction takes with vectors along an axis of this extent.

    ``packing``, ``storing``: cycles for an element; ``dots``: dot products are possible; ``across``: 0, or where A's rows lie side by side
    the bytes from one position of the reduction to the next: then blocks of A are turned, if vectors enough use them, and partial sums
    go to memory after each; ``rate``: see ``Roles``."""
    if dots and rows <= FEW_ROWS:
        filled, packing = 1.3, 0.0
    else:
        filled = _filled(extent, lanes)
        packing = max(packing, 1.0) if columns * depth > PACKED_IN_CACHE else packing
        filled *= IN_PLACE if across >= FAR and columns < FEWEST_TURNED * lanes else 1.0
    partial = 1.4 * (depth // CHUNK) if across else 0.0
    return columns * (rows * (depth * filled / (2 * lanes * rate) + storing + partial) + depth * packing)


def _filled(extent: int, lanes: int) -> float:
    """Lanes over those in use. Panels of one vector need a load for each multiply-add."""
    width = lanes if extent <= lanes else 2 * lanes
    return -(-extent // width) * width / max(1, extent) * (1.4 if width == lanes else 1.0)


@numeric
def scattering(stride: int, lines: int, l1d: int, ways: int) -> float:
    """Cycles for an element of the result where those of a vector lie apart: many where the lines that the rows of a tile meet in,
    one after the other, push each other out of the first-level cache (measured: 5 for 2 places, 18 for one)."""
    return 2.5 if lines <= places(stride, l1d, ways) * (ways - 1) else 10.0


def places(stride: int, l1d: int, ways: int) -> int:
    """How many sets of the first-level cache the lines at multiples of a stride fall into."""
    way = l1d // ways
    return way // max(LINE, math.gcd(way, stride))


@decision
def is_by_dots(rows: int) -> bool:
    return rows <= FEW_ROWS


@choice
def dot_vectors(columns: int, lanes: int) -> int:
    """Vectors in a panel of dot products: wide ones, since what goes on around one takes as long as some kilobytes of B. But enough of
    them to share among threads."""
    return 1 if columns <= lanes else next((v for v in (8, 4) if columns >= 8 * v * lanes), 2)


@choice
def panel_vectors(rows: int, columns: int, lanes: int, registers: int, wide: bool) -> int:
    """Vectors in a panel: more with few rows, which makes as many sums, and longer pieces of B's rows; more also where tiles are to be
    ``wide``: one of 6 rows of 4 vectors has as many sums as one of 12 rows of 2, and loads 10 operands for them instead of 14."""
    if rows <= 2:
        wider = 8 if registers >= 32 else 4
    else:
        wider = 4 if registers >= 32 and (rows <= 6 or wide) else 2
    fewest = 2 * lanes + 1 if wide and wider == 4 else wider * lanes
    return wider if columns >= fewest else 1 if columns <= lanes else 2


@decision
def is_across(step: int) -> bool:
    """Whether vectors so many bytes apart lie across lines."""
    return step % LINE != 0


@decision
def is_wide(rows: int) -> bool:
    """Whether rows are many enough for wide tiles: with fewer, B is asked for ahead, in panels of two vectors."""
    return rows >= FEWEST_WIDE


@numeric
def parts_wanted(flops: int, read: int, rows: int) -> int:
    each = FEW_ROWS_BYTES if rows <= FEW_ROWS else PART_BYTES
    return min(MOST_PARTS, max(1, flops // PART_FLOPS, read // each))


@decision
def is_turned(panels: int, vectors: int, rows: int, tall: int) -> bool:
    """Whether there are panels enough to use a turned copy of A, and rows to turn."""
    return panels * vectors >= FEWEST_TURNED and rows >= 2 * tall


@decision
def is_near(rows: int, columns: int, step: int, lanes: int) -> bool:
    """Whether A, whose rows lie side by side, is read in place by wide tiles: where a panel or two have all columns, so that each number is
    read once or twice, positions of the reduction are near each other, and there are rows enough to use a panel often."""
    return rows >= FEWEST_NEAR and columns % (4 * lanes) == 0 and columns <= 8 * lanes and step < FAR


@decision
def is_beyond(columns: int, depth: int, item: int, l2: int) -> bool:
    """Whether B is more than the second-level cache holds: then parts that follow each other have the same panels of it."""
    return columns * depth * item > l2


@decision
def is_lifted(block_rows: int, tall: int, stride: int, l1d: int, ways: int) -> bool:
    """Whether panels of B are copied for each block of A's rows: where the lines of a panel share one place of the first-level cache, if
    tiles enough use the copy. (With two places, or vectors that lie across lines, the copy costs more than it saves.)"""
    return block_rows >= 8 * tall and places(stride, l1d, ways) == 1


@decision
def is_copied(panels: int, vectors: int, rows: int, tall: int) -> bool:
    return panels * vectors >= FEWEST_COPIED and rows >= tall


@decision
def is_far(rows: int, tall: int, depth: int, stride: int, l2: int) -> bool:
    """Whether several tiles read B from page to page, and it is more than the second-level cache holds."""
    return depth > CHUNK and tall < rows < 8 * tall and stride >= FAR and stride * depth > l2 // 2


@decision
def is_read_once(rows: int, depth: int, stride: int, l1d: int, ways: int, l2: int) -> bool:
    """Whether narrow tiles that ask ahead for B where it lies are faster than packing it, where it comes from a slow cache: rows are too
    few to use the packed form often. Not if its vectors lie across lines, or its lines share one place of the first-level cache."""
    return FEWEST_WIDE <= rows <= MAX_ROWS and stride % LINE == 0 and places(stride, l1d, ways) > 1 and stride * depth > l2 // 2


@decision
def is_deep(depth: int) -> bool:
    """Whether such a product goes chunk by chunk."""
    return depth > 2 * CHUNK


@decision
def is_tall(rows: int, depth: int) -> bool:
    """Likewise one whose tiles read a line of each position: where these are more than the first-level cache has. (From a threshold on
    that ordinary batches do not pass, since each of their gradients would have other kernels then.)"""
    return depth > (2 if rows >= FEWEST_NEAR else 4) * CHUNK


@decision
def is_in_chunks(splits: int, depth: int, longest: int) -> bool:
    return splits > 1 or depth > longest


@decision
def stays(rows: int, tall: int, depth: int, stride: int, columns: int, panel: int, lanes: int, vectors: int, item: int, chunked: bool,
          l2: int, full_loads: int) -> bool:  # fmt: skip
    """Whether B is read in place where that is possible: for few rows, or where its steps of ``stride`` bytes are short."""
    scarce = full_loads == 1
    worth, width = (tall, panel) if scarce else (max(tall, tall * vectors // 2), min(panel, 2 * lanes))  # as of tiles of two vectors
    if rows < 8 * worth:
        return True
    # A load across two lines counts as two, and most loads of a wide tile are of B. In place, a panel's lines share the places of the
    # second-level cache that all of B has: beyond it, they come from the third for every tile.
    across = stride % LINE and (scarce or rows >= ROWS_TO_PACK * worth)
    if (scarce or vectors > 2) and (across or not chunked and stride * depth > 5 * l2 // 8):
        return False
    # They share few places of the first level, too; a chunk of it fits there all the same.
    masked = _masked(columns, panel, lanes, vectors) == 2
    if 0 <= stride <= width * item * (4 if masked else 64 if chunked else 8):
        return True
    # A small B is read from the second-level cache all the same, if not so often that packing it is nothing.
    return not masked and 0 <= stride * depth <= l2 // 2 and rows < ROWS_TO_PACK * worth


def masked_panels(columns: int, panel: int, lanes: int, vectors: int) -> str:
    """Which panels of B have loads under a mask, which cost up to a tenth, where it is read in place."""
    return ("", "rest", "all")[choice(_masked)(columns, panel, lanes, vectors)]


def _masked(columns: int, panel: int, lanes: int, vectors: int) -> int:
    rest = columns % panel
    return 0 if rest == 0 else 1 if vectors <= 4 and rest <= (vectors - 1) * lanes else 2
