"""float16 from and to float32: the processor's conversion where there is one, integer arithmetic elsewhere."""

from __future__ import annotations

from rushlight.compile.cpu import target
from rushlight.compile.cpu.values import V, where

__all__ = ["widen", "narrow"]


def _by_hand() -> bool:
    """x86 before AVX2: LLVM would call a function of the compiler's library, which need not be there."""
    cpu = target.current()
    return cpu.triple.startswith("x86_64") and cpu.vector_bytes < 32


def widen(x: V) -> V:
    """``half`` to ``float``, exactly."""
    if not _by_hand():
        return x.convert("fpext", "float")
    bits = x.convert("bitcast", "i16").convert("zext", "i32")
    size = (bits & 0x7FFF) << 13
    finite = size.as_float() * 2.0**112  # denormal numbers become normal ones by themselves
    value = where(size.ge(0x7C00 << 13), (size | 0x7F800000).as_float(), finite)
    return (value.bits() | ((bits & 0x8000) << 16)).as_float()


def narrow(x: V) -> V:
    """``float`` to ``half``, to nearest even."""
    if not _by_hand():
        return x.convert("fptrunc", "half")
    bits = x.bits()
    size = bits & 0x7FFFFFFF
    normal = (size + (size.lshr(13) & 1) + (0xFFF - (112 << 23))).lshr(13)
    # Adding 0.5 leaves a last place of 2^-24, that of a denormal half, and rounds to it.
    tiny = (size.as_float() + 0.5).bits() - 0x3F000000
    result = where(size.lt(0x38800000), tiny, normal)
    result = where(size.ge(0x477FF000), 0x7C00, result)  # 65520 and beyond
    result = where(size.gt(0x7F800000), 0x7E00, result)
    result = result | (bits.lshr(16) & 0x8000)
    return result.convert("trunc", "i16").convert("bitcast", "half")
