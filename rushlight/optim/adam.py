"""Adam and AdamW."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, non_negative, step_count, zeros_like

__all__ = ["Adam", "AdamW"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, mean: Node, square: Node, *state: Node, amsgrad: bool, decay: bool, decoupled: bool,
          maximize: bool) -> Sequence[Node]:
    *largest, step = state
    step = g.map(lambda e, t: t + 1, step)
    # Powers of beta in double precision: 1 - 0.999 has few digits left in single.
    t = g.cast(step, h.beta1.dtype)
    bias1 = g.map(lambda e, b, t: 1 - e.pow(b, t), h.beta1, t)
    bias2 = g.map(lambda e, b, t: e.sqrt(1 - e.pow(b, t)), h.beta2, t)
    size = constant(g, g.map(lambda e, lr, c: lr / c, h.lr, bias1), p)
    scale = constant(g, bias2, p)
    if maximize:
        grad = g.map(lambda e, d: -d, grad)
    if decay:
        if decoupled:
            shrink = constant(g, g.map(lambda e, lr, w: 1 - lr * w, h.lr, h.weight_decay), p)
            p = g.map(lambda e, x, s: x * s, p, shrink)
        else:
            grad = g.map(lambda e, d, x, w: d + x * w, grad, p, constant(g, h.weight_decay, p))
    rest1 = constant(g, g.map(lambda e, b: 1 - b, h.beta1), p)
    rest2 = constant(g, g.map(lambda e, b: 1 - b, h.beta2), p)
    mean = g.map(lambda e, m, d, r: m + (d - m) * r, mean, grad, rest1)
    square = g.map(lambda e, v, d, b, r: v * b + d * d * r, square, grad, constant(g, h.beta2, p), rest2)
    shown = square
    if amsgrad:
        shown = g.map(lambda e, a, b: e.max(a, b), largest[0], square)
        largest = [shown]
    new = g.map(lambda e, x, m, v, size, scale, eps: x - size * (m / (e.sqrt(v) / scale + eps)), p, mean, shown, size, scale,
                constant(g, h.eps, p))
    return (new, mean, square, *largest, step)


_SCALARS = ("lr", "beta1", "beta2", "eps", "weight_decay")
_updates = {amsgrad: Update("adam", _SCALARS, 3 + amsgrad, _rule) for amsgrad in (False, True)}


class Adam(Optimizer):
    r"""Adaptive moment estimation.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
              p \leftarrow p - \gamma \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Args:
        lr, betas, eps: as above. weight_decay: adds ``weight_decay * p`` to the gradient. amsgrad: use the largest v so far.

    Source: Kingma and Ba, https://arxiv.org/abs/1412.6980; https://pytorch.org/docs/stable/generated/torch.optim.Adam.html
    """

    _decoupled = False

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False) -> None:
        non_negative(lr=lr, eps=eps)
        for k, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {k}: {beta}")
        non_negative(weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
                                  "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
                                  "fused": fused, "decoupled_weight_decay": decoupled_weight_decay})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        state = {"step": step_count(), "exp_avg": zeros_like(p), "exp_avg_sq": zeros_like(p)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(p)
        return state

    def update_group(self, group: dict[str, Any], params: Sequence[Any]) -> None:
        amsgrad = bool(group["amsgrad"])
        update = _updates[amsgrad]
        names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if amsgrad else ()), "step")
        h = self.hyper(update, group, [group["lr"], *group["betas"], group["eps"], group["weight_decay"]])
        update(h, self.rows(group, params, names), amsgrad=amsgrad, decay=group["weight_decay"] != 0,
               decoupled=bool(group["decoupled_weight_decay"]), maximize=bool(group["maximize"]))


class AdamW(Adam):
    r"""Adam with decoupled weight decay: ``p`` shrinks by ``lr * weight_decay * p``, and the moments do not see it.

    Source: Loshchilov and Hutter, https://arxiv.org/abs/1711.05101; https://pytorch.org/docs/stable/generated/torch.optim.AdamW.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach, capturable=capturable,
                         differentiable=differentiable, fused=fused, decoupled_weight_decay=True)
