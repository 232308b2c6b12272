"""Names of PyTorch's extension module that programs with tensor subclasses use."""
from __future__ import annotations

from typing import Any

from ..autograd.overriding import aside
from ..autograd.overriding import disabled as _disabled_torch_function_impl
from ..ops.solving import LinAlgError as _LinAlgError
from ..tensor.tensor import Tensor as TensorBase
from . import _nn

#: The class of tensors' class, for those that are written with a class of classes of their own.
_TensorMeta = type(TensorBase)

__all__ = ["DisableTorchFunction", "DisableTorchFunctionSubclass", "TensorBase", "_LinAlgError", "_disabled_torch_function_impl", "_nn"]


class DisableTorchFunctionSubclass:
    """A region in which no ``__torch_function__`` is asked.

    Example:
        >>> class Mine(torch.Tensor):
        ...     pass
        >>> with torch._C.DisableTorchFunctionSubclass():
        ...     print(type(Mine([1.0]) + 1).__name__)
        Tensor
    """

    def __enter__(self) -> None:
        aside.__enter__()

    def __exit__(self, *error: Any) -> None:
        aside.__exit__()


DisableTorchFunction = DisableTorchFunctionSubclass


def _get_tracing_state() -> None:
    """What ``jit.trace`` is recording: nothing."""


def _log_api_usage_once(event: str) -> None:
    """Nothing is logged."""


def _are_functorch_transforms_active() -> bool:
    """Whether tensors in use are stand-ins of ``func``'s: they are ordinary tensors."""
    return False


def _is_torch_function_enabled() -> bool:
    """Whether classes are asked here."""
    return not aside.depth
