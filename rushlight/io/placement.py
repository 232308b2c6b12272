"""Which device the storages of a file go to: `map_location`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from rushlight.io.storages import LoadedStorage
from rushlight.record import Device as device

MapLocation: TypeAlias = "Callable[[Any, str], Any] | device | str | Mapping[str, str] | None"


class Placement:
    """One `map_location` argument, ready to be asked for each storage.

    Args:
        map_location: None, a device or its name, a dict from names in the file to names here, or a function
            `(storage, name)` that returns the storage, moved or not, or None for the default.
    """

    def __init__(self, map_location: MapLocation) -> None:
        if not (map_location is None or callable(map_location) or isinstance(map_location, (str, Mapping, device))):
            kind = type(map_location).__name__
            raise TypeError(f"map_location is a device, a name, a dict or a function, not {kind}")
        self._map = map_location

    def place(self, storage: LoadedStorage, location: str) -> LoadedStorage:
        """Set the storage's device, given where it was when it was saved."""
        wanted = self._map
        if callable(wanted):
            moved = wanted(storage, location)
            if isinstance(moved, LoadedStorage):
                return moved
            wanted = None
        if isinstance(wanted, Mapping):
            location, wanted = wanted.get(location, location), None
        storage.device = device(location) if wanted is None else device(wanted)
        if wanted is None and storage.device.type == "cuda" and not _cuda_is_available():
            raise RuntimeError(
                "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are "
                "running on a CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map "
                "your storages to the CPU."
            )
        return storage


def _cuda_is_available() -> bool:
    from rushlight import cuda

    return cuda.is_available()
