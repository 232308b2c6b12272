"""``torch._utils``: helpers that libraries take from there."""
from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import rushlight

from .compile.dtypes import DType
from .tensor import Tensor

__all__ = ["_element_size", "_flatten_dense_tensors", "_get_device_index", "_import_dotted_name", "_rebuild_parameter", "_take_tensors",
           "_unflatten_dense_tensors"]


def _element_size(dtype: DType) -> int:
    """The bytes of an element."""
    if not isinstance(dtype, DType):
        raise RuntimeError(f"expected torch.dtype, but got {type(dtype)}")
    return dtype.itemsize


def _flatten_dense_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """All elements in one row; of a single tensor, a view."""
    flat = [t.contiguous().view(-1) for t in tensors]
    return flat[0] if len(flat) == 1 else rushlight.cat(flat)


def _unflatten_dense_tensors(flat: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """A row of elements as views of the shapes that ``tensors`` have."""
    parts = flat.split([t.numel() for t in tensors])
    return tuple([part.view(t.shape) for part, t in zip(parts, tensors)])


def _take_tensors(tensors: Sequence[Tensor], size_limit: int) -> Iterator[list[Tensor]]:
    """Lists of tensors of one dtype, each of about ``size_limit`` bytes, in the order in which they become full."""
    waiting: dict[str, tuple[list[Tensor], int]] = {}
    for t in tensors:
        size = t.numel() * t.element_size()
        chunk, total = waiting.get(t.type(), ([], 0))
        if chunk and total + size > size_limit:
            yield chunk
            chunk, total = [], 0
        chunk.append(t)
        waiting[t.type()] = chunk, total + size
    for chunk, _ in waiting.values():
        if chunk:
            yield chunk


def _get_device_index(device: Any, optional: bool = False, allow_cpu: bool = False) -> int:
    """The number of a device: -1 for the CPU, where that is allowed.

    Raises:
        ValueError: there is no number, or the CPU is not allowed.
    """
    if isinstance(device, str):
        device = rushlight.device(device)
    index = None
    if isinstance(device, rushlight.device):
        if not allow_cpu and device.type == "cpu":
            raise ValueError(f"Expected a non cpu device, but got: {device}")
        index = -1 if device.type == "cpu" else device.index
    elif isinstance(device, int):
        index = device
    if index is None:
        if not optional:
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
        return -1
    return index


def _import_dotted_name(name: str) -> Any:
    """What a name with points in it stands for, the first part being a module."""
    first, *rest = name.split(".")
    found: Any = importlib.import_module(first)
    for part in rest:
        found = getattr(found, part)
    return found


def _rebuild_parameter(data: Tensor, requires_grad: bool, backward_hooks: Any) -> Any:
    """A parameter of ``data``."""
    return rushlight.nn.Parameter(data, requires_grad)
