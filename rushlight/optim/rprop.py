"""Resilient backpropagation."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, full_like, step_count, zeros_like
from .options import learning_rate
from .rules import direction, step_of

__all__ = ["Rprop"]


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, before: Node, size: Node, step: Node, *, maximize: bool) -> Sequence[Node]:
    step, _ = step_of(g, h, step)
    grad = direction(g, h, p, grad, False, maximize)
    agree = g.map(lambda e, d, b: d * b, grad, before)
    minus, plus, low, high = (constant(g, s, p) for s in (h.eta_minus, h.eta_plus, h.step_min, h.step_max))
    factor = g.map(lambda e, a, minus, plus: e.where(a > 0, plus, e.where(a < 0, minus, e.const(1, minus.dtype))), agree, minus, plus)
    size = g.map(lambda e, s, f, low, high: e.clamp(s * f, low, high), size, factor, low, high)
    grad = g.map(lambda e, d, a: e.where(a < 0, e.const(0, d.dtype), d), grad, agree)  # after a turn, forget the gradient once
    return g.map(lambda e, x, d, s: x - e.sign(d) * s, p, grad, size), grad, size, step


_SCALARS = ("lr", "eta_minus", "eta_plus", "step_min", "step_max")
_update = Update("rprop", _SCALARS, 3, _rule)


class Rprop(Optimizer):
    r"""Steps by the sign of the gradient alone, each element with a step size of its own.

    A step size is multiplied by ``etas[1]`` while the gradient keeps its sign and by ``etas[0]`` where it turns, within ``step_sizes``.

    Args:
        lr: the first step size; etas: (shrinking, growing) factor; step_sizes: (smallest, largest) step.

    Source: Riedmiller and Braun, https://doi.org/10.1109/ICNN.1993.298623;
        https://pytorch.org/docs/stable/generated/torch.optim.Rprop.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        learning_rate(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
                                  "differentiable": differentiable, "capturable": capturable})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        return {"step": step_count(), "prev": zeros_like(p), "step_size": full_like(p, float(group["lr"]))}

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        numbers = [group["lr"], *group["etas"], *group["step_sizes"]]
        return _update, ("prev", "step_size", "step"), numbers, {"maximize": bool(group["maximize"])}
