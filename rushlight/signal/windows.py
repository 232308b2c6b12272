"""Window functions, as ``torch.signal.windows`` and as the older ``torch.hann_window`` and its like."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..ops.promotion import default_dtype
from ..tensor.creation import check_device, convert, finish, from_owned

__all__ = ["bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming", "hann", "kaiser",
           "nuttall"]


def _window(name: str, M: int, sym: bool, shape: Callable[[np.ndarray, int], np.ndarray], dtype: Any, layout: Any, device: Any,
            requires_grad: bool) -> Any:
    """``shape(k, n)`` for k = 0 ... M - 1, with n the length that makes the window symmetric."""
    check_device(device)
    kind = dtype or default_dtype()
    if kind.kind != "f" or kind.name not in ("float32", "float64"):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {kind}")
    if getattr(layout, "name", "strided") != "strided":
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if M <= 1:
        values = np.ones(M)
    else:
        values = shape(np.arange(M, dtype=np.float64), M if sym else M + 1)
    return finish(from_owned(convert(values, kind).copy()), requires_grad)


def _cosines(a: Iterable[float]) -> Callable[[np.ndarray, int], np.ndarray]:
    """A sum of cosines with alternating signs."""
    terms = list(a)

    def shape(k: np.ndarray, n: int) -> np.ndarray:
        total = np.zeros(len(k))
        for i, c in enumerate(terms):
            total = total + (-1) ** i * c * np.cos(2 * math.pi * i * k / (n - 1))
        return total
    return shape


def general_cosine(M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
                   requires_grad: bool = False) -> Any:
    """A sum of cosines with the coefficients ``a``, signs alternating."""
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    terms = list(a)
    if not terms:
        raise ValueError("Coefficients cannot be empty")
    return _window("general_cosine", M, sym, _cosines(terms), dtype, layout, device, requires_grad)


def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
                    requires_grad: bool = False) -> Any:
    """``alpha - (1 - alpha) cos``."""
    return _window("general_hamming", M, sym, _cosines([alpha, 1 - alpha]), dtype, layout, device, requires_grad)


def hamming(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """The Hamming window."""
    return _window("hamming", M, sym, _cosines([0.54, 0.46]), dtype, layout, device, requires_grad)


def hann(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """The Hann window."""
    return _window("hann", M, sym, _cosines([0.5, 0.5]), dtype, layout, device, requires_grad)


def blackman(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """The Blackman window."""
    return _window("blackman", M, sym, _cosines([0.42, 0.5, 0.08]), dtype, layout, device, requires_grad)


def nuttall(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """The minimum four-term Blackman-Harris window according to Nuttall."""
    return _window("nuttall", M, sym, _cosines([0.3635819, 0.4891775, 0.1365995, 0.0106411]), dtype, layout, device, requires_grad)


def bartlett(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """The triangular window that is zero at both ends."""
    return _window("bartlett", M, sym, lambda k, n: 1 - np.abs(2 * k / (n - 1) - 1), dtype, layout, device, requires_grad)


def cosine(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """Half a period of the sine."""
    return _window("cosine", M, sym, lambda k, n: np.sin(math.pi / n * (k + 0.5)), dtype, layout, device, requires_grad)


def exponential(M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None,
                device: Any = None, requires_grad: bool = False) -> Any:
    """exp(-|k - center| / tau)."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    return _window("exponential", M, sym, lambda k, n: np.exp(-np.abs(k - ((n - 1) / 2 if center is None else center)) / tau), dtype,
                   layout, device, requires_grad)


def gaussian(M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False) -> Any:
    """The bell curve of standard deviation ``std``."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    return _window("gaussian", M, sym, lambda k, n: np.exp(-(((k - (n - 1) / 2) / std) ** 2) / 2), dtype, layout, device, requires_grad)


def kaiser(M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
           requires_grad: bool = False) -> Any:
    """The Kaiser window of shape ``beta``."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _window("kaiser", M, sym, lambda k, n: np.i0(beta * np.sqrt(np.maximum(1 - (2 * k / (n - 1) - 1) ** 2, 0))) / np.i0(beta), dtype,
                   layout, device, requires_grad)


# -- the older names ----------------------------------------------------------------------------------------------


def _older(define: Callable[..., Any], name: str, *more: str, **fixed: float) -> Callable[..., Any]:
    def call(window_length: int, periodic: bool = True, *values: float, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False, **named: float) -> Any:
        if window_length < 0:
            raise RuntimeError(f"{name} requires non-negative window_length, got window_length={window_length}")
        if dtype is not None and dtype.kind != "f":
            raise RuntimeError(f"{name} expects floating point dtypes, got: {dtype}")
        return define(window_length, sym=not periodic, dtype=dtype, device=device, requires_grad=requires_grad,
                      **{**fixed, **dict(zip(more, values)), **named})
    call.__name__ = name
    call.__doc__ = f"``signal.windows.{define.__name__}``, periodic unless told otherwise."
    return call


def _hamming(M: int, *, alpha: float = 0.54, beta: float = 0.46, sym: bool = True, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Any:
    return _window("hamming", M, sym, _cosines([alpha, beta]), dtype, None, device, requires_grad)


torch_hann_window = _older(hann, "hann_window")
torch_hamming_window = _older(_hamming, "hamming_window", "alpha", "beta")
torch_blackman_window = _older(blackman, "blackman_window")
torch_bartlett_window = _older(bartlett, "bartlett_window")
torch_kaiser_window = _older(kaiser, "kaiser_window", "beta")
