"""Planning convolutions with a filter for each channel (depthwise), or with small groups of channels; channels lie along
vectors; kernels are in ``depthwise_ir.py``.

``plan(contraction)`` gives the steps, or None where the contraction has another form. Forward passes and input gradients sum
over a window and have many results for each channel; the gradient of the filters sums over images and positions.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rushlight.compile.contraction import Contraction, Dim
from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.contract_epilogue import EpilogueOperand
from rushlight.compile.cpu.contract_step import Operand, Plan, Step
from rushlight.compile.cpu.contract_sums import combined, items_of, lines
from rushlight.compile.cpu.depthwise_ir import Finish, Forward, Sums, Turn
from rushlight.compile.expr import cast, input_
from rushlight.compile.sizes import numeric

__all__ = ["plan"]

SMALL = (2, 4, 8)  # channels of a group
MOST_TAPS, MOST_STEP, MOST_ROW_AXES = 49, 4, 3
#: Sums that a part should do, and how many parts at most: enough to balance some threads.
PART_WORK, MOST_PARTS = 1 << 17, 64
#: The same of forward passes: parts of the same rows follow each other, one for each vector of channels, and of few rows all is still in
#: the second-level cache for the next. (For gradients of filters the sums of more parts cost what that gains.)
FORWARD_WORK, MOST_FORWARD = 1 << 15, 256

Steps = list[tuple[int, ...]]


def plan(c: Contraction, cpu: target.CPU | None = None) -> Plan | None:
    cpu = cpu or target.current()
    lanes = cpu.vector_bytes // 4
    if any(d.name != "float32" for d in (c.a, c.b, c.accumulate)) or len(c.batch) != 1 or len(c.n) > 1 or not c.m or not c.k:
        return None
    groups, filters = c.batch[0], c.n[0] if c.n else Dim(1)
    each = groups.a
    if each not in (1, *SMALL) or lanes % each or filters.extent != each or 2 * groups.extent * each < lanes or any(d.b for d in c.m):
        return None
    sums = [d for d in c.k if d.a == 1] if each > 1 else []
    rest = tuple(d for d in c.k if d not in sums)
    taps, places = math.prod(d.extent for d in rest), math.prod(d.extent for d in c.m)
    if [d.extent for d in sums] == [each] * (each > 1) and 1 <= len(rest) <= 2 and taps <= MOST_TAPS and places > taps:
        return _forward(c, rest, sums[0] if sums else Dim(1), filters, cpu, lanes)
    members = [d for d in c.m if d.a == 1] if each > 1 else []
    rest = tuple(d for d in c.m if d not in members)
    taps, places = math.prod(d.extent for d in rest), math.prod(d.extent for d in c.k)
    fits = groups.b == each and (each == 1 or filters.b == 1)
    if not c.sums and [d.extent for d in members] == [each] * (each > 1) and 1 <= len(rest) <= 2 and taps <= MOST_TAPS < places and fits:
        return _gradient(c, rest, members[0] if members else Dim(1), cpu, lanes)
    return None


def _outputs(c: Contraction) -> tuple[tuple[EpilogueOperand, ...], Steps, tuple[Any, ...]]:
    """The outputs (C, then the extras); their bytes per step along groups, the channels of a group, and m axes; what is stored."""
    types = [(c.c, True), *((x.dtype, x.written) for x in c.extras)]
    steps = [tuple(d.c for d in (*c.batch, *c.m, *c.n)), *(x.strides for x in c.extras)]
    steps = [tuple(t * d.itemsize for t in line) for (d, _), line in zip(types, steps, strict=True)]
    steps = [(line[0], line[-1], *line[1:-1]) if c.n else (line[0], line[0], *line[1:]) for line in steps]
    each = c.n[0].extent if c.n else 1
    outputs = tuple(EpilogueOperand(d, "any" if line[0] != each * line[1] or line[1] not in (0, d.itemsize)
                                    else "unit" if line[1] else "zero", written, not written and not any(line[2:]))
                    for (d, written), line in zip(types, steps, strict=True))
    return outputs, steps, c.stores or (cast(input_(0, c.accumulate), c.c),)


def _window(dims: tuple[Dim, ...]) -> tuple[Dim, Dim]:
    """A window's two axes, the one along the row last."""
    ordered = sorted(dims, key=lambda d: -abs(d.a))
    return (ordered[0], ordered[1]) if len(ordered) == 2 else (Dim(1), ordered[0])


def _flops(c: Contraction) -> int:
    return 2 * math.prod(d.extent for d in (*c.batch, *c.m, *c.n, *c.k))


def _delivered(steps: list[Step], scratch: list[int], c: Contraction) -> Plan:
    jit.deliver([step.kernel for step in steps], lambda _: None)
    return Plan(steps, scratch, _flops(c))


def _step(kernel: Any, name: str, operands: list[Operand], values: dict[str, int], tables: list[int], parts: int,
          packs: bool = False) -> Step:
    ir: Callable[[], str] = kernel.ir
    return Step((kernel.key, ir, name), [(o, 0) for o in operands], [values[x] for x in kernel.fields] + tables, parts, packs)


def _forward(c: Contraction, window: tuple[Dim, ...], inner: Dim, filters: Dim, cpu: target.CPU, lanes: int) -> Plan | None:
    groups, (u, v) = c.batch[0], _window(window)
    along = min(range(len(c.m)), key=lambda i: abs(c.m[i].a))
    x, rows = c.m[along], [i for i in range(len(c.m)) if i != along]
    unit = math.gcd(x.a, v.a)
    outputs, steps, stores = _outputs(c)
    apart = any(line[0] != groups.a * line[1] for line in steps)  # groups that do not lie beside each other
    if apart or unit == 0 or x.a <= 0 or v.a < 0 or x.a // unit > MOST_STEP or v.a // unit > MOST_STEP or len(rows) > MOST_ROW_AXES:
        return None
    each, channels = groups.a, groups.extent * groups.a
    vectors, count = -(-channels // lanes), math.prod(c.m[i].extent for i in rows)
    kernel = Forward(lanes, cpu.vector_registers, cpu.fma, (u.extent, v.extent), each, x.a // unit, v.a // unit, bool(channels % lanes),
                     outputs, stores, items_of(c))  # fmt: skip
    taps, row = u.extent * v.extent * each, vectors * lanes * 4
    block = _block(count, x.extent * taps * lanes, vectors, FORWARD_WORK, MOST_FORWARD)
    values = {"channels": channels, "groups": groups.extent, "each": each, "columns": v.extent, "b_g": 4 * groups.b, "b_o": 4 * filters.b,
              "b_i": 4 * inner.b, "b_u": 4 * u.b, "b_v": 4 * v.b, "row": row, "vectors": vectors, "rows": count, "block": block,
              "wide": x.extent, "dims": len(rows), "a_u": 4 * u.a, "unit": 4 * unit, "w_row": row, "sum_line": row}  # fmt: skip
    for i, line in enumerate(steps):
        values |= {f"x{i}": line[2 + along], f"c{i}": line[1]}
    rest = (0,) * bool(c.sums)
    tables = [number for k in rows for number in (c.m[k].extent, 4 * c.m[k].a, 0, *(line[2 + k] for line in steps), *rest)]
    extras: list[Operand] = [("extra", i) for i in range(len(c.extras))]
    w: Operand = ("scratch", 0)
    names, scratch, pieces = ["a", w, "c", *extras], [taps * row], -(-count // block)
    if c.sums:
        names.append(("scratch", 1))
        scratch.append(pieces * lines(kernel.sums) * row)
    made = [_step(Turn(), "turn", ["b", w], values, [], taps, packs=True),
            _step(kernel, "forward", names, values, tables, vectors * pieces)]
    if c.sums:
        made.append(combined(c, lanes, 1, 1, pieces, channels, row))
    return _delivered(made, scratch, c)


def _gradient(c: Contraction, window: tuple[Dim, ...], inner: Dim, cpu: target.CPU, lanes: int) -> Plan | None:
    groups, (u, v) = c.batch[0], _window(window)
    along = min(range(len(c.k)), key=lambda i: abs(c.k[i].a))
    x, rows = c.k[along], [d for i, d in enumerate(c.k) if i != along]
    if len(rows) > MOST_ROW_AXES:
        return None
    outputs, steps, stores = _outputs(c)
    each, channels = groups.a, groups.extent * groups.a
    vectors, count, taps = -(-channels // lanes), math.prod(d.extent for d in rows), u.extent * v.extent * each
    kernel = Sums(lanes, cpu.vector_registers, cpu.fma, (u.extent, v.extent), each, bool(channels % lanes))
    block = _block(count, x.extent * taps * lanes, vectors, PART_WORK, MOST_PARTS)
    chunks, row = -(-count // block), vectors * lanes * 4
    values = {"channels": channels, "vectors": vectors, "rows": count, "block": block, "wide": x.extent, "dims": len(rows),
              "a_u": 4 * u.a, "a_v": 4 * v.a, "a_x": 4 * x.a, "b_x": 4 * x.b, "row": row, "chunk": taps * row}  # fmt: skip
    tables = [number for d in rows for number in (d.extent, 4 * d.a, 4 * d.b, 0)]
    place = {id(d): k for k, d in enumerate(c.m)}
    ending = {"channels": channels, "chunks": chunks, "chunk": taps * row, "row": row, "high": u.extent, "wide": v.extent}
    for k, line in enumerate(steps):
        y, along_v, i = (line[2 + place[id(d)]] if id(d) in place else 0 for d in (u, v, inner))
        ending |= {f"y{k}": y, f"x{k}": along_v, f"i{k}": i, f"g{k}": line[0], f"o{k}": line[1]}
    extras: list[Operand] = [("extra", i) for i in range(len(c.extras))]
    sums: Operand = ("scratch", 0)
    return _delivered([_step(kernel, "sums", ["a", "b", sums], values, tables, vectors * chunks),
                       _step(Finish(lanes, each, outputs, stores), "finish", [sums, "c", *extras], ending, [], vectors)],
                      [chunks * taps * row], c)


@numeric
def _block(rows: int, work: int, vectors: int, least: int, most: int) -> int:
    """Rows of a part, for ``most`` parts of the ``least`` work."""
    parts = max(1, min(rows, -(-most // vectors), rows * work * vectors // least))
    return -(-rows // parts)
