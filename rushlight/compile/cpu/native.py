"""Native calls: primitives with kernels of their own, planned into instructions as contractions are.

A module for each (``_MODULES``, loaded when first met) has ``has_kernel(call, dtypes)``, whether there is native code for
operands of these types, and ``plan(call, operands, wanted)``, the steps that compute the results.

Example::

    operands = (Operand((4, 8), (8, 1), float32), ...)
    for step in plan(call, operands, wanted=(True, False)).steps:
        address = jit.kernel(*step.kernel)
        # params: (table index, byte offset) of each of step.operands, then step.params
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rushlight.compile.cpu.contract_step import Plan
from rushlight.compile.dtypes import DType
from rushlight.compile.graph import NativeCall

__all__ = ["Operand", "has_kernel", "plan"]

#: Name of a call -> the module with its kernels.
_MODULES: dict[str, str] = {
    **dict.fromkeys(("recurrence", "recurrence gradient"), "rushlight.compile.cpu.recurrence"),
    **dict.fromkeys(("attention", "attention backward"), "rushlight.compile.cpu.attention"),
    "first positions": "rushlight.compile.cpu.selection",
}


@dataclass(frozen=True)
class Operand:
    """A value in memory: strides are in elements, and row-major unless the call takes views (``strided``)."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: DType


def _module(call: NativeCall) -> Any:
    return importlib.import_module(_MODULES[call.name])


def has_kernel(call: NativeCall, dtypes: Sequence[DType]) -> bool:
    """Whether ``call`` has native code for operands of these types; else its reference is called."""
    return call.name in _MODULES and _module(call).has_kernel(call, tuple(dtypes))


def plan(call: NativeCall, operands: Sequence[Operand], wanted: Sequence[bool]) -> Plan:
    """The steps of ``call``. They name their operands ("in", i), ("out", k) and ("scratch", j), with a byte offset.

    Args:
        wanted: for each result, whether it has memory; the others are not to be named.
    """
    return _module(call).plan(call, tuple(operands), tuple(wanted))
