"""From a Body to loop nests: one, or two where a long reduction is cut into chunks.

Everything here is decided by extents and strides alone, never by the number of threads, so results do not depend on it.
"""
from __future__ import annotations

import math
from dataclasses import replace

from .arrange import LANES, Info, Plan, arrange
from .body import Body, Put, Value
from .emit_nest import Emitter, Lowered
from .expr import input_
from .flags import flags
from .index import Ix
from .sizes import choice, decision, largest, smallest

__all__ = ["Lowered", "lower", "lower_body"]

_MOST = 4096            # bodies that are remembered
_SPLIT = 1 << 15        # a reduction with fewer elements than this for each result is not cut


_lowered: dict[tuple, list[Lowered]] = {}


def lower_body(body: Body, serial: frozenset[int] = frozenset()) -> list[Lowered]:
    """Kernels that compute a body, in order; none if there is nothing to store.

    ``serial``: axes that must run in order, inside everything else (stores may collide along them).

    A step with another batch size repeats the updates of all parameters: equal bodies are lowered once.
    """
    key = (body.key(), serial, flags.split)
    known = _lowered.get(key)
    if known is None:
        if len(_lowered) >= _MOST:
            _lowered.clear()
        known = _lowered[key] = lower(body, serial)
    return known


def lower(body: Body, serial: frozenset[int]) -> list[Lowered]:
    """As ``lower_body``, and nothing is remembered."""
    if any(body.extents[a] == 0 for a in body.kept):
        return []
    plan = arrange(body, serial)
    cut = _split_axis(plan) if flags.split and not serial else None
    if cut is not None:
        return _split(plan, cut)
    return [Emitter(plan, serial).emit()]


def _split_axis(plan: Plan) -> int | None:
    """The reduced axis to cut, where a long reduction has too few results to occupy all cores."""
    body = plan.body
    if not plan.reduced:
        return None
    accs = [v for v in body.values if v.kind == "acc"]
    info = Info(body)
    if any(v.op.startswith("arg") or info.of(v.expr)[1] for v in accs):
        return None
    if any(p.combine or info.of(p.expr)[1] and _inside(p, plan, info) for p in body.puts):
        return None
    results = math.prod(plan.extents[a] for a in plan.kept)
    total = results * math.prod(plan.extents[a] for a in plan.reduced)
    if not _is_long(results, total, plan.vector in plan.kept):
        return None
    axis = plan.reduced[0]
    if len(plan.reduced) > 1:
        across = plan.reduced.index(plan.vector) if plan.vector in plan.reduced else -1
        axis = plan.reduced[_cut_best(across, *[plan.extents[a] for a in plan.reduced])]
    return axis if plan.extents[axis] >= 4 else None


@decision
def _is_long(results: int, total: int, in_lanes: bool) -> bool:
    """Whether reductions of ``total`` elements are long, and their results too few to occupy all cores."""
    units = results // LANES if in_lanes else results
    return units < 16 and total >= 2 * _SPLIT and total // max(results, 1) >= 64


@choice
def _cut_best(vector: int, *lengths: int) -> int:
    """Which of some axes to cut: the longest, and of those that are long enough one that does not lie along vectors."""
    return max(range(len(lengths)), key=lambda k: (k != vector and lengths[k] >= 16, lengths[k]))


def _inside(put: Put, plan: Plan, info: Info) -> bool:
    return bool((info.of(put.expr)[0] | info.axes(put.at)) & set(plan.reduced))


def _split(plan: Plan, axis: int) -> list[Lowered]:
    """Partial results of chunks into scratch memory, then the rest over them."""
    body, extents = plan.body, plan.extents
    results = math.prod(extents[a] for a in plan.kept)
    total = results * math.prod(extents[a] for a in plan.reduced)
    n = extents[axis]
    wanted = largest(2, smallest(64, n if axis != plan.vector else n // 1024, total // _SPLIT))
    length = -(-n // wanted)
    if axis == plan.vector:
        length = -(-length // 64) * 64
    chunks = -(-n // length)
    chunk = max([*body.extents, 0]) + 1
    place, step = [], 1
    for a in reversed(plan.kept):
        place.append((a, step))
        step *= extents[a]
    place.append((chunk, step))
    info = Info(body)
    inside = [p for p in body.puts if _inside(p, plan, info)]
    first = Body(body.extents, body.kept, body.reduced, body.values, list(inside), body.tests, body.dynamic)
    second = Body({**body.extents, **{a: extents[a] for a in plan.kept}, chunk: chunks}, list(plan.kept), [chunk],
                  [replace(v) for v in body.values], [replace(p) for p in body.puts if p not in inside], [], body.dynamic)
    # The second nest counts positions on the merged axes; its own loads and forms use them the same way.
    offset = 0
    for k, value in enumerate(body.values):
        if value.kind != "acc":
            continue
        at = Ix(offset // value.dtype.itemsize, tuple(sorted(place)))
        first.puts.append(Put(None, at, input_(k, value.dtype)))
        second.values.append(Value("partial", value.dtype, at))
        second.values[k].expr = input_(len(second.values) - 1, value.dtype)
        offset += -(-(step * chunks * value.dtype.itemsize) // 64) * 64
    _drop_merged(second, plan)
    whole = Plan(first, [*plan.kept], plan.reduced, {**extents, chunk: chunks}, plan.vector, (chunk, axis, length), plan.woven)
    made = [Emitter(whole, frozenset()).emit(), *lower(second, frozenset())]
    for lowered in made:
        lowered.scratch = offset
    return made


def _drop_merged(body: Body, plan: Plan) -> None:
    """Leave only the axes that the plan kept: a merged axis's steps are implied by the axis that carries it."""
    gone = {a for a in plan.body.extents if a >= 0 and a not in plan.kept and a not in plan.reduced}
    items: list[Value | Put] = [*body.values, *body.puts]
    for item in items:
        if any(a in gone for a, _ in item.at.terms):
            item.at = Ix(item.at.offset, tuple(t for t in item.at.terms if t[0] not in gone))
