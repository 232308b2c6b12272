"""Tensor: the user's handle. Functions of other modules become its methods in ``rushlight/tensor/__init__.py``."""
from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..autograd.apply import alias_of, apply_view, attrs_of, value_of
from ..autograd.handle import LEAF, Handle, is_inference, make, storage_of
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops.layouts import is_in_order, looks_channels_last
from ..ops.promotion import default_dtype
from ..ops.views import as_strided
from ..record.flush import ready
from ..record.meta import CPU, Device, contiguous_strides, is_contiguous
from ..record.trace import local
from ..record.value import allocate, array_of, looks
from ..record.warn import warn
from . import printing
from .casting import converted, in_format
from .kinds import channels_last, channels_last_3d, preserve_format
from .parts import cell
from .size import Size, size_argument
from .subclassing import Subclassed, never_converted, of_class

__all__ = ["Tensor"]


_tuple: Any = tuple.__new__  # of integers already


class Tensor(Subclassed):
    """A multi-dimensional array of one dtype, with automatic differentiation.

    ``Tensor(2, 3)`` is an uninitialised float tensor of that size and ``Tensor([1, 2])`` a float tensor of that data
    (legacy constructors); new code uses ``tensor``, ``zeros``, ``empty``, ...
    """

    __slots__ = ()
    __array_priority__ = 1000  # NumPy leaves mixed arithmetic to us

    def __new__(cls, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        from .creation import _empty, from_array, legacy_array

        if len(args) == 1 and isinstance(args[0], Handle):
            made: Any = alias_of(args[0])
        elif len(args) == 1 and not isinstance(args[0], int) and not isinstance(args[0], Size):
            made = from_array(legacy_array(args[0], default_dtype()))
        else:
            made = _empty(size_argument(args) if args else (0,), default_dtype(), device, False)
        if cls is not Tensor:
            return of_class(made, cls)
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Everything was done by ``__new__``."""

    # -- description -----------------------------------------------------------------------------------------------
    @property
    def shape(self) -> Size:
        meta = self._value.meta
        try:
            return meta.size  # type: ignore[no-any-return]
        except AttributeError:
            meta.size = made = _tuple(Size, meta.shape)
            return made  # type: ignore[no-any-return]

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self._value.meta.shape[dim] if -self.ndim <= dim < self.ndim else _bad_dim(dim, self.ndim)

    @property
    def dtype(self) -> DType:
        return self._value.meta.dtype

    @property
    def device(self) -> Device:
        return self._value.meta.device

    @property
    def layout(self) -> Any:
        from .kinds import strided

        return strided

    @property
    def ndim(self) -> int:
        return len(self._value.meta.shape)

    def dim(self) -> int:
        return len(self._value.meta.shape)

    ndimension = dim

    def numel(self) -> int:
        return self._value.meta.numel

    nelement = numel

    def element_size(self) -> int:
        return self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._value.meta.nbytes

    def stride(self, dim: int | None = None) -> Any:
        m = self._value.meta
        strides = m.strides if m.strides is not None else contiguous_strides(m.shape)
        return strides if dim is None else strides[dim] if -len(strides) <= dim < len(strides) else _bad_dim(dim, len(strides))

    def storage_offset(self) -> int:
        return 0 if self._alias is None else self._alias.place()[2]

    def is_contiguous(self, memory_format: Any = None) -> bool:
        m = self._value.meta
        if memory_format is channels_last or memory_format is channels_last_3d:
            return len(m.shape) == (4 if memory_format is channels_last else 5) and is_in_order(m, memory_format.order(len(m.shape)))
        return m.strides is None or is_contiguous(m.shape, m.strides)

    def is_floating_point(self) -> bool:
        return self.dtype.kind == "f"

    def is_complex(self) -> bool:
        return self.dtype.kind == "c"

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    is_cuda = is_mps = is_xpu = is_sparse = is_quantized = is_meta = is_nested = is_mkldnn = False

    def is_inference(self) -> bool:
        """Whether this tensor was made in inference mode (``inference_mode``), or is a view of one that was."""
        return is_inference(self)

    def is_conj(self) -> bool:
        return False

    def is_neg(self) -> bool:
        return False

    def is_pinned(self) -> bool:
        return False

    def is_shared(self) -> bool:
        from .sharing import is_shared

        return is_shared(self)

    def get_device(self) -> int:
        return -1

    def __len__(self) -> int:
        if not self._value.meta.shape:
            raise TypeError("len() of a 0-d tensor")
        return self._value.meta.shape[0]

    # -- reading ---------------------------------------------------------------------------------------------------
    def _array(self) -> np.ndarray:
        """The memory as a NumPy array with this tensor's strides (runs what is pending)."""
        alias = self._alias
        if alias is None:
            ready(self._value)
            return array_of(self._value)
        root = alias.storage.value
        ready(root) if root.origin is None else _settle(root)
        if alias.parent is None:
            return array_of(root)
        shape, strides, offset = alias.place()
        d = alias.how.meta.dtype
        if 0 in shape:
            return np.empty(shape, d.numpy)
        looks.count += 1
        return root.buffer.array(d.numpy, shape, tuple(s * d.itemsize for s in strides), offset * d.itemsize)  # type: ignore[union-attr]

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """A NumPy array over the same memory.

        Raises:
            RuntimeError: the tensor requires grad, in grad mode (unless ``force``). TypeError: a dtype that NumPy lacks (bfloat16).
        """
        if not force and self.requires_grad and local.trace.grad_enabled:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.dtype is dt.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        _read_first(self._value if self._alias is None else self._alias.storage.value)
        return self._array()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __dlpack__(self, *, stream: Any = -1, max_version: tuple[int, int] | None = None, dl_device: tuple[int, int] | None = None,
                   copy: bool | None = None) -> Any:
        """A capsule of the memory for another library (``rushlight.from_dlpack``).

        Raises:
            BufferError: the tensor requires grad, or is of a dtype that NumPy lacks.
        """
        from .dlpack import exported

        return exported(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where the memory is, in DLPack's numbers: on the CPU."""
        from .dlpack import DLDeviceType

        return DLDeviceType.kDLCPU, 0

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Tensor:
        """What a NumPy function makes of this tensor becomes a tensor, too."""
        from .creation import from_numpy

        return from_numpy(np.asarray(array))  # type: ignore[no-any-return]

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        meta = self._value.meta
        if meta.numel != 1:
            raise RuntimeError(f"a Tensor with {meta.numel} elements cannot be converted to Scalar")
        kind = cell(meta.dtype)
        if kind is not None:
            read = kind.from_address
            looks.count += 1
            alias = self._alias
            if alias is None:
                return read(ready(self._value).ptr).value
            root = alias.storage.value
            if root.origin is not None:
                _settle(root)
            offset = 0 if alias.parent is None else alias.place()[2] * meta.dtype.itemsize
            return read(ready(root).ptr + offset).value
        return self._array().item() if self.dtype is not dt.bfloat16 else float(self._array().reshape(()))

    def tolist(self) -> Any:
        array = self._array()
        return (array.astype(np.float32) if self.dtype is dt.bfloat16 else array).tolist()

    def __bool__(self) -> bool:
        n = self._value.meta.numel
        if n != 1:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if n == 0 else
                               "Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self._one()._real("double").item())

    def __int__(self) -> int:
        return int(self._one()._real("int64_t").item())

    def __complex__(self) -> complex:
        return complex(self._one().item())

    def _real(self, kind: str) -> Tensor:
        if self._edge is not None and local.trace.grad_enabled:
            warn("Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\n"
                 "Consider using tensor.detach() first.", UserWarning)
        if self.dtype.kind == "c" and self.item().imag:
            raise RuntimeError(f"value cannot be converted to type {kind} without overflow")
        return self.real if self.dtype.kind == "c" else self

    def _one(self) -> Tensor:
        if self._value.meta.numel != 1:
            raise ValueError(f"only one element tensors can be converted to Python scalars, not one of {self._value.meta.numel}")
        return self

    def __index__(self) -> int:
        if self.dtype.kind not in "bui" or self.numel() != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __iter__(self) -> Iterator[Any]:
        if not self._value.meta.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))  # type: ignore[attr-defined]

    def __contains__(self, item: Any) -> bool:
        if not isinstance(item, (Handle, numbers.Number, np.generic)):
            raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(item)}.")
        return bool((self == item).any())  # type: ignore[attr-defined]

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.dim() == 0 and type(self) is Tensor else object.__format__(self, spec)

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        text = self._repr(is_parameter=False)
        return f"Parameter({text})" if self.__dict__.get("_is_param", False) else text

    def _repr(self, is_parameter: bool) -> str:
        fn = self.grad_fn
        name = None if fn is None else type(fn).__name__
        array = self._array()
        if self.dtype is dt.bfloat16:
            array = array.astype(np.float32)
        return printing.tensor_repr(array, self.dtype.name, requires_grad=self._edge is LEAF, grad_fn_name=name, device="cpu",
                                    default_dtype=default_dtype().name, is_parameter=is_parameter,
                                    class_name=self._class_name())

    def _class_name(self) -> str:
        """What is printed before the parentheses."""
        return "tensor" if type(self) is Tensor else type(self).__name__

    def __hash__(self) -> int:
        return id(self)

    def __dir__(self) -> list[str]:
        return sorted(object.__dir__(self))

    # -- memory ----------------------------------------------------------------------------------------------------
    def data_ptr(self) -> int:
        return self._address(for_good=True)

    def _address(self, for_good: bool = False) -> int:
        """Where the tensor's memory begins; ``for_good``: somebody may write there at any time from now on."""
        alias = self._alias
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

    def resize_(self, *size: Any, memory_format: Any = None) -> Tensor:
        """Another size in place; what lies in the memory stays where it is, and is filled by rows from now on.

        Raises:
            RuntimeError: the tensor requires grad.
        """
        if self._edge is not None:
            raise RuntimeError("cannot resize variables that require grad")
        shape = size_argument(size)
        if shape == self._value.meta.shape and memory_format is None:
            return self
        whole = self._whole().detach()
        order = whole._value.meta.order
        array = whole._array()
        old = (array if order is None else array.transpose(order)).reshape(-1).view(self.dtype.numpy)[self.storage_offset():]
        from ..record.meta import meta_of
        from ..record.value import new_value

        v = new_value(meta_of(shape, self.dtype, CPU))
        v.buffer = allocate(v.meta.nbytes or 1)
        n = min(old.size, v.meta.numel)
        array_of(v).reshape(-1)[:n] = old[:n]
        self._value, self._alias = v, None
        return self

    def set_(self, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Tensor:
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

    # -- conversion ------------------------------------------------------------------------------------------------
    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, copy: bool = False,
           memory_format: Any = None) -> Any:
        """Converted to a dtype, a device, or those of another tensor; the tensor itself where nothing changes."""
        for a in args:
            if isinstance(a, DType):
                dtype = a
            elif isinstance(a, type):
                dtype = a
            elif isinstance(a, Handle):
                dtype, device = a.dtype, None
            elif isinstance(a, (str, Device, int)) and not isinstance(a, bool):
                device = a
            elif a is not None and not isinstance(a, (bool, float)):
                raise TypeError(f"to() received an invalid combination of arguments: {type(a).__name__} is no dtype, device or Tensor")
        if device is not None and device is not CPU and device != "cpu":
            from .creation import check_device

            check_device(device)
        if isinstance(dtype, type):
            dtype = dt.of_python(dtype)
        m = self._value.meta
        if memory_format is None or memory_format is preserve_format:
            if dtype is None or dtype is m.dtype:
                return self.clone() if copy else self  # type: ignore[attr-defined]
            return converted(self, dtype)
        if dtype is not None and dtype is not m.dtype:
            return in_format(converted(self, dtype), memory_format)
        last = memory_format.order(len(m.shape)) is not None
        return self if not copy and last == looks_channels_last(m) else in_format(self, memory_format)

    def type(self, dtype: Any = None, non_blocking: bool = False) -> Any:
        """The name of the tensor's type, or the tensor converted to another."""
        from .kinds import type_name, type_named

        return type_name(self.dtype) if dtype is None else self.to(type_named(dtype))

    def type_as(self, other: Any) -> Any:
        dtype = other.dtype
        return self if dtype is self._value.meta.dtype else converted(self, dtype)

    def cpu(self, memory_format: Any = None) -> Any:
        return self

    def cuda(self, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Any:
        return self.to("cuda" if device is None else device)

    def pin_memory(self, device: Any = None) -> Any:
        return self

    def module_load(self, other: Any, assign: bool = False) -> Any:
        """What becomes of this tensor where ``other`` is loaded for it: a tensor over its own memory with that content, or, with
        ``assign``, one over the memory of ``other``."""
        return (other if assign else self.copy_(other)).detach()  # type: ignore[attr-defined]

    def share_memory_(self) -> Any:
        from .sharing import share

        share(self)
        return self

    # -- Python operators ------------------------------------------------------------------------------------------
    def __pos__(self) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple:
        from .pickling import reduce_tensor

        return reduce_tensor(self)

    def __copy__(self) -> Any:
        from .pickling import copy_tensor

        return copy_tensor(self)

    def __deepcopy__(self, memo: dict) -> Any:
        from .pickling import deepcopy_tensor

        return deepcopy_tensor(self, memo)

    @property
    def H(self) -> Any:
        if self.ndim not in (0, 2):
            raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor.")
        return self.adjoint() if self.ndim else self.t()  # type: ignore[attr-defined]

    @property
    def mH(self) -> Any:
        return self.adjoint()  # type: ignore[attr-defined]


def _read_first(v: Any) -> None:
    """Run what was recorded to read the memory of a ready value: who gets it now may write there."""
    from ..record.flush import flush_trace

    tr = local.trace
    if v.buffer is not None and (v.epoch is tr.epoch or id(v.buffer) in tr.windows):
        flush_trace(tr)


def _settle(v: Any) -> None:
    """Give a derived value memory of its own: it is the whole content of a storage now."""
    from ..record.flush import flush_trace

    holder = make(v)
    made = holder.clone()  # type: ignore[attr-defined]
    flush_trace(local.trace)
    v.buffer, v.origin = made._value.buffer, None


def _bad_dim(dim: int, n: int) -> Any:
    raise IndexError(f"Dimension out of range (expected to be in range of [{-max(n, 1)}, {max(n, 1) - 1}], but got {dim})")


never_converted += [Tensor.grad.__get__, Tensor._base.__get__]
