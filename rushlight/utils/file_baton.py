"""``torch.utils.file_baton``: one of several processes does something, the others wait."""
from __future__ import annotations

import os
import time

__all__ = ["FileBaton"]


class FileBaton:
    """A lock that is a file: who makes it has the baton until ``release`` removes it.

    Args:
        lock_file_path: where the file is.
        wait_seconds: how long ``wait`` sleeps between two looks.
    """

    def __init__(self, lock_file_path: str, wait_seconds: float = 0.1, warn_after_seconds: float | None = None) -> None:
        self.lock_file_path, self.wait_seconds = lock_file_path, wait_seconds
        self.fd: int | None = None

    def try_acquire(self) -> bool:
        """Take the baton, if nobody has it."""
        try:
            self.fd = os.open(self.lock_file_path, os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        return True

    def wait(self) -> None:
        """Return when nobody has the baton (without taking it)."""
        while os.path.exists(self.lock_file_path):
            time.sleep(self.wait_seconds)

    def release(self) -> None:
        """Give the baton back."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        os.remove(self.lock_file_path)
