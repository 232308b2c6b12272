"""``torch.distributed`` for a group of one process: what ``torchrun --nproc-per-node=1`` gives.

Programs that can run on many machines ask for their rank and call collectives either way. Here the group has one member: its rank is 0,
a sum over members is the tensor itself, gathering copies it. A larger group is refused when it is asked for.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from . import backends, stores
from .backends import *  # noqa: F403
from .backends import Backend
from .constants import default_pg_timeout
from .exchange import (
    P2POp,
    all_to_all,
    all_to_all_single,
    batch_isend_irecv,
    gather_object,
    get_global_rank,
    get_group_rank,
    get_process_group_ranks,
    irecv,
    isend,
    monitored_barrier,
    recv,
    reduce_scatter,
    scatter_object_list,
    send,
)
from .members import GroupMember, ProcessGroup, ReduceOp, Work, done, fill, group, member, sole
from .stores import *  # noqa: F403

__all__ = ["GroupMember", "P2POp", "ProcessGroup", "ReduceOp", "Work", "all_gather", "all_gather_into_tensor", "all_gather_object",
           "all_reduce", "all_to_all", "all_to_all_single", "barrier", "batch_isend_irecv", "broadcast", "broadcast_object_list",
           "default_pg_timeout", "destroy_process_group", "gather", "gather_object", "get_backend", "get_global_rank", "get_group_rank",
           "get_process_group_ranks", "get_rank", "get_world_size", "group", "init_process_group", "irecv", "is_available",
           "is_initialized", "isend", "monitored_barrier", "new_group", "recv", "reduce", "reduce_scatter", "reduce_scatter_tensor",
           "scatter", "scatter_object_list", "send"]
__all__ += backends.__all__ + stores.__all__


def is_available() -> bool:
    """Whether the names of this module can be used: yes."""
    return True


def is_initialized() -> bool:
    """Whether there is a default group."""
    return GroupMember.WORLD is not None


def _from_environment(name: str) -> int:
    if name not in os.environ:
        raise ValueError("Error initializing torch.distributed using env:// rendezvous: environment variable "
                         f"{name} expected, but not set")
    return int(os.environ[name])


def init_process_group(backend: str | None = None, init_method: str | None = None, timeout: Any = None, world_size: int = -1,
                       rank: int = -1, store: Any = None, group_name: str = "", pg_options: Any = None, device_id: Any = None) -> None:
    """Make the default group. Size and rank come from the arguments, else from ``WORLD_SIZE`` and ``RANK``.

    Raises:
        ValueError: there is a default group; or a number is neither given nor in the environment.
        AssertionError: PyTorch has no backend of this name.
        RuntimeError: the group would have more members than this process.
    """
    if is_initialized():
        raise ValueError("trying to initialize the default process group twice!")
    name = "gloo" if backend is None else str(backend).lower()
    kinds = [part.rsplit(":", 1)[-1] for part in name.split(",")]  # "cpu:gloo,cuda:nccl"
    for kind in kinds:
        assert kind in Backend.backend_list[1:], f"Unknown backend type {kind}"
    rank = rank if rank >= 0 else _from_environment("RANK")
    world_size = world_size if world_size >= 0 else _from_environment("WORLD_SIZE")
    if world_size != 1 or rank != 0:
        raise RuntimeError(f"init_process_group: a group has one process here, of rank 0; asked for rank {rank} of {world_size}. "
                           "Start the program once, without a launcher or with WORLD_SIZE=1 and RANK=0")
    GroupMember.WORLD = ProcessGroup(name)


def destroy_process_group(group: Any = None) -> None:
    """Forget the default group (``group`` None or the default one)."""
    world = member(None if group is None else group)
    if group is None or world is GroupMember.WORLD:
        GroupMember.WORLD = None


def new_group(ranks: Sequence[int] | None = None, timeout: Any = None, backend: str | None = None, **options: Any) -> Any:
    """A group of the members ``ranks``: of this process, or ``GroupMember.NON_GROUP_MEMBER`` for no members."""
    world = member(None)
    if ranks is not None and any(r != 0 for r in ranks):
        raise ValueError("The new group's rank should be within the world_size set by init_process_group")
    return ProcessGroup(backend or world.backend) if ranks is None or ranks else GroupMember.NON_GROUP_MEMBER


def get_rank(group: Any = None) -> int:
    """The number of this process among the group's members: 0."""
    return member(group).rank()


def get_world_size(group: Any = None) -> int:
    """How many members the group has: 1."""
    return member(group).size()


def get_backend(group: Any = None) -> str:
    """The name that the group was made with."""
    return member(group).backend


def barrier(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Work | None:
    """Wait for all members."""
    return done(group, async_op)


def all_reduce(tensor: Any, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Reduce ``tensor`` over the members, in place: one member's value is the result."""
    return done(group, async_op)


def reduce(tensor: Any, dst: int = 0, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """``all_reduce`` for the member ``dst``."""
    return done(group, async_op, dst)


def broadcast(tensor: Any, src: int = 0, group: Any = None, async_op: bool = False) -> Work | None:
    """Give every member the value of the member ``src``."""
    return done(group, async_op, src)


def broadcast_object_list(object_list: list[Any], src: int = 0, group: Any = None, device: Any = None) -> None:
    """``broadcast`` of Python objects."""
    done(group, False, src)


def all_gather(tensor_list: list[Any], tensor: Any, group: Any = None, async_op: bool = False) -> Work | None:
    """Copy every member's ``tensor`` into its entry of ``tensor_list``."""
    work = done(group, async_op)
    fill(sole(tensor_list, "tensor_list"), tensor)
    return work


def all_gather_into_tensor(output_tensor: Any, input_tensor: Any, group: Any = None, async_op: bool = False) -> Work | None:
    """Copy every member's tensor into its part of ``output_tensor``."""
    work = done(group, async_op)
    fill(output_tensor, input_tensor)
    return work


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Put every member's object into its entry of ``object_list``."""
    done(group, False)
    sole(object_list, "object_list")
    object_list[0] = obj


def gather(tensor: Any, gather_list: list[Any] | None = None, dst: int = 0, group: Any = None, async_op: bool = False) -> Work | None:
    """``all_gather`` for the member ``dst``."""
    work = done(group, async_op, dst)
    fill(sole(gather_list or [], "gather_list"), tensor)
    return work


def scatter(tensor: Any, scatter_list: list[Any] | None = None, src: int = 0, group: Any = None, async_op: bool = False) -> Work | None:
    """Copy the entries of ``scatter_list`` of the member ``src`` to the members' tensors."""
    work = done(group, async_op, src)
    fill(tensor, sole(scatter_list or [], "scatter_list"))
    return work


def reduce_scatter_tensor(output: Any, input: Any, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Reduce ``input`` over the members; each gets its part of the result."""
    work = done(group, async_op)
    fill(output, input)
    return work


def __getattr__(name: str) -> Any:
    """What is built upon groups, imported when it is asked for."""
    import importlib

    if name in ("DeviceMesh", "init_device_mesh"):
        return getattr(importlib.import_module(f"{__name__}.device_mesh"), name)
    if name in ("algorithms", "checkpoint", "constants", "device_mesh", "distributed_c10d", "fsdp", "nn", "optim", "rpc", "tensor"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
