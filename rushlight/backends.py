"""``torch.backends``: switches of other libraries, kept for programs that set them; they change nothing here."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]


class _Backend:
    """A set of switches, and whether the library behind them is there."""

    def __init__(self, available: bool, **switches: Any) -> None:
        self._available = available
        self.__dict__.update(switches)

    def is_available(self) -> bool:
        """Whether the library is in use."""
        return self._available

    def is_built(self) -> bool:
        """Whether the library is part of this build."""
        return self._available

    @contextmanager
    def flags(self, **switches: Any) -> Iterator[None]:
        """Set switches inside a ``with`` block."""
        before = {k: self.__dict__.get(k) for k in switches}
        self.__dict__.update(switches)
        try:
            yield
        finally:
            self.__dict__.update(before)


cudnn = _Backend(False, enabled=True, benchmark=False, deterministic=False, allow_tf32=True)
cuda = _Backend(False, matmul=_Backend(False, allow_tf32=False, allow_fp16_reduced_precision_reduction=True))
mkldnn = _Backend(False, enabled=True, deterministic=False)
mkl, openmp, mps = _Backend(False), _Backend(False), _Backend(False)


class _Cpu(_Backend):
    def get_cpu_capability(self) -> str:
        """The vector instructions that kernels are compiled for."""
        from .compile.cpu.target import host

        return str(host().name)


cpu = _Cpu(True)
