"""``torch._tensor_str``: what classes of tensors with a printed form of their own call."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tensor import Tensor
from .tensor.printing import PRINT_OPTS, contents, set_printoptions, with_suffixes

__all__ = ["PRINT_OPTS", "set_printoptions"]


def _tensor_str(self: Tensor, indent: int) -> str:
    """The elements between brackets, lines after the first being moved to the right by ``indent``."""
    if self.numel() == 0:
        return "[]"
    values = self.detach()
    array: np.ndarray = (values.float() if self.dtype.foreign else values).numpy()
    return contents(array, self.dtype.name, indent)


def _add_suffixes(tensor_str: str, suffixes: Sequence[str], indent: int, force_newline: bool) -> str:
    """The text with what is said behind the elements, and a parenthesis that closes it."""
    if force_newline and suffixes:
        return tensor_str + ",\n" + " " * indent + ", ".join(suffixes) + ")"
    return with_suffixes(tensor_str, suffixes, indent)

