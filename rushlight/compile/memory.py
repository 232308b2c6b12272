"""Where every stored value lies: in a leaf, in a result, or in the arena, whose space is used again as values die."""
from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .body import Body
from .flags import flags
from .fuse_rules import memory_base
from .fusion import Fusion
from .graph import Graph, Node
from .group import Group

__all__ = ["Birth", "Lifetimes", "Memory", "Place", "Stored", "donate", "lay_out", "lifetimes", "ALIGN"]

ALIGN = 64
Place = tuple[str, int]  # ("leaf" | "result" | "arena", number or byte offset)


class Stored:
    """A value in memory: what stays of a graph's node when a program is planned, so that the graph need not."""

    __slots__ = ("dtype", "line")

    def __init__(self, node: Node) -> None:
        self.dtype, self.line = node.dtype, node.line


@dataclass
class Birth:
    """A value that is stored first by a certain piece, in memory of its own (``nbytes``: where ``Lifetimes.nbytes`` has its size) or in
    the place of ``heir_of``, which dies there."""

    node: Any
    nbytes: int
    heir_of: Any = None


@dataclass
class Lifetimes:
    """How long stored values live, in steps: the pieces of a program in order. Values are nodes, at the end those that are ``stored``.

    Attributes:
        fixed: values in leaves and results.
        births, deaths: of values in the arena, for each step; what dies is needed up to that step, included.
        late: results to be copied from the arena at the end: (value, bytes, result number).
        nbytes: of all births, in order.
    """

    fixed: dict[Any, Place]
    births: list[list[Birth]]
    deaths: list[list[Any]]
    late: list[tuple[Any, int, int]]
    nbytes: list[int] = field(default_factory=list)

    def stored(self, of: Callable[[Node], Stored]) -> Lifetimes:
        """The same of what is stored in the place of nodes."""
        births = [[Birth(of(b.node), b.nbytes, b.heir_of and of(b.heir_of)) for b in some] for some in self.births]
        return Lifetimes({of(node): place for node, place in self.fixed.items()}, births, [[of(n) for n in some] for some in self.deaths],
                         [(of(node), nbytes, result) for node, nbytes, result in self.late], self.nbytes)


@dataclass
class Memory:
    """``place`` of each stored value, ``scratch`` of each step (a byte offset in the arena), ``size`` of the arena in bytes."""

    place: dict[Stored, Place] = field(default_factory=dict)
    scratch: dict[int, int] = field(default_factory=dict)
    size: int = 0


def donate(graph: Graph, fusion: Fusion, bodies: dict[Group, Body], donations: dict[int, int]) -> dict[int, int]:
    """The donations under which a result can be written straight over its leaf; adds the order that they need.

    The others are computed elsewhere and copied at the end.
    """
    direct = {}
    for result, leaf in donations.items():
        node, source = fusion.origin(graph.results[result]), graph.leaves[leaf]
        home = fusion.home[node]
        readers = [g for g in dict.fromkeys(fusion.readers.get(source, ())) if g is not home]
        reads_here = home in fusion.readers.get(source, ())
        if home.kind == "join" and (readers or reads_here) or any(fusion.groups.needs(g, home) for g in readers):
            continue
        if reads_here and (_is_operand(home, source, fusion) or not _same_places(bodies.get(home), node, source, fusion)):
            continue
        for reader in readers:
            fusion.groups.add_edge(home, reader)
        direct[result] = leaf
    return direct


def _is_operand(group: Group, source: Node, fusion: Fusion) -> bool:
    """Whether a contraction multiplies by ``source``, which it reads again and again."""
    return group.kind == "contract" and group.anchor is not None and any(
        fusion.origin(memory_base(x)) is source for x in group.anchor.inputs)


def _same_places(body: Body | None, node: Node, source: Node, fusion: Fusion) -> bool:
    """Whether the kernel reads ``source`` only where, and no later than, it writes ``node``."""
    if body is None:
        return False
    put = next((p for p in body.puts if p.node is node), None)
    if put is None:
        return False
    kept = set(body.kept)
    for value in body.values:
        if value.kind == "load" and fusion.origin(value.node) is source:  # type: ignore[arg-type]
            inside = all(a in kept for a, _ in value.at.terms)
            if value.at != put.at or value.conds or body.reduced and not inside or value.dtype.itemsize != node.dtype.itemsize:
                return False
    return True


def lifetimes(graph: Graph, fusion: Fusion, order: list[Group], steps: dict[Group, int], bodies: dict[Group, Body],
              donations: dict[int, int], direct: dict[int, int]) -> Lifetimes:
    """When each stored value is first and last needed; ``order``: all groups as they run, ``steps``: those that compute."""
    place: dict[Node, Place] = {leaf: ("leaf", k) for k, leaf in enumerate(graph.leaves)}
    late = []
    for k, node in enumerate(graph.results):
        origin = fusion.origin(node)
        if k in donations and k not in direct:
            late.append((origin, _bytes(origin), k))
        else:
            place[origin] = ("result", k)
    when = {g: i for i, g in enumerate(order)}
    first: dict[Node, int] = {}
    last: dict[Node, int] = {}
    for node, group in fusion.home.items():
        origin = fusion.origin(node)
        if origin in place:
            continue
        first[origin] = min(first.get(origin, len(order)), when[group])
        last[origin] = max(last.get(origin, -1), when[group])
    for group in order:
        if group.kind == "part" and group.anchor is not None and fusion.origin(group.anchor) in first:
            origin = fusion.origin(group.anchor)
            first[origin] = min(first[origin], when[group])
            last[origin] = max(last[origin], when[group])
    for node, readers in fusion.readers.items():
        if node in first:
            last[node] = max(last[node], *(when[g] for g in readers), -1) if readers else last[node]
    for node, _, _ in late:
        last[node] = len(order)
    births: dict[int, list[Node]] = {}
    deaths: dict[int, list[Node]] = {}
    for node, step in first.items():
        births.setdefault(step, []).append(node)
        deaths.setdefault(last[node], []).append(node)
    out = Lifetimes(place, [], [], late)
    # Where strides leave something over, a value may be as large as the one that it is made to fit, or not; it does not matter.
    apart = {fusion.origin(node.inputs[0]) for node in graph.nodes if node.kind == "fit"}
    alive: set[Node] = set()
    born: list[Birth] = []
    dying: list[Node] = []
    for step, group in enumerate(order):
        ending = deaths.get(step, [])
        for node in births.get(step, ()):
            heir = None
            if flags.inplace and group.kind == "loops":
                heir = _inheritance(node, group, ending, bodies, fusion, alive)
            elif flags.inplace and group.kind == "native":
                heir = _overwritten(node, group, ending, fusion, alive)
            if heir is not None:
                ending = [d for d in ending if d is not heir]
            born.append(Birth(node, len(out.nbytes), heir))
            out.nbytes.append(_bytes(node))
            if node not in apart:
                alive.add(node)
        dying += ending
        if group in steps:  # a join computes nothing: what begins and ends with it does so with the next piece
            out.births.append(born)
            out.deaths.append(dying)
            born, dying = [], []
    if out.births:
        out.births[-1] += born
        out.deaths[-1] += dying
    return out


def lay_out(lives: Lifetimes, scratch: dict[int, int]) -> Memory:
    """Places for all values; ``scratch``: the extra bytes that steps need."""
    plan, space = Memory(dict(lives.fixed)), _Space()
    for step, (births, deaths) in enumerate(zip(lives.births, lives.deaths, strict=True)):
        for birth in births:
            plan.place[birth.node] = (("arena", space.take(lives.nbytes[birth.nbytes])) if birth.heir_of is None
                                      else plan.place[birth.heir_of])
        extra = None
        if scratch.get(step):
            extra = plan.scratch[step] = space.take(scratch[step])
        for node in deaths:
            space.give(plan.place[node][1])
        if extra is not None:
            space.give(extra)
    plan.size = space.size
    return plan


def _bytes(node: Node) -> int:
    return math.prod(node.shape) * node.dtype.itemsize


def _inheritance(node: Node, group: Group, dying: list[Node], bodies: dict[Group, Body], fusion: Fusion,
                 alive: set[Node]) -> Node | None:
    """A value that dies here and whose memory the kernel may overwrite with ``node`` as it goes."""
    body = bodies.get(group)
    if body is None or body.reduced:
        return None
    for other in dying:
        if (other in alive and fusion.home.get(other) is not group
                and any(v.kind == "load" and fusion.origin(v.node) is other for v in body.values)  # type: ignore[arg-type]
                and _bytes(other) == _bytes(node) and _same_places(body, node, other, fusion)):
            return other
    return None


def _overwritten(node: Node, group: Group, dying: list[Node], fusion: Fusion, alive: set[Node]) -> Node | None:
    """The operand of a native call that dies here, if the call may write ``node`` over it."""
    call = group.anchor
    assert call is not None
    if node.kind != "item" or node.inputs[0] is not call or node.attrs[0] not in call.attrs[0].overwrites:
        return None
    operands = [fusion.origin(memory_base(x)) for x in call.inputs]
    source = operands[call.attrs[0].overwrites[node.attrs[0]]]
    fits = source in dying and source in alive and _bytes(source) == _bytes(node)
    return source if fits and operands.count(source) == 1 else None


class _Space:
    """Offsets in the arena: the lowest gap that fits."""

    def __init__(self) -> None:
        self.size = 0
        self._gaps: list[int] = []        # where they start, sorted; no two touch
        self._sizes: list[int] = []       # how large they are
        self._top = 0                     # behind everything that is taken
        self._taken: dict[int, int] = {}  # offset -> bytes

    def take(self, nbytes: int) -> int:
        nbytes = max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
        sizes = self._sizes
        if sizes and max(sizes) >= nbytes:
            k = 0
            while sizes[k] < nbytes:
                k += 1
            at = self._gaps[k]
            if sizes[k] == nbytes:
                del self._gaps[k], sizes[k]
            else:
                self._gaps[k] = at + nbytes
                sizes[k] -= nbytes
        else:
            at = self._top
            self._top = at + nbytes
            self.size = max(self.size, self._top)
        self._taken[at] = nbytes
        return at

    def give(self, at: int) -> None:
        size = self._taken.pop(at)
        gaps, sizes = self._gaps, self._sizes
        k = bisect.bisect(gaps, at)
        if k < len(gaps) and gaps[k] == at + size:
            size += sizes.pop(k)
            del gaps[k]
        if k and gaps[k - 1] + sizes[k - 1] == at:
            k -= 1
            at = gaps.pop(k)
            size += sizes.pop(k)
        if at + size == self._top:
            self._top = at
        else:
            gaps.insert(k, at)
            sizes.insert(k, size)
