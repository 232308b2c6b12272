"""Copies of nested things with other numbers in the place of sizes."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from .dtypes import DType
from .expr import Expr, const, substitute, walk
from .graph import HostCall, Node
from .sizes import NotGeneric, Size

__all__ = ["LATE", "Sizes"]

#: Of a dataclass's field: what sizes it holds is left as it is, and asked for later, if at all.
LATE = {"late": True}

_PLAIN = (int, float, str, bool, complex, type(None), DType, Node)

Numbers = Sequence[Any]
Resize = Callable[[Numbers], Any]


class Sizes:
    """Finds the sizes in nested tuples, lists, dictionaries, formulas and dataclasses, and numbers them.

    Attributes:
        found: each size once; the numbers for ``resize`` are in this order.
    """

    def __init__(self) -> None:
        self.found: list[Size] = []
        self._number: dict[Any, int] = {}

    def number(self, size: Size) -> int:
        known = self._number.get(size.terms)
        if known is None:
            known = self._number[size.terms] = len(self.found)
            self.found.append(size)
        return known

    def resize(self, x: Any) -> Resize | None:
        """A function from numbers to a copy of ``x`` with numbers for sizes; None if it holds none.

        Raises:
            NotGeneric: ``x`` holds a function that was made for these sizes.
        """
        kind: Any = type(x)
        if kind in _PLAIN:
            return None
        if kind is Size:
            k = self.number(x)
            return lambda numbers: numbers[k]
        if kind is Expr:
            return self._formula(x)
        if isinstance(x, tuple):
            return self._sequence(x, tuple if kind is tuple else kind._make)  # type: ignore[attr-defined]
        if kind is list:
            return self._sequence(x, list)
        if kind is dict:
            return self._mapping(x)
        return self._fields(x) if _names(kind) is not None else None

    def key(self, x: Any) -> Any:
        """What ``x`` is but for its sizes, to be looked up: things with equal keys are resized in the same way."""
        kind: Any = type(x)
        if kind is int:
            return x
        if kind is Size:
            return Size, self.number(x), type(x.value)
        if kind is float:
            return float, repr(x)
        if kind is bool:
            return bool, x
        if kind in _PLAIN:
            return x
        if kind is Expr:
            return self._formula_key(x)
        if isinstance(x, (tuple, list)):
            return kind, tuple([self.key(part) for part in x])
        if kind is dict:
            return dict, tuple([(self.key(k), self.key(part)) for k, part in x.items()])
        if (names := _names(kind)) is not None:
            return kind, tuple([self.key(getattr(x, name)) for name in names])
        return x

    def _formula_key(self, x: Expr) -> Any:
        nodes = list(walk(x))
        if not any(type(n.attr) is Size for n in nodes):
            return x
        place = {n: k for k, n in enumerate(nodes)}
        return Expr, tuple([(n.fn, n.dtype, self.key(n.attr), tuple([place[a] for a in n.args])) for n in nodes])

    def _sequence(self, x: Sequence[Any], build: Callable[[list[Any]], Any]) -> Resize | None:
        parts = [(k, part) for k, part in enumerate(map(self.resize, x)) if part is not None]
        if not parts:
            return None
        plain = list(x)

        def resized(numbers: Numbers) -> Any:
            out = plain.copy()
            for k, part in parts:
                out[k] = part(numbers)
            return build(out)
        return resized

    def _mapping(self, x: dict[Any, Any]) -> Resize | None:
        keys, values = self.resize(tuple(x)), self.resize(tuple(x.values()))
        if keys is None and values is None:
            return None

        def resized(numbers: Numbers) -> Any:
            return dict(zip(x if keys is None else keys(numbers), x.values() if values is None else values(numbers)))
        return resized

    def _formula(self, x: Expr) -> Resize | None:
        constants = [(n, self.number(n.attr)) for n in walk(x) if type(n.attr) is Size]
        if not constants:
            return None

        def resized(numbers: Numbers) -> Expr:
            known = {n: const(numbers[k], n.dtype) for n, k in constants}
            return substitute((x,), known.get)[0]
        return resized

    def _fields(self, x: Any) -> Resize | None:
        if isinstance(x, HostCall) and not dataclasses.is_dataclass(x.function):
            raise NotGeneric(f"a call of {x.name or x.function}")
        kind: Any = type(x)
        fields = {name: getattr(x, name) for name in _names(kind) or ()}
        late = _late(kind)
        parts = [(name, part) for name, value in fields.items() if name not in late and (part := self.resize(value)) is not None]
        if not parts:
            return None

        def resized(numbers: Numbers) -> Any:
            out = object.__new__(kind)
            out.__dict__.update(fields)
            for name, part in parts:
                out.__dict__[name] = part(numbers)
            return out
        return resized


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass; None for other types."""
    return tuple([f.name for f in dataclasses.fields(kind)]) if dataclasses.is_dataclass(kind) else None


@functools.cache
def _late(kind: type) -> frozenset[str]:
    return frozenset([f.name for f in dataclasses.fields(kind) if f.metadata.get("late")])
