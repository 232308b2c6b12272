"""The IDX format of MNIST: a magic number, the extents, and the numbers, big-endian; gzipped or not."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, in the machine's byte order, writable.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is not IDX, or shorter or longer than its header says; the message names the file, the
            size that the header promises, and the size found.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "two-idx1-ubyte"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]))
        >>> read_idx(path).tolist()
        [5, 7]
    """
    with open(path, "rb") as f:
        data = f.read()
    whole = True
    if data[:2] == _GZIP_MAGIC:
        data, whole = _unzip(data, path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES or data[3] == 0:
        detail = "is cut short" if len(data) < 4 else f"begins with {data[:4].hex(' ')}"
        raise RuntimeError(f"{os.fspath(path)} is not an IDX file: it {detail}")
    dtype, dims = np.dtype(_DTYPES[data[2]]), data[3]
    header = 4 + 4 * dims
    if len(data) < header:
        raise RuntimeError(
            f"{os.fspath(path)} is cut short: a header of {header} bytes expected, {len(data)} bytes found"
        )
    shape = struct.unpack(f">{dims}I", data[4:header])
    expected = header + dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(data) != expected or not whole:
        what = "is cut short" if len(data) < expected or not whole else "is too long"
        raise RuntimeError(
            f"{os.fspath(path)} {what}: {expected} bytes expected for {' x '.join(map(str, shape))} numbers of "
            f"{dtype.itemsize} bytes, {len(data)} bytes found"
        )
    array = np.frombuffer(data, dtype, offset=header).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=True)


def _unzip(data: bytes, path: str | os.PathLike[str]) -> tuple[bytes, bool]:
    """What can be unpacked, and whether the stream is whole, its checksum included."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(data)
    except zlib.error as e:
        raise RuntimeError(f"{os.fspath(path)} ({len(data)} bytes) is not a valid gzip file: {e}") from e
    return unpacked, unpacker.eof
