"""What ``Tensor.untyped_storage()`` tells about the memory under a tensor."""
from __future__ import annotations

from typing import Any

__all__ = ["UntypedStorage"]


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
