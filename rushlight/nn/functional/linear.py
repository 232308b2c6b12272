"""Linear and bilinear maps."""
from __future__ import annotations

from typing import Any

from ...autograd.titles import titled
from ...ops.contraction import linear as linear_op
from ...tensor import FUNCTIONS
from ...tensor.out import fill_out

__all__ = ["linear", "bilinear"]


def linear(input: Any, weight: Any, bias: Any = None, *, out: Any = None) -> Any:
    """``input @ weight.T + bias``: (..., in), (out, in), (out,) -> (..., out).

    Raises:
        RuntimeError: sizes or dtypes do not fit.
    """
    result = linear_op(input, weight) if bias is None else linear_op(input, weight, bias)
    return result if out is None else fill_out(out, result, "linear")


@titled(lambda input1, input2, weight, bias=None: None if bias is None else "AddBackward0")
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """``y_o = x1 W_o x2 + b_o``: (..., in1), (..., in2), (out, in1, in2), (out,) -> (..., out).

    Raises:
        RuntimeError: sizes do not fit.
    """
    if input1.ndim != input2.ndim:
        raise RuntimeError(f"bilinear(): input dimensions do not match: got {input1.ndim} and {input2.ndim}")
    for d in range(input1.ndim - 1):
        if input1.shape[d] != input2.shape[d]:
            raise RuntimeError(f"bilinear(): input batch dimensions do not match at dim {d}: got {input1.shape[d]} and {input2.shape[d]}")
    for k, x in ((1, input1), (2, input2)):
        if x.shape[-1] != weight.shape[k]:
            raise RuntimeError(f"bilinear(): input{k} size does not match weight size: got {x.shape[-1]} but expected {weight.shape[k]}")
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise RuntimeError(f"bilinear(): bias size does not match weight size: got {bias.shape[0]} but expected {weight.shape[0]}")
    a, b = input1.reshape(-1, input1.shape[-1]), input2.reshape(-1, input2.shape[-1])  # (N, in1), (N, in2)
    out, in1, in2 = weight.shape
    left = FUNCTIONS["matmul"](a, weight.permute(1, 0, 2).reshape(in1, out * in2)).reshape(-1, out, in2)  # (N, out, in2)
    y = (left * b.unsqueeze(1)).sum(-1, dtype=left.dtype)
    y = y if bias is None else y + bias
    return y.reshape(*input1.shape[:-1], out)
