"""Transposing copies: what is read along one axis and written along another goes through square tiles in registers.

Where a pointwise vector loop over v reads operands whose neighbours lie along u, the last parallel axis, N positions of u
are done together: N vectors along u are loaded, transposed by shuffles, and are then N vectors along v. A gather would
touch a cache line for every element, and touch it again N positions later. Likewise a loop that runs in order along such lines, a
scan, with vectors across them (``turned_blocks``).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rushlight.compile.cpu import target, vecmath
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.nest_memory import both, masked_load
from rushlight.compile.cpu.nest_scope import Scope, formulas, iota, reads_axis
from rushlight.compile.cpu.values import V, splat
from rushlight.compile.expr import Expr, inputs_of, walk
from rushlight.compile.nest import Accumulate, Compute, Load, Loop, LoopNest, Statement, Store

if TYPE_CHECKING:
    from rushlight.compile.cpu.render import _Renderer

__all__ = ["Tiles", "tiles_of", "tiled_positions", "turned_blocks"]

_MOST_NODES = 24  # the body is written out for every row of the tile
_AHEAD = 4        # tiles: their lines lie far apart, and nothing but a request fetches them in advance


@dataclass(frozen=True)
class Tiles:
    """``loop`` is done in tiles of ``size`` x ``size``; ``loads`` are those of its loads that are transposed."""

    loop: Loop
    loads: tuple[Load, ...]
    size: int


def tiles_of(nest: LoopNest, cpu: target.CPU) -> Tiles | None:
    """How to tile the nest, or None where that is not possible or does not pay."""
    if nest.vector_parallel or not nest.parallel or cpu.vector_bytes < 32:
        return None
    loops = [s for s in nest.body if isinstance(s, Loop)]
    if len(loops) != 1 or not loops[0].vector or nest.body[-1] is not loops[0]:
        return None
    loop, u = loops[0], nest.parallel[-1]
    if not all(isinstance(s, (Load, Compute)) for s in nest.body[:-1]):
        return None
    if not all(isinstance(s, (Load, Compute, Store)) for s in loop.body) or nest.axes[u].chunk_of is not None:
        return None
    loads, widths = [], []
    for s in loop.body:
        if isinstance(s, (Load, Store)):
            strides = nest.operands[s.operand].strides
            widths.append(vecmath.register_bytes(nest.operands[s.operand].dtype))
            if isinstance(s, Load) and strides[loop.axis] not in (0, 1) and strides[u] == 1:
                if s.offset is not None or s.guard is not None and not _holds_across(s.guard, loop.axis):
                    return None
                loads.append(s)
            elif strides[loop.axis] not in (0, 1):
                return None
    nodes = sum(len(n.args) > 0 for s in loop.body for root in formulas(s) for n in walk(root))
    if not loads or nodes > _MOST_NODES:
        return None
    if cpu.vector_bytes < 64 and any(nest.operands[s.operand].dtype.itemsize < 4 for s in loop.body
                                     if isinstance(s, (Load, Store))):
        return None  # no masked access to narrow elements before AVX-512
    return Tiles(loop, tuple(loads), min(16, cpu.vector_bytes // max(widths)))


def _holds_across(guard: Expr, axis: int) -> bool:
    """Whether a guard is known from positions along other axes alone, as that of a padded image is for all of its channels."""
    return not inputs_of(guard) and not reads_axis(guard, axis)


def tiled_positions(r: _Renderer, scope: Scope, tiles: Tiles, low: str, high: str) -> None:
    """The loop over the flattened parallel range, up to ``size`` neighbours along u at a time."""
    f, axes, n, loop = r.f, r.nest.parallel, tiles.size, tiles.loop
    u = axes[-1]
    with f.when(f.compare("slt", low, high)):
        counters = r.counters(low)
        position = f.slot("i64", low)
        with f.loop_while(position, "slt", high) as p:
            first = f.get(counters[u])
            rows = f.minimum(f.minimum(f.sub(r.extents[u], first), f.sub(high, p)), n)
            outer = scope.inner()
            for a in axes[:-1]:
                r.bind(outer, a, f.get(counters[a]), r.nest.body)
            corner = outer.inner()
            r.bind(corner, u, first, r.nest.body)
            begin, end = r.range(corner, loop.axis)
            with f.loop(begin, end, n) as i:
                _tiles_at(r, outer, corner, tiles, first, rows, i, f.sub(end, i))
            f.set(position, f.add(p, rows))
            f.set(counters[u], f.add(f.get(counters[u]), rows))
            if len(axes) > 1:
                with f.when(f.compare("sge", f.get(counters[u]), r.extents[u])):
                    f.set(counters[u], "0")
                    r.count(list(axes[:-1]), counters)


def _tiles_at(r: _Renderer, outer: Scope, corner: Scope, tiles: Tiles, first: str, rows: str, i: str, left: str) -> None:
    """The tile at (first, i): whole, with or without stores past the caches, or what there is of it."""
    f, n = r.f, tiles.size
    whole = f.let(f"and i1 {f.compare('eq', rows, n)}, {f.compare('sge', left, n)}")
    broken = f.let(f"xor i1 {whole}, true")
    streamed, past = _past_caches(r, corner, tiles, i)
    if streamed:
        with f.when(f.let(f"and i1 {whole}, {past}")):
            r.memory.streamed = streamed
            _tile(r, outer, corner, tiles, first, i, None, None)
            r.memory.streamed = frozenset()
        whole = f.let(f"and i1 {whole}, {f.let(f'xor i1 {past}, true')}")
    with f.when(whole):
        _tile(r, outer, corner, tiles, first, i, None, None)
    with f.when(broken):
        _tile(r, outer, corner, tiles, first, i, rows, left)


def _past_caches(r: _Renderer, corner: Scope, tiles: Tiles, i: str) -> tuple[frozenset[int], str]:
    """The operands whose rows of a tile are whole cache lines that may go past the caches, and a bool: whether they lie so."""
    f, width, past, found = r.f, r.cpu.vector_bytes, "", set()
    for s in tiles.loop.body:
        if isinstance(s, Store) and s.operand in r.fresh and r.nest.operands[s.operand].dtype.itemsize * tiles.size == width:
            size = r.nest.operands[s.operand].dtype.itemsize
            found.add(s.operand)
            at = f.let(f"ptrtoint ptr {f.at(corner.at[s.operand], f.mul(i, str(size)), 'i8')} to i64")
            step = f.mul(str(r.memory.strides[s.operand][r.nest.parallel[-1]]), str(size))
            even = f.compare("eq", f.let(f"and i64 {f.let(f'or i64 {at}, {step}')}, {width - 1}"), 0)
            both = f.let(f"and i1 {even}, {r.fresh[s.operand]}")
            past = both if not past else f.let(f"and i1 {past}, {both}")
    return frozenset(found), past


def _tile(r: _Renderer, outer: Scope, corner: Scope, tiles: Tiles, first: str, i: str, rows: str | None, left: str | None) -> None:
    """``rows`` and ``left``: how many rows and columns there are, None: all."""
    f, n, loop, operands = r.f, tiles.size, tiles.loop, r.nest.operands
    row_mask, column_mask = (None if count is None else splat(V(f, count, "i64"), n).gt(iota(f, "i64", n)) for count in (rows, left))
    corner = corner.inner()
    r.memory.advance(corner, {s.operand for s in tiles.loads}, loop.axis, i)
    turned: dict[int, list[V]] = {}
    for s in tiles.loads:
        dtype = operands[s.operand].dtype
        type_ = vecmath.memory_type(dtype)
        step = str(r.memory.strides[s.operand][loop.axis])
        rest = r.memory.other(dtype, n, s.other)
        mask = row_mask if s.guard is None else both(row_mask, _guard(r, corner, s.guard, first, n))
        columns = []
        for k in range(n):
            at = f.at(corner.at[s.operand], f.mul(step, str(k)), type_)
            _ask(f, f.at(corner.at[s.operand], f.mul(step, str(k + _AHEAD * n)), type_))
            if mask is None:
                columns.append(V(f, f.let(f"load {rest.text}, ptr {at}, align {dtype.itemsize}"), type_, n))
                continue
            here = mask
            if left is not None:
                here = V(f, f.let(f"select i1 {f.compare('sgt', left, k)}, {mask!r}, {mask.text} zeroinitializer"), "i1", n)
            columns.append(masked_load(f, at, True, here, rest, dtype.itemsize))
        turned[s.value] = transposed(columns)
    done = frozenset(turned)
    for k in range(n):
        with contextlib.nullcontext() if rows is None else f.when(f.compare("sgt", rows, k)):
            row = outer.inner()
            r.bind(row, r.nest.parallel[-1], f.add(first, k), r.nest.body)
            r.body(row, r.nest.body[:-1])
            inner = r.lanes(row, loop, i, n, column_mask)
            for s in tiles.loads:
                inner.env[s.value] = vecmath.load_form(turned[s.value][k], operands[s.operand].dtype)
            r.body(inner, loop.body, done)


def turned_blocks(r: _Renderer, scope: Scope, s: Loop, low: str, high: str, done: frozenset[int]) -> str:
    """The loop in order inside a vector loop, as far as it goes in whole blocks, if what it reads and writes lies along it rather than
    along the vectors: n vectors along it are loaded and turned, and the results of n positions turned back. Gives where the rest begins.
    """
    f, n, operands = r.f, scope.lanes, r.nest.operands
    if scope.mask is not None or s.stretch or not all(_turns(r, scope, s, x) for x in s.body):
        return low
    far = [x for x in s.body if isinstance(x, (Load, Store)) and operands[x.operand].strides[scope.axis] not in (0, 1)]
    nodes = sum(len(node.args) > 0 for x in s.body for root in formulas(x) for node in walk(root))
    if not far or nodes > _MOST_NODES:
        return low
    whole = f.add(low, f.let(f"and i64 {f.sub(high, low)}, {-n}"))
    with f.loop(low, whole, n) as i:
        rows = {x.operand: _rows(r, scope, x.operand, i) for x in far}
        turned: dict[int, list[V]] = {}
        for x in far:
            if isinstance(x, Load):
                dtype = operands[x.operand].dtype
                type_ = vecmath.memory_type(dtype)
                loads = [f.let(f"load <{n} x {type_}>, ptr {at}, align {dtype.itemsize}") for at in rows[x.operand]]
                turned[x.value] = transposed([V(f, value, type_, n) for value in loads])
        results: dict[int, list[V]] = {x.operand: [] for x in far if isinstance(x, Store)}
        for k in range(n):
            turn = scope.inner()
            r.bind(turn, s.axis, f.add(i, k), s.body)
            for one in s.body:
                if isinstance(one, Load) and one in far:
                    turn.env[one.value] = vecmath.load_form(turned[one.value][k], operands[one.operand].dtype)
                elif isinstance(one, Store) and one in far:
                    value = splat(r.value(turn, one.expr), n)
                    results[one.operand].append(vecmath.store_form(value, operands[one.operand].dtype))
                elif not (isinstance(one, (Load, Compute)) and one.value in done):
                    r.statement(turn, one)
        for operand, values in results.items():
            for at, value in zip(rows[operand], transposed(values), strict=True):
                f.do(f"store {value!r}, ptr {at}, align {operands[operand].dtype.itemsize}")
    return whole


def _turns(r: _Renderer, scope: Scope, s: Loop, x: Statement) -> bool:
    """Whether a statement of the loop can be done for a block of positions."""
    if isinstance(x, (Load, Store)):
        strides = r.nest.operands[x.operand].strides
        simple = x.offset is None and x.guard is None and not (isinstance(x, Store) and (x.combine or strides[s.axis] == 0))
        return simple and (strides[scope.axis] in (0, 1) or strides[s.axis] == 1)
    return isinstance(x, (Compute, Accumulate))


def _rows(r: _Renderer, scope: Scope, operand: int, i: str) -> list[str]:
    """Where the operand's lines, one for each lane, are at position ``i`` along them."""
    f, type_ = r.f, vecmath.memory_type(r.nest.operands[operand].dtype)
    first, step = f.at(scope.at[operand], i, type_), str(r.memory.strides[operand][scope.axis])
    return [f.at(first, f.mul(step, str(k)), type_) for k in range(scope.lanes)]


def _guard(r: _Renderer, corner: Scope, guard: Expr, first: str, n: int) -> V:
    """Where the guard holds, at n positions of u from ``first`` on."""
    scope, u = corner.inner(), r.nest.parallel[-1]
    scope.lanes, scope.axis, scope.memo = n, u, {}
    scope.env["index", u] = splat(V(r.f, first, "i64"), n) + iota(r.f, "i64", n)
    return splat(r.value(scope, guard), n)


def _ask(f: Function, address: str) -> None:
    f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    f.do(f"call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 2, i32 1)")


def transposed(rows: list[V]) -> list[V]:
    """n vectors of n lanes, transposed: log2(n) rounds of interleaving the first half of them with the second."""
    n = len(rows)
    f, text = rows[0].f, rows[0].text
    low = ", ".join(f"i32 {k // 2 + (k % 2) * n}" for k in range(n))
    high = ", ".join(f"i32 {n // 2 + k // 2 + (k % 2) * n}" for k in range(n))
    rounds = n.bit_length() - 1
    for _ in range(rounds):
        pairs = [(rows[k], rows[k + n // 2]) for k in range(n // 2)]
        rows = [V(f, f.let(f"shufflevector {text} {a.name}, {text} {b.name}, <{n} x i32> <{order}>"), a.type, n)
                for a, b in pairs for order in (low, high)]
    return rows
