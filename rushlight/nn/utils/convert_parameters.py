"""All parameters as one vector, and back."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...tensor import FUNCTIONS

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """The elements of all parameters, one after the other."""
    return FUNCTIONS["cat"]([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Let parameters take their elements out of a vector.

    Raises:
        TypeError: ``vec`` is no tensor.
    """
    if not hasattr(vec, "_value"):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__module__}.{type(vec).__qualname__}")
    at = 0
    for p in parameters:
        n = p.numel()
        p.data = vec[at:at + n].view_as(p).detach().clone()
        at += n
