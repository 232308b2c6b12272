"""The dynamic graph as users see it: ``autograd.graph``."""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .handle import LEAF, Handle
from .hooks import RemovableHandle
from .modes import no_grad
from .node import Node, accumulator
from .saved import allow_mutation_on_saved_tensors, disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks

__all__ = ["Node", "GradientEdge", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge",
           "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks"]


class GradientEdge(NamedTuple):
    """Where a gradient goes: to result ``output_nr`` of a node."""

    node: Any
    output_nr: int


def get_gradient_edge(tensor: Any) -> GradientEdge:
    """The place in the graph that the gradient of a tensor goes to.

    Raises:
        RuntimeError: the tensor does not require grad.
    """
    if tensor._edge is None:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    if tensor._edge is LEAF:
        return GradientEdge(accumulator(tensor), 0)
    return GradientEdge(tensor.grad_fn, tensor.output_nr)


class _Handles:
    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Sequence[Any], fn: Callable[..., Any], *, mode: str = "all") -> Any:
    """Call ``fn`` with the gradients of several tensors.

    Args:
        mode: "all": once a backward has them all, with a list of them (None for a tensor that it does not reach is not waited for
            here: all have to be reached); "any": at the first, with that gradient alone.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    if not tensors:
        raise ValueError("register_multi_grad_hook expects at least one tensor")
    lock = threading.Lock()
    known: dict[int, Any] = {}
    count = len(tensors)

    def make_hook(k: int) -> Callable[[Any], None]:
        def hook(grad: Any) -> None:
            with lock:
                first = not known
                known[k] = grad
                complete = len(known) == count
                grads = [known[i] for i in range(count)] if complete else None
                if complete:
                    known.clear()
            if mode == "any":
                if first:
                    fn(grad)
            elif grads is not None:
                fn(grads)
        return hook

    return _Handles([t.register_hook(make_hook(k)) for k, t in enumerate(tensors)])


def increment_version(tensor: Any) -> None:
    """Tell that tensors (one, or several) were written by other means: a backward that saved one of them raises RuntimeError."""
    for t in (tensor,) if isinstance(tensor, Handle) else tensor:
        with no_grad():
            t.copy_(t.clone())
