"""Switches of the compiler: an environment variable and a context manager each.

| flag | variable | meaning |
| --- | --- | --- |
| debug | RUSHLIGHT_DEBUG | 1: a line per program built; 2: a line per instruction with its time; 4: the graph after each pass |
| simplify | RUSHLIGHT_SIMPLIFY | rewrite the graph before anything else |
| attend | RUSHLIGHT_ATTEND | attention that is written out as products and a softmax takes attention's kernels |
| assemble | RUSHLIGHT_ASSEMBLE | gradients of the parts of a value are written side by side, not added up |
| carry | RUSHLIGHT_CARRY | what a backward computes from a saved value alone, and half of it the forward, is stored instead of that |
| layout | RUSHLIGHT_LAYOUT | channels-last intermediates around convolutions |
| fuse_pointwise | RUSHLIGHT_FUSE_POINTWISE | pointwise nodes are computed where they are used |
| fuse_views | RUSHLIGHT_FUSE_VIEWS | views, pads and reshapes fold into the loads of their users |
| fuse_parts | RUSHLIGHT_FUSE_PARTS | values are computed straight into what they are a part of: padded, joined, interleaved |
| fuse_rows | RUSHLIGHT_FUSE_ROWS | reductions share a kernel with what is around them |
| fuse_siblings | RUSHLIGHT_FUSE_SIBLINGS | independent values over one domain that read the same data share a kernel |
| fuse_contract | RUSHLIGHT_FUSE_CONTRACT | pointwise users of a contraction run in its epilogue |
| fuse_sums | RUSHLIGHT_FUSE_SUMS | what a contraction's epilogue computes is added up over all rows there: statistics of batch norms |
| winograd | RUSHLIGHT_WINOGRAD | 3x3 convolutions of stride 1 with many channels take Winograd's algorithm |
| tiles | RUSHLIGHT_TILES | products of float32 take the tile unit for bfloat16, where the processor has one: three parts for each number |
| tables | RUSHLIGHT_TABLES | exponentials and logarithms look numbers up in registers, where the processor can |
| recompute | RUSHLIGHT_RECOMPUTE | cheap values are computed again rather than stored |
| split | RUSHLIGHT_SPLIT | long reductions with few results are cut into chunks |
| inplace | RUSHLIGHT_INPLACE | pointwise results take the memory of inputs that die |
| families | RUSHLIGHT_FAMILIES | paths that differ in sizes alone are planned once for all of them |
| plans | RUSHLIGHT_PLANS | what an earlier process has planned is taken from the disk |

Example::

    with flags.using(fuse_rows=0):
        program = build(graph, {})
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["Flags", "flags"]


class Flags:
    """The values of all switches; attributes are integers."""

    NAMES = ("simplify", "attend", "assemble", "carry", "layout", "fuse_pointwise", "fuse_views", "fuse_parts", "fuse_rows",
             "fuse_siblings", "fuse_contract", "fuse_sums", "winograd", "tiles", "tables", "recompute", "split", "inplace",
             "families", "plans")

    debug: int
    simplify: int
    attend: int
    assemble: int
    carry: int
    layout: int
    fuse_pointwise: int
    fuse_views: int
    fuse_parts: int
    fuse_rows: int
    fuse_siblings: int
    fuse_contract: int
    fuse_sums: int
    winograd: int
    tiles: int
    tables: int
    recompute: int
    split: int
    inplace: int
    families: int
    plans: int

    def __init__(self) -> None:
        self.debug = int(os.environ.get("RUSHLIGHT_DEBUG", "0"))
        for name in self.NAMES:
            setattr(self, name, int(os.environ.get(f"RUSHLIGHT_{name.upper()}", "1")))

    @property
    def state(self) -> tuple[int, ...]:
        """All that decides how programs are built."""
        return tuple([getattr(self, name) for name in self.NAMES])

    @contextlib.contextmanager
    def using(self, **values: int) -> Iterator[None]:
        """Set flags inside the ``with`` block.

        Raises:
            AttributeError: an unknown flag.
        """
        unknown = [n for n in values if n != "debug" and n not in self.NAMES]
        if unknown:
            raise AttributeError(f"there is no flag {unknown[0]!r}; the flags are debug, {', '.join(self.NAMES)}")
        before = {n: getattr(self, n) for n in values}
        for n, v in values.items():
            setattr(self, n, v)
        try:
            yield
        finally:
            for n, v in before.items():
                setattr(self, n, v)


flags = Flags()
