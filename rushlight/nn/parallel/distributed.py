"""``DistributedDataParallel``: what PyTorch's is where there is one process."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ...distributed import GroupMember, get_world_size
from ..modules.module import Module

__all__ = ["DistributedDataParallel"]


class DistributedDataParallel(Module):
    """``module`` under the name ``module``, whose gradients are the means over the members of a process group. A group has one member here
    (``torch.distributed``), so they are the module's own.

    Example:
        >>> torch.distributed.init_process_group("gloo", rank=0, world_size=1)
        >>> net = nn.parallel.DistributedDataParallel(nn.Linear(3, 2))
        >>> net(torch.zeros(4, 3)).shape, list(net.state_dict())
        (torch.Size([4, 2]), ['module.weight', 'module.bias'])
        >>> torch.distributed.destroy_process_group()

    Raises:
        ValueError: there is no default group.
        RuntimeError: no parameter of ``module`` requires a gradient.
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0, broadcast_buffers: bool = True,
                 process_group: Any = None, bucket_cap_mb: Any = None, find_unused_parameters: bool = False,
                 check_reduction: bool = False, gradient_as_bucket_view: bool = False, static_graph: bool = False,
                 **options: Any) -> None:
        super().__init__()
        get_world_size(process_group)
        if not any(p.requires_grad for p in module.parameters()):
            raise RuntimeError("DistributedDataParallel is not needed when a module doesn't have any parameter that requires a gradient.")
        self.module = module
        self.device_ids = None
        self.process_group = process_group or GroupMember.WORLD
        self.find_unused_parameters = find_unused_parameters
        self.require_backward_grad_sync = True

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """A region whose backward passes leave gradients apart: a member that is alone has nothing to wait for."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)
