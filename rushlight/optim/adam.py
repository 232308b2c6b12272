"""Adam and AdamW."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..autograd.handle import Handle
from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, step_count, zeros_like
from .options import implementation, learning_rate, momenta, non_negative
from .rules import average, average_square, direction, shrunk, step_of

__all__ = ["Adam", "AdamW"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, mean: Node, square: Node, *state: Node, amsgrad: bool, decay: bool, decoupled: bool,
          maximize: bool) -> Sequence[Node]:
    *largest, step = state
    # Powers of beta in double precision: 1 - 0.999 has few digits left in single.
    step, t = step_of(g, h, step)
    bias1 = g.map(lambda e, b, t: 1 - e.pow(b, t), h.beta1, t)
    bias2 = g.map(lambda e, b, t: e.sqrt(1 - e.pow(b, t)), h.beta2, t)
    # lr / bias1 * m / (sqrt(v) / bias2 + eps) with one division for each element.
    size = constant(g, g.map(lambda e, lr, a, b: lr / a * b, h.lr, bias1, bias2), p)
    eps = constant(g, g.map(lambda e, eps, b: eps * b, h.eps, bias2), p)
    if decay and decoupled:
        p = shrunk(g, h, p)
    grad = direction(g, h, p, grad, decay and not decoupled, maximize)
    mean, square = average(g, mean, grad, h.beta1), average_square(g, square, grad, h.beta2)
    shown = square
    if amsgrad:
        shown = g.map(lambda e, a, b: e.max(a, b), largest[0], square)
        largest = [shown]
    new = g.map(lambda e, x, m, v, size, eps: x - size * (m / (e.sqrt(v) + eps)), p, mean, shown, size, eps)
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
        learning_rate(lr)
        if foreach and not capturable:
            for name, option in (("lr", lr), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
                if isinstance(option, Handle):
                    raise ValueError(f"{name} as a Tensor is not supported for capturable=False and foreach=True")
        non_negative(eps=eps)
        momenta(betas)
        non_negative(weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
                                  "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
                                  "fused": fused, "decoupled_weight_decay": decoupled_weight_decay})
        implementation(fused, foreach, differentiable)

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        state = {"step": step_count(), "exp_avg": zeros_like(p), "exp_avg_sq": zeros_like(p)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(p)
        return state

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        amsgrad = bool(group["amsgrad"])
        update = _updates[amsgrad]
        names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if amsgrad else ()), "step")
        numbers = [group["lr"], *group["betas"], group["eps"], group["weight_decay"]]
        return update, names, numbers, {
            "amsgrad": amsgrad, "decay": group["weight_decay"] != 0, "decoupled": bool(group["decoupled_weight_decay"]),
            "maximize": bool(group["maximize"])}


class AdamW(Adam):
    r"""Adam with decoupled weight decay: ``p`` shrinks by ``lr * weight_decay * p``, and the moments do not see it.

    Source: Loshchilov and Hutter, https://arxiv.org/abs/1711.05101; https://pytorch.org/docs/stable/generated/torch.optim.AdamW.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach, capturable=capturable,
                         differentiable=differentiable, fused=fused, decoupled_weight_decay=True)
