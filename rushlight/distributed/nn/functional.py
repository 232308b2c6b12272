"""Collectives that return their results, with gradients. Among one member, a result is the member's tensor.

Example:
    >>> torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    >>> x = torch.ones(2, requires_grad=True)
    >>> (3 * all_reduce(x)).sum().backward()
    >>> x.grad
    tensor([3., 3.])
    >>> torch.distributed.destroy_process_group()
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..members import ReduceOp, done, sole

__all__ = ["all_gather", "all_reduce", "all_to_all", "all_to_all_single", "broadcast", "gather", "reduce", "reduce_scatter", "scatter"]


def _given(tensor: Any, group: Any, root: int | None = None) -> Any:
    """The tensor as a result of its own.

    Raises:
        ValueError: there is no group. RuntimeError: the root is no member of it.
    """
    done(group, False, root)
    return tensor.clone()


def broadcast(tensor: Any, src: int, group: Any = None) -> Any:
    """The value of the member ``src``."""
    return _given(tensor, group, src)


def gather(tensor: Any, dst: int = 0, group: Any = None) -> tuple[Any, ...]:
    """The values of all members, for the member ``dst``."""
    return (_given(tensor, group, dst),)


def scatter(tensors: Sequence[Any], src: int = 0, group: Any = None) -> Any:
    """This member's of the tensors that the member ``src`` has for all."""
    return _given(sole(tensors, "tensors"), group, src)


def reduce(tensor: Any, dst: int, op: Any = ReduceOp.SUM, group: Any = None) -> Any:
    """The members' values reduced, for the member ``dst``."""
    return _given(tensor, group, dst)


def reduce_scatter(output: Any, input_list: Sequence[Any], op: Any = ReduceOp.SUM, group: Any = None) -> Any:
    """This member's of the tensors that all members have for each other, reduced."""
    return _given(sole(input_list, "input_list"), group)


def all_gather(tensor: Any, group: Any = None) -> tuple[Any, ...]:
    """The values of all members."""
    return (_given(tensor, group),)


def all_to_all(output_tensor_list: Sequence[Any], input_tensor_list: Sequence[Any], group: Any = None) -> tuple[Any, ...]:
    """What all members have for this one."""
    return (_given(sole(input_tensor_list, "input_tensor_list"), group),)


def all_to_all_single(output: Any, input: Any, output_split_sizes: Any = None, input_split_sizes: Any = None, group: Any = None) -> Any:
    """The parts that all members have for this one, joined."""
    return _given(input, group)


def all_reduce(tensor: Any, op: Any = ReduceOp.SUM, group: Any = None) -> Any:
    """The members' values reduced."""
    return _given(tensor, group)
