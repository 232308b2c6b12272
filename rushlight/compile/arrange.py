"""The order of a body's loops, which axes merge into one, and which lies along vectors: by strides and extents alone."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .body import Body
from .expr import Expr, inputs_of
from .index import Ix
from .sizes import choice, numeric

__all__ = ["Plan", "arrange", "Info", "LANES", "WOVEN"]

LANES = 16  # a typical number of elements in a vector; only choices depend on it
WOVEN = (2, 3, 4)  # steps along the vector axis at which whole vectors are read and written, and shuffled, in place of gathering


@dataclass
class Plan:
    """A body with its axes ordered and merged. Every form is a tuple of coefficients in ``axes`` order."""

    body: Body
    kept: list[int]
    reduced: list[int]
    extents: dict[int, int]
    vector: int | None
    chunk: tuple[int, int, int] | None = None  # (chunk axis, axis it cuts, chunk length)
    woven: tuple[int, ...] = ()  # short axes inside the vector loop: together with it they fill memory without gaps


def _memory_forms(body: Body) -> list[tuple[Ix, float, bool]]:
    """(position, weight, whether all of it is there) of every store and of every place that is loaded."""
    loads = {(v.node, v.at): (v.at, 1.0, not v.conds) for v in body.values if v.kind in ("load", "partial")}
    return [*((p.at, 1.5, True) for p in body.puts), *loads.values()]


def _all_forms(body: Body) -> list[Ix]:
    return [p.at for p in body.puts] + [v.at for v in body.values if v.kind in ("load", "partial", "form")]


def arrange(body: Body, serial: frozenset[int]) -> Plan:
    extents = {a: n for a, n in body.extents.items() if a >= 0}
    kept = [a for a in body.kept if extents[a] != 1]
    reduced = [a for a in body.reduced if extents[a] != 1]
    memory = _memory_forms(body)
    steps = [(dict(at.terms), weight) for at, weight, _ in memory]
    live = [*kept, *reduced]
    forms = [dict(f.terms) for f in _all_forms(body)]

    def spread(form: dict[int, int]) -> int:
        return math.prod(extents[a] for a in live if form.get(a))

    reference: dict[int, int] = max((s for s, _ in steps), key=spread, default={})
    if not reduced and body.puts:
        first = dict(body.puts[0].at.terms)
        reference = first if spread(first) >= spread(reference) else reference
    rank = {a: abs(reference.get(a, 0)) or max((abs(s.get(a, 0)) for s, _ in steps), default=0) for a in live}

    def grown(a: int) -> int:
        """The length of an axis with those that will merge into it: channels may come as groups and channels of a group."""
        n, rest = extents[a], [b for b in (kept if a in kept else reduced) if b != a and b not in serial]
        while (b := next((b for b in rest if all(f.get(b, 0) == f.get(a, 0) * n for f in forms)), None)) is not None:
            rest.remove(b)
            n *= extents[b]
        return n

    def candidate(a: int) -> list[Any]:
        return [grown(a), rank[a], a in reduced, *[_worth(s.get(a, 0), whole) for (s, _), (_, _, whole) in zip(steps, memory, strict=True)]]

    candidates = [a for a in live if a not in serial]
    vector = candidates[0] if candidates else None
    if len(candidates) > 1:
        vector = candidates[_best_vector(len(steps), *[n for s, weight in steps for n in (weight, spread(s))],
                                         *[n for a in candidates for n in candidate(a)])]  # fmt: skip
    woven = () if vector is None or serial else _woven(body, extents, vector, reduced if vector in reduced else live)

    def ordered(axes: list[int]) -> list[int]:
        out = sorted((a for a in axes if a != vector and a not in serial and a not in woven), key=lambda a: -rank[a])
        if vector in axes:
            out.append(vector)  # type: ignore[arg-type]
        return out + [a for a in axes if a in woven or a in serial]

    kept, reduced = ordered(kept), ordered(reduced)
    into: dict[int, int] = {}  # merged axis -> the inner axis that carries it
    for axes in (kept, reduced):
        k = len(axes) - 2
        while k >= 0:
            outer, inner = axes[k], axes[k + 1]
            n = extents[inner]
            if not (serial | {*woven}) & {outer, inner} and all(f.get(outer, 0) == f.get(inner, 0) * n for f in forms):
                into[outer] = inner
                extents[inner] = n * extents[outer]
                del axes[k]
            k -= 1
    # A merged axis is the inner one, grown: positions on the outer one are multiples of the inner's former length.
    return Plan(body, kept, reduced, extents, vector, woven=woven)


@choice
def _best_vector(places: int, *numbers: Any) -> int:
    """Which axis lies along vectors: the one along which most of what is read and written lies well, by how full its vectors are.

    Args:
        places: that are read or written.
        numbers: of each, its weight and how many elements it has; then of each axis its length, the step that counts for its rank,
            whether it is reduced, and its worth for each place.
    """
    elements = [weight * n for weight, n in zip(numbers[:2 * places:2], numbers[1:2 * places:2])]
    scores = []
    for k in range(2 * places, len(numbers), 3 + places):
        n, rank, is_reduced = numbers[k:k + 3]
        good = sum([n * worth for n, worth in zip(elements, numbers[k + 3:k + 3 + places])])
        scores.append((good * n / (LANES * max(1, -(-n // LANES))), is_reduced, -rank))
    return scores.index(max(scores))


@numeric
def _worth(step: int, whole: bool) -> float:
    """How well a vector is read or written whose elements lie this far apart; ``whole``: not some of its lanes alone."""
    if abs(step) == 1 or not step:
        return 1.0 if step else 0.8
    return (0.7 if whole else 0.5) if step in WOVEN else 0.3


def _woven(body: Body, extents: dict[int, int], vector: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The axis of which a result has the elements between two neighbours along the vector, if there is one."""
    for put in body.puts:
        steps = dict(put.at.terms)
        for a in axes:
            if a != vector and steps.get(a) == 1 and any(extents[a] == n and steps.get(vector) == n for n in WOVEN):
                return (a,)
    return ()


class Info:
    """For each formula: the loop axes it moves with, and how many reductions it waits for, one after the other."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self._values: dict[int, tuple[frozenset[int], int]] = {}
        self._exprs: dict[Expr, tuple[frozenset[int], int]] = {}
        self._inner = frozenset(body.reduced)

    def _at(self, at: Ix) -> tuple[frozenset[int], int]:
        axes, level = set(), 0
        for axis, _ in at.terms:
            if axis >= 0:
                if self.body.extents.get(axis, 1) != 1:
                    axes.add(axis)
            else:
                more, deeper = self.of(self.body.dynamic[axis])
                axes |= more
                level = max(level, deeper)
        return frozenset(axes), level

    def axes(self, at: Ix) -> frozenset[int]:
        return self._at(at)[0]

    def value(self, k: int) -> tuple[frozenset[int], int]:
        known = self._values.get(k)
        if known is not None:
            return known
        value = self.body.values[k]
        if value.kind == "acc":
            axes, level = self.of(value.expr)
            known = (axes - self._inner, level + 1)
        elif value.kind in ("sum", "running"):
            known = (frozenset(self.body.kept), 0)
        else:
            axes, level = self._at(value.at)
            for cond, _, _ in value.conds:
                more, deeper = self._at(cond)
                axes, level = axes | more, max(level, deeper)
            known = (axes, level)
        self._values[k] = known
        return known

    def of(self, expr: Expr | None) -> tuple[frozenset[int], int]:
        assert expr is not None
        known = self._exprs.get(expr)
        if known is None:
            axes: frozenset[int] = frozenset()
            level = 0
            for k in inputs_of(expr):
                more, deeper = self.value(k)
                axes, level = axes | more, max(level, deeper)
            known = self._exprs[expr] = (axes, level)
        return known
