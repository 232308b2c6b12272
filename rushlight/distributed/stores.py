"""Keys and values that the members of a group share. Of one process, a dictionary: no file is written, and no port is listened to."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

from .constants import default_pg_timeout

__all__ = ["DistBackendError", "DistError", "DistNetworkError", "DistStoreError", "FileStore", "HashStore", "PrefixStore", "Store",
           "TCPStore"]


class DistError(RuntimeError):
    """An error of ``torch.distributed``."""


class DistBackendError(DistError):
    """An error of a backend."""


class DistNetworkError(DistError):
    """An error of the network."""


class DistStoreError(DistError):
    """An error of a store."""


class Store:
    """Keys and values: values are bytes, whatever they were given as."""

    def __init__(self) -> None:
        self.timeout = default_pg_timeout
        self._values: dict[str, bytes] = {}

    def set(self, key: str, value: str | bytes) -> None:
        """Write a value."""
        self._values[key] = value.encode() if isinstance(value, str) else bytes(value)

    def get(self, key: str) -> bytes:
        """The value of a key.

        Raises:
            DistStoreError: there is none; nobody else could write it, so nobody waits for it.
        """
        self.wait([key])
        return self._values[key]

    def add(self, key: str, amount: int) -> int:
        """Count up; the new count."""
        count = int(self._values.get(key, b"0")) + amount
        self.set(key, str(count))
        return count

    def append(self, key: str, value: str | bytes) -> None:
        """Write behind what is there."""
        self.set(key, self._values.get(key, b"") + (value.encode() if isinstance(value, str) else bytes(value)))

    def check(self, keys: list[str]) -> bool:
        """Whether all keys have values."""
        return all(key in self._values for key in keys)

    def compare_set(self, key: str, expected_value: str, desired_value: str) -> bytes:
        """Write ``desired_value`` if the value is ``expected_value``, or if both are nothing; what is there afterwards."""
        if self._values.get(key, b"") == expected_value.encode():
            self.set(key, desired_value)
        return self._values.get(key, expected_value.encode())

    def delete_key(self, key: str) -> bool:
        """Whether there was such a key."""
        return self._values.pop(key, None) is not None

    def num_keys(self) -> int:
        """How many keys there are."""
        return len(self._values)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        """The values of several keys."""
        return [self.get(key) for key in keys]

    def multi_set(self, keys: list[str], values: list[str | bytes]) -> None:
        """Write several values."""
        for key, value in zip(keys, values, strict=True):
            self.set(key, value)

    def set_timeout(self, timeout: timedelta) -> None:
        """How long ``get`` and ``wait`` would wait for others."""
        self.timeout = timeout

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        """Return when all keys have values.

        Raises:
            DistStoreError: one has none; nobody else could write it.
        """
        missing = [key for key in keys if key not in self._values]
        if missing:
            raise DistStoreError(f"wait: no value of {', '.join(missing)}, and no other process that could set it")


class HashStore(Store):
    """A store of this process."""


class FileStore(Store):
    """A store of the processes that are told one file.

    Raises:
        RuntimeError: more than one process.
    """

    def __init__(self, file_name: str, world_size: int = -1) -> None:
        super().__init__()
        _alone(type(self).__name__, world_size)
        self.path = file_name


class TCPStore(Store):
    """A store of the processes that are told one address; of one process, nothing is listened to.

    Raises:
        RuntimeError: more than one process, or a client without the master's process.
    """

    def __init__(self, host_name: str, port: int, world_size: int | None = None, is_master: bool = False,
                 timeout: timedelta = default_pg_timeout, wait_for_workers: bool = True, multi_tenant: bool = False,
                 **options: Any) -> None:
        super().__init__()
        _alone(type(self).__name__, world_size if is_master else 2)
        self.host, self.port, self.timeout = host_name, port, timeout


def _alone(name: str, world_size: int | None) -> None:
    if world_size is not None and world_size > 1:
        raise RuntimeError(f"{name}: a group has one process here, and this store would be shared with others")


class PrefixStore(Store):
    """Another store, whose keys get a prefix."""

    def __init__(self, prefix: str, store: Store) -> None:
        super().__init__()
        self._prefix, self.underlying_store = prefix, store
        self._values = _Prefixed(prefix, store._values)


class _Prefixed(dict[str, bytes]):
    """A dictionary's keys that begin with a prefix."""

    def __init__(self, prefix: str, below: dict[str, bytes]) -> None:
        self._prefix, self._below = prefix + "/", below

    def __setitem__(self, key: str, value: bytes) -> None:
        self._below[self._prefix + key] = value

    def __getitem__(self, key: str) -> bytes:
        return self._below[self._prefix + key]

    def __contains__(self, key: object) -> bool:
        return f"{self._prefix}{key}" in self._below

    def __len__(self) -> int:
        return len(self._below)  # as PyTorch: all keys of the store below

    def get(self, key: str, default: Any = None) -> Any:
        return self._below.get(self._prefix + key, default)

    def pop(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
        return self._below.pop(self._prefix + key, default)
