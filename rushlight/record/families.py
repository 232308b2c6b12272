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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..compile.expr import Expr, const, substitute, walk
from ..compile.flags import flags
from ..compile.sizes import NotGeneric, Tape
from .meta import CPU, Meta
from .paths import CompiledPath, compile_family, needed, no_collection
from .trace import TraceNode
from .warn import warn

__all__ = ["Description", "clear", "describe", "member", "plan", "saw"]

_MOST = 256       # structures that are remembered
_MOST_SEEN = 4    # lists of numbers of each
_MOST_MADE = 12   # families of each: planning decides otherwise for very small sizes, say
_MOST_FAILED = 3  # attempts to plan for sizes that were of no use


class Description(NamedTuple):
    """A path up to its sizes: ``nodes`` are those that are needed."""

    structure: tuple
    numbers: tuple[Any, ...]
    nodes: list[TraceNode]


class _Known:
    """What is known of a structure: numbers seen, and the families made."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.made: list[_Family] = []
        self.failed = 0


_known: dict[tuple, _Known] = {}
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
    structure: list[Any] = [key, flags.state]
    for node in nodes:
        structure.append((node.op, node.slot, node.inputs, _plain(node.attrs, numbers)))
        for meta in node.metas:
            numbers += meta.shape
            structure.append((meta.dtype, len(meta.shape)))
    return Description(tuple(structure), tuple(numbers), nodes)


def member(path: Description) -> CompiledPath | None:
    """The program of a path that belongs to a family, else None."""
    known = _known.get(path.structure)
    for made in known.made if known is not None else ():
        try:
            program = made.program(path)
        except NotGeneric as error:
            _tell(error)
            with _lock:
                known.made = [one for one in known.made if one is not made]  # type: ignore[union-attr]
            continue
        if program is not None:
            return program
    return None


def saw(path: Description) -> int:
    """A path is to be run: remember its numbers. How many others were seen before."""
    with _lock:
        known = _known.get(path.structure)
        if known is None:
            while len(_known) >= _MOST:
                _known.pop(next(iter(_known)))
            known = _known[path.structure] = _Known()
        others = [numbers for numbers in known.seen if numbers != path.numbers]
        known.seen = [*others, path.numbers][-_MOST_SEEN:]
    return len(others)


def plan(path: Description, key: tuple) -> CompiledPath | None:
    """The program of a path that has been seen with other numbers, too, by planning for all such numbers; None if that is of no
    use."""
    known = _known.get(path.structure)
    if known is None or len(known.seen) < 2 or not flags.families or len(known.made) >= _MOST_MADE or known.failed >= _MOST_FAILED:
        return None
    program = None
    try:
        with no_collection():
            made = _Family(path, key, known.seen)
        program = made.program(path)
    except NotGeneric as error:
        _tell(error)
    except Exception as error:  # something that cannot take a size: the path can still be planned for its numbers
        warn(f"planning for other sizes failed, so that each is planned by itself: {type(error).__name__}: {error}", RuntimeWarning)
    if program is None or made.family.rests_on:
        known.failed += 1
    else:
        known.made.append(made)
    return program


def _tell(error: Exception) -> None:
    if flags.debug >= 1:
        print(f"no family: {type(error).__name__}: {error}")


def _plain(attrs: Any, numbers: list[Any]) -> Any:
    """Attributes without their numbers, which are appended to ``numbers``; equal only if all else is."""
    kind = type(attrs)
    if kind is int:
        numbers.append(attrs)
        return int
    if kind is float:
        if attrs != attrs or not attrs or attrs in (math.inf, -math.inf):
            return float, repr(attrs)
        numbers.append(attrs)
        return float
    if isinstance(attrs, tuple):
        return kind, tuple([_plain(x, numbers) for x in attrs])
    if kind is Expr:
        return _formula(attrs, numbers)
    if dataclasses.is_dataclass(attrs):
        return kind, tuple([_plain(getattr(attrs, f.name), numbers) for f in dataclasses.fields(attrs)])
    return kind, attrs


def _formula(expr: Expr, numbers: list[Any]) -> tuple:
    """A formula without the numbers among its constants."""
    place: dict[Expr, int] = {}
    out = []
    for node in walk(expr):
        place[node] = len(place)
        attr = _plain(node.attr, numbers) if node.fn == "const" else node.attr
        out.append((node.fn, node.dtype, attr, tuple([place[x] for x in node.args])))
    return tuple(out)


class _Described:
    """A trace node with sizes in its shapes and attributes."""

    __slots__ = ("op", "slot", "inputs", "attrs", "metas", "meta", "line")

    def __init__(self, node: TraceNode, numbers: Iterator[Any]) -> None:
        self.op, self.slot, self.inputs, self.line = node.op, node.slot, node.inputs, node.line
        self.attrs = _sized(node.attrs, numbers)
        self.metas = tuple([Meta(tuple([next(numbers) for _ in m.shape]), m.dtype, CPU, None) for m in node.metas])
        self.meta = self.metas[0]


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

    def __init__(self, path: Description, key: tuple, seen: list[tuple[Any, ...]]) -> None:
        columns: dict[Column, list[int]] = {}
        for k, column in enumerate(zip(*seen)):
            columns.setdefault((type(column[0]), *column), []).append(k)
        varying = [column for column in columns if len(set(column)) > 2]
        self.constant = [(places[0], column[1]) for column, places in columns.items() if len(set(column)) == 2]
        self.same = [(places[0], k) for places in columns.values() for k in places[1:]]
        self.relations = Relations(varying)
        self.inputs = [columns[column][0] for column in self.relations.free]
        self.follows = [(columns[column][0], column) for column in varying if column not in self.relations.free]
        if min([path.numbers[k] for k in self.inputs], default=1) < 1:
            raise NotGeneric("sizes are at least 1")
        tape = Tape([path.numbers[k] for k in self.inputs])
        free = dict(zip(self.relations.free, tape.inputs))
        sizes: dict[int, Any] = {}
        for column in varying:
            sizes.update(dict.fromkeys(columns[column], self.relations.value(column, free)))
        numbers = iter([sizes.get(k, n) for k, n in enumerate(path.numbers)])
        self._lines = [node.line for node in path.nodes]
        self.family, self.leaves = compile_family([_Described(node, numbers) for node in path.nodes], key, tape)

    def program(self, path: Description) -> CompiledPath | None:
        """The program for the numbers of a path; None where they do not fit.

        Raises:
            NotGeneric: the family holds what was made for other numbers.
        """
        numbers = path.numbers
        for k, n in self.constant:
            if numbers[k] != n:
                return None
        for k, other in self.same:
            if numbers[k] != numbers[other]:
                return None
        inputs = [numbers[k] for k in self.inputs]
        free = dict(zip(self.relations.free, inputs))
        for k, column in self.follows:
            if self.relations.value(column, free) != numbers[k]:
                return None
        program = self.family.member(inputs)
        if program is None:
            return None
        others = {n.slot: n.line for n, line in zip(path.nodes, self._lines, strict=True) if n.line != line and n.line is not None}
        if others:
            program.relabel(others)
        return CompiledPath(program, self.leaves)


Column = tuple[Any, ...]  # the type of a number, and what it was each time


class Relations:
    """Which columns of numbers follow from others.

    Whole numbers: a multiple of one or of a product of two, or a fixed distance away. Floating-point numbers: a whole number over
    one of these, or one less (the gradients of means and variances).

    Attributes:
        free: the columns that follow from no other, whole numbers all.

    Raises:
        NotGeneric: a floating-point number follows from none.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.free: list[Column] = []
        self._rules: dict[Column, Callable[[dict[Column, Any]], Any]] = {}
        for column in sorted((c for c in columns if c[0] is int), key=lambda c: c[:0:-1]):  # the smallest first
            rule = self._whole(column)
            if rule is None:
                self.free.append(column)
            else:
                self._rules[column] = rule
        for column in columns:
            if column[0] is float:
                self._rules[column] = self._fraction(column)

    def value(self, column: Column, free: dict[Column, Any]) -> Any:
        """The number in the place of ``column``, from those of the free columns."""
        return free[column] if column in free else self._rules[column](free)

    def _products(self) -> Iterator[tuple[list[Column], list[int]]]:
        """One free column, or two: what they are and their product."""
        for a in self.free:
            yield [a], list(a[1:])
        for i, a in enumerate(self.free):
            for b in self.free[i:]:
                yield [a, b], [m * n for m, n in zip(a[1:], b[1:])]

    def _whole(self, column: Column) -> Callable[[dict[Column, Any]], Any] | None:
        for factors, product in self._products():
            if all(p > 0 and n % p == 0 and n // p == column[1] // product[0] for p, n in zip(product, column[1:])):
                return functools.partial(_product, factors, column[1] // product[0], 0)
        for a in self.free:
            if all(n - m == column[1] - a[1] for m, n in zip(a[1:], column[1:])):
                return functools.partial(_product, [a], 1, column[1] - a[1])
        return None

    def _fraction(self, column: Column) -> Callable[[dict[Column, Any]], Any]:
        for factors, product in self._products():
            for less in (0, 1):
                if min(product) <= less:
                    continue
                over = round(column[1] * (product[0] - less))
                if all(over / (p - less) == n for p, n in zip(product, column[1:])):
                    return functools.partial(_quotient, factors, over, less)
        if all(n == int(n) for n in column[1:]):
            rule = self._whole((int, *map(int, column[1:])))
            if rule is not None:
                return lambda free: rule(free) * 1.0
        raise NotGeneric(f"{column[1:]} follow from no sizes")


def _product(factors: list[Column], by: int, distance: int, free: dict[Column, Any]) -> Any:
    return math.prod([free[column] for column in factors]) * by + distance


def _quotient(factors: list[Column], over: int, less: int, free: dict[Column, Any]) -> Any:
    return over / (math.prod([free[column] for column in factors]) - less)
