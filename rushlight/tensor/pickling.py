"""Copying and pickling of tensors: views of one storage stay views of one storage."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.handle import LEAF, make
from ..compile.dtypes import DType
from ..record.value import value_from_array

__all__ = ["reduce_tensor", "deepcopy_tensor", "rebuild"]


def rebuild(cls: type, flat: np.ndarray, dtype: DType, shape: tuple, strides: tuple, offset: int, requires_grad: bool, state: Any) -> Any:
    from .creation import window

    whole = make(value_from_array(flat.view(dtype.numpy)))
    t = whole if (offset == 0 and shape == whole._value.meta.shape) else window(whole, shape, strides, offset).detach()
    if cls is not type(t):
        t = t.as_subclass(cls)
    if requires_grad:
        t._edge = LEAF
    if state:
        t.__dict__.update(state)
    return t


def reduce_tensor(t: Any) -> tuple:
    _leaf_only(t, "pickle")
    whole = np.array(t.detach()._array().reshape(-1) if t.is_contiguous() else t.detach().contiguous()._array().reshape(-1))
    strides = t.contiguous().stride() if not t.is_contiguous() else t.stride()
    return rebuild, (type(t), whole.view(np.uint8) if t.dtype.name == "bfloat16" else whole, t.dtype, tuple(t.shape), strides, 0,
                     t.requires_grad, dict(t.__dict__))


def _leaf_only(t: Any, what: str) -> None:
    if not t.is_leaf:
        raise RuntimeError(f"Only Tensors created explicitly by the user (graph leaves) support the {what} protocol at the moment.  If "
                           "you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage.")


def deepcopy_tensor(t: Any, memo: dict, *, with_grad: bool = True) -> Any:
    """A copy of a leaf, its attributes and, ``with_grad``, its ``grad``."""
    if id(t) in memo:
        return memo[id(t)]
    import copy

    _leaf_only(t, "deepcopy")
    new = t.detach().clone()
    if type(t) is not type(new):
        new = new.as_subclass(type(t))
    new._edge = t._edge
    memo[id(t)] = new
    if with_grad and t._grad is not None:
        new._grad = copy.deepcopy(t._grad.detach(), memo)
    new.__dict__.update(copy.deepcopy(t.__dict__, memo))
    return new
