"""From a list of samples to a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from rushlight.tensor import Tensor

from .columns import ColumnBatch
from .rows import stack_arrays, stack_rows

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]

_UNSUPPORTED_KINDS = "SUaO"  # NumPy's bytes, text and object arrays hold no numbers

CollateMap = dict[type | tuple[type, ...], Callable]


def default_convert(data: Any) -> Any:
    """Turn the NumPy arrays and scalars in a (nested) sample into tensors; leave everything else as it is.

    This is what a loader without batching (``batch_size=None``) does with each sample.

    Example::

        default_convert({"x": np.zeros(2), "name": "a"})   # {"x": tensor([0., 0.], dtype=torch.float64), "name": "a"}
    """
    import rushlight as torch

    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in _UNSUPPORTED_KINDS else torch.as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(value) for value in data))
    if isinstance(data, tuple):
        return [default_convert(value) for value in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [default_convert(value) for value in data])
    return data


def collate(batch: Any, *, collate_fn_map: CollateMap | None = None) -> Any:
    """Collate ``batch`` with a function per element type; containers are collated element by element.

    Args:
        batch: the samples. The type of the first one decides.
        collate_fn_map: from a type (or a tuple of types) to ``fn(batch, *, collate_fn_map)``. An exact type goes first,
            then the first entry that ``isinstance`` accepts.

    Raises:
        TypeError: there is no way to collate samples of this type.
        RuntimeError: samples are sequences of different lengths.
    """
    first = batch[0]
    kind = type(first)
    if collate_fn_map is not None:
        handler = collate_fn_map.get(kind)
        if handler is None:
            for handled, candidate in collate_fn_map.items():
                if isinstance(first, handled):
                    handler = candidate
                    break
        if handler is not None:
            return handler(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        columns = {key: collate([row[key] for row in batch], collate_fn_map=collate_fn_map) for key in first}
        return _like_mapping(first, columns)
    if isinstance(first, Sequence):
        _check_lengths(batch)
        values = [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)]
        if isinstance(first, tuple):
            return kind(*values) if hasattr(first, "_fields") else values  # plain tuples become lists
        return _like_sequence(first, values)
    raise TypeError(_unsupported(kind))


def default_collate(batch: Any) -> Any:
    """Put samples together into a batch with a new first dimension.

    Tensors, NumPy arrays and numbers become tensors; strings and bytes stay a list; mappings, named tuples and
    sequences (nested as they like) are collated element by element, a plain tuple giving a list.

    Raises:
        TypeError: a sample contains something else, for instance None.
        RuntimeError: tensors or sequences at one place have different shapes or lengths.

    Example::

        default_collate([(torch.zeros(3), 1), (torch.ones(3), 2)])   # [tensor of shape (2, 3), tensor([1, 2])]
    """
    if type(batch) is ColumnBatch:
        return [
            column if isinstance(column, Tensor) else collate(column, collate_fn_map=default_collate_fn_map)
            for column in batch.columns
        ]
    return collate(batch, collate_fn_map=default_collate_fn_map)


def _unsupported(found: object) -> str:
    return f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {found}"


def _check_lengths(batch: Sequence) -> None:
    expected = len(batch[0])
    for i, row in enumerate(batch):
        if len(row) != expected:
            raise RuntimeError(
                "each element in list of batch should be of equal size, "
                f"but got {expected} at entry 0 and {len(row)} at entry {i}"
            )


def _like_mapping(example: Mapping, values: dict) -> Mapping:
    """``values`` in a mapping of the type of ``example``, with its other state (say, a default factory) if possible."""
    try:
        if isinstance(example, MutableMapping):
            result = copy.copy(example)
            result.update(values)
            return result
        return type(example)(values)  # type: ignore[call-arg]
    except TypeError:  # a mapping that can neither be copied and written nor built from a dict
        return values


def _like_sequence(example: Sequence, values: list) -> Sequence:
    """``values`` in a sequence of the type of ``example`` where that type takes them."""
    if type(example) is list:
        return values
    try:
        if isinstance(example, MutableSequence):
            result = copy.copy(example)
            for i, value in enumerate(values):
                result[i] = value
            return result
        return type(example)(values)  # type: ignore[call-arg]
    except TypeError:  # e.g. range
        return values


def collate_tensor_fn(batch: Sequence[Tensor], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """Stack tensors of one shape along a new first dimension."""
    return stack_rows(batch)


def collate_numpy_array_fn(batch: Sequence[np.ndarray], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """Stack NumPy arrays of one shape into a tensor."""
    import rushlight as torch

    first = batch[0]
    if first.dtype.kind in _UNSUPPORTED_KINDS:
        raise TypeError(_unsupported(first.dtype))
    native = first.dtype.isnative
    if native and all(type(a) is np.ndarray and a.dtype == first.dtype and a.shape == first.shape for a in batch):
        return torch.as_tensor(stack_arrays(batch))
    # Mixed dtypes are promoted, and unequal shapes refused, by the rules of tensors.
    return collate_tensor_fn([torch.as_tensor(a) for a in batch])


def collate_numpy_scalar_fn(batch: Sequence[np.generic], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """NumPy scalars of one dtype become a 1-D tensor of that dtype."""
    import rushlight as torch

    return torch.as_tensor(np.asarray(batch))


def collate_float_fn(batch: Sequence[float], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """Python floats become a 1-D float64 tensor."""
    import rushlight as torch

    if set(map(type, batch)) == {float}:
        return torch.from_numpy(np.array(batch, np.float64))
    return torch.as_tensor(batch, dtype=torch.float64)


def collate_int_fn(batch: Sequence[int], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """Python ints (or bools) become a 1-D tensor of the dtype that ``tensor`` gives them."""
    import rushlight as torch

    if set(map(type, batch)) == {int}:
        try:
            return torch.from_numpy(np.array(batch, np.int64))
        except OverflowError:
            pass  # `as_tensor` knows what to say about it
    return torch.as_tensor(batch)


def collate_str_fn(batch: Sequence[str | bytes], *, collate_fn_map: CollateMap | None = None) -> Any:
    """Strings and bytes stay as they are."""
    return batch


default_collate_fn_map: CollateMap = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}
