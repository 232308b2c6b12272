"""Copies of a module that share its parameters."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..modules.module import Module
from .scatter_gather import check_devices

__all__ = ["replicate"]


def replicate(network: Module, devices: Sequence[Any], detach: bool = False) -> list[Module]:
    """A copy for each device of the tree of modules, with the very parameters and buffers; with ``detach``, with others of the same
    memory, cut from the graph."""
    check_devices(devices)
    return [_copy(network, detach) for _ in devices]


def _copy(module: Module, detach: bool) -> Module:
    made = module._replicate_for_data_parallel()
    if detach:
        for name, p in module._parameters.items():
            made._parameters[name] = None if p is None else p.detach()
    for name, child in module._modules.items():
        made._modules[name] = None if child is None else _copy(child, detach)
    return made
