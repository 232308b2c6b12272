"""Sizes: numbers that stand for a whole family of shapes, so that one planning serves every batch size or length.

A :class:`Size` behaves like the whole number that it has now, and its :class:`Tape` writes down what was done with it: how
each number follows from the inputs, and how every comparison came out. Planning that was done once with sizes for some
extents can then be *replayed* for other extents: :meth:`Tape.replay` computes the numbers again and says whether all
comparisons come out as before; if they do, planning anew would decide the same.

Sizes are polynomials with whole coefficients over *atoms*, the inputs and the results of other operations (quotients,
floating-point arithmetic), in one normal form: equal polynomials are equal without a comparison being noted, ``(64 * n) % 64``
is simply 0, and ``n * 64 // n`` is 64. An input that is a whole number
of at least 1 stays one.

A size is no ``int``: whatever needs the number itself (``range``, an index, a format string) asks for it by ``__index__``,
``__int__`` or ``__repr__``, and the tape notes that planning rests on this very value. So nothing is lost in silence. A tape is
complete once a replay was made of it: what would be noted later (a size that somebody kept) is an error.

Example::

    tape = Tape([5])
    n, = tape.inputs
    rows = max(n * 8, 16)               # 40, and: n * 8 is not less than 16
    replay = tape.replay([rows])
    replay([7]), replay([1])            # [56], None: 1 * 8 is less than 16
"""
from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .replays import Replay, Steps

__all__ = ["NotGeneric", "Size", "Tape", "choice", "decision", "entries", "first_largest", "first_smallest", "flattened", "is_size",
           "largest", "length", "numeric", "smallest", "stands_for_many"]

Number = Any  # an int or a float
Terms = tuple[tuple[tuple[int, ...], int], ...]  # monomials (sorted atoms, () for the constant one) with coefficients, sorted


class NotGeneric(Exception):
    """Sizes are where they cannot be exchanged for others."""


def is_size(x: Any) -> bool:
    return type(x) is Size


def numeric(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a function of numbers (and tuples of them) take sizes: it is then called again in each replay, and nothing that it
    decides becomes a condition. It returns a number, a tuple of numbers, or a list (or NumPy's array, which becomes one for plain
    arguments): numbers whose count depends on the arguments, which with sizes is one size that stands for all of them."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        flat: list[Any] = []
        shape = _flatten(args, flat)
        tape = next((x.tape for x in flat if type(x) is Size), None)
        if tape is None:
            found = function(*args)
            return found.tolist() if hasattr(found, "tolist") else found

        def of_flat(*numbers: Number) -> Any:
            return function(*_unflatten(shape, iter(numbers)))
        plain = all(x is None for x in shape)  # nothing is nested
        of_flat.nested = function, shape  # type: ignore[attr-defined]
        made = tape.apply(function, *flat) if plain else tape.apply(of_flat, *flat, key=(function, shape))
        if type(made.value) is not tuple:
            return made
        return tuple([tape.apply(operator.getitem, made, k) for k in range(len(made.value))])
    return call


def decision(function: Callable[..., bool]) -> Callable[..., bool]:
    """Like ``numeric``, for a function that says yes or no: with sizes its answer is a condition, not each comparison on the way to it.
    That a row has more than eight elements does not matter where the answer is the same for few."""
    asked = numeric(function)

    @functools.wraps(function)
    def call(*args: Any) -> bool:
        return bool(asked(*args))
    return call


def choice(function: Callable[..., int]) -> Callable[..., int]:
    """Likewise for a function that says which of some ways is taken, as a whole number that is no size itself: the place of the best
    of some candidates."""
    asked = numeric(function)

    @functools.wraps(function)
    def call(*args: Any) -> int:
        made = asked(*args)
        return made.tape.chosen(made) if type(made) is Size else made
    return call


@choice
def first_largest(*numbers: Any) -> int:
    """The place of the largest number, of several the first; also of tuples of numbers."""
    return numbers.index(max(numbers))


@choice
def first_smallest(*numbers: Any) -> int:
    """The place of the smallest number, of several the first."""
    return numbers.index(min(numbers))


def largest(*numbers: Any) -> Any:
    """``max`` of numbers, which is no decision: with sizes it is a size, whichever of them is the largest."""
    for x in numbers:
        if type(x) is Size:
            return x.tape.apply(max, *numbers)
    return max(numbers)


def smallest(*numbers: Any) -> Any:
    """``min`` of numbers, likewise."""
    for x in numbers:
        if type(x) is Size and len(numbers) > 1:
            return x.tape.apply(min, *numbers)
    return min(numbers) if len(numbers) > 1 else numbers[0]


def entries(numbers: Any) -> list[Any]:
    """The numbers of a list that a numeric function gave, to be part of a longer list: if they are not known, the size that
    stands for them (``flattened`` puts them in its place)."""
    return [numbers] if is_size(numbers) else numbers


def stands_for_many(x: Any) -> bool:
    """Whether this is a list or an array of numbers, or a size of one."""
    return _is_table(x.value if type(x) is Size else x)


def _is_table(x: Any) -> bool:
    return type(x) is list or hasattr(x, "tolist") and hasattr(x, "__len__")


def flattened(numbers: Iterable[Any]) -> list[Any]:
    """Without lists (or arrays) in the list."""
    numbers = list(numbers)
    if not any(map(_is_table, numbers)):
        return numbers
    out: list[Any] = []
    for x in numbers:
        if _is_table(x):
            out += x.tolist() if hasattr(x, "tolist") else x
        else:
            out.append(x)
    return out


class Same(NamedTuple):
    """What is no number among the arguments of a numeric function."""

    value: Any


def _flatten(x: Any, out: list[Any]) -> Any:
    """Appends the numbers in nested tuples to ``out``; returns what remains, with None in the place of each."""
    if type(x) is tuple:
        return tuple([_flatten(y, out) for y in x])
    if type(x) in (int, float, bool, Size):
        out.append(x)
        return None
    return Same(x)


def _unflatten(shape: Any, numbers: Iterator[Number]) -> Any:
    if shape is None:
        return next(numbers)
    return shape.value if type(shape) is Same else tuple([_unflatten(y, numbers) for y in shape])


#: How many numbers a list has, if need be only as a size.
length = numeric(len)


class Size:
    """A number that a tape knows the history of. ``value``: what it is now; ``terms``: the polynomial; ``place``: where a replay has its
    number, -1 as long as none needs it."""

    __slots__ = ("tape", "terms", "value", "place", "_hash")

    def __init__(self, tape: Tape, terms: Terms, value: Number) -> None:
        self.tape, self.terms, self.value, self.place = tape, terms, value, -1
        self._hash = hash(terms)

    # -- arithmetic ----------------------------------------------------------------------------------------------
    def __add__(self, other: Any) -> Any: return self.tape.add(self, other, 1)
    def __radd__(self, other: Any) -> Any: return self.tape.add(self, other, 1)
    def __sub__(self, other: Any) -> Any: return self.tape.add(self, other, -1)
    def __rsub__(self, other: Any) -> Any: return self.tape.add(self.tape.times(self, -1), other, 1)
    def __mul__(self, other: Any) -> Any: return self.tape.times(self, other)
    def __rmul__(self, other: Any) -> Any: return self.tape.times(self, other)
    def __neg__(self) -> Any: return self.tape.times(self, -1)
    def __pos__(self) -> Any: return self
    def __abs__(self) -> Any: return self if self >= 0 else -self
    def __floordiv__(self, other: Any) -> Any: return self.tape.divided(operator.floordiv, self, other)
    def __rfloordiv__(self, other: Any) -> Any: return self.tape.divided(operator.floordiv, other, self)
    def __mod__(self, other: Any) -> Any: return self.tape.divided(operator.mod, self, other)
    def __rmod__(self, other: Any) -> Any: return self.tape.divided(operator.mod, other, self)
    def __divmod__(self, other: Any) -> Any: return self // other, self % other
    def __rdivmod__(self, other: Any) -> Any: return other // self, other % self
    def __truediv__(self, other: Any) -> Any: return self.tape.apply(operator.truediv, self, other)
    def __rtruediv__(self, other: Any) -> Any: return self.tape.apply(operator.truediv, other, self)
    def __pow__(self, other: Any) -> Any: return self.tape.apply(operator.pow, self, other)
    def __rpow__(self, other: Any) -> Any: return self.tape.apply(operator.pow, other, self)
    def __lshift__(self, other: Any) -> Any: return self.tape.apply(operator.lshift, self, other)
    def __rshift__(self, other: Any) -> Any: return self.tape.apply(operator.rshift, self, other)
    def __and__(self, other: Any) -> Any: return self.tape.apply(operator.and_, self, other)
    def __or__(self, other: Any) -> Any: return self.tape.apply(operator.or_, self, other)
    def __ceil__(self) -> Any: return self.tape.apply(math.ceil, self)
    def __floor__(self) -> Any: return self.tape.apply(math.floor, self)
    def __trunc__(self) -> Any: return self.tape.apply(math.trunc, self)
    def bit_length(self) -> Any: return self.tape.apply(int.bit_length, self)

    # -- comparisons ---------------------------------------------------------------------------------------------
    def __lt__(self, other: Any) -> bool: return self.tape.holds(operator.lt, self, other)
    def __le__(self, other: Any) -> bool: return self.tape.holds(operator.le, self, other)
    def __gt__(self, other: Any) -> bool: return self.tape.holds(operator.gt, self, other)
    def __ge__(self, other: Any) -> bool: return self.tape.holds(operator.ge, self, other)

    def __eq__(self, other: Any) -> bool: return self.tape.holds(operator.eq, self, other)
    def __ne__(self, other: Any) -> bool: return self.tape.holds(operator.ne, self, other)

    def __bool__(self) -> bool: return self.tape.holds(operator.ne, self, 0)
    def __hash__(self) -> int: return self._hash

    # -- the number itself: planning then rests on this very value -------------------------------------------------
    def __index__(self) -> int: return self.tape.fixed(self)
    def __int__(self) -> int: return int(self.tape.fixed(self))
    def __float__(self) -> float: return float(self.tape.fixed(self))
    def __str__(self) -> str: return str(self.tape.fixed(self))
    def __format__(self, spec: str) -> str: return format(self.tape.fixed(self), spec)
    def __repr__(self) -> str: return repr(self.tape.fixed(self))


class Tape:
    """Attributes:
        inputs: a size for each given value.
        rests_on: (file, line) of what asked for a number itself.
    """

    def __init__(self, values: Sequence[Number]) -> None:
        self._atoms: list[int] = []              # the place of each
        self._known: dict[Any, Size] = {}
        self._sizes: dict[Terms, Size] = {}
        self._made: dict[tuple[Any, ...], Any] = {}  # sums, differences and products, by the identities of sizes, which live as long
        self._asked: set[tuple[Any, ...]] = set()  # comparisons, likewise
        self._steps = Steps(len(values))
        self._complete = False
        self.rests_on: list[tuple[str, int]] = []
        self.inputs = [self._new_atom(k, value) for k, value in enumerate(values)]
        self._positive = frozenset([k for k, value in enumerate(values) if type(value) is int and value >= 1])
        self._steps.positive = sorted(self._positive)

    # -- what sizes do -------------------------------------------------------------------------------------------
    def add(self, a: Size, b: Any, sign: int) -> Any:
        kind = type(b)
        key = (id(a), id(b), sign) if kind is Size else (id(a), b, sign, kind)
        made = self._made.get(key)
        if made is not None:
            return made
        if kind is Size and type(a.value) is type(b.value) is int and b.tape is self:
            other, value = b.terms, a.value + sign * b.value
        elif kind is int and type(a.value) is int:
            if not b:
                return a
            other, value = (((), b),), a.value + sign * b
        else:
            return self.apply(operator.add if sign > 0 else operator.sub, a, b)
        total = dict(a.terms)
        for monomial, c in other:
            c = total.get(monomial, 0) + sign * c
            if c:
                total[monomial] = c
            else:
                del total[monomial]
        made = self._made[key] = self._size(total, value)
        return made

    def times(self, a: Size, b: Any) -> Any:
        kind = type(b)
        key = (id(a), id(b), 0) if kind is Size else (id(a), b, 0, kind)
        made = self._made.get(key)
        if made is not None:
            return made
        if kind is int and type(a.value) is int:
            if b == 1:
                return a
            if b == 0:
                return 0
            made = self._interned(tuple([(m, c * b) for m, c in a.terms]), a.value * b)
        elif kind is Size and type(a.value) is type(b.value) is int and b.tape is self:
            total: dict[tuple[int, ...], int] = {}
            for m, c in a.terms:
                for n, d in b.terms:
                    both = tuple(sorted(m + n)) if m and n else m or n
                    total[both] = total.get(both, 0) + c * d
            made = self._size({m: c for m, c in total.items() if c}, a.value * b.value)
        else:
            return self.apply(operator.mul, a, b)
        self._made[key] = made
        return made

    def divided(self, how: Any, a: Any, b: Any) -> Any:
        """``a // b`` or ``a % b``, exact where the polynomial ``b`` (of one term) divides that of ``a``."""
        if type(a) is type(b) is Size and a.tape is not b.tape:
            return NotImplemented
        over = b.terms if type(b) is Size else (((), b),) if type(b) is int and b else ()
        if len(over) == 1 and type(a) in (Size, int):
            (monomial, c), = over
            quotient = {}
            for m, k in a.terms if type(a) is Size else (((), a),) if a else ():
                left = _without(m, monomial)
                if left is None or k % c:
                    break
                quotient[left] = k // c
            else:
                if how is operator.mod:
                    return 0
                return self._size(quotient, _value(a) // _value(b))
        return self.apply(how, a, b)

    def apply(self, function: Callable[..., Number], *args: Any, key: Any = None) -> Any:
        """The result of an operation that polynomials do not have. ``key``: what names the function, if not itself."""
        called = (key or function, *[id(x) if type(x) is Size else x for x in args], *map(type, args))
        known = self._known.get(called)
        if known is not None:
            return known
        if not all(x.tape is self if type(x) is Size else type(x) in (int, float, bool) for x in args):
            return NotImplemented
        value = function(*map(_value, args))
        self._open()
        made = self._known[called] = self._new_atom(self._steps.call(function, [self._place(x) for x in args]), value)
        return made

    def holds(self, how: Any, a: Size, b: Any) -> bool:
        if type(b) not in (Size, int, float, bool) or type(b) is Size and b.tape is not self:
            return NotImplemented  # type: ignore[return-value]
        if a is b:
            return how in (operator.le, operator.ge, operator.eq)
        sized = type(b) is Size
        outcome = bool(how(a.value, b.value if sized else b))
        key = (how, id(a), id(b)) if sized else (how, id(a), b, type(b))
        if key not in self._asked:
            if sized or not (len(a.terms) == 1 and b <= 0 and self._is_positive(a)):
                self._condition((how, a, b), outcome)
            self._asked.add(key)
        return outcome

    def fixed(self, a: Size) -> Number:
        if (operator.eq, id(a), a.value, type(a.value)) not in self._asked:  # else it was compared with that very number
            frame = sys._getframe(2)  # of what asked
            self.rests_on.append((frame.f_code.co_filename, frame.f_lineno))
        return self.chosen(a)

    def chosen(self, a: Size) -> Any:
        """The value of a size that says which way is taken: that it is the same is a condition."""
        key = (operator.eq, id(a), a.value, type(a.value))
        if key not in self._asked:
            self._condition((operator.eq, a, a.value), True)
            self._asked.add(key)
        return a.value

    # -- building ------------------------------------------------------------------------------------------------
    def _is_positive(self, a: Size) -> bool:
        """Whether a product of inputs needs no look to be known as positive."""
        (monomial, c), = a.terms
        return c > 0 and all(atom in self._positive for atom in monomial)

    def _size(self, terms: dict[tuple[int, ...], int], value: Number) -> Any:
        if not terms or len(terms) == 1 and () in terms:
            return value
        return self._interned(tuple(sorted(terms.items())), value)

    def _interned(self, terms: Terms, value: Number) -> Size:
        """The size with these terms: there is one of each."""
        known = self._sizes.get(terms)
        if known is None:
            known = self._sizes[terms] = Size(self, terms, value)
        return known

    def _condition(self, asked: tuple[Any, Size, Any], outcome: bool) -> None:
        how, a, b = asked
        self._open()
        self._steps.condition(how, self._place(a), self._place(b), outcome)

    def _open(self) -> None:
        if self._complete:
            raise NotGeneric("a size is asked for when its tape is complete already")

    def _new_atom(self, place: int, value: Number) -> Size:
        made = self._interned((((len(self._atoms),), 1),), value)
        made.place = place
        self._atoms.append(place)
        return made

    def _place(self, x: Any) -> int:
        """Where a replay has this number."""
        if type(x) is not Size:
            return self._steps.constant(x)
        if x.place < 0:
            x.place = self._steps.polynomial([(c, [self._atoms[k] for k in monomial]) for monomial, c in x.terms])
        return x.place

    # -- replaying -----------------------------------------------------------------------------------------------
    def replay(self, wanted: Sequence[Any]) -> Replay:
        """A function that computes what the ``wanted`` sizes are for other inputs, or None where a condition fails. What is no size
        among them stays as it is."""
        self._complete = True
        return Replay(self._steps, [self._place(x) for x in wanted])


def _value(x: Any) -> Number:
    return x.value if type(x) is Size else x


def _without(monomial: tuple[int, ...], divisor: tuple[int, ...]) -> tuple[int, ...] | None:
    if not divisor:
        return monomial
    left = list(monomial)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)
