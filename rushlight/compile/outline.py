"""Outline: everything about a program that is decided by its structure, before kernels and addresses are worked out.

An outline names no kernel and no address. Its numbers (extents, strides, offsets) may be plain, for one program, or
:class:`~rushlight.compile.sizes.Size`, for a family of programs that differ in them alone (``family.py``).
"""
from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from .body import Body
from .contraction import Contraction
from .counters import counters
from .cpu.native import Operand
from .dtypes import DType
from .flags import flags
from .fuse import fuse
from .fusion import Fusion
from .graph import Graph, HostCall, NativeCall, Node
from .group import Group
from .lower_contract import TooManyOperands, lower_contract
from .lower_group import group_body
from .lower_native import lower_native
from .memory import Lifetimes, Stored, donate, lifetimes
from .numbers import Numbers, apart
from .passes.accumulate import accumulate
from .passes.assemble import assemble
from .passes.attend import attention_calls
from .passes.carry import carry
from .passes.layout import choose_orders
from .passes.legalise import legalise
from .passes.moments import moments
from .passes.planes import planes
from .passes.rests import rests
from .passes.simplify import simplify
from .resize import LATE

__all__ = ["HostWork", "Label", "NativeWork", "Nests", "Outline", "Piece", "outline"]

_ROW = 4  # reductions alike in a row that a label counts instead of naming each


@dataclass(frozen=True)
class Nests:
    """Loops, with numbers in place of the values that they read and write."""

    body: Body
    serial: frozenset[int]


@dataclass(frozen=True)
class NativeWork:
    call: NativeCall
    operands: tuple[Operand, ...]
    wanted: tuple[bool, ...]


@dataclass(frozen=True)
class HostWork:
    """``inputs`` and ``outputs``: (shape, dtype) of each; ``picks``: which of the call's results each output is."""

    call: HostCall
    inputs: tuple[tuple[tuple[int, ...], Any], ...]
    outputs: tuple[tuple[tuple[int, ...], Any], ...]
    picks: tuple[int, ...]


Work = Nests | Contraction | NativeWork | HostWork


@dataclass(frozen=True)
class Label:
    """What the profiler shows: ``before 64x128 -> results``."""

    before: str
    shape: tuple[int, ...]
    results: int | None = None

    def __str__(self) -> str:
        after = "" if self.results is None else f" -> {self.results}"
        return f"{self.before} {'x'.join(map(str, self.shape))}{after}"


@dataclass
class Piece:
    """One group: ``work`` is a number in ``Outline.works``, ``memory`` what its operands lie in, (value, byte offset): nodes, at the
    end what is stored in their place. The rest is for the profiler, ``nbytes`` where the work itself does not tell."""

    work: int
    memory: list[tuple[Any, int]]
    label: Label | str = field(metadata=LATE)
    lines: tuple[Any, ...]
    nbytes: int = field(default=0, metadata=LATE)


@dataclass
class Outline:
    """Attributes:
        works: what kernels are made from; pieces that do the same share one.
        pieces: in order of execution.
        memory: how long each stored value lives.
        leaves, results: (shape, dtype) of what enters and leaves.
        direct: result -> leaf in whose place it is written straight away.
        overwritten: leaves whose memory a result takes over, straight away or at the end.
        numbers: (value, dtype) of the last leaves, which the program brings along (``numbers.py``).
        told: label and ``nbytes`` of each piece, where the pieces do not know them.
    """

    leaves: list[tuple[tuple[int, ...], Any]]
    results: list[tuple[tuple[int, ...], Any]]
    memory: Lifetimes
    direct: dict[int, int]
    overwritten: frozenset[int]
    works: list[Work] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    numbers: list[tuple[Any, Any]] = field(default_factory=list)
    told: Callable[[], list[tuple[Label | str, int]]] | None = None


def outline(source: Graph, donations: dict[int, int]) -> Outline:
    """Rewrite, lay out and fuse a graph. ``donations``: result number -> number of the leaf whose memory it takes over."""
    counters.outlines += 1
    graph, entries = _rewritten(source)
    numbers = Numbers(graph, entries)
    alone: set[Node] = set()
    overwritten = frozenset(donations.values())
    while True:
        fusion = fuse(graph, choose_orders(graph) if flags.layout else {}, alone)
        made = _Pieces(fusion, {leaf for k, leaf in enumerate(graph.leaves) if k not in overwritten}, numbers)
        known = len(alone)
        for group in fusion.groups.all:
            try:
                made.add(group)
            except TooManyOperands as found:
                alone.add(found.node)
        if len(alone) == known:
            break
    pieces = made.pieces
    direct = donate(graph, fusion, made.bodies, donations)
    number = {n: k for k, n in enumerate(graph.nodes)}
    priority = {g: min([number[n] for n in g.roots] + ([number[g.anchor]] if g.anchor is not None else [0]), default=0)
                for g in fusion.groups.all}
    in_order = fusion.groups.in_order(priority)
    steps = {group: k for k, group in enumerate(g for g in in_order if g in pieces)}
    stored = functools.cache(Stored)
    memory = lifetimes(graph, fusion, in_order, steps, made.bodies, donations, direct).stored(stored)
    in_place = [replace(pieces[g], memory=[(stored(x), at) for x, at in pieces[g].memory]) for g in in_order if g in pieces]
    return Outline([(n.shape, n.dtype) for n in graph.leaves], [(n.shape, n.dtype) for n in source.results], memory, direct,
                   overwritten, made.works, in_place, numbers.entries)


def _rewritten(graph: Graph) -> tuple[Graph, list[tuple[Any, DType]]]:
    """The graph as it is laid out and fused, and the numbers that are its last leaves (``numbers.py``)."""
    _show("graph", graph)
    graph = planes(rests(graph))
    if flags.simplify:
        graph = simplify(graph)
        _show("simplified", graph)
    if flags.attend:
        found = attention_calls(graph)
        if found is not graph and flags.simplify:  # a call's results lie as what reads them wants: their views are nothing
            found = simplify(found)
        graph = found
        _show("attention found", graph)
    if flags.fuse_sums and flags.fuse_contract:
        graph = moments(graph)
        _show("variances found", graph)
    graph, numbers = apart(graph)  # attention has a scale and what a mask puts by now, as constants like those of one size
    if flags.assemble:
        graph = accumulate(assemble(graph))
        _show("assembled", graph)
    graph = legalise(graph)
    _show("legalised", graph)
    if flags.carry:
        graph = carry(graph)
        _show("carried", graph)
    return graph, numbers


def _show(what: str, graph: Graph) -> None:
    if flags.debug >= 4:
        print(f"-- {what}\n{graph}")


class _Pieces:
    """Makes pieces of groups; equal works get one number."""

    def __init__(self, fusion: Fusion, constant: set[Node], numbers: Numbers) -> None:
        self.fusion = fusion
        self.leaves = numbers
        self.constant = constant  # leaves that stay as they are
        self.works: list[Work] = []
        self.pieces: dict[Group, Piece] = {}
        self.bodies: dict[Group, Body] = {}
        self._numbers: dict[Any, int] = {}
        self.items: dict[Group, list[Node]] = {}
        for item, home in fusion.home.items():
            self.items.setdefault(home, []).append(item)

    def number(self, key: Any, make: Callable[[], Work]) -> int:
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.works)
            self.works.append(make())
        return known

    def add(self, group: Group) -> None:
        """Makes the piece of ``group``, if it computes anything, and its body, if it has one."""
        node, lines, pieces, bodies = group.anchor, _lines(group), self.pieces, self.bodies
        if group.kind == "contract":
            made, bodies[group] = lower_contract(group, self.fusion, self.leaves)
            b = self.fusion.origin(made.memory[1][0])
            contraction = made.contraction
            if b in self.constant and len(self.fusion.readers.get(b, ())) == 1:
                contraction = replace(contraction, constant=True)
            work = self.number(contraction, lambda: contraction)
            pieces[group] = Piece(work, self._origins(made.memory), _label(group), lines, made.nbytes)
        elif group.kind == "native":
            assert node is not None
            call, operands, memory = lower_native(group, self.fusion)
            items = self.items.get(group, [])
            present = {item.attrs[0] for item in items}
            native = NativeWork(call, operands, tuple([k in present for k in range(len(call.results))]))
            nbytes = sum(x.size * x.dtype.itemsize for x in (*node.inputs, *items))
            memory += [(item, 0) for item in sorted(items, key=lambda item: item.attrs[0])]
            pieces[group] = Piece(self.number(native, lambda: native), self._origins(memory), _label(group), lines, nbytes)
        elif group.kind == "host":
            assert node is not None
            items = self.items.get(group, [])
            inputs, outputs = (tuple([(x.shape, x.dtype) for x in some]) for some in (node.inputs, items))
            host = HostWork(node.attrs[0], inputs, outputs, tuple([item.attrs[0] for item in items]))
            memory = [(x, 0) for x in (*node.inputs, *items)]
            pieces[group] = Piece(self.number(host, lambda: host), self._origins(memory), _label(group), (node.line,))
        elif group.kind != "join" and (group.roots or node is not None):
            body, serial = group_body(group, self.fusion)
            bodies[group] = body
            numbered, nodes = body.numbered()
            work = self.number((numbered.key(), serial), lambda: Nests(numbered, serial))
            pieces[group] = Piece(work, self._origins([(x, 0) for x in nodes]), _label(group), lines)

    def _origins(self, memory: list[tuple[Node, int]]) -> list[tuple[Node, int]]:
        return [(self.fusion.origin(x), at) for x, at in memory]


def _lines(group: Group) -> tuple[Any, ...]:
    nodes = [*([group.anchor] if group.anchor is not None else []), *group.roots, *group.reduces]
    return tuple(dict.fromkeys(n.line for n in nodes if n.line is not None))


def _counted(kinds: list[str]) -> list[str]:
    """The kinds in order; of many alike in a row (the gradients of all times of a recurrence), their number."""
    rows = [list(row) for _, row in itertools.groupby(kinds)]
    return [kind for row in rows for kind in (row if len(row) < _ROW else [f"{len(row)} {row[0]}"])]


def _label(group: Group) -> Label:
    kinds = [r.attrs[0] for r in group.reduces]
    if group.kind == "loops":
        before = "+".join(["reduce", *_counted(kinds)]) if kinds else "pointwise"
        return Label(before, tuple([group.extents[a] for a in group.axes]), len(group.roots))
    assert group.anchor is not None
    if group.kind == "native":
        return Label(group.anchor.attrs[0].name, group.anchor.shape)
    if group.kind == "host":
        return Label(f"host {group.anchor.attrs[0].name}", group.anchor.shape)
    return Label(group.kind, group.anchor.shape, len(group.roots))
