"""Complex numbers and Fourier transforms as calls that mean what NumPy does; ``passes/planes.py`` takes them apart into real ones."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .dtypes import DType
from .graph import NativeCall, Shape

__all__ = ["Complex", "Transform"]


def _join(real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    made = np.empty(real.shape, np.result_type(real.dtype, np.complex64))
    made.real, made.imag = real, imaginary
    return made


def _direction(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    return np.where(size == 0, 0, x / np.where(size == 0, 1, size))


_REFERENCE: Final[dict[str, Callable[..., np.ndarray]]] = {
    "complex": _join, "view_as_real": lambda x: np.stack([x.real, x.imag], -1), "conj": np.conj, "abs": np.abs, "sgn": _direction}


@dataclass(frozen=True)
class Complex(NativeCall):
    """Between complex numbers and their parts. ``what``: complex (of two parts), view_as_real (both parts along a new last dimension),
    conj, abs, sgn (the number of length 1 in the same direction, or 0)."""

    what: str
    shape: Shape    # of the result
    dtype: DType

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.what

    @property
    def results(self) -> tuple[tuple[Shape, DType], ...]:
        return ((self.shape, self.dtype),)

    @property
    def work(self) -> int:
        return math.prod(self.shape)

    def reference(self, *arrays: Any) -> tuple[Any, ...]:
        return (np.asarray(_REFERENCE[self.what](*arrays), self.dtype.numpy),)


@dataclass(frozen=True)
class Transform(NativeCall):
    """A discrete Fourier transform along ``dims``, the last of them first (from real numbers) or last (to real ones).

    Attributes:
        kind: c2c, r2c (to the first half of the spectrum, along the last of dims) or c2r (back from there).
        dims: without repetition.
        norm: "backward", "ortho" or "forward", as in NumPy.
        forward: exp(-i...), or exp(+i...).
        shape, dtype: of the result.
        lengths: of the transform along each of dims.
    """

    kind: str
    dims: tuple[int, ...]
    norm: str
    forward: bool
    shape: Shape
    dtype: DType
    lengths: tuple[int, ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"_fft_{self.kind}"

    @property
    def results(self) -> tuple[tuple[Shape, DType], ...]:
        return ((self.shape, self.dtype),)

    @property
    def work(self) -> int:
        return 8 * math.prod(self.shape) * len(self.dims)

    def reference(self, *arrays: Any) -> tuple[Any, ...]:
        function: Any = {"c2c": np.fft.fftn if self.forward else np.fft.ifftn, "r2c": np.fft.rfftn, "c2r": np.fft.irfftn}[self.kind]
        return (function(arrays[0], self.lengths, axes=self.dims, norm=self.norm).astype(self.dtype.numpy),)
