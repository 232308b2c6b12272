"""Gradients that follow from a formula in tensors.

The second derivative of a fused operation (``max_pool``, ``layer_norm``, ...) is rarely wanted. Instead of a rule by hand, its
gradient operation states the same formula once more in differentiable tensor operations, and that is differentiated.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import engine
from ..autograd.handle import LEAF
from ..autograd.modes import enable_grad
from ..record.trace import local
from .basic import clone

__all__ = ["gradient_of"]


def gradient_of(formula: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """A gradient rule ``(ctx, *grads)`` for an operation whose results are ``formula(inputs, attrs)``.

    The rule can itself be differentiated. It reads all inputs of the operation.
    """
    def rule(ctx: Any, *grads: Any) -> Sequence[Any]:
        again = bool(local.trace.grad_enabled)
        with enable_grad():
            # Every input by a name of its own, so that one which was computed from another counts by itself.
            inputs = [clone(t) for t in ctx.inputs]
            wanted = [k for k, need in enumerate(ctx.needs) if need]
            for k in wanted:
                if inputs[k]._edge is None:
                    inputs[k]._edge = LEAF
            results = formula(inputs, ctx.attrs)
            reached = [(y, g) for y, g in zip(results, grads) if g is not None and y is not None and y._edge is not None]
        found: dict[int, Any] = {}
        if reached:
            found = engine.run([y for y, _ in reached], [g for _, g in reached], retain_graph=again, create_graph=again,
                               inputs=[inputs[k] for k in wanted], accumulate=False)
        given: list[Any] = [None] * len(inputs)
        for at, k in enumerate(wanted):
            given[k] = found.get(at)
        return given
    return rule
