"""The arguments of a call that has been made: which are tensors, where in the trace they were, and which are atoms."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..compile.dtypes import DType
from ..record.meta import Device
from .entering import is_strided
from .handle import LEAF, Handle
from .steps import (
    A_LEAF,
    ATOM,
    EQUAL,
    FLOATS,
    INDEX,
    INTEGER,
    INTS,
    LEAF_VALUE,
    NO,
    NUMBER,
    OLD_PART,
    PART,
    PLACE,
    RANGE,
    SAME,
    SLICE,
    SLOT,
    STRETCH,
    UNREAD,
    VIEW,
    YES,
    start_of,
)

__all__ = ["ATOMS", "Made", "OPERAND", "PLAIN_TENSORS", "POSITION", "SEQUENCES", "Number", "Sorted", "State", "sort_arguments"]

PLAIN_TENSORS: set[type] = set()  # classes of tensors without behaviour of their own; the rooms above add theirs
_WHOLE: set[type] = {np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8}  # NumPy's numbers
# Equal ones of one of these types are the same; the rooms above add theirs.
ATOMS: set[type] = {int, bool, str, type(None), type(Ellipsis), type, DType, Device, slice, *FLOATS, *_WHOLE}
SEQUENCES: set[type] = {tuple, list}  # of atoms or of tensors
_INTS = 8  # numbers in a tuple or list, at most, that are compared one by one

OPERAND, POSITION = "operand", "position"  # what changing numbers are to a function: see ``quick``


class Number:
    """A number that entered as a leaf: its slot and value; of a position also the length of the dimension, how many positions there
    are from it on (None: it alone, without its dimension), and the step between them. Of a place among all elements their number stands
    for the length of the dimension, and there are no positions from it on."""

    __slots__ = ("slot", "value", "size", "length", "step")

    def __init__(self, slot: int, value: Any, size: int = 0, length: int | None = None, step: int = 1) -> None:
        self.slot, self.value, self.size, self.length, self.step = slot, value, size, length, step


class State:
    """What a tensor was before a call: identities of its value, edge and alias, the kind of its edge, how often it was written."""

    __slots__ = ("value", "edge", "alias", "wants", "version")

    def __init__(self, t: Handle) -> None:
        edge, alias = t._edge, t._alias
        self.value, self.edge, self.alias = id(t._value), id(edge), id(alias)
        self.wants = NO if edge is None else A_LEAF if edge is LEAF else YES
        self.version = t._writes if alias is None else alias.storage.version


class Sorted:
    """Arguments apart: their kinds (of groups: of their items), the tensors (and the number) among them with the values that they had
    when the call began, and what a step's facts hold of each; ``slots``: (number of the fact, number of the tensor) of those that are
    slots."""

    __slots__ = ("kinds", "tensors", "values", "facts", "slots")

    def __init__(self) -> None:
        self.kinds: list[Any] = []
        self.tensors: list[Any] = []
        self.values: list[Any] = []
        self.facts: list[Any] = []
        self.slots: list[tuple[int, int]] = []


class Made(NamedTuple):
    """A call that has been made.

    Attributes:
        step, then, facts: see ``Call``; ``then`` is one node, or several.
        anew: gives the step of such calls where nobody has been.
        slots: which facts have slots of results: one, or (meta, slot) pairs; ``found``: the arguments, whose facts stand at the end.
    """

    step: Callable[..., Any]
    then: Any
    facts: tuple[Any, ...]
    anew: Callable[[], Callable[..., Any]]
    slots: Sequence[int]
    found: Sorted


def sort_arguments(attempt: Any, unread: bool) -> Sorted | None:
    """The arguments of a call that has been made; None where one is neither a tensor nor an atom. ``unread``: there may be tensors
    whose values were not read."""
    found = Sorted()
    values, number = attempt.trace.values, attempt.number()
    seen: dict[int, int] = {}  # identities of the tensors, and their places among them

    def kind_of(a: Any) -> str | None:
        if type(a) in PLAIN_TENSORS:
            if id(a) in seen:
                return f"{SAME}{seen[id(a)]}"
            seen[id(a)] = len(found.tensors)
            v = attempt.value_of(a)
            if v is None:
                return None
            found.tensors.append(a)
            found.values.append(v)
            if v.epoch is not attempt.epoch:
                found.facts.append(v.meta)
                if attempt.trace.copied[0] is v and attempt.trace.copied[1] >= attempt.slot:
                    return LEAF_VALUE if v.buffer is not None else PART
                return UNREAD if unread else None
            found.facts.append(v.meta if v.slot >= attempt.slot else v.slot)
            if v.slot < attempt.slot:
                found.slots.append((len(found.facts) - 1, len(found.tensors) - 1))
            else:
                return LEAF_VALUE if v.buffer is not None else STRETCH if is_strided(v) else PART
            return OLD_PART if values[v.slot] is not v else SLOT if v.origin is None else VIEW
        if a is None or a is True or a is False:
            return repr(a)
        if number is not None:
            kind, fact = _as_number(attempt.function.numbers, a, number)
            if kind is not None:
                if any(number is t for t in found.tensors):
                    return None  # it could be either
                found.tensors.append(number)
                found.values.append(values[number.slot])
                found.facts += fact
                return kind
        if not _is_atom(a) or type(a) in _WHOLE and attempt.function.numbers == POSITION:
            return None  # positions out of NumPy keep changing
        if type(a) is slice:
            found.facts += (a.start, a.stop, a.step)
            return SLICE
        found.facts.append(_frozen(a))
        return _kind_of_atom(a)

    def kinds_of(a: Any) -> Any:
        """Of a sequence among ``*args``: of the atom, or if there are tensors in it of each of its items."""
        if not any(isinstance(item, Handle) for item in a):
            return kind_of(a)
        kinds = tuple([kind_of(item) for item in a])
        return None if None in kinds else ("[]", kinds)

    reads, last = attempt.function.reads, len(attempt.given) - 1
    for k, a in enumerate(attempt.given):
        if k == last and reads is not None:
            items = tuple([kind_of(item) for item in a])
            kind: Any = None if None in items else (reads, items)
        elif k == attempt.function.stars:
            pairs = [(name, kind_of(item)) for name, item in a.items()]
            kind = None if any(item is None for _, item in pairs) else ("**", tuple(pairs))
        elif k == attempt.function.star or type(a) in SEQUENCES and any(isinstance(item, Handle) for item in a):
            several = k == attempt.function.star
            items = tuple([kinds_of(item) if several and type(item) in SEQUENCES else kind_of(item) for item in a])
            kind = None if None in items else ("*" if several else "[]", items)
        elif type(a) is tuple and any(type(item) is slice for item in a):  # an index
            items = tuple([kind_of(item) for item in a])
            kind = None if None in items else ("()", items)
        else:
            kind = kind_of(a)
        if kind is None:
            return None
        found.kinds.append(kind)
    return found


def _as_number(meaning: str | None, a: Any, number: Number) -> tuple[str | None, tuple]:
    """The kind of an argument that a number may be, and its facts."""
    if meaning == OPERAND:
        return (INTEGER if type(a) is int else NUMBER) if type(a) is type(number.value) and a == number.value else None, ()
    if not number.length:
        return (PLACE if number.length == 0 else INDEX) if type(a) is int and a % number.size == number.value else None, (number.size,)
    fact = (number.size, number.length, number.step)
    return RANGE if start_of(a, *fact) == number.value else None, (fact,)


def _kind_of_atom(a: Any) -> str:
    kind = type(a)
    if kind is tuple or kind is list:
        return f"{INTS} {kind.__name__} {len(a)}" if 0 < len(a) <= _INTS and all(type(n) is int for n in a) else ATOM
    return ATOM if kind is slice or kind in FLOATS else EQUAL


def _is_atom(a: Any) -> bool:
    if type(a) in SEQUENCES:
        return all(map(_is_atom, a))
    if type(a) is slice:
        return _is_atom(a.start) and _is_atom(a.stop) and _is_atom(a.step)
    return type(a) in ATOMS and a == a  # NaN would never be found


def _frozen(a: Any) -> Any:
    """An atom that nobody can change: lists are copied."""
    return [_frozen(item) for item in a] if type(a) is list else a
