"""float32 numbers as sums of three bfloat16 numbers, so that a unit that multiplies pairs of those computes float32 products.

A float32 has 24 binary digits, a bfloat16 eight and the same exponents: ``x = x1 + x2 + x3`` exactly, where ``x1`` is ``x`` rounded to
bfloat16, ``x2`` the rest, rounded, and ``x3`` the rest of that. Of the nine products of parts six make

    a * b = a1 b1 + (a1 b2 + a2 b1) + (a2 b2 + a1 b3 + a3 b1)

The three that are left out are below ``2**-25`` of it, half of what rounding the product to float32 may take away. So a sum of such
products is as good as one of float32 products (Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for
higher-precision computations", 2019). The unit takes numbers below ``2**-126`` for zero: what is lost of a tiny number is less than that.

An infinity is ``(1, 0, inf)`` with its sign, NaN ``(1, 0, nan)``: in the products above both do what they do in float32, where
``inf - inf`` would have made NaN of every infinity.
"""

from __future__ import annotations

from rushlight.compile.cpu.irtext import Function

__all__ = ["ORDER", "PARTS", "parts_of"]

PARTS = 3
#: The products of parts, (of A, of B), in the order in which they are added up. The largest is the last, so that few roundings are of the
#: whole sum; and from one to the next as few registers change as may be.
ORDER = ((1, 1), (1, 0), (2, 0), (0, 2), (0, 1), (0, 0))

_LANES = 16
_V, _I, _W = f"<{_LANES} x float>", f"<{_LANES} x i32>", f"<{2 * _LANES} x i16>"
_LARGEST = "0x47EFE00000000000"  # of bfloat16, as LLVM writes a float


def parts_of(f: Function, low: str, high: str) -> list[str]:
    """The parts of two vectors of 16 float32 numbers: each 32 numbers as the bits of bfloat16, those of ``low`` first."""
    name, pairs = "llvm.x86.avx512bf16.cvtne2ps2bf16.512", f"<{2 * _LANES} x bfloat>"
    f.module.declare(f"{pairs} @{name}({_V}, {_V})")

    def rounded(halves: list[str]) -> str:
        return f.let(f"bitcast {pairs} {f.let(f'call {pairs} @{name}({_V} {halves[1]}, {_V} {halves[0]})')} to {_W}")

    numbers = [low, high]
    finite, rest = [], []
    for x in numbers:
        bits = f.let(f"bitcast {_V} {x} to {_I}")
        magnitude = f.let(f"and {_I} {bits}, splat (i32 2147483647)")
        finite.append(f.let(f"icmp ult {_I} {magnitude}, splat (i32 2139095040)"))
        one = f.let(f"or {_I} {f.let(f'and {_I} {bits}, splat (i32 -2147483648)')}, splat (i32 1065353216)")
        rest.append(f.let(f"select <{_LANES} x i1> {finite[-1]}, {_V} {x}, {_V} {f.let(f'bitcast {_I} {one} to {_V}')}"))
    first = rounded([_clamped(f, x) for x in rest])
    rest = _less(f, rest, first)
    second = rounded(rest)
    rest = _less(f, rest, second)
    third = rounded([f.let(f"select <{_LANES} x i1> {sure}, {_V} {r}, {_V} {x}") for sure, r, x in zip(finite, rest, numbers, strict=True)])
    return [first, second, third]


def _clamped(f: Function, x: str) -> str:
    """Within what bfloat16 can hold: the largest float32 numbers would be rounded to infinity."""
    for bound, name in ((_LARGEST, "minnum"), (f"0xC{_LARGEST[3:]}", "maxnum")):
        f.module.declare(f"{_V} @llvm.{name}.v{_LANES}f32({_V}, {_V})")
        x = f.let(f"call {_V} @llvm.{name}.v{_LANES}f32({_V} {x}, {_V} splat (float {bound}))")
    return x


def _less(f: Function, halves: list[str], part: str) -> list[str]:
    """What is left of two vectors without their rounded numbers."""
    out = []
    for half, x in enumerate(halves):
        order = ", ".join(f"i32 {half * _LANES + i}" for i in range(_LANES))
        narrow = f.let(f"shufflevector {_W} {part}, {_W} poison, <{_LANES} x i32> <{order}>")
        bits = f.let(f"shl {_I} {f.let(f'zext <{_LANES} x i16> {narrow} to {_I}')}, splat (i32 16)")
        out.append(f.let(f"fsub {_V} {x}, {f.let(f'bitcast {_I} {bits} to {_V}')}"))
    return out
