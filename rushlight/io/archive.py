"""The zip container of `.pt` files: named records, stored uncompressed, each beginning at a multiple of 64 bytes."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

ALIGNMENT = 64
_LOCAL_HEADER = 30  # bytes of a local file header before name and extra field
_ZIP64_EXTRA = 20  # what zipfile prepends to the extra field of a record that may pass 4 GiB
_CHUNK = 1 << 24
# What reading a damaged archive can raise, in zipfile, in zlib and in the file itself.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, NotImplementedError)
_OLDEST_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date: the same objects give the same file


class ArchiveWriter:
    """Write records `root/name` into an open binary file.

    Example:
        >>> import io
        >>> buffer = io.BytesIO()
        >>> with ArchiveWriter(buffer, "archive") as archive:
        ...     archive.write("version", b"3\\n")
    """

    def __init__(self, file: BinaryIO, root: str) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._file = file
        self._root = root
        self._start = file.tell() if file.seekable() else 0

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Add one record whose first byte lies at a multiple of 64 from the start of the archive."""
        info = zipfile.ZipInfo(f"{self._root}/{name}", _OLDEST_DATE)
        size = len(data) if isinstance(data, bytes) else data.nbytes
        info.file_size = size
        large = size > zipfile.ZIP64_LIMIT // 2
        name_bytes = len(info.filename.encode("utf-8"))
        header = _LOCAL_HEADER + name_bytes + (_ZIP64_EXTRA if large else 0)
        offset = self._zip.start_dir - self._start  # where the next local header goes
        padding = -(offset + header + 4) % ALIGNMENT
        info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        with self._zip.open(info, "w", force_zip64=large) as record:
            view = memoryview(data).cast("B") if size else b""
            for begin in range(0, size, _CHUNK):
                record.write(view[begin : begin + _CHUNK])

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._zip.close()


class ArchiveReader:
    """Read the records of an archive.

    Args:
        file: open for reading, seekable.
        path: the file's path, for memory mapping and for error messages; None for a buffer.

    Raises:
        RuntimeError: the archive is cut short, damaged, or not one that PyTorch's format allows. The message names the
            file and the record.
    """

    def __init__(self, file: BinaryIO, path: str | None) -> None:
        self.path = path
        self._file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except _DAMAGE as e:
            detail = "failed finding central directory" if isinstance(e, zipfile.BadZipFile) else str(e)
            raise self._failed(detail) from e
        names = self._zip.namelist()
        roots = {name.split("/", 1)[0] for name in names if "/" in name}
        if len(roots) != 1:
            raise self._failed(f"expected one top-level folder, found {sorted(roots)}")
        self._root = roots.pop()
        self._names = dict.fromkeys([name.removeprefix(self._root + "/") for name in names])

    def names(self) -> list[str]:
        """The names of all records, in order."""
        return list(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        """A small record as bytes; its checksum is verified."""
        with self._naming(name):
            return self._zip.read(self._info(name))

    def read_array(self, name: str, size: int) -> np.ndarray:
        """A record of `size` bytes as a writable uint8 array, shape (size,); its checksum is verified."""
        info = self._info(name)
        if info.file_size != size or size > self._file.seek(0, io.SEEK_END):  # before memory is asked for
            raise self._failed(f"record {name!r} has {info.file_size} bytes, {size} expected")
        if info.compress_type != zipfile.ZIP_STORED:
            return np.frombuffer(bytearray(self.read(name)), np.uint8)
        array = aligned_empty(size)
        view, checksum, done = array.data, 0, 0
        with self._naming(name):
            self._file.seek(self._data_offset(info))
            while done < size:
                count = _read_into(self._file, view[done : done + _CHUNK])
                if not count:
                    raise EOFError(f"it ends after {done} of {size} bytes")
                checksum = zlib.crc32(view[done : done + count], checksum)
                done += count
        if checksum != info.CRC:
            raise self._failed(f"record {name!r} is damaged: its checksum is {checksum:08x}, {info.CRC:08x} expected")
        return array

    def map_array(self, name: str, size: int) -> np.ndarray:
        """A record of `size` bytes as a private memory map of the file (writes stay in this process), shape (size,)."""
        info = self._info(name)
        if self.path is None:
            raise ValueError("f must be a file path in order to use the mmap argument")
        with self._naming(name):
            offset = self._data_offset(info)
        if info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
            raise self._failed(f"record {name!r} cannot be mapped: {info.file_size} bytes, {size} expected")
        if offset + size > os.path.getsize(self.path):
            raise self._failed(f"record {name!r} reaches beyond the end of the file")
        if size == 0:
            return np.empty(0, np.uint8)
        return np.asarray(np.memmap(self.path, np.uint8, "c", offset, (size,)))

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._zip.getinfo(f"{self._root}/{name}")
        except KeyError as e:
            raise self._failed(f"file not found: {self._root}/{name}") from e

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        """Where the record's bytes begin. The local header's extra field can differ from the central directory's."""
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        if len(header) != _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise EOFError("it has no local header")
        name_size, extra_size = struct.unpack("<HH", header[26:30])
        return info.header_offset + _LOCAL_HEADER + name_size + extra_size

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Turn what zipfile and the system raise about damaged bytes into an error that names record and file."""
        try:
            yield
        except _DAMAGE as e:
            raise self._failed(f"record {name!r} is damaged: {e}") from e

    def _failed(self, detail: str) -> RuntimeError:
        return RuntimeError(
            f"PytorchStreamReader failed reading zip archive: {detail} (in {self.path or 'the given buffer'})"
        )


def aligned_empty(size: int) -> np.ndarray:
    """Uninitialised bytes, shape (size,), that begin at a multiple of 64, as vector instructions like them."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size]


def _read_into(file: Any, view: memoryview) -> int:
    """`readinto` for file objects that only have `read`."""
    if hasattr(file, "readinto"):
        return file.readinto(view)
    data = file.read(len(view))
    view[: len(data)] = data
    return len(data)


def looks_like_zip(file: BinaryIO) -> bool:
    """Whether the next bytes are those of a zip archive; the position is restored."""
    position = file.tell()
    head = file.read(4)
    file.seek(position, io.SEEK_SET)
    return head == b"PK\x03\x04"
