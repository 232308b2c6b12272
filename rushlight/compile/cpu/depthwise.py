"""Planning depthwise convolutions: a filter for each channel, channels along vectors; kernels are in ``depthwise_ir.py``.

``plan(contraction)`` gives the steps, or None where the contraction has another form. Forward passes and input gradients sum
over a window and have many results for each channel; the gradient of the filters sums over images and positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rushlight.compile.contraction import Contraction, Dim
from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.contract import Operand, Plan, Step
from rushlight.compile.cpu.contract_ir import EpilogueOperand
from rushlight.compile.cpu.depthwise_ir import Finish, Forward, Sums, Turn
from rushlight.compile.expr import cast, input_

__all__ = ["plan"]

MOST_TAPS, MOST_STEP, MOST_ROW_AXES = 49, 4, 3
#: Sums that a part should do, and how many parts at most: enough to balance some threads.
PART_WORK, MOST_PARTS = 1 << 17, 64

Steps = list[tuple[int, ...]]


def plan(c: Contraction, cpu: target.CPU | None = None) -> Plan | None:
    cpu = cpu or target.current()
    lanes = cpu.vector_bytes // 4
    if any(d.name != "float32" for d in (c.a, c.b, c.accumulate)) or c.n or len(c.batch) != 1 or not c.m or not c.k:
        return None
    channels = c.batch[0]
    if channels.a != 1 or 2 * channels.extent < lanes or any(d.b for d in c.m):
        return None
    taps, places = math.prod(d.extent for d in c.k), math.prod(d.extent for d in c.m)
    if len(c.k) <= 2 and taps <= MOST_TAPS and places > taps:
        return _forward(c, cpu, lanes)
    if len(c.m) <= 2 and places <= MOST_TAPS < taps and channels.b == 1:
        return _gradient(c, cpu, lanes)
    return None


def _outputs(c: Contraction) -> tuple[tuple[EpilogueOperand, ...], Steps, tuple[Any, ...]]:
    """The outputs (C, then the extras), their bytes per step along batch and m axes, and what is stored."""
    types = [(c.c, True), *((x.dtype, x.written) for x in c.extras)]
    steps = [tuple(d.c for d in (*c.batch, *c.m)), *(x.strides for x in c.extras)]
    steps = [tuple(t * d.itemsize for t in line) for (d, _), line in zip(types, steps, strict=True)]
    outputs = tuple(EpilogueOperand(d, "unit" if line[0] == d.itemsize else "zero" if line[0] == 0 else "any", written)
                    for (d, written), line in zip(types, steps, strict=True))
    return outputs, steps, c.stores or (cast(input_(0, c.accumulate), c.c),)


def _window(dims: tuple[Dim, ...]) -> tuple[Dim, Dim]:
    """A window's two axes, the one along the row last."""
    ordered = sorted(dims, key=lambda d: -abs(d.a))
    return (ordered[0], ordered[1]) if len(ordered) == 2 else (Dim(1), ordered[0])


def _flops(c: Contraction) -> int:
    return 2 * math.prod(d.extent for d in (*c.batch, *c.m, *c.k))


def _delivered(steps: list[Step], scratch: list[int], c: Contraction) -> Plan:
    jit.deliver([step.kernel for step in steps], lambda _: None)
    return Plan(steps, scratch, _flops(c))


def _step(kernel: Any, name: str, operands: list[Operand], values: dict[str, int], tables: list[int], parts: int) -> Step:
    ir: Callable[[], str] = kernel.ir
    return Step((kernel.key, ir, name), [(o, 0) for o in operands], [values[x] for x in kernel.fields] + tables, parts)


def _forward(c: Contraction, cpu: target.CPU, lanes: int) -> Plan | None:
    channels, (u, v) = c.batch[0], _window(c.k)
    along = min(range(len(c.m)), key=lambda i: abs(c.m[i].a))
    x, rows = c.m[along], [i for i in range(len(c.m)) if i != along]
    unit = math.gcd(x.a, v.a)
    if unit == 0 or x.a <= 0 or v.a < 0 or x.a // unit > MOST_STEP or v.a // unit > MOST_STEP or len(rows) > MOST_ROW_AXES:
        return None
    outputs, steps, stores = _outputs(c)
    vectors, count = -(-channels.extent // lanes), math.prod(c.m[i].extent for i in rows)
    kernel = Forward(lanes, cpu.vector_registers, cpu.fma, (u.extent, v.extent), x.a // unit, v.a // unit, bool(channels.extent % lanes),
                     outputs, stores)  # fmt: skip
    block = _block(count, x.extent * u.extent * v.extent * lanes, vectors)
    row = vectors * lanes * 4
    values = {"channels": channels.extent, "columns": v.extent, "b_c": 4 * channels.b, "b_u": 4 * u.b, "b_v": 4 * v.b, "row": row,
              "vectors": vectors, "rows": count, "block": block, "wide": x.extent, "dims": len(rows), "a_u": 4 * u.a, "unit": 4 * unit,
              "w_row": row}  # fmt: skip
    for i, line in enumerate(steps):
        values |= {f"x{i}": line[1 + along], f"c{i}": line[0]}
    tables = [number for k in rows for number in (c.m[k].extent, 4 * c.m[k].a, 0, *(line[1 + k] for line in steps))]
    extras: list[Operand] = [("extra", i) for i in range(len(c.extras))]
    w: Operand = ("scratch", 0)
    taps = u.extent * v.extent
    return _delivered([_step(Turn(), "turn", ["b", w], values, [], taps),
                       _step(kernel, "forward", ["a", w, "c", *extras], values, tables, vectors * -(-count // block))], [taps * row], c)


def _gradient(c: Contraction, cpu: target.CPU, lanes: int) -> Plan | None:
    channels, (u, v) = c.batch[0], _window(c.m)
    along = min(range(len(c.k)), key=lambda i: abs(c.k[i].a))
    x, rows = c.k[along], [d for i, d in enumerate(c.k) if i != along]
    if len(rows) > MOST_ROW_AXES:
        return None
    outputs, steps, stores = _outputs(c)
    vectors, count, taps = -(-channels.extent // lanes), math.prod(d.extent for d in rows), u.extent * v.extent
    kernel = Sums(lanes, cpu.vector_registers, cpu.fma, (u.extent, v.extent), bool(channels.extent % lanes))
    block = _block(count, x.extent * taps * lanes, vectors)
    chunks, row = -(-count // block), vectors * lanes * 4
    values = {"channels": channels.extent, "vectors": vectors, "rows": count, "block": block, "wide": x.extent, "dims": len(rows),
              "a_u": 4 * u.a, "a_v": 4 * v.a, "a_x": 4 * x.a, "b_x": 4 * x.b, "row": row, "chunk": taps * row, "chunks": chunks,
              "high": u.extent}  # fmt: skip
    tables = [number for d in rows for number in (d.extent, 4 * d.a, 4 * d.b, 0)]
    place = {id(d): k for k, d in enumerate(c.m)}
    ending = {"channels": channels.extent, "chunks": chunks, "chunk": taps * row, "row": row, "high": u.extent, "wide": v.extent}
    for i, line in enumerate(steps):
        y, along_v = (line[1 + place[id(d)]] if id(d) in place else 0 for d in (u, v))
        ending |= {f"y{i}": y, f"x{i}": along_v, f"c{i}": line[0]}
    extras: list[Operand] = [("extra", i) for i in range(len(c.extras))]
    sums: Operand = ("scratch", 0)
    return _delivered([_step(kernel, "sums", ["a", "b", sums], values, tables, vectors * chunks),
                       _step(Finish(lanes, outputs, stores), "finish", [sums, "c", *extras], ending, [], vectors)],
                      [chunks * taps * row], c)


def _block(rows: int, work: int, vectors: int) -> int:
    """Rows of a part."""
    parts = max(1, min(rows, -(-MOST_PARTS // vectors), rows * work * vectors // PART_WORK))
    return -(-rows // parts)
