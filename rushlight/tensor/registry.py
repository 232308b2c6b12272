"""Public functions and methods are derived here from one definition each.

``@public()`` on ``def add(input, other, *, alpha=1)`` makes ``rushlight.add`` (with ``out=``), ``Tensor.add`` and, with
``inplace=True``, ``Tensor.add_``.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ..autograd.apply import apply, value_of
from ..autograd.handle import Handle
from ..autograd.writing import check_apart, write
from ..ops.basic import cast, clone, update_view
from ..record.warn import warn

__all__ = ["CONVENIENCES", "FUNCTIONS", "METHODS", "public", "assign", "fill_out"]

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[str, Callable[..., Any]] = {}  # names of the public namespace
METHODS: dict[str, Callable[..., Any]] = {}    # names on Tensor
CONVENIENCES: set[str] = set()  # those that only call another method, or return the tensor itself: there is nothing to remember


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
        with_out = _with_out(define, own) if out else define
        writing = _in_place(define, own, composite) if inplace else None
        if not recorded:
            CONVENIENCES.update((own, *aliases))
        for n in (own, *aliases):
            if function:
                FUNCTIONS[n] = with_out
                if writing is not None:
                    FUNCTIONS.setdefault(n + "_", writing)
            if method:
                METHODS[n] = define
            if writing is not None:
                METHODS[n + "_"] = writing
        return define
    return publish


def _with_out(define: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(define)
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is None:
            return define(*args, **kwargs)
        from ..autograd.modes import no_grad
        from ..record.trace import local

        targets = out if isinstance(out, (tuple, list)) else (out,)
        if local.trace.grad_enabled and any(t._edge is not None for t in (*args, *targets) if isinstance(t, Handle)):
            raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
                               "arguments requires grad.")
        with no_grad():
            results = define(*args, **kwargs)
            if isinstance(results, Handle):
                return fill_out(out, results, name)
            for target, result in zip(targets, results, strict=True):
                fill_out(target, result, name)
            return type(results)(targets) if hasattr(results, "_fields") or type(results) is not tuple else tuple(targets)
    call.__name__ = name
    return call


def fill_out(target: Any, result: Any, name: str) -> Any:
    """Write a result into ``out``, which is resized if its shape is another.

    Raises:
        RuntimeError: the result's dtype cannot be cast to that of ``out``.
    """
    if not isinstance(target, Handle):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(target).__name__}")
    meta = value_of(target).meta
    check_apart(target)
    if meta.shape != result._value.meta.shape:
        if meta.numel:
            warn(f"An output with one or more elements was resized since it had shape {list(target.shape)}, which does not "
                 f"match the required output shape {list(result.shape)}. This behavior is deprecated, and in a future "
                 "release outputs will not be resized unless they have zero elements.", UserWarning)
        target.resize_(result.shape)  # type: ignore[attr-defined]
    return assign(target, result, name)


_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def assign(target: Any, result: Any, name: str) -> Any:
    """``target[...] = result``, for in-place operations and ``out=``.

    Raises:
        RuntimeError: shapes differ, or the dtype would lose its category (float to integer).
    """
    meta, want = result._value.meta, value_of(target).meta
    if meta.shape != want.shape:
        raise RuntimeError(f"output with shape {list(want.shape)} doesn't match the broadcast shape {list(meta.shape)}")
    if meta.dtype is not want.dtype:
        if _RANK[meta.dtype.kind] > _RANK[want.dtype.kind]:
            raise RuntimeError(f"result type {_title(meta.dtype.name)} can't be cast to the desired output type "
                               f"{_title(want.dtype.name)}")
        result = cast(result, attrs=(want.dtype,))
    if result is target:
        return target
    alias = target._alias
    if result._value.epoch is None or result._value.buffer is not None or result._value.origin is not None or result._alias is not None \
            or (alias is not None and result._value is alias.storage.value):
        # A value that another tensor holds too keeps its own memory. Recorded only: a clone that ran at once, as one of memory
        # that NumPy sees would, could no longer become the content of the target's memory.
        result = apply(clone, (), (result,), hold=True)
    return write(target, result, name, update_view)


def _title(name: str) -> str:
    return {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long", "int32": "Int",
            "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat",
            "complex128": "ComplexDouble"}.get(name, name)


def _in_place(define: Callable[..., Any], name: str, composite: bool) -> Callable[..., Any]:
    @functools.wraps(define)
    def call(*args: Any, **kwargs: Any) -> Any:  # so that the parameters are those of ``define``
        self, *others = args
        source = clone(self) if composite and self._edge is not None else self
        return assign(self, define(source, *others, **kwargs), name + "_")
    call.__name__ = name + "_"
    call.__doc__ = f"In-place version of ``{name}``."
    return call
