"""Lists of lists of tensors, sorted by where and what they are."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor

__all__ = ["_group_tensors_by_device_and_dtype"]


def _group_tensors_by_device_and_dtype(tensorlistlist: Sequence[Sequence[Tensor | None]], with_indices: bool = False) -> dict[
        tuple[Any, Any], tuple[list[list[Tensor | None]], list[int]]]:
    """(device, dtype) of the tensors in the first list -> the lists with what is at their places, and these places if ``with_indices``.

    Raises:
        RuntimeError: the lists are not equally long.
    """
    if any(len(tensors) not in (0, len(tensorlistlist[0])) for tensors in tensorlistlist):
        raise RuntimeError("Tensors of the same index must be on the same device and the same dtype except `step` tensors that can be on "
                           "CPU and float32/64 notwithstanding: the lists are not equally long")
    found: dict[tuple[Any, Any], tuple[list[list[Tensor | None]], list[int]]] = {}
    for place, first in enumerate(tensorlistlist[0]):
        assert first is not None
        lists, places = found.setdefault((first.device, first.dtype), ([[] for _ in tensorlistlist], []))
        for tensors, part in zip(tensorlistlist, lists):
            if tensors:
                part.append(tensors[place])
        if with_indices:
            places.append(place)
    return found


def _device_has_foreach_support(device: Any) -> bool:
    """Whether functions of lists are quicker there than loops: one program is made of either."""
    return False


def _has_foreach_support(tensors: Sequence[Any], device: Any) -> bool:
    """As above, for these tensors."""
    return False
