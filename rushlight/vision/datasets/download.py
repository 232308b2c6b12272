"""Fetching files from the network, checked before they take their place."""

from __future__ import annotations

import hashlib
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rushlight.io.atomic import atomic_write

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def check_integrity(path: str | os.PathLike[str], md5: str | None = None) -> bool:
    """Whether the file is there and, if a checksum is given, has it."""
    if not os.path.isfile(path):
        return False
    return md5 is None or file_md5(path) == md5


def file_md5(path: str | os.PathLike[str]) -> str:
    """The MD5 of a file's bytes, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as f:
        while chunk := f.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download_url(url: str, path: str | os.PathLike[str], md5: str | None = None) -> None:
    """Fetch one file. It appears under `path` only when all of it has arrived with the right checksum.

    Raises:
        RuntimeError: the network or the server failed, or the checksum is wrong; the message names the URL.
    """
    digest = hashlib.md5(usedforsecurity=False)
    request = urllib.request.Request(url, headers={"User-Agent": "rushlight"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, atomic_write(path) as f:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                f.write(chunk)
            if md5 is not None and digest.hexdigest() != md5:
                raise RuntimeError(f"{url}: File not found or corrupted: its md5 is {digest.hexdigest()}, not {md5}")
    except OSError as e:  # URLError, time-outs, resets, and a full disk
        raise RuntimeError(f"{url}: {getattr(e, 'reason', e)}") from e


def download_from_mirrors(
    mirrors: Sequence[str], filename: str, folder: str | os.PathLike[str], md5: str | None = None
) -> Path:
    """Fetch `filename` from the first mirror that has it, unless it is there already; returns its path.

    Raises:
        RuntimeError: no mirror has it; the message has each one's error.
    """
    path = Path(folder) / filename
    if check_integrity(path, md5):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    errors = []
    for mirror in mirrors:
        url = mirror + filename
        print(f"Downloading {url}")
        try:
            download_url(url, path, md5)
            return path
        except RuntimeError as e:
            errors.append(str(e))
    raise RuntimeError(f"Error downloading {filename}:\n" + "\n".join(f"  {e}" for e in errors))


def extract_tar(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Unpack a tar file's plain files into `folder`; entries that would leave it are refused.

    Raises:
        RuntimeError: the archive is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                target = Path(folder) / member.name
                if not target.resolve().is_relative_to(Path(folder).resolve()):
                    raise RuntimeError(f"{archive}: the entry {member.name!r} lies outside of the folder")
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None  # it is a plain file
                with source, atomic_write(target) as f:
                    while chunk := source.read(_CHUNK):
                        f.write(chunk)
    except (tarfile.TarError, EOFError) as e:
        raise RuntimeError(f"{archive} is damaged: {e}") from e
