"""Parameters and buffers: tensors that modules register when they are assigned as attributes."""
from __future__ import annotations

from typing import Any

from ..autograd.apply import alias_of
from ..autograd.handle import Handle
from ..autograd.quick import PLAIN_TENSORS
from ..tensor import Tensor
from ..tensor.pickling import deepcopy_tensor

__all__ = ["Parameter", "Buffer"]


def _over(data: Any, cls: type) -> Any:
    """An instance of ``cls`` over the memory of ``data``, a leaf of its own."""
    if data is None:
        return Tensor(0).as_subclass(cls)
    if not isinstance(data, Handle):
        raise TypeError(f"{cls.__name__} expects a Tensor, got {type(data).__name__}")
    made = alias_of(data).as_subclass(cls)
    made.__dict__.update(data.__dict__)
    return made


class Parameter(Tensor):
    """A tensor that a ``Module`` lists among its parameters when it is assigned to an attribute.

    Args:
        data: the content (its memory is shared). None: an empty tensor.
        requires_grad: as of any leaf; True by default.

    Raises:
        RuntimeError: ``requires_grad`` for a tensor that is not floating, or outside of inference mode for one that was made in it.

    Example:
        >>> Parameter(torch.zeros(2))
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        made = _over(data, cls)
        if requires_grad:
            if made.dtype.kind not in "fc":
                raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
            made.requires_grad_()
        return made

    def __repr__(self, *, tensor_contents: str | None = None) -> str:  # type: ignore[override]  # the same signature; mypy drops the name
        return self._repr(is_parameter=True)

    def __deepcopy__(self, memo: dict) -> Any:
        """A copy without ``grad``: the copy of a model that was being trained begins with no gradients, as in PyTorch."""
        return deepcopy_tensor(self, memo, parameter=True)


class _BufferKind(type(Tensor)):  # type: ignore[misc]
    """Any tensor marked as a buffer counts as an instance of Buffer."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if cls is Buffer and isinstance(instance, Handle) and instance.__dict__.get("_is_buffer", False):
            return True
        return super().__instancecheck__(instance)


class Buffer(Tensor, metaclass=_BufferKind):
    """A tensor that a ``Module`` registers as a buffer when it is assigned: ``Buffer(data, persistent=True)``."""

    __slots__ = ()

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        made: Any = Tensor(0) if data is None else alias_of(data)
        if data is not None:
            made._edge = data._edge
        made.persistent = persistent
        made._is_buffer = True
        return made


PLAIN_TENSORS |= {Parameter, Buffer}
