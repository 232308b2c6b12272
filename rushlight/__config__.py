"""``torch.__config__``: how this build computes."""
from __future__ import annotations

from importlib.metadata import version

from .compile.cpu.pool import get_num_threads
from .compile.cpu.target import host
from .version import __version__

__all__ = ["parallel_info", "show"]


def show() -> str:
    """A readable text: versions, and the processor that kernels are compiled for.

    Example:
        >>> torch.__config__.show().splitlines()[0]
        'Rushlight built with:'
    """
    return (f"Rushlight built with:\n  - Rushlight {__version__}\n  - llvmlite {version('llvmlite')}\n  - NumPy {version('numpy')}\n"
            f"  - CPU capability usage: {host().name}\n")


def parallel_info() -> str:
    """A readable text: how many threads compute."""
    return f"ATen/Parallel:\n\tat::get_num_threads() : {get_num_threads()}\n\tat::get_num_interop_threads() : 1\n"
