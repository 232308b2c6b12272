"""``torch.utils.hooks``: what registering a hook returns, and a mark for hooks that are not saved with a tensor."""
from __future__ import annotations

from typing import Any, TypeVar

from ..autograd.hooks import RemovableHandle
from ..record.warn import warn

__all__ = ["RemovableHandle", "unserializable_hook", "warn_if_has_hooks"]

F = TypeVar("F")


def unserializable_hook(f: F) -> F:
    """Decorator: mark a hook that is left away without a word when its tensor is saved."""
    f.__torch_unserializable__ = True  # type: ignore[attr-defined]
    return f


def warn_if_has_hooks(tensor: Any) -> None:
    """Warn of hooks of a tensor that will not be saved with it."""
    more = tensor._more
    for hook in (more or {}).get("hooks", {}).values():
        if not hasattr(hook, "__torch_unserializable__"):
            warn(f"backward hook {hook!r} on tensor will not be serialized. If this is expected, you can decorate the function with "
                 "@torch.utils.hooks.unserializable_hook to suppress this warning", UserWarning)
