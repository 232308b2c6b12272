"""``torch.PyTorchFileReader``: the records of an archive one by one, for libraries that load parts of checkpoints."""
from __future__ import annotations

import contextlib
import os
import weakref
from typing import Any, BinaryIO

from ..compile.dtypes import DType, uint8
from ..tensor import from_numpy
from .archive import ArchiveReader

__all__ = ["PyTorchFileReader"]


class PyTorchFileReader:
    """An archive that ``torch.save`` wrote. Nothing in it is executed.

    Args:
        name: the file's path, or a file that is open for reading.

    Raises:
        RuntimeError: it is no archive. FileNotFoundError: there is no such file.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> torch.save({"a": torch.ones(2)}, file)
        >>> reader = torch.PyTorchFileReader(file)
        >>> reader.has_record("data.pkl"), reader.get_storage_from_record("data/0", 2, torch.float32)
        (True, tensor([1., 1.]))
    """

    def __init__(self, name: str | os.PathLike[str] | BinaryIO) -> None:
        path = os.fspath(name) if isinstance(name, (str, os.PathLike)) else None
        with contextlib.ExitStack() as opened:
            file: Any = name if path is None else opened.enter_context(open(path, "rb"))
            self._archive = ArchiveReader(file, path)
            weakref.finalize(self, opened.pop_all().close)

    def has_record(self, name: str) -> bool:
        """Whether there is a record of this name, such as "data.pkl"."""
        return name in self._archive

    def get_record(self, name: str) -> bytes:
        """A record.

        Raises:
            RuntimeError: there is none of this name.
        """
        return self._archive.read(name)

    def get_all_records(self) -> list[str]:
        """The names of all records, in order."""
        return self._archive.names()

    def get_storage_from_record(self, name: str, numel: int, dtype: Any) -> Any:
        """A record as a tensor (numel,) of a dtype, of bytes for ``UntypedStorage``. RuntimeError if it has another size, or there is
        none."""
        kind = dtype if isinstance(dtype, DType) else uint8
        return from_numpy(self._archive.read_array(name, numel * kind.itemsize)).view(kind)
