"""``DataParallel``: what PyTorch's is where there is no GPU."""
from __future__ import annotations

from typing import Any

from ..modules.module import Module

__all__ = ["DataParallel", "data_parallel"]


class DataParallel(Module):
    """``module`` under the name ``module``: inputs go to it undivided, as in PyTorch where there is no GPU. Keys of the state begin with
    ``module.``.

    Example:
        >>> net = nn.DataParallel(nn.Linear(3, 2))
        >>> net(torch.zeros(4, 3)).shape, list(net.state_dict())
        (torch.Size([4, 2]), ['module.weight', 'module.bias'])
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.module = module
        self.device_ids: list[int] = []

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(module: Module, inputs: Any, device_ids: Any = None, output_device: Any = None, dim: int = 0,
                  module_kwargs: dict[str, Any] | None = None) -> Any:
    """``module`` of the inputs, a tuple of arguments or one of them, undivided."""
    return module(*(inputs if isinstance(inputs, tuple) else (inputs,)), **(module_kwargs or {}))
