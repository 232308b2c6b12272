"""Paths that differ in sizes alone: the programs of one family, planned once for all batch sizes and lengths.

A path is described by its *structure* (operations, slots, types) and a list of whole numbers (shapes and the numbers among the
attributes). Where a structure comes back with other numbers, those that changed become sizes, and planning with them
(``compile/family.py``) gives programs for all numbers that change in the same way.
"""
from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..compile.expr import Expr, const, substitute, walk
from ..compile.flags import flags
from ..compile.sizes import NotGeneric, Tape, is_size
from .columns import Columns
from .met import Met
from .meta import CPU, Meta
from .op import Op
from .paths import CompiledPath, compile_family, needed, no_collection
from .trace import TraceNode
from .warn import warn

__all__ = ["Description", "are_made", "clear", "describe", "member", "plan", "saw"]

_MOST = 256       # structures that are remembered
_MOST_SEEN = 8    # lists of numbers of each
_MOST_MADE = 128  # families of each: a pattern of odd and even heights and widths has its own, half a megabyte each
_MOST_FAILED = 3  # attempts to plan for sizes that were of no use


class Description(NamedTuple):
    """A path up to its sizes: ``nodes`` are those that are needed; ``digest`` is the structure's hash."""

    structure: tuple
    digest: int
    numbers: tuple[Any, ...]
    nodes: list[TraceNode]


class _Known:
    """What is known of a structure: numbers seen, and the families made. It is known by its hash alone until there is a family, since
    most do not come again with other numbers and that of a long path is large."""

    def __init__(self) -> None:
        self.structure: tuple | None = None
        self.seen: list[tuple[Any, ...]] = []
        self.made: list[_Family] = []
        self.failed = 0


_known: dict[int, _Known] = {}
_lock = threading.Lock()


def clear() -> None:
    """Forget all families: what they were planned from has changed."""
    with _lock:
        _known.clear()


def describe(path: Sequence[TraceNode], key: tuple) -> Description:
    """The structure of the part of a path that a program with this key computes, and its numbers."""
    live, _, moved = key
    nodes = needed(path, [*live, *moved])
    numbers: list[Any] = []
    parts: list[Any] = [key, flags.state]
    for node in nodes:
        name = node.op, node.attrs, node.metas
        known = _nodes.get(name)
        if known is None:
            known = _of_node(*name)
            if _met.again(name):
                if len(_nodes) >= _MOST_NODES:
                    _nodes.clear()
                _nodes[name] = known
        parts.append((node.slot, node.inputs, known[0]))
        numbers += known[1]
    structure = tuple(parts)
    return Description(structure, hash(structure), tuple(numbers), nodes)


_nodes: dict[tuple[Any, ...], tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
_met = Met()
_MOST_NODES = 8192


def _of_node(op: Op | None, attrs: tuple, metas: Sequence[Meta]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The structure of a node, and its numbers."""
    numbers: list[Any] = []
    # The dimension that is cut is no size: a family whose members are cut along different ones would hold for none.
    cut = attrs[0] if op is not None and op.is_cut else None
    parts = [op, cut, _plain(attrs, numbers)]
    for meta in metas:
        numbers += meta.shape
        parts.append((meta.dtype, len(meta.shape), meta.order))
    return tuple(parts), tuple(numbers)


def member(path: Description) -> CompiledPath | None:
    """The program of a path that belongs to a family, else None."""
    known = _known.get(path.digest)
    for made in known.made if known is not None and known.structure == path.structure else ():
        try:
            program = made.program(path)
        except NotGeneric as error:
            _tell(error)
            with _lock:
                known.made = [one for one in known.made if one is not made]  # type: ignore[union-attr]
            continue
        if program is not None:
            if made is not known.made[0]:  # type: ignore[union-attr]
                with _lock:  # the latest first
                    known.made = [made, *(one for one in known.made if one is not made)]  # type: ignore[union-attr]
            return program
    return None


def are_made(path: Description) -> bool:
    """Whether there are families of paths of this structure."""
    known = _known.get(path.digest)
    return known is not None and bool(known.made)


def saw(path: Description) -> int:
    """A path is to be run: remember its numbers. How many others were seen before."""
    with _lock:
        known = _known.get(path.digest)
        if known is None:
            while len(_known) >= _MOST:
                _known.pop(next(iter(_known)))
            known = _known[path.digest] = _Known()
        others = [numbers for numbers in known.seen if numbers != path.numbers]
        known.seen = [*others, path.numbers][-_MOST_SEEN:]
    return len(others)


def plan(path: Description, key: tuple) -> CompiledPath | None:
    """The program of a path that has been seen with other numbers, too, by planning for all such numbers; None if that is of no
    use."""
    known = _known.get(path.digest)
    if known is None or len(known.seen) < 2 or not flags.families or known.failed >= _MOST_FAILED:
        return None
    if known.structure is None:
        known.structure = path.structure
    elif known.structure != path.structure:
        return None  # two structures of one hash
    program = None
    try:
        with no_collection():
            made = _Family(path, key, known.seen, known.made)
        program = made.program(path)
    except NotGeneric as error:
        _tell(error)
    except Exception as error:  # something that cannot take a size: the path can still be planned for its numbers
        warn(f"planning for other sizes failed, so that each is planned by itself: {type(error).__name__}: {error}", RuntimeWarning)
    if program is None or made.family.rests_on:
        known.failed += 1
    else:
        known.made = [made, *known.made[:_MOST_MADE - 1]]
    return program


def _tell(error: Exception) -> None:
    if flags.debug >= 1:
        print(f"no family: {type(error).__name__}: {error}")


def _plain(attrs: Any, numbers: list[Any], tuples: list[range] | None = None) -> Any:
    """Attributes without their numbers, which are appended to ``numbers``; equal only if all else is. ``tuples``: takes up where the
    numbers of each tuple are that has nothing else."""
    kind = type(attrs)
    if kind is int:
        numbers.append(attrs)
        return int
    if not attrs and kind is tuple:
        return _NOTHING
    if kind is float:
        if attrs != attrs or not attrs or attrs in (math.inf, -math.inf):
            return float, repr(attrs)
        numbers.append(attrs)
        return float
    if isinstance(attrs, tuple):
        if tuples is not None and len(attrs) > 1 and all(type(x) is int for x in attrs):
            tuples.append(range(len(numbers), len(numbers) + len(attrs)))
        return kind, tuple([_plain(x, numbers, tuples) for x in attrs])
    if kind is Expr:
        structure, found = _formula(attrs)
        numbers += found
        return structure
    if dataclasses.is_dataclass(attrs):
        return kind, tuple([_plain(getattr(attrs, f.name), numbers, tuples) for f in dataclasses.fields(attrs)])
    return kind, attrs


@functools.lru_cache(maxsize=4096)
def _formula(expr: Expr) -> tuple[tuple, list[Any]]:
    """A formula without the numbers among its constants, and these."""
    place: dict[Expr, int] = {}
    numbers: list[Any] = []
    out = []
    for node in walk(expr):
        place[node] = len(place)
        attr = _plain(node.attr, numbers) if node.fn == "const" else node.attr
        out.append((node.fn, node.dtype, attr, tuple([place[x] for x in node.args])))
    return tuple(out), numbers


class _Opaque(Exception):
    """The rule of an operation for the shapes of its results cannot take sizes."""

    def __init__(self, op: Op) -> None:
        self.op = op


_NOTHING = tuple, ()  # of an empty tuple

_opaque: set[Op] = set()  # operations that were found to be so


class _Described:
    """A trace node with sizes in its shapes and attributes."""

    __slots__ = ("op", "slot", "inputs", "attrs", "metas", "meta", "line", "orders")

    def __init__(self, node: TraceNode, attrs: tuple, metas: Sequence[Meta]) -> None:
        self.op, self.slot, self.inputs, self.line = node.op, node.slot, node.inputs, node.line
        self.attrs, self.metas, self.meta = attrs, tuple(metas), metas[0]
        self.orders = node.orders


class _Given:
    """Where the numbers of a path lie.

    Attributes:
        given: the places of those that do not follow by the operations' rules.
        near: for those of attributes, where the shapes lie that the operation reads. tuples: their places, tuple by tuple.
        values: where the shape of each value lies. results: where those of each node's results begin.
    """

    def __init__(self, nodes: Sequence[TraceNode]) -> None:
        self.given: list[int] = []
        self.near: dict[int, list[range]] = {}
        self.tuples: list[range] = []
        self.results: list[int] = []
        dimensions: dict[int, range] = {}  # of values, by their slots
        end = 0
        for node in nodes:
            numbers: list[Any] = []
            tuples: list[range] = []
            _plain(node.attrs, numbers, tuples)
            places = range(end, end + len(numbers))
            self.tuples += [places[one.start:one.stop] for one in tuples]
            if numbers:
                read = [dimensions[slot] for slot in node.inputs]
                self.near.update((k, read) for k in places)
            self.given += places
            self.results.append(places.stop)
            end = places.stop
            for k, meta in enumerate(node.metas):
                dimensions[node.slot + k] = range(end, end + len(meta.shape))
                end += len(meta.shape)
            if node.op is None or node.op in _opaque:
                self.given += range(places.stop, end)
        self.values = list(dimensions.values())


def _sized(attrs: Any, numbers: Iterator[Any]) -> Any:
    kind = type(attrs)
    if kind is int:
        return next(numbers)
    if kind is float:
        return attrs if attrs != attrs or not attrs or attrs in (math.inf, -math.inf) else next(numbers)
    if isinstance(attrs, tuple):
        made = [_sized(x, numbers) for x in attrs]
        return tuple(made) if kind is tuple else kind._make(made)  # type: ignore[attr-defined]
    if kind is Expr:
        known = {node: const(_sized(node.attr, numbers), node.dtype) for node in walk(attrs) if node.fn == "const"}
        return substitute((attrs,), known.get)[0]
    if dataclasses.is_dataclass(attrs):
        return dataclasses.replace(attrs, **{f.name: _sized(getattr(attrs, f.name), numbers) for f in dataclasses.fields(attrs)})  # type: ignore[type-var]
    return attrs


class _Family:
    """A family, and how the numbers of a path give its inputs."""

    def __init__(self, path: Description, key: tuple, seen: list[tuple[Any, ...]], others: Sequence[_Family]) -> None:
        self._lines = [node.line for node in path.nodes]
        # What another family holds to follow from what, and all paths since have confirmed, is not found out again.
        self.columns: Columns
        self.opaque: int
        known = next((one for one in others if one.opaque == len(_opaque) and all(map(one.columns.fit, seen))), None)
        while True:
            try:
                if known is None:
                    at = _Given(path.nodes)
                    self.results, self.columns = at.results, Columns(seen, at.given, at.near, at.tuples, at.values)
                else:
                    self.results, self.columns = known.results, known.columns
                self.inputs = self.columns.inputs
                tape = Tape([path.numbers[k] for k in self.inputs])
                nodes = _Sizing(self.columns, tape, path).described(self.results)
                break
            except _Opaque as found:  # then the sizes of its results are told apart by what they were
                _opaque.add(found.op)
                known = None
        self.opaque = len(_opaque)  # which numbers are given depends on that
        self.family, self.leaves = compile_family(nodes, key, tape)

    def program(self, path: Description) -> CompiledPath | None:
        """The program for the numbers of a path; None where they do not fit.

        Raises:
            NotGeneric: the family holds what was made for other numbers.
        """
        numbers = path.numbers
        if not self.columns.fit(numbers):
            return None
        program = self.family.member([numbers[k] for k in self.inputs])
        if program is None:
            return None
        others = {n.slot: n.line for n, line in zip(path.nodes, self._lines, strict=True) if n.line != line and n.line is not None}
        if others:
            program.relabel(others)
        return CompiledPath(program, self.leaves)


class _Sizing:
    """Puts sizes in the place of a path's numbers: in leaves and attributes as the columns say, in results as the operations' own rules
    do."""

    def __init__(self, columns: Columns, tape: Tape, path: Description) -> None:
        self.columns, self.tape, self.path = columns, tape, path
        self.sizes: dict[int, Any] = dict(zip(columns.inputs, tape.inputs))
        self.metas: dict[int, Meta] = {}  # of values, by their slots

    def described(self, shapes: Sequence[int]) -> list[_Described]:
        out, start = [], 0
        for node, at in zip(self.path.nodes, shapes, strict=True):
            attrs = _sized(node.attrs, iter([self._number(k) for k in range(start, at)]))
            if node.op is None or node.op in _opaque:
                metas = self._as_seen(node, at)
            else:
                metas = self._by_rule(node, attrs, at)
            for k, meta in enumerate(metas):
                self.metas[node.slot + k] = meta
            start = at + sum([len(meta.shape) for meta in metas])
            out.append(_Described(node, attrs, metas))
        return out

    def _number(self, k: int) -> Any:
        found = self.columns.number(k, self.sizes)
        return self.path.numbers[k] if found is None else found

    def _as_seen(self, node: TraceNode, at: int) -> list[Meta]:
        metas = []
        for m in node.metas:
            metas.append(Meta(tuple([self._number(at + d) for d in range(len(m.shape))]), m.dtype, CPU, None))
            at += len(m.shape)
        return metas

    def _by_rule(self, node: TraceNode, attrs: tuple, at: int) -> list[Meta]:
        asked = len(self.tape.rests_on)
        assert node.op is not None
        try:
            made = node.op.meta([self.metas[s] for s in node.inputs], attrs)
        except Exception:  # a function of numbers only
            raise _Opaque(node.op) from None
        shapes = [m.shape for m in (made if type(made) is tuple else (made,))]
        known = [m.shape for m in node.metas]
        numbers = [tuple([x.value if is_size(x) else x for x in shape]) for shape in shapes]
        if len(self.tape.rests_on) > asked or numbers != known:
            raise _Opaque(node.op)
        for x in [x for shape in shapes for x in shape]:
            self.sizes.setdefault(at, x)
            at += 1
        return [Meta(shape, m.dtype, CPU, None) for shape, m in zip(shapes, node.metas)]
