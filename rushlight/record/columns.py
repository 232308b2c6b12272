"""Which numbers of a path follow from which, as far as the sizes tell that its structure was met with.

A *column* is what one number of a path (its place in ``Description.numbers``) was each time. Some are *given*: the shapes of leaves
and the numbers among attributes. Others follow by the operations' own rules for shapes and are *derived*. A given number may be
the same as another, a constant, or follow from others by a rule that is guessed here, and checked for each new path; what is left
are the inputs.

A wrong guess costs a plan for other sizes, an input too many hardly anything. So an attribute is taken for a dimension of what its own
operation reads, or for a product of some, before it is taken for anything else, and multiples and distances must have held for three
different numbers: where two paths share one of several factors by chance, nearly every number is a multiple of some other. A tuple
among the attributes is taken for the shape that some value had, if it was that each time, even where it was the same each time: what
the gradient of a mean is expanded to. Numbers that are small each time (what is padded where an extent is odd) follow from nothing else.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

__all__ = ["Columns"]

Column = tuple[Any, ...]  # the type of a number, and what it was each time
Numbers = Mapping[int, Any] | Sequence[Any]

_MOST_DERIVED = 24  # that are tried as factors of others
_SURE = 3           # different numbers that a multiple or a distance must have held for
_SMALL = 3          # attributes that were never larger are alike by chance
_STEP = 8           # the largest stride, and the most more, that a number of a tuple has from the dimension that it belongs to


class _Product(NamedTuple):
    """A multiple of the product of the numbers in some places, and some more."""

    places: tuple[int, ...]
    by: int
    more: int
    floating: bool = False

    def of(self, numbers: Numbers) -> Any:
        found = math.prod([numbers[k] for k in self.places]) * self.by + self.more
        return found * 1.0 if self.floating else found


class _Quotient(NamedTuple):
    """A whole number over such a product, or one less (the gradients of means and variances)."""

    places: tuple[int, ...]
    over: int
    less: int

    def of(self, numbers: Numbers) -> Any:
        return self.over / (math.prod([numbers[k] for k in self.places]) - self.less)


class Columns:
    """Args:
        seen: the numbers of some paths of one structure.
        given: the places of the given numbers, in order.
        near: for those of them that belong to operations, where the shapes lie that the operation reads: the places of each one's
            dimensions.
        tuples: the places of those of them that are in one tuple. shapes: where the shapes of all values lie, in order.

    Attributes:
        inputs: the places of the numbers from which all given ones follow: whole ones first, then floating-point ones.
    """

    def __init__(self, seen: Sequence[Sequence[Any]], given: Sequence[int], near: Mapping[int, Sequence[Sequence[int]]],
                 tuples: Sequence[range] = (), shapes: Sequence[range] = ()) -> None:
        self._columns = [(type(column[0]), *column) for column in zip(*seen)]
        self._near = near
        self._beside: dict[int, int] = {}  # for numbers in tuples, the dimension with the same place from the end that the operation reads
        whole, inside = self._shapes(tuples, shapes), {k for one in tuples for k in one}
        self._first: dict[Column, int] = {}  # where a varying column is met first
        self._home: dict[int, int] = {}      # place of a given number that varies -> the place that it is the same as, or its own
        self._rules: dict[int, _Product | _Quotient] = {}
        self.inputs: list[int] = []
        wanted, own = set(given), []
        self._fixed = frozenset([k for k in given if len(set(self._columns[k])) == 2])
        self._derived: list[int] = []
        constant, same = [], []
        for k, column in enumerate(self._columns):
            varies = len(set(column)) > 2
            counted = (varies or k not in inside and column[1] > _SMALL) and self._count(k, column) is not None
            alone = not varies or counted or self._is_small(k)
            first = k if alone else self._first.setdefault(column, k)
            read = whole.get(k)
            if read is None and (varies or k not in inside and column[1] > 1):
                read = next((p for shape in near.get(k, ()) for p in shape if self._columns[p] == column), None)
            if read is not None and (read not in wanted or read in self._home):
                self._home[k] = self._home.get(read, read)
                same.append((k, self._home[k]))
            elif k not in wanted:
                if first == k and varies:
                    self._derived.append(k)
            elif not varies and not counted:
                constant.append(k)
            else:
                self._home[k] = self._home.get(first, first)
                if first == k:
                    own.append(k)
                else:
                    same.append((k, self._home[k]))
        self._constant = _getter(constant), tuple([self._columns[k][1] for k in constant])
        self._same = _getter([k for k, _ in same]), _getter([first for _, first in same])
        self._find_rules(own)

    def fit(self, numbers: Sequence[Any]) -> bool:
        """Whether the given numbers of a path follow from its inputs as they did in the paths that were seen."""
        if self._constant[0](numbers) != self._constant[1] or self._same[0](numbers) != self._same[1](numbers):
            return False
        try:
            return all(rule.of(numbers) == numbers[k] for k, rule in self._rules.items())
        except ArithmeticError:
            return False

    def number(self, k: int, sizes: dict[int, Any]) -> Any:
        """The given number in place ``k``; ``sizes``: what is known in the first places of columns, to which it may be added. None
        where it is a constant."""
        home = self._home.get(k)
        if home is None:
            return None
        if home not in sizes:
            rule = self._rules[home]
            for place in rule.places:
                if place not in sizes:
                    self.number(place, sizes)
            sizes[home] = rule.of(sizes)
        return sizes[home]

    def _is_small(self, k: int) -> bool:
        """Whether this is a number of an operation that was small each time."""
        kind, *numbers = self._columns[k]
        return k in self._near and kind is int and max(numbers) <= _SMALL

    def _shapes(self, tuples: Sequence[range], shapes: Sequence[range]) -> dict[int, int]:
        """For numbers in tuples that were the shape of a value each time, or changed as a part of one that the operation reads does, the
        dimensions' places."""
        columns = self._columns
        found: dict[int, int] = {}
        values: dict[tuple[Column, ...], range] = {}
        coming = iter(shapes)
        shape = next(coming, None)
        for one in tuples:
            while shape is not None and shape.start < one.start:
                values.setdefault(tuple(columns[shape.start:shape.stop]), shape)
                shape = next(coming, None)
            wanted = tuple(columns[one.start:one.stop])
            n = len(wanted)
            for read in [read for read in self._near.get(one.start, ()) if len(read) >= n][:1]:
                self._beside.update(zip(one, read[len(read) - n:]))
            at: Sequence[int] | None = values.get(wanted)
            if at is None and any(len(set(column)) > 2 for column in wanted):
                parts = (read[k:k + n] for read in self._near.get(one.start, ()) for k in range(len(read) - n, -1, -1))
                at = next((part for part in parts if tuple([columns[p] for p in part]) == wanted), None)
            if at is not None:
                found.update(zip(one, at))
        return found

    # -- rules ---------------------------------------------------------------------------------------------------
    def _find_rules(self, own: Sequence[int]) -> None:
        whole = [k for k in own if self._columns[k][0] is int]
        for k in sorted(whole, key=lambda k: self._columns[k][:0:-1]):  # the smallest first
            self._follow(k, None if self._is_small(k) else self._whole(k, self._columns[k]))
        for k in own:
            if self._columns[k][0] is float:
                self._follow(k, self._fraction(k))

    def _follow(self, k: int, rule: _Product | _Quotient | None) -> None:
        if rule is None:
            self.inputs.append(k)
        else:
            self._rules[k] = rule

    def _products(self, k: int) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        """One number that is known before place ``k``, or two: where they are and their product."""
        mine = k in self._near
        known = [i for i in self.inputs if self._columns[i][0] is int and (mine and not self._is_small(i) or i not in self._near)]
        if mine:
            known += [i for i in self._derived if i < k][:_MOST_DERIVED]
        columns = self._columns
        for i in known:
            yield (i,), list(columns[i][1:])
        for at, i in enumerate(known):
            for j in known[at:]:
                yield (i, j), [m * n for m, n in zip(columns[i][1:], columns[j][1:])]

    def _whole(self, k: int, column: Column) -> _Product | None:
        sure = len(set(column)) > _SURE
        if (count := self._count(k, column)) is not None:
            return count
        if (step := self._step(k, column)) is not None:
            return step
        distance: _Product | None = None
        for places, product in self._products(k):
            by = column[1] // product[0] if product[0] else 0
            if by and (sure or by == 1) and all(p > 0 and n == p * by for p, n in zip(product, column[1:])):
                return _Product(places, by, 0)
            more = column[1] - product[0]
            if distance is None and len(places) == 1 and (sure or abs(more) == 1) and all(
                    n - p == more for p, n in zip(product, column[1:])):
                distance = _Product(places, 1, more)
        return distance

    def _step(self, k: int, column: Column) -> _Product | None:
        """What windows apart make of a dimension: a few times it, and some more."""
        place = self._beside.get(k)
        if place is None or place in self._fixed:
            return None
        _, n, *others = self._columns[place]
        _, wanted, *numbers = column
        by = next(((b - wanted) // (a - n) for a, b in zip(others, numbers) if a != n), 0)
        more = wanted - n * by
        fits = 0 < by <= _STEP and abs(more) <= _STEP and all(a * by + more == b for a, b in zip(others, numbers))
        return _Product((self._home.get(place, place),), by, more) if fits else None

    def _read(self, k: int) -> Iterator[_Product]:
        """Neighbouring dimensions of what the operation of place ``k`` reads: what a reshape makes one, and a mean counts."""
        for shape in self._near.get(k, ()):
            for last in range(len(shape), 0, -1):
                for first in range(last - 1):
                    run = shape[first:last]
                    by = math.prod([self._columns[p][1] for p in run if p in self._fixed])
                    yield _Product(tuple([self._home.get(p, p) for p in run if p not in self._fixed]), by, 0)

    def _count(self, k: int, column: Column) -> _Product | None:
        """The product of such neighbours that a number was each time, if one of them is not the same for all paths."""
        return next((rule for rule in self._read(k) if rule.places and self._product(rule) == list(column[1:])), None)

    def _product(self, rule: _Product) -> list[int]:
        columns = self._columns
        return [math.prod(numbers) * rule.by for numbers in zip(*[columns[k][1:] for k in rule.places])]

    def _fraction(self, k: int) -> _Product | _Quotient | None:
        column = self._columns[k]
        for places, product in self._products(k):
            for less in (0, 1):
                if min(product) <= less:
                    continue
                over = round(column[1] * (product[0] - less))
                if all(over / (p - less) == n for p, n in zip(product, column[1:])):
                    return _Quotient(places, over, less)
        if all(n == int(n) for n in column[1:]):
            rule = self._whole(k, (int, *map(int, column[1:])))
            return None if rule is None else rule._replace(floating=True)
        return None


def _getter(places: Sequence[int]) -> Any:
    """The numbers in these places, as one tuple."""
    if not places:
        return lambda numbers: ()
    return itemgetter(*places) if len(places) > 1 else lambda numbers, k=places[0]: (numbers[k],)
