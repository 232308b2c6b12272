"""Derivatives along a direction, carried through a computation: ``torch.autograd.forward_ad``.

A dual tensor has a value and a tangent. What is computed of it is recorded with its graph, as for a backward; the tangent of a result is
the derivative of the gradient by what that was given, to which it is linear. So whatever can be differentiated twice has tangents, and
a dual tensor requires grad here.

Example:
    >>> import rushlight.autograd.forward_ad as fwAD
    >>> with fwAD.dual_level():
    ...     x = fwAD.make_dual(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0]))
    ...     fwAD.unpack_dual(x * x).tangent
    tensor([2., 0.])
"""
from __future__ import annotations

import threading
from typing import Any, NamedTuple

from .arguments import gradients
from .engine import Rules
from .levels import Level
from .modes import enable_grad

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]


class UnpackedDualTensor(NamedTuple):
    """A value and its tangent; None: it has none."""

    primal: Any
    tangent: Any


class _Duals(Level):
    """The dual tensors of a level, and their tangents."""

    def __init__(self) -> None:
        super().__init__()
        self.duals: list[tuple[Any, Any]] = []


class _State(threading.local):
    level: _Duals | None = None


_state = _State()


def enter_dual_level() -> int:
    """Begin a level, in which tensors have tangents; returns its number, 0.

    Raises:
        RuntimeError: inside of another one.
    """
    if _state.level is not None:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _state.level = _Duals()
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level: its tangents are forgotten.

    Raises:
        RuntimeError: there is none.
    """
    if _state.level is None or level not in (None, 0):
        raise RuntimeError("Trying to exit a forward AD level that was not the last one that was created. This is not supported.")
    _state.level = None


def make_dual(tensor: Any, tangent: Any, *, level: int | None = None) -> Any:
    """A tensor with a tangent: a view of ``tensor``, whose gradients flow on.

    Args:
        tensor, tangent: of one shape and dtype, floating or complex.

    Raises:
        RuntimeError: there is no level, or shapes differ. ValueError: neither floating nor complex.
    """
    if _state.level is None:
        raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first.")
    for name, t in (("primal", tensor), ("tangent", tangent)):
        if t.dtype.kind not in "fc":
            raise ValueError(f"Expected {name} to be floating point or complex, but got: {t.dtype}")
    if tensor.shape != tangent.shape:
        raise RuntimeError(f"Expected tangent to have the same shape as its primal, but got {tuple(tangent.shape)} and "
                           f"{tuple(tensor.shape)}")
    if tensor.dtype is not tangent.dtype:
        raise RuntimeError(f"Expected tangent to have the same dtype as its primal, but got {tangent.dtype} and {tensor.dtype}")
    made = _state.level.enter(tensor)[0]
    _state.level.duals.append((made, tangent))
    return made


def unpack_dual(tensor: Any, *, level: int | None = None) -> UnpackedDualTensor:
    """The value and the tangent of a tensor; it has none where no dual tensor led to it, or outside of a level.

    Example:
        >>> import rushlight.autograd.forward_ad as fwAD
        >>> with fwAD.dual_level():
        ...     fwAD.unpack_dual(torch.ones(2))
        UnpackedDualTensor(primal=tensor([1., 1.]), tangent=None)
    """
    found = _state.level
    if found is None or tensor._edge is None:
        return UnpackedDualTensor(tensor, None)
    duals = [x for x, _ in found.duals]
    with enable_grad():
        seed = Rules.zeros(tensor._value.meta).requires_grad_(True)
        found.own.add(id(seed))
        slopes = gradients([tensor], duals, [seed], create_graph=True)
        reached = [(g, tangent) for g, (_, tangent) in zip(slopes, found.duals) if g is not None]
    shown = found.leave(tensor)
    if not reached:
        return UnpackedDualTensor(shown, None)
    (pushed,) = found.differentiate([g for g, _ in reached], [seed], [tangent for _, tangent in reached])
    return UnpackedDualTensor(shown, found.leave(pushed))


class dual_level:  # noqa: N801
    """A context manager: inside, tensors may have tangents."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *error: Any) -> None:
        exit_dual_level()
