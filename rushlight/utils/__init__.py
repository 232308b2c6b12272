"""Helpers around training: data loading in :mod:`rushlight.utils.data`, checkpointing in :mod:`rushlight.utils.checkpoint`."""

from . import checkpoint, data, dlpack, hooks

__all__ = ["checkpoint", "data", "dlpack", "hooks"]
