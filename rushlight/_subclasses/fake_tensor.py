"""``torch._subclasses.fake_tensor``: the class that libraries ask for, of which there are no objects."""
from __future__ import annotations

from typing import Any

from ..tensor.tensor import Tensor

__all__ = ["FakeTensor", "FakeTensorMode", "is_fake"]


class FakeTensor(Tensor):
    """What PyTorch's tracing hands to functions instead of tensors; here nothing is one."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Raises NotImplementedError: tensors on the device "meta" have shapes and no content, too."""
        raise NotImplementedError('there are no fake tensors: tensors on the device "meta" have shapes and dtypes without content')


class FakeTensorMode:
    """A region in which tensors would be made without content.

    Raises:
        NotImplementedError: where it begins; ``with torch.device("meta"):`` is such a region.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Options of PyTorch's tracing are accepted."""

    def __enter__(self) -> Any:
        raise NotImplementedError('there are no fake tensors: `with torch.device("meta"):` makes tensors without content')

    def __exit__(self, *error: Any) -> None:
        """It never began."""


def is_fake(x: Any) -> bool:
    """Whether a tensor has no content, as in PyTorch's tracing: no, those are real here.

    Example:
        >>> from rushlight._subclasses.fake_tensor import is_fake
        >>> is_fake(torch.ones(1))
        False
    """
    return isinstance(x, FakeTensor)
