"""What is done to a module and everything below it: conversion, modes, gradients."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

from ..._C._nn import _parse_to
from ...autograd.handle import is_pending
from ...autograd.modes import no_grad
from ...record.flush import batch_boundary
from ...record.value import NO_DATA
from ...tensor.kinds import type_named
from .state import Stateful

__all__ = ["Whole"]

T = TypeVar("T", bound="Whole")


class Whole(Stateful):
    """The methods of ``Module`` that change a whole tree of modules."""

    training: bool
    children: Callable[[], Iterator[Any]]  # ``Module`` has them
    parameters: Callable[[], Iterator[Any]]
    buffers: Callable[[], Iterator[Any]]

    def apply(self: T, fn: Callable[[Any], None]) -> T:
        """Call ``fn`` with every module, children first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self: T, fn: Callable[[Any], Any], recurse: bool = True) -> T:
        """Convert every parameter (which stays the same object), gradient and buffer with ``fn``."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for parameter in self._parameters.values():
            if parameter is None:
                continue
            with no_grad():
                changed = fn(parameter)
                if changed is not parameter:
                    parameter.data = changed
                if parameter.grad is not None:
                    grad = fn(parameter.grad)
                    if grad is not parameter.grad:
                        parameter.grad = grad.requires_grad_(parameter.grad.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def train(self: T, mode: bool = True) -> T:
        """Training mode (dropout drops, batch norm learns), or with ``mode=False`` evaluation mode."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: T) -> T:
        """Evaluation mode."""
        if any(map(is_pending, chain(self.parameters(), self.buffers()))):
            batch_boundary()  # what made them is no part of the first inference
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Whether autograd records operations on the parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or make them zero."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                if set_to_none:
                    parameter.grad = None
                else:
                    parameter.grad = parameter.grad.detach()
                    parameter.grad.zero_()

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """Move to a device or convert floating parameters and buffers: ``to(device)``, ``to(dtype)``, ``to(tensor)``; with
        ``memory_format``, those with four or five dimensions to another order in memory.

        Raises:
            TypeError: the dtype is not floating or complex, or other arguments. NotImplementedError: from the device "meta", which has
                no content (``to_empty``).
        """
        device, dtype, _, memory_format = _parse_to(*args, **kwargs)
        if dtype is not None and dtype.kind not in "fc":
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")
        try:
            return self._apply(lambda t: t.to(device=device, dtype=dtype if t.dtype.kind in "fc" else None,
                                              memory_format=memory_format if t.dim() in (4, 5) else None))
        except NotImplementedError as error:
            if str(error) != NO_DATA:
                raise
            raise NotImplementedError(f"{NO_DATA} Please use torch.nn.Module.to_empty() instead of torch.nn.Module.to() when moving "
                                      "module from meta to a different device.") from None

    def type(self: T, dst_type: Any) -> T:
        """Convert all parameters and buffers to a dtype."""
        return self._apply(lambda t: t.to(type_named(dst_type)))

    def float(self: T) -> T:
        """Floating parameters and buffers to float32."""
        return self._floating("float32")

    def double(self: T) -> T:
        """Floating parameters and buffers to float64."""
        return self._floating("float64")

    def half(self: T) -> T:
        """Floating parameters and buffers to float16."""
        return self._floating("float16")

    def bfloat16(self: T) -> T:
        """Floating parameters and buffers to bfloat16."""
        return self._floating("bfloat16")

    def _floating(self: T, name: str) -> T:
        from ...compile.dtypes import by_name

        return self._apply(lambda t: t.to(by_name(name)) if t.dtype.kind == "f" else t)

    def cpu(self: T) -> T:
        """Everything onto the CPU."""
        return self._apply(lambda t: t.cpu())

    def cuda(self: T, device: Any = None) -> T:
        """Everything onto a GPU."""
        return self._apply(lambda t: t.cuda(device))

    def to_empty(self: T, *, device: Any, recurse: bool = True) -> T:
        """Move to a device without copying content."""
        from ...tensor import FUNCTIONS

        return self._apply(lambda t: FUNCTIONS["empty_like"](t, device=device), recurse=recurse)

    def share_memory(self: T) -> T:
        """Put parameters and buffers into memory that other processes can map."""
        return self._apply(lambda t: t.share_memory_())

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Accepted for compatibility: every program is compiled while it runs."""
