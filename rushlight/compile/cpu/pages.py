"""Memory from the operating system, for the allocator: anonymous mappings, with huge pages for large blocks.

A large block starts at a varying offset within a page: arrays that a kernel walks in step would otherwise share the low
12 bits of their addresses, and processors then take a load for a repeat of an earlier store (4K aliasing).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import mmap
import sys
from typing import Any

__all__ = ["map_block", "map_code", "map_slab", "mapped_bytes", "unmap"]

_HUGE = 2 << 20
_COLOUR_STEP = 320  # a multiple of 64 that visits all of a page's cache lines
_FAILED = ctypes.c_void_p(-1).value
_PAGE = mmap.PAGESIZE

_blocks: dict[int, tuple[int, int]] = {}  # block -> (start, length) of its mapping
_colours = itertools.count()


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.madvise.argtypes = libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return libc


def map_slab(nbytes: int) -> int:
    """``nbytes`` of page-aligned memory that is never given back."""
    return _map(nbytes)


def map_code(code: bytes) -> int:
    """Memory that holds ``code`` and can be run, not written; it is never given back.

    Raises:
        MemoryError: the system has no such memory, or does not let a process make code.
    """
    start = _map(len(code))
    ctypes.memmove(start, code, len(code))
    if _libc().mprotect(start, len(code), mmap.PROT_READ | mmap.PROT_EXEC):
        raise MemoryError(f"cannot make code: {errno.errorcode.get(ctypes.get_errno(), 'unknown error')}")
    return start


def map_block(nbytes: int) -> int:
    """A block of ``nbytes``, aligned to 64; give it back with :func:`unmap`.

    Raises:
        MemoryError: the system has no such memory.
    """
    colour = next(_colours) * _COLOUR_STEP % 4096
    length = -(-(nbytes + colour) // _PAGE) * _PAGE
    if length < _HUGE:
        start = _map(length)
    else:
        # Huge pages must be aligned to their size: map more, then cut off both ends.
        wide = _map(length + _HUGE)
        start = -(-wide // _HUGE) * _HUGE
        _unmap(wide, start - wide)
        _unmap(start + length, wide + _HUGE - start)
        if sys.platform.startswith("linux"):
            # Advice: a kernel without huge pages refuses it, and small ones serve as well.
            _libc().madvise(start, length, mmap.MADV_HUGEPAGE)
    block = start + colour
    _blocks[block] = (start, length)
    return block


def unmap(block: int, blocks: dict[int, tuple[int, int]] = _blocks) -> None:
    """Give a block of :func:`map_block` back to the system. Takes no lock: finalizers call it."""
    start, length = blocks.pop(block)
    _unmap(start, length)


def mapped_bytes() -> int:
    """The bytes of all mappings of :func:`map_block`."""
    return sum(length for _, length in list(_blocks.values()))


def _map(length: int) -> int:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = _libc().mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if address in (None, _FAILED):
        reason = errno.errorcode.get(ctypes.get_errno(), "unknown error")
        raise MemoryError(f"cannot allocate {length} bytes: {reason}")
    return int(address)


def _unmap(start: int, length: int) -> None:
    if length > 0:
        _libc().munmap(start, length)
