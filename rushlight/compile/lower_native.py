"""From a native call's group to its operands: where they lie, with which strides."""
from __future__ import annotations

from . import index as ix
from .body import address_of
from .cpu.native import Operand
from .fuse_rules import native_operand
from .fusion import Fusion
from .graph import NativeCall, Node
from .group import Group

__all__ = ["lower_native"]


def lower_native(group: Group, fusion: Fusion) -> tuple[NativeCall, tuple[Operand, ...], list[tuple[Node, int]]]:
    """The call of a group, its operands, and what each of them lies in: (value, byte offset)."""
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
    return call, tuple(operands), memory
