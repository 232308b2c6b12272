"""An optimizer whose states are shared out among the members of a group (Rajbhandari et al. 2020)."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..distributed import get_rank, get_world_size
from .optimizer import Optimizer

__all__ = ["ZeroRedundancyOptimizer"]


class ZeroRedundancyOptimizer(Optimizer):
    """Each member of a group updates its share of the parameters: of one member, ``optim`` updates all.

    Args:
        params: parameters or groups of them.
        optimizer_class: what updates them; defaults: its options.
        process_group: by default all members.
        parameters_as_bucket_view, overlap_with_ddp: change nothing, as there is nobody to send to.

    Raises:
        ValueError: there is no group.

    Example:
        >>> torch.distributed.init_process_group("gloo", rank=0, world_size=1)
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = ZeroRedundancyOptimizer([w], torch.optim.SGD, lr=0.5)
        >>> w.sum().backward()
        >>> optimizer.step()
        >>> w.data
        tensor([0.5000, 0.5000])
        >>> torch.distributed.destroy_process_group()
    """

    def __init__(self, params: Iterable[Any], optimizer_class: Callable[..., Optimizer], process_group: Any = None,
                 parameters_as_bucket_view: bool = False, overlap_with_ddp: bool = False, **defaults: Any) -> None:
        self.rank, self.world_size = get_rank(process_group), get_world_size(process_group)
        self.process_group = process_group
        self.initialized = False
        given = list(params)
        super().__init__(given, defaults)
        self.optim = optimizer_class(given, **defaults)
        self.initialized, self._consolidated = True, False
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.optim.param_groups, self.optim.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Further parameters."""
        if not self.initialized:
            return super().add_param_group(param_group)
        self.optim.add_param_group(param_group)
        return self._share()

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Update the parameters; returns what ``closure`` does."""
        return self.optim.step(closure, **kwargs) if closure is not None else self.optim.step(**kwargs)

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Gather the states of all members on the member ``to``, for ``state_dict``."""
        self._consolidated = True

    def state_dict(self) -> dict[str, Any]:
        """The states of all members.

        Raises:
            RuntimeError: they were not gathered.
        """
        if not self._consolidated:
            raise RuntimeError("Optimizer state has not been consolidated on this rank. Please call `consolidate_state_dict(to=0)` on all "
                               "ranks beforehand if you meant to save the global state.")
        return self.optim.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with these states."""
        self.optim.load_state_dict(state_dict)
        self._share()
