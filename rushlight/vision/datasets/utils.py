"""``torchvision.datasets.utils``: files fetched from the network, checked, and unpacked."""
from __future__ import annotations

import os
import zipfile
from pathlib import Path

from rushlight.vision.datasets import download
from rushlight.vision.datasets.download import check_integrity

__all__ = ["check_integrity", "download_and_extract_archive", "download_url", "extract_archive"]


def download_url(url: str, root: str | os.PathLike[str], filename: str | None = None, md5: str | None = None,
                 max_redirect_hops: int = 3) -> None:
    """Fetch a file into the folder ``root``, unless it is there with the right checksum.

    Args:
        filename: its name there, by default the last part of ``url``; md5: in hexadecimal, None for any.

    Raises:
        RuntimeError: the network or the server failed, or the checksum is wrong.
    """
    folder = Path(root).expanduser()
    target = folder / (filename or os.path.basename(url.partition("?")[0]))
    if check_integrity(target, md5):
        return
    folder.mkdir(parents=True, exist_ok=True)
    download.download_url(url, target, md5)


def extract_archive(from_path: str | os.PathLike[str], to_path: str | os.PathLike[str] | None = None,
                    remove_finished: bool = False) -> Path:
    """Unpack a tar or zip file into ``to_path``, by default the folder where it lies; returns that.

    Raises:
        RuntimeError: another kind of file, a damaged one, or one with entries that would leave the folder.
    """
    source = Path(from_path)
    folder = Path(to_path) if to_path is not None else source.parent
    if source.name.endswith(".zip"):
        try:
            with zipfile.ZipFile(source) as archive:
                for name in archive.namelist():
                    if not (folder / name).resolve().is_relative_to(folder.resolve()):
                        raise RuntimeError(f"{source}: the entry {name!r} lies outside of the folder")
                archive.extractall(folder)
        except zipfile.BadZipFile as error:
            raise RuntimeError(f"{source} is damaged: {error}") from error
    elif source.name.endswith((".tar", ".tgz", ".tbz2", ".tar.gz", ".tar.bz2", ".tar.xz")):
        download.extract_tar(source, folder)
    else:
        raise RuntimeError(f"Unknown compression or archive type: {source.name!r}: tar and zip files are read")
    if remove_finished:
        source.unlink()
    return folder


def download_and_extract_archive(url: str, download_root: str | os.PathLike[str], extract_root: str | os.PathLike[str] | None = None,
                                 filename: str | None = None, md5: str | None = None, remove_finished: bool = False) -> None:
    """``download_url``, then ``extract_archive`` into ``extract_root``, by default the same folder."""
    root = Path(download_root).expanduser()
    download_url(url, root, filename, md5)
    extract_archive(root / (filename or os.path.basename(url.partition("?")[0])), extract_root or root, remove_finished)
