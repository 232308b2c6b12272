"""What planners of attention put into kernels' parameters: operands, strides, sizes, numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from rushlight.compile.attention import Attention, AttentionBackward
from rushlight.compile.cpu import target
from rushlight.compile.cpu.attention_ir import AttentionKernel
from rushlight.compile.cpu.contract_step import Step
from rushlight.compile.placed import Output
from rushlight.compile.randoms import dropout_limit
from rushlight.compile.sizes import numeric

__all__ = ["PARTS", "PART_FLOPS", "Call", "Strides", "common", "fence", "given_names", "moves", "operand", "step"]

#: A part should keep a core busy for some twenty microseconds.
PART_FLOPS = 4_000_000
#: Parts of a backward, if there are so few heads that their blocks of queries are shared out.
PARTS = 16

Call = Attention | AttentionBackward
Strides = Sequence[tuple[int, ...]]


def given_names(call: Call, *names: str) -> list[str]:
    """The names of the inputs in order."""
    return [*names, *(["mask"] if call.masked else []), *(["seed"] if call.drop else [])]


def fence(cpu: target.CPU) -> str:
    """The letter of a vector register in inline assembly."""
    return {"x86_64": "v", "aarch64": "w", "arm64": "w"}.get(cpu.triple.split("-")[0], "")


def common(call: Call, blocks: int, chunk: int) -> dict[str, int]:
    _, h, g, length, source, e, v = call.sizes
    values = {"heads": h, "group": h // g, "length": length, "source": source, "e_size": e, "v_size": v, "blocks": blocks,
              "chunk": chunk, "scale": _bits(_wide(call), call.scale)}  # fmt: skip
    if call.drop:
        values |= {"limit": dropout_limit(call.drop), "growth": _bits(_wide(call), 1 / (1 - call.drop))}
    if call.masked:
        values |= {"fill": _bits(_wide(call), -math.inf if call.fill is None else call.fill)}
    return values


def _wide(call: Call) -> bool:
    """Whether a call computes in float64."""
    return call.arrays[0][1].compute.itemsize == 8


@numeric
def _bits(wide: bool, number: float) -> int:
    """A float64 or a float32 as a parameter."""
    return struct.unpack(*("<q", struct.pack("<d", number)) if wide else ("<i", struct.pack("<f", number)))[0]


def _item(call: Call, name: str) -> int:
    """Bytes of an element of an operand."""
    dtype = call.arrays[0][1]
    return (dtype.compute if name in ("stats", "mask") else dtype).itemsize


def operand(call: Call, name: str, given: dict[str, tuple[int, ...]], places: dict[str, Output]) -> tuple:
    """The pointer pair of an operand, as an operand of a ``Step``."""
    if name in given:
        return ("in", list(given).index(name)), 0
    if name not in places:
        return ("scratch", 0), 0  # to be said later
    return ("out", places[name].result), places[name].offset * _item(call, name)


def moves(call: Call, kernel: AttentionKernel, given: dict[str, tuple[int, ...]],
          places: dict[str, Output]) -> dict[str, int]:  # fmt: skip
    """The strides of the kernel's operands, in bytes."""
    out = {f"{name}_{d}": 0 for name in kernel.operands if name not in given and name not in places for d in "bgs"}
    for name in kernel.operands:
        item = _item(call, name)
        strides = given.get(name) or (places[name].strides if name in places else ())
        for d, stride in zip({"mask": "bhls", "stats": "bhnl"}.get(name, "bhl"), strides):
            for letter in {d, {"h": "g", "l": "s"}.get(d, d)} if name != "mask" else {d}:
                out[f"{name}_{letter}"] = stride * item
    return {k: v for k, v in out.items() if k in kernel.fields}


def step(kernel: AttentionKernel, operands: list, values: dict[str, int], parts: int) -> Step:
    return Step((kernel.key, kernel.ir, "attention"), operands, [values[name] for name in kernel.fields], parts)
