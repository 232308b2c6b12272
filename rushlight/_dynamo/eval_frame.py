"""``torch._dynamo.eval_frame``: the class of compiled modules, for ``isinstance``."""
from __future__ import annotations

from ..nn.modules.module import Module

__all__ = ["OptimizedModule", "is_dynamo_supported"]


class OptimizedModule(Module):
    """What PyTorch's ``compile`` makes of a module. Here a module stays what it is, so nothing is one."""

    _orig_mod: Module


def is_dynamo_supported() -> bool:
    """Whether Python functions can be compiled ahead: no, programs are compiled while they run."""
    return False
