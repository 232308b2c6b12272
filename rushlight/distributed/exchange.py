"""Messages between members of a group, and who its members are: for a group of one process there is nobody to send to."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from .members import ReduceOp, Work, done, fill, member, sole

__all__ = ["P2POp", "all_to_all", "all_to_all_single", "batch_isend_irecv", "gather_object", "get_global_rank", "get_group_rank",
           "get_process_group_ranks", "irecv", "isend", "monitored_barrier", "recv", "reduce_scatter", "scatter_object_list", "send"]


def get_process_group_ranks(group: Any = None) -> list[int]:
    """The ranks of the group's members: [0]."""
    member(group)
    return [0]


def get_global_rank(group: Any, group_rank: int) -> int:
    """The rank among all processes of the group's member ``group_rank``.

    Raises:
        ValueError: there is no such member.
    """
    member(group)
    if group_rank != 0:
        raise ValueError(f"Group rank {group_rank} is not part of group {group}")
    return 0


def get_group_rank(group: Any, global_rank: int) -> int:
    """The rank in the group of the process ``global_rank``.

    Raises:
        ValueError: it is no member.
    """
    member(group)
    if global_rank != 0:
        raise ValueError(f"Global rank {global_rank} is not part of group {group}")
    return 0


def monitored_barrier(group: Any = None, timeout: Any = None, wait_all_ranks: bool = False) -> None:
    """Wait for all members."""
    done(group, False)


def all_to_all(output_tensor_list: list[Any], input_tensor_list: list[Any], group: Any = None, async_op: bool = False) -> Work | None:
    """Every member sends an entry to every member: this one copies its own."""
    work = done(group, async_op)
    fill(sole(output_tensor_list, "output_tensor_list"), sole(input_tensor_list, "input_tensor_list"))
    return work


def all_to_all_single(output: Any, input: Any, output_split_sizes: list[int] | None = None,  # noqa: A002
                      input_split_sizes: list[int] | None = None, group: Any = None, async_op: bool = False) -> Work | None:
    """``all_to_all`` of the parts of one tensor."""
    work = done(group, async_op)
    fill(output, input)
    return work


def reduce_scatter(output: Any, input_list: list[Any], op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Reduce each entry over the members; the member that it belongs to gets it."""
    work = done(group, async_op)
    fill(output, sole(input_list, "input_list"))
    return work


def gather_object(obj: Any, object_gather_list: list[Any] | None = None, dst: int = 0, group: Any = None) -> None:
    """Put every member's object into its entry of the list of the member ``dst``."""
    done(group, False, dst)
    sole(object_gather_list or [], "object_gather_list")
    object_gather_list[0] = obj  # type: ignore[index]


def scatter_object_list(scatter_object_output_list: list[Any], scatter_object_input_list: Sequence[Any] | None = None, src: int = 0,
                        group: Any = None) -> None:
    """Put each entry of the list of the member ``src`` into the first place of its member's list."""
    done(group, False, src)
    scatter_object_output_list[0] = sole(scatter_object_input_list or [], "scatter_object_input_list")


def _nobody(name: str) -> NoReturn:
    raise ValueError(f"{name}: a group has one process here, which sends itself nothing")


def send(tensor: Any, dst: int | None = None, group: Any = None, tag: int = 0, group_dst: int | None = None) -> NoReturn:
    """Raises ValueError: there is nobody to send to."""
    _nobody("send")


def recv(tensor: Any, src: int | None = None, group: Any = None, tag: int = 0, group_src: int | None = None) -> NoReturn:
    """Raises ValueError: nobody sends."""
    _nobody("recv")


def isend(tensor: Any, dst: int | None = None, group: Any = None, tag: int = 0, group_dst: int | None = None) -> NoReturn:
    """Raises ValueError: there is nobody to send to."""
    _nobody("isend")


def irecv(tensor: Any, src: int | None = None, group: Any = None, tag: int = 0, group_src: int | None = None) -> NoReturn:
    """Raises ValueError: nobody sends."""
    _nobody("irecv")


class P2POp:
    """``isend`` or ``irecv`` of a tensor, for ``batch_isend_irecv``."""

    def __init__(self, op: Any, tensor: Any, peer: int | None = None, group: Any = None, tag: int = 0,
                 group_peer: int | None = None) -> None:
        self.op, self.tensor, self.peer, self.group, self.tag, self.group_peer = op, tensor, peer, group, tag, group_peer


def batch_isend_irecv(p2p_op_list: list[P2POp]) -> list[Any]:
    """Begin them all.

    Raises:
        ValueError: there is one: nobody is there to send or receive.
    """
    return [p.op(p.tensor, p.peer, p.group, p.tag) for p in p2p_op_list]
