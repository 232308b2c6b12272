"""Pieces that the update rules of several optimizers share, on graph nodes of one parameter."""
from __future__ import annotations

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, constant

__all__ = ["direction", "average", "average_square", "shrunk", "step_of"]


def direction(g: Graph, h: Scalars, p: Node, grad: Node, decay: bool, maximize: bool) -> Node:
    """The gradient to go down by: turned round to go up, with weight decay."""
    if maximize:
        grad = g.map(lambda e, d: -d, grad)
    if decay:
        grad = g.map(lambda e, d, x, w: d + x * w, grad, p, constant(g, h.weight_decay, p))
    return grad


def shrunk(g: Graph, h: Scalars, p: Node) -> Node:
    """Decoupled weight decay: ``p * (1 - lr * weight_decay)``."""
    return g.map(lambda e, x, s: x * s, p, constant(g, g.map(lambda e, lr, w: 1 - lr * w, h.lr, h.weight_decay), p))


def average(g: Graph, mean: Node, x: Node, keep: Node) -> Node:
    """A running average: ``mean + (x - mean) * (1 - keep)``; ``keep`` is a float64 scalar."""
    return g.map(lambda e, m, d, r: m + (d - m) * r, mean, x, constant(g, g.map(lambda e, b: 1 - b, keep), mean))


def average_square(g: Graph, square: Node, x: Node, keep: Node) -> Node:
    """A running average of squares: ``square * keep + x * x * (1 - keep)``; ``keep`` is a float64 scalar."""
    rest = constant(g, g.map(lambda e, b: 1 - b, keep), square)
    return g.map(lambda e, v, d, b, r: v * b + d * d * r, square, x, constant(g, keep, square), rest)


def step_of(g: Graph, h: Scalars, step: Node) -> tuple[Node, Node]:
    """(the count of steps with this one, the same in double precision for powers of it)."""
    step = g.map(lambda e, t: t + 1, step)
    return step, g.cast(step, h.lr.dtype)
