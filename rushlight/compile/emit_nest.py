"""From a body with ordered axes to a LoopNest: statements, where each is placed, operands and run-time numbers."""
from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from typing import Any

from . import dtypes as dt
from .arrange import LANES, WOVEN, Info, Plan
from .body import Put, Test, Value, guard_expr
from .costs import expr_cost, expr_flops, nanoseconds
from .cpu import target
from .dtypes import DType
from .expr import Expr, cast, e, extent, input_, inputs_of, substitute, walk
from .graph import Node
from .index import Ix
from .nest import Accumulate, Accumulator, Axis, Check, Compute, Load, Loop, LoopNest, Operand, Statement, Store
from .numbers import EXACT, FEW
from .sizes import decision, is_size, numeric

__all__ = ["Lowered", "Emitter", "PART_NS"]

PART_NS = 6_000.0      # the least work of a part, so that handing it to another thread pays
_SHARED_CACHE = 64 << 20  # of a larger cache, which many cores share, a program does not get more
_FIXED = 16             # vector loops up to this length are compiled for it
_WRITTEN_OUT = 256      # ... and up to this one if it fills registers
_WINDOW = 16            # loops inside a vector loop that together make no more turns than this may be compiled for their lengths
_SHORT = 16             # so many terms of a floating sum are added one after the other in any case,
_CHAIN = 64             # ... and of longer ones about so many
_CHUNKS = 8             # sums of chunks are few, and the error of each counts for more


@dataclass
class Lowered:
    """A nest with its run-time numbers. ``memory[k]`` is what operand k lies in (None: the group's scratch memory) and
    the byte offset from its start; ``sizes`` are the parameters after the grain."""

    nest: LoopNest
    memory: list[tuple[Any, int]]
    sizes: list[int]
    grain: int
    positions: int
    scratch: int = 0
    nbytes: int = 0
    flops: int = 0
    work: float = 0.0
    same_steps: bool = False  # all operands have the same strides
    kernel: list[Any] = field(default_factory=list)  # for the back end: what names the kernel, once that is known

    @property
    def parts(self) -> int:
        return -(-self.positions // self.grain)


def _fills_caches(nbytes: int) -> bool:
    """Whether the last-level cache cannot hold what a kernel moves, so that its results are gone when the next one reads them.

    Measured on two cores with a large shared cache: writing past it gains 40 % where three arrays of 64 MB are moved, nothing at
    a half of that, and below it costs the reader a tenth.
    """
    cache = target.current().l3 or 8 << 20
    return 2 * nbytes > 3 * min(cache, _SHARED_CACHE)


@numeric
def _grain(positions: int, work: float, flat: bool) -> int:
    """Positions of a part that is worth handing to another thread."""
    parts = max(1, min(positions, math.floor(work / PART_NS)))
    grain = max(1, -(-positions // parts))
    return min(max(positions, 1), -(-grain // 256) * 256) if flat else grain


@numeric
def _piece(length: int, work: float, positions: int) -> int:
    """The length of the pieces of a vector loop that is cut."""
    pieces = min(-(-length // 64), max(1, math.floor(work / PART_NS / positions)))
    piece = -(-length // pieces)
    return -(-piece // 64) * 64


@decision
def _is_cut(positions: int, length: int) -> bool:
    """Whether a vector loop is cut into pieces, since there are few positions besides."""
    return positions < 16 and length >= 2 * 64


@dataclass
class _Scope:
    """The statements of one loop that is being written."""

    axes: frozenset[int]
    outer: _Scope | None
    statements: list[Statement] = field(default_factory=list)
    known: dict[int, Expr] = field(default_factory=dict)

    def find(self, value: int) -> Expr | None:
        scope: _Scope | None = self
        while scope is not None:
            if value in scope.known:
                return scope.known[value]
            scope = scope.outer
        return None


class Emitter:
    def __init__(self, plan: Plan, serial: frozenset[int]) -> None:
        self.plan, self.body, self.serial = plan, plan.body, serial
        self.info = Info(plan.body)
        self.operands: list[Operand] = []
        self.memory: list[tuple[Node | None, int]] = []
        self.steps: list[tuple[int, ...]] = []
        self._operand_of: dict[tuple, int] = {}
        self._next = 0
        self.counts: dict[int, int] = {}  # number that is a run-time parameter -> the axis that it is the length of
        self.nbytes = 0
        self.axes: list[int] = [*plan.kept, *plan.reduced]
        if plan.chunk is not None:
            self.axes.insert(0, plan.chunk[0])
        self.position: dict[int, int] = {}

    # Loops are chosen first, then statements are written into them from the outside in.
    def emit(self) -> Lowered:
        plan = self.plan
        extents = plan.extents
        kept = list(plan.kept)
        total = math.prod(extents[a] for a in (*plan.kept, *plan.reduced))
        work = nanoseconds(total, sum(v.dtype.itemsize for v in self.body.values if v.kind in ("load", "partial")) * total
                           + sum(p.expr.dtype.itemsize for p in self.body.puts) * total,
                           1 + sum(expr_cost(p.expr) for p in self.body.puts)
                           + sum(expr_cost(v.expr) for v in self.body.values if v.expr is not None))
        parallel = [a for a in kept if a != plan.vector and a not in self.serial and a not in plan.woven]
        inner = [a for a in kept if a not in parallel]
        chunk = plan.chunk
        flat = False
        if chunk is not None:
            parallel.insert(0, chunk[0])
        elif plan.vector in kept and not plan.reduced and kept == [plan.vector]:
            parallel, inner, flat = [plan.vector], [], True
        elif plan.vector in kept:
            length = extents[plan.vector]
            positions = math.prod(extents[a] for a in parallel)
            if _is_cut(positions, length):  # also for little work: the same kernel serves both
                size = _piece(length, work, positions)
                new = max([*extents, 0]) + 1
                extents = {**extents, new: -(-length // size)}
                chunk = (new, plan.vector, size)
                self.axes.insert(0, new)
                parallel.append(new)
        self.extents = extents
        self.position = {a: k for k, a in enumerate(self.axes)}
        self.chunk = chunk
        top = _Scope(frozenset(parallel) - ({chunk[0]} if chunk and chunk is not plan.chunk else frozenset()), None)
        scopes = [top]
        for a in inner:
            scopes.append(_Scope(scopes[-1].axes | {a}, scopes[-1]))
        self._fill(scopes[-1])
        for a, scope in zip(reversed(inner), reversed(scopes[1:])):
            assert scope.outer is not None
            scope.outer.statements.append(Loop(self.position[a], tuple(scope.statements), a == plan.vector))
        fixed = self._window() | ({plan.vector} if self._fixed(total, flat) else set())
        axes = tuple(Axis(operator.index(extents[a]) if a in fixed else None,
                          self.position[chunk[1]] if chunk and a == chunk[0] else None) for a in self.axes)
        axes += (Axis(),) * len(self.counts)
        operands = tuple(replace(x, strides=x.strides + (0,) * len(self.counts)) for x in self.operands)
        nest = LoopNest(axes, operands, tuple(self.position[a] for a in parallel), tuple(top.statements), flat,
                        _fills_caches(self.nbytes))
        sizes: list[int] = []
        for a in self.axes:
            if a in fixed:
                continue
            sizes.append(extents[a])
            if chunk and a == chunk[0]:
                sizes.append(chunk[2])
        sizes.extend(self.counts)
        for operand, steps in zip(self.operands, self.steps):
            sizes.extend(s for s, known in zip(steps, operand.strides) if known is None)
        positions = math.prod(extents[a] for a in parallel)
        grain = _grain(positions, work, flat)
        return Lowered(nest, self.memory, sizes, grain, positions, 0, self.nbytes, self._flops(nest, extents), work,
                       len(set(self.steps)) == 1)

    def _flops(self, nest: LoopNest, extents: dict[int, int]) -> int:
        """The floating-point operations of all statements, each as often as the loops around it run."""
        lengths = [1 if axis.chunk_of is not None else extents[a] for a, axis in zip(self.axes, nest.axes)]
        total, stack = 0, [(nest.body, math.prod(lengths[a] for a in nest.parallel))]
        while stack:
            body, times = stack.pop()
            for s in body:
                if isinstance(s, Loop):
                    # A chunk's loop over what a parallel axis cuts: all chunks together are the whole axis.
                    stack.append((s.body, times * lengths[s.axis]))
                elif isinstance(s, (Compute, Store)):
                    total += times * expr_flops(s.expr)
                elif isinstance(s, Accumulate):
                    total += times * (expr_flops(s.expr) + (s.expr.dtype.kind == "f"))
        return total

    def _fixed(self, total: int, flat: bool) -> bool:
        """Whether the kernel is compiled for the length of its vector loop, which saves masks and empty loops, and where several passes
        go over a row, all loads but the first one's: they are written out, so a row stays in registers.

        Only where that loop runs many times: such lengths are classes, heads or channels, but hardly ever the batch. Of those that
        do not fill the main loop's registers only whole vectors, of longer ones those that fill them, so that a length that grows
        takes few kernels. Where another size is known to change it, a kernel serves all.
        """
        vector = self.plan.vector
        if vector is None or flat or self.chunk is not None and self.chunk[1] == vector:
            return False
        length = self.extents[vector]
        if is_size(length) or total <= length:
            return False
        return length <= _FIXED or length % (LANES if length < 4 * LANES else 4 * LANES) == 0 and length <= _WRITTEN_OUT

    def _window(self) -> set[int]:
        """The short axes inside the vector loop that the kernel is compiled for, so that their loops are written out: the elements of
        a pool's window, say. A window is known by neighbours along the vector that lie apart, or by having several dimensions;
        a single short axis may be a batch."""
        plan = self.plan
        if plan.vector is None or plan.vector in plan.reduced:
            return {*plan.woven}
        inside = [a for a in plan.reduced if a not in plan.woven]
        if any(is_size(plan.extents[a]) for a in inside):
            return {*plan.woven}
        apart = any(o.strides[self.position[plan.vector]] in WOVEN for o in self.operands)
        if not (apart or len(inside) > 1 or plan.woven) or math.prod(plan.extents[a] for a in inside) > _WINDOW:
            return {*plan.woven}
        return {*inside, *plan.woven}

    def _fill(self, scope: _Scope) -> None:
        """The statements of one position on the kept axes."""
        body, plan, info = self.body, self.plan, self.info
        reduced = set(plan.reduced)
        accs = [k for k, v in enumerate(body.values) if v.kind == "acc"]
        for k, v in enumerate(body.values):
            if v.kind == "running":
                scope.known[k] = self._running(v, scope)
        if not reduced:
            for k in accs:
                value = body.values[k]
                if value.op.startswith("arg"):
                    scope.known[k] = e.const(0, dt.int64)
                else:
                    scope.known[k] = self._expr(value.expr, scope)
            for test in body.tests:
                self._test(test, scope)
            self._puts(body.puts, scope)
            return
        deep = [p for p in body.puts if (info.of(p.expr)[0] | info.axes(p.at)) & reduced]
        tests = [t for t in body.tests if info.of(t.condition)[0] & reduced]
        levels = max([info.of(body.values[k].expr)[1] for k in accs] + [info.of(p.expr)[1] for p in deep] + [0])
        for level in range(levels + 1):
            here = [k for k in accs if info.of(body.values[k].expr)[1] == level]
            puts = [p for p in deep if info.of(p.expr)[1] == level]
            checks = [t for t in tests if info.of(t.condition)[1] == level]
            if not here and not puts and not checks:
                continue
            numbers = {}
            for k in here:
                numbers[k] = self._new()
                scope.statements.append(Accumulator(numbers[k], body.values[k].dtype, body.values[k].op))
            inner = scope
            scopes = []
            for a in plan.reduced:
                inner = _Scope(inner.axes | {a}, inner)
                scopes.append(inner)
            for test in checks:
                self._test(test, inner)
            for k in here:
                value = body.values[k]
                position = None if value.position is None else self._form(value.position, inner)
                inner.statements.append(Accumulate(numbers[k], self._expr(value.expr, inner), position))
            self._puts(puts, inner)
            sums = any(body.values[k].op == "add" and body.values[k].dtype.kind == "f" for k in here)
            stretches = self._stretches() if sums else {}
            for a, s in zip(reversed(plan.reduced), reversed(scopes)):
                assert s.outer is not None
                s.outer.statements.append(Loop(self.position[a], tuple(s.statements), a == plan.vector, stretches.get(a, 0)))
            for k in here:
                value = body.values[k]
                scope.known[k] = input_(numbers[k], dt.int64 if value.op.startswith("arg") else value.dtype)
        for test in body.tests:
            if test not in tests:
                self._test(test, scope)
        self._puts([p for p in body.puts if p not in deep], scope)

    def _running(self, value: Value, scope: _Scope) -> Expr:
        """An accumulator around the innermost loop, which runs in order."""
        if not self.serial & scope.axes:
            return self._expr(value.expr, scope)  # along an axis of length 1
        assert scope.outer is not None
        number = self._new()
        scope.outer.statements.append(Accumulator(number, value.dtype, value.op))
        scope.statements.append(Accumulate(number, self._expr(value.expr, scope)))
        return input_(number, value.dtype)

    def _stretches(self) -> dict[int, int]:
        """The terms of a stretch for the loops over reduced axes that run in stretches: of those that add up hardly more than a few, none.

        That depends on sizes, and so would the kernel: but long loops, say over a batch, run in stretches whatever their length, and
        where another size is known to change how many terms an outermost loop adds up, it may have few of them, too."""
        out, terms = {}, 1
        chunks = any(v.kind == "partial" for v in self.body.values)
        for a in reversed(self.plan.reduced):
            n = self.chunk[2] if self.chunk is not None and self.chunk[1] == a else self.extents[a]
            terms *= -(-n // (4 * LANES)) if a == self.plan.vector else n
            outermost = a == self.plan.reduced[0]
            if chunks or outermost and is_size(terms) or terms > (_SHORT if outermost else _CHAIN):
                out[a] = _CHUNKS if chunks else _CHAIN
        return out

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def _expr(self, expr: Expr | None, scope: _Scope) -> Expr:
        """The formula in the nest's numbers; what it reads is loaded in the outermost loop where that is possible."""
        assert expr is not None
        needed = {k: self._value(k, scope) for k in sorted(inputs_of(expr))}
        return substitute((expr,), lambda n: needed[n.attr] if n.fn == "input" else self._count(n, expr))[0]

    def _counted(self, expr: Expr) -> Expr:
        return substitute((expr,), lambda n: self._count(n, expr))[0]

    def _count(self, n: Expr, formula: Expr) -> Expr | None:
        """Whole numbers in floating formulas tend to be numbers of elements, which another batch size would change."""
        if n.fn == "count":
            return self._number(n.attr)
        if n.fn != "const":
            return None
        if is_size(n.attr):
            return self._sized(n, formula)
        if n.dtype.kind != "f" or n.dtype.itemsize < 4 or not FEW < n.attr < EXACT or n.attr % 1:
            return None
        return cast(self._number(int(n.attr)), n.dtype)

    def _sized(self, n: Expr, formula: Expr) -> Expr:
        """A constant that is a size. Small exponents are powers of their own, so they become part of the kernel."""
        if n.dtype.itemsize >= 4 and type(n.attr.value) is int:
            least = FEW if any(x.fn == "pow" and x.args[1] is n for x in walk(formula)) else -EXACT
            if n.dtype.kind == "i" or n.dtype.kind == "f" and least < n.attr < EXACT:
                return cast(self._number(n.attr), n.dtype)
        return e.const((int if n.dtype.kind in "iu" else float)(n.attr), n.dtype)

    def _number(self, n: int) -> Expr:
        """An int64 number: a parameter of the kernel, unless it is small and the same for all sizes."""
        if not is_size(n) and abs(n) <= FEW:
            return e.const(operator.index(n), dt.int64)
        if n < 0:
            return -self._number(-n)
        return extent(self.counts.setdefault(n, len(self.axes) + len(self.counts)))

    def _value(self, k: int, scope: _Scope) -> Expr:
        known = scope.find(k)
        if known is not None:
            return known
        value = self.body.values[k]
        if value.kind == "form":
            return self._form(value.at, scope)
        assert value.kind in ("load", "partial"), f"{value.kind} is read before it is ready"
        axes = self._merged(self.info.value(k)[0])
        home = scope
        while home.outer is not None and axes <= home.outer.axes:
            home = home.outer
        number = self._new()
        offset = self._dynamic(value.at, home)
        guard = None
        if value.conds:
            guard = guard_expr(value.conds, lambda at: self._form(at, home), self.body.extents)
            guard = self._counted(guard)
        operand = self._operand(value.node, value.dtype, value.at, False)
        home.statements.append(Load(number, operand, offset, guard, float(value.other) if guard is not None else 0.0))
        home.known[k] = made = input_(number, value.dtype)
        return made

    def _merged(self, axes: frozenset[int]) -> frozenset[int]:
        return frozenset(a for a in axes if a in self.position)

    def _form(self, at: Ix, scope: _Scope) -> Expr:
        """The int64 value of a position, over the nest's axes."""
        out: Expr | None = None
        for axis, k in at.terms:
            if axis >= 0:
                if axis not in self.position:
                    continue  # length 1, or carried by the axis it was merged into
                term = e.index(self.position[axis])
            else:
                term = self._expr(self.body.dynamic[axis], scope)
            term = term * self._number(k) if k != 1 else term
            out = term if out is None else out + term
        if out is None:
            return self._number(at.offset)
        return out + self._number(at.offset) if at.offset else out

    def _dynamic(self, at: Ix, scope: _Scope) -> Expr | None:
        terms = tuple(t for t in at.terms if t[0] < 0)
        return self._form(Ix(0, terms), scope) if terms else None

    def _puts(self, puts: list[Put], scope: _Scope) -> None:
        """All stores of one position, after all of its loads: a store may overwrite what another formula reads."""
        ready = []
        for put in puts:
            guard = None if put.guard is None else self._expr(put.guard, scope)
            ready.append((put, self._expr(put.expr, scope), self._dynamic(put.at, scope), guard))
        for put, expr, offset, guard in ready:
            operand = self._operand(put.node, put.expr.dtype, put.at, True)
            scope.statements.append(Store(operand, expr, offset, guard, put.combine, put.distinct))

    def _test(self, test: Test, scope: _Scope) -> None:
        condition = self._expr(test.condition, scope)
        found = self._expr(test.found, scope)
        scope.statements.append(Check(condition, test.code, found, self._number(test.bound)))

    def _stride(self, axis: int, step: int) -> int | None:
        """The stride that the kernel is compiled for; None for a run-time number."""
        return next((n for n in ((0, 1, *WOVEN, -1) if axis == self.plan.vector else (0, 1)) if step == n), None)

    def _operand(self, node: Node | None, dtype: DType, at: Ix, written: bool) -> int:
        terms = dict(at.terms)
        steps = tuple(terms.get(a, 0) for a in self.axes)
        key = (node, dtype, at.offset, steps, written)
        known = self._operand_of.get(key)
        if known is None:
            known = self._operand_of[key] = len(self.operands)
            self.operands.append(Operand(dtype, tuple(self._stride(a, s) for a, s in zip(self.axes, steps)), written))
            self.memory.append((node, at.offset * dtype.itemsize))
            self.steps.append(steps)
            self.nbytes += dtype.itemsize * math.prod(self.extents[a] for a, s in zip(self.axes, steps) if s)
        return known
