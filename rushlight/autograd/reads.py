"""What a method reads of its object, so that a call of it can be remembered as one of a function is (``steps.py``): as if what it reads
were arguments."""
from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Reads"]


class Reads(NamedTuple):
    """What a method reads of its object: all that its result depends on besides its arguments.

    Attributes:
        names: of attributes that are in the object's ``__dict__``.
        constants: (name, what that is) of its class, the method itself among them; the object has nothing of that name.
        functions: (place, name, function) of those that it calls and somebody may replace.
    """

    names: tuple[str, ...]
    constants: tuple[tuple[str, Any], ...]
    functions: tuple[tuple[Any, str, Any], ...]

    def __repr__(self) -> str:
        return f"reads {', '.join(self.names)}"

    def doubts(self, own: str) -> list[str]:
        """Conditions under which the method may do something else; ``own`` is the name of the object's ``__dict__``, ``owner`` that
        of its class."""
        return [*[f"{name!r} in {own} or owner.{name} is not constant{k}" for k, (name, _) in enumerate(self.constants)],
                *[f"place{k}.{name} is not function{k}" for k, (_, name, _) in enumerate(self.functions)]]

    def scope(self) -> dict[str, Any]:
        """What ``doubts`` refer to."""
        return {**{f"constant{k}": x for k, (_, x) in enumerate(self.constants)},
                **{f"{what}{k}": x for k, (place, _, f) in enumerate(self.functions) for what, x in (("place", place), ("function", f))}}

    def hold(self, own: dict[str, Any], kind: type) -> bool:
        """Whether there are no such doubts about an object."""
        return not any(name in own or getattr(kind, name) is not x for name, x in self.constants) and all(
            getattr(place, name) is f for place, name, f in self.functions)
