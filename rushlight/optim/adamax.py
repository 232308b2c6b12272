"""Adamax."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, step_count, zeros_like
from .options import learning_rate, momenta, non_negative
from .rules import average, direction, step_of

__all__ = ["Adamax"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, mean: Node, largest: Node, step: Node, *, decay: bool,
          maximize: bool) -> Sequence[Node]:
    step, t = step_of(g, h, step)
    grad = direction(g, h, p, grad, decay, maximize)
    mean = average(g, mean, grad, h.beta1)
    largest = g.map(lambda e, u, d, b, eps: e.max(u * b, e.abs(d) + eps), largest, grad, constant(g, h.beta2, p), constant(g, h.eps, p))
    rate = constant(g, g.map(lambda e, lr, b, t: lr / (1 - e.pow(b, t)), h.lr, h.beta1, t), p)
    return g.map(lambda e, x, m, u, rate: x - rate * (m / u), p, mean, largest, rate), mean, largest, step


_SCALARS = ("lr", "beta1", "beta2", "eps", "weight_decay")
_update = Update("adamax", _SCALARS, 3, _rule)


class Adamax(Optimizer):
    r"""Adam with the largest gradient lately in place of the root of the second moment.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad u \leftarrow \max(\beta_2 u, |g| + \epsilon), \quad
              p \leftarrow p - \frac{\gamma}{1 - \beta_1^t} \frac{m}{u}

    Args:
        lr: learning rate :math:`\gamma`; betas, eps: as above. weight_decay: adds ``weight_decay * p`` to the gradient.

    Source: Kingma and Ba, https://arxiv.org/abs/1412.6980; https://pytorch.org/docs/stable/generated/torch.optim.Adamax.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        learning_rate(lr)
        non_negative(eps=eps)
        momenta(betas)
        non_negative(weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
                                  "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        return {"step": step_count(), "exp_avg": zeros_like(p), "exp_inf": zeros_like(p)}

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        numbers = [group["lr"], *group["betas"], group["eps"], group["weight_decay"]]
        return _update, ("exp_avg", "exp_inf", "step"), numbers, {
            "decay": group["weight_decay"] != 0, "maximize": bool(group["maximize"])}
