"""Where a tensor's elements lie: its memory as an array, its storage, other views and sizes of it."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.apply import alias_of, apply_view, attrs_of, value_of
from ..autograd.handle import LEAF, make, storage_of
from ..compile.dtypes import DType
from ..ops.views import as_strided
from ..record.flush import flush_trace, ready
from ..record.meta import CPU, contiguous_strides, is_contiguous, meta_of
from ..record.trace import local
from ..record.value import allocate, array_of, looks, new_value
from .differentiable import Differentiable
from .size import size_argument

__all__ = ["Stored", "settle"]


class Stored(Differentiable):
    """The part of ``Tensor`` that knows its memory."""

    __slots__ = ()

    def _array(self) -> np.ndarray:
        """The memory as a NumPy array with this tensor's strides (runs what is pending)."""
        alias = self._alias
        if alias is None:
            ready(self._value)
            return array_of(self._value)
        root = alias.storage.value
        ready(root) if root.origin is None else settle(root)
        if alias.parent is None:
            return array_of(root)
        shape, strides, offset = alias.place()
        d = alias.how.meta.dtype
        if 0 in shape:
            return np.empty(shape, d.numpy)
        looks.count += 1
        return root.buffer.array(d.numpy, shape, tuple(s * d.itemsize for s in strides), offset * d.itemsize)  # type: ignore[union-attr]

    def data_ptr(self) -> int:
        return self._address(for_good=True)

    def _address(self, for_good: bool = False) -> int:
        """Where the tensor's memory begins; ``for_good``: somebody may write there at any time from now on."""
        alias = self._alias
        if self._value.meta.device is not CPU:
            return 0
        if alias is None:
            buffer = ready(self._value)
        else:
            self._array()
            buffer = alias.storage.value.buffer  # type: ignore[assignment]
        buffer.packed = () if for_good or buffer.packed == () else None
        if alias is None:
            return buffer.ptr if self.numel() else 0
        return buffer.ptr + self.storage_offset() * self.dtype.itemsize

    def untyped_storage(self) -> Any:
        from .storage import UntypedStorage

        return UntypedStorage(self)

    def storage(self) -> Any:
        from .storage import TypedStorage

        return TypedStorage(self)

    def _whole(self) -> Any:
        """A tensor over the whole storage."""
        alias = storage_of(self)
        while alias.parent is not None:
            alias = alias.parent
        whole = make(alias.storage.value)
        whole._alias = alias
        return whole

    def _as_strided(self, size: tuple[int, ...], stride: tuple[int, ...], offset: int | None) -> Any:
        if len(size) != len(stride):
            raise RuntimeError(f"mismatch in length of strides and shape: {list(size)} and {list(stride)}")
        if any(s < 0 for s in stride):
            raise RuntimeError("as_strided: Negative strides are not supported at the moment, got strides: "
                               f"{list(stride)}")
        if offset is None:
            offset = self.storage_offset()
        alias = storage_of(self)
        value_of(self)
        base = self if alias.parent is None or self._edge is not None and (alias.base is None or alias.base._edge is None) else alias.base
        if base is None or base._alias is None:
            base = self._whole()
        whole = alias.storage.value.meta
        last = offset + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else -1
        if last >= whole.nbytes // self.dtype.itemsize:
            raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize "
                               f"{self.dtype.itemsize} requiring a storage size of {(last + 1) * self.dtype.itemsize} are out of bounds "
                               f"for storage of size {whole.nbytes}")
        if base._alias.parent is not None:  # a part that was detached, whose history views have
            shape, strides, begin = base._alias.place()
            if self.dtype is whole.dtype is base.dtype and is_contiguous(shape, strides) and (
                    begin <= offset <= last < begin + base.numel()):
                return apply_view(as_strided, (size, stride, offset - begin), base)
            if base._edge is not None and last >= begin and offset < begin + base.numel():
                raise RuntimeError(f"as_strided: elements {offset} to {last} of the storage are not all in the tensor that requires grad, "
                                   f"of size {list(shape)}, strides {list(strides)} and storage offset {begin}, or that is not contiguous")
            base = self._whole()
        return apply_view(as_strided, attrs_of((size, stride, offset), value_of(base), self.dtype), base)

    def _view_dtype(self, d: DType) -> Any:
        """The same bytes as another type (a copy of the bytes is shared only for arrays that are ready)."""
        from .creation import from_numpy

        if d is self.dtype:
            return alias_of(self, self._edge)
        array = self.detach()._array()
        if d.itemsize != self.dtype.itemsize and (not array.shape or not self.is_contiguous() or array.nbytes % d.itemsize
                                                  or array.shape[-1] * self.dtype.itemsize % d.itemsize):
            raise RuntimeError(f"self.size(-1) must be divisible by {d.itemsize // self.dtype.itemsize or 1} to view {self.dtype} as {d}")
        return from_numpy(array.view(d.numpy))

    def resize_(self, *size: Any, memory_format: Any = None) -> Any:
        """Another size in place; what lies in the memory stays where it is, and is filled by rows from now on.

        Raises:
            RuntimeError: the tensor requires grad.
        """
        if self._edge is not None:
            raise RuntimeError("cannot resize variables that require grad")
        shape = size_argument(size)
        if shape == self._value.meta.shape and memory_format is None:
            return self
        if self._value.meta.device is not CPU:
            from .creation import no_memory

            self._value, self._alias = no_memory(shape, self.dtype)._value, None
            return self
        whole = self._whole().detach()
        order = whole._value.meta.order
        array = whole._array()
        old = (array if order is None else array.transpose(order)).reshape(-1).view(self.dtype.numpy)[self.storage_offset():]
        v = new_value(meta_of(shape, self.dtype, CPU))
        v.buffer = allocate(v.meta.nbytes or 1)
        n = min(old.size, v.meta.numel)
        array_of(v).reshape(-1)[:n] = old[:n]
        self._value, self._alias = v, None
        return self

    def set_(self, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Any:
        """Become another tensor's memory.

        Raises:
            RuntimeError: a leaf that requires grad, in grad mode.
        """
        if local.trace.grad_enabled and self._edge is LEAF:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        other = make(self._value) if source is None else source
        if size is not None:
            other = other._as_strided(tuple(size), tuple(stride or contiguous_strides(tuple(size))), storage_offset)
        else:
            storage_of(other)
        fresh = alias_of(other)
        self._value, self._alias = fresh._value, fresh._alias
        return self


def settle(v: Any) -> None:
    """Give a derived value memory of its own: it is the whole content of a storage now."""
    holder = make(v)
    made = holder.clone()  # type: ignore[attr-defined]
    flush_trace(local.trace)
    v.buffer, v.origin = made._value.buffer, None
