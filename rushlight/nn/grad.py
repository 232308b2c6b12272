"""``torch.nn.grad``: the gradients of convolutions, as functions."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import grad
from ..autograd.modes import enable_grad, is_grad_enabled
from .functional import conv1d, conv2d, conv3d

__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]


def _pair(conv: Callable[..., Any], n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    spatial = ("L", "H, W", "D, H, W")[n - 1]

    def by_input(input_size: Sequence[int], weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1) -> Any:
        with enable_grad():  # what the input is does not matter: a convolution is linear
            x = grad_output.new_empty(1).expand(tuple(input_size)).requires_grad_()
            out = conv(x, weight, None, stride, padding, dilation, groups)
        return _pulled(out, x, grad_output, weight)

    def by_weight(input: Any, weight_size: Sequence[int], grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                  groups: int = 1) -> Any:
        with enable_grad():
            w = grad_output.new_empty(1).expand(tuple(weight_size)).requires_grad_()
            out = conv(input, w, None, stride, padding, dilation, groups)
        return _pulled(out, w, grad_output, input)

    for function, what, size in ((by_input, "input", f"(N, C, {spatial})"), (by_weight, "weight", f"(C out, C in / groups, {spatial})")):
        function.__name__ = function.__qualname__ = f"{conv.__name__}_{what}"
        function.__doc__ = (f"The gradient of ``{conv.__name__}`` by its {what}, of shape {size}, given that of its result.\n\n"
                            f"Raises:\n    RuntimeError: ``grad_output`` is not of the shape of the result.")
    return by_input, by_weight


def _pulled(out: Any, leaf: Any, grad_output: Any, *others: Any) -> Any:
    if out.shape != grad_output.shape:
        raise RuntimeError(f"Expected grad_output to have shape {list(out.shape)}, but got {list(grad_output.shape)}")
    wanted = is_grad_enabled() and any(t.requires_grad for t in (grad_output, *others))
    return grad(out, leaf, grad_output, create_graph=wanted)[0]


conv1d_input, conv1d_weight = _pair(conv1d, 1)
conv2d_input, conv2d_weight = _pair(conv2d, 2)
conv3d_input, conv3d_weight = _pair(conv3d, 3)
