"""Planning attention: parts of the work, the split of a backward with few heads, parameters. From sizes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rushlight.compile.attention import Attention, AttentionBackward
from rushlight.compile.cpu import target
from rushlight.compile.cpu.attention_few import is_few, pieces_of, record
from rushlight.compile.cpu.attention_fields import (
    PART_FLOPS,
    PARTS,
    Call,
    Strides,
    common,
    fence,
    given_names,
    moves,
    operand,
    step,
)
from rushlight.compile.cpu.attention_ir import AttentionKernel
from rushlight.compile.cpu.attention_pairs import PairTiles
from rushlight.compile.cpu.attention_tiles import Tiles
from rushlight.compile.cpu.attention_unit_plan import on_unit, unit_backward, unit_forward
from rushlight.compile.cpu.contract_step import Plan
from rushlight.compile.cpu.native import Operand
from rushlight.compile.dtypes import DType, bfloat16
from rushlight.compile.sizes import decision

__all__ = ["has_kernel", "plan"]

#: Bytes from row to row.
FAR = 4096


def has_kernel(call: Call, dtypes: Sequence[DType]) -> bool:
    floats = dtypes[: len(dtypes) - bool(call.drop)]
    if floats[0] is bfloat16 and not on_unit(call):
        cpu = target.current()
        return cpu.bf16_dot and cpu.vector_bytes == 64 and not any(n % 2 for n in call.sizes[-2:])
    return floats[0] is bfloat16 or all(d.name in ("float32", "float64") for d in floats)


def plan(call: Call, operands: Sequence[Operand], wanted: Sequence[bool]) -> Plan:
    """The steps of a call; see ``native.py``."""
    strides = [x.strides for x in operands]
    if on_unit(call):
        made = unit_forward(call, strides) if isinstance(call, Attention) else unit_backward(call, strides)
    else:
        made = _forward(call, strides) if isinstance(call, Attention) else _backward(call, strides)
    # What nobody wants is written all the same, into scratch memory.
    for k, ((shape, dtype), want) in enumerate(zip(call.arrays, wanted, strict=True)):
        if not want:
            for step in made.steps:
                step.operands = [(("scratch", len(made.scratch)), at) if name == ("out", k) else (name, at) for name, at in step.operands]
            made.scratch.append(math.prod(shape) * dtype.itemsize)
    return made


def _forward(call: Attention, strides: Strides) -> Plan:
    b, h, g, length, source, e, v = call.sizes
    if not _is_narrow(call) and not call.drop and is_few(length):
        return _few(call, strides)
    kernel = _kernel("forward", call)
    blocks = -(-length // kernel.tiles.width)
    block_flops = 2 * kernel.tiles.width * source * (e + v)
    chunk = min(blocks, max(1, PART_FLOPS // block_flops))
    given = dict(zip(given_names(call, "q", "k", "v"), strides, strict=True))
    out, rows = call.outputs
    places = {"out": out, "stats": rows}
    operands = [operand(call, name, given, places) for name in kernel.operands]
    values = common(call, blocks, chunk) | moves(call, kernel, given, places)
    made = Plan([step(kernel, operands, values, b * h * -(-blocks // chunk))], [], call.flops)
    if kernel.pairs:
        return _gathered(call, strides, kernel, made, {"v": "v"})
    return _gathered(call, strides, kernel, made) if _are_far(call, strides[1:3]) else made


def _few(call: Attention, strides: Strides) -> Plan:
    b, h, g, length, source, e, v = call.sizes
    item = call.arrays[0][1].itemsize
    pieces = pieces_of(b * g, source, (e + v) * item)
    given = dict(zip(given_names(call, "q", "k", "v"), strides, strict=True))
    places = dict(zip(("out", "stats"), call.outputs))
    kernel = _kernel("few" if pieces == 1 else "few in pieces", call)
    values = common(call, pieces, -(-source // pieces)) | moves(call, kernel, given, places)
    made = Plan([], [], call.flops)
    if pieces > 1:
        rows, line = b * h * length, record(v, item)
        made.scratch.append(rows * pieces * line)
        values["parts_n"] = line
    made.steps.append(step(kernel, [operand(call, name, given, places) for name in kernel.operands], values, b * g * pieces))
    if pieces > 1:
        join = _kernel("join", call)
        chunk = max(1, (64 << 10) // (pieces * line))
        summed = common(call, pieces, chunk) | moves(call, join, {}, places) | {"rows": rows, "parts_n": line}
        made.steps.append(step(join, [operand(call, name, {}, places) for name in join.operands], summed, -(-rows // chunk)))
    return made


def _backward(call: AttentionBackward, strides: Strides) -> Plan:
    b, h, g, length, source, e, v = call.sizes
    far = _is_narrow(call) or _are_far(call, [*strides[:3], strides[4], *(out.strides for out in call.outputs)])
    kernel = _kernel("backward", call, far)
    item = call.arrays[0][1].compute.itemsize
    blocks = -(-length // kernel.tiles.width)
    splits = max(1, min(blocks, -(-PARTS // (b * g)), call.flops // (b * g) // PART_FLOPS))
    given = dict(zip(given_names(call, "q", "k", "v", "result", "grad", "stats"), strides, strict=True))
    places = dict(zip(("to_q", "to_k", "to_v"), call.outputs))
    places |= {"into_k": call.outputs[1], "into_v": call.outputs[2]}
    values = common(call, blocks, splits) | moves(call, kernel, given, places) | {"to_k_split": 0, "to_v_split": 0}
    operands = [operand(call, name, given, places) for name in kernel.operands]
    if splits == 1 and not far:
        return Plan([step(kernel, operands, values, b * g)], [], call.flops)
    names = list(kernel.operands)
    scratch, steps = [], []
    add = _kernel("add", call)
    adding: dict[str, int] = {}
    for k, (name, width) in enumerate((("k", e), ("v", v))):
        row = width * item
        size = b * g * source * row
        scratch.append(splits * size)
        operands[names.index(f"to_{name}")] = (("scratch", k), 0)
        values |= {f"to_{name}_b": g * source * row, f"to_{name}_g": source * row, f"to_{name}_s": row, f"to_{name}_split": size}
        adding |= {f"parts_{name}_n": source * row, f"parts_{name}_s": row, f"{name}_split": size}
    steps.append(step(kernel, operands, values, b * g * splits))
    read = {"k": "pairs_k"} if kernel.pairs else None
    if splits == 1:  # the parts put their gradients where they belong themselves
        return _gathered(call, strides, kernel, Plan(steps, scratch, call.flops), read)
    chunk = max(1, (256 << 10) // (splits * (e + v) * item))
    ends = [(("scratch", 0), 0), (("scratch", 1), 0), *(operand(call, x, given, places) for x in ("to_k", "to_v"))]
    summed = common(call, splits, chunk) | moves(call, add, given, places) | adding
    steps.append(step(add, ends, summed, b * g * -(-source // chunk)))
    made = Plan(steps, scratch, call.flops)
    return _gathered(call, strides, kernel, made, read) if far else made


def _gathered(call: Call, strides: Strides, kernel: AttentionKernel, made: Plan, read: dict[str, str] | None = None) -> Plan:
    """The plan with a step before it that puts keys and values side by side; its first step reads them there.

    ``read``: which of them, and as which operand. Rows of pairs are half as many, of numbers twice as wide."""
    b, h, g, length, source, e, v = call.sizes
    read = read or {"k": "k", "v": "v"}
    item = call.arrays[0][1].compute.itemsize
    gather = _kernel("gather", call)
    given = {"k": strides[1], "v": strides[2]}
    main = made.steps[0]
    places: list[tuple[Any, int]] = []
    values: dict[str, int] = {}
    rows = -(-source // 2) if kernel.pairs else source
    for name, size, width in (("k", "e_size", e if "k" in read else 0), ("v", "v_size", v if "v" in read else 0)):
        row = width * item
        places.append((("scratch", len(made.scratch)), 0))
        made.scratch.append(b * g * rows * row)
        values |= {f"near_{name}_n": rows * row, f"near_{name}_s": row, size: width}
        if name in read:
            main.operands[kernel.operands.index(read[name])] = places[-1]
            for d, stride in (("b", g * rows * row), ("g", rows * row), ("s", row)):
                main.params[kernel.fields.index(f"{read[name]}_{d}")] = stride
    chunk = max(1, (64 << 10) // ((e + v) * item) // 2) * 2
    values = common(call, 1, chunk) | moves(call, gather, given, {}) | values
    operands: list[tuple[Any, int]] = [*places, (("in", 1), 0), (("in", 2), 0)]
    made.steps.insert(0, step(gather, operands, values, b * g * -(-source // chunk)))
    return made


def _are_far(call: Call, strides: Strides) -> bool:
    """Whether rows of an operand are so far apart that they get into each other's way in the first-level cache."""
    return any(abs(s[2]) * call.arrays[0][1].itemsize >= FAR for s in strides)


def _is_narrow(call: Call) -> bool:
    return call.arrays[0][1] is bfloat16


@decision
def _is_wide(length: int, lanes: int, registers: int, full_loads: int, adds: bool) -> bool:
    """Whether a row of a tile has four vectors: where two have too many loads, and there are queries for more; ``adds``: or where keys get
    gradients, which are then added up half as often."""
    return (full_loads == 1 or adds) and registers >= 32 and length > 2 * lanes


def _kernel(kind: str, call: Call, far: bool = False) -> AttentionKernel:
    cpu, pairs = target.current(), _is_narrow(call)
    dtype: DType = call.arrays[0][1].compute
    lanes = cpu.vector_bytes // dtype.itemsize
    adds = kind == "backward" and not call.causal and cpu.wide_tiles
    wide = kind in ("forward", "backward") and not pairs and _is_wide(call.sizes[3], lanes, cpu.vector_registers, cpu.full_loads, adds)
    vectors = 4 if wide else 1 if kind in ("few", "few in pieces", "join") else 2
    tiles = (PairTiles if pairs else Tiles)(dtype, lanes, cpu.vector_registers, cpu.fma, fence(cpu), vectors)
    if kind in ("add", "gather"):
        return AttentionKernel(kind, tiles, False, False, pairs=pairs)
    return AttentionKernel(kind, tiles, call.causal, call.masked, call.drop > 0, far, pairs, False, call.fill is not None, call.strict)
