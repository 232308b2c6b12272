"""``torch._subclasses``: tensors without content, as PyTorch's tracing makes them. Tracing uses proxies here (``fx``): there are none."""
from __future__ import annotations

from .fake_tensor import FakeTensor, FakeTensorMode

__all__ = ["FakeTensor", "FakeTensorMode"]
