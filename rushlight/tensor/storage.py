"""What ``Tensor.untyped_storage()`` and ``Tensor.storage()`` tell about the memory under a tensor."""
from __future__ import annotations

from typing import Any

__all__ = ["TypedStorage", "UntypedStorage"]


class UntypedStorage:
    """The bytes that a tensor and its views share."""

    def __init__(self, tensor: Any) -> None:
        self._whole = tensor._whole()

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
