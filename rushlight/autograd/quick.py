"""The quick way of calls of public functions and methods: what the same call recorded at this point of a trace before.

A public function checks its arguments, works out attributes and records an operation. Called again at the same node of
the trie, on values of the same slots and with equal other arguments, it would record the same; so the second call goes
straight to the node where the first one arrived. A node of the trie keeps the calls that were made there
(``TraceNode.calls``), the latest of them in front; each knows by itself whether a new call is the same (``steps.py``).

Only a call is remembered that recorded one operation on exactly its tensors and returned the fresh result of it, or cut its tensor
into several views (``calls.py``), or that did no more than record several operations and write in place to its arguments
(``several.py``). Everything else a function may do (read values, write to other tensors) is done anew at each call.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

from ..record.trace import here, local
from .calls import OPERAND, PLAIN_TENSORS, POSITION, Attempt, Function, search
from .handle import Handle
from .overriding import strangers

__all__ = ["at_once", "quick", "OPERAND", "PLAIN_TENSORS", "POSITION"]

F = TypeVar("F", bound=Callable[..., Any])

_IN_NUMPY = {"dim": "axis", "keepdim": "keepdims"}  # NumPy's names of parameters, which PyTorch takes as well


class _Missing:
    """Stands for a required argument that was not given."""

    def __repr__(self) -> str:
        return "<required>"


def explained(error: AttributeError, full: Any, given: tuple[Any, ...]) -> Exception:
    """The error of a call one of whose arguments was used as a tensor or dtype and is none: a TypeError that names it. Any other error
    stays as it is."""
    culprit = error.obj
    if isinstance(culprit, (Handle, ModuleType)):
        return error
    positional, star, named, stars, _, _ = _parameters(full)
    names = [*positional, *([star] if star else []), *named, *([stars] if stars else [])]
    for k, (name, value) in enumerate(zip(names, given), 1):
        if value is culprit:
            wanted = "torch.dtype" if name == "dtype" else "Tensor"
            return TypeError(f"{full.__name__}(): argument '{name}' (position {k}) must be {wanted}, not {type(culprit).__name__}")
        if name in (star, stars) and any(x is culprit for x in (value.values() if name == stars else value)):
            return TypeError(f"{full.__name__}(): an argument must be Tensor, not {type(culprit).__name__}")
    return error


MISSING = _Missing()
# What the code below refers to.
_SCOPE = {"__name__": __name__, "here": here, "local": local, "search": search, "Attempt": Attempt, "MISSING": MISSING,
          "explained": explained, "strangers": strangers}

_ENTRY = """
def entry({parameters}):
{renames}    try:
        _trace = here.trace
    except AttributeError:
        _trace = local.trace
    _node = _trace.node
    _last = _node.last
    if _last.function is _function:
        _step = _last.step  # not called as a method: the interpreter is quicker at slots
        _out = _step(_trace, _node.then, _last.facts{arguments})
        if _out is not None:
            return _out
{checks}{at_once}    _known = search(_function, _trace, ({given}))
    if not isinstance(_known, Attempt):
        return _known
    try:
        _out = _full({passed})
    except BaseException as _error:
        _known.drop()
        if not isinstance(_error, Exception):
            raise
        if strangers(({given})):
            return _function.entry({passed})
        if isinstance(_error, AttributeError):
            raise explained(_error, _full, ({given})) from None
        raise
    return _known.keep(_out)
"""


_AT_ONCE = """    _out = None if _trace.modes else _at_once(_trace{arguments})
    if _out is not None:
        return _out
"""


def at_once(find: Callable[..., Any]) -> Callable[[F], F]:
    """Decorates a function that ``quick`` gets: ``find(trace, *arguments)`` tells the result of calls that record nothing, and None for all
    others. Such calls cannot be remembered, so it is asked before anybody looks for them."""
    def decorate(full: F) -> F:
        full.at_once = find  # type: ignore[attr-defined]
        return full
    return decorate


def quick(full: F, numbers: str | None = None, numpy_names: bool = False, shown: Any = None) -> F:
    """A function with the meaning of ``full``, faster where it has been called at this point of a trace before.

    Its parameters are those of ``full``, so that Python itself sorts positions, names and defaults out.

    Args:
        numbers: what a Python number is to ``full`` that keeps changing: an OPERAND, which it records as it is; a POSITION along
            a dimension; None if calls with such numbers are not to be remembered.
        numpy_names: whether ``axis`` and ``keepdims`` are further names of ``dim`` and ``keepdim``.
        shown: the function that classes with ``__torch_function__`` are told, if that is another.
    """
    positional, star, named, stars, defaults, named_defaults = _parameters(full)
    own, n = (*positional, *named), len(positional)
    renamed = tuple([k for k, name in enumerate(own) if numpy_names and name in _IN_NUMPY and _IN_NUMPY[name] not in own])
    further = [_IN_NUMPY[own[k]] for k in renamed]
    # What comes by another name is missing by its own, and so may be what stands after it.
    required = n - len(defaults or ())
    first = min([k for k in renamed if k < required], default=required)
    defaults = (*[MISSING] * (required - first), *(defaults or ()))
    usual = {**(named_defaults or {}), **dict(zip(positional[n - len(defaults):], defaults))}
    another = tuple([functools.partial(_by_another_name, full.__name__, usual[own[k]], _IN_NUMPY[own[k]]) for k in renamed])
    find = getattr(full, "at_once", None)
    code = _entry(n, star is not None, len(named), stars is not None, renamed, tuple(range(first, required)), find is not None)
    names = [*own, *further, *([star] if star else []), *([stars] if stars else [])]
    function = Function(n if star else -1, n + (star is not None) + len(named) if stars else -1, numbers)
    code = code.replace(co_name=full.__name__, co_varnames=(*names, *code.co_varnames[len(names):]))
    free = {"_full": full, "_function": function, "_named": functools.partial(_by_name, named),
            "_given": functools.partial(_without_missing, positional), "_another": another, "_at_once": find}
    entry = FunctionType(code, _SCOPE, full.__name__, defaults or None, tuple([CellType(free[name]) for name in code.co_freevars]))
    entry.__kwdefaults__ = {**(named_defaults or {}), **dict.fromkeys(further)} or None
    function.entry = functools.wraps(full)(entry)
    function.shown = shown or entry
    return entry  # type: ignore[return-value]


def _by_name(names: tuple[str, ...], *values: Any) -> dict[str, Any]:
    return dict(zip(names, values))


def _by_another_name(function: str, default: Any, name: str, value: Any, given: Any) -> Any:
    """What was ``given`` for a parameter by another ``name`` of it, if nothing was by its own (its ``value``)."""
    if value is not default:
        raise TypeError(f"{function}() got an unexpected keyword argument '{name}'")
    return given


def _without_missing(names: tuple[str, ...], *values: Any) -> dict[str, Any]:
    return {name: value for name, value in zip(names, values) if value is not MISSING}


def _parameters(f: Any) -> tuple[tuple[str, ...], str | None, tuple[str, ...], str | None, Any, Any]:
    """Names of the positional parameters, of ``*args``, of those with names only, of ``**kwargs``; and the defaults. A wrapper that
    passes everything on has those of the function that it wraps."""
    code = f.__code__
    names, n, m = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    star, stars = bool(code.co_flags & 4), bool(code.co_flags & 8)
    if star and stars and not n and hasattr(f, "__wrapped__"):
        inner = _parameters(f.__wrapped__)
        return (*inner[:2], (*inner[2], *names[:m]), inner[3], inner[4], {**(inner[5] or {}), **(f.__kwdefaults__ or {})} or None)
    return (names[:n], names[n + m] if star else None, names[n:n + m], names[n + m + star] if stars else None,
            f.__defaults__, f.__kwdefaults__)


@functools.cache
def _entry(positional: int, star: bool, named: int, stars: bool, renamed: tuple[int, ...], required: tuple[int, ...],
           finds: bool) -> CodeType:
    """The code of all functions with so many parameters, which have names of their own in each; those at ``renamed`` have two, and
    those at ``required`` are required though they have a default. ``finds``: see ``at_once``."""
    first = [f"p{k}" for k in range(positional)]
    last = [f"k{k}" for k in range(named)]
    own = [*first, *last]
    only_named = [*last, *[f"{own[k]}_too" for k in renamed]]
    parameters = [*first, *(["*args"] if star else ["*"] if only_named else []), *only_named, *(["**kwargs"] if stars else [])]
    given = [*first, *(["args"] if star else []), *last, *(["kwargs"] if stars else [])]
    by_name = [*([f"**_named({', '.join(last)})"] if last else []), *(["**kwargs"] if stars else [])]
    passed = [*first, *(["*args"] if star else []), *by_name]
    renames = "".join([f"    if {own[k]}_too is not None:\n        {own[k]} = _another[{j}]({own[k]}, {own[k]}_too)\n"
                       for j, k in enumerate(renamed)])
    checks = ""
    if required:  # the function itself says which argument is missing
        missing = " or ".join([f"p{k} is MISSING" for k in required])
        rest = ", ".join([f"**_given({', '.join(first)})", *by_name])
        checks = f"    if {missing}:\n        return _full({rest})\n"
    arguments = "".join([", " + g for g in given])
    source = _ENTRY.format(parameters=", ".join(parameters), arguments=arguments, renames=renames, checks=checks,
                           at_once=_AT_ONCE.format(arguments=arguments) if finds else "", given="".join([g + ", " for g in given]),
                           passed=", ".join(passed))
    body = "".join(["    " + line + "\n" for line in source.strip().splitlines()])
    made: dict[str, Any] = {}
    source = f"def outer(_full, _function, _named, _given, _another, _at_once):\n{body}    return entry\n"
    exec(compile(source, "<quick>", "exec"), _SCOPE, made)
    return made["outer"](*[None] * 6).__code__
