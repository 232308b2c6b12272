"""``torch.distributed.device_mesh``: processes as a grid of named dimensions. Here it has one process: every dimension is one long."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import ProcessGroup, new_group

__all__ = ["DeviceMesh", "init_device_mesh"]


class DeviceMesh:
    """A grid of processes.

    Args:
        device_type: ``"cpu"``.
        mesh: the ranks, as a nested list, an array or a tensor: a single 0 in as many dimensions as wanted.
        mesh_dim_names: a name for each dimension, by which ``mesh["name"]`` finds it.

    Raises:
        RuntimeError: there are more processes in it than this one; another number of names than dimensions; a name that it has not.

    Example:
        >>> from rushlight.distributed.device_mesh import DeviceMesh
        >>> mesh = DeviceMesh("cpu", [[0]], mesh_dim_names=("data", "model"))
        >>> mesh.shape, mesh["model"].ndim, mesh.get_coordinate()
        ((1, 1), 1, [0, 0])
    """

    def __init__(self, device_type: str, mesh: Any = None, *, mesh_dim_names: tuple[str, ...] | None = None, **options: Any) -> None:
        ranks = np.asarray([0] if mesh is None else mesh)
        if ranks.size != 1 or ranks.reshape(-1)[0] != 0:
            raise RuntimeError(f"DeviceMesh: there is one process here, of rank 0; asked for a mesh of the ranks {ranks.tolist()}")
        if mesh_dim_names is not None and len(mesh_dim_names) != ranks.ndim:
            raise RuntimeError("mesh_dimensions and mesh_dim_names should have same length")
        self.device_type, self.mesh_dim_names = device_type, None if mesh_dim_names is None else tuple(mesh_dim_names)
        self._ranks = ranks

    @property
    def mesh(self) -> Any:
        """The ranks, as a tensor."""
        from ..tensor import FUNCTIONS

        return FUNCTIONS["tensor"](self._ranks)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each dimension: ones."""
        return self._ranks.shape

    @property
    def ndim(self) -> int:
        """How many dimensions there are."""
        return self._ranks.ndim

    def size(self, mesh_dim: int | None = None) -> int:
        """How many processes there are, along one dimension or in all: one."""
        return math.prod(self.shape) if mesh_dim is None else self.shape[mesh_dim]

    def _dimension(self, name: Any) -> int:
        if self.mesh_dim_names is None or name not in self.mesh_dim_names:
            raise KeyError(f"Invalid mesh_dim_name {name}. Valid mesh_dim_names are {list(self.mesh_dim_names or ())}.")
        return self.mesh_dim_names.index(name)

    def __getitem__(self, names: str | tuple[str, ...]) -> DeviceMesh:
        wanted = (names,) if isinstance(names, str) else tuple(names)
        for name in wanted:
            self._dimension(name)
        return DeviceMesh(self.device_type, np.zeros((1,) * len(wanted), np.int64), mesh_dim_names=wanted)

    def get_group(self, mesh_dim: int | str | None = None) -> ProcessGroup:
        """The group along one dimension: this process alone."""
        if isinstance(mesh_dim, str):
            self._dimension(mesh_dim)
        group: ProcessGroup = new_group()
        return group

    def get_all_groups(self) -> list[ProcessGroup]:
        """The groups along all dimensions."""
        return [self.get_group() for _ in self.shape]

    def get_rank(self) -> int:
        """The number of this process: 0."""
        return 0

    def get_local_rank(self, mesh_dim: int | str | None = None) -> int:
        """The place of this process along a dimension: 0."""
        if isinstance(mesh_dim, str):
            self._dimension(mesh_dim)
        return 0

    def get_coordinate(self) -> list[int]:
        """The place of this process in the grid."""
        return [0] * self.ndim

    def __enter__(self) -> DeviceMesh:
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing was changed."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceMesh) and (self.device_type, self.shape, self.mesh_dim_names) == (
            other.device_type, other.shape, other.mesh_dim_names)

    def __hash__(self) -> int:
        return hash((self.device_type, self.shape, self.mesh_dim_names))

    def __repr__(self) -> str:
        names = "" if self.mesh_dim_names is None else f", mesh_dim_names={self.mesh_dim_names}"
        return f"DeviceMesh('{self.device_type}', {self._ranks.tolist()}{names})"


def init_device_mesh(device_type: str, mesh_shape: tuple[int, ...], *, mesh_dim_names: tuple[str, ...] | None = None,
                     backend_override: Any = None) -> DeviceMesh:
    """A mesh of this shape: ones, for one process.

    Raises:
        RuntimeError: the shape asks for more processes; another number of names than dimensions, or a name twice.
    """
    if mesh_dim_names is not None and len(set(mesh_dim_names)) != len(mesh_dim_names):
        raise RuntimeError(f"Each mesh_dim_name must be unique. Found repeated mesh_dim_name in mesh_dim_names {mesh_dim_names}")
    if mesh_dim_names is not None and len(mesh_dim_names) != len(mesh_shape):
        raise RuntimeError(f"mesh_shape and mesh_dim_names should have same length! Found len(mesh_dim_names): {len(mesh_dim_names)} "
                           f"and len(mesh_shape):{len(mesh_shape)}.")
    return DeviceMesh(device_type, np.arange(math.prod(mesh_shape)).reshape(mesh_shape), mesh_dim_names=mesh_dim_names)
