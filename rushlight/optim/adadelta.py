"""Adadelta."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, step_count, zeros_like
from .options import learning_rate, non_negative
from .rules import average_square, direction, step_of

__all__ = ["Adadelta"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, square: Node, moves: Node, step: Node, *, decay: bool,
          maximize: bool) -> Sequence[Node]:
    step, _ = step_of(g, h, step)
    grad = direction(g, h, p, grad, decay, maximize)
    square = average_square(g, square, grad, h.rho)
    move = g.map(lambda e, u, v, d, eps: e.sqrt(u + eps) / e.sqrt(v + eps) * d, moves, square, grad, constant(g, h.eps, p))
    moves = average_square(g, moves, move, h.rho)
    return g.map(lambda e, x, d, lr: x - d * lr, p, move, constant(g, h.lr, p)), square, moves, step


_SCALARS = ("lr", "rho", "eps", "weight_decay")
_update = Update("adadelta", _SCALARS, 3, _rule)


class Adadelta(Optimizer):
    r"""Steps whose size follows the running averages of past steps and gradients.

    .. math:: v \leftarrow \rho v + (1 - \rho) g^2, \quad d = \frac{\sqrt{u + \epsilon}}{\sqrt{v + \epsilon}} g, \quad
              u \leftarrow \rho u + (1 - \rho) d^2, \quad p \leftarrow p - \gamma d

    Args:
        lr: :math:`\gamma`; rho, eps: as above. weight_decay: adds ``weight_decay * p`` to the gradient.

    Source: Zeiler, https://arxiv.org/abs/1212.5701; https://pytorch.org/docs/stable/generated/torch.optim.Adadelta.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
                 foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False, differentiable: bool = False) -> None:
        learning_rate(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        non_negative(eps=eps, weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
                                  "capturable": capturable, "foreach": foreach, "differentiable": differentiable})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        return {"step": step_count(), "square_avg": zeros_like(p), "acc_delta": zeros_like(p)}

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        return _update, ("square_avg", "acc_delta", "step"), [group[k] for k in _SCALARS], {
            "decay": group["weight_decay"] != 0, "maximize": bool(group["maximize"])}
