"""LoopNest: the loop-level form of one fused group, rendered by a back end into one kernel.

A nest is a tree of loops over named axes with statements in between. Extents, strides and offsets are run-time
parameters, so one compiled kernel serves every size; small constant extents and strides may be fixed instead.

Values are numbered: ``Load``, ``Compute`` and ``Accumulator`` define value ``k``, and an ``Expr`` reads it as
``input(k)``. ``index(a)`` in an expression is the position along axis ``a``, ``extent(a)`` its length; an axis that no
statement loops over is there for its length alone (the divisor of a mean).

Example, a softmax over the last axis of a matrix (axis 0: rows, axis 1: columns), x is operand 0, out operand 1::

    LoopNest(
        axes=(Axis(), Axis()),
        operands=(Operand(f32, (None, 1)), Operand(f32, (None, 1), written=True)),
        parallel=(0,),
        body=(
            Accumulator(0, f32, "max"),
            Loop(1, (Load(1, 0), Accumulate(0, input(1))), vector=True),
            Accumulator(2, f32, "add"),
            Loop(1, (Load(3, 0), Accumulate(2, exp(input(3) - input(0)))), vector=True),
            Loop(1, (Load(4, 0), Store(1, exp(input(4) - input(0)) / input(2))), vector=True),
        ))

Where a loop is a *vector* loop, the statements inside it work on a vector of neighbouring positions, and the last,
incomplete vector is masked: never a scalar tail. An accumulator declared outside the vector loop and updated inside
it is reduced across lanes at the loop's end; one declared inside it (with serial loops further in) keeps one
accumulator per lane: the column reduction. The order of summation is fixed by the nest and the sizes alone.
"""
from __future__ import annotations

from dataclasses import dataclass

from .dtypes import DType
from .expr import Expr, canonical

__all__ = ["Axis", "Operand", "Load", "Compute", "Accumulator", "Accumulate", "Store", "Check", "Loop", "Statement",
           "LoopNest", "ERRORS"]

# Codes of the run-time errors that a Check can raise.
ERRORS = {1: "index out of range", 2: "division by zero", 3: "class label out of range", 4: "negative probability"}


@dataclass(frozen=True)
class Axis:
    """A loop dimension. ``extent``: fixed length, or None for a run-time parameter.

    ``chunk_of``: this axis counts the chunks of another axis; a ``Loop`` over that other axis inside it covers only
    the chunk's positions ``[c * chunk, min((c + 1) * chunk, extent))``, with ``chunk`` a run-time parameter. So one
    long axis is spread over parts: pieces of a row, or the pieces of a split reduction.
    """

    extent: int | None = None
    chunk_of: int | None = None


@dataclass(frozen=True)
class Operand:
    """Memory that the nest reads or writes: one element type and one stride (in elements) for each axis.

    ``strides[a]``: 0 (does not move along axis a), 1, another fixed number, or None for a run-time parameter.
    Where an axis has ``chunk_of``, the stride along it is 0 (the chunked axis carries the position) unless the operand
    holds one element for each chunk (partial results of a split reduction).
    """

    dtype: DType
    strides: tuple[int | None, ...]
    written: bool = False


@dataclass(frozen=True)
class Load:
    """value = operand[...]. ``offset``: an int64 expression of elements added to the address (gathers).
    ``guard``: a bool expression; where it is false nothing is read and the value is ``other``."""

    value: int
    operand: int
    offset: Expr | None = None
    guard: Expr | None = None
    other: float = 0.0


@dataclass(frozen=True)
class Compute:
    """value = expr: a subexpression used by several statements, or hoisted out of an inner loop."""

    value: int
    expr: Expr


@dataclass(frozen=True)
class Accumulator:
    """Declares value ``value``, starting at the neutral element of ``op``: add, mul, min, max, or, and,
    argmin, argmax (a pair; read as the int64 position of the first extreme, a NaN counting as more extreme than
    anything). Can be read after the loops that update it. ``min``/``max`` let a NaN through."""

    value: int
    dtype: DType
    op: str


@dataclass(frozen=True)
class Accumulate:
    """accumulator = op(accumulator, expr); for argmin/argmax ``position`` is the int64 position of expr."""

    accumulator: int
    expr: Expr
    position: Expr | None = None


@dataclass(frozen=True)
class Store:
    """operand[...] = expr, or operand[...] op= expr with ``combine`` add, mul, min, max.

    ``offset`` and ``guard`` as for Load. With ``offset`` under a vector loop lanes may collide: they are
    stored (or combined) one after the other in increasing order, so the last one wins, deterministically.
    ``distinct`` promises that they do not collide.
    """

    operand: int
    expr: Expr
    offset: Expr | None = None
    guard: Expr | None = None
    combine: str | None = None
    distinct: bool = False


@dataclass(frozen=True)
class Check:
    """Where ``condition`` is false: record error ``code`` (see ERRORS), ``found`` and ``bound`` (int64 expressions) in
    the program's error block (only the first error is kept) and go on."""

    condition: Expr
    code: int
    found: Expr
    bound: Expr


@dataclass(frozen=True)
class Loop:
    """``for axis in range(extent): body`` (or over the chunk given by an enclosing ``chunk_of`` axis).

    ``stretch``: the loop runs in stretches of about so many terms of each floating sum that it or a loop inside updates, where it has
    more. The total of a stretch is added to the earlier ones together with what rounding takes from that addition, so that the
    error of a sum grows with the length of a stretch and not with its own. 0: one addition after the other."""

    axis: int
    body: tuple[Statement, ...]
    vector: bool = False
    stretch: int = 0


Statement = Load | Compute | Accumulator | Accumulate | Store | Check | Loop


@dataclass(frozen=True)
class LoopNest:
    """A kernel: the ``parallel`` axes (outermost, row-major over the tuple) are flattened into one range that is cut
    into parts of ``grain`` positions; ``body`` runs for every position. ``parallel`` may be empty (one position).
    A parallel axis may itself be the vector axis only if it is the single parallel axis and ``body`` has no loop
    over it (``vector_parallel``): the one-dimensional pointwise kernel. ``stream``: what the kernel reads and writes is
    too much for caches, so results may go past them to memory.

    Run-time parameters, in this order (all int64):
        for each operand: table index, byte offset;
        grain (positions of the parallel range per part);
        for each axis with extent None: its extent (for a chunk_of axis: the number of chunks, then the chunk length);
        for each operand, for each axis with stride None: the stride in elements.
    """

    axes: tuple[Axis, ...]
    operands: tuple[Operand, ...]
    parallel: tuple[int, ...]
    body: tuple[Statement, ...]
    vector_parallel: bool = False
    stream: bool = False

    def key(self) -> str:
        """Canonical text: equal nests have equal keys in every process."""
        def show(s: Statement) -> str:
            fields = []
            for name in s.__dataclass_fields__:
                v = getattr(s, name)
                if isinstance(v, Expr):
                    v = canonical(v)
                elif name == "body":
                    v = "[" + " ".join(show(b) for b in v) + "]"
                elif isinstance(v, DType):
                    v = v.name
                fields.append(str(v))
            return f"{type(s).__name__}({','.join(fields)})"
        axes = ";".join(f"{a.extent},{a.chunk_of}" for a in self.axes)
        operands = ";".join(f"{o.dtype.name}{o.strides}{'w' if o.written else 'r'}" for o in self.operands)
        how = f"{self.parallel}|{self.vector_parallel}{'|stream' if self.stream else ''}"
        return f"nest|{axes}|{operands}|{how}|" + " ".join(show(s) for s in self.body)
