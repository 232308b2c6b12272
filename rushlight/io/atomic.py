"""Replace a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing and put it in place when the block ends well.

    The data is on the disk before the old file gives way, so that whoever reads `path` at any time, also after a crash,
    finds the old content or the new, never a part. If the block raises, the temporary file is removed and `path` is
    left as it was. Symbolic links are followed; devices and pipes (`/dev/null`) are written directly.

    Raises:
        FileNotFoundError: the parent folder does not exist.

    Example:
        >>> with atomic_write("/tmp/weights.bin") as f:
        ...     _ = f.write(b"all of it")
    """
    target = Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):
        old = target.stat()
        if stat.S_ISDIR(old.st_mode):
            raise IsADirectoryError(f"{os.fspath(path)} is a folder, not a file")
        if not stat.S_ISREG(old.st_mode):
            with open(target, "wb") as direct:
                yield direct
            return
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Parent directory {target.parent} does not exist.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as f:
            if target.exists():  # a replaced file keeps its permissions
                os.fchmod(f.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable. Some file systems do not let a folder be opened or synced: nothing more to do."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
