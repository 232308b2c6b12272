"""How many lanes a vector loop works on: whole registers of its widest elements, more of them for light formulas."""

from __future__ import annotations

from rushlight.compile.cpu import target
from rushlight.compile.cpu.nest_scope import formulas, statements
from rushlight.compile.cpu.vecmath import register_bytes
from rushlight.compile.expr import walk
from rushlight.compile.nest import Accumulate, Accumulator, Load, Loop, LoopNest, Store

__all__ = ["lanes_of"]

_HEAVY = 64  # from here on two registers at a time fill the pipelines, and four would not fit beside the constants
_COST = {"pow": 60, "sin": 24, "cos": 24, "tan": 60, "erf": 26, "normal_cdf": 20, "tanh": 26, "exp": 14, "exp2": 14, "expm1": 18,
         "log": 16, "log1p": 18, "log1p_exp": 30, "div": 4, "sqrt": 4, "rsqrt": 6, "reciprocal": 4, "floordiv": 40, "mod": 40,
         "fmod": 40}  # fmt: skip
_LIBRARY = {"log2", "log10", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "hypot", "atan2"}


def lanes_of(nest: LoopNest, loop: Loop, cpu: target.CPU) -> tuple[int, int]:
    """(lanes of the main loop, lanes of the masked rest), both powers of two."""
    inside = list(statements(loop.body))
    declared = {s.value: s for s in statements(nest.body) if isinstance(s, Accumulator)}
    widths, cost, scattered = [], 0, False
    seen = set()
    for s in inside:
        if isinstance(s, (Load, Store)):
            operand = nest.operands[s.operand]
            step = operand.strides[loop.axis]
            if step != 0:
                widths.append(register_bytes(operand.dtype))
            scattered |= step is None
        if isinstance(s, Accumulate):
            widths.append(register_bytes(declared[s.accumulator].dtype))
        for root in formulas(s):
            for n in walk(root):
                if n not in seen:
                    seen.add(n)
                    if n.dtype.kind == "f":
                        widths.append(register_bytes(n.dtype))
                    scale = 2 if n.dtype.itemsize == 8 else 1  # 64-bit values take twice the registers
                    cost += scale * (60 if n.fn in _LIBRARY else _COST.get(n.fn, 1 if n.args else 0))
    narrow = max(cpu.vector_bytes // max(widths, default=4), 2)
    registers = 1 if scattered else 2 if cost >= _HEAVY else 4
    if cpu.vector_registers < 32:
        registers = min(registers, 1 if cost >= _HEAVY else 4)
    full = min(narrow * registers, max(128, narrow))
    extent = nest.axes[loop.axis].extent
    chunked = any(a.chunk_of == loop.axis for a in nest.axes)
    if extent is not None and not chunked:
        while full > narrow and full > extent:
            full //= 2
    return full, narrow
