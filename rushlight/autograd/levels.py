"""A transform in progress (``func.grad``, ``forward_ad``): what it differentiates by, and what the outside sees of its results."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import engine
from .arguments import gradients
from .handle import LEAF, Handle
from .modes import enable_grad, is_grad_enabled
from .node import Node
from .trees import flatten, map_leaves

__all__ = ["Level"]


class Level:
    """One transform in progress: the tensors it differentiates by, and what of its results the outside can still differentiate."""

    def __init__(self) -> None:
        self.outer = is_grad_enabled()
        self.own: set[int] = set()
        self.leaves: list[Any] = []

    def enter(self, tree: Any) -> tuple[Any, list[Any]]:
        """(the structure with tensors of this level, these tensors)."""
        leaves, rebuild = flatten(tree)
        made = []
        for t in leaves:
            if not isinstance(t, Handle):
                raise RuntimeError(f"Expected tensors, got unsupported type {type(t)}")
            with enable_grad():
                x = t.view_as(t) if self.outer and t._edge is not None else t.detach().requires_grad_(True)  # type: ignore[attr-defined]
            if x._edge is LEAF:
                self.own.add(id(x))
            made.append(x)
        self.leaves.extend(made)
        return rebuild(made), made

    def reaches_out(self, tensors: Sequence[Any]) -> bool:
        """Does one depend on something that requires grad outside of this transform?"""
        if not self.outer:
            return False
        seen: set[Node] = set()
        todo: list[Any] = [t if t._edge is LEAF else t._edge for t in tensors if t._edge is not None]
        while todo:
            edge = todo.pop()
            if isinstance(edge, Handle):
                if id(edge) not in self.own:
                    return True
                continue
            node = edge[0] if type(edge) is tuple else edge
            if node not in seen:
                seen.add(node)
                todo.extend(e for e in node.edges if e is not None)
        return False

    def leave(self, tree: Any) -> Any:
        """Results as the outside sees them."""
        return map_leaves(lambda t: t if not isinstance(t, Handle) or t._edge is None or self.reaches_out([t])
                          else t.detach(), tree)  # type: ignore[attr-defined]

    def differentiate(self, outputs: Sequence[Any], inputs: Sequence[Any], grads: Sequence[Any] | None = None) -> list[Any]:
        found = gradients(outputs, inputs, grads, create_graph=self.reaches_out(outputs) or
                          grads is not None and self.reaches_out([g for g in grads if g is not None]))
        return [engine.Rules.zeros(x._value.meta) if g is None else g for g, x in zip(found, inputs, strict=True)]
