"""Python's operators: attached to Tensor when all functions are known."""
from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import numpy as np

from ..autograd.engine import Rules
from ..autograd.handle import Handle, set_tensor_class
from ..autograd.quick import OPERAND, PLAIN_TENSORS, POSITION, quick
from .parts import part_of_ready
from .registry import CONVENIENCES, with_python_types
from .tensor import Tensor

__all__ = ["complete"]

_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder", "pow": "pow",
           "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
           "rshift": "bitwise_right_shift"}
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_SCALED = {"add_", "sub_", "mul_", "div_"}  # every number is as good as another to these
_UNARY = {"neg": "neg", "abs": "abs"}


def _operator(name: str, define: Any, reflected: bool, numbers: str | None = None) -> Any:
    """A dunder method: NumPy arrays become tensors, and what is neither tensor nor number is left to the other side."""
    def call(self: Any, other: Any) -> Any:
        if not isinstance(self, Handle):
            raise TypeError(f"descriptor '{name}' for 'torch._C.TensorBase' objects doesn't apply to a '{type(self).__name__}' object")
        if not isinstance(other, (Handle, int, float, complex, np.generic)):
            if not isinstance(other, np.ndarray):
                return NotImplemented
            other = Rules.from_numpy(other)
        return define(other, self) if reflected else define(self, other)
    return quick(call, numbers)


def _invert(self: Any) -> Any:
    if self.dtype.kind not in "bui":
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return self.bitwise_not()


def _divided(self: Any, other: Any) -> Any:
    """``other / self``, as Python 2 called it."""
    return self.reciprocal() * other


def _indexing(define: Any) -> Any:
    @functools.wraps(define)
    def call(self: Any, key: Any) -> Any:
        found = part_of_ready(self, key)
        return define(self, key) if found is None else found
    return call


def complete(methods: dict[str, Any]) -> None:
    """Attach the methods that other modules define, and let results be Tensors."""
    for name, define in methods.items():
        define = with_python_types(define)
        if isinstance(define, FunctionType) and name not in CONVENIENCES and name != "__setitem__":
            define = quick(define, POSITION if name == "__getitem__" else OPERAND if name in _SCALED else None, numpy_names=True)
            if name == "__getitem__":
                define = _indexing(define)
        setattr(Tensor, name, define)
    for dunder, name in _BINARY.items():
        # Of these every number is as good as another: no result, check or formula depends on which it is.
        numbers = OPERAND if dunder in ("add", "sub", "mul", "truediv") else None
        setattr(Tensor, f"__{dunder}__", _operator(f"__{dunder}__", methods[name], False, numbers))
        setattr(Tensor, f"__r{dunder}__", _operator(f"__r{dunder}__", methods[name], True, numbers))
        if name + "_" in methods:
            setattr(Tensor, f"__i{dunder}__", getattr(Tensor, name + "_"))
    for name in _COMPARISONS:
        setattr(Tensor, f"__{name}__", _operator(f"__{name}__", methods[name], False))
    for dunder, name in _UNARY.items():
        setattr(Tensor, f"__{dunder}__", getattr(Tensor, name))
    Tensor.__invert__ = _invert  # type: ignore[operator]
    Tensor.__rdiv__ = _divided  # type: ignore[attr-defined]
    set_tensor_class(Tensor)
    PLAIN_TENSORS.add(Tensor)
