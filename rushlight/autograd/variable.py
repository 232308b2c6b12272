"""``Variable``: the name tensors that require grad once had."""
from __future__ import annotations

from typing import Any

from ..record.warn import warn
from .handle import Handle

__all__ = ["Variable"]


class _VariableType(type):
    def __instancecheck__(cls, other: object) -> bool:
        return isinstance(other, Handle)


class Variable(metaclass=_VariableType):
    """``Variable(t, requires_grad=True)`` is the tensor itself, detached; every tensor is an instance."""

    def __new__(cls, data: Any, requires_grad: bool = False, volatile: bool = False) -> Any:
        if volatile:
            warn("volatile was removed and now has no effect. Use `with torch.no_grad():` instead.", UserWarning)
        return data.detach().requires_grad_(requires_grad)
