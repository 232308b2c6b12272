"""Named results: ``torch.return_types.max(values=..., indices=...)``, tuples whose items have names."""
from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

__all__ = ["named"]


class _Kind(type):
    """The types of named results. They are checked here and not by a ``__new__`` of theirs, so that remembered calls, which know how
    many items there are, make them in a third less time (``quickly``)."""

    _fields: tuple[str, ...]
    quickly: Any

    def __call__(cls, items: Iterable[Any]) -> Any:
        made = cls.quickly(items)
        if len(made) != len(cls._fields):
            raise TypeError(f"{cls.__name__}() takes a {len(cls._fields)}-sequence ({len(made)}-sequence given)")
        return made


class _Named(tuple, metaclass=_Kind):
    """A tuple with named items; made from a sequence, as ``structseq`` types are."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def __repr__(self) -> str:
        rows = ",\n".join(f"{name}={item!r}" for name, item in zip(self._fields, self))
        return f"torch.return_types.{type(self).__name__}(\n{rows})"

    def __reduce__(self) -> tuple:
        return _again, (type(self).__name__, self._fields, tuple(self))


def _again(name: str, fields: tuple[str, ...], items: tuple) -> Any:
    return named(name, *fields)(items)


_KNOWN: dict[str, Any] = {}


def named(name: str, *fields: str) -> Any:
    """The tuple type of a function's results."""
    found = _KNOWN.get(name)
    if found is None:
        space: dict[str, Any] = {"__slots__": (), "_fields": fields, "n_fields": len(fields), "__module__": "torch.return_types"}
        space.update({field: property(itemgetter(k)) for k, field in enumerate(fields)})
        found = _KNOWN[name] = _Kind(name, (_Named,), space)
        found.quickly = type.__call__.__get__(found)
        globals()[name] = found
    return found
