"""Averaged stochastic gradient descent."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..autograd.handle import make
from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from ..record.value import value_from_array
from .optimizer import Optimizer, step_count, zeros_like
from .options import learning_rate, non_negative
from .rules import direction, step_of

__all__ = ["ASGD"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, mean: Node, eta: Node, mu: Node, step: Node, *, decay: bool,
          maximize: bool) -> Sequence[Node]:
    step, t = step_of(g, h, step)
    grad = direction(g, h, p, grad, decay, maximize)
    wide = g.cast(eta, h.lr.dtype)
    keep = constant(g, g.map(lambda e, n, w: 1 - w * n, wide, h.lambd), p)
    new = g.map(lambda e, x, k, d, n: x * k - n * d, p, keep, grad, constant(g, wide, p))
    mean = g.map(lambda e, a, x, m: e.where(e.eq(m, 1), x, a + (x - a) * m), mean, new, constant(g, mu, p))
    eta = g.cast(g.map(lambda e, lr, w, a, t: lr / e.pow(1 + w * lr * t, a), h.lr, h.lambd, h.alpha, t), eta.dtype)
    mu = g.cast(g.map(lambda e, t, t0: 1 / e.max(t - t0, 1), t, h.t0), mu.dtype)
    return new, mean, eta, mu, step


_SCALARS = ("lr", "lambd", "alpha", "t0", "weight_decay")
_update = Update("asgd", _SCALARS, 4, _rule)


class ASGD(Optimizer):
    r"""Gradient descent that also keeps an average of the parameters, in ``state[p]["ax"]``.

    .. math:: p \leftarrow (1 - \lambda \eta) p - \eta g, \quad \eta = \frac{\gamma}{(1 + \lambda \gamma t)^\alpha}

    Args:
        lr: :math:`\gamma`; lambd, alpha: as above; t0: the step at which averaging begins; weight_decay: adds ``weight_decay * p`` to the
            gradient.

    Source: Polyak and Juditsky, https://doi.org/10.1137/0330046; https://pytorch.org/docs/stable/generated/torch.optim.ASGD.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
                 weight_decay: float = 0, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        learning_rate(lr)
        non_negative(weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
                                  "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        eta, mu = (make(value_from_array(np.array(x, np.float32))) for x in (float(group["lr"]), 1.0))
        return {"step": step_count(), "eta": eta, "mu": mu, "ax": zeros_like(p)}

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        return _update, ("ax", "eta", "mu", "step"), [group[k] for k in _SCALARS], {
            "decay": group["weight_decay"] != 0, "maximize": bool(group["maximize"])}
