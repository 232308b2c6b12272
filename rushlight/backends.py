"""``torch.backends``: switches of other libraries, kept for programs that set them; they change nothing here."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]


class _Backend(ModuleType):
    """A set of switches, and whether the library behind them is there; ``import torch.backends.cudnn as cudnn`` finds it, too."""

    def __init__(self, name: str, available: bool, **switches: Any) -> None:
        super().__init__(f"{__name__}.{name}")
        self._available = available
        self.__dict__.update(switches)
        sys.modules[self.__name__] = self

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


class _Cudnn(_Backend):
    def version(self) -> None:
        """The library's version: None, it is not there."""


class _Cuda(_Backend):
    """With the switches of attention's implementations: there is one, whatever they say."""

    def _switched(self, name: str, to: bool | None = None) -> bool:
        before = self.__dict__.setdefault(name, True)
        if to is not None:
            self.__dict__[name] = bool(to)
        return before

    def flash_sdp_enabled(self) -> bool:
        """What ``enable_flash_sdp`` was last told."""
        return self._switched("_flash")

    def mem_efficient_sdp_enabled(self) -> bool:
        """What ``enable_mem_efficient_sdp`` was last told."""
        return self._switched("_mem_efficient")

    def math_sdp_enabled(self) -> bool:
        """What ``enable_math_sdp`` was last told."""
        return self._switched("_math")

    def cudnn_sdp_enabled(self) -> bool:
        """What ``enable_cudnn_sdp`` was last told."""
        return self._switched("_cudnn")

    def enable_flash_sdp(self, enabled: bool) -> None:
        """Allow or forbid flash attention."""
        self._switched("_flash", enabled)

    def enable_mem_efficient_sdp(self, enabled: bool) -> None:
        """Allow or forbid memory-efficient attention."""
        self._switched("_mem_efficient", enabled)

    def enable_math_sdp(self, enabled: bool) -> None:
        """Allow or forbid attention by its formula."""
        self._switched("_math", enabled)

    def enable_cudnn_sdp(self, enabled: bool) -> None:
        """Allow or forbid cuDNN's attention."""
        self._switched("_cudnn", enabled)

    @contextmanager
    def sdp_kernel(self, enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True,
                   enable_cudnn: bool = True) -> Iterator[None]:
        """Set the four switches inside a ``with`` block."""
        wanted = {"_flash": enable_flash, "_math": enable_math, "_mem_efficient": enable_mem_efficient, "_cudnn": enable_cudnn}
        before = {name: self._switched(name, to) for name, to in wanted.items()}
        try:
            yield
        finally:
            self.__dict__.update(before)


cudnn = _Cudnn("cudnn", False, enabled=True, benchmark=False, deterministic=False, allow_tf32=True)
cuda = _Cuda("cuda", False, matmul=_Backend("cuda.matmul", False, allow_tf32=False, allow_fp16_reduced_precision_reduction=True))
mkldnn = _Backend("mkldnn", False, enabled=True, deterministic=False)
mkl, openmp, mps = _Backend("mkl", False), _Backend("openmp", False), _Backend("mps", False)


class _Cpu(_Backend):
    def get_cpu_capability(self) -> str:
        """The vector instructions that kernels are compiled for."""
        from .compile.cpu.target import host

        return str(host().name)


cpu = _Cpu("cpu", True)
