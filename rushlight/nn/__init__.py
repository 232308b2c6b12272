"""Layers, containers, losses and what belongs to them, laid out as ``torch.nn``."""
from __future__ import annotations

from . import attention, functional, grad, init, modules, parallel, parameter, utils  # noqa: F401
from .functional.linear_loss import LinearCrossEntropyOptions  # noqa: F401
from .modules import *  # noqa: F401,F403
from .modules.lazy import UninitializedBuffer, UninitializedParameter
from .modules.module import Module  # noqa: F401
from .parallel import DataParallel  # noqa: F401
from .parameter import Buffer, Parameter  # noqa: F401

parameter.UninitializedBuffer, parameter.UninitializedParameter = UninitializedBuffer, UninitializedParameter  # type: ignore[attr-defined]
