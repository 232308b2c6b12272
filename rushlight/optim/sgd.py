"""Stochastic gradient descent."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, zeros_like
from .options import implementation, learning_rate, non_negative
from .rules import direction

__all__ = ["SGD"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, *state: Node, momentum: bool, nesterov: bool, decay: bool,
          maximize: bool) -> Sequence[Node]:
    grad = direction(g, h, p, grad, decay, maximize)
    if momentum:
        m = constant(g, h.momentum, p)
        # The buffer begins as the gradient, without dampening. That is a number, so that all steps are one program.
        keep = g.map(lambda e, t, first: e.where(e.gt(first, 0), 1, 1 - t), h.dampening, h.first)
        buffer = g.map(lambda e, b, d, m, k: b * m + d * k, state[0], grad, m, constant(g, keep, p))
        grad = g.map(lambda e, d, b, m: d + b * m, grad, buffer, m) if nesterov else buffer
    new = g.map(lambda e, x, d, lr: x - d * lr, p, grad, constant(g, h.lr, p))
    return (new, buffer) if momentum else (new,)


_SCALARS = ("lr", "momentum", "dampening", "weight_decay")
_plain, _with_momentum = Update("sgd", _SCALARS, 0, _rule), Update("sgd", (*_SCALARS, "first"), 1, _rule)


class SGD(Optimizer):
    r"""Stochastic gradient descent with momentum.

    .. math:: b \leftarrow \mu b + (1 - \tau) g, \quad p \leftarrow p - \gamma b

    with momentum :math:`\mu`, dampening :math:`\tau`, learning rate :math:`\gamma`; Nesterov uses :math:`g + \mu b`.

    Args:
        lr: learning rate; momentum, dampening, weight_decay: as above, weight decay adds ``weight_decay * p`` to the gradient.
        nesterov: Nesterov momentum (needs momentum > 0 and no dampening); maximize: go up instead of down.

    Source: https://pytorch.org/docs/stable/generated/torch.optim.SGD.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
                 nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None, differentiable: bool = False,
                 fused: bool | None = None) -> None:
        learning_rate(lr)
        non_negative(momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize, "foreach": foreach, "differentiable": differentiable,
                                  "fused": fused})
        implementation(fused, foreach, differentiable)

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        momentum = group["momentum"] != 0
        flags = {"momentum": momentum, "nesterov": group["nesterov"], "decay": group["weight_decay"] != 0,
                 "maximize": group["maximize"]}
        numbers = [group[k] for k in _SCALARS]
        return (_with_momentum, ("momentum_buffer",), [*numbers, 0], flags) if momentum else (_plain, (), numbers, flags)

    def update_group(self, group: dict[str, Any], params: Sequence[Any]) -> None:
        update, names, numbers, flags = self.update_for(group)
        fresh = [p for p in params if self.state[p].get("momentum_buffer") is None] if names else []
        if fresh:
            for p in fresh:
                self.state[p]["momentum_buffer"] = zeros_like(p._grad)
            update(self.hyper(update, group, [*numbers[:-1], 1]), self.rows(group, fresh, names), **flags)
        known = {id(p) for p in fresh}
        rest = [p for p in params if id(p) not in known]
        if rest:
            update(self.hyper(update, group, numbers), self.rows(group, rest, names), **flags)
