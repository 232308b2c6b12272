"""RMSprop."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, step_count, zeros_like
from .options import learning_rate, non_negative
from .rules import average, average_square, direction, step_of

__all__ = ["RMSprop"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, square: Node, *state: Node, momentum: bool, centered: bool, decay: bool,
          maximize: bool) -> Sequence[Node]:
    *more, step = state
    step, _ = step_of(g, h, step)
    grad = direction(g, h, p, grad, decay, maximize)
    square = average_square(g, square, grad, h.alpha)
    eps, made = constant(g, h.eps, p), []
    if centered:
        mean = average(g, more[-1], grad, h.alpha)
        scale = g.map(lambda e, v, m, eps: e.sqrt(v - m * m) + eps, square, mean, eps)
        made = [mean]
    else:
        scale = g.map(lambda e, v, eps: e.sqrt(v) + eps, square, eps)
    move = g.map(lambda e, d, s: d / s, grad, scale)
    if momentum:
        move = g.map(lambda e, b, m, d: b * m + d, more[0], constant(g, h.momentum, p), move)
        made = [move, *made]
    new = g.map(lambda e, x, d, lr: x - d * lr, p, move, constant(g, h.lr, p))
    return (new, square, *made, step)


_SCALARS = ("lr", "momentum", "alpha", "eps", "weight_decay")
_updates = [Update("rmsprop", _SCALARS, 2 + more, _rule) for more in range(3)]


class RMSprop(Optimizer):
    r"""Gradients divided by the root of a running average of their squares.

    .. math:: v \leftarrow \alpha v + (1 - \alpha) g^2, \quad p \leftarrow p - \gamma \frac{g}{\sqrt{v} + \epsilon}

    Args:
        lr: learning rate :math:`\gamma`; alpha, eps: as above. weight_decay: adds ``weight_decay * p`` to the gradient.
        momentum: of a buffer that the quotients go into. centered: divide by the standard deviation (:math:`v` less the squared
            running average of the gradient).

    Source: Hinton's lecture 6, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf;
        https://pytorch.org/docs/stable/generated/torch.optim.RMSprop.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
                 momentum: float = 0, centered: bool = False, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        learning_rate(lr)
        non_negative(eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
                                  "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
                                  "differentiable": differentiable})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        state = {"step": step_count(), "square_avg": zeros_like(p)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = zeros_like(p)
        return state

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        momentum, centered = group["momentum"] > 0, bool(group["centered"])
        update = _updates[momentum + centered]
        names = ("square_avg", *(("momentum_buffer",) if momentum else ()), *(("grad_avg",) if centered else ()), "step")
        return update, names, [group[k] for k in _SCALARS], {
            "momentum": momentum, "centered": centered, "decay": group["weight_decay"] != 0, "maximize": bool(group["maximize"])}
