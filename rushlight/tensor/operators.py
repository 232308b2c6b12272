"""Python's operators and the conversions ``t.float()``, ``t.long()``, ...: attached to Tensor when all functions are known."""
from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from ..autograd.engine import Rules
from ..autograd.handle import Handle, set_tensor_class
from ..autograd.quick import OPERAND, PLAIN_TENSORS, POSITION, quick
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from .tensor import Tensor

__all__ = ["complete"]

_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder", "pow": "pow",
           "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
           "rshift": "bitwise_right_shift"}
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_UNARY = {"neg": "neg", "abs": "abs", "invert": "bitwise_not"}
_CONVERSIONS = {"float": dt.float32, "double": dt.float64, "half": dt.float16, "bfloat16": dt.bfloat16, "int": dt.int32, "long": dt.int64,
                "short": dt.int16, "char": dt.int8, "byte": dt.uint8, "bool": dt.bool_, "cfloat": dt.complex64, "cdouble": dt.complex128}


def _operator(define: Any, reflected: bool, numbers: str | None = None) -> Any:
    """A dunder method: NumPy arrays become tensors, and what is neither tensor nor number is left to the other side."""
    def call(self: Any, other: Any) -> Any:
        if not isinstance(other, (Handle, int, float, complex, np.generic)):
            if not isinstance(other, np.ndarray):
                return NotImplemented
            other = Rules.from_numpy(other)
        return define(other, self) if reflected else define(self, other)
    return quick(call, numbers)


def _converter(d: DType) -> Any:
    def call(self: Any, memory_format: Any = None) -> Any:
        return self.to(d)
    call.__doc__ = f"The tensor as {d!r}."
    return call


def complete(methods: dict[str, Any]) -> None:
    """Attach the methods that other modules define, and let results be Tensors."""
    for name, d in _CONVERSIONS.items():
        methods.setdefault(name, _converter(d))
    for name, define in methods.items():
        if isinstance(define, FunctionType) and (not name.endswith("_") or name == "__getitem__"):
            define = quick(define, POSITION if name == "__getitem__" else None)
        setattr(Tensor, name, define)
    for dunder, name in _BINARY.items():
        # Of these every number is as good as another: no result, check or formula depends on which it is.
        numbers = OPERAND if dunder in ("add", "sub", "mul", "truediv") else None
        setattr(Tensor, f"__{dunder}__", _operator(methods[name], False, numbers))
        setattr(Tensor, f"__r{dunder}__", _operator(methods[name], True, numbers))
        if name + "_" in methods:
            setattr(Tensor, f"__i{dunder}__", methods[name + "_"])
    for name in _COMPARISONS:
        setattr(Tensor, f"__{name}__", _operator(methods[name], False))
    for dunder, name in _UNARY.items():
        setattr(Tensor, f"__{dunder}__", methods[name])
    Tensor.__rdiv__ = Tensor.__rtruediv__  # type: ignore[attr-defined]
    set_tensor_class(Tensor)
    PLAIN_TENSORS.add(Tensor)
