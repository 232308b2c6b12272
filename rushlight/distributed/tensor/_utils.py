"""Arithmetic on placements."""
from __future__ import annotations

from collections.abc import Sequence

from ..device_mesh import DeviceMesh
from .placement_types import Placement, Shard

__all__ = ["compute_local_shape_and_global_offset"]


def compute_local_shape_and_global_offset(global_shape: Sequence[int], mesh: DeviceMesh, placements: Sequence[Placement],
                                          skip_offset: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(shape, offsets) of what this process has of a tensor that is spread over ``mesh``.

    Example:
        >>> from rushlight.distributed.device_mesh import DeviceMesh
        >>> from rushlight.distributed.tensor import Shard
        >>> from rushlight.distributed.tensor._utils import compute_local_shape_and_global_offset
        >>> compute_local_shape_and_global_offset((4, 6), DeviceMesh("cpu", [0]), [Shard(1)])
        ((4, 6), (0, 0))
    """
    shape, offsets = list(global_shape), [0] * len(global_shape)
    for size, place, at in zip(mesh.shape, placements, mesh.get_coordinate()):
        if isinstance(place, Shard):
            shape[place.dim], start = Shard.local_shard_size_and_offset(shape[place.dim], size, at)
            offsets[place.dim] += start
    return tuple(shape), () if skip_offset else tuple(offsets)
