"""The native recursion over alignments (:mod:`alignment_ir`), loaded when it is first asked for."""
from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import numpy as np

from rushlight.compile.cpu import jit
from rushlight.compile.cpu.alignment_ir import LANES, VERSION, source

__all__ = ["LANES", "backward", "forward"]


@functools.cache
def _function(backward: bool) -> Callable[..., int]:
    symbol = "rl_alignments"
    address = jit.functions(f"alignments {VERSION} {backward}", lambda: source(backward), [symbol])[symbol]
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    return ctypes.CFUNCTYPE(number, *[pointer] * 4, number, number, *[pointer] * 3)(address)


def _addresses(*arrays: np.ndarray) -> list[int]:
    return [a.ctypes.data for a in arrays]


def forward(table: np.ndarray, reached: np.ndarray, ways: np.ndarray, times: np.ndarray) -> None:
    """Fill a table forward in time. Arrays are C-contiguous, float64, ``times`` int64; shapes are in ``alignment_ir.source``."""
    _function(False)(*_addresses(reached, ways, times, table), *reached.shape[1:], None, None, None)


def backward(table: np.ndarray, reached: np.ndarray, ways: np.ndarray, times: np.ndarray, prefixes: np.ndarray, whole: np.ndarray,
             passing: np.ndarray) -> None:
    """Fill a table back from each sequence's end, and ``passing`` likewise."""
    _function(True)(*_addresses(reached, ways, times, table), *reached.shape[1:], *_addresses(prefixes, whole, passing))
