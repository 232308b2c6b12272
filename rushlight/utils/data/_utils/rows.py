"""Rows into batches, by one copy of memory.

Through ``stack`` and indexing a batch would become recorded operations with an input per sample. Data that is ready and
needs no gradient is simply copied instead, and enters the training step as one ready value.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from rushlight.record.flush import ready
from rushlight.tensor import Tensor

__all__ = ["gather_rows", "stack_arrays", "stack_rows"]


def stack_rows(rows: Sequence[Any]) -> Tensor:
    """``torch.stack(rows)``.

    Args:
        rows: n tensors of shape S.

    Returns:
        A tensor of shape (n, *S).

    Raises:
        RuntimeError: the shapes differ; the message names two of them. TypeError: something is not a tensor.
    """
    import rushlight as torch

    meta = rows[0]._value.meta
    # Metas are interned: identity means the same shape, dtype and layout.
    if not all(type(row) is Tensor and row._edge is None and row._value.meta is meta for row in rows):
        for i, row in enumerate(rows):
            if not isinstance(row, Tensor):
                raise TypeError(f"expected Tensor as element {i} of the batch, but got {type(row).__name__}")
        return torch.stack(tuple(rows), 0)
    batch = torch.empty((len(rows), *meta.shape), dtype=meta.dtype)
    if meta.order is None and all(row._alias is None for row in rows):  # whole blocks of memory; `ready` runs what is pending, once for all
        size, start = meta.nbytes, batch._address()
        for i, row in enumerate(rows):
            ctypes.memmove(start + i * size, ready(row._value).ptr, size)
        return batch
    stack_arrays([row._array() for row in rows], batch._array())
    return batch


def stack_arrays(arrays: Sequence[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
    """``np.stack(arrays)`` for n arrays of one shape S and one dtype, in half its time; ``out`` is of shape (n, *S)."""
    count, shape = len(arrays), arrays[0].shape
    if out is None:
        out = np.empty((count, *shape), arrays[0].dtype)
    if shape:
        np.concatenate(arrays, out=out.reshape(count * shape[0], *shape[1:]))
    else:
        out[...] = arrays
    return out


def gather_rows(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    """``tensor[indices]`` for ints.

    Args:
        tensor: of shape (N, *S).
        indices: n ints from -N to N - 1.

    Returns:
        A tensor of shape (n, *S).

    Raises:
        IndexError: an index is out of range.
    """
    import rushlight as torch

    size = tensor.size(0)
    if indices and not (-size <= min(indices) and max(indices) < size):
        wrong = next(i for i in indices if not -size <= i < size)
        raise IndexError(f"index {wrong} is out of bounds for dimension 0 with size {size}")
    if type(tensor) is not Tensor or tensor._edge is not None:
        return tensor[torch.as_tensor(indices, dtype=torch.int64)]  # type: ignore[index]
    array = tensor._array()
    batch = torch.empty((len(indices), *array.shape[1:]), dtype=tensor.dtype)
    rows = np.array(indices, np.intp)
    if array.flags.c_contiguous:
        # "wrap" reads negative indices as Python does; the checking mode would make a copy more.
        np.take(array, rows, axis=0, out=batch._array(), mode="wrap")
    else:
        batch._array()[...] = array[rows]
    return batch
