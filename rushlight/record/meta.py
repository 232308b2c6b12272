"""What is known of a value before it is computed: shape, element type, device, strides."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from ..compile.dtypes import DType
from ..compile.sizes import is_size

__all__ = ["Device", "NoSuchDevice", "Meta", "meta_of", "CPU", "META", "contiguous_strides", "dense_order", "dense_strides"]

Shape = tuple[int, ...]


class Device:
    """Where memory lives: ``Device("cpu")``, ``Device("cuda", 1)`` or ``Device("cuda:1")``.

    Raises:
        RuntimeError: unknown device type.
    """

    __slots__ = ("type", "index")
    type: str
    index: int | None
    _TYPES: Final = ("cpu", "cuda", "mps", "meta", "xpu")

    def __new__(cls, type: Any = None, index: int | None = None) -> Device:
        """Those that tensors are on are one object each, also when another process sends one: code asks for them by identity."""
        name = type.type if isinstance(type, Device) and type.index is None else type
        return _HERE.get(name) or object.__new__(cls) if index is None and isinstance(name, str) else object.__new__(cls)

    def __init__(self, type: Any, index: int | None = None) -> None:
        name = type
        if isinstance(type, Device):
            name, index = type.type, type.index if index is None else index
        elif isinstance(type, int):
            name, index = "cuda", type
        elif ":" in type:
            name, _, number = type.partition(":")
            if not number.isdecimal() or index is not None:
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        if name not in self._TYPES:
            raise RuntimeError(f"Expected one of {', '.join(self._TYPES)} device type at start of device string: {name}")
        self.type, self.index = name, index

    def __repr__(self) -> str:
        return f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple:
        return Device, (self.type, self.index)

    def __enter__(self) -> Device:
        """Inside, tensors for which no device is named are made on this one."""
        from .trace import local

        if self.type in ("cuda", "mps", "xpu"):
            raise NoSuchDevice(self.type)
        local.trace.enter_device(META if self.type == "meta" else CPU)
        return self

    def __exit__(self, *exc: Any) -> None:
        from .trace import local

        local.trace.leave_device()


Device.__name__ = Device.__qualname__ = "device"  # the name that programs know
device = Device  # by which pickle finds it

_HERE: dict[str, Device] = {}
CPU: Final = Device("cpu")
META: Final = Device("meta")  # of tensors without memory, of which shapes and dtypes are known and nothing else
_HERE.update(cpu=CPU, meta=META)


class NoSuchDevice(AssertionError, RuntimeError):
    """A kind of device that this build lacks: what PyTorch's CPU build raises, and, for programs that catch what its CUDA
    build raises where there is no GPU, a RuntimeError."""

    def __init__(self, kind: str = "cuda") -> None:
        super().__init__(f"Torch not compiled with {kind.upper()} enabled: device '{kind}' was asked for, and Rushlight runs on the CPU "
                         f"here. Choose with torch.{kind}.is_available(), or use device='cpu'.")


class Meta:
    """Interned: two values have the same shape, element type, device and strides if their metas are one object.

    Attributes:
        shape, dtype, device: of the value.
        numel: number of elements; ``nbytes``: bytes of the row-major memory.
        strides: in elements, as ``Tensor.stride()`` tells; None for row-major. The content of a value does not depend on them: they tell
            how a view lies in other memory, and in which order the memory of a value of its own is filled.
        order: the dimensions from the outermost to the innermost in memory, where the elements lie without gaps in another order than
            row-major; else None. ``memory``: the shape in that order.
        rows: the strides of row-major memory.
        size: the shape as users see it, from when one did; the room above sets it.
        plain: the same, row-major; ``own``: what memory made for such a value is like, in the same order if that has no gaps.
        cuts: what views of such a value have in common, as far as the room above remembers it (``tensor/cuts.py``).
    """

    __slots__ = ("shape", "dtype", "device", "strides", "numel", "nbytes", "plain", "order", "own", "size", "cuts", "_rows")
    size: Any

    def __init__(self, shape: Shape, dtype: DType, device: Device, strides: Shape | None) -> None:
        if not isinstance(dtype, DType):
            raise TypeError(f"argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
        self.shape, self.dtype, self.device, self.strides = shape, dtype, device, strides
        self.numel = math.prod(shape)
        self.nbytes = self.numel * dtype.itemsize
        if type(self.nbytes) is int and self.nbytes >= 1 << 63:
            raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)}")
        self.order = None if strides is None else dense_order(shape, strides)
        self.plain: Meta = self if strides is None else meta_of(shape, dtype, device)
        self.own: Meta = self.plain if self.order is None else self
        self.cuts: Any = None
        self._rows: Shape | None = None

    @property
    def rows(self) -> Shape:
        found = self._rows
        if found is None:
            found = self._rows = contiguous_strides(self.shape)
        return found

    @property
    def memory(self) -> Shape:
        return self.shape if self.order is None else tuple([self.shape[d] for d in self.order])

    def __repr__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}" + ("" if self.strides is None else f" strides {self.strides}")

    def __reduce__(self) -> tuple:
        return meta_of, (self.shape, self.dtype, self.device, self.strides)


_interned: dict[tuple[Any, ...], Meta] = {}
_BOUND: Final = 100_000


def meta_of(shape: Shape, dtype: DType, device: Device = CPU, strides: Shape | None = None) -> Meta:
    # A device has a hash of its own, which is a call: nearly always it is this one.
    key = (shape, dtype, strides) if device is CPU else (shape, dtype, device, strides)
    found = _interned.get(key)
    if found is None:
        sized = any(map(is_size, shape))  # planning for many shapes
        if strides is not None and is_row_major(shape, strides):
            found = meta_of(shape, dtype, device)
            if not sized:
                _interned[key] = found
            return found
        if sized:
            return Meta(shape, dtype, device, strides)
        if len(_interned) > _BOUND:  # forgetting only costs equal metas that are not identical: a new trie path
            _interned.clear()
        found = _interned[key] = Meta(shape, dtype, device, strides)
    return found


def contiguous_strides(shape: Shape) -> Shape:
    """Row-major strides in elements (dimensions of length 0 count as 1, as in PyTorch)."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def dense_order(shape: Shape, strides: Shape) -> Shape | None:
    """The dimensions from the outermost to the innermost, if the elements fill memory without gaps and none lies twice; else None."""
    if any(map(is_size, shape)):
        return None
    order = sorted(range(len(shape)), key=lambda d: (-strides[d], shape[d] == 1))
    step = 1
    for d in reversed(order):
        if shape[d] == 1:
            continue
        if strides[d] != step:
            return None
        step *= shape[d]
    return tuple(order) if step else None


def dense_strides(shape: Shape, order: Sequence[int]) -> Shape:
    """Strides of memory that is filled with the dimensions in this order, from the outermost to the innermost."""
    strides, step = [0] * len(shape), 1
    for d in reversed(order):
        strides[d] = step
        step *= max(shape[d], 1)
    return tuple(strides)


def is_row_major(shape: Shape, strides: Shape) -> bool:
    """Whether the strides are exactly those of a fresh tensor (so that ``stride()`` needs no note of them)."""
    return strides == contiguous_strides(shape)


def is_contiguous(shape: Shape, strides: Shape) -> bool:
    """PyTorch's ``is_contiguous``: strides of dimensions of length 1 do not matter."""
    step = 1
    if 0 in shape:
        return True
    for extent, stride in zip(reversed(shape), reversed(strides)):
        if extent != 1:
            if stride != step:
                return False
            step *= extent
    return True
