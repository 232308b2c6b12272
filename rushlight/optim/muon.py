"""Muon."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..autograd.handle import Handle
from ..compile.dtypes import by_name
from ..compile.graph import Graph, Node
from ..ops.update import Scalars, Update, constant
from .optimizer import Optimizer, zeros_like
from .rules import average, shrunk

__all__ = ["Muon"]


def _orthogonal(g: Graph, h: Scalars, x: Node, steps: int) -> Node:
    """The nearest orthogonal matrix, roughly: Newton-Schulz iterations that move all singular values towards one.

    Each matrix is rounded to bfloat16, as the method has it; sums are in float32.
    """
    half, wide = by_name("bfloat16"), by_name("float32")

    def rounded(x: Node) -> Node:
        return g.cast(g.cast(x, half), wide)

    turned = x.shape[0] > x.shape[1]
    x = rounded(x)
    if turned:
        x = g.permute(x, (1, 0))
    norm = rounded(g.map(lambda e, s: e.sqrt(s), g.reduce("add", g.map(lambda e, x: x * x, x), (0, 1))))
    x = rounded(g.map(lambda e, x, n, eps: x / e.max(n, eps), x, norm, rounded(h.eps)))
    a, b, c = (g.cast(v, wide) for v in (h.ns_a, h.ns_b, h.ns_c))
    for _ in range(steps):
        gram = rounded(g.einsum("ik,kj->ij", x, g.permute(x, (1, 0))))
        more = rounded(g.map(lambda e, m, mm, b, c: b * m + c * mm, gram, g.einsum("ik,kj->ij", gram, gram), b, c))
        x = rounded(g.map(lambda e, x, mx, a: a * x + mx, x, g.einsum("ik,kj->ij", more, x), a))
    return g.permute(x, (1, 0)) if turned else x


def _rule(g: Graph, h: Scalars, p: Node, grad: Node, buffer: Node, *, nesterov: bool, steps: int, factor: float) -> Sequence[Node]:
    buffer = average(g, buffer, grad, h.momentum)
    move = g.map(lambda e, d, b, m: d + (b - d) * m, grad, buffer, constant(g, h.momentum, p)) if nesterov else buffer
    move = g.cast(_orthogonal(g, h, move, steps), p.dtype)
    p = shrunk(g, h, p)
    rate = constant(g, g.map(lambda e, lr: lr * factor, h.lr), p)
    return g.map(lambda e, x, d, r: x - d * r, p, move, rate), buffer


_SCALARS = ("lr", "weight_decay", "momentum", "eps", "ns_a", "ns_b", "ns_c")
_update = Update("muon", _SCALARS, 1, _rule)


class Muon(Optimizer):
    r"""Momentum whose step is made orthogonal, for the matrices inside a network (other parameters take AdamW).

    Args:
        lr, momentum: learning rate and momentum; weight_decay: shrinks p by ``lr * weight_decay * p``; nesterov: look ahead.
        ns_coefficients, ns_steps, eps: of the Newton-Schulz iteration that makes a matrix orthogonal.
        adjust_lr_fn: how the rate follows the shape (A, B): ``"original"`` (also None) by :math:`\sqrt{\max(1, A/B)}`,
            ``"match_rms_adamw"`` by :math:`0.2 \sqrt{\max(A, B)}`.

    Raises:
        ValueError: a parameter is not a matrix.

    Source: Jordan, https://kellerjordan.github.io/posts/muon/; https://pytorch.org/docs/stable/generated/torch.optim.Muon.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
                 ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315), eps: float = 1e-7, ns_steps: int = 5,
                 adjust_lr_fn: str | None = None) -> None:
        if isinstance(lr, Handle) and lr._value.meta.numel != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not 0.0 <= momentum:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn is not None and adjust_lr_fn not in ("original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
                                  "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}")

    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        return {"momentum_buffer": zeros_like(p)}

    def update_group(self, group: dict[str, Any], params: Sequence[Any]) -> None:
        if len(group["ns_coefficients"]) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        if group["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if any(p._value.meta.dtype.is_complex for p in params):
            raise RuntimeError("Muon does not support complex parameters")
        h = self.hyper(_update, group, [group["lr"], group["weight_decay"], group["momentum"], group["eps"], *group["ns_coefficients"]])
        alike: dict[float, list[Any]] = {}
        for p in params:
            rows, columns = p._value.meta.shape
            match = group["adjust_lr_fn"] == "match_rms_adamw"
            factor = 0.2 * math.sqrt(max(rows, columns)) if match else math.sqrt(max(1, rows / columns))
            alike.setdefault(factor, []).append(p)
        for factor, members in alike.items():
            _update(h, self.rows(group, members, ("momentum_buffer",)), nesterov=bool(group["nesterov"]), steps=int(group["ns_steps"]),
                    factor=factor)
