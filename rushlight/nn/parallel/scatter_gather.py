"""Batches cut for several devices, and their results joined. On one CPU all parts stay here.

Example:
    >>> parts = scatter((torch.zeros(5, 3),), ["cpu", "cpu"])
    >>> [x.shape for x, in parts]
    [torch.Size([3, 3]), torch.Size([2, 3])]
    >>> gather([x for x, in parts], "cpu").shape
    torch.Size([5, 3])
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...autograd.handle import Handle
from ...tensor import FUNCTIONS
from ...tensor.creation import check_device

__all__ = ["scatter", "scatter_kwargs", "gather"]


def check_devices(devices: Sequence[Any]) -> None:
    """Raise what asking for a GPU raises, if one of the devices is one."""
    for device in devices:
        check_device(f"cuda:{device}" if isinstance(device, int) and device >= 0 else "cpu" if isinstance(device, int) else device)


def scatter(inputs: Any, target_gpus: Sequence[Any], dim: int = 0) -> Any:
    """What each device gets: tensors cut along ``dim``, in lists, tuples and dictionaries too; everything else for all of them."""
    check_devices(target_gpus)
    n = len(target_gpus)
    if isinstance(inputs, Handle):
        return FUNCTIONS["chunk"](inputs, n, dim)
    if isinstance(inputs, dict) and inputs:
        columns = zip(*[scatter(value, target_gpus, dim) for value in inputs.values()])
        return [type(inputs)(zip(inputs, column)) for column in columns]
    if isinstance(inputs, (list, tuple)) and inputs:
        rows = zip(*[scatter(value, target_gpus, dim) for value in inputs])
        if hasattr(inputs, "_fields"):
            return [type(inputs)(*row) for row in rows]
        return [type(inputs)(row) for row in rows]
    return [inputs for _ in range(n)]


def scatter_kwargs(inputs: tuple[Any, ...], kwargs: dict[str, Any] | None, target_gpus: Sequence[Any], dim: int = 0) -> tuple[Any, Any]:
    """Positional and named arguments for each device, as many of both."""
    first = list(scatter(inputs, target_gpus, dim)) if inputs else []
    named = list(scatter(kwargs, target_gpus, dim)) if kwargs else []
    first += [() for _ in range(len(named) - len(first))]
    named += [{} for _ in range(len(first) - len(named))]
    return tuple(first), tuple(named)


def gather(outputs: Sequence[Any], target_device: Any, dim: int = 0) -> Any:
    """The results of all devices joined along ``dim``; numbers become a vector.

    Raises:
        ValueError: dictionaries with different keys.
    """
    check_devices([target_device])
    first = outputs[0]
    if isinstance(first, Handle):
        joined = [x.reshape(1) if not x.shape else x for x in outputs]
        return FUNCTIONS["cat"](joined, dim)
    if first is None:
        return None
    if isinstance(first, dict):
        if any(len(x) != len(first) for x in outputs):
            raise ValueError("All dicts must have the same number of keys")
        return type(first)((key, gather([x[key] for x in outputs], target_device, dim)) for key in first)
    parts = [gather(column, target_device, dim) for column in zip(*outputs)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
