"""Layers of half precision round once: sums and bias in float32, then the cast."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn

F = nn.functional

#: name -> (layer, shapes of input, weight and bias); sizes for the kernels of pairs, and small ones
LAYERS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "linear": (F.linear, ((40, 64), (48, 64), (48,))),
    "small linear": (F.linear, ((3, 7), (5, 7), (5,))),
    "linear to one number": (F.linear, ((40, 64), (64,), ())),
    "conv1d": (F.conv1d, ((2, 16, 30), (24, 16, 3), (24,))),
    "conv2d": (F.conv2d, ((2, 16, 12, 12), (24, 16, 3, 3), (24,))),
    "grouped conv2d": (lambda x, w, b: F.conv2d(x, w, b, groups=2), ((2, 16, 9, 9), (24, 8, 3, 3), (24,))),
    "depthwise conv2d": (lambda x, w, b: F.conv2d(x, w, b, groups=16), ((2, 16, 9, 9), (16, 1, 3, 3), (16,))),
    "conv_transpose2d": (F.conv_transpose2d, ((2, 16, 9, 9), (16, 24, 3, 3), (24,))),
    "strided conv_transpose2d": (lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2), ((2, 16, 7, 7), (16, 24, 3, 3), (24,))),
}


def exact(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Multiples of 1/16 up to 2: every sum of products of a few hundred is exact in float32."""
    return np.random.default_rng(seed).integers(-32, 33, shape) / 16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", LAYERS)
def test_sum_and_bias_are_rounded_together(name: str, dtype: Any) -> None:
    layer, shapes = LAYERS[name]
    arrays = [exact(s, k) for k, s in enumerate(shapes)]
    arrays[2] = arrays[2] / 16 + 1 / 64  # finer than what the sum alone is rounded to
    want = layer(*(torch.tensor(a) for a in arrays)).to(dtype)
    for _ in range(2):  # in the interpreter, then compiled
        got = layer(*(torch.tensor(a).to(dtype) for a in arrays))
        assert got.dtype is dtype
        assert (got == want).all().item()
