"""Collectives that return what they make, for a group of one process: a copy of what they are given."""
from __future__ import annotations

from typing import Any

from .members import done

__all__ = ["all_gather_tensor", "all_reduce", "all_to_all_single", "broadcast", "reduce_scatter_tensor", "wait_tensor"]


def _copied(tensor: Any, group: Any, root: int | None = 0) -> Any:
    done(group if hasattr(group, "backend") else None, False, root)
    return tensor.clone()


def wait_tensor(tensor: Any) -> Any:
    """The tensor itself, which is there."""
    return tensor


def all_reduce(self: Any, reduceOp: str, group: Any, tag: str = "") -> Any:  # noqa: N803  # PyTorch's name
    """A copy: the reduction over one member."""
    return _copied(self, group)


def broadcast(self: Any, src: int, group: Any, tag: str = "") -> Any:
    """A copy of the tensor of the member ``src``, which is this one."""
    return _copied(self, group, src)


def all_gather_tensor(self: Any, gather_dim: int, group: Any, tag: str = "") -> Any:
    """A copy: one member's tensors side by side."""
    return _copied(self, group)


def reduce_scatter_tensor(self: Any, reduceOp: str, scatter_dim: int, group: Any, tag: str = "") -> Any:  # noqa: N803
    """A copy: one member's part of the reduction."""
    return _copied(self, group)


def all_to_all_single(self: Any, output_split_sizes: list[int] | None, input_split_sizes: list[int] | None, group: Any,
                      tag: str = "") -> Any:
    """A copy: what one member sends itself."""
    return _copied(self, group)


# Gradients flow through copies: the forms that promise it are the same functions.
all_gather_tensor_autograd, reduce_scatter_tensor_autograd, all_to_all_single_autograd = (
    all_gather_tensor, reduce_scatter_tensor, all_to_all_single)
