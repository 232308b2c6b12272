"""Adafactor."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..autograd.handle import Handle
from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, full_like, step_count, zeros_like
from .rules import direction, shrunk, step_of

__all__ = ["Adafactor"]

# Machine epsilon of the floating types; the smallest second moment unless the caller names one.
_EPSILON = {"float16": 2.0 ** -10, "bfloat16": 2.0 ** -7, "float32": 2.0 ** -23, "float64": 2.0 ** -52}


def _square_mean(g: Graph, x: Node, axes: Sequence[int], keepdim: bool) -> Node:
    n = math.prod(x.shape[a] for a in axes) if x.shape else 1
    return g.map(lambda e, s: s / float(n), g.reduce("add", g.map(lambda e, x: x * x, x), axes, keepdim))


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, *state: Node, eps1: float, decay: bool, maximize: bool) -> Sequence[Node]:
    *moments, step = state
    step, t = step_of(g, h, step)
    axes = range(len(p.shape))
    share = constant(g, g.map(lambda e, t, b: e.pow(t, b), t, h.beta2_decay), p)
    rate = g.map(lambda e, lr, t: e.min(lr, 1 / e.sqrt(t)), h.lr, t)
    size = g.cast(_square_mean(g, p, axes, False), h.lr.dtype)
    alpha = g.map(lambda e, s, eps, r: e.max(e.sqrt(s), eps) * r, size, h.eps2, rate)
    if decay:
        p = shrunk(g, h, p)
    grad = direction(g, h, p, grad, False, maximize)

    def towards(moment: Node, x: Node) -> Node:
        return g.map(lambda e, m, x, w: m + (x - m) * w, moment, x, share)

    if len(moments) == 2:  # the mean over columns and over rows stands for the whole matrix
        row = towards(moments[0], _square_mean(g, grad, (-1,), True))
        column = towards(moments[1], _square_mean(g, grad, (-2,), True))
        rows = row.shape[-2]
        total = g.map(lambda e, s: e.max(s / float(rows), eps1), g.reduce("add", row, (-2,), True))
        square, moments = g.map(lambda e, r, c, s: r * c / s, row, column, total), [row, column]
    else:
        square = towards(moments[0], g.map(lambda e, d: d * d, grad))
        moments = [square]
    move = g.map(lambda e, d, v: d / e.sqrt(e.max(v, eps1 * eps1)), grad, square)
    length = g.cast(_square_mean(g, move, axes, False), h.lr.dtype)
    scale = g.map(lambda e, a, s, d: a / e.max(e.sqrt(s) / d, 1), alpha, length, h.d)
    return (g.map(lambda e, x, m, s: x - m * s, p, move, constant(g, scale, p)), *moments, step)


_SCALARS = ("lr", "beta2_decay", "eps2", "d", "weight_decay")
_matrix, _vector = Update("adafactor", _SCALARS, 3, _rule), Update("adafactor", _SCALARS, 2, _rule)


class Adafactor(Optimizer):
    r"""Adam without the first moment, the second moment of a matrix kept as its row and column means.

    The step is :math:`\max(\epsilon_2, \mathrm{rms}(p)) \min(\gamma, 1 / \sqrt{t})` times the gradient over the root of its second
    moment, clipped to a root mean square of d.

    Args:
        lr: :math:`\gamma`; beta2_decay: the moments take a share :math:`t^{beta2\_decay}` of the new gradient; eps: (smallest
            second moment, None for the type's machine epsilon; smallest scale of p); d: as above; weight_decay: shrinks p by
            ``lr * weight_decay * p``.

    Source: Shazeer and Stern, https://arxiv.org/abs/1804.04235; https://pytorch.org/docs/stable/generated/torch.optim.Adafactor.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, beta2_decay: float = -0.8, eps: tuple[float | None, float] = (None, 1e-3),
                 d: float = 1.0, weight_decay: float = 0.0, *, foreach: bool | None = None, maximize: bool = False) -> None:
        if isinstance(lr, Handle) and lr._value.meta.numel != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not 0.0 >= beta2_decay:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not 0.0 <= eps[0]:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not 0.0 <= eps[1]:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not 1.0 <= d:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(params, {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
                                  "foreach": foreach, "maximize": maximize})

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        shape = p._value.meta.shape
        if len(shape) < 2:
            return {"step": step_count(), "variance": zeros_like(p)}
        return {"step": step_count(), "row_var": full_like(p, 0, (*shape[:-1], 1)),
                "col_var": full_like(p, 0, (*shape[:-2], 1, shape[-1]))}

    def update_group(self, group: dict[str, Any], params: Sequence[Any]) -> None:
        h = self.hyper(_matrix, group, [group["lr"], group["beta2_decay"], group["eps"][1], group["d"], group["weight_decay"]])
        alike: dict[tuple, list[Any]] = {}
        for p in params:
            meta = p._value.meta
            alike.setdefault((len(meta.shape) > 1, meta.dtype.name), []).append(p)
        for (matrix, dtype), members in alike.items():
            update, names = (_matrix, ("row_var", "col_var", "step")) if matrix else (_vector, ("variance", "step"))
            eps1 = group["eps"][0]
            update(h, self.rows(group, members, names), eps1=float(_EPSILON[dtype] if eps1 is None else eps1),
                   decay=group["weight_decay"] != 0, maximize=bool(group["maximize"]))
