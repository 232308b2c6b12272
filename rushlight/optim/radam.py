"""RAdam."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, step_count, zeros_like
from .options import learning_rate, momenta, non_negative
from .rules import average, average_square, direction, shrunk, step_of

__all__ = ["RAdam"]


def _rectified(e: Any, lr: Any, beta2: Any, t: Any) -> tuple[Any, Any, Any]:
    """(is the variance tractable, the rate if it is without the division by the root of v)."""
    bias2 = 1 - e.pow(beta2, t)
    last = 2 / (1 - beta2) - 1
    length = last - 2 * t * e.pow(beta2, t) / bias2
    known = length > 5
    safe = e.where(known, length, last)  # below 5 the root would be of a negative number
    factor = e.sqrt((safe - 4) * (safe - 2) * last / ((last - 4) * (last - 2) * safe))
    return known, lr * factor * e.sqrt(bias2), lr


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, mean: Node, square: Node, step: Node, *, decay: bool, decoupled: bool,
          maximize: bool) -> Sequence[Node]:
    step, t = step_of(g, h, step)
    if decay and decoupled:
        p = shrunk(g, h, p)
    grad = direction(g, h, p, grad, decay and not decoupled, maximize)
    mean, square = average(g, mean, grad, h.beta1), average_square(g, square, grad, h.beta2)
    bias1 = g.map(lambda e, b, t: 1 - e.pow(b, t), h.beta1, t)
    known = g.map(lambda e, lr, b, t: _rectified(e, lr, b, t)[0], h.lr, h.beta2, t)
    rate = g.map(lambda e, lr, b, t: _rectified(e, lr, b, t)[1], h.lr, h.beta2, t)
    new = g.map(lambda e, x, m, v, known, bias, rate, lr, eps: x - m / bias * e.where(known, rate / (e.sqrt(v) + eps), lr), p, mean, square,
                known, constant(g, bias1, p), constant(g, rate, p), constant(g, h.lr, p), constant(g, h.eps, p))
    return new, mean, square, step


_SCALARS = ("lr", "beta1", "beta2", "eps", "weight_decay")
_update = Update("radam", _SCALARS, 3, _rule)


class RAdam(Optimizer):
    r"""Adam that waits with the second moment until its variance is known, and rectifies it.

    With :math:`\rho_\infty = 2 / (1 - \beta_2) - 1` and :math:`\rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t)`, the step is
    :math:`\gamma \hat m` while :math:`\rho_t \le 5`, and then Adam's times
    :math:`\sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}`.

    Args:
        lr: learning rate :math:`\gamma`; betas, eps: as Adam's.
        weight_decay: adds ``weight_decay * p`` to the gradient, or shrinks ``p`` with ``decoupled_weight_decay``.

    Source: Liu et al., https://arxiv.org/abs/1908.03265; https://pytorch.org/docs/stable/generated/torch.optim.RAdam.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False) -> None:
        learning_rate(lr)
        non_negative(eps=eps)
        momenta(betas)
        non_negative(weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
                                  "foreach": foreach, "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay,
                                  "differentiable": differentiable})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        return {"step": step_count(), "exp_avg": zeros_like(p), "exp_avg_sq": zeros_like(p)}

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        numbers = [group["lr"], *group["betas"], group["eps"], group["weight_decay"]]
        return _update, ("exp_avg", "exp_avg_sq", "step"), numbers, {
            "decay": group["weight_decay"] != 0, "decoupled": bool(group["decoupled_weight_decay"]), "maximize": bool(group["maximize"])}
