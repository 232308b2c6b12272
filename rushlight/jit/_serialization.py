"""Reading TorchScript archives: modules with their parameters, and methods that run as they were written."""
from __future__ import annotations

import io
import os
from collections import OrderedDict
from pickle import UnpicklingError
from typing import Any

from ..io.archive import ArchiveReader, looks_like_zip
from ..io.checkpoint import storages_of
from ..io.placement import Placement
from ..io.rebuild import tensor_global
from ..io.unpickle import Callable_, RestrictedUnpickler
from ..nn.modules.module import Module
from ..nn.parameter import Parameter
from ..tensor import Tensor
from .operators import operation
from .source import Unit, translated

__all__ = ["RecursiveScriptModule", "load"]


class ScriptModule(Module):
    """A module: its methods run as they are written."""


class RecursiveScriptModule(ScriptModule):
    """A module of a TorchScript archive."""

    original_name = ""

    def extra_repr(self) -> str:
        return f"original_name={self.original_name}"

    def _get_name(self) -> str:
        return "RecursiveScriptModule"


class ScriptObject:
    """An object of a TorchScript class that is no module."""


class _Archive:
    """The classes, functions and constants of an archive, made when they are asked for."""

    def __init__(self, archive: ArchiveReader, placement: Placement) -> None:
        self.archive = archive
        self._units: dict[str, Unit | None] = {}
        self._classes: dict[str, Any] = {}
        self._functions: dict[str, Any] = {}
        self.constants: Any = self._pickle("constants", placement)

    def _pickle(self, name: str, placement: Placement) -> Any:
        storages = storages_of(self.archive, placement, name)
        return RestrictedUnpickler(io.BytesIO(self.archive.read(f"{name}.pkl")), self._global, storages, _state).load()

    def module(self, placement: Placement) -> Any:
        return self._pickle("data", placement)

    def _unit(self, path: str) -> Unit:
        if path not in self._units:
            record = f"code/{path.replace('.', '/')}.py"
            self._units[path] = Unit(self.archive.read(record).decode(), record) if record in self.archive else None
        unit = self._units[path]
        if unit is None:
            raise RuntimeError(f"the archive has no code for {path}")
        return unit

    def _global(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            kind = self.named(f"{module}.{name}")
            return Callable_(None, lambda: kind.__new__(kind))
        found = _GLOBALS.get(f"{module}.{name}") or tensor_global(f"{module}.{name}")
        if found is None:
            raise UnpicklingError(f"{module}.{name} has no meaning in a TorchScript archive")
        return found

    def op(self, name: str) -> Any:
        """What a name of the source stands for."""
        place, _, rest = name.partition(".")
        if place == "CONSTANTS":
            return self.constants[int(rest.removeprefix("c"))]
        if place == "__torch__":  # its own code may name itself: looked up when it is called
            return lambda *args, **kwargs: self.named(name)(*args, **kwargs)
        if name == "prim.GetAttr":
            return _attribute
        if name == "prim.SetAttr":
            return _set_attribute
        return operation(name)

    def named(self, name: str) -> Any:
        """A class or a function of the archive."""
        path, _, own = name.rpartition(".")
        if name in self._classes:
            return self._classes[name]
        unit = self._unit(path)
        if own in unit.classes:
            made = self._classes[name] = self._class(own, unit.classes[own], name)
            return made
        if own not in unit.functions:
            raise RuntimeError(f"the archive has no {name}")
        if name not in self._functions:
            self._functions[name] = translated(unit.functions[own], self.op, f"<{name}>")
        return self._functions[name]

    def _class(self, own: str, found: dict[str, Any], name: str) -> Any:
        if found["bases"] == ["NamedTuple"]:
            from collections import namedtuple

            return namedtuple(own, found["names"])  # type: ignore[misc]  # noqa: PYI024  (fields are known now)
        base = RecursiveScriptModule if found["bases"] == ["Module"] else ScriptObject
        made: Any = type(own, (base,), {"original_name": own, "_declared": frozenset((*found["names"], *found["methods"])),
                                        "_parameter_names": tuple(found["__parameters__"]), "_buffer_names": tuple(found["__buffers__"]),
                                        **found["constants"]})
        for method, node in found["methods"].items():
            setattr(made, method, _method(self, node, f"<{name}.{method}>"))
        return made


def _method(archive: _Archive, node: Any, where: str) -> Any:
    """A method that is translated when it is first called."""
    made: list[Any] = []

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(translated(node, archive.op, where))
        return made[0](self, *args, **kwargs)
    call.__name__ = call.__qualname__ = node.name
    return call


def _attribute(x: Any, name: str) -> Any:
    """An attribute that the class of an object of the archive declares, or a field of a tuple."""
    kind: Any = type(x)
    declared = kind._declared if hasattr(kind, "_declared") else getattr(kind, "_fields", ())
    if name not in declared:
        raise RuntimeError(f"TorchScript asks for {name} of {type(x).__name__}, which declares no such name")
    return getattr(x, name)


def _set_attribute(x: Any, name: str, value: Any) -> None:
    if name not in getattr(type(x), "_declared", ()):
        raise RuntimeError(f"TorchScript sets {name} of {type(x).__name__}, which declares no such name")
    setattr(x, name, value)


def _state(target: Any, state: Any) -> Any:
    """BUILD: what an object holds."""
    if not isinstance(target, (RecursiveScriptModule, ScriptObject)) or not isinstance(state, dict):
        raise UnpicklingError("a state that belongs to no object of the archive")
    kind: Any = type(target)
    if isinstance(target, ScriptObject):
        target.__dict__.update({k: v for k, v in state.items() if k in kind._declared})
        return target
    Module.__init__(target)
    for name, value in state.items():
        if name not in kind._declared:
            continue
        if isinstance(value, Tensor) and name in kind._parameter_names:
            target.register_parameter(name, Parameter(value.detach(), value.requires_grad))
        elif (isinstance(value, Tensor) or value is None) and name in kind._buffer_names:
            target.register_buffer(name, value)
        elif value is None and name in kind._parameter_names:
            target.register_parameter(name, None)
        elif isinstance(value, Module):
            target.add_module(name, value)
        else:
            setattr(target, name, value)
    return target


_GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": Callable_(OrderedDict), "torch.jit._pickle.restore_type_tag": Callable_(lambda value, tag: value),
    **{f"torch.jit._pickle.build_{kind}list": Callable_(list) for kind in ("int", "double", "bool", "tensor")},
}


def load(f: Any, map_location: Any = None, _extra_files: dict[str, Any] | None = None, _restore_shapes: bool = False) -> Any:
    """A module that PyTorch's ``torch.jit.save`` has written: parameters and buffers, and methods that can be called.

    Nothing of the file is run as Python: its source is read as TorchScript, whose calls are looked up in a table.

    Args:
        f: a path, or a file that can be read.
        map_location: as of ``torch.load``.
        _extra_files: names of further records -> what they hold, which is filled in.

    Raises:
        RuntimeError: no TorchScript archive, or one with code that is none.
        NotImplementedError: at a call that needs an operator that is not there.
        ValueError: there is no such file.
    """
    if isinstance(f, (str, os.PathLike)):
        path: str | None = os.fspath(f)
        if not os.path.exists(f):
            raise ValueError(f"The provided filename {f} does not exist")
        if os.path.isdir(f):
            raise ValueError(f"The provided filename {f} is a directory")
        with open(f, "rb") as file:
            data = io.BytesIO(file.read())
    else:
        path, data = None, io.BytesIO(f.read())
    if not looks_like_zip(data):
        raise RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory")
    archive = ArchiveReader(data, path)
    if "constants.pkl" not in archive:
        raise RuntimeError("PytorchStreamReader failed locating file constants.pkl: file not found: torch.load reads what torch.save wrote")
    for name in _extra_files or ():
        if f"extra/{name}" in archive:
            _extra_files[name] = archive.read(f"extra/{name}")  # type: ignore[index]
    placement = Placement(map_location)
    return _Archive(archive, placement).module(placement)


