"""Python functions for each element: ``apply_``, ``map_``, ``map2_``; and small questions about tensors."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd.handle import type_name
from ..compile import dtypes as dt
from . import types
from .creation import from_array
from .registry import FUNCTIONS, METHODS, public

__all__: list[str] = []


def _replaced(self: Any, function: Callable[..., Any], name: str, *others: Any) -> Any:
    if any(t._edge is not None for t in (self, *others)):
        raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.")
    for t in others:
        if t.dtype is not self.dtype:
            raise TypeError(f"{name}(): expected all tensors to be {type_name(self.dtype)}, got {type_name(t.dtype)}")
    columns = [t.detach().expand(tuple(self.shape)).flatten().tolist() for t in (self, *others)]
    made = [function(*row) for row in zip(*columns)]
    kind = np.float32 if self.dtype is dt.bfloat16 else self.dtype.numpy
    return self.copy_(from_array(np.array(made, kind).reshape(tuple(self.shape))))


def apply_(self: Any, callable: Callable[[Any], Any]) -> Any:
    """Replace each element by ``callable(element)``. A Python call for each: slow.

    Raises:
        RuntimeError: the tensor requires grad.
    """
    return _replaced(self, callable, "apply_")


def map_(self: Any, tensor: Any, callable: Callable[[Any, Any], Any]) -> Any:
    """Replace each element by ``callable(element, the one of tensor)``, broadcast to ``self``."""
    return _replaced(self, callable, "map_", tensor)


def map2_(self: Any, x: Any, y: Any, callable: Callable[[Any, Any, Any], Any]) -> Any:
    """Replace each element by ``callable(element, the one of x, the one of y)``."""
    return _replaced(self, callable, "map2_", x, y)


@public(method=True, out=True)
def nonzero_static(input: Any, *, size: int, fill_value: int = -1) -> Any:
    """Positions of nonzero elements, (size, dimensions): the first ``size`` of them, or as many and ``fill_value``."""
    if size < 0:
        raise RuntimeError("nonzero_static: 'size' must be an non-negative integer")
    found = input.nonzero()[:size]
    rest = size - found.shape[0]
    return FUNCTIONS["cat"]([found, found.new_full((rest, found.shape[1]), fill_value)]) if rest else found


def is_set_to(self: Any, tensor: Any) -> bool:
    """Whether both tensors are the same memory, seen in the same way."""
    same = self.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr() and self.storage_offset() == tensor.storage_offset()
    return bool(same and self.shape == tensor.shape and self.stride() == tensor.stride())


def dim_order(self: Any, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dimensions from the one with the largest stride to that with the smallest.

    Raises:
        RuntimeError: ``ambiguity_check``, and there are several such orders.
    """
    strides = self.stride()
    order = sorted(range(self.ndim), key=lambda d: (-strides[d], d))
    if ambiguity_check and len(set(strides)) != len(strides):
        raise RuntimeError("The tensor does not have unique dim order, or cannot map to exact one of the given memory formats.")
    return tuple(order)


@public(method=False, out=False)
def norm_except_dim(v: Any, pow: int = 2, dim: int = 0) -> Any:
    """The norm over all dimensions but one, which are kept with length 1; all of them for ``dim=-1``."""
    if dim == -1:
        return v.norm(pow)
    return v.norm(pow, [d for d in range(v.ndim) if d != dim % v.ndim], True)


@public(method=False, out=False)
def native_dropout(input: Any, p: float, train: bool | None) -> tuple[Any, Any]:
    """(dropout, mask of what is left)."""
    if not train and train is not None or p == 0:
        return input.clone(), FUNCTIONS["ones_like"](input, dtype=dt.bool_)
    mask = FUNCTIONS["rand_like"](input.detach()) < 1 - p
    return input * mask * (1 / (1 - p) if p < 1 else 0.0), mask


FUNCTIONS["detach"] = lambda input: input.detach()
FUNCTIONS["detach_"] = lambda input: input.detach_()
FUNCTIONS["get_device"] = lambda input: input.get_device()
METHODS.update(apply_=apply_, map_=map_, map2_=map2_, is_set_to=is_set_to, dim_order=dim_order)
METHODS["is_nonzero"], METHODS["is_same_size"] = types.is_nonzero, types.is_same_size
METHODS["is_distributed"] = lambda self: False
METHODS["const_data_ptr"] = lambda self: self.data_ptr()
METHODS["storage_type"] = lambda self: type(self.storage())
METHODS["is_cpu"] = property(lambda self: True)  # type: ignore[assignment]
for _name in ("is_ipu", "is_maia", "is_mtia", "is_sparse_csr", "is_vulkan", "is_xla"):
    METHODS[_name] = property(lambda self: False)  # type: ignore[assignment]
METHODS["name"] = property(lambda self: None)  # type: ignore[assignment]
