"""A graph node's share of a walk whose rules run one by one, as straight-line code.

Where calls run by themselves (``record/unsettled.py``), a walk runs the rule of one node after the other: the rule's operations and the
additions to gradients that are there already are recorded, and a flush runs them. A structure that was never there is made of nodes
that were: the same operation on the same metas, whose inputs' gradients go to the same kinds of places. So once the program of such a
share is compiled, it is known by what it reads and where its results go. From then on it is called with the addresses of these, and nothing
is recorded.

A gradient that a leaf has got from two users already is nobody's but the walk's: what is added to it is written over it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..compile.counters import watchers
from ..compile.cpu.flight import failed, in_flight
from ..record.paths import CompiledPath
from ..record.trace import Trace
from ..record.value import Value
from .handle import Handle, View
from .node import GradNode
from .share_steps import ADDED, BESIDE, FIRST, MORE, NEW, NOTHING, NOWHERE, OVER, step_for

__all__ = ["Share", "advance"]

_MOST = 16      # shares of one trie node that are known
_FAILURES = 32  # attempts that came to nothing, after which there are no more


class Shares:
    """What is known of the shares of graph nodes that were recorded at one node of the trie."""

    __slots__ = ("known", "failures")

    def __init__(self) -> None:
        self.known: list[tuple[Callable[..., bool], tuple[Any, ...]]] = []
        self.failures = 0


def advance(tr: Trace, node: GradNode, slots: Sequence[Any], waiting: dict[Any, list[Any]], leaves: dict[int, list[Any]],
            stack: list[Any]) -> Share | None | bool:
    """Do a node's share of a walk, and return True; or return what takes up how it is done in full, if that is worth while.

    Args:
        slots: the gradients of its results.
        waiting: of each graph node: how many gradients it waits for, and those of its results that there are.
        leaves: of each leaf by identity: itself, its gradient, whether that is the walk's own.
        stack: the nodes that wait for no more.
    """
    shares = node.node.shares
    if shares is None:
        shares = node.node.shares = Shares()
    if not (in_flight or failed or watchers):
        for step, facts in shares.known:
            if step(tr, node, slots, waiting, leaves, stack, facts):
                return True
    if shares.failures >= _FAILURES or type(node.state) is not tuple:
        return None
    return Share(shares, node, slots, waiting, leaves)


class Share:
    """A share that is done in full, of which it is to be found out what there is to know.

    Attributes:
        reads: what it may read by name: values that are there; afterwards of each the meta and whether it is a view, since who holds a
            value keeps its memory from being written over.
        goes: where the gradient of each input goes: how, the number of the result that the edge leads to, and how many these are; None
            where there is more to it.
        leaf_of: which of ``reads`` is in a slot, and how many bytes behind its begin that begins.
        results: what each of these gradients is. end: the node where the path ends.
    """

    __slots__ = ("shares", "node", "metas", "reads", "goes", "end", "leaf_of", "results")

    def __init__(self, shares: Shares, node: GradNode, slots: Sequence[Any], waiting: dict[Any, list[Any]],
                 leaves: dict[int, list[Any]]) -> None:
        self.shares, self.node, self.metas = shares, node, node.state
        self.reads: dict[str, Any] = {}
        self.goes: list[tuple[str, int, int]] | None = []
        self.end: Any = None
        self.results: list[Any] | None = None
        for name in node.HELD:
            self.reads[f"node.{name}"] = getattr(node, name)
        for k, g in enumerate(slots):
            if g is not None:
                self.reads[f"g{k}"] = g._value
        for k, edge in enumerate(node.edges):
            if edge is None:
                self.goes.append((NOWHERE, 0, 0))
            elif isinstance(edge, Handle):
                known = leaves.get(id(edge))
                self.goes.append((NEW if known is None else OVER if known[2] else MORE, 0, 0))
                if known is not None:
                    self.reads[f"a{k}"] = known[1]._value
            else:
                target, nr = edge if type(edge) is tuple else (edge, 0)
                there = waiting[target][1]
                first = there is None or there[nr] is None
                self.goes.append(((FIRST if there is None else BESIDE) if first else ADDED, nr, target.results))
                if not first:
                    self.reads[f"a{k}"] = there[nr]._value
        ends = [id(edge) for edge in node.edges if edge is not None]
        values = [id(v) for v in self.reads.values()]
        if len(set(ends)) < len(ends) or len(set(values)) < len(values) or not all(map(_is_there, self.reads.values())):
            self.goes = None  # the same twice, or something that has to be computed yet

    def recorded(self, tr: Trace, slots: Sequence[Any], given: Sequence[Any], waiting: dict[Any, list[Any]],
                 leaves: dict[int, list[Any]]) -> None:
        """The share has been recorded, and has not run: take up what it reads and gives."""
        if self.goes is None:
            self.reads.clear()
            return
        epoch, values, self.end = tr.epoch, tr.values, tr.node
        here = {v.slot: name for name, v in self.reads.items() if v.epoch is epoch}
        self.leaf_of = {}
        for slot, v in enumerate(values):
            if v.buffer is not None:
                name = here.get(slot)
                # A view with strides lies behind the stretch of memory in which it lies.
                if name is None and slot + 1 in here and self.reads[here[slot + 1]].buffer is None:
                    name = here[slot + 1]
                if name is not None:
                    self.leaf_of[slot] = name, 0
                elif (part := self._part_of(v)) is not None:
                    self.leaf_of[slot] = part
        self.reads = {name: (v.meta, v.buffer is None) for name, v in self.reads.items()}
        self.results = []
        for k, (edge, g, (how, nr, n)) in enumerate(zip(self.node.edges, given, self.goes, strict=True)):
            if how == NOWHERE or g is None:
                if how in (NEW, MORE, OVER):
                    self.results = None  # a leaf without a gradient: nothing that need be quick
                    return
                self.goes[k] = NOWHERE if how == NOWHERE else NOTHING, nr, n
                self.results.append(None)
                continue
            t = leaves[id(edge)][1] if how in (NEW, MORE, OVER) else waiting[edge[0] if type(edge) is tuple else edge][1]
            if how not in (NEW, MORE, OVER):
                t = t[nr]
            v = t._value
            same = next((j for j, one in enumerate(slots) if one is t), None)
            if same is not None and how in (NEW, FIRST, BESIDE):
                self.results.append(same)
            elif v.epoch is epoch and v.buffer is None and v.origin is None and values[v.slot] is v and t._alias is None:
                self.results.append(("slot", v.slot, v.meta))
            elif type(v) is View and how in (NEW, FIRST, BESIDE) and (j := self._whole_of(v, slots)) is not None:
                self.results.append(("view", j, v.meta, v.how, v.place()))
            else:
                self.results = None
                return

    def _part_of(self, v: Value) -> tuple[str, int] | None:
        """Which of ``reads`` a leaf lies in, as a part that the rule has cut, and how many bytes behind its begin."""
        buffer: Any = v.buffer
        found = [(name, one) for name, one in self.reads.items() if buffer.owner is one or buffer.owner is one.origin]
        if len(found) != 1 or type(buffer.owner) is not Value:
            return None
        name, one = found[0]
        begin = one.buffer.ptr if one.buffer is not None else one.origin.buffer.ptr + one.alias.place()[2] * one.meta.dtype.itemsize
        return name, buffer.ptr - begin

    @staticmethod
    def _whole_of(v: View, slots: Sequence[Any]) -> int | None:
        """Which of the gradients a view is one of, all of whose memory that is."""
        return next((j for j, g in enumerate(slots) if g is not None and v.parent is g._alias and g._alias.parent is None
                     and g._value.buffer is not None and v.origin is g._value), None)

    def keep(self, tr: Trace) -> None:
        """It has run: know it from now on, if its program is compiled."""
        shares = self.shares
        again = made = None
        if self.goes is not None and self.results is not None:
            slots = tuple(sorted({r[1] for r in self.results if type(r) is tuple and r[0] == "slot"}))
            if slots:
                again = self.end.again
                if again is None or again.slots != slots or type(again.path) is not CompiledPath:
                    return  # it is interpreted yet
            made = self._made(again)
        if made is None:
            shares.failures += 1
        else:
            shares.known.insert(0, made)
            del shares.known[_MOST:]

    def _made(self, again: Any) -> tuple[Callable[..., bool], tuple[Any, ...]] | None:
        """The step and its facts; None if there is more to it."""
        assert self.goes is not None and self.results is not None
        names: list[tuple[str, int]] = []
        places: dict[int, int] = {}
        if again is not None:
            if again.path.plain is None:
                return None
            for slot in again.path.leaves:
                if slot not in self.leaf_of:
                    return None
                names.append(self.leaf_of[slot])
            places = {slot: k for k, slot in enumerate(again.slots)}
        facts: list[Any] = [self.metas, None if again is None else again.path.plain, self.end]
        reads, goes = [], []
        outs: list[bool | None] = [None] * len(places)
        for name, (meta, is_view) in self.reads.items():
            facts.append(meta)
            reads.append((name, is_view))
        for k, (r, (how, nr, n)) in enumerate(zip(self.results, self.goes)):
            what: Any = r
            if type(r) is tuple:
                facts.append(r[2])
                if r[0] == "view":
                    facts += r[3:]
                    what = "view", r[1]
                else:
                    if r[1] not in places:
                        return None
                    at = places[r[1]]
                    leaf = again.takes[at][0]
                    if (leaf >= 0) is not (how == OVER) or leaf >= 0 and self.leaf_of.get(leaf) != (f"a{k}", 0):
                        return None
                    if outs[at] is not None and how in (MORE, OVER):
                        return None
                    what, outs[at] = ("slot", at), leaf >= 0
            goes.append((how, nr, n, what))
        if None in outs:
            return None  # something else is alive
        facts += [nbytes for _, nbytes in (again.takes if again is not None else ())]
        kind: Any = type(self.node)
        return step_for(kind, tuple(reads), tuple(goes), tuple(names), tuple(outs)), tuple(facts)


def _is_there(v: Any) -> bool:
    """Whether a value, or what it is a view of, is in memory."""
    return isinstance(v, Value) and (v.buffer is not None or v.origin is not None and v.origin.buffer is not None
                                     and v.origin.meta.strides is None)
