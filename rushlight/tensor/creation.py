"""Making tensors: from data, and filled."""
from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from operator import is_
from typing import Any

import numpy as np

from ..autograd.apply import apply_view, attrs_of, value_of
from ..autograd.handle import LEAF, Handle, make
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops.basic import filled
from ..ops.layouts import in_order_meta
from ..ops.pointwise import tag
from ..ops.promotion import default_dtype
from ..ops.views import as_strided
from ..record.meta import CPU, META, Device, NoSuchDevice, meta_of
from ..record.trace import local
from ..record.value import allocate, immaterial, new_value, value_from_array
from ..record.warn import warn
from .few import few_numbers
from .kinds import contiguous_format
from .registry import METHODS, public
from .scalars import check_fits, check_number
from .size import size_argument, size_given

__all__ = ["tensor", "as_tensor", "from_numpy", "from_array", "beside", "full", "check_device", "finish", "no_memory", "placed"]

_SEQUENCES = (list, tuple, range)  # what nested data is made of


def check_device(device: Any) -> Device:
    """The device asked for, CPU or META; for None, the one on which tensors are made at the moment.

    Raises:
        NoSuchDevice, RuntimeError: a device that this machine or this build lacks.
    """
    if device is None:
        return local.trace.device
    if device is CPU:
        return CPU
    device = Device(device)
    if device.type == "cpu":
        return CPU
    if device.type == "meta":
        return META
    if device.type in ("cuda", "xpu"):
        raise NoSuchDevice(device.type)
    raise RuntimeError(f"device '{device}' is not available; Rushlight runs on the CPU here")


def no_memory(size: Sequence[int], dtype: DType | None, requires_grad: bool = False, order: tuple[int, ...] | None = None) -> Any:
    """A tensor of the device ``meta``, of which there is no memory."""
    if any(n < 0 for n in size):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(size)}: {list(size)}")
    return finish(make(immaterial(in_order_meta(meta_of(tuple(size), dtype or default_dtype(), META), order))), requires_grad)


def placed(t: Any, device: Device) -> Any:
    """A tensor that was made on the CPU, where ``check_device`` says that it is to be."""
    return t if device is CPU else no_memory(t._value.meta.shape, t._value.meta.dtype)


def finish(t: Any, requires_grad: bool) -> Any:
    """A tensor that has been made, which is to require grad or not.

    Raises:
        TypeError: ``requires_grad`` is no bool. RuntimeError: the dtype has no gradients.
    """
    if requires_grad is not False:
        if requires_grad is not True:
            if requires_grad is None:
                return t
            raise TypeError(f"argument 'requires_grad' must be bool, not {type(requires_grad).__name__}")
        if t.dtype.kind not in "fc":
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        t._edge = LEAF
    return t


def from_array(array: np.ndarray, requires_grad: bool = False) -> Any:
    """A tensor with a copy of the content."""
    return finish(make(value_from_array(array)), requires_grad)


def number_like(data: Any, dtype: DType) -> Any:
    """A tensor of what is assigned to a part of a tensor of this dtype: a number, or nested lists of them (which PyTorch refuses)."""
    v = few_numbers(data, dtype)
    if v is not None:
        return make(v)
    if isinstance(data, numbers.Number):
        check_fits(data, dtype)
        data = data.real if isinstance(data, complex) and dtype.kind != "c" else data
    elif not isinstance(data, (np.bool_, *_SEQUENCES)):
        raise TypeError(f"can't assign a {type(data).__name__} to a tensor of {dtype}")
    return from_array(array_from(data, dtype))


def from_owned(array: np.ndarray) -> Any:
    """A tensor over a fresh row-major array that nobody else holds."""
    if not array.flags.c_contiguous or not array.flags.writeable:
        return from_array(array)
    return make(value_from_array(array, copy=False))


@public(method=False, out=False, recorded=False)
def from_numpy(ndarray: np.ndarray) -> Any:
    """A tensor that shares memory with a NumPy array.

    Raises:
        TypeError: not an array, or a dtype without counterpart. ValueError: negative strides.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    d = dt.from_numpy(ndarray.dtype)
    if ndarray.dtype.byteorder not in "=|" and ndarray.dtype != d.numpy:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between byte orders is "
                         "currently not supported.")
    if ndarray.ndim and min(ndarray.strides) < 0:
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not "
                         "currently supported. (You can probably work around this by making a copy of your array  with array.copy().)")
    if ndarray.flags.c_contiguous and ndarray.flags.aligned:
        return make(value_from_array(ndarray, copy=False))
    if any(s % ndarray.itemsize for s in ndarray.strides):
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate the "
                         "memory.")
    # A view of the stretch of memory between its first and last element.
    strides = tuple(s // ndarray.itemsize for s in ndarray.strides)
    span = 1 + sum((n - 1) * s for n, s in zip(ndarray.shape, strides)) if ndarray.size else 0
    flat = np.lib.stride_tricks.as_strided(ndarray, (span,), (ndarray.itemsize,))
    whole = value_from_array(flat, copy=False)
    meta = meta_of(ndarray.shape, d, CPU, strides)
    if meta.order is not None:  # no gaps
        whole.meta = meta
        return make(whole)
    return window(make(whole), ndarray.shape, strides, 0)


def window(whole: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, dtype: DType | None = None) -> Any:
    """A view of a whole storage by strides, which may show complex numbers as their parts, or parts as complex numbers."""
    return apply_view(as_strided, attrs_of((shape, strides, offset), value_of(whole), dtype or whole.dtype), whole)


def _dtype_of(data: Any) -> DType | None:
    """The dtype of nested Python data: bool, int64, default floating or complex; None where it has no number."""
    found: DType | None = None
    stack = [data]
    while stack:
        x = stack.pop()
        if isinstance(x, _SEQUENCES):
            stack.extend(x)
            continue
        if isinstance(x, Handle):
            kind: DType = x.dtype
        elif isinstance(x, np.generic) or isinstance(x, np.ndarray):
            kind = dt.from_numpy(x.dtype)
        elif isinstance(x, bool):
            kind = dt.bool_
        elif isinstance(x, int):
            kind = dt.int64
        elif isinstance(x, float):
            kind = default_dtype()
        elif isinstance(x, complex):
            kind = default_dtype().to_complex()
        else:
            if isinstance(x, (str, bytes)):
                first = data
                while isinstance(first, (list, tuple)) and first:
                    first = first[0]
                raise ValueError("too many dimensions 'str'") if first is x and x is not data and isinstance(x, str) else TypeError(
                    f"new(): invalid data type '{type(x).__name__}'")
            raise RuntimeError(f"Could not infer dtype of {type(x).__name__}")
        if found is None or found is kind:
            found = kind
        else:
            from ..ops.promotion import promote_types

            found = promote_types(found, kind)
    return found


def array_from(data: Any, dtype: DType | None) -> np.ndarray:
    """Nested sequences of numbers (or tensors, arrays) as a NumPy array of the dtype PyTorch would choose."""
    if isinstance(data, np.ndarray):
        d = dtype or dt.from_numpy(data.dtype)
        return convert(data, d)
    if isinstance(data, np.generic):
        return convert(np.asarray(data), dtype or dt.from_numpy(data.dtype))
    plain_numbers = _plain_numbers(data)
    if plain_numbers is not None:
        if dtype is not None and dtype.kind in "iu" and plain_numbers.dtype.kind in "if" and plain_numbers.size:
            for extreme in (plain_numbers.min(), plain_numbers.max()):  # a NaN is both
                check_fits(extreme.item(), dtype)
        return convert(plain_numbers, dtype or (default_dtype() if plain_numbers.dtype == np.float64 else
                                                dt.from_numpy(plain_numbers.dtype)))
    data = _as_lists(data)
    d = dtype or _dtype_of(data) or default_dtype()
    plain = _plain(data)
    if d.kind in "iu" and not isinstance(plain, np.ndarray):
        _check_range(plain, d)
    try:
        with np.errstate(all="ignore"):
            wide = np.asarray(plain, None if isinstance(plain, _SEQUENCES) and plain or isinstance(plain, int) else d.compute.numpy)
    except (ValueError, OverflowError) as error:
        raise _ragged(plain, error) from None
    if wide.dtype == object:
        raise _ragged(plain, ValueError("could not convert"))
    return convert(wide, d)


def _as_lists(data: Any) -> Any:
    """Nested data where every sequence that is none of ours (a deque, an array of Python's, a class with ``__getitem__``) is a list."""
    if isinstance(data, _SEQUENCES):
        parts = [_as_lists(x) for x in data]
        return data if all(map(is_, parts, data)) else parts
    if isinstance(data, (Handle, np.ndarray, np.generic, numbers.Number, dict, str, bytes)):
        return data
    kind = type(data)
    return [_as_lists(x) for x in data] if hasattr(kind, "__getitem__") and hasattr(kind, "__len__") else data


def legacy_array(data: Any, dtype: DType) -> np.ndarray:
    """The data of a legacy constructor: ``torch.FloatTensor([1, 2])``.

    Raises:
        TypeError: no sequence.
    """
    if isinstance(data, (str, bytes)):
        raise TypeError(f"new(): invalid data type '{type(data).__name__}'")
    if not isinstance(data, (*_SEQUENCES, np.ndarray)) and not hasattr(data, "__len__"):
        raise TypeError(f"new(): data must be a sequence (got {type(data).__name__})")
    return array_from(data, dtype)


def _plain_numbers(data: Any) -> np.ndarray | None:
    """Nested lists that hold nothing but Python's bools, integers or floats, in one go; None for anything else."""
    first = data
    while isinstance(first, _SEQUENCES) and first:
        first = first[0]
    if type(first) not in (bool, int, float) or first is data:
        return None
    try:
        array = np.asarray(data)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None  # ragged, or not numbers throughout: the careful way tells what is wrong
    return array if array.dtype in (np.bool_, np.int64, np.float64) and not _hidden_arrays(data, array.ndim) else None


def _hidden_arrays(data: Any, depth: int) -> bool:
    """Whether rows of nested lists are arrays or tensors, whose own dtypes count."""
    if depth <= 1:
        return any(type(x) not in (bool, int, float) for x in data) if isinstance(data, _SEQUENCES) else True
    return any(not isinstance(row, _SEQUENCES) or _hidden_arrays(row, depth - 1) for row in data)


def convert(array: np.ndarray, d: DType) -> np.ndarray:
    """A cast as PyTorch casts: floats to integers truncate, out of range wraps."""
    if array.dtype == d.numpy:
        return array
    with np.errstate(all="ignore"):
        if d.kind == "b":
            return array != 0
        if array.dtype.kind == "c" and d.kind != "c":
            array = array.real
        if array.dtype.kind == "f" and d.kind in "iu" and d.itemsize < 8:
            return array.astype(np.int64).astype(d.numpy)
        return d.rounded(array)


def _plain(data: Any) -> Any:
    if isinstance(data, Handle):  # among others, one element counts as a number, whatever its shape
        array: np.ndarray = data.detach().numpy()  # type: ignore[attr-defined]
        return array.reshape(()) if array.size == 1 else array
    if isinstance(data, _SEQUENCES):
        if any(isinstance(x, (Handle, *_SEQUENCES, np.ndarray)) for x in data):
            return [_plain(x) for x in data]
        return list(data)
    return data


def _check_range(data: Any, d: DType) -> None:
    stack = [data]
    while stack:
        x = stack.pop()
        if isinstance(x, _SEQUENCES):
            stack.extend(x)
        elif isinstance(x, int) and not -2**63 <= x < 2**64:
            raise ValueError("Overflow when unpacking long long")
        elif isinstance(x, (int, float)):
            check_fits(x, d)


def _ragged(data: Any, error: Exception) -> Exception:
    """The error for nested lists that do not make a box: which lengths clash, and where."""
    level, d = [data], 0
    while level and all(isinstance(x, _SEQUENCES) for x in level):
        lengths = {len(x) for x in level}
        if len(lengths) > 1:
            expected = len(level[0])
            other = next(len(x) for x in level if len(x) != expected)
            return ValueError(f"expected sequence of length {expected} at dim {d} (got {other})")
        level, d = [y for x in level for y in x], d + 1
    if any(isinstance(x, _SEQUENCES) for x in level):
        return TypeError(f"not a sequence: at dim {d} some entries are numbers and some are lists")
    return error if isinstance(error, (TypeError, RuntimeError)) else ValueError(str(error))


@public(method=False, out=False, recorded=False)
def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A new leaf tensor with a copy of ``data`` (numbers, nested sequences, arrays, tensors).

    Example:
        >>> tensor([[1, 2], [3, 4]])
        tensor([[1, 2],
                [3, 4]])
    """
    where = check_device(device)
    if dtype is not None and not isinstance(dtype, DType):
        raise TypeError(f"tensor(): argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
    if isinstance(data, Handle):
        warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
             "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
             UserWarning)
        made = data.detach().clone() if device is None else data.detach().to(where, copy=True)  # type: ignore[attr-defined]
        return finish(made if dtype is None else made.to(dtype), requires_grad)
    if where is not CPU:
        return finish(placed(from_array(array_from(data, dtype)), where), requires_grad)
    first = data[0] if type(data) is list and data else data
    v = few_numbers(data, dtype or (default_dtype() if type(first) is float else dt.int64))
    return from_array(array_from(data, dtype), requires_grad) if v is None else finish(make(v), requires_grad)


@public(method=False, out=False, recorded=False)
def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Any:
    """``data`` as a tensor; without a copy where it is a tensor or array of that dtype already."""
    where = check_device(device)
    if isinstance(data, Handle):
        if device is not None and data._value.meta.device is not where:
            return data.to(where, dtype)  # type: ignore[attr-defined]
        return data if dtype is None or data.dtype is dtype else data.to(dtype)  # type: ignore[attr-defined]
    if where is not CPU:
        return placed(from_array(array_from(data, dtype)), where)
    if isinstance(data, np.ndarray) and (dtype is None or dt.from_numpy(data.dtype) is dtype) and all(s >= 0 for s in data.strides):
        return from_numpy(data)
    return from_array(array_from(data, dtype))


# -- filled -------------------------------------------------------------------------------------------------------


def _filled(size: Sequence[int], number: Any, dtype: DType | None, device: Any, requires_grad: bool) -> Any:
    if check_device(device) is not CPU:
        return no_memory(size, dtype, requires_grad)
    if any(n < 0 for n in size):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(size)}: {list(size)}")
    return finish(filled(tuple(size), tag(number), dtype or default_dtype()), requires_grad)


def beside(t: Any, device: Any) -> Any:
    """The device of a tensor that is made like another one."""
    return t._value.meta.device if device is None else device


def _maker(name: str, number: Any) -> Any:
    def call(*shape: Any, size: Any = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None, names: Any = None) -> Any:
        return _filled(size_given(name, shape, size), number, dtype, device, requires_grad)

    def new(self: Any, *shape: Any, size: Any = None, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
            layout: Any = None, pin_memory: bool = False) -> Any:
        return _filled(size_given("new_" + name, shape, size), number, dtype or self.dtype, beside(self, device), requires_grad)
    call.__name__, new.__name__ = name, "new_" + name
    call.__doc__ = f"A tensor of {name} of the given size."
    public(method=False)(call)
    METHODS["new_" + name] = new
    return call


zeros, ones = _maker("zeros", 0), _maker("ones", 1)


def _empty(size: tuple[int, ...], dtype: DType | None, device: Any, requires_grad: bool, order: tuple[int, ...] | None = None) -> Any:
    """Memory as it is, with the dimensions in an order (None: by rows). (It is ready at once: nothing is recorded.)"""
    if check_device(device) is not CPU:
        return no_memory(size, dtype, requires_grad, order)
    if any(n < 0 for n in size):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(size)}: {list(size)}")
    v = new_value(in_order_meta(meta_of(size, dtype or default_dtype(), CPU), order))
    v.buffer = allocate(v.meta.nbytes or 1)
    return finish(make(v), requires_grad)


@public(method=False, out=False, recorded=False)
def empty(*shape: Any, size: Any = None, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
          pin_memory: bool = False, memory_format: Any = None, out: Any = None) -> Any:
    """A tensor of undefined content."""
    wanted = size_given("empty", shape, size)
    order = None if memory_format in (None, contiguous_format) else memory_format.order(len(wanted))
    if out is not None:
        if not isinstance(out, Handle):
            raise TypeError(f"empty(): argument 'out' must be Tensor, not {type(out).__name__}")
        if dtype is not None and dtype is not out.dtype:
            raise RuntimeError(f"dtype {dtype} does not match dtype of out parameter ({out.dtype})")
        return out.resize_(wanted)  # type: ignore[attr-defined]
    return _empty(wanted, dtype, device, requires_grad, order)


@public(method=False, out=False, recorded=False)
def empty_strided(size: Any, stride: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
                  requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A tensor of undefined content with the given strides."""
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride):
        raise RuntimeError(f"dimensionality of sizes ({len(size)}) must match dimensionality of strides ({len(stride)})")
    if any(n < 0 for n in (*size, *stride)):
        raise RuntimeError(f"empty_strided(): negative numbers among sizes={list(size)} and strides={list(stride)}")
    span = 1 + sum((n - 1) * s for n, s in zip(size, stride)) if math.prod(size) else 0
    return finish(window(_empty((span,), dtype, device, False), size, stride, 0), requires_grad)


METHODS["new_empty"] = lambda self, *shape, size=None, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False: \
    _empty(size_given("new_empty", shape, size), dtype or self.dtype, beside(self, device), requires_grad)
METHODS["new_empty_strided"] = lambda self, size, stride, dtype=None, device=None, requires_grad=False, layout=None, \
    pin_memory=False: empty_strided(size, stride, dtype=dtype or self.dtype, device=beside(self, device), requires_grad=requires_grad)
METHODS["new_tensor"] = lambda self, data, *, dtype=None, device=None, requires_grad=False: finish(placed(
    from_array(array_from(data, dtype or self.dtype)), check_device(beside(self, device))) if not isinstance(data, Handle) else
    data.detach().clone().to(check_device(beside(self, device)), dtype or self.dtype), requires_grad)


@public(method=False)
def full(size: Any, fill_value: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
         requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A tensor of one number; its dtype follows the number's type unless given."""
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    if isinstance(fill_value, Handle):
        if fill_value.shape:
            raise TypeError("full(): argument 'fill_value' (position 2) must be Number, not Tensor")
        made = fill_value.expand(size_argument((size,))).clone()  # type: ignore[attr-defined]
        return finish(made if dtype is None else made.to(dtype), requires_grad)
    if dtype is None:
        from ..ops.promotion import scalar_dtype

        dtype = scalar_dtype(fill_value)
    check_number(fill_value, dtype, "full", "fill_value")
    return _filled(size_argument((size,)), fill_value, dtype, device, requires_grad)


METHODS["new_full"] = lambda self, size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False: \
    full(size, fill_value, dtype=dtype or self.dtype, device=beside(self, device), requires_grad=requires_grad)


@public(method=False)
def eye(n: int, m: int | None = None, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
        requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """The identity matrix, n rows, m (n) columns."""
    where = check_device(device)
    if n < 0 or m is not None and m < 0:
        raise RuntimeError(f"n must be greater or equal to 0, got {n if n < 0 else m}")
    if where is not CPU:
        return no_memory((n, n if m is None else m), dtype, requires_grad)
    return finish(from_owned(np.eye(n, m, dtype=(dtype or default_dtype()).numpy)), requires_grad)


