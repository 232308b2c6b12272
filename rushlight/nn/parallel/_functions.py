"""``torch.nn.parallel._functions``: what layers that keep statistics over all devices take from there, for one CPU."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .scatter_gather import gather, scatter

__all__ = ["Broadcast", "Gather", "ReduceAddCoalesced", "Scatter"]


class Broadcast:
    """``Broadcast.apply(devices, *tensors)``: the tensors once for each device, those of a device together."""

    @staticmethod
    def apply(target_gpus: Sequence[Any], *inputs: Any) -> tuple[Any, ...]:
        return tuple([t.view_as(t) for _ in target_gpus for t in inputs])


class ReduceAddCoalesced:
    """``ReduceAddCoalesced.apply(destination, n, *tensors)``: of the tensors of all devices, ``n`` of each, the sums."""

    @staticmethod
    def apply(destination: Any, num_inputs: int, *grads: Any) -> tuple[Any, ...]:
        return tuple([sum(grads[k + num_inputs::num_inputs], start=grads[k]) for k in range(num_inputs)])


class Gather:
    """``Gather.apply(device, dim, *tensors)``: the tensors of all devices, joined."""

    @staticmethod
    def apply(target_device: Any, dim: int, *inputs: Any) -> Any:
        return gather(inputs, target_device, dim)


class Scatter:
    """``Scatter.apply(devices, sizes, dim, tensor)``: the tensor cut for the devices, into equal parts where there are no sizes."""

    @staticmethod
    def apply(target_gpus: Sequence[Any], chunk_sizes: Any, dim: int, input: Any) -> Any:
        return scatter(input, target_gpus, dim) if chunk_sizes is None else input.split(list(chunk_sizes), dim)
