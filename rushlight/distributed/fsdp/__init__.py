"""``torch.distributed.fsdp``: parameters cut into pieces over processes. There is one process: the names are for programs that ask for the
classes, and whoever wants a model to be cut gets an error."""
from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["BackwardPrefetch", "CPUOffload", "CPUOffloadPolicy", "FSDPModule", "FullStateDictConfig", "FullyShardedDataParallel",
           "LocalStateDictConfig", "MixedPrecision", "MixedPrecisionPolicy", "OffloadPolicy", "ShardedStateDictConfig", "ShardingStrategy",
           "StateDictType", "fully_shard"]


def _refused(name: str) -> Any:
    raise NotImplementedError(f"{name}: there is one process here, over which nothing can be cut. Train the module itself")


class _Cut(type):
    """A class of which nothing is an instance."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _refused(cls.__name__)


class FullyShardedDataParallel(metaclass=_Cut):
    """A module whose parameters are cut over processes: no module is one.

    Raises:
        NotImplementedError: when one is to be made.
    """


class FSDPModule(metaclass=_Cut):
    """What ``fully_shard`` makes of a module: no module is one.

    Raises:
        NotImplementedError: when one is to be made.
    """


def fully_shard(module: Any, **options: Any) -> Any:
    """Raises NotImplementedError."""
    return _refused("fully_shard")


class ShardingStrategy(enum.Enum):
    """What is cut."""

    FULL_SHARD, SHARD_GRAD_OP, NO_SHARD, HYBRID_SHARD, _HYBRID_SHARD_ZERO2 = range(1, 6)


class BackwardPrefetch(enum.Enum):
    """When the next pieces are fetched in a backward."""

    BACKWARD_PRE, BACKWARD_POST = 1, 2


class StateDictType(enum.Enum):
    """Which form of a state dictionary is wanted."""

    FULL_STATE_DICT, LOCAL_STATE_DICT, SHARDED_STATE_DICT = 1, 2, 3


@dataclass
class MixedPrecision:
    """The dtypes of parameters, gradients and buffers."""

    param_dtype: Any = None
    reduce_dtype: Any = None
    buffer_dtype: Any = None
    keep_low_precision_grads: bool = False
    cast_forward_inputs: bool = False
    cast_root_forward_inputs: bool = True


@dataclass(frozen=True)
class MixedPrecisionPolicy:
    """The dtypes of parameters, gradients and results."""

    param_dtype: Any = None
    reduce_dtype: Any = None
    output_dtype: Any = None
    cast_forward_inputs: bool = True


@dataclass
class CPUOffload:
    """Whether parameters wait in the CPU's memory."""

    offload_params: bool = False


@dataclass
class OffloadPolicy:
    """Parameters wait where they are."""


@dataclass
class CPUOffloadPolicy(OffloadPolicy):
    """Parameters wait in the CPU's memory."""

    pin_memory: bool = True


@dataclass
class _StateDictConfig:
    offload_to_cpu: bool = False


@dataclass
class FullStateDictConfig(_StateDictConfig):
    """How whole parameters are gathered."""

    rank0_only: bool = False


@dataclass
class LocalStateDictConfig(_StateDictConfig):
    """How pieces are listed."""


@dataclass
class ShardedStateDictConfig(_StateDictConfig):
    """How pieces are listed for other numbers of processes."""
