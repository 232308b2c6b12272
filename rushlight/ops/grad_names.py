"""Names of gradient nodes that follow from how an operation was called: values of ``Op.grad_name``, called when somebody looks."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from ..record.meta import Meta
from .pointwise import TENSOR

__all__ = ["UNKNOWN", "attention_name", "by_dimensions", "by_first", "by_number", "by_tensor", "linear_name", "matmul_name",
           "pow_name", "reduced_name", "remainder_name", "xlogy_name"]

UNKNOWN = "torch::autograd::NotImplemented"  # PyTorch's node where it knows no derivative

Name = Callable[[tuple, Sequence[Meta], int], str]


def matmul_name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    """What PyTorch's matmul ends with for operands of so many dimensions."""
    a, b = len(attrs[0]), len(attrs[1])
    if a == 1 or b == 1:
        return "DotBackward0" if a == b else "MvBackward0" if a == 2 else "SqueezeBackward4" if b == 2 else "UnsafeViewBackward0"
    return "MmBackward0" if a == b == 2 else "UnsafeViewBackward0" if a > 2 else "CloneBackward0"


def linear_name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    n = len(outs[0].shape)
    if inputs > 2:
        return "AddmmBackward0" if n == 2 else "ViewBackward0"
    return "MmBackward0" if n == 2 else "UnsafeViewBackward0" if n > 2 else "SqueezeBackward4"


def by_tensor(name: str) -> Name:
    """PyTorch's second form takes a tensor as last argument."""
    return lambda attrs, outs, inputs: f"{name}Backward{int(attrs[0][-1] is TENSOR)}"


def by_number(name: str) -> Name:
    """The first takes tensors alone."""
    return lambda attrs, outs, inputs: f"{name}Backward{int(any(p is not TENSOR for p in attrs[0]))}"


def pow_name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    base, exponent = attrs[0]
    return f"PowBackward{0 if exponent is not TENSOR else 1 if base is TENSOR else 2}"


def remainder_name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    return f"RemainderBackward{int(attrs[0][1] is TENSOR)}" if attrs[0][0] is TENSOR else UNKNOWN


def xlogy_name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    a, b = attrs[0]
    return f"XlogyBackward{2 if b is not TENSOR else 1 if a is not TENSOR else 0}"


def by_first(name: str, number: str) -> Name:
    """``number`` where the first operand is one: ``2 - x`` is another operation than ``x - 2`` in PyTorch, ``2 / x`` two of them."""
    return lambda attrs, outs, inputs: name if attrs[0][0] is TENSOR else number


def by_dimensions(name: str) -> Name:
    """In one dimension PyTorch adds a second and takes it away again."""
    return lambda attrs, outs, inputs: "SqueezeBackward1" if attrs[0].nd == 1 else name.format(attrs[0].nd)


def reduced_name(terms: str) -> Name:
    last = {"none": terms, "mean": "MeanBackward0", "sum": "SumBackward0"}
    return lambda attrs, outs, inputs: last[attrs[2]]


def attention_name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    """PyTorch has a kernel for four dimensions, without dropout; what else there is it writes out as products."""
    n = len(outs[0].shape)
    if n == 4 and not attrs[3]:
        return "ScaledDotProductFlashAttentionForCpuBackward0"
    return "UnsafeViewBackward0" if n > 2 else "MmBackward0"
