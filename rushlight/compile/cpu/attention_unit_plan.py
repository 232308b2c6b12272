"""Planning attention on the tile unit: whether, and where what is taken apart lies."""

from __future__ import annotations

from typing import Any

from rushlight.compile.attention import Attention, AttentionBackward
from rushlight.compile.cpu import target
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
from rushlight.compile.cpu.attention_ir import SQUARES, AttentionKernel
from rushlight.compile.cpu.attention_squares import DEEP, SIDE, SquareTiles
from rushlight.compile.cpu.contract_step import Plan
from rushlight.compile.dtypes import bfloat16, float32
from rushlight.compile.flags import flags
from rushlight.compile.sizes import decision, largest, smallest

__all__ = ["gains", "on_unit", "unit_backward", "unit_forward"]

#: Of a head's keys and values, taken apart, and their gradients: on the stack of the thread that uses them, in half of the
#: second-level cache.
LOCAL_BYTES = 1 << 20
#: Multiply-adds of float32 a cycle, on vectors and on the tile unit, as attention's products reach them. Cycles for taking a number apart:
#: of a key or value, each time; of a query or its gradient; a weight, and beside it the gradient of its score. And for copying gradients.
ON_VECTORS, ON_UNIT = 24, 47
KEY_APART, QUERY_APART, WEIGHT_APART, BOTH_APART, COPY = 1.5, 0.5, 1.0, 2.0, 0.8


def on_unit(call: Call) -> bool:
    """Whether the products are made on the tile unit: those of bfloat16 where keys fill a square, those of float32 where it gains."""
    cpu, dtype = target.current(), call.arrays[0][1]
    if not (cpu.amx and cpu.bf16_dot):
        return False
    if dtype is bfloat16:
        return call.sizes[4] > SIDE
    return dtype is float32 and bool(flags.tiles) and gains(isinstance(call, AttentionBackward), call.causal, call.sizes)


@decision
def gains(backward: bool, causal: bool, sizes: tuple[int, int, int, int, int, int, int]) -> bool:
    """Whether the tile unit saves cycles of a key head, though its numbers have to be taken apart."""
    _, h, g, length, source, e, v = sizes
    queries = h // g * length
    short = min(length, source)
    seen = h // g * (short * (short + 1) // 2 + (length - short) * source if causal else length * source)
    # Squares are whole, and on a diagonal half empty.
    made = seen + queries * SIDE if causal else -(-queries // SIDE) * SIDE * (-(-source // DEEP) * DEEP)
    deep_e, deep_v = (-(-x // DEEP) * DEEP for x in (e, v))
    if not backward:
        apart = KEY_APART * source * (e + v) * (h // g) + QUERY_APART * queries * e + WEIGHT_APART * made
        return made * (deep_e + v) / ON_UNIT + apart < seen * (e + v) / ON_VECTORS
    apart = KEY_APART * source * (2 * e + v) + 2 * QUERY_APART * queries * (e + v) + BOTH_APART * made + COPY * source * (e + v)
    return made * (deep_e + deep_v + 2 * e + v) / ON_UNIT + apart < seen * (3 * e + 2 * v) / ON_VECTORS


def unit_forward(call: Attention, strides: Strides) -> Plan:
    b, h, g, length, source, e, v = call.sizes
    kernel, squares = _kernel("forward", call), _squares(call, ("lines_k", "turned_v"))
    blocks = -(-length // kernel.tiles.width)
    given = dict(zip(given_names(call, "q", "k", "v"), strides, strict=True))
    out, rows = call.outputs
    places = {"out": out, "stats": rows}
    local = b * h >= PARTS and sum(head for head, _, _ in squares.values()) <= LOCAL_BYTES
    block_flops = 2 * kernel.tiles.width * source * (e + v)
    chunk = blocks if local else smallest(blocks, largest(1, PART_FLOPS // block_flops))
    values = common(call, blocks, chunk) | moves(call, kernel, given, places)
    operands = [operand(call, name, given, places) for name in kernel.operands]
    made = Plan([], [], call.flops)
    values |= _placed(call, kernel, made, strides, squares, operands, {}, local)
    made.steps.append(step(kernel, operands, values, b * h * -(-blocks // chunk)))
    return made


def unit_backward(call: AttentionBackward, strides: Strides) -> Plan:
    b, h, g, length, source, e, v = call.sizes
    kernel, squares = _kernel("backward", call), _squares(call, ("lines_k", "lines_v", "turned_k"))
    blocks = -(-length // kernel.tiles.width)
    splits = max(1, min(blocks, -(-PARTS // (b * g)), call.flops // (b * g) // PART_FLOPS))
    given = dict(zip(given_names(call, "q", "k", "v", "result", "grad", "stats"), strides, strict=True))
    places = dict(zip(("to_q", "to_k", "to_v"), call.outputs))
    places |= {"into_k": call.outputs[1], "into_v": call.outputs[2]}
    operands = [operand(call, name, given, places) for name in kernel.operands]
    # Gradients of keys and values: whole squares are stored.
    rows = {name: -(-width // SIDE) * SIDE * 4 for name, width in (("to_k", e), ("to_v", v))}
    sizes = {name: -(-source // DEEP) * DEEP * row for name, row in rows.items()}
    local = splits == 1 and sum(head for head, _, _ in squares.values()) + sum(sizes.values()) <= LOCAL_BYTES
    made = Plan([], [], call.flops)
    values = common(call, blocks, splits) | moves(call, kernel, given, places) | {"to_k_split": 0, "to_v_split": 0}
    adding: dict[str, int] = {}
    for name, size in sizes.items():
        if not local:
            operands[kernel.operands.index(name)] = (("scratch", len(made.scratch)), 0)
            made.scratch.append(b * g * splits * size)
        values |= {f"{name}_b": g * size, f"{name}_g": size, f"{name}_s": rows[name], f"{name}_split": b * g * size}
        adding |= {f"parts_{name[3:]}_n": size, f"parts_{name[3:]}_s": rows[name], f"{name[3:]}_split": b * g * size}
    values |= _placed(call, kernel, made, strides, squares, operands, sizes, local)
    made.steps.append(step(kernel, operands, values, b * g * splits))
    if splits > 1:
        add, chunk = _kernel("add", call), largest(1, (256 << 10) // (splits * (e + v) * 4))
        ends: list[Any] = [(("scratch", 0), 0), (("scratch", 1), 0), *(operand(call, x, given, places) for x in ("to_k", "to_v"))]
        summed = common(call, splits, chunk) | moves(call, add, given, places) | adding
        made.steps.append(step(add, ends, summed, b * g * -(-source // chunk)))
    return made


def _squares(call: Call, names: tuple[str, ...]) -> dict[str, tuple[int, int, int]]:
    """Of keys and values that are taken apart: bytes of a head, bytes from key to key, columns."""
    *_, source, e, v = call.sizes
    square, deep = _tiles(call).square, -(-source // DEEP)
    made = {}
    for name in names:
        how, x = name.split("_")
        width = e if x == "k" else v
        if how == "lines":
            made[name] = 2 * deep * -(-width // DEEP) * square, -(-width // DEEP) * square // SIDE, width
        else:
            made[name] = -(-width // SIDE) * deep * square, square // DEEP, width
    return made


def _placed(call: Call, kernel: AttentionKernel, made: Plan, strides: Strides, squares: dict[str, tuple[int, int, int]], operands: list,
            more: dict[str, int], local: bool) -> dict[str, int]:  # fmt: skip
    """Parameters that say where the squares of a head are: with ``more`` on the stack of each part, which makes them, or in scratch
    memory, where a step makes them for all heads."""
    b, _, g, _, source, e, v = call.sizes
    values, end = {"local": 0}, 0
    for name, size in [*((name, head) for name, (head, _, _) in squares.items()), *more.items()]:
        values[f"{name}_at"] = end
        end += size
    for name, (head, row, _) in squares.items():
        values |= {f"{name}_n": head, f"{name}_s": row}
    if local:
        for name in squares:
            operands[kernel.operands.index(name)] = (("in", 0), 0)
        return values | {"local": end}
    apart = _kernel("apart", call)
    given = {"k": strides[1], "v": strides[2]}
    chunk = largest(1, (64 << 10) // ((e + v) * 4) // DEEP) * DEEP
    said = dict.fromkeys(apart.fields, 0) | common(call, 1, chunk) | moves(call, apart, given, {})
    ends: list[Any] = [(("in", 1), 0), (("in", 2), 0)] + [(("scratch", len(made.scratch)), 0)] * len(SQUARES)
    for name, (head, row, width) in squares.items():
        place = (("scratch", len(made.scratch)), 0)
        made.scratch.append(b * g * head)
        ends[apart.operands.index(name)] = operands[kernel.operands.index(name)] = place
        said |= {f"{name}_n": head, f"{name}_s": row, f"{name}_columns": width}
    made.steps.append(step(apart, ends, said, b * g * -(-source // chunk)))
    return values


def _tiles(call: Call) -> SquareTiles:
    cpu, dtype = target.current(), call.arrays[0][1]
    return SquareTiles(dtype.compute, SIDE, cpu.vector_registers, cpu.fma, fence(cpu), outside=dtype)


def _kernel(kind: str, call: Call) -> AttentionKernel:
    if kind in ("add", "apart"):
        return AttentionKernel(kind, _tiles(call), False, False, unit=True)
    return AttentionKernel(kind, _tiles(call), call.causal, call.masked, call.drop > 0, kind == "backward", False, True,
                           call.fill is not None, call.strict)  # fmt: skip
