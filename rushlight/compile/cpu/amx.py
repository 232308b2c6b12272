"""Permission to use the processor's tile registers (AMX): Linux keeps them from processes that did not ask.

A process asks once, before the first use, for all its threads; the children that it forks inherit the answer.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys

__all__ = ["granted"]

_ARCH_PRCTL, _REQUEST, _GET, _TILE_DATA = 158, 0x1023, 0x1022, 18


@functools.cache
def granted() -> bool:
    """Ask for the tile registers; whether this process may use them."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64" or sys.maxsize < 2**32:
        return False
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype, syscall.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.c_long, ctypes.c_void_p]
    if syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA):
        return False
    have = ctypes.c_uint64()
    return syscall(_ARCH_PRCTL, _GET, ctypes.addressof(have)) == 0 and bool(have.value >> _TILE_DATA & 1)
