"""Public functions and methods are derived here from one definition each.

``@public()`` on ``def add(input, other, *, alpha=1)`` makes ``rushlight.add`` (with ``out=``), ``Tensor.add`` and, with
``inplace=True``, ``Tensor.add_``.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ..autograd.handle import Handle
from ..autograd.titles import called, entitle_written, now
from ..autograd.writing import check_overlap
from ..compile.dtypes import of_python
from ..ops.basic import clone
from ..record.trace import local
from .out import assign, check_kinds, fill_out, with_out

__all__ = ["CONVENIENCES", "FUNCTIONS", "METHODS", "public", "with_python_types", "assign", "fill_out"]

F = TypeVar("F", bound=Callable[..., Any])

_SCATTERED = frozenset(("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_reduce", "index_put"))  # in any order

FUNCTIONS: dict[str, Callable[..., Any]] = {}  # names of the public namespace
METHODS: dict[str, Callable[..., Any]] = {}    # names on Tensor
CONVENIENCES: set[str] = set()  # those that only call another method, or return the tensor itself: there is nothing to remember


def with_python_types(define: F) -> F:
    """Let ``dtype=float`` mean ``dtype=torch.float64``, and so on, if the function has such an argument."""
    code = getattr(define, "__wrapped__", define).__code__ if hasattr(getattr(define, "__wrapped__", define), "__code__") else None
    if code is None or "dtype" not in code.co_varnames[code.co_argcount:code.co_argcount + code.co_kwonlyargcount]:
        return define

    @functools.wraps(define)
    def call(*args: Any, **kwargs: Any) -> Any:
        if type(kwargs.get("dtype")) is type:
            kwargs["dtype"] = of_python(kwargs["dtype"])
        return define(*args, **kwargs)
    return call  # type: ignore[return-value]


def public(*, function: bool = True, method: bool = True, inplace: bool = False, out: bool = True, aliases: tuple[str, ...] = (),
           name: str | None = None, composite: bool = False, recorded: bool = True) -> Callable[[F], F]:
    """Publish a definition.

    Args:
        function, method: whether there is a function, a method.
        inplace: whether there is a method ``name_`` that writes the result into ``self``.
        out: whether the function takes ``out=``.
        aliases: further names for all of these.
        composite: made of several operations, whose gradients may read ``self``: the in-place method keeps a copy of it.
        recorded: whether it records anything: a call that makes ready memory has nothing that could be remembered.
    """
    def publish(define: F) -> F:
        own = name or define.__name__.rstrip("_")
        filling = with_out(define, own) if out else define
        writing = _in_place(define, own, composite) if inplace else None
        if not recorded:
            CONVENIENCES.update((own, *aliases))
        for n in (own, *aliases):
            if function:
                FUNCTIONS[n] = filling
                if writing is not None:
                    FUNCTIONS.setdefault(n + "_", writing)
            if method:
                METHODS[n] = define
            if writing is not None:
                METHODS[n + "_"] = writing
        return define
    return publish


def _in_place(define: Callable[..., Any], name: str, composite: bool) -> Callable[..., Any]:
    scattered = name in _SCATTERED
    title = getattr(define, "in_place_title", None)
    kinds = getattr(define, "in_place_of", "buifc")

    @functools.wraps(define)
    def call(*args: Any, **kwargs: Any) -> Any:  # so that the parameters are those of ``define``
        self, *others = args
        if self.dtype.kind not in kinds:
            raise RuntimeError(f"In-place {name} is not supported for complex tensors.")
        if (self._alias is not None or scattered) and name != "index_fill":  # which takes its number first
            for other in (*others, *kwargs.values()):
                if isinstance(other, Handle):
                    check_overlap(self, other, scattered)
        source = clone(self) if composite and self._edge is not None else self
        if title is None or not local.trace.grad_enabled:
            try:
                return assign(self, define(source, *others, **kwargs), name + "_")
            except NotImplementedError:
                check_kinds(self, *others, *kwargs.values())  # an error of the write comes first
                raise
        begun = now()
        assign(self, define(source, *others, **kwargs), name + "_")
        entitle_written(self, called(title, args, kwargs), begun)
        return self
    call.__name__ = name + "_"
    call.__doc__ = f"In-place version of ``{name}``."
    return call
