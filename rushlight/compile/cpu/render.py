"""Loop nests (``compile/nest.py``) as LLVM IR with explicit vectors.

A vector loop is a main loop over full vectors of several registers, then a loop over masked vectors of one register for
what is left: there is no scalar tail. How many registers, the cost of the formulas decides: light ones get four, so that
several loads and several sums are under way at once.

The sums of a reduction are kept in lanes until the outermost loop that belongs to it ends; then the lanes are added
pairwise, always in the same order. So a result depends on the nest and on the sizes, never on how the parts of the
kernel are shared among threads.

Pointwise formulas are rounded after each operation, as PyTorch rounds them, wherever the fusion puts them; only the
product inside a sum of products is added without rounding in between.

Example::

    address = kernel_address(nest)
    params = pack_params(nest, [(1, 0), (2, 0)], grain=64, extents=[rows, columns], chunks=[], strides=[columns, columns])
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rushlight.compile.cpu import jit, target, vecmath
from rushlight.compile.cpu.executor import RAISE_IR
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.mathlib import any_lane
from rushlight.compile.cpu.nest_memory import LONG_ROW, SECOND_LEVEL, Memory, ahead
from rushlight.compile.cpu.nest_scope import (
    Scope,
    defined,
    formulas,
    iota,
    reads_axis,
    statements,
    steady,
    updated,
)  # fmt: skip
from rushlight.compile.cpu.nest_sums import Sum, long_sums, stretch_turns, stretches
from rushlight.compile.cpu.nest_tiles import tiled_positions, tiles_of, turned_blocks
from rushlight.compile.cpu.values import V, mad, splat, where
from rushlight.compile.cpu.vecmath import SUPPORTED, supports
from rushlight.compile.cpu.widths import lanes_of
from rushlight.compile.expr import Expr, inputs_of, walk
from rushlight.compile.nest import (
    Accumulate,
    Accumulator,
    Check,
    Compute,
    Load,
    Loop,
    LoopNest,
    Statement,
    Store,
)  # fmt: skip

__all__ = ["SUPPORTED", "supports", "render", "kernel_for", "kernel_address", "pack_params", "version"]

_WRITTEN_OUT = 4  # turns of a vector loop of known length

_SOURCES = ("irtext", "values", "registers", "mathlib", "math32", "math64", "math512", "coefficients", "half", "integers", "vecmath",
            "widths", "nest_scope", "nest_sums", "nest_memory", "nest_tiles", "render")  # fmt: skip


@functools.cache
def version() -> str:
    """A digest of the code generator itself: kernels on disk that another version made are not taken."""
    digest = hashlib.blake2b(digest_size=8)
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(name + ".py").read_bytes())
    return digest.hexdigest()


def render(nest: LoopNest, cpu: target.CPU | None = None) -> str:
    """The IR text of a module that defines the kernel ``kernel_name(nest)``.

    Raises:
        NotImplementedError: a formula that ``supports`` says no to.
        ValueError: a nest that breaks a rule (a vector loop inside another, say).
    """
    with target.using(cpu or target.current()) as chosen:
        return _Renderer(nest, chosen).text()


def kernel_name(nest: LoopNest) -> str:
    return _names(nest)[1]


@functools.lru_cache(maxsize=4096)
def _names(nest: LoopNest) -> tuple[str, str]:
    key = f"{version()}|{nest.key()}"
    return key, "nest_" + hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def kernel_for(nest: LoopNest) -> tuple[str, Callable[[], str], str]:
    """A request for ``jit.kernels``: structure key, maker of the IR, name."""
    key, name = _names(nest)
    return key, lambda: render(nest), name


def kernel_address(nest: LoopNest) -> int:
    """The address of the compiled kernel (from memory, from disk, or compiled now)."""
    return jit.kernel(*kernel_for(nest))


def pack_params(nest: LoopNest, operands: Sequence[tuple[int, int]], grain: int, extents: Sequence[int],
                chunks: Sequence[int], strides: Sequence[int]) -> list[int]:
    """The kernel's parameters in order.

    Args:
        operands: (table index, byte offset) of each operand.
        extents: the lengths of the axes without a fixed one, in order; for a chunk axis: the number of chunks.
        chunks: the chunk lengths of the chunk axes, in order.
        strides: the strides, in elements, that the operands leave open: operand by operand, axis by axis.

    Raises:
        ValueError: a list of the wrong length.
    """
    wanted = (len(nest.operands), sum(a.extent is None for a in nest.axes),
              sum(a.chunk_of is not None for a in nest.axes), sum(s is None for o in nest.operands for s in o.strides))
    given = (len(operands), len(extents), len(chunks), len(strides))
    if wanted != given:
        raise ValueError(f"(operands, extents, chunk lengths, strides): expected {wanted} numbers, got {given}")
    out = [number for pair in operands for number in pair]
    out.append(grain)
    lengths, pieces = iter(extents), iter(chunks)
    for axis in nest.axes:
        if axis.extent is None:
            out.append(next(lengths))
        if axis.chunk_of is not None:
            out.append(next(pieces))
    return [*out, *strides]


def _fence(f: Function) -> str:
    """What makes stores past the caches visible to other threads before anything that this thread does later."""
    if target.machine() != "x86_64":
        return "fence release"
    f.module.declare("void @llvm.x86.sse.sfence()")
    return "call void @llvm.x86.sse.sfence()"


class _Renderer:
    def __init__(self, nest: LoopNest, cpu: target.CPU) -> None:
        self.nest, self.cpu = nest, cpu
        self.f = Function(f"void @{kernel_name(nest)}(ptr %table, ptr %params, i64 %begin, i64 %end) nounwind \"stackrealign\"")
        self.sums: dict[int, Sum] = {}
        self.long = long_sums(nest)
        self.turns: dict[Loop, str] = {}
        self.written = {s.operand for s in statements(nest.body) if isinstance(s, Store)}
        self.chunked: dict[int, int] = {}  # axis -> its chunk axis
        self.lengths: dict[int, str] = {}  # chunk axis -> chunk length
        self.extents: list[str] = []
        self.walked: dict[tuple[str, int], int] = {}  # where vector loops have read so far, the address, the axis: how often

    # -- the whole kernel ----------------------------------------------------------------------------------------------
    def text(self) -> str:
        f, nest = self.f, self.nest
        scope = Scope()
        number = 0

        def param() -> str:
            nonlocal number
            number += 1
            return f.load("%params", number - 1)

        for k in range(len(nest.operands)):
            pointer = f.load("%table", param(), "ptr")
            scope.at[k] = f.at(pointer, param(), "i8")
        grain = param()
        for a, axis in enumerate(nest.axes):
            self.extents.append(param() if axis.extent is None else str(axis.extent))
            if axis.chunk_of is not None:
                self.chunked[axis.chunk_of] = a
                self.lengths[a] = param()
            scope.env["extent", a] = V(f, self.extents[a], "i64")
        strides: list[list[int | str]] = [[param() if s is None else s for s in o.strides] for o in nest.operands]
        self.memory = Memory(f, nest.operands, strides, nest.stream)
        self.fresh = self.streamable(scope) if nest.stream else {}
        if any(isinstance(s, Check) for s in statements(nest.body)):
            f.module.functions.append(RAISE_IR)

        self.turns = stretch_turns(self)
        for n in {n: None for s in statements(nest.body) for root in formulas(s) for n in walk(root)}:
            if n.fn == "cast" and n.args[0].fn == "extent":
                self.value(scope, n)  # once, before all loops

        total = "1"
        for a in nest.parallel:
            total = self.extents[a] if total == "1" else f.mul(total, self.extents[a])
        low, high = f.mul("%begin", grain), f.minimum(f.mul("%end", grain), total)
        if nest.vector_parallel:
            self.vector_loop(scope, Loop(nest.parallel[0], nest.body, True), low, high)
        elif not nest.parallel:
            with f.when(f.compare("slt", low, high)):
                self.body(scope, nest.body)
        elif tiles := tiles_of(nest, self.cpu):
            tiled_positions(self, scope, tiles, low, high)
        else:
            self.positions(scope, low, high)
        if self.fresh:
            f.do(_fence(f))
        f.module.functions.append(f.finish())
        return f.module.text()

    def streamable(self, scope: Scope) -> dict[int, str]:
        """Operands whose vectors may go past the caches, each with a bool: whether nothing else here lies there.

        A plain store first reads the cache line that it writes a part of; where a whole array is written that nobody reads soon,
        that is a third of the traffic. Not so where the line has just been read: an update in place.
        """
        f, every = self.f, list(statements(self.nest.body))
        stores = [s for s in every if isinstance(s, Store)]
        ways: dict[int, int] = {}  # how often each operand is written
        for s in stores:
            ways[s.operand] = ways.get(s.operand, 0) + 1
        found = {}
        others = sorted({s.operand for s in every if isinstance(s, Load)})
        for s in stores:
            if s.combine is None and s.offset is None and s.guard is None and ways[s.operand] == 1 and s.operand not in others:
                apart = "true"
                for k in others:
                    differs = f.let(f"icmp ne ptr {scope.at[s.operand]}, {scope.at[k]}")
                    apart = differs if apart == "true" else f.let(f"and i1 {apart}, {differs}")
                found[s.operand] = apart
        return found

    def positions(self, scope: Scope, low: str, high: str) -> None:
        """The loop over the flattened parallel range; the positions along its axes are counted, not divided out."""
        f, axes = self.f, self.nest.parallel
        with f.when(f.compare("slt", low, high)):
            counters = self.counters(low)
            with f.loop(low, high):
                inner = scope.inner()
                for a in axes:
                    self.bind(inner, a, f.get(counters[a]), self.nest.body)
                self.body(inner, self.nest.body)
                self.count(list(axes), counters)

    def counters(self, position: str) -> dict[int, str]:
        """A slot for the position along each parallel axis, for a position of the flattened range."""
        f, slots = self.f, {}
        for a in reversed(self.nest.parallel[1:]):
            slots[a] = f.slot("i64", f.rem(position, self.extents[a]))
            position = f.div(position, self.extents[a])
        slots[self.nest.parallel[0]] = f.slot("i64", position)
        return slots

    def count(self, axes: list[int], counters: dict[int, str]) -> None:
        """Add one to the innermost counter, with carry."""
        f, a = self.f, axes[-1]
        f.set(counters[a], f.add(f.get(counters[a]), 1))
        if len(axes) > 1:
            with f.when(f.compare("sge", f.get(counters[a]), self.extents[a])):
                f.set(counters[a], "0")
                self.count(axes[:-1], counters)

    def bind(self, scope: Scope, axis: int, position: str, body: Sequence[Statement]) -> None:
        """``index(axis)`` is ``position``, as a scalar."""
        scope.env["index", axis] = V(self.f, position, "i64")
        used = {s.operand for s in statements(body) if isinstance(s, (Load, Store))}
        self.memory.advance(scope, used, axis, position)

    # -- statements ----------------------------------------------------------------------------------------------------
    def body(self, scope: Scope, body: Sequence[Statement], done: frozenset[int] = frozenset()) -> None:
        for s in body:
            if isinstance(s, (Load, Compute)) and s.value in done:
                continue
            self.statement(scope, s)

    def statement(self, scope: Scope, s: Statement) -> None:
        f = self.f
        if isinstance(s, Load):
            offset, guard = self.maybe(scope, s.offset), self.maybe(scope, s.guard)
            scope.env[s.value] = self.memory.load(scope, s.operand, offset, guard, s.other)
        elif isinstance(s, Compute):
            scope.env[s.value] = self.value(scope, s.expr)
        elif isinstance(s, Accumulator):
            total = self.sums[s.value] = Sum(f, s.dtype, s.op, scope.lanes, s.value in self.long)
            scope.env[s.value] = lambda: total.result(f)
        elif isinstance(s, Accumulate):
            self.accumulate(scope, s)
            scope.forget({s.accumulator})
        elif isinstance(s, Store):
            offset, guard = self.maybe(scope, s.offset), self.maybe(scope, s.guard)
            self.memory.store(scope, s.operand, self.value(scope, s.expr), offset, guard, s.combine, s.distinct)
        elif isinstance(s, Check):
            self.check(scope, s)
        elif isinstance(s, Loop):
            self.loop(scope, s)
        else:
            raise ValueError(f"unknown statement {s!r}")

    def value(self, scope: Scope, expr: Expr) -> V:
        return vecmath.emit_any(self.f, expr, scope.env, scope.memo)

    def maybe(self, scope: Scope, expr: Expr | None) -> V | None:
        return None if expr is None else self.value(scope, expr)

    def accumulate(self, scope: Scope, s: Accumulate) -> None:
        f, total, lanes = self.f, self.sums[s.accumulator], scope.lanes
        old = total.read(f, lanes)
        e = s.expr
        if total.op == "add" and e.fn == "mul" and e.dtype.kind == "f" and e not in scope.memo \
                and not vecmath.is_half(e.dtype):
            a, b = (self.value(scope, x) for x in e.args)
            new: tuple[V, ...] = (mad(splat(a, lanes) if lanes else a, splat(b, lanes) if lanes else b, old[0]),)
        else:
            values = [self.value(scope, e)]
            if total.arg:
                if s.position is None:
                    raise ValueError(f"{total.op} needs a position")
                values.append(self.value(scope, s.position))
            new = total.merge(old, tuple(splat(v, lanes) if lanes else v for v in values))
        # Lanes beyond the end must not count; in an accumulator of the vector loop's own body they are never read.
        if scope.mask is not None and total.lanes != lanes:
            new = tuple(where(scope.mask, n, o) for n, o in zip(new, old, strict=True))
        total.write(f, lanes, new)

    def check(self, scope: Scope, s: Check) -> None:
        f = self.f
        bad = ~self.value(scope, s.condition)
        if scope.lanes and (bad.lanes or scope.mask is not None):
            bad = splat(bad, scope.lanes)
            bad = bad if scope.mask is None else bad & scope.mask
        inner = scope.inner()
        with f.when(any_lane(bad)):
            numbers = [self.value(inner, x) for x in (s.found, s.bound)]
            if any(n.lanes for n in numbers):
                lanes = scope.lanes
                bits = f.let(f"bitcast {bad!r} to i{lanes}") if bad.lanes else f"{1}"
                f.module.declare(f"i{lanes} @llvm.cttz.i{lanes}(i{lanes}, i1)")
                first = f.let(f"call i{lanes} @llvm.cttz.i{lanes}(i{lanes} {bits}, i1 true)")
                numbers = [V(f, f.let(f"extractelement {n!r}, i{lanes} {first}"), "i64") if n.lanes else n
                           for n in numbers]
            f.do(f"call void @rl_raise(ptr %table, i64 {s.code}, i64 {numbers[0].name}, i64 {numbers[1].name})")

    # -- loops ---------------------------------------------------------------------------------------------------------
    def range(self, scope: Scope, axis: int) -> tuple[str, str]:
        """The positions of a loop: the whole axis, or the chunk that an enclosing axis gives."""
        f, chunk = self.f, self.chunked.get(axis)
        if chunk is None or ("index", chunk) not in scope.env:
            return "0", self.extents[axis]
        start = f.mul(scope.env["index", chunk].name, self.lengths[chunk])
        return start, f.minimum(f.add(start, self.lengths[chunk]), self.extents[axis])

    def loop(self, scope: Scope, s: Loop) -> None:
        changed = updated(s.body)
        opened: list[Sum] = []
        if not scope.lanes:
            # Sums of this scope that vector loops inside reduce into: lanes for them, until this loop ends.
            for v in statements((s,)):
                if isinstance(v, Loop) and v.vector:
                    for k in sorted(updated(v.body)):
                        total = self.sums.get(k)
                        if total is not None and not total.lanes and k in scope.env:
                            for lanes in lanes_of(self.nest, v, self.cpu):
                                if lanes not in total.slots:
                                    total.open(self.f, lanes)
                                    opened.append(total)
        elif s.vector:
            raise ValueError("a vector loop inside another vector loop")
        scope.forget(changed)
        low, high = self.range(scope, s.axis)
        before, self.memory.asks = self.memory.asks, {}
        if s.vector:
            self.vector_loop(scope, s, low, high)
        elif scope.lanes and self.nest.axes[s.axis].extent is not None:
            self.written_out(scope, s)
        else:
            with self.f.when(self.f.compare("slt", low, high)):
                outer = scope.inner()
                done = self.hoist(outer, s)
                if scope.lanes:
                    low = turned_blocks(self, outer, s, low, high, done)
                with stretches(self, s, low, high, 1) as (first, last), self.f.loop(first, last) as i:
                    inner = outer.inner()
                    self.bind(inner, s.axis, i, s.body)
                    self.body(inner, s.body, done)
        self.memory.asks = before
        for total in dict.fromkeys(opened):
            total.close(self.f)
        scope.forget(changed)

    def written_out(self, scope: Scope, s: Loop) -> None:
        """A short loop inside a vector loop, turn after turn. What the turns store side by side is stored at once: vectors whose
        elements lie apart would have to be scattered."""
        length = self.nest.axes[s.axis].extent
        assert length is not None
        woven = [x for x in s.body if isinstance(x, Store) and self.memory.weaves(scope, x, s.axis, length)]
        values: list[list[V]] = [[] for _ in woven]
        first = scope
        for k in range(length):
            turn = scope.inner()
            self.bind(turn, s.axis, str(k), s.body)
            first = turn if not k else first
            for x in s.body:
                if x in woven:
                    values[woven.index(x)].append(self.value(turn, x.expr))
                else:
                    self.statement(turn, x)
        for x, parts in zip(woven, values):
            self.memory.store_woven(first, x.operand, parts)

    def hoist(self, scope: Scope, s: Loop) -> frozenset[int]:
        """Emit the loads and formulas of the loop's own body that do not move with it, whose numbers are returned, and what of the
        others' formulas does not: a mean, say, which would be divided again in every turn."""
        moving = defined(s.body) | updated(s.body)
        done: set[int] = set()
        for x in s.body:
            if not isinstance(x, (Load, Compute)):
                continue
            if any(inputs_of(e) & moving or reads_axis(e, s.axis) for e in formulas(x)):
                continue
            if isinstance(x, Load) and (self.nest.operands[x.operand].strides[s.axis] != 0 or x.operand in self.written):
                continue
            self.statement(scope, x)
            moving.discard(x.value)
            done.add(x.value)
        for x in s.body:
            roots = formulas(x)
            # A product is added to its sum in one instruction, so its factors are what is computed in advance.
            for n in steady(roots[0].args if isinstance(x, Accumulate) else roots, moving, s.axis):
                self.value(scope, n)
        return frozenset(done)

    def vector_loop(self, scope: Scope, s: Loop, low: str, high: str) -> None:
        f = self.f
        full, narrow = lanes_of(self.nest, s, self.cpu)
        fixed = self.nest.axes[s.axis].extent if not self.nest.vector_parallel and s.axis not in self.chunked else None
        with f.when(f.compare("slt", low, high)):
            outer = scope.inner()
            done = self.hoist(outer, s)
            start = low
            if fixed is None or fixed >= full:
                whole = f.let(f"and i64 {f.sub(high, low)}, {-full}")
                start = f.let(f"add i64 {low}, {whole}") if fixed is None else str(fixed - fixed % full)
                streamed, past = self.past_caches(outer, s, low, full)
                asks = self.asked_for(outer, s, self.extents[s.axis])
                for condition in (past, f.let(f"xor i1 {past}, true")) if streamed else ("",):
                    self.memory.streamed = streamed if condition == past else frozenset()
                    with f.when(condition) if condition else contextlib.nullcontext():
                        for i in self.turns_of(s, low, start, full):
                            self.memory.asks = asks
                            self.vector_body(outer, s, i, full, None, done)
                self.memory.streamed, self.memory.asks = frozenset(), {}
            if fixed is None or fixed % full:
                for i in self.turns_of(replace(s, stretch=0), start, high, narrow):
                    left = V(f, f.let(f"trunc i64 {f.sub(high, i)} to i32"), "i32")
                    mask = None
                    if fixed is None or fixed % narrow:
                        mask = splat(left, narrow).ugt(iota(f, "i32", narrow))
                    self.vector_body(outer, s, i, narrow, mask, done)

    def turns_of(self, s: Loop, low: str, high: str, step: int) -> Iterator[str]:
        """``for i in`` the positions of a vector loop. A few turns, where that is known, are written out one after the other: what they
        load stays in registers for the loops after it."""
        if low.isdecimal() and high.isdecimal() and not s.stretch and int(high) - int(low) <= _WRITTEN_OUT * step:
            yield from map(str, range(int(low), int(high), step))
            return
        with stretches(self, s, low, high, step) as (first, last), self.f.loop(first, last, step) as i:
            yield i

    def asked_for(self, scope: Scope, s: Loop, length: str) -> dict[int, tuple[int | str, int]]:
        """The operands whose lines a vector loop asks for ahead of its loads: how many bytes ahead, and into which cache.

        Not for those that a loop before it has read, at the same place: a row of a softmax is in the caches after its maximum is known. And
        not where every row reads the same, like the weights of a layer norm: behind those lies nothing that is wanted.

        Of a long row that is read twice, and of which nothing but numbers is left, the second loop asks for the next row: that one's first
        loop need not wait then while nothing is computed. Of a short row the line at hand is asked for, which costs nothing.
        """
        operands, f = self.nest.operands, self.f
        read = sorted({x.operand for x in s.body if isinstance(x, Load) and operands[x.operand].strides[s.axis] == 1})
        stores = any(isinstance(x, Store) and operands[x.operand].strides[s.axis] != 0 for x in statements(self.nest.body))
        alone = self.nest.vector_parallel or s.axis in self.chunked or not self.nest.parallel
        asks: dict[int, tuple[int | str, int]] = {}
        for k in read:
            place, item = (scope.at[k], s.axis), operands[k].dtype.itemsize
            times = self.walked.get(place, 0)
            self.walked[place] = times + 1
            if times == 0 and (alone or any(step != 0 for a, step in enumerate(operands[k].strides) if a != s.axis)):
                asks[k] = ahead(len(read)), self.memory.locality
            elif times == 1 and not (alone or stores or length.isdecimal()) and operands[k].strides[self.nest.parallel[-1]] != 0:
                row = f.mul(length, item)
                long = f.let(f"and i1 {f.compare('sge', row, LONG_ROW)}, {f.compare('sle', row, self.cpu.l2 // 4)}")
                step = f.mul(str(self.memory.strides[k][self.nest.parallel[-1]]), item)
                asks[k] = f.let(f"select i1 {long}, i64 {step}, i64 0"), SECOND_LEVEL
        return asks

    def past_caches(self, scope: Scope, s: Loop, low: str, lanes: int) -> tuple[frozenset[int], str]:
        """The operands that the loop can write past the caches, and a bool: whether they lie so now."""
        f, registers, past = self.f, self.cpu.vector_bytes, ""
        streamed = set()
        for x in s.body:
            if isinstance(x, Store) and x.operand in self.fresh and self.nest.operands[x.operand].strides[s.axis] == 1:
                size = self.nest.operands[x.operand].dtype.itemsize
                if lanes * size % registers == 0:
                    streamed.add(x.operand)
                    at = f.let(f"ptrtoint ptr {f.at(scope.at[x.operand], f.mul(low, str(size)), 'i8')} to i64")
                    whole = f.compare("eq", f.let(f"and i64 {at}, {registers - 1}"), 0)
                    both = f.let(f"and i1 {whole}, {self.fresh[x.operand]}")
                    past = both if not past else f.let(f"and i1 {past}, {both}")
        return frozenset(streamed), past

    def vector_body(self, scope: Scope, s: Loop, i: str, lanes: int, mask: V | None, done: frozenset[int]) -> None:
        self.body(self.lanes(scope, s, i, lanes, mask), s.body, done)

    def lanes(self, scope: Scope, s: Loop, i: str, lanes: int, mask: V | None) -> Scope:
        """The scope of a vector loop's body, with the positions i, i + 1, ... of its axis in the lanes."""
        f, inner = self.f, scope.inner()
        self.bind(inner, s.axis, i, s.body)
        inner.lanes, inner.axis, inner.mask = lanes, s.axis, mask
        inner.env["index", s.axis] = lambda: splat(V(f, i, "i64"), lanes) + iota(f, "i64", lanes)
        return inner
