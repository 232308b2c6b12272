"""Parameters and buffers: tensors that modules register when they are assigned as attributes."""
from __future__ import annotations

from typing import Any

from ..autograd.apply import alias_of
from ..autograd.handle import Handle
from ..autograd.overriding import disabled, overrides
from ..autograd.quick import PLAIN_TENSORS
from ..tensor import Tensor
from ..tensor.pickling import deepcopy_tensor
from ..tensor.subclassing import of_class

__all__ = ["Parameter", "Buffer"]


def _over(data: Any, cls: type) -> Any:
    """An instance of ``cls`` over the memory of ``data``, a leaf of its own."""
    if data is None:
        return of_class(Tensor(0), cls)
    if not isinstance(data, Handle):
        raise TypeError(f"{cls.__name__} expects a Tensor, got {type(data).__name__}")
    made = of_class(alias_of(data), cls)
    made.__dict__.update(data.__dict__)
    return made


class _ParameterKind(type(Tensor)):  # type: ignore[misc]
    """An instance of another subclass of Tensor that was made a parameter counts as an instance of Parameter."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            cls is Parameter and isinstance(instance, Handle) and instance.__dict__.get("_is_param", False))


class Parameter(Tensor, metaclass=_ParameterKind):
    """A tensor that a ``Module`` lists among its parameters when it is assigned to an attribute.

    Args:
        data: the content (its memory is shared). None: an empty tensor. Of an instance of another subclass of Tensor, the parameter is one,
            too.
        requires_grad: as of any leaf; True by default.

    Raises:
        RuntimeError: ``requires_grad`` for a tensor that is not floating, or outside of inference mode for one that was made in it.

    Example:
        >>> Parameter(torch.zeros(2))
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()
    __torch_function__ = disabled

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        if cls is Parameter and isinstance(data, Handle) and overrides(type(data)):
            made = data.detach()
            if type(made) is not type(data):
                raise RuntimeError(f"Creating a Parameter from an instance of type {type(data).__name__} requires that detach() returns an "
                                   f"instance of the same type, not of {type(made).__name__}")
            made.__dict__["_is_param"] = True
            return made.requires_grad_(requires_grad)
        made = _over(data, cls)
        if requires_grad:
            if made.dtype.kind not in "fc":
                raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
            made.requires_grad_()
        return made

    def _class_name(self) -> str:
        return "tensor" if type(self) is Parameter else type(self).__name__

    def __repr__(self, *, tensor_contents: str | None = None) -> str:  # type: ignore[override]  # the same signature; mypy drops the name
        text: str = self._repr(is_parameter=True)
        if type(self) is Parameter:
            return text
        head, _, rest = text.partition("\n")
        return f"{head}\nParameter({rest})"

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
    __torch_function__ = disabled

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        made: Any = Tensor(0) if data is None else alias_of(data)
        if data is not None:
            made._edge = data._edge
        made.persistent = persistent
        made._is_buffer = True
        return made


PLAIN_TENSORS |= {Parameter, Buffer}
