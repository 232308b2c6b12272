"""Reading the format before 2020: four pickles and the storages' bytes, one after the other."""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from rushlight.io.archive import aligned_empty
from rushlight.io.placement import Placement
from rushlight.io.rebuild import StorageKind, storage_of
from rushlight.io.storages import LoadedStorage

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


def read_legacy(
    file: BinaryIO, where: str, placement: Placement, read: Callable[..., Any], encoding: str = "utf-8"
) -> Any:
    """Read one object.

    Args:
        file: positioned at the first pickle.
        where: the file's name, for messages.
        read: the reader of one pickle: `(stream, persistent_load, encoding)`.

    Raises:
        RuntimeError: not such a file, of another version or byte order, or cut short.
        EOFError: nothing to read.
    """
    storages: dict[str, LoadedStorage] = {}

    def plain(identity: Any) -> Any:
        raise pickle.UnpicklingError("a storage outside of the object")

    def persistent_load(identity: Any) -> LoadedStorage:
        kind, key, location, elements, view = _identity(identity)
        if view is not None:
            raise RuntimeError(f"{where} holds views of storages, which PyTorch stopped writing in 2017")
        if key not in storages:
            data = aligned_empty(elements * (kind.dtype.itemsize if kind.dtype else 1))
            storages[key] = placement.place(storage_of(kind, data, "cpu"), location)
            if str(storages[key].device) != "cpu":
                raise RuntimeError(f"{where} is in the format of 2019 and before: load it with map_location='cpu'")
        return storages[key]

    if read(file, plain, encoding) != MAGIC_NUMBER:
        raise RuntimeError(f"Invalid magic number; corrupt file? ({where} is not a file of torch.save)")
    version = read(file, plain, encoding)
    if version != PROTOCOL_VERSION:
        raise RuntimeError(f"Invalid protocol version: {version} (in {where})")
    system = read(file, plain, encoding)
    if not isinstance(system, dict) or system.get("little_endian") is not (sys.byteorder == "little"):
        raise RuntimeError(f"{where} was written on a machine of another byte order")
    try:
        result = read(file, persistent_load, encoding)
        keys = read(file, plain, encoding)
    except EOFError as e:
        raise RuntimeError(f"{where} ends inside its pickle: unexpected end of file") from e
    for key in keys:
        if key not in storages:
            raise RuntimeError(f"{where} is damaged: it holds a storage {key!r} that no tensor uses")
        _fill(file, storages[key], where)
    return result


def _fill(file: BinaryIO, storage: LoadedStorage, where: str) -> None:
    itemsize = storage.dtype.itemsize if storage.dtype else 1
    head = file.read(8)
    if len(head) != 8:
        missing = storage.nbytes()
        raise RuntimeError(f"unexpected EOF, expected {missing} more bytes. The file might be corrupted: {where}")
    (elements,) = struct.unpack("<q" if sys.byteorder == "little" else ">q", head)
    if elements * itemsize != storage.nbytes():
        expected = storage.nbytes() // itemsize
        raise RuntimeError(f"{where} is damaged: a storage of {elements} elements, {expected} expected")
    view, done = storage.data.data, 0
    while done < len(view):
        data = file.read(min(len(view) - done, 1 << 24))
        if not data:
            missing = len(view) - done
            raise RuntimeError(f"unexpected EOF, expected {missing} more bytes. The file might be corrupted: {where}")
        view[done : done + len(data)] = data
        done += len(data)


def _identity(identity: Any) -> tuple[StorageKind, str, str, int, Any]:
    if isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage":
        _, kind, key, location, elements, *view = identity
        if isinstance(kind, StorageKind) and isinstance(location, str) and type(elements) is int and elements >= 0:
            return kind, str(key), location, elements, view[0] if view else None
    raise pickle.UnpicklingError(f"a persistent id that is not a storage: {str(identity)[:80]}")
