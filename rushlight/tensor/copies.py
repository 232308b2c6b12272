"""Functions that are views elsewhere and copies here: ``narrow_copy``, ``permute_copy``, ..."""
from __future__ import annotations

from typing import Any

from ..autograd.titles import entitle
from ..ops import basic
from ..ops.structured import wrap_dim
from . import numbers, rearrange  # noqa: F401  (whose functions are copied)
from .kinds import contiguous_format
from .registry import FUNCTIONS, METHODS, public

__all__: list[str] = []


def _copied(view: Any, title: str | None = None) -> Any:
    """A copy of a view, whose graph node has the name of the view's."""
    made = view.clone(memory_format=contiguous_format)
    if made._edge is not None:
        entitle(made, title or f"{view.grad_fn.name()}_copy")
    return made


def _check_dim(input: Any, dim: Any, *_: Any, **__: Any) -> None:
    if len(input.shape) <= dim:
        raise RuntimeError(f"narrow_copy(): Expected dim < {len(input.shape)}, the dimensions of the input, but got {dim}")


def _copying(name: str, of: str) -> None:
    define = METHODS[of] if of in ("expand", "view", "unfold") else FUNCTIONS[of]
    title = "NarrowCopyBackward0" if of == "narrow" else None

    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        if of == "narrow":
            _check_dim(input, *args, **kwargs)
        made = define(input, *args, **kwargs)
        return tuple(_copied(t, title) for t in made) if isinstance(made, tuple) else _copied(made, title)
    call.__name__ = name
    call.__doc__ = f"``{of}`` whose result has memory of its own."
    public(method=name in ("narrow_copy",))(call)


for _of in ("expand", "view", "unfold", "permute", "transpose", "t", "squeeze", "unsqueeze", "select", "diagonal", "unbind", "split",
            "split_with_sizes", "as_strided", "narrow"):
    _copying(_of + "_copy", _of)


@public(method=False)
def alias_copy(input: Any) -> Any:
    """A copy."""
    return basic.clone.named("AliasBackward0_copy")(input)


@public(method=False)
def view_as_real_copy(input: Any) -> Any:
    """``view_as_real`` whose result has memory of its own."""
    return _copied(FUNCTIONS["view_as_real"](input))


@public(method=False)
def view_as_complex_copy(input: Any) -> Any:
    """``view_as_complex`` whose result has memory of its own."""
    return _copied(FUNCTIONS["view_as_complex"](input))


@public(method=False)
def slice_copy(input: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    """Positions ``start`` to ``end`` of a dimension, every ``step``-th, in memory of its own."""
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    return _copied(input[(slice(None),) * wrap_dim(dim, len(input.shape)) + (slice(start, end, step),)])
