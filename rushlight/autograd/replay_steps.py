"""A backward that was replayed before, as straight-line code: written once for each form of a graph, then shared by all that have it.

``step(tr, root, retain_graph, facts)`` reads the graph below ``root`` as ``replay.describe`` does, compares it on the way with the one
that it was written for, and if they are the same does what ``replay.replay`` does. Otherwise it returns False and has done nothing.
What belongs to one point of a trace (its nodes, slots and metas) is in ``facts``.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

from numpy import ndarray

from ..record.settings import settings
from ..record.trace import Trace
from ..record.value import Value, is_exported
from . import handle
from .entering import in_use_text, is_whole, part_of
from .handle import LEAF, Handle
from .node import GradNode
from .writing import replace

__all__ = ["LIMIT", "LONG", "never", "written_for", "overwritten"]

# Graph nodes: some ten lines each, whose compilation takes a fraction of a millisecond.
LONG = 1000     # from here on it waits until the graph has come often
LIMIT = 20_000  # for more none is written


def never(tr: Trace, root: Handle, retain_graph: Any, facts: tuple) -> bool:
    """The step of a graph for which none was written."""
    return False


def overwritten(n: GradNode) -> bool:
    """Whether something that a node saved was written over."""
    for v in n.kept:
        if v is not None and (v.overwritten is not None or v.origin is not None and v.origin.overwritten is not None):
            return True
    return any(v is not None and v.overwritten is not None for v in n.kept_outs)


def written_for(root: Handle, nodes: Sequence[GradNode], tr: Trace, recipe: Any) -> tuple[Callable[..., bool], tuple]:
    """The step of a graph, whose nodes are given in the order in which ``describe`` finds them, and its facts."""
    writer = _Writer(root, nodes, tr, recipe)
    return _compiled(writer.source()), tuple(writer.facts)


@functools.lru_cache(1024)
def _compiled(source: str) -> Callable[..., bool]:
    scope: dict[str, Any] = {"__name__": __name__, "blanks": handle.blanks, "LEAF": LEAF, "Value": Value,
                             "settings": settings, "overwritten": overwritten, "getrefcount": getrefcount, "ndarray": ndarray,
                             "is_exported": is_exported, "is_whole": is_whole, "part_of": part_of, "replace": replace}
    exec(compile(source, "<backward>", "exec"), scope)
    return scope["step"]


class _Writer:
    """Lines of a step, and the facts that they refer to by names."""

    def __init__(self, root: Handle, nodes: Sequence[GradNode], tr: Trace, recipe: Any) -> None:
        self.root, self.nodes, self.epoch, self.recipe = root, nodes, tr.epoch, recipe
        self.names: list[str] = []
        self.facts: list[Any] = []
        self.numbers: dict[GradNode, str] = {nodes[0]: "n0"}  # names of the nodes found so far
        self.leaves: dict[int, tuple[str, Handle]] = {}  # id of a leaf -> its name, itself
        self.saved: dict[int, tuple[str, Value]] = {}  # id of a value of an earlier epoch -> its name, itself

    def fact(self, name: str, value: Any) -> str:
        self.names.append(name)
        self.facts.append(value)
        return name

    def source(self) -> str:
        doubts = ["tr.full", "tr.low is not None", "settings.eager", "root._alias is not None",
                  f"root._value.meta is not {self.fact('META', self.root._value.meta)}"]
        lines = [_unless(doubts), "epoch = tr.epoch", "n0 = root._edge"]
        for k, n in enumerate(self.nodes):
            lines += self._node(f"n{k}", n)
        lines += self._different()
        odd = "  except (AttributeError, ValueError): return False  # an edge leads to something of another kind"
        made = ["values = tr.values", f"values += {self.fact('DEAD', self.recipe.dead)}", *self._entering(), *self._gradients(),
                f"tr.node = {self.fact('END', self.recipe.end)}", *self._release(), "return True"]
        return "\n".join(["def step(tr, root, retain_graph, facts):", f"  {', '.join(self.names)} = facts", "  try:",
                          *["    " + line for line in lines], odd, *["  " + line for line in made]]) + "\n"

    def _node(self, name: str, n: GradNode) -> list[str]:
        """Lines that look at a node and name what its edges lead to."""
        now = n.epoch is self.epoch
        doubts = [f"{name}.node is not {self.fact(name.upper(), n.node)}", f"type({name}.state) is not tuple",
                  f"{name}.epoch {'is not' if now else 'is'} epoch"]
        lines = [] if now else [_unless(doubts), *self._kept(name, n)]
        doubts = doubts if now else []
        for at, edge in zip(n.EDGES, n.edges, strict=True):
            place = f"{name}.{at}"
            if edge is None:
                doubts.append(f"{place} is not None")
                continue
            if type(edge) is tuple:
                edge, nr = edge
                place = f"e{len(lines)}"
                lines += [f"{place} = {name}.{at}", _unless([f"type({place}) is not tuple"]), f"{place}, nr = {place}",
                          _unless([f"nr != {nr}"])]
            if isinstance(edge, GradNode):
                known = self.numbers.get(edge)
                if known is None:
                    known = self.numbers[edge] = f"n{len(self.numbers)}"
                    lines.append(f"{known} = {place}")
                else:
                    doubts.append(f"{place} is not {known}")
            elif id(edge) in self.leaves:
                doubts.append(f"{place} is not {self.leaves[id(edge)][0]}")
            else:
                known = f"l{len(self.leaves)}"
                self.leaves[id(edge)] = known, edge
                lines.append(f"{known} = {place}")
                doubts += [f"{known}._edge is not LEAF", f"{known}._more is not None"]
                if edge._grad is None:
                    doubts.append(f"{known}._grad is not None")
                else:
                    lines += self._sum(known, edge._grad)
        return [*lines, _unless(doubts)] if doubts else lines

    def _sum(self, leaf: str, g: Any) -> list[str]:
        """Lines that look at the gradient that a leaf has, which they call ``g_`` and its name, and its value ``w_`` and its name."""
        v, name, old = g._value, "g_" + leaf, "w_" + leaf
        doubts = [f"{old}.overwritten is not None"]
        if v.epoch is self.epoch:
            doubts += [f"{old}.epoch is not epoch", f"{old}.slot != {self.fact(f'S{len(self.names)}', v.slot)}"]
        else:
            self.saved[id(v)] = old, v
            meta = self.fact(f"M_{leaf}", v.meta)
            doubts += [f"{old}.epoch is epoch", f"{old}.buffer is None", f"{old}.meta is not {meta}", in_use_text(old)]
        return [f"{name} = {leaf}._grad", _unless([f"{name} is None", f"{name}._alias is not None", f"{name}._edge is not None",
                                                   f"{name}._more is not None"]), f"{old} = {name}._value", _unless(doubts)]

    def _kept(self, name: str, n: GradNode) -> list[str]:
        """Lines that look at what a node of an earlier epoch keeps."""
        places = [f"{name}.{at}" for at in (*n.KEPT, *n.OUTS)]
        lines = [_unless([f"overwritten({name})"])]
        for place, v in zip(places, (*n.kept, *n.kept_outs), strict=True):
            if v is None:
                continue
            if v.epoch is self.epoch:
                slot = self.fact(f"S{len(self.names)}", v.slot)
                lines += [f"v = {place}", _unless(["v.epoch is not epoch", f"v.slot != {slot}"])]
            elif id(v) in self.saved:
                lines.append(_unless([f"{place} is not {self.saved[id(v)][0]}"]))
            else:
                others = "".join([other + ", " for other, _ in self.saved.values()])
                known = f"s{len(self.saved)}"
                self.saved[id(v)] = known, v
                doubt = in_use_text(known) if v.buffer is not None else f"not is_whole({known}, epoch, ({others}))"
                lines += [f"{known} = {place}",
                          _unless([f"{known}.epoch is epoch", f"{known}.buffer is {'not ' * (v.buffer is None)}None", doubt])]
        return lines

    def _different(self) -> list[str]:
        """Lines that make sure that what is different in the graph that the step is written for is so in another; and that nothing was
        written over. (Nodes of different trie nodes are different.)"""
        groups: dict[Any, list[str]] = {}
        for n, name in self.numbers.items():
            groups.setdefault(n.node, []).append(name)
        groups[None] = [name for name, _ in self.saved.values()]
        sets = [*groups.values(), [f"id({name})" for name, _ in self.leaves.values()]]
        doubts = [f"len({{{', '.join(names)}}}) != {len(names)}" for names in sets if len(names) > 1]
        lines = [_unless(doubts)] if doubts else []
        now = [name for n, name in self.numbers.items() if n.epoch is self.epoch]
        if now:
            lines.append(_unless([f"epoch.writes and any(map(overwritten, ({', '.join(now)},)))"]))
        return lines

    def _entering(self) -> list[str]:
        """Lines that let saved values enter."""
        lines = []
        saved = list(self.saved.values())
        for k, slot in self.recipe.entering:
            name, v = saved[k]
            at = self.fact(f"E{k}", slot)
            lines += [f"{name}.epoch = epoch", f"{name}.slot = {at}",
                      f"values[{at}] = {name if v.buffer is not None else f'part_of(tr, {name})'}"]
        return lines

    def _gradients(self) -> list[str]:
        """Lines that make the leaves' gradients."""
        lines = []
        made: dict[int, str] = {}
        for k, ((name, leaf), slot) in enumerate(zip(self.leaves.values(), self.recipe.slots, strict=True)):
            v = made.get(slot)
            if v is None:
                v = made[slot] = f"v{k}"
                at, meta = self.fact(f"G{k}", slot), self.fact(f"M{k}", leaf._value.meta.own)
                lines += [f"{v} = values[{at}] = Value()", f"{v}.meta = {meta}", f"{v}.epoch = epoch", f"{v}.slot = {at}",
                          f"{v}.buffer = {v}.origin = {v}.home = {v}.overwritten = None"]
            if leaf._grad is not None:
                lines += [f"replace(w_{name}, {v}, 'add_', None)", f"g_{name}._value = {v}", f"g_{name}._writes += 1"]
                continue
            lines += [f"{name}._grad = t = next(blanks)", f"t._value = {v}", "t._edge = t._grad = t._alias = t._more = None",
                      "t._writes = 0"]
        return lines

    def _release(self) -> list[str]:
        """Lines that drop what the nodes keep."""
        dropped = []
        for n, name in self.numbers.items():
            if _keeps(n):
                dropped.append("  " + "".join([f"{name}.{at} = " for at in (*n.HELD, "state")]) + "None")
        return ["if not retain_graph:", *dropped] if dropped else []


def _keeps(n: GradNode) -> bool:
    """Whether a backward uses the node up, as ``GradNode.release`` has it."""
    return bool(n.HELD) or n.node.op.once


def _unless(doubts: Sequence[str]) -> str:
    """A line that ends the step where the graph may be another one."""
    return f"if {' or '.join(doubts)}: return False"
