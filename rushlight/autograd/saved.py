"""Hooks for what graph nodes save for the backward: ``graph.saved_tensors_hooks`` and what is made of them."""
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from ..record.trace import Trace, local
from .handle import Handle, make
from .node import GradNode, leaf_like, placed
from .packed import pack

__all__ = ["allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "save_on_cpu", "saved_tensors_hooks", "watched"]


def watched(tr: Trace, node: GradNode) -> None:
    """A node was made while somebody watches: it gets to know where (anomaly mode), or what it saved goes through the hooks."""
    rare: dict[str, Any] = {}
    if tr.anomaly:
        from .anomaly import stack_text

        rare["trace_text"] = stack_text()
    if tr.packing:
        packed = rare["packed"] = []
        for name, edge, v in zip(node.KEPT, node.edges, node.kept):
            if v is not None:
                packed.append(pack(placed(leaf_like(edge, v) if isinstance(edge, Handle) else make(v, edge)), v))
                setattr(node, name, packed[-1])
        for k, (name, v) in enumerate(zip(node.OUTS, node.kept_outs)):
            if v is not None:
                packed.append(pack(placed(make(v, (node, k) if k else node)), v))
                setattr(node, name, packed[-1])
    node.rare = rare


class saved_tensors_hooks:
    """Inside, each tensor that is saved for a backward is what ``pack_hook(tensor)`` returns, and a tensor again through
    ``unpack_hook(packed)`` when the backward needs it. The innermost pair counts.

    Raises:
        RuntimeError: inside of ``disable_saved_tensors_hooks``.

    Example:
        >>> x = rushlight.ones(3, requires_grad=True)
        >>> with rushlight.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), rushlight.from_numpy):
        ...     y = x.exp()
        >>> y.sum().backward()
        >>> x.grad
        tensor([2.7183, 2.7183, 2.7183])
    """

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        refused = _refusals.get(local.trace)
        if refused:
            raise RuntimeError(refused[-1])
        local.trace.set_packing((*local.trace.packing, (self.pack_hook, self.unpack_hook)))

    def __exit__(self, *error: object) -> None:
        local.trace.set_packing(local.trace.packing[:-1])


class save_on_cpu(saved_tensors_hooks):
    """Inside, tensors saved for a backward are kept in the memory of the CPU, and are brought back to their device for it."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def to_cpu(t: Any) -> tuple[Any, Any]:
            return t.device, t.cpu()

        def back(packed: tuple[Any, Any]) -> Any:
            device, t = packed
            return t.to(device, non_blocking=pin_memory)
        super().__init__(to_cpu, back)


class allow_mutation_on_saved_tensors(saved_tensors_hooks):
    """Inside, tensors saved for a backward may be written over: the backward sees what they were."""

    def __init__(self) -> None:
        super().__init__(lambda t: t, lambda t: t)


_refusals: weakref.WeakKeyDictionary[Trace, list[str]] = weakref.WeakKeyDictionary()


class disable_saved_tensors_hooks:
    """Inside, hooks for saved tensors raise RuntimeError with this message. Usable as a decorator.

    Raises:
        RuntimeError: there are hooks already.
    """

    def __init__(self, error_message: str) -> None:
        self.message = error_message

    def __enter__(self) -> None:
        tr = local.trace
        if tr.packing:
            raise RuntimeError(self.message)
        _refusals.setdefault(tr, []).append(self.message)

    def __exit__(self, *error: object) -> None:
        _refusals[local.trace].pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with type(self)(self.message):
                return function(*args, **kwargs)
        return call
