"""What ``Tensor.untyped_storage()`` and ``Tensor.storage()`` tell about the memory under a tensor."""
from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..compile.dtypes import uint8

__all__ = ["TypedStorage", "UntypedStorage"]


class UntypedStorage:
    """The bytes that a tensor and its views share.

    Args:
        tensor: the tensor, or a number of bytes for new memory.

    Example:
        >>> storage = torch.arange(4, dtype=torch.uint8).untyped_storage()
        >>> storage[1:3].tolist(), torch.asarray(storage[1:3], dtype=torch.uint8)
        ([1, 2], tensor([1, 2], dtype=torch.uint8))
    """

    filename: str | None = None  # the file that is written to with the memory

    def __init__(self, tensor: Any = 0) -> None:
        if isinstance(tensor, int):
            from .creation import empty

            tensor = empty(tensor, dtype=uint8)
        self._whole = tensor._whole()

    @classmethod
    def from_file(cls, filename: str, shared: bool = False, nbytes: int = 0) -> UntypedStorage:
        """The memory that a file is mapped to.

        Args:
            filename: the file. shared: whether what is written to the memory is written to the file, too, which is then made as long as
                ``nbytes`` where it is shorter or absent.
            nbytes: how much of it.

        Raises:
            RuntimeError: the file is absent, or shorter than ``nbytes``, and not shared.
        """
        from .creation import from_numpy

        path = os.fspath(filename)
        if shared:
            with open(path, "ab") as file:
                file.truncate(max(nbytes, os.path.getsize(path)))
        elif not os.path.exists(path) or os.path.getsize(path) < nbytes:
            raise RuntimeError(f"unable to map {nbytes} bytes of the file <{path}>: " +
                               ("it has fewer" if os.path.exists(path) else "No such file or directory (2)"))
        bytes_ = np.memmap(path, np.uint8, "r+" if shared else "c", shape=(nbytes,)) if nbytes else np.empty(0, np.uint8)
        made = cls(from_numpy(np.asarray(bytes_)))
        made.filename = path if shared else None
        return made

    def _bytes(self) -> Any:
        return self._whole.detach().reshape(-1).view(uint8)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self._bytes()[index].item()
        start, stop, step = index.indices(self.nbytes())
        if step != 1:
            raise RuntimeError(f"Trying to slice with a step of {step}, but only a step of 1 is supported")
        part = UntypedStorage.__new__(UntypedStorage)
        part._whole = self._bytes()[start:max(start, stop)]
        return part

    def __setitem__(self, index: Any, value: int) -> None:
        self._bytes()[index] = value

    def tolist(self) -> list:
        """The bytes, as numbers."""
        return self._bytes().tolist()  # type: ignore[no-any-return]

    def clone(self) -> UntypedStorage:
        """The same bytes in memory of their own."""
        return UntypedStorage(self._bytes().clone())

    def untyped(self) -> UntypedStorage:
        """The storage itself."""
        return self

    def is_shared(self) -> bool:
        """Whether the memory is there for other processes."""
        return self._whole.is_shared()  # type: ignore[no-any-return]

    def data_ptr(self) -> int:
        return self._whole.data_ptr()

    def _address(self) -> int:
        """As ``data_ptr``, for who is done with it before anything else runs."""
        return self._whole._address()

    def nbytes(self) -> int:
        return self._whole.nbytes

    size = __len__ = nbytes

    def whole(self) -> Any:
        """A tensor over all of the storage, of the dtype it was made with."""
        return self._whole

    @property
    def _cdata(self) -> int:
        return id(self._whole._alias.storage)

    @property
    def device(self) -> Any:
        return self._whole.device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and self._cdata == other._cdata

    def __hash__(self) -> int:
        return self._cdata


class TypedStorage(UntypedStorage):
    """The numbers that a tensor and its views share, counted as elements of the tensor's dtype."""

    def __init__(self, tensor: Any) -> None:
        super().__init__(tensor)
        self.dtype = tensor.dtype

    def untyped(self) -> UntypedStorage:
        """The same memory as bytes."""
        return UntypedStorage(self._whole)

    def element_size(self) -> int:
        return self.dtype.itemsize  # type: ignore[no-any-return]

    def size(self) -> int:
        return self.nbytes() // self.element_size()

    __len__ = size

    def _numbers(self) -> Any:
        return self._whole.detach() if self._whole.dtype is self.dtype else self._whole.detach().view(self.dtype)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            raise RuntimeError("slices are only supported in UntypedStorage.__getitem__")
        return self._numbers().reshape(-1)[index].item()

    def tolist(self) -> list:
        """The numbers, in the order of the memory."""
        return self._numbers().reshape(-1).tolist()  # type: ignore[no-any-return]
