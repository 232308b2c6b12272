"""Sending batches between processes: large arrays travel as shared memory, everything else as a small message.

A message is pickled with the bytes of its arrays kept apart (pickle protocol 5). Bytes above a threshold are written
into an anonymous memory file whose descriptor goes over the socket. The file never has a name, so nothing is left
behind however a process ends, and it needs no room in ``/dev/shm``. The receiver maps the file: its arrays *are* the
shared memory.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import pickle
import struct
import tempfile
import weakref
from collections.abc import Sequence
from functools import cache
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rushlight.tensor import Tensor

__all__ = ["receive", "send"]

# Below this, copying through the socket is cheaper than a file, a mapping and its page faults
_INLINE_LIMIT = 32 * 1024
_ALIGNMENT = 64  # what compiled kernels expect of buffers
_HEADER = struct.Struct("=?QI")  # descriptor follows?, size of the pickle, number of buffers
_SIZE = struct.Struct("=Q")
_MAX_SEGMENTS = 512  # os.writev takes at most IOV_MAX (1024) pieces; each buffer has at most one piece of padding


class _BatchPickler(reduction.ForkingPickler):
    """Pickles tensors as their arrays, so that the data goes out of band."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Tensor:
            return _reduce_tensor(obj)
        return NotImplemented


def _reduce_tensor(tensor: Tensor) -> tuple:
    import rushlight as torch

    if tensor.requires_grad and not tensor.is_leaf:
        raise RuntimeError(
            "cannot send a non-leaf tensor that requires a gradient to another process: autograd does not cross "
            "process boundaries. To send the data alone, call detach() on the tensor first"
        )
    values = tensor.detach()
    carrier = None
    if values.dtype == torch.bfloat16:  # NumPy has no such dtype: its bits travel as int16
        values, carrier = values.view(torch.int16), "bfloat16"
    array = values.numpy()
    # Only arrays without gaps go out of band; the order of dimensions in memory (channels-last, say) is kept.
    order = sorted(range(array.ndim), key=lambda d: -array.strides[d])
    packed = array.transpose(order)
    if not packed.flags.c_contiguous:
        packed = packed.copy()
    return _rebuild_tensor, (packed, tuple(order), carrier, tensor.requires_grad)


def _rebuild_tensor(packed: np.ndarray, order: tuple[int, ...], carrier: str | None, requires_grad: bool) -> Tensor:
    import rushlight as torch

    array = packed.transpose(np.argsort(order)) if order != tuple(range(packed.ndim)) else packed
    tensor = torch.from_numpy(array)
    if carrier is not None:
        tensor = tensor.view(getattr(torch, carrier))
    return tensor.requires_grad_() if requires_grad else tensor


def send(connection: Connection, message: Any) -> None:
    """Send ``message`` to the process at the other end.

    Raises:
        pickle.PicklingError, AttributeError, TypeError: the message holds something that cannot be pickled; nothing is
        sent.
        OSError: the other end is closed, or there is no memory for the data.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _BatchPickler(stream, pickle.HIGHEST_PROTOCOL, True, buffers.append).dump(message)
    payload = stream.getbuffer()
    views = [buffer.raw() for buffer in buffers]
    shared = sum(view.nbytes for view in views) > _INLINE_LIMIT
    head = _HEADER.pack(shared, len(payload), len(views)) + b"".join(_SIZE.pack(view.nbytes) for view in views)
    if not shared:
        connection.send_bytes(b"".join((head, payload, *_padded(views))))
        return
    descriptor = _memory_file()
    try:
        _write_all(descriptor, _padded(views))
        connection.send_bytes(head + payload)
        reduction.send_handle(connection, descriptor, 0)
    finally:
        os.close(descriptor)


def receive(connection: Connection) -> Any:
    """Wait for a message and return it.

    Raises:
        EOFError: the other end was closed, or its process died.
    """
    data = bytearray(connection.recv_bytes())
    shared, length, count = _HEADER.unpack_from(data)
    start = _HEADER.size + count * _SIZE.size
    sizes = [_SIZE.unpack_from(data, _HEADER.size + i * _SIZE.size)[0] for i in range(count)]
    payload = memoryview(data)[start : start + length]
    if shared:
        descriptor = reduction.recv_handle(connection)
        try:
            memory = _map(descriptor, sum(_rounded(size) for size in sizes))
        finally:
            os.close(descriptor)
    else:
        memory = np.array(memoryview(data)[start + length :]).data  # copied: NumPy's memory is aligned
    buffers, offset = [], 0
    for size in sizes:
        buffers.append(memory[offset : offset + size])
        offset += _rounded(size)
    return pickle.loads(payload, buffers=buffers)


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(views: Sequence[memoryview]) -> list[memoryview | bytes]:
    pieces: list[memoryview | bytes] = []
    for view in views:
        pieces.append(view)
        if gap := _rounded(view.nbytes) - view.nbytes:
            pieces.append(bytes(gap))
    return pieces


def _memory_file() -> int:
    """The descriptor of a new file that has no name and vanishes with its last user."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rushlight-batch", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # macOS: an unlinked file, which stays in the page cache
        return os.dup(file.fileno())


def _write_all(descriptor: int, pieces: list) -> None:
    # Written rather than mapped: the kernel fills fresh pages without a page fault for each, and lack of memory is an
    # OSError here where a store into a mapping would be a fatal SIGBUS.
    pending = [memoryview(piece) for piece in pieces if len(piece)]
    first = 0
    while first < len(pending):
        written = os.writev(descriptor, pending[first : first + _MAX_SEGMENTS])
        while first < len(pending) and written >= len(pending[first]):
            written -= len(pending[first])
            first += 1
        if written:
            pending[first] = pending[first][written:]


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _map(descriptor: int, size: int) -> memoryview:
    """The file's memory, unmapped when the last array in it is gone.

    Python's own ``mmap`` keeps a descriptor open per mapping: a program that holds on to its batches would run out of
    them.
    """
    libc = _libc()
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot map a batch of {size} bytes: {os.strerror(error)}")
    block = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(block, libc.munmap, address, size).atexit = False
    return memoryview(block).cast("B")
