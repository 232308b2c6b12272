"""What a module holds by name: its parameters, buffers and children."""
from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["KINDS", "Named", "hold", "looked_up_by"]

KINDS = ("_parameters", "_buffers", "_modules")  # the attributes of a module that are ``Named``
_NOTHING = object()


class Named(dict[str, Any]):
    """Parameters, buffers or children of a module, by name.

    Whatever is put in becomes an entry of the module's ``__dict__`` too, where the interpreter finds it at once. Without that every
    ``self.conv1`` and ``self.weight`` would be looked for there in vain, raise an error inside the interpreter, and then be found by
    ``Module.__getattr__``: a third of a microsecond, as long as recording an operation. ``__getattr__`` still answers for what did
    not come through here. A module of a class with a ``__getattr__`` of its own is left out: it is to be asked for each name.
    """

    __slots__ = ("owners",)  # weak references to the modules: one, but copies made by ``copy.copy`` share their dictionaries

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__(items)
        self.owners: list[weakref.ref[Any]] = []

    def enter(self, module: Any) -> None:
        """What is here are attributes of the module from now on."""
        if looked_up_by(type(module)) is not plain:
            return
        self.owners = [owner for owner in self.owners if owner() not in (None, module)] + [weakref.ref(module)]
        module.__dict__.update(self)

    def leave(self, module: Any) -> None:
        """They no longer are."""
        self.owners = [owner for owner in self.owners if owner() not in (None, module)]
        for name, value in self.items():
            _take(module, name, value)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        for owner in self.owners:
            module = owner()
            if module is not None:
                module.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        value = self[name]
        super().__delitem__(name)
        for owner in self.owners:
            _take(owner(), name, value)

    def pop(self, name: str, default: Any = _NOTHING) -> Any:  # type: ignore[override]
        if name not in self and default is not _NOTHING:
            return default
        value = self[name]
        del self[name]
        return value

    def popitem(self) -> tuple[str, Any]:
        if not self:
            raise KeyError("popitem(): dictionary is empty")
        name = next(reversed(self))
        return name, self.pop(name)

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Named:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (), None, None, iter(self.items())  # to a pickle and to a deep copy it is a dictionary; see ``Module.__setstate__``


plain: Any = None  # ``Module.__getattr__``: the module of that name says so


def looked_up_by(kind: type) -> Any:
    """The function that is asked for attributes of a class's objects that are not in their ``__dict__``."""
    return getattr(kind, "__getattr__", None)


def _take(module: Any, name: str, value: Any) -> None:
    if module is not None and module.__dict__.get(name, _NOTHING) is value:
        del module.__dict__[name]


def hold(module: Any, kind: str, items: Mapping[str, Any]) -> None:
    """Make ``items`` the parameters, buffers or children of a module, in the place of those that it has."""
    own = module.__dict__
    former = own.get(kind)
    if type(former) is Named:
        former.leave(module)
    own[kind] = held = items if type(items) is Named else Named(items)
    held.enter(module)
