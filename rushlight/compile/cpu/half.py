"""float16 and bfloat16 from and to float32: the processor's conversion where there is one, integer arithmetic elsewhere."""

from __future__ import annotations

from rushlight.compile.cpu import target
from rushlight.compile.cpu.values import V, where

__all__ = ["widen", "narrow", "widen_bfloat", "round_bfloat", "narrow_bfloat"]

_LANES, _DENORMAL = 16, 32  # of AVX512-BF16's conversion; in what vfpclassps asks for


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


def widen_bfloat(x: V) -> V:
    """The bits of a ``bfloat`` (i16) to ``float``, exactly."""
    return (x.convert("zext", "i32") << 16).as_float()


def round_bfloat(x: V) -> V:
    """A ``float`` that a ``bfloat`` can represent, to nearest even. It stays in a ``float``'s register: narrowing and widening would take
    longer than these few operations."""
    bits = x.bits()
    even = (bits + (bits.lshr(16) & 1)) + 0x7FFF
    # NaN must stay NaN: its low bits alone could hold it, or rounding could carry into the sign
    value = (where(x.isnan(), bits | 0x400000, even) & -65536).as_float()
    return V(x.f, value.name, value.type, value.lanes, exact=x)


def narrow_bfloat(x: V) -> V:
    """A ``float`` that a ``bfloat`` can represent to that (its bits, i16): from what it was before it was rounded, if the processor
    converts that.

    Its instruction takes denormal numbers for zero: they get the bit of the least normal number, which puts the same digits where
    they are rounded in the same way, and lose it afterwards."""
    cpu, whole = target.current(), x.exact
    if whole is None or not (cpu.bf16_dot and cpu.vector_bytes == 64 and x.lanes and x.lanes % _LANES == 0):
        return x.bits().lshr(16).convert("trunc", "i16")
    f = x.f
    f.module.declare("<16 x i1> @llvm.x86.avx512.fpclass.ps.512(<16 x float>, i32 immarg)")
    f.module.declare("<16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float>)")
    parts = []
    for first in range(0, x.lanes, _LANES):
        piece = V(f, _slice(whole, first), "float", _LANES)
        denormal = V(f, f.let(f"call <16 x i1> @llvm.x86.avx512.fpclass.ps.512({piece!r}, i32 {_DENORMAL})"), "i1", _LANES)
        bits = piece.bits()
        grown = where(denormal, bits | 0x800000, bits).as_float()
        half = f.let(f"call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512({grown!r})")
        narrow = V(f, f.let(f"bitcast <16 x bfloat> {half} to <16 x i16>"), "i16", _LANES)
        parts.append(where(denormal, narrow - 0x80, narrow).name)
    lanes = _LANES
    while len(parts) > 1:
        order = ", ".join(f"i32 {k}" for k in range(2 * lanes))
        parts = [f.let(f"shufflevector <{lanes} x i16> {a}, <{lanes} x i16> {b}, <{2 * lanes} x i32> <{order}>")
                 for a, b in zip(parts[::2], parts[1::2], strict=True)]  # fmt: skip
        lanes *= 2
    return V(f, parts[0], "i16", lanes)


def _slice(x: V, first: int) -> str:
    if x.lanes == _LANES:
        return x.name
    order = ", ".join(f"i32 {k}" for k in range(first, first + _LANES))
    return x.f.let(f"shufflevector {x.text} {x.name}, {x.text} poison, <{_LANES} x i32> <{order}>")
