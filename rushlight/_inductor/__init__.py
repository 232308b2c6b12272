"""``torch._inductor``: PyTorch's compiler behind ``torch.compile``, whose switches programs set. It is not there: they change nothing."""
from __future__ import annotations

from typing import Any

from . import config

__all__ = ["config", "list_mode_options", "list_options"]


def list_mode_options(mode: str | None = None, dynamic: bool | None = None) -> dict[str, Any]:
    """The switches that the modes of ``torch.compile`` stand for; those of one ``mode``, if it is given.

    Raises:
        KeyError: no such mode.
    """
    modes: dict[str, dict[str, Any]] = {
        "default": {}, "lite": {}, "reduce-overhead": {"triton.cudagraphs": True}, "max-autotune-no-cudagraphs": {"max_autotune": True},
        "max-autotune": {"max_autotune": True, "triton.cudagraphs": True}}
    return modes[mode] if mode else modes


def list_options() -> list[str]:
    """The names of the switches."""
    return sorted(name for name in vars(config) if name[0] != "_")
