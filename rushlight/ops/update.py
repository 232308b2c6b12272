"""Optimizer updates: all parameters of a group in one recorded operation.

An update is declared for one parameter; the operation applies it to each. Hyper-parameters are one small vector that
enters the program at run time, so a changing learning rate never makes a new program.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.writing import apply_over
from ..compile.graph import Graph, Node
from ..record.meta import Meta
from ..record.op import Op
from .basic import update_view

__all__ = ["Update", "Scalars", "constant"]


class Scalars:
    """The hyper-parameters inside a lowering: ``h.lr`` is a float64 scalar node."""

    def __init__(self, graph: Graph, vector: Node, names: Sequence[str]) -> None:
        self._nodes = {n: graph.reshape(graph.slice(vector, (k,), (1,)), ()) for k, n in enumerate(names)}

    def __getattr__(self, name: str) -> Node:
        return self._nodes[name]


class Update(Op):
    """Inputs: the vector of hyper-parameters, then (parameter, gradient, *states) for each parameter. Results: (new
    parameter, *new states) for each.

    Args:
        name: of the optimizer.
        scalars: names of the hyper-parameters, in the order of the vector.
        states: how many state tensors a parameter has.
        rule: ``(g, h, p, grad, *states, **flags) -> (p, *states)`` on graph nodes; ``h`` is a ``Scalars``.
    """

    differentiable = False

    def __init__(self, name: str, scalars: Sequence[str], states: int, rule: Callable[..., Sequence[Node]]) -> None:
        self.name, self.grad_name = name, ""
        self.scalars, self.states, self.rule = tuple(scalars), states, rule

    def __call__(self, hyper: Any, rows: Sequence[Sequence[Any]], **flags: Any) -> None:
        """Update in place: each row is (parameter, gradient, *states)."""
        tensors = [hyper]
        targets = []
        for row in rows:
            tensors += row
            targets.append(row[0])
            targets += row[2:]
        apply_over(self, (len(rows), tuple(sorted(flags.items()))), tensors, targets, update_view)

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> tuple[Meta, ...]:
        width = 2 + self.states
        outs: list[Meta] = []
        for k in range(attrs[0]):
            p, g, *states = metas[1 + k * width:1 + (k + 1) * width]
            if g.shape != p.shape:
                raise RuntimeError(f"{self.name}: gradient {list(g.shape)} does not fit parameter {list(p.shape)}")
            outs.extend((p.own, *[s.own for s in states]))
        return tuple(outs)

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        count, flags = attrs
        h = Scalars(g, inputs[0], self.scalars)
        width = 2 + self.states
        made: list[Node] = []
        for k in range(count):
            p, grad, *states = inputs[1 + k * width:1 + (k + 1) * width]
            wide = [g.cast(x, x.dtype.compute) for x in (p, grad, *states)]
            results = self.rule(g, h, *wide, **dict(flags))
            made.extend(g.cast(new, old.dtype) for new, old in zip(results, (p, *states), strict=True))
        return made

    def apart(self, attrs: tuple, inputs: Sequence[int], results: Sequence[int]) -> Sequence[tuple[tuple, Sequence[int], Sequence[int]]]:
        count, flags = attrs
        width, made = 2 + self.states, 1 + self.states
        return [((1, flags), (inputs[0], *inputs[1 + k * width:1 + (k + 1) * width]), results[k * made:(k + 1) * made])
                for k in range(count)]

    def cost(self, outs: Sequence[Meta]) -> int:
        return sum(m.numel for m in outs)


def constant(g: Graph, x: Node, like: Node) -> Node:
    """A float64 scalar in the type that an update computes in."""
    return g.cast(x, like.dtype)
