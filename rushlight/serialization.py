"""`torch.serialization`: saving, loading, and what a file may contain."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, Any, TypeAlias

from rushlight.io import add_safe_globals, clear_safe_globals, get_safe_globals, load, safe_globals, save
from rushlight.record import Device

FILE_LIKE: TypeAlias = str | os.PathLike[str] | IO[bytes]
MAP_LOCATION: TypeAlias = Callable[[Any, str], Any] | Device | str | dict[str, str] | None

__all__ = ["FILE_LIKE", "MAP_LOCATION", "add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]
