"""Tensors in and out of user-provided functions: the checks and conversions of ``autograd.functional``."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import engine
from .handle import Handle

__all__ = ["as_tuple", "unpacked", "prepared", "detached", "call", "gradients", "filled", "check_outputs", "check_vector", "HESSIAN"]


def as_tuple(given: Any, what: str, name: str) -> tuple[bool, tuple[Any, ...]]:
    """(was it a tuple, the tuple).

    Raises:
        TypeError: neither a tensor nor a tuple of tensors.
    """
    many = isinstance(given, tuple)
    items = given if many else (given,)
    for k, t in enumerate(items):
        if not isinstance(t, Handle):
            where = f"the value at index {k}" if many else f"the given {what}"
            raise TypeError(f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but {where} has type {type(t)}.")
    return many, items


def unpacked(items: Sequence[Any], many: bool) -> Any:
    return tuple(items) if many else items[0]


def prepared(inputs: Sequence[Any], create_graph: bool) -> tuple[Any, ...]:
    """The inputs as tensors of their own that require grad, tied to the originals if a graph is to be made."""
    made = []
    for t in inputs:
        if create_graph and t._edge is not None:
            made.append(t.view_as(t))
        else:
            made.append(t.detach().requires_grad_(True))
    return tuple(made)


def detached(tensors: Any, create_graph: bool) -> Any:
    if isinstance(tensors, tuple):
        return tuple(detached(t, create_graph) for t in tensors)
    return tensors if create_graph else tensors.detach()


def call(func: Callable[..., Any], inputs: Sequence[Any], name: str) -> tuple[bool, tuple[Any, ...]]:
    """The function's outputs, as ``as_tuple`` gives them."""
    return as_tuple(func(*inputs), "outputs of the user-provided function", name)


def gradients(outputs: Sequence[Any], inputs: Sequence[Any], grads: Sequence[Any] | None = None, *,
              create_graph: bool = False) -> list[Any]:
    """The gradient of each input, None where nothing depends on it."""
    grads = [None] * len(outputs) if grads is None else list(grads)
    reached = [(y, engine.Rules.ones(y._value.meta) if g is None else g) for y, g in zip(outputs, grads, strict=True)
               if y._edge is not None]
    if not reached:
        return [None] * len(inputs)
    found = engine.run([y for y, _ in reached], [g for _, g in reached], retain_graph=True, create_graph=create_graph, inputs=inputs,
                       accumulate=False)
    return [found.get(k) for k in range(len(inputs))]


HESSIAN = ("While computing the hessian, found that the jacobian of the user-provided function with respect to input {} is independent of "
           "the input. This is not allowed in strict mode. You should ensure that your function is twice differentiable and that the "
           "jacobian depends on the inputs (this would be violated by a linear function for example).")


def filled(grads: Sequence[Any], like: Sequence[Any], strict: bool, message: Callable[[int], str]) -> tuple[Any, ...]:
    """Zeros for absent gradients.

    Raises:
        RuntimeError: one is absent in strict mode.
    """
    made = []
    for k, (g, t) in enumerate(zip(grads, like, strict=True)):
        if g is None:
            if strict:
                raise RuntimeError(message(k))
            g = engine.Rules.zeros(t._value.meta)
        made.append(g)
    return tuple(made)


def check_outputs(outputs: Sequence[Any], strict: bool, jacobian: bool = False) -> None:
    """Raise RuntimeError for an output without a gradient in strict mode."""
    if not strict:
        return
    for k, t in enumerate(outputs):
        if t._edge is None:
            raise RuntimeError(HESSIAN.format(k) if jacobian else
                               f"Output {k} of the user-provided function does not require gradients. The outputs must be computed in a "
                               "differentiable manner from the input when running in strict mode.")


def check_vector(v: Any, like: Sequence[Any], like_many: bool, name: str, absent: str) -> tuple[Any, ...]:
    """The vector as a tuple, ones where it was left out.

    Raises:
        RuntimeError: it does not have the shapes of ``like``, or was left out although ``like`` is not a single number.
    """
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if {absent} a single Tensor with a single element.")
        return (engine.Rules.ones(like[0]._value.meta),)
    _, given = as_tuple(v, "v", name)
    if len(given) != len(like):
        if like_many:
            raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(given)}.")
        raise RuntimeError("The given v should contain a single Tensor.")
    for k, (a, b) in enumerate(zip(given, like, strict=True)):
        if a._value.meta.shape != b._value.meta.shape:
            where = f"Entry {k} in v" if len(like) > 1 else "v"
            raise RuntimeError(f"{where} has invalid size: should be {b.size()} but got {a.size()}.")
    return given

