"""Questions about tensors and dtypes, the default dtype, and the legacy typed constructors."""
from __future__ import annotations

from typing import Any

from ..autograd.apply import value_of
from ..autograd.handle import TYPE_NAMES, Handle
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops import promotion
from ..ops.pointwise import broadcast_shapes as _broadcast
from ..record.flush import start_afresh
from ..record.meta import CPU, Device
from ..record.trace import local
from ..record.warn import warn
from .kinds import type_named, typename
from .registry import CONVENIENCES, FUNCTIONS, METHODS
from .size import Size, size_argument

__all__ = ["TYPED"]


def _function(define: Any) -> Any:
    FUNCTIONS[define.__name__] = define
    return define


_function(typename)


CONVENIENCES.add("is_tensor")  # it asks nobody


@_function
def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Handle)


@_function
def is_storage(obj: Any) -> bool:
    """Whether ``obj`` is a storage."""
    from .storage import UntypedStorage

    return isinstance(obj, UntypedStorage)


@_function
def is_floating_point(input: Any) -> bool:
    """Whether the dtype is a floating one."""
    return input.dtype.kind == "f"


@_function
def is_complex(input: Any) -> bool:
    """Whether the dtype is a complex one."""
    return input.dtype.kind == "c"


@_function
def is_signed(input: Any) -> bool:
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


@_function
def is_conj(input: Any) -> bool:
    """Whether the conjugate bit is set: never, conjugates are computed."""
    return False


@_function
def is_neg(input: Any) -> bool:
    """Whether the negative bit is set: never, negatives are computed."""
    return False


@_function
def is_inference(input: Any) -> bool:
    """Whether the tensor was made in inference mode."""
    return input.is_inference()


@_function
def is_nonzero(input: Any) -> bool:
    """Whether a tensor of one element is not zero.

    Raises:
        RuntimeError: the tensor does not have one element.
    """
    n = input.numel()
    if n != 1:
        raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if n == 0 else
                           "Boolean value of Tensor with more than one value is ambiguous")
    return bool(input.item() != 0)


@_function
def is_same_size(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape."""
    return input.shape == other.shape


@_function
def numel(input: Any) -> int:
    """The number of elements."""
    return input.numel()


# -- dtypes -------------------------------------------------------------------------------------------------------


@_function
def get_default_dtype() -> DType:
    """The dtype of floating tensors made from Python numbers."""
    return promotion.default_dtype()


@_function
def set_default_dtype(d: DType) -> None:
    """Let new floating tensors have dtype ``d``.

    Raises:
        TypeError: not a floating dtype.
    """
    if not isinstance(d, DType) or d.kind != "f":
        raise TypeError("only floating-point types are supported as the default type")
    if d is not promotion.default_dtype():
        start_afresh()  # what was recorded so far remembers result types that followed from the former default
        promotion.set_default_dtype(d)


@_function
def set_default_tensor_type(t: Any) -> None:
    """Let new floating tensors have the dtype of ``torch.FloatTensor``, ``torch.DoubleTensor``, ..."""
    warn("torch.set_default_tensor_type() is deprecated as of PyTorch 2.1, please use torch.set_default_dtype() and "
         "torch.set_default_device() as alternatives.", UserWarning)
    set_default_dtype(type_named(t))


@_function
def set_default_device(device: Any) -> None:
    """Let new tensors for which no device is named lie on ``device``, "cpu" or "meta"; None: on the CPU again.

    Raises:
        RuntimeError: another device.
    """
    from .creation import check_device

    local.trace.set_device(CPU if device is None else check_device(device))


@_function
def get_default_device() -> Device:
    """Where new tensors lie for which no device is named."""
    return local.trace.device


@_function
def promote_types(type1: DType, type2: DType) -> DType:
    """The smallest dtype that both convert to."""
    return promotion.promote_types(type1, type2)


@_function
def result_type(tensor1: Any, tensor2: Any) -> DType:
    """The dtype that arithmetic on two operands (tensors or numbers) gives."""
    operands = (tensor1, tensor2)
    return promotion.result_type([value_of(x).meta for x in operands if isinstance(x, Handle)],
                                 [promotion.scalar_dtype(x) for x in operands if not isinstance(x, Handle)])


@_function
def can_cast(from_: DType, to: DType) -> bool:
    """Whether values of one dtype may be written into a tensor of another (the category must not get lower)."""
    rank = {"b": 0, "u": 1, "i": 1, "f": 2, "q": 2, "c": 3}
    return rank[from_.kind] <= rank[to.kind] and not (from_.is_signed and to.kind == "u" and from_.kind == "i")


@_function
def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes broadcast to.

    Raises:
        RuntimeError: they do not broadcast.
    """
    wanted = [size_argument((s,)) for s in shapes]
    if any(n < 0 for s in wanted for n in s):
        raise RuntimeError(f"Trying to create tensor with negative dimension: {wanted}")
    try:
        return Size(_broadcast(wanted))
    except RuntimeError:
        raise RuntimeError("Shape mismatch: objects cannot be broadcast to a single shape") from None


# -- legacy constructors ------------------------------------------------------------------------------------------


class _Typed(type):
    """``torch.FloatTensor``: makes tensors of one dtype; ``isinstance`` asks for the dtype."""

    dtype: DType

    def __instancecheck__(cls, t: Any) -> bool:
        return isinstance(t, Handle) and t.dtype is cls.dtype

    def __call__(cls, *args: Any, device: Any = None) -> Any:
        from .creation import _empty, from_array, legacy_array

        if len(args) == 1 and isinstance(args[0], Handle):
            if args[0].dtype is not cls.dtype:
                raise TypeError(f"expected {cls.__name__} (got {args[0].type()})")  # type: ignore[attr-defined]
            return args[0].detach()  # type: ignore[attr-defined]
        if len(args) == 1 and not isinstance(args[0], (int, Size)):
            return from_array(legacy_array(args[0], cls.dtype))
        return _empty(size_argument(args) if args else (0,), cls.dtype, device, False)


TYPED: dict[str, type] = {
    name: _Typed(name, (), {"dtype": d, "__module__": "torch", "__doc__": f"Constructor of tensors of {d}."}) for name, d in (
        ("FloatTensor", dt.float32), ("DoubleTensor", dt.float64), ("HalfTensor", dt.float16), ("BFloat16Tensor", dt.bfloat16),
        ("ByteTensor", dt.uint8), ("CharTensor", dt.int8), ("ShortTensor", dt.int16), ("IntTensor", dt.int32),
        ("LongTensor", dt.int64), ("BoolTensor", dt.bool_))}


def _new(self: Any, *args: Any, device: Any = None) -> Any:
    """A legacy constructor with the dtype of ``self``: ``x.new(2, 3)`` is uninitialised, ``x.new([1, 2])`` has that data."""
    return TYPED[TYPE_NAMES[self.dtype.name]](*args, device=device)


METHODS["new"] = _new
CONVENIENCES.add("new")
