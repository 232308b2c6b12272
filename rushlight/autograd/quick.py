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
from types import CellType, CodeType, FunctionType
from typing import Any, TypeVar

from ..record.trace import local
from .calls import OPERAND, PLAIN_TENSORS, POSITION, Attempt, Function, search

__all__ = ["quick", "OPERAND", "PLAIN_TENSORS", "POSITION"]

F = TypeVar("F", bound=Callable[..., Any])

_SCOPE = {"__name__": __name__, "local": local, "search": search, "Attempt": Attempt}  # what the code below refers to

_ENTRY = """
def entry({parameters}):
    _trace = local.trace
    _node = _trace.node
    _last = _node.last
    if _last.function is _function:
        _step = _last.step  # not called as a method: the interpreter is quicker at slots
        _out = _step(_trace, _node.then, _last.facts{arguments})
        if _out is not None:
            return _out
    _known = search(_function, _trace, ({given}))
    if not isinstance(_known, Attempt):
        return _known
    return _known.keep(_full({passed}))
"""


def quick(full: F, numbers: str | None = None) -> F:
    """A function with the meaning of ``full``, faster where it has been called at this point of a trace before.

    Its parameters are those of ``full``, so that Python itself sorts positions, names and defaults out.

    Args:
        numbers: what a Python number is to ``full`` that keeps changing: an OPERAND, which it records as it is; a POSITION along
            a dimension; None if calls with such numbers are not to be remembered.
    """
    positional, star, named, stars, defaults, named_defaults = _parameters(full)
    code = _entry(len(positional), star is not None, len(named), stars is not None)
    names = [*positional, *named, *([star] if star else []), *([stars] if stars else [])]
    n = len(positional)
    function = Function(n if star else -1, n + (star is not None) + len(named) if stars else -1, numbers)
    code = code.replace(co_name=full.__name__, co_varnames=(*names, *code.co_varnames[len(names):]))
    free = {"_full": full, "_function": function, "_named": functools.partial(_by_name, named)}
    entry = FunctionType(code, _SCOPE, full.__name__, defaults, tuple([CellType(free[name]) for name in code.co_freevars]))
    entry.__kwdefaults__ = named_defaults
    return functools.wraps(full)(entry)  # type: ignore[return-value]


def _by_name(names: tuple[str, ...], *values: Any) -> dict[str, Any]:
    return dict(zip(names, values))


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
def _entry(positional: int, star: bool, named: int, stars: bool) -> CodeType:
    """The code of all functions with so many parameters, which have names of their own in each."""
    first = [f"p{k}" for k in range(positional)]
    last = [f"k{k}" for k in range(named)]
    parameters = [*first, *(["*args"] if star else ["*"] if last else []), *last, *(["**kwargs"] if stars else [])]
    given = [*first, *(["args"] if star else []), *last, *(["kwargs"] if stars else [])]
    passed = [*first, *(["*args"] if star else []), *([f"**_named({', '.join(last)})"] if last else []), *(["**kwargs"] if stars else [])]
    source = _ENTRY.format(parameters=", ".join(parameters), arguments="".join([", " + g for g in given]),
                           given="".join([g + ", " for g in given]), passed=", ".join(passed))
    body = "".join(["    " + line + "\n" for line in source.strip().splitlines()])
    made: dict[str, Any] = {}
    exec(compile(f"def outer(_full, _function, _named):\n{body}    return entry\n", "<quick>", "exec"), _SCOPE, made)
    return made["outer"](None, None, None).__code__
