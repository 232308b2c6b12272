"""What fusion asks about values and groups: small questions without state."""
from __future__ import annotations

import math

from . import index as ix
from .costs import divides_integers, uses_index
from .graph import NativeCall, Node
from .group import Group
from .index import CannotSplit, Index, NeedSplit

__all__ = ["contiguous_axis", "is_irregular", "iterations", "memory_base", "native_operand", "product_behind", "reduction_behind",
           "reshaped", "spread_size", "through_pad", "varying"]


def memory_base(node: Node) -> Node:
    """The value in memory of which a contraction's operand is a view."""
    while node.kind == "view":
        node = node.inputs[0]
    return node


def native_operand(call: NativeCall, k: int, node: Node) -> Node:
    """The value in memory from which a native call's kernel reads its operand k: what that is a view of, or itself."""
    base = node
    index: Index = tuple(ix.axis_ix(d) for d in range(len(node.shape)))
    while base.kind == "view":
        index = ix.through_view(index, base.attrs[0])
        base = base.inputs[0]
    steps = dict(ix.address(index, ix.row_major(base.shape)).terms)
    return base if call.in_place(k, tuple(steps.get(d, 0) for d in range(len(node.shape)))) else node


def is_irregular(node: Node) -> bool:
    """Whether a value needs more than plain loads: such values cannot be computed in a contraction's epilogue."""
    return node.kind in ("gather", "pad", "fit") or node.kind == "pointwise" and (
        uses_index(node.attrs[0]) or divides_integers(node.attrs[0]))


def contiguous_axis(group: Group, node: Node, index: Index, order: dict[Node, tuple[int, ...]]) -> int | None:
    """The axis along which neighbours of ``node`` in memory lie."""
    for d in reversed(order.get(node) or range(len(node.shape))):
        for axis, k in index[d].terms:
            if k == 1 and group.extents[axis] != 1:
                return axis
    return None


def product_behind(node: Node) -> bool:
    """Whether a value follows from a contraction element by element."""
    stack, seen = [node], 0
    while stack and seen < 16:
        at = stack.pop()
        seen += 1
        if at.kind == "contract":
            return True
        if at.kind in ("pointwise", "reshape") and at.size == node.size and not is_irregular(at):
            stack.extend(at.inputs)
    return False


def reduction_behind(node: Node, lengths: list[int]) -> Node | None:
    """A reduction over axes of these lengths from which ``node`` is computed element by element."""
    stack, seen = [node], 0
    while stack and seen < 24:
        at = stack.pop()
        seen += 1
        if at.kind == "reduce" and at.size == node.size:
            x, axes = at.inputs[0], at.attrs[1]
            if [x.shape[a] for a in axes if x.shape[a] != 1] == lengths:
                return at
        elif at.kind in ("pointwise", "reshape") and at.size == node.size:
            stack.extend(at.inputs)
    return None


def spread_size(node: Node) -> int:
    """The number of different elements behind an expanded operand."""
    while node.kind in ("view", "reshape"):
        node = node.inputs[0]
    return node.size


def varying(node: Node) -> list[int]:
    """The dimensions along which an operand is not spread."""
    dims = range(len(node.shape))
    if node.kind != "view":
        return [d for d in dims if node.shape[d] != 1]
    return [d for d in dims if any(row[d] for row in node.attrs[0].matrix)]


def iterations(group: Group, index: Index) -> int:
    if group.reduced and not group.covered(index) - set(group.kept):
        return math.prod(group.extents[a] for a in group.kept)
    return math.prod(group.extents[a] for a in group.axes)


def through_pad(index: Index, low: tuple[int, ...]) -> Index:
    return tuple(i._replace(offset=i.offset - lo) for i, lo in zip(index, low, strict=True))


def reshaped(node: Node, group: Group, index: Index) -> Index:
    while True:
        try:
            return ix.through_reshape(index, node.shape, node.inputs[0].shape, group.extents)
        except NeedSplit as need:
            if group.kind == "scan" or need.axis not in group.axes:
                raise CannotSplit from None
            group.split(need.axis, need.inner)
            by = ix.Ix(0, ((group._next - 2, need.inner), (group._next - 1, 1)))
            index = ix.replace_axis(index, need.axis, by)
