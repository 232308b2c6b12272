"""A function called for one sample, and what it recorded as one operation for all of them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd.apply import apply, enter, value_of
from ..autograd.handle import LEAF, Handle, make
from ..autograd.modes import no_grad
from ..ops.mapped import Mapping, Recorded, Step, is_mappable, mapped
from ..record.trace import TraceNode, local
from .transforms import vjp

__all__ = ["Sample"]


class Sample:
    """The first of many samples, and where recording stood when it was made.

    Attributes:
        tensors: the arguments of one call. Those that are mapped over are copies, which nothing else refers to.
    """

    def __init__(self, leaves: Sequence[Any], dims: Sequence[int | None]) -> None:
        self.given, self.dims = leaves, dims
        self.tensors = [t if d is None else t.select(d, 0).clone() for t, d in zip(leaves, dims)]
        self.trace = tr = local.trace
        self.node, self.epoch, self.begin = tr.node, tr.epoch, len(tr.values)
        self.versions = [0 if d is None else t._version for t, d in zip(self.tensors, dims)]
        self.wrote, tr.epoch.writes = tr.epoch.writes, False

    def of(self, func: Any, rebuild: Any, kwargs: dict[str, Any]) -> Any:
        """The function of this sample."""
        self.trace.mapping += 1
        try:
            return func(*rebuild(self.tensors), **kwargs)
        finally:
            self.trace.mapping -= 1

    def write_back(self) -> None:
        """What was written in place to a copy belongs to what it is a copy of."""
        for t, s, d, version in zip(self.given, self.tensors, self.dims, self.versions):
            if d is not None and s._version != version:
                t.select(d, 0).copy_(s)

    def for_all(self, results: Sequence[Any], count: int) -> list[Any] | None:
        """What the call has returned, for all samples, along the first dimension; None if there is no such form."""
        tr, wrote = self.trace, self.epoch.writes
        self.epoch.writes = wrote or self.wrote
        if wrote or local.trace is not tr or tr.epoch is not self.epoch or not all(isinstance(t, Handle) for t in results):
            return None
        slots = [enter(tr, value_of(t)) for t in results]
        if tr.epoch is not self.epoch:
            return None
        nodes = self._nodes()
        linked = [t for t in results if t._edge is not None]
        leaves = None if nodes is None else self._leaves(linked, nodes)
        if nodes is None or leaves is None:
            return None
        recorded, entered = _recorded(nodes, slots, [v.meta for v in tr.values])
        handles, many = self._entering(entered, leaves)
        if not any(many) or not is_mappable(recorded, many):
            return None
        attrs = Mapping(recorded, many, count, _gradients)
        if linked:
            made = apply(mapped, attrs, handles)
        else:
            with no_grad():
                made = apply(mapped, attrs, handles)
        made = made if isinstance(made, tuple) else (made,)
        return [y if t._edge is not None or y._edge is None else y.detach() for t, y in zip(results, made, strict=True)]

    def _nodes(self) -> list[TraceNode] | None:
        """What was recorded since, in order."""
        nodes, node = [], self.trace.node
        while node is not self.node:
            if node.parent is None:
                return None
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def _leaves(self, linked: Sequence[Any], nodes: Sequence[TraceNode]) -> dict[int, Any] | None:
        """The leaves that gradients of the results flow to, by slot; None if they leave what was recorded here in another way than by
        them and the arguments."""
        inside = set(nodes)
        ends = {id(_node(t._edge)) for t in self.tensors if isinstance(t, Handle) and t._edge is not LEAF and t._edge is not None}
        found: dict[int, Any] = {}
        seen: set[int] = set()
        todo: list[Any] = [t if t._edge is LEAF else t._edge for t in linked]
        while todo:
            edge = _node(todo.pop())
            if id(edge) in ends or id(edge) in seen:
                continue
            seen.add(id(edge))
            if isinstance(edge, Handle):
                if edge._value.epoch is not self.epoch:
                    return None
                found[edge._value.slot] = edge
                continue
            if getattr(edge, "node", None) not in inside or edge.rare:
                return None
            todo.extend(e for e in edge.edges if e is not None)
        return found

    def _entering(self, entered: Sequence[int], leaves: dict[int, Any]) -> tuple[list[Any], tuple[bool, ...]]:
        """Tensors for the slots, and which of them have all samples along the first dimension."""
        known = {slot: (t, False) for slot, t in leaves.items()}
        for t, s, d in zip(self.given, self.tensors, self.dims):
            if isinstance(s, Handle) and s._value.epoch is self.epoch:
                known[s._value.slot] = (s, False) if d is None else (t.movedim(d, 0), True)  # type: ignore[attr-defined]
        found = [known.get(slot) or (make(self.trace.values[slot]), False) for slot in entered]
        return [t for t, _ in found], tuple(is_many for _, is_many in found)


def _node(edge: Any) -> Any:
    return edge[0] if type(edge) is tuple else edge


def _recorded(nodes: Sequence[TraceNode], slots: Sequence[int], metas: Sequence[Any]) -> tuple[Recorded, list[int]]:
    """What the slots are computed by, and the slots of what enters."""
    needed, steps = set(slots), []
    for node in reversed(nodes):
        if node.op is not None and any(node.slot + k in needed for k in range(len(node.metas))):
            needed.update(node.inputs)
            steps.append(node)
    steps.reverse()
    made = {node.slot + k for node in steps for k in range(len(node.metas))}
    entered = sorted(needed - made)
    number = {slot: k for k, slot in enumerate(entered)}
    for node in steps:
        for k in range(len(node.metas)):
            number[node.slot + k] = len(number)
    found = tuple(Step(n.op, n.attrs, tuple(number[s] for s in n.inputs), n.metas) for n in steps)
    return Recorded(tuple(metas[s].plain for s in entered), found, tuple(number[s] for s in slots)), entered


def _gradients(recorded: Recorded, wanted: Sequence[int], tensors: Sequence[Any], many: Sequence[bool]) -> tuple[Any, ...]:
    """The gradients by the ``wanted`` values that enter, given these and then those of the results, for each sample."""
    from .batching import vmap

    def one(*given: Any) -> tuple[Any, ...]:
        values, grads = list(given[:len(recorded.enter)]), given[len(recorded.enter):]

        def function(*chosen: Any) -> tuple[Any, ...]:
            for k, t in zip(wanted, chosen, strict=True):
                values[k] = t
            return recorded.again(values)

        _, pull = vjp(function, *[values[k] for k in wanted])
        return pull(grads)  # type: ignore[no-any-return]

    return vmap(one, tuple(0 if m else None for m in many))(*tensors)  # type: ignore[no-any-return]
