"""Declare an operation that is not pointwise: a meta rule, a lowering to the compiler's primitives, a gradient."""
from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import apply
from ..compile.graph import told_apart
from ..compile.sizes import is_size
from ..record.meta import Meta
from ..record.op import Op, backward_name

__all__ = ["Structured", "wrap_dim", "wrap_dims"]


class Structured(Op):
    """An operation declared by functions.

    Args:
        name: as PyTorch spells it; ``grad_name`` (``SumBackward0``) follows from it unless given.
        meta: ``(metas, *attrs) -> Meta or tuple of Metas``.
        lower: ``(g, inputs, attrs, outs) -> node or sequence of nodes``; None for an operation that only has ``reference``.
        grad: ``(ctx, *grads) -> gradients of the inputs``; None: not differentiable.
        saves: ``(needs) -> (input positions, whether results)`` that ``grad`` reads, or that pair; default: everything.
        reference: ``(arrays, attrs, outs) -> arrays``, for what a library computes.
        autocast, lays: see ``Op``.
        moves: it stores or moves elements and computes with none, so that it takes floating numbers of one byte.

    Calling it records it: ``op(x, y, attrs=(...))``.
    """

    def __init__(self, name: str, *, meta: Callable[..., Any], lower: Callable[..., Any] | None = None,
                 grad: Callable[..., Any] | None = None, saves: Any = None, reference: Callable[..., Any] | None = None,
                 grad_name: Any = None, autocast: str | None = None, lays: Any = None, moves: bool = False) -> None:
        self.name = name
        self.grad_name = grad_name or backward_name(name)
        self._meta, self._grad, self._saves = meta, grad, saves
        self.differentiable = grad is not None
        self.autocast, self.lays, self.moves = autocast, lays, moves
        if lower is not None:
            self.lower = lambda g, inputs, attrs, outs: _many(lower(g, inputs, attrs, outs))  # type: ignore[method-assign]
        elif reference is None:
            raise TypeError(f"{name} needs a lowering or a reference rule")
        self.is_host = lower is None
        if reference is not None:
            self.reference = lambda inputs, attrs, outs: _many(reference(inputs, attrs, outs))  # type: ignore[method-assign]

    def __call__(self, *tensors: Any, attrs: tuple = ()) -> Any:
        return apply(self, told_apart(attrs), tensors)

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta | tuple[Meta, ...]:
        if not self.moves:
            for m in metas:
                if m.dtype.kind == "q":
                    raise NotImplementedError(f'"{self.name}" not implemented for \'{m.dtype.name.capitalize()}\'')
        return self._meta(metas, *attrs)

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool | tuple[int, ...]]:
        if self._saves is None:
            return super().saved(metas, attrs, needs)
        return self._saves(needs) if callable(self._saves) else self._saves

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        return _many(self._grad(ctx, *grads))  # type: ignore[misc]


def _many(x: Any) -> Sequence[Any]:
    return x if isinstance(x, (tuple, list)) else (x,)


def wrap_dim(dim: int, ndim: int) -> int:
    """A dimension counted from the end becomes one counted from the start.

    Raises:
        IndexError: out of range.
    """
    n = max(ndim, 1)
    if type(dim) is not int:
        dim = _whole(dim)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def _whole(dim: Any) -> Any:
    """Anything that counts as an integer as one; sizes that are being planned for stay what they are.

    Raises:
        TypeError: no integer.
    """
    if is_size(dim):
        return dim
    try:
        return operator.index(dim)
    except TypeError:
        raise TypeError(f"argument 'dim' must be int, not {type(dim).__name__}") from None


def no_dims(dims: Any) -> bool:
    """Whether dimensions are given, but none: () or []."""
    return isinstance(dims, (tuple, list)) and not dims


def wrap_dims(dims: Any, ndim: int) -> tuple[int, ...]:
    """None, () or [] means all dimensions; a number means that one.

    Raises:
        RuntimeError: a dimension appears twice.
    """
    if dims is None or no_dims(dims):
        return tuple(range(ndim))
    if ndim > 64:
        raise RuntimeError("only tensors with up to 64 dims are supported")
    if not isinstance(dims, (tuple, list)):
        dims = (dims,)
    out = tuple([wrap_dim(d, ndim) for d in dims])
    if len(set(out)) != len(out):
        raise RuntimeError(f"dim {next(d for d in out if out.count(d) > 1)} appears multiple times in the list of dims")
    return out if ndim else ()
