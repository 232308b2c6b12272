"""Python's operators: attached to Tensor when all functions are known."""
from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from ..autograd.engine import Rules
from ..autograd.handle import Handle, set_tensor_class
from ..autograd.overriding import Names, overrides
from ..autograd.quick import OPERAND, PLAIN_TENSORS, POSITION, quick
from .registry import CONVENIENCES, FUNCTIONS, with_python_types
from .tensor import Tensor

__all__ = ["complete"]

_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder", "pow": "pow",
           "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
           "rshift": "bitwise_right_shift"}
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_SHOWN = {"add", "sub", "mul", "truediv", "mod", "pow", "matmul"}  # as PyTorch names them to ``__torch_function__``
_SCALED = {"add_", "sub_", "mul_", "div_"}  # every number is as good as another to these
_UNARY = {"neg": "neg", "abs": "abs"}


def _name(method: Any, name: str) -> None:
    method.__name__, method.__qualname__ = name, f"Tensor.{name}"


def _operator(name: str, define: Any, reflected: bool, numbers: str | None = None, shown: Any = None) -> Any:
    """A dunder method: NumPy arrays become tensors, and what is neither tensor nor number is left to the other side, unless its class
    says what functions do with it. ``shown``: the method that such a class is told."""
    def call(self: Any, other: Any) -> Any:
        if not isinstance(self, Handle):
            raise TypeError(f"descriptor '{name}' for 'torch._C.TensorBase' objects doesn't apply to a '{type(self).__name__}' object")
        if not isinstance(other, (Handle, int, float, complex, np.generic)):
            if not isinstance(other, np.ndarray):
                if overrides(type(other)):
                    raise TypeError(f"unsupported operand: {type(other).__name__}")  # its class is asked
                return NotImplemented
            other = Rules.from_numpy(other)
        return define(other, self) if reflected else define(self, other)
    _name(call, name)
    return quick(call, numbers, shown=shown)


def _invert(self: Any) -> Any:
    if self.dtype.kind not in "bui":
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return self.bitwise_not()


def _divided(self: Any, other: Any) -> Any:
    """``other / self``, as Python 2 called it."""
    return self.reciprocal() * other


def _called(f: Any) -> str:
    """What a public function or method is called in an error."""
    known: Any = FUNCTIONS.get(f.__name__)
    if known is f:
        return f"torch.{f.__name__}"
    place = "Tensor" if getattr(Tensor, f.__name__, None) is f else "nn.functional" if ".nn.functional" in f.__module__ else ""
    return f"torch.{place}.{f.__name__}" if place else f"{f.__module__}.{f.__name__}"


def complete(methods: dict[str, Any]) -> None:
    """Attach the methods that other modules define, and let results be Tensors."""
    for name, define in methods.items():
        define = with_python_types(define)
        if isinstance(define, FunctionType) and name not in CONVENIENCES and name != "__setitem__":
            define = quick(define, POSITION if name == "__getitem__" else OPERAND if name in _SCALED else None, numpy_names=True)
            _name(define, name)
        setattr(Tensor, name, define)
    for dunder, name in _BINARY.items():
        # Of these every number is as good as another: no result, check or formula depends on which it is.
        numbers = OPERAND if dunder in ("add", "sub", "mul", "truediv") else None
        shown = getattr(Tensor, name) if dunder in _SHOWN else None
        setattr(Tensor, f"__{dunder}__", _operator(f"__{dunder}__", methods[name], False, numbers, shown))
        reflected = shown if dunder in ("add", "mul") else None
        setattr(Tensor, f"__r{dunder}__", _operator(f"__r{dunder}__", methods[name], True, numbers, reflected))
        if name + "_" in methods:
            setattr(Tensor, f"__i{dunder}__", getattr(Tensor, name + "_"))
    for name in _COMPARISONS:
        shown = None if name == "eq" else getattr(Tensor, name)
        setattr(Tensor, f"__{name}__", _operator(f"__{name}__", methods[name], False, shown=shown))
    for dunder, name in _UNARY.items():
        setattr(Tensor, f"__{dunder}__", getattr(Tensor, name))
    Tensor.__invert__ = _invert  # type: ignore[operator]
    Tensor.__rdiv__ = _divided  # type: ignore[attr-defined]
    for name in ("__setitem__", "__invert__", "contiguous"):
        _name(getattr(Tensor, name), name)
    Names.of = staticmethod(_called)
    set_tensor_class(Tensor)
    PLAIN_TENSORS.add(Tensor)
