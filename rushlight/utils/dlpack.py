"""``torch.utils.dlpack``: memory that is handed from one library to another and stays where it is."""
from __future__ import annotations

from ..tensor.dlpack import DLDeviceType, from_dlpack, to_dlpack

__all__ = ["DLDeviceType", "from_dlpack", "to_dlpack"]
