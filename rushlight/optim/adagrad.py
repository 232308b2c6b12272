"""Adagrad."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..autograd.handle import Handle
from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, full_like, step_count
from .options import implementation, learning_rate, non_negative
from .rules import direction, step_of

__all__ = ["Adagrad"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, total: Node, step: Node, *, decay: bool, maximize: bool) -> Sequence[Node]:
    step, t = step_of(g, h, step)
    grad = direction(g, h, p, grad, decay, maximize)
    rate = constant(g, g.map(lambda e, lr, d, t: lr / (1 + (t - 1) * d), h.lr, h.lr_decay, t), p)
    total = g.map(lambda e, s, d: s + d * d, total, grad)
    new = g.map(lambda e, x, d, s, rate, eps: x - rate * (d / (e.sqrt(s) + eps)), p, grad, total, rate, constant(g, h.eps, p))
    return new, total, step


_SCALARS = ("lr", "lr_decay", "eps", "weight_decay")
_update = Update("adagrad", _SCALARS, 2, _rule)


class Adagrad(Optimizer):
    r"""Steps that shrink with the sum of squared gradients.

    .. math:: s \leftarrow s + g^2, \quad p \leftarrow p - \frac{\gamma}{1 + (t - 1) \eta} \frac{g}{\sqrt{s} + \epsilon}

    Args:
        lr: learning rate :math:`\gamma`; lr_decay: :math:`\eta`; eps: as above. weight_decay: adds ``weight_decay * p`` to the
            gradient. initial_accumulator_value: what :math:`s` begins with.

    Source: Duchi, Hazan and Singer, https://jmlr.org/papers/v12/duchi11a.html;
        https://pytorch.org/docs/stable/generated/torch.optim.Adagrad.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *, maximize: bool = False,
                 differentiable: bool = False, fused: bool | None = None) -> None:
        learning_rate(lr)
        non_negative(lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value, eps=eps)
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
                                  "differentiable": differentiable, "fused": fused})
        implementation(fused, foreach, differentiable)
        for group in self.param_groups:  # PyTorch's Adagrad has its state from the start, not from the first step
            for p in group["params"]:
                self.state[p] = self.new_state(p, group)

    def new_state(self, p: Handle, group: dict[str, Any]) -> dict[str, Any]:
        return {"step": step_count(), "sum": full_like(p, float(group["initial_accumulator_value"]))}

    def share_memory(self) -> None:
        """Move the state into memory that other processes see."""
        for state in self.state.values():
            state["sum"].share_memory_()

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        return _update, ("sum", "step"), [group[k] for k in _SCALARS], {
            "decay": group["weight_decay"] != 0, "maximize": bool(group["maximize"])}
