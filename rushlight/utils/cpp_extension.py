"""``torch.utils.cpp_extension``: there is nothing here that an extension could be built against, and programs that have another way
without one learn so by an error."""
from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["CUDA_HOME", "load", "load_inline", "verify_ninja_availability"]

CUDA_HOME = None


def _refuse(name: str) -> NoReturn:
    raise RuntimeError(f"cpp_extension: '{name}' cannot be built: extensions in C++ and CUDA are written against PyTorch's library, which "
                       "is not there. Operations can be declared in Python (CONTRIBUTING.md, autograd.Function)")


def load(name: str, sources: Any = None, *args: Any, **options: Any) -> NoReturn:
    """Raises RuntimeError."""
    _refuse(name)


def load_inline(name: str, cpp_sources: Any = None, *args: Any, **options: Any) -> NoReturn:
    """Raises RuntimeError."""
    _refuse(name)


def verify_ninja_availability() -> NoReturn:
    """Raises RuntimeError: nothing can be built."""
    _refuse("ninja")
