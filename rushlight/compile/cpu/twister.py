"""The native functions that draw random numbers (:mod:`twister_ir`, :mod:`rejection_ir`), loaded when they are first asked for.

Example::

    state = (ctypes.c_char * STATE_BYTES)()
    address = ctypes.addressof(state)
    draw("seed")(address, 0, 7)
    numbers = np.empty(5, np.float32)
    draw("uniform32")(address, numbers.ctypes.data, 5, 1.0, 0.0, 1.0)
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from rushlight.compile.cpu import jit, rejection_ir, twister_ir
from rushlight.compile.cpu.twister_ir import VERSION, source

__all__ = ["draw"]

_FUNCTIONS = {**twister_ir.FUNCTIONS, **rejection_ir.FUNCTIONS}
_KINDS = {"ptr": ctypes.c_void_p, "i64": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}


@functools.cache
def draw(name: str, held: bool = True) -> Callable[..., int]:
    """The function of this name: ``(state, memory, n, ...)``. It keeps the GIL, or gives it up if not ``held``. It returns
    0, or what was wrong."""
    symbol = f"rl_random_{name}"
    address = jit.functions(f"random {VERSION} {name}", lambda: source(name, *_FUNCTIONS[name]), [symbol])[symbol]
    more = [_KINDS[p.split()[0]] for p in _FUNCTIONS[name][0].split(", ") if p]
    kind = ctypes.PYFUNCTYPE if held else ctypes.CFUNCTYPE
    return kind(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, *more)(address)
