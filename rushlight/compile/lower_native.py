"""From a native call's group to its plan: where its operands lie, which results are wanted."""
from __future__ import annotations

from dataclasses import dataclass

from . import index as ix
from .body import address_of
from .cpu.contract import Plan
from .cpu.native import Operand, plan
from .fuse_rules import native_operand
from .fusion import Fusion
from .graph import Node
from .group import Group

__all__ = ["LoweredNative", "lower_native"]


@dataclass
class LoweredNative:
    """A planned native call; ``memory``: what each input lies in, (value, byte offset)."""

    plan: Plan
    memory: list[tuple[Node, int]]
    nbytes: int


def lower_native(group: Group, fusion: Fusion) -> LoweredNative:
    node = group.anchor
    assert node is not None
    call = node.attrs[0]
    operands, memory = [], []
    for k, source in enumerate(node.inputs):
        index = tuple(ix.axis_ix(d) for d in range(len(source.shape)))
        base, memory_of = source, native_operand(call, k, source)
        while base is not memory_of:
            index = ix.through_view(index, base.attrs[0])
            base = base.inputs[0]
        at = address_of(fusion, base, index)
        steps = dict(at.terms)
        operands.append(Operand(source.shape, tuple(steps.get(d, 0) for d in range(len(source.shape))), source.dtype))
        memory.append((base, at.offset * source.dtype.itemsize))
    items = [item for item, home in fusion.home.items() if home is group]
    present = {item.attrs[0] for item in items}
    made = plan(call, operands, [k in present for k in range(len(call.results))])
    nbytes = sum(x.size * x.dtype.itemsize for x in (*node.inputs, *items))
    return LoweredNative(made, memory, nbytes)
