"""Copying and pickling of tensors. Deep copies of tensors that share memory share memory, too, if they are made together."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.apply import alias_of, value_of
from ..autograd.handle import LEAF, make
from ..compile.dtypes import DType
from ..record.meta import META, contiguous_strides, meta_of
from ..record.value import immaterial, value_from_array
from .subclassing import of_class

__all__ = ["copy_tensor", "reduce_tensor", "deepcopy_tensor", "rebuild"]


def rebuild(cls: type, flat: np.ndarray, dtype: DType, shape: tuple, strides: tuple, offset: int, requires_grad: bool, state: Any) -> Any:
    from .creation import window

    whole = make(value_from_array(flat.view(dtype.numpy)))
    t = whole if (offset == 0 and shape == whole._value.meta.shape) else window(whole, shape, strides, offset).detach()
    if cls is not type(t):
        t = of_class(t, cls)
    if requires_grad:
        t._edge = LEAF
    if state:
        t.__dict__.update(state)
    return t


def rebuild_meta(cls: type, dtype: DType, shape: tuple, strides: tuple, requires_grad: bool, state: Any) -> Any:
    """A tensor of the device ``meta``."""
    t = make(immaterial(meta_of(shape, dtype, META, strides)))
    if cls is not type(t):
        t = of_class(t, cls)
    if requires_grad:
        t._edge = LEAF
    t.__dict__.update(state)
    return t


def reduce_tensor(t: Any) -> tuple:
    if t.is_meta:
        return rebuild_meta, (type(t), t.dtype, tuple(t.shape), t.stride(), t.requires_grad, dict(t.__dict__))
    own = value_of(t).meta.own  # without the gaps that a view may have
    array = t.detach()._array()
    whole = np.array(array if own.order is None else array.transpose(own.order)).reshape(-1)
    strides = own.strides or contiguous_strides(own.shape)
    return rebuild, (type(t), whole.view(np.uint8) if t.dtype.foreign else whole, t.dtype, tuple(t.shape), strides, 0,
                     t.requires_grad, dict(t.__dict__))


def copy_tensor(t: Any) -> Any:
    """Another tensor over the same memory: a leaf, with the attributes of ``t``."""
    new = alias_of(t, None if t._edge is None else LEAF)
    if type(t) is not type(new):
        new = of_class(new, type(t))
    new.__dict__.update(t.__dict__)
    return new


def _copied(t: Any, memo: dict) -> Any:
    """A copy of the content; of a view with all the memory that it is a view of, which copies of other views find in ``memo``."""
    alias = t._alias
    if alias is None:
        return t.clone()
    whole = memo.get(id(alias.storage))
    if whole is None:
        whole = memo[id(alias.storage)] = t._whole().clone()
        if alias.parent is None:
            return whole
    if alias.parent is None:
        return alias_of(whole)
    from .creation import window

    shape, strides, offset = alias.place()
    return window(whole, shape, strides, offset, t.dtype).detach()


def deepcopy_tensor(t: Any, memo: dict, *, parameter: bool = False) -> Any:
    """A copy of a leaf and its attributes; for all but a ``parameter``, whose copy has memory of its own, with its ``grad``.

    Raises:
        RuntimeError: the tensor was computed from others that require grad.
    """
    if id(t) in memo:
        return memo[id(t)]
    import copy

    if not t.is_leaf:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If "
                           "you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage.")
    new = t.detach().clone() if parameter else _copied(t, memo)
    if type(t) is not type(new):
        new = of_class(new, type(t))
    new._edge = t._edge
    memo[id(t)] = new
    if not parameter and t._grad is not None:
        new._grad = copy.deepcopy(t._grad.detach(), memo)
    new.__dict__.update(copy.deepcopy(t.__dict__, memo))
    return new
