"""NAdam."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..autograd.handle import make
from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from ..record.value import value_from_array
from .optimizer import Optimizer, step_count, zeros_like
from .options import learning_rate, momenta, non_negative
from .rules import average, average_square, direction, shrunk, step_of

__all__ = ["NAdam"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, mean: Node, square: Node, product: Node, step: Node, *, decay: bool, decoupled: bool,
          maximize: bool) -> Sequence[Node]:
    step, t = step_of(g, h, step)
    weight = [g.map(lambda e, b, t, d, k=k: b * (1 - 0.5 * e.pow(e.const(0.96, b.dtype), (t + k) * d)), h.beta1, t, h.momentum_decay)
              for k in (0, 1)]
    product = g.map(lambda e, q, w: q * w, product, g.cast(weight[0], product.dtype))
    wide = g.cast(product, h.lr.dtype)
    grad_rate = g.map(lambda e, lr, w, q: lr * (1 - w) / (1 - q), h.lr, weight[0], wide)
    mean_rate = g.map(lambda e, lr, w, q: lr * w / (1 - q * w), h.lr, weight[1], wide)
    bias = g.map(lambda e, b, t: 1 - e.pow(b, t), h.beta2, t)
    if decay and decoupled:
        p = shrunk(g, h, p)
    grad = direction(g, h, p, grad, decay and not decoupled, maximize)
    mean, square = average(g, mean, grad, h.beta1), average_square(g, square, grad, h.beta2)
    scale = g.map(lambda e, v, b, eps: e.sqrt(v / b) + eps, square, constant(g, bias, p), constant(g, h.eps, p))
    new = g.map(lambda e, x, d, m, s, a, b: x - a * (d / s) - b * (m / s), p, grad, mean, scale, constant(g, grad_rate, p),
                constant(g, mean_rate, p))
    return new, mean, square, product, step


_SCALARS = ("lr", "beta1", "beta2", "eps", "weight_decay", "momentum_decay")
_update = Update("nadam", _SCALARS, 4, _rule)


class NAdam(Optimizer):
    r"""Adam with Nesterov momentum.

    The step is
    :math:`\gamma \frac{(1 - \mu_t) g / (1 - \prod \mu) + \mu_{t+1} m / (1 - \mu_{t+1} \prod \mu)}{\sqrt{\hat v} + \epsilon}` with
    :math:`\mu_t = \beta_1 (1 - \frac{1}{2} 0.96^{t \psi})` and Adam's moments m, v.

    Args:
        lr: learning rate :math:`\gamma`; betas, eps: as above; momentum_decay: :math:`\psi`.
        weight_decay: adds ``weight_decay * p`` to the gradient, or shrinks ``p`` with ``decoupled_weight_decay``.

    Source: Dozat, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ;
        https://pytorch.org/docs/stable/generated/torch.optim.NAdam.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False, differentiable: bool = False) -> None:
        learning_rate(lr)
        non_negative(eps=eps)
        momenta(betas)
        non_negative(weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
                                  "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
                                  "capturable": capturable, "differentiable": differentiable})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        one = make(value_from_array(np.ones((), np.float32)))
        return {"step": step_count(), "mu_product": one, "exp_avg": zeros_like(p), "exp_avg_sq": zeros_like(p)}

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        numbers = [group["lr"], *group["betas"], group["eps"], group["weight_decay"], group["momentum_decay"]]
        return _update, ("exp_avg", "exp_avg_sq", "mu_product", "step"), numbers, {
            "decay": group["weight_decay"] != 0, "decoupled": bool(group["decoupled_weight_decay"]), "maximize": bool(group["maximize"])}
