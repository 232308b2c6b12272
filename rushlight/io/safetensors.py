"""The safetensors format: eight bytes of header length, a JSON header, and the tensors' bytes.

save_file({"weight": w}, "model.safetensors")
tensors = load_file("model.safetensors")
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from rushlight.compile.dtypes import DType, by_name
from rushlight.io.archive import aligned_empty
from rushlight.io.atomic import atomic_write
from rushlight.io.storages import count, storage_bytes
from rushlight.tensor import Tensor, from_numpy

MAX_HEADER = 100_000_000
_ALIGNMENT = 8

_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
_CODES = {name: code for code, name in _NAMES.items()}


class SafetensorError(Exception):
    """A file that is not in the safetensors format; the message names the file and what is wrong."""


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file's content as bytes; see `save_file`."""
    header, ordered = _plan(tensors, metadata)
    return header + b"".join(bytes(storage_bytes(t.untyped_storage())) for t in ordered)


def save_file(
    tensors: Mapping[str, Tensor], filename: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors; the file is replaced as a whole.

    Args:
        tensors: name to tensor, any strides (they are written contiguous).
        filename: the path.
        metadata: text to text, stored in the header.

    Raises:
        ValueError: a value is not a tensor, its dtype has no code in the format, or the metadata is not text.
        RuntimeError: two tensors share memory, which the format cannot express.
    """
    header, ordered = _plan(tensors, metadata)
    with atomic_write(filename) as file:
        file.write(header)
        for tensor in ordered:
            file.write(storage_bytes(tensor.untyped_storage()))


def _plan(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> tuple[bytes, list[Tensor]]:
    """The header's bytes and the tensors, contiguous, in the order of the file: wide dtypes first, then by name."""
    owners: dict[int, str] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name!r} is {type(tensor).__name__}, not a tensor")
        if tensor.dtype.name not in _CODES:
            raise ValueError(f"{name!r} has dtype {tensor.dtype}, which safetensors cannot hold")
        if tensor.numel():
            other = owners.setdefault(tensor.untyped_storage()._address(), name)
            if other != name:
                raise RuntimeError(
                    f"{other!r} and {name!r} share memory, which safetensors cannot express: save one, or a clone"
                )
    entries: dict[str, Any] = {}
    if metadata:
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise ValueError("metadata maps text to text")
        entries["__metadata__"] = dict(metadata)
    ordered, offset = [], 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].dtype.itemsize, n)):
        tensor = _tight(tensors[name].detach())
        size = tensor.numel() * tensor.dtype.itemsize
        span = [offset, offset + size]
        entries[name] = {"dtype": _CODES[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": span}
        ordered.append(tensor)
        offset += size
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text, ordered


def _tight(tensor: Tensor) -> Tensor:
    """The tensor alone in its storage, contiguous."""
    tensor = tensor.contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.dtype.itemsize
    return tensor if whole else tensor.clone()


def load(data: bytes) -> dict[str, Tensor]:
    """Read the content of a file from bytes; see `load_file`."""
    import io

    return _read(io.BytesIO(data), len(data), "the given bytes")[0]


def load_file(filename: str | os.PathLike[str], device: Any = "cpu") -> dict[str, Tensor]:
    """Read a file's tensors by name.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: the header or the offsets are damaged, or the file is cut short.
    """
    with open(filename, "rb") as file:
        tensors = _read(file, os.fstat(file.fileno()).st_size, os.fspath(filename))[0]
    return tensors if str(device) == "cpu" else {name: t.to(device) for name, t in tensors.items()}


def load_metadata(filename: str | os.PathLike[str]) -> dict[str, str]:
    """The `__metadata__` of a file's header."""
    with open(filename, "rb") as file:
        return _header(file, os.fstat(file.fileno()).st_size, os.fspath(filename))[1]


def _header(file: BinaryIO, size: int, where: str) -> tuple[dict[str, Any], dict[str, str], int]:
    """Checked entries, metadata, and where the data begins."""
    head = file.read(8)
    if len(head) < 8:
        raise SafetensorError(f"{where}: HeaderTooSmall: {len(head)} bytes, at least 8 expected")
    (length,) = struct.unpack("<Q", head)
    if length > MAX_HEADER:
        raise SafetensorError(f"{where}: HeaderTooLarge: a header of {length} bytes")
    if 8 + length > size:
        raise SafetensorError(f"{where}: InvalidHeaderLength: a header of {length} bytes in a file of {size}")
    try:
        entries = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique)
    except ValueError as e:  # of the text or of JSON
        raise SafetensorError(f"{where}: InvalidHeader: {e}") from e
    if not isinstance(entries, dict):
        raise SafetensorError(f"{where}: InvalidHeader: not a JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise SafetensorError(f"{where}: InvalidHeader: __metadata__ does not map text to text")
    return entries, metadata, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _read(file: BinaryIO, size: int, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    entries, metadata, start = _header(file, size, where)
    windows = {name: _window(name, entry, where) for name, entry in entries.items()}
    expected = 0
    for name, (_, _, begin, end) in sorted(windows.items(), key=lambda item: item[1][2:]):
        if begin != expected:
            raise SafetensorError(f"{where}: InvalidOffset: {name!r} begins at {begin}, {expected} expected")
        expected = end
    if start + expected != size:
        raise SafetensorError(
            f"{where}: MetadataIncompleteBuffer: {expected} bytes of tensors expected, {size - start} found"
        )
    tensors = {}
    for name, (dtype, shape, begin, end) in windows.items():
        data = aligned_empty(end - begin)
        file.seek(start + begin)
        if file.readinto(data) != end - begin:  # type: ignore[attr-defined]
            raise SafetensorError(f"{where}: MetadataIncompleteBuffer: the file ends inside {name!r}")
        tensors[name] = from_numpy(data.view(dtype.numpy).reshape(shape))
    return tensors, metadata


def _window(name: str, entry: Any, where: str) -> tuple[DType, tuple[int, ...], int, int]:
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
    except (KeyError, TypeError, ValueError) as e:
        message = f"{where}: InvalidHeader: the entry of {name!r} lacks dtype, shape or data_offsets"
        raise SafetensorError(message) from e
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
        raise SafetensorError(f"{where}: InvalidHeader: a shape or offset of {name!r} is not a natural number")
    if code not in _NAMES:
        raise SafetensorError(f"{where}: InvalidHeader: {name!r} has dtype {code!r}, known are {', '.join(_NAMES)}")
    dtype = by_name(_NAMES[code])
    if end - begin != count(shape) * dtype.itemsize:
        raise SafetensorError(
            f"{where}: TensorInvalidInfo: {name!r} of shape {list(shape)} and dtype {code} takes "
            f"{count(shape) * dtype.itemsize} bytes, its offsets span {end - begin}"
        )
    return dtype, shape, begin, end
