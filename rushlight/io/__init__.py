"""Files with tensors in them: PyTorch's `.pt` archives, and safetensors."""

from rushlight.io import safetensors
from rushlight.io.checkpoint import load, save
from rushlight.io.trusted import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "safetensors", "save"]
