"""``torch.distributed.tensor``: the class of tensors that are spread over processes, which no tensor is here, and how they would be spread.

Libraries ask ``isinstance(parameter, DTensor)``, and import the names of placements, whether they spread anything or not.
"""
from __future__ import annotations

from typing import Any

from ...tensor import Tensor
from ..device_mesh import DeviceMesh, init_device_mesh
from .placement_types import Partial, Placement, Replicate, Shard

__all__ = ["DTensor", "DeviceMesh", "Partial", "Placement", "Replicate", "Shard", "distribute_module", "distribute_tensor",
           "init_device_mesh"]


def _refused(name: str) -> Any:
    raise NotImplementedError(f"{name}: tensors are not spread over processes here, there is one process. Use the tensor itself")


class _Spread(type):
    """A class of which nothing is an instance. (A subclass of ``Tensor`` would make every operation look at classes.)"""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _refused(cls.__name__)


class DTensor(metaclass=_Spread):
    """A tensor that is spread over a mesh of processes: no tensor is one.

    Raises:
        NotImplementedError: when one is to be made.
    """

    @staticmethod
    def from_local(local_tensor: Tensor, device_mesh: Any = None, placements: Any = None, **options: Any) -> Any:
        """Raises NotImplementedError."""
        return _refused("DTensor.from_local")


def distribute_tensor(tensor: Tensor, device_mesh: Any = None, placements: Any = None, *, src_data_rank: int | None = 0) -> Any:
    """Raises NotImplementedError."""
    return _refused("distribute_tensor")


def distribute_module(module: Any, device_mesh: Any = None, partition_fn: Any = None, input_fn: Any = None, output_fn: Any = None) -> Any:
    """Raises NotImplementedError."""
    return _refused("distribute_module")
