"""One operation for a function that is mapped over samples: what it recorded for one of them, done for all at once."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..autograd import engine
from ..autograd.apply import apply
from ..compile.graph import Graph, Node
from ..compile.widen import can_widen, widen
from ..record.meta import Meta, meta_of
from ..record.op import Op
from ..record.paths import lower_op

__all__ = ["Mapping", "Recorded", "Step", "mapped", "is_mappable"]


class Step(NamedTuple):
    """An operation; ``inputs`` number the values: those that enter, then all results in order."""

    op: Op
    attrs: tuple
    inputs: tuple[int, ...]
    metas: tuple[Meta, ...]


class Recorded(NamedTuple):
    """What a function recorded. ``enter``: metas of the values that enter; ``results``: numbers of those that leave."""

    enter: tuple[Meta, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]

    def again(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The function's results for other tensors."""
        values = list(tensors)
        for step in self.steps:
            made = apply(step.op, step.attrs, [values[k] for k in step.inputs])
            values.extend(made if isinstance(made, tuple) else (made,))
        return tuple(values[k] for k in self.results)

    def metas(self) -> list[Meta]:
        known = [*self.enter, *[m for step in self.steps for m in step.metas]]
        return [known[k] for k in self.results]

    def graph(self, line: Any = None) -> Graph:
        g = Graph()
        g.line = line
        values = [g.leaf(m.shape, m.dtype) for m in self.enter]
        for step in self.steps:
            values.extend(lower_op(g, step.op, [values[k] for k in step.inputs], step.attrs, step.metas))
        g.results = [values[k] for k in self.results]
        return g


class Mapping(NamedTuple):
    """Attributes of ``mapped``. ``many``: which of the values that enter have ``size`` samples along their first dimension.
    ``over`` maps a function over the first dimension of tensors (``func/batching.py``), for the gradient."""

    recorded: Recorded
    many: tuple[bool, ...]
    size: int
    over: Callable[..., Any]


@functools.lru_cache(maxsize=1000)
def is_mappable(recorded: Recorded, many: tuple[bool, ...]) -> bool:
    """Whether every step has a form for many samples at once."""
    return can_widen(recorded.graph(), many)


class _Mapped(Op):
    name, grad_name = "vmap", "VmapBackward0"

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> tuple[Meta, ...]:
        recorded, _, count, _ = attrs
        return tuple(meta_of((count, *m.shape), m.dtype, m.device) for m in recorded.metas())

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        recorded, many, count, _ = attrs
        return widen(g, recorded.graph(g.line), inputs, many, count)

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        return tuple(range(len(metas))), False

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        recorded, many, _, over = ctx.attrs
        wanted = [k for k, need in enumerate(ctx.needs) if need]
        given = [engine.Rules.zeros(m) if g is None else g for g, m in zip(grads, ctx.out_metas(), strict=True)]
        found = over(recorded, wanted, [*ctx.inputs, *given], (*many, *[True] * len(given)))
        out: list[Any] = [None] * len(ctx.needs)
        for k, g in zip(wanted, found, strict=True):
            out[k] = g if many[k] else g.sum(0)
        return out


#: attrs: a ``Mapping``.
mapped = _Mapped()
