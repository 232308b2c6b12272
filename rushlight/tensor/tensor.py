"""Tensor: the user's handle. Functions of other modules become its methods in ``rushlight/tensor/__init__.py``."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.apply import alias_of
from ..autograd.handle import LEAF, Handle, is_inference
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops.layouts import is_in_order, looks_channels_last
from ..ops.promotion import default_dtype
from ..record.meta import CPU, Device, is_contiguous
from . import printing
from .casting import converted, in_format, moved
from .kinds import channels_last, channels_last_3d, preserve_format, type_name, type_named
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
        strides = m.strides if m.strides is not None else m.rows
        return strides if dim is None else strides[dim] if -len(strides) <= dim < len(strides) else _bad_dim(dim, len(strides))

    def storage_offset(self) -> int:
        return 0 if self._alias is None else self._alias.place()[2]

    def is_contiguous(self, memory_format: Any = None) -> bool:
        m = self._value.meta
        if memory_format is channels_last or memory_format is channels_last_3d:
            return len(m.shape) == (4 if memory_format is channels_last else 5) and is_in_order(m, memory_format.order(len(m.shape)))
        return m.strides is None or is_contiguous(m.shape, m.strides)

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        return self.dtype.kind == "c"

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    is_cuda = is_mps = is_xpu = is_sparse = is_quantized = is_nested = is_mkldnn = False

    @property
    def is_meta(self) -> bool:
        """Whether the tensor is of the device ``meta``: it has a shape and a dtype, and no memory."""
        return self._value.meta.device is not CPU

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

    # -- text and identity -----------------------------------------------------------------------------------------
    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.dim() == 0 and type(self) is Tensor else object.__format__(self, spec)

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        text = self._repr(is_parameter=False)
        return f"Parameter({text})" if self.__dict__.get("_is_param", False) else text

    def _repr(self, is_parameter: bool) -> str:
        fn = self.grad_fn
        name = None if fn is None else type(fn).__name__
        array = None if self.is_meta else self._array()
        if array is not None and self.dtype.foreign:
            array = array.astype(np.float32)
        return printing.tensor_repr(array, self.dtype.name, shape=tuple(self.shape), requires_grad=self._edge is LEAF, grad_fn_name=name,
                                    device=str(self.device), default_dtype=default_dtype().name, is_parameter=is_parameter,
                                    class_name=self._class_name())

    def _class_name(self) -> str:
        """What is printed before the parentheses."""
        return "tensor" if type(self) is Tensor else type(self).__name__

    def __hash__(self) -> int:
        return id(self)

    def __dir__(self) -> list[str]:
        return sorted(object.__dir__(self))

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
                dtype, device = a.dtype, a._value.meta.device
            elif isinstance(a, (str, Device, int)) and not isinstance(a, bool):
                device = a
            elif a is not None and not isinstance(a, (bool, float)):
                raise TypeError(f"to() received an invalid combination of arguments: {type(a).__name__} is no dtype, device or Tensor")
        if isinstance(dtype, type):
            dtype = dt.of_python(dtype)
        m = self._value.meta
        if device is not None and (m.device is not CPU or device is not CPU and device != "cpu"):
            from .creation import check_device

            where = check_device(device)
            if where is not m.device:
                return moved(self if dtype is None or dtype is m.dtype else converted(self, dtype), where)
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
        return type_name(self.dtype, self.is_meta) if dtype is None else self.to(type_named(dtype))

    def type_as(self, other: Any) -> Any:
        dtype = other.dtype
        return self if dtype is self._value.meta.dtype else converted(self, dtype)

    def cpu(self, memory_format: Any = None) -> Any:
        return self.to(CPU)

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


def _bad_dim(dim: int, n: int) -> Any:
    raise IndexError(f"Dimension out of range (expected to be in range of [{-max(n, 1)}, {max(n, 1) - 1}], but got {dim})")


never_converted += [Tensor.grad.__get__, Tensor._base.__get__]
