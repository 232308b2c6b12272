"""What graph nodes save, where the user's hooks keep it (``graph.saved_tensors_hooks``)."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..record.trace import local
from ..record.value import Value
from .handle import Handle

__all__ = ["Packed", "pack", "unpacked_once"]


class Packed:
    """Stands where a node keeps a value: what ``pack_hook`` made of it, and what makes a tensor of that again."""

    __slots__ = ("content", "unpack", "known", "keeps")
    overwritten = origin = None  # the hooks see to it that the content stays what it was

    def __init__(self, content: Any, unpack: Callable[[Any], Any]) -> None:
        self.content, self.unpack = content, unpack
        self.known: Value | None = None
        self.keeps = False

    def value(self) -> Value:
        """The value again.

        Raises:
            TypeError: the hook returned no tensor.
        """
        if self.known is not None:
            return self.known
        tr = local.trace
        mode, tr.grad_enabled = tr.grad_enabled, tr.grad_enabled and False
        try:
            made = self.unpack(self.content)
        finally:
            tr.grad_enabled = mode
        if not isinstance(made, Handle):
            raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(made).__name__}")
        from .apply import value_of

        value = value_of(made)
        if self.keeps:
            self.known = value
        return value


@contextmanager
def unpacked_once(packed: Sequence[Packed]) -> Iterator[None]:
    """Inside, each of these calls its hook once at most: rules look at what was saved more often than that."""
    for p in packed:
        p.keeps = True
    try:
        yield
    finally:
        for p in packed:
            p.keeps, p.known = False, None


def pack(tensor: Handle, value: Value) -> Packed:
    """Hand a tensor that is saved, and has this value, to the innermost hook.

    Raises:
        RuntimeError: the hook wrote into it.
    """
    tr = local.trace
    hook, unpack = tr.packing[-1]
    mode, tr.grad_enabled = tr.grad_enabled, tr.grad_enabled and False
    try:
        content = hook(tensor)
    finally:
        tr.grad_enabled = mode
    from .apply import value_of

    if value_of(tensor) is not value:
        raise RuntimeError("A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook can not be "
                           "modified by in-place operations as this can lead to unexpected side-effects. Please open an issue if you "
                           "need to perform in-place operations on the input to a pack hook.")
    return Packed(content, unpack)
