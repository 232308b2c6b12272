"""A backward that was walked before, from the same point of a trace over the same graph, is one step along the trie.

The first walk records gradient operations one by one. What it recorded is kept at the trie node where it began, together
with a description of the graph. The next backward there describes its own graph, in one light pass; if the two are equal,
recording moves straight to where the walk ended, and only the gradients of the leaves become tensors.

What was recorded before the last flush (a loss is looked at before its backward) has its saved values in memory. They enter the
trace in the course of the walk; a description numbers them, and the next backward lets its own enter in the same order.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..record.flush import ready
from ..record.trace import NO_COPY, Trace, TraceNode
from ..record.value import COPIED, Epoch, Value, block_at, copied, is_exported, looks
from .entering import in_use, is_strided, is_whole, part_of, stretch_of
from .handle import LEAF, Handle, make
from .node import GradNode
from .replay_steps import LIMIT, LONG, never, overwritten, written_for
from .writing import replace

__all__ = ["describe", "replay", "remember", "Description"]


class _Dead(Value):
    """What fills the slots of values that nobody refers to. A flush sees by the class that there was nothing to refer to."""

    __slots__ = ()


_DEAD = _Dead()
_DEAD.meta = _DEAD.epoch = _DEAD.origin = _DEAD.home = _DEAD.overwritten = None  # type: ignore[assignment]
_DEAD.slot = -1
_DEAD.buffer = block_at(0, 0, None)  # keeps it from being taken for a live pending value
# A step is worth writing for a graph that keeps coming. Writing one costs what some fifty descriptions do; where that is a pause to
# be felt, they have cost as much before.
_WRITTEN, _LONG_WRITTEN = 2, 50
_RECIPES = 16  # at one node, of graphs that differ in what was recorded before the last flush (how often a loop has turned) ...
_LENGTH = 10_000  # ... whose descriptions are no longer than this
_ADDED = object()    # in a signature: a leaf has a gradient, which is told by what follows
_PART = object()     # in a signature: a view of what is told next
_EARLIER = object()  # in a signature: the node was recorded before the last flush


class Description:
    """The graph below a root: ``signature`` is equal for equal graphs; ``nodes`` and ``leaves`` are what it was read from.
    ``saved`` are the values in memory that it keeps and the gradients there that are added to, ``seen`` how often content had been
    looked at; ``plain``: they are wholes, or row-major parts, that nobody sees from outside."""

    __slots__ = ("signature", "nodes", "leaves", "saved", "seen", "plain")

    def __init__(self, signature: list[Any], nodes: list[GradNode], leaves: list[Handle], saved: list[Value], plain: bool) -> None:
        self.signature, self.nodes, self.leaves, self.saved, self.seen = signature, nodes, leaves, saved, looks.count
        self.plain = plain


class Recipe:
    """Where a walk ended, the slots of the leaves' gradients in the order of the description, and (number among the saved values,
    slot) of those that entered. ``uses``: how often it was taken; at the ``_WRITTEN``-th time (a long one later) it gets a ``step`` of
    its own. ``others``: those of all graphs whose backward began at this node, by the hash of their descriptions."""

    __slots__ = ("signature", "end", "slots", "dead", "entering", "uses", "step", "facts", "others")

    def __init__(self, signature: list[Any], end: TraceNode, slots: list[int], count: int, entering: list[tuple[int, int]]) -> None:
        self.signature, self.end, self.slots, self.entering = signature, end, slots, entering
        self.dead = [_DEAD] * count
        self.uses = 0
        self.step: Callable[..., bool] = never
        self.facts: tuple = ()
        self.others: dict[int, Recipe] = {}


def describe(root: Handle, epoch: Epoch, once: bool = True) -> Description | None:
    """The graph below ``root`` if a walk of it depends on nothing else: there are no hooks, no saved value was overwritten, and those of
    earlier epochs, like the gradients to add to, are in memory that nobody else writes. Small memory that somebody sees from outside
    is copied for the graph, if it is walked only ``once``."""
    edge = root._edge
    if not isinstance(edge, GradNode):
        return None
    nodes = [edge]
    number = {edge: 0}
    leaves: list[Handle] = []
    leaf_number: dict[int, int] = {}
    signature: list[Any] = [root._value.slot if edge.epoch is epoch else root._value.meta]
    put = signature.append
    writes = epoch.writes
    saved: list[Value] = []
    saved_number: dict[int, int] = {}
    sums: set[int] = set()
    private: dict[int, tuple[Value, Value]] | None = {} if once else None
    seen = epoch.trace.copied is not NO_COPY  # what entered as a copy will do so again
    told = True
    for n in nodes:  # grows while it is read
        if type(n.state) is not tuple:  # it has hooks, or has been used up
            return None
        put(n.node)
        if n.epoch is not epoch:
            put(_EARLIER)
            if overwritten(n) or not _number(n, epoch, put, saved, saved_number, private):
                return None
        else:
            known = len(saved)
            if writes and overwritten(n) or seen and not _number(n, epoch, put, saved, saved_number, private):
                return None
            told = told and len(saved) == known  # a step that is written looks at what nodes of earlier epochs keep alone
        for edge in n.edges:
            if edge is None:
                put(None)
                continue
            nr = 0
            if type(edge) is tuple:
                edge, nr = edge
            if isinstance(edge, GradNode):
                k = number.get(edge)
                if k is None:
                    k = number[edge] = len(nodes)
                    nodes.append(edge)
                put((k, nr) if nr else k)
            elif isinstance(edge, Handle):
                k = leaf_number.get(id(edge))
                if k is None:
                    if edge._more is not None or edge._edge is not LEAF:
                        return None
                    if edge._grad is not None and not _number_sum(edge, epoch, put, saved, saved_number, sums):
                        return None
                    k = leaf_number[id(edge)] = len(leaves)
                    leaves.append(edge)
                put(-1 - k)
            else:
                return None
    return Description(signature, nodes, leaves, saved, told and not private and _PART not in signature)


def _number(n: GradNode, epoch: Epoch, put: Callable[[Any], None], saved: list[Value], number: dict[int, int],
            private: dict[int, tuple[Value, Value]] | None) -> bool:
    """Describe what a node of an earlier epoch keeps: values that are in the trace by their slots, others by numbers; False where one
    would not enter as one leaf. Where somebody outside holds small memory that is kept, the node gets a copy of what is there now,
    which is ``private``; None: it is to keep what it has."""
    kept = (*n.kept, *n.kept_outs)
    if private is not None:
        for v in kept:
            if v is not None and id(v) not in number and v.epoch is not epoch and _is_seen(v, epoch):
                kept = _with_copies(n, epoch, private)
                break
    for v in kept:
        if v is None:
            put(None)
        elif v.epoch is epoch:
            put((v.slot,))
        else:
            k = number.get(id(v))
            if k is None:
                if in_use(v) if v.buffer is not None else not is_whole(v, epoch, saved):
                    if not _put_part(v, epoch, put, saved, number):
                        return False
                    continue
                k = number[id(v)] = len(saved)
                saved.append(v)
            put(k)
    return True


def _put_part(v: Value, epoch: Epoch, put: Callable[[Any], None], saved: list[Value], number: dict[int, int]) -> bool:
    """Describe a view of what is in the trace, or enters with another node and is recorded as such; or a view with strides. False for
    any other value."""
    root: Any = v.origin
    if v.buffer is not None or root is None or root.buffer is None or root.meta.strides is not None:
        return False
    put(_PART)
    if root.epoch is epoch:
        put((root.slot,))
    elif is_exported(root) or not v.meta.numel:
        return False
    else:
        put(number.get(id(root)))
        number[id(v)] = len(saved)
        saved.append(v)
    put(v.alias.place())  # type: ignore[attr-defined]
    if v.meta.dtype is not root.meta.dtype:
        put((v.meta.dtype,))
    return True


def _is_seen(v: Value, epoch: Epoch) -> bool:
    """Whether somebody outside holds the small memory that a value of an earlier epoch, or a row-major part of one, lies in."""
    if v.meta.nbytes > COPIED:
        return False
    if v.buffer is not None:
        return in_use(v)
    root = v.origin
    return root is not None and v.meta.strides is None and root.buffer is not None and root.epoch is not epoch and is_exported(root)


def _with_copies(n: GradNode, epoch: Epoch, private: dict[int, tuple[Value, Value]]) -> tuple[Value | None, ...]:
    """What a node keeps from now on: copies of what others hold."""
    def of(v: Value | None) -> Value | None:
        if v is None or v.epoch is epoch or not _is_seen(v, epoch):
            return v
        if id(v) not in private:
            if v.buffer is not None:
                address = ready(v).ptr
            else:
                alias: Any = v.alias  # type: ignore[attr-defined]
                address = ready(v.origin).ptr + alias.place()[2] * v.meta.dtype.itemsize  # type: ignore[arg-type]
            private[id(v)] = v, copied(v, address)
        return private[id(v)][1]

    for name in n.HELD:
        setattr(n, name, of(getattr(n, name)))
    return (*n.kept, *n.kept_outs)


def _number_sum(leaf: Handle, epoch: Epoch, put: Callable[[Any], None], saved: list[Value], number: dict[int, int], sums: set[int]) -> bool:
    """Describe the gradient that a leaf has, to which another is added in place; False where that is no matter of one leaf and one add."""
    g: Any = leaf._grad
    v = g._value
    if g._alias is not None or g._edge is not None or g._more is not None or v.overwritten is not None or v.origin is not None:
        return False
    if v.meta is not leaf._value.meta.own or id(v) in sums or id(v) in number:
        return False
    sums.add(id(v))
    put(_ADDED)
    if v.epoch is epoch:
        put((v.slot,))
        return True
    if v.buffer is None or in_use(v):
        return False
    k = number[id(v)] = len(saved)
    saved.append(v)
    put(k)
    return True


def replay(tr: Trace, root: Handle, found: Description, retain_graph: bool) -> bool:
    """Take the recorded walk of this graph, if there is one."""
    recipe = tr.node.backward
    if recipe is None:
        return False
    if recipe.signature != found.signature:
        recipe = recipe.others.get(_hash(found))
        if recipe is None or recipe.signature != found.signature:
            return False
        tr.node.backward = recipe
    recipe.uses += 1
    if recipe.uses == (_WRITTEN if len(found.nodes) <= LONG else _LONG_WRITTEN) and len(found.nodes) <= LIMIT and found.plain:
        recipe.step, recipe.facts = written_for(root, found.nodes, tr, recipe)
    epoch, values = tr.epoch, tr.values
    values += recipe.dead
    for k, slot in recipe.entering:
        v = found.saved[k]
        if is_strided(v):
            values[slot] = stretch_of(tr, v)
            continue
        v.epoch, v.slot = epoch, slot
        values[slot] = v if v.buffer is not None else part_of(tr, v)
    for leaf, slot in zip(found.leaves, recipe.slots):
        v = values[slot]
        if v is _DEAD:
            v = values[slot] = Value()
            v.meta = leaf._value.meta.own
            v.epoch = epoch
            v.slot = slot
            v.buffer = v.origin = v.home = v.overwritten = None
        g = leaf._grad
        if g is None:
            leaf._grad = make(v)
        else:
            replace(g._value, v, "add_", None)
            g._value = v
            g._writes += 1
    tr.node = recipe.end
    if not retain_graph:
        for n in found.nodes:
            n.release()
    return True


def remember(start: TraceNode, tr: Trace, epoch: Epoch, before: int, found: Description) -> None:
    """Keep the walk that has just been recorded from ``start`` on."""
    if tr.epoch is not epoch or looks.count != found.seen:
        return
    # A view with strides enters as the stretch of memory that it lies in, and is recorded behind that.
    entered = {v.slot - 1: k for k, v in enumerate(found.saved) if v.epoch is epoch and is_strided(v)
               and getattr(tr.values[v.slot - 1].buffer, "owner", None) is v.origin}
    entered |= {v.slot: k for k, v in enumerate(found.saved) if v.epoch is epoch and not is_strided(v)}
    entering, node = [], tr.node
    while node is not start:
        if node.parent is None:
            return
        if node.op is None and not node.is_mark:
            k = entered.get(node.slot)
            if k is None:  # a value entered that no node keeps
                return
            entering.append((k, node.slot))
        node = node.parent
    slots = []
    for leaf in found.leaves:
        grad = leaf._grad
        if grad is None or grad._value.epoch is not epoch or grad._value.slot < before or grad._alias is not None:
            return
        slots.append(grad._value.slot)
    made = Recipe(found.signature, tr.node, slots, len(tr.values) - before, entering)
    if len(found.signature) <= _LENGTH:
        if start.backward is not None:
            made.others = start.backward.others
        if len(made.others) >= _RECIPES:
            del made.others[next(iter(made.others))]
        made.others[_hash(found)] = made
    start.backward = made


def _hash(found: Description) -> int:
    return hash(tuple(found.signature))
