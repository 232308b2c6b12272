"""The quick way through ``apply`` for what programs do most: an operator on two tensors, or on a tensor and a number.

A quick call keeps its own, shorter key beside the full one in the trie: the operation with its fixed attributes is one
object, so the look-up hashes three small things. Whatever is not an everyday call goes the full way.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..record.trace import local
from ..record.value import Value
from .apply import _link, enter, refresh
from .handle import LEAF, _new
from .node import GradNode

__all__ = ["quick_binary"]

_NUMBERS = (float, int)


class _Variant:
    """Stands for an operation with fixed attributes in a quick key."""

    __slots__ = ()


def quick_binary(full: Callable[[Any, Any], Any], tensor_class: type) -> Callable[[Any, Any], Any]:
    """A function with the meaning of ``full(a, b)``, faster where it has been called at this point of a trace before."""
    variant = _Variant()

    def call(self: Any, other: Any) -> Any:
        tr = local.trace
        epoch = tr.epoch
        alias = self._alias
        va = self._value if alias is None or alias.version == alias.storage.version else refresh(self)
        slot_a = va.slot if va.epoch is epoch else enter(tr, va)
        kind = type(other)
        if kind in _NUMBERS:
            if not other:  # 0, 0.0 and -0.0 are equal as keys
                return full(self, other)
            key: Any = (variant, slot_a, other, kind)
            number = True
        elif isinstance(other, tensor_class):
            number = False
            alias = other._alias
            vb = other._value if alias is None or alias.version == alias.storage.version else refresh(other)
            key = (variant, slot_a, vb.slot if vb.epoch is epoch else enter(tr, vb))
        else:
            return full(self, other)
        before = tr.node
        node = before.edges.get(key)
        if node is None or node.stop or tr.exported:
            out = full(self, other)
            if tr.node.parent is before and tr.epoch is epoch:
                before.edges[key] = tr.node
            return out
        tr.node = node
        v = Value(node.meta, epoch, node.slot)
        tr.values.append(v)
        out = _new(tensor_class)
        out._value = v
        out._edge = None
        out._grad = None
        out._alias = None
        out._version = 0
        out._more = None
        if tr.grad_enabled:
            edge_a = self._edge
            if number:
                if edge_a is not None and node.meta.dtype.kind == "f":
                    out._edge = _link(tr, node, (self,), (v,))
                return out
            edge_b = other._edge
            if edge_a is not None or edge_b is not None:
                plan = node.saves.get((edge_a is not None) + 2 * (edge_b is not None))
                if plan is None or tr.anomaly:
                    out._edge = _link(tr, node, (self, other), (v,)) if node.op.differentiable else None
                    if out._edge is not None:
                        needs = (edge_a is not None, edge_b is not None)
                        node.saves[needs[0] + 2 * needs[1]] = node.saves[needs]
                    return out
                in_metas, (keep_a, keep_b), any_input, outs = plan
                out._edge = GradNode(node, (self if edge_a is LEAF else edge_a, other if edge_b is LEAF else edge_b), in_metas,
                                     (va if keep_a else None, vb if keep_b else None) if any_input else None, (v,) if outs else None)
        return out
    return call


