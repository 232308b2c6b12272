"""Event files as TensorBoard reads them: records with checksums around messages in the protocol-buffer wire format.

Only what the writer needs is here: a message is the bytes of its fields, one after the other.
"""
from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["double", "doubles", "message", "record", "single", "text", "whole"]


def _table() -> list[int]:
    table = []
    for k in range(256):
        for _ in range(8):
            k = k >> 1 ^ (0x82F63B78 if k & 1 else 0)
        table.append(k)
    return table


_TABLE = _table()


def _checksum(data: bytes) -> bytes:
    """The CRC-32C of the data, turned and shifted as TensorFlow's records have it, in four bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """One record: its length, the data, and the checksums of both."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _varint(n: int) -> bytes:
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def message(field: int, data: bytes) -> bytes:
    """A field that holds bytes, or a message."""
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def text(field: int, string: str) -> bytes:
    """A field that holds text."""
    return message(field, string.encode())


def whole(field: int, n: int) -> bytes:
    """A field that holds a whole number."""
    return _varint(field << 3) + _varint(n)


def double(field: int, x: float) -> bytes:
    """A field that holds a double."""
    return _varint(field << 3 | 1) + struct.pack("<d", x)


def single(field: int, x: float) -> bytes:
    """A field that holds a float."""
    return _varint(field << 3 | 5) + struct.pack("<f", x)


def doubles(field: int, numbers: Sequence[float]) -> bytes:
    """A field that holds several doubles."""
    return message(field, struct.pack(f"<{len(numbers)}d", *numbers))
