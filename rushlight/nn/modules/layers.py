"""Layers whose calls are remembered as calls of functions are (``autograd/quick.py``), with all that is in between.

A call of a layer passes ``Module.__call__``, ``forward`` and a function before it comes to what that function recorded here before;
together that takes half as long again as recording. But the ``forward`` of most layers does nothing but hand in attributes. Where it is
marked as ``remembered``, what is looked for is the layer's own call. It is the same if what the layer has now (parameters, numbers,
``training``) is what it had then: this is compared each time, so nobody has to tell when an attribute changes. A class whose ``forward``,
or another method that this goes through, is somebody else's is no such layer, and one that gets another later is none from then on.
"""
from __future__ import annotations

import dis
import functools
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from ...autograd.calls import Attempt, Function, search, vain
from ...autograd.given import ATOMS
from ...autograd.reads import Reads
from ...record.trace import local
from ...tensor.tensor import Tensor
from .. import functional as F
from . import named
from .hooks import has_hooks

__all__ = ["NOTHING", "Functional", "call_layer", "layer_of", "layers", "remembered", "remembered_unless"]

MOST = 4096  # classes that are kept in mind


class _Nothing:
    """Where there is no attribute of a name; stands for the first argument of a call that has none."""


NOTHING = _Nothing()
ATOMS.add(_Nothing)

_marked: set[Any] = set()

#: Classes that have been called -> what is known of their calls; None: they are no layers.
layers: dict[type, Function | None] = {}


class Functional:
    """A function of ``F`` as an attribute of a class of layers. It is looked up when it is called: somebody may have replaced it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, kind: Any = None) -> Any:
        return getattr(F, self.name)


def remembered(method: Any) -> Any:
    """Marks a ``forward``, or a method that one goes through, whose result depends on nothing but its arguments, attributes of ``self``,
    functions of ``F`` and methods of arguments, and that does nothing but call these."""
    _marked.add(method)
    return method


def remembered_unless(idle: Callable[[dict[str, Any]], bool]) -> Callable[[Any], Any]:
    """The same of a ``forward`` that records nothing where ``idle(attributes of self)``: nobody looks for such calls."""
    def mark(method: Any) -> Any:
        method.idle = idle
        return remembered(method)
    return mark


def layer_of(kind: type) -> Function | None:
    """What is known of calls of a class that was not called before; None if it is no layer."""
    if len(layers) >= MOST:
        layers.clear()
    reads = _read(kind)
    layers[kind] = layer = None if reads is None else Function(1, 2, None, reads, kind)
    if layer is not None:
        layer.idle = getattr(kind.forward, "idle", None)  # type: ignore[attr-defined]
    return layer


def _read(kind: type) -> Reads | None:
    """What ``forward`` reads of modules of a class, if that is known."""
    if kind.__getattribute__ is not object.__getattribute__ or named.looked_up_by(kind) is not named.plain:  # type: ignore[comparison-overlap]
        return None
    names: dict[str, None] = {}
    constants: dict[str, Any] = {}
    functions: dict[str, tuple[Any, str, Any]] = {}
    left = ["forward"]
    while left:
        name = left.pop()
        method = constants[name] = getattr(kind, name)
        if type(method) is not FunctionType or method not in _marked:
            return None
        used, called, methods = attributes(method.__code__)
        place = method.__globals__.get("F")
        functions |= {name: (place, name, getattr(place, name)) for name in called}
        functions |= {name: (Tensor, name, getattr(Tensor, name)) for name in methods if name[0] != "_" and hasattr(Tensor, name)}
        for name in used:
            known = next((vars(c)[name] for c in kind.__mro__ if name in vars(c)), NOTHING)
            if known is NOTHING:
                names[name] = None
            elif type(known) is FunctionType:
                if name not in constants:
                    left.append(name)
            elif type(known) is Functional:
                functions[known.name] = F, known.name, getattr(F, known.name)
            elif hasattr(type(known), "__set__") or hasattr(type(known), "__delete__"):
                return None  # worked out by the class, whatever the module has
            else:
                constants[name] = getattr(kind, name)
    return Reads(tuple(names), tuple(constants.items()), tuple(functions.values()))


@functools.cache
def attributes(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """The attributes of ``self``, of ``F`` and of other arguments that a method reads.

    Raises:
        ValueError: it does something else with ``self``.
    """
    others: dict[str, None] = {}
    found: dict[str, dict[str, None]] = {**dict.fromkeys(code.co_varnames[1:code.co_argcount], others), "self": {}, "F": {}}
    last, uses = "", 0
    for instruction in dis.get_instructions(code):
        given = instruction.argval
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and last in found:
            found[last][given] = None
            uses -= last == "self"
        loads = instruction.opname.startswith(("LOAD_FAST", "LOAD_GLOBAL"))
        loaded = () if not loads else given if type(given) is tuple else (given,)
        uses += loaded.count("self")
        last = loaded[-1] if loaded else ""
    if uses or "self" in code.co_cellvars:
        raise ValueError(f"{code.co_name} in {code.co_filename} uses self for something else than attributes")
    return tuple(found["self"]), tuple(found["F"]), tuple(others)


def call_layer(layer: Function, module: Any, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module without hooks: as it was called here before, or in full. ``x`` is the first argument, ``args`` are further ones.

    Raises:
        AttributeError: its class does not call ``super().__init__()``.
    """
    own, kind = module.__dict__, type(module)
    trace = local.trace
    known = vain if layer.idle is not None and layer.idle(own) else search(layer, trace, (x, args, kwargs, own, kind))
    if not isinstance(known, Attempt):
        return known
    if "_forward_hooks" not in own:
        has_hooks(module)  # says what is missing
    if x is not NOTHING:
        args = x, *args
    if known is vain:
        return module.forward(*args, **kwargs)
    if not layer.reads.hold(own, kind):  # type: ignore[union-attr]
        layer.patience -= 1
        known.drop()
        return module.forward(*args, **kwargs)
    trace.whole = True
    trace.node.forget_latest()  # of a call from memory nobody tells what it drew
    try:
        out = module.forward(*args, **kwargs)
    except BaseException:
        known.drop()
        raise
    finally:
        trace.whole = False
    return known.keep(out)
