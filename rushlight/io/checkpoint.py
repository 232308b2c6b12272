"""`save` and `load`: objects with tensors in them, in the `.pt` format that PyTorch reads and writes."""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from rushlight.io.archive import ArchiveReader, ArchiveWriter, looks_like_zip
from rushlight.io.atomic import atomic_write
from rushlight.io.legacy import read_legacy
from rushlight.io.pickler import dumps
from rushlight.io.placement import MapLocation, Placement
from rushlight.io.rebuild import StorageKind, read_full, read_restricted, storage_of
from rushlight.io.storages import LoadedStorage, storage_bytes

FORMAT_VERSION = b"3\n"


def save(
    obj: Any,
    f: str | os.PathLike[str] | BinaryIO,
    pickle_module: Any = pickle,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
    _disable_byteorder_record: bool = False,
) -> None:
    """Write `obj`, any picklable object with tensors in it, to a file that `load` and PyTorch's `torch.load` read.

    Tensors that share memory share it again after loading; a view is written with the whole of its storage. A file
    given by its path is replaced as a whole when everything is written: whatever happens in between, the old one stays.

    Args:
        obj: usually a `state_dict()`, or a dict of such.
        f: a path, or a file object with `write`.
        pickle_module: accepted for compatibility; the format has one pickler.
        pickle_protocol: 2, which every reader understands, to the highest that Python has.

    Raises:
        AttributeError: `f` is neither a path nor a file object, or `obj` has a part that cannot be pickled.
        RuntimeError: the parent folder does not exist, or the old, non-zip format is asked for.

    Example:
        >>> import io, rushlight as torch
        >>> buffer = io.BytesIO()
        >>> torch.save({"weight": torch.ones(2)}, buffer)
    """
    if not _use_new_zipfile_serialization:
        raise RuntimeError("only the zip format is written: leave _use_new_zipfile_serialization at True")
    if isinstance(f, (str, os.PathLike)):
        path = os.fspath(f)
        folder = os.path.dirname(os.path.realpath(path))
        if not os.path.isdir(folder):
            raise RuntimeError(f"Parent directory {os.path.dirname(path)} does not exist.")
        root = os.path.splitext(os.path.basename(path))[0] or "archive"
        data = dumps(obj, pickle_protocol)  # what cannot be pickled is found before any file is touched
        with atomic_write(path) as file:
            _write_archive(file, root, *data, with_byteorder=not _disable_byteorder_record)
    elif hasattr(f, "write"):
        _write_archive(f, "archive", *dumps(obj, pickle_protocol), with_byteorder=not _disable_byteorder_record)
    else:
        raise AttributeError(
            f"expected 'f' to be string, path, or a file-like object with a 'write' attribute, got {type(f).__name__}"
        )


def _write_archive(
    file: BinaryIO, root: str, pickled: bytes, storages: Mapping[str, Any], *, with_byteorder: bool
) -> None:
    with ArchiveWriter(file, root) as archive:
        archive.write("data.pkl", pickled)
        archive.write(".format_version", b"1")
        archive.write(".storage_alignment", b"64")
        if with_byteorder:
            archive.write("byteorder", sys.byteorder.encode())
        for key, storage in storages.items():
            archive.write(f"data/{key}", storage_bytes(storage))
        archive.write("version", FORMAT_VERSION)


def load(
    f: str | os.PathLike[str] | BinaryIO,
    map_location: MapLocation = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Read what `save` or PyTorch's `torch.save` wrote.

    In the default mode nothing from the file is executed: it may contain tensors, numbers, text, containers of these,
    and objects of classes declared by `add_safe_globals`.

    Args:
        f: a path, or a file object with `read`, `seek` and `tell`.
        map_location: where storages go: a device or its name, a dict from names in the file to names here, or a
            function `(storage, name)` that returns the storage.
        weights_only: None and True are the safe mode; False unpickles everything, which runs code from the file.
        mmap: map the file into memory instead of reading it (`f` must be a path). Writes stay in this process.
        pickle_load_args: `encoding`, for files of Python 2.

    Raises:
        FileNotFoundError: there is no such file.
        pickle.UnpicklingError: the file contains something that the safe mode refuses, or is no checkpoint at all (where PyTorch
            shows what its unpickler stumbled on, a KeyError, say); the message names it. EOFError: the file is empty.
        RuntimeError: the file is damaged or cut short; the message names it.
        EOFError: the file is empty.

    Example:
        >>> import io, rushlight as torch
        >>> buffer = io.BytesIO()
        >>> torch.save([torch.ones(2)], buffer)
        >>> _ = buffer.seek(0)
        >>> torch.load(buffer)
        [tensor([1., 1.])]
    """
    if pickle_module is not None and weights_only:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    read = read_full if weights_only is False else read_restricted
    encoding = pickle_load_args.pop("encoding", "utf-8")
    if pickle_load_args:
        raise TypeError(f"load() got unexpected keyword arguments: {', '.join(sorted(pickle_load_args))}")
    placement = Placement(map_location)
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, os.fspath(f), placement, read, bool(mmap), encoding)
    if mmap:
        raise ValueError("f must be a file path in order to use the mmap argument")
    for method in ("read", "seek", "tell"):
        if not hasattr(f, method):
            raise AttributeError(
                f"expected a path or a file object with '{method}', got {type(f).__name__}; a stream that cannot seek "
                "can be read into io.BytesIO first"
            )
    return _load(f, None, placement, read, False, encoding)


def _load(
    file: BinaryIO, path: str | None, placement: Placement, read: Callable[..., Any], mmap: bool, encoding: str
) -> Any:
    where = path or "the given buffer"
    try:
        if looks_like_zip(file):
            return _read_archive(ArchiveReader(file, path), placement, read, mmap, encoding)
        if mmap:
            raise RuntimeError(f"mmap can only be used with files saved in the zip format: {where} is not one")
        return read_legacy(file, where, placement, read, encoding)
    except EOFError as e:
        raise EOFError(f"{e} (in {where})") from e
    except pickle.UnpicklingError as e:
        text = str(e)
        if not text.startswith("Weights only load failed"):
            text = f"Weights only load failed: {text}" if read is read_restricted else text
        raise pickle.UnpicklingError(f"{text}\n\t(in {where})") from e


def _read_archive(
    archive: ArchiveReader, placement: Placement, read: Callable[..., Any], mmap: bool, encoding: str
) -> Any:
    if "constants.pkl" in archive:
        where = archive.path or "the given buffer"
        raise RuntimeError(f"{where} is a TorchScript archive: torch.jit.load reads it")
    return read(io.BytesIO(archive.read("data.pkl")), storages_of(archive, placement, "data", mmap), encoding)


def storages_of(archive: ArchiveReader, placement: Placement, folder: str, mmap: bool = False) -> Callable[[Any], LoadedStorage]:
    """What reads the storages that the persistent ids of a pickle name from the records of a folder, each once."""
    swapped = "byteorder" in archive and archive.read("byteorder").decode("ascii", "replace") != sys.byteorder
    storages: dict[str, LoadedStorage] = {}

    def persistent_load(identity: Any) -> LoadedStorage:
        kind, key, location, elements = _storage_identity(identity)
        if key not in storages:
            itemsize = kind.dtype.itemsize if kind.dtype else 1
            fetch = archive.map_array if mmap else archive.read_array
            data = fetch(f"{folder}/{key}", elements * itemsize)
            if swapped:
                if kind.dtype is None:
                    raise RuntimeError("an untyped storage of another byte order cannot be read")
                data.view(kind.dtype.numpy).byteswap(inplace=True)
            storages[key] = placement.place(storage_of(kind, data, "cpu"), location)
        return storages[key]

    return persistent_load


def _storage_identity(identity: Any) -> tuple[StorageKind, str, str, int]:
    if isinstance(identity, tuple) and len(identity) == 5:
        word, kind, key, location, elements = identity
        texts = isinstance(key, str) and isinstance(location, str)
        if word == "storage" and isinstance(kind, StorageKind) and texts and type(elements) is int and elements >= 0:
            return kind, key, location, elements
    raise pickle.UnpicklingError(f"a persistent id that is not a storage: {str(identity)[:80]}")
