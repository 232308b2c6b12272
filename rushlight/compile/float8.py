"""float32 as floating numbers of one byte, as PyTorch rounds it where ml_dtypes does otherwise."""
from __future__ import annotations

import numpy as np

__all__ = ["narrowed"]


def narrowed(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """float32 numbers as the one-byte type ``kind``.

    ``float8_e4m3fn`` has no infinity: what is too large becomes its largest number. ``float8_e8m0fnu`` has nothing but an exponent: the
    sign is left out, and a number half way between two powers of two becomes the larger one. NaN has all bits set but the sign's.
    """
    name = kind.name
    if name == "float8_e8m0fnu":
        return _powers(values).view(kind)
    if name == "float8_e4m3fn":
        values = np.clip(values, -448, 448)
    out = values.astype(kind)
    if name == "float8_e5m2":
        missing = np.isnan(values)
        if missing.any():
            bits = np.where(np.signbit(values), 0xFF, 0x7F).astype(np.uint8)
            out = np.where(missing, bits, out.view(np.uint8)).view(kind)
    return out


def _powers(values: np.ndarray) -> np.ndarray:
    """The exponents of float32, rounded by the digits behind; 255 for infinities and NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    exponent, rest = bits >> np.uint32(23) & np.uint32(0xFF), bits & np.uint32(0x7FFFFF)
    half = np.uint32(0x400000)
    up = (rest > half) | (rest == half) & (exponent > 0)
    return np.where(exponent == 0xFF, exponent, exponent + up).astype(np.uint8)
