"""The share of a data set that one of several processes trains on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized

from ...distributed import get_rank, get_world_size
from .sampler import Sampler

__all__ = ["DistributedSampler"]


class DistributedSampler(Sampler[int]):
    """Every ``num_replicas``-th index of a (shuffled) data set, starting at ``rank``.

    All processes get equally many indices: either the first ones are repeated at the end, or with ``drop_last`` the
    tail is left out. Call :meth:`set_epoch` before each epoch, or every epoch has the same order.

    Args:
        dataset: a set with a length.
        num_replicas: the number of processes.
        rank: the number of this process, from 0.
        shuffle: whether to shuffle; all processes shuffle alike.
        seed: the seed of the shuffle; must be the same everywhere.
        drop_last: leave out the tail instead of repeating indices.

    Raises:
        ValueError: ``num_replicas`` or ``rank`` is left to the process group and there is none; or
            ``rank`` is not in ``[0, num_replicas - 1]``.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        num_replicas = get_world_size() if num_replicas is None else num_replicas
        rank = get_rank() if rank is None else rank
        if not 0 <= rank < num_replicas:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        length = len(dataset)
        self.num_samples = length // num_replicas if drop_last else math.ceil(length / num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        import rushlight as torch

        length = len(self.dataset)
        if self.shuffle:
            generator = torch.Generator()
            generator.manual_seed(self.seed + self.epoch)
            indices = torch.randperm(length, generator=generator).tolist()
        else:
            indices = list(range(length))
        if length and len(indices) < self.total_size:
            indices = (indices * math.ceil(self.total_size / length))[: self.total_size]
        return iter(indices[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration: seed plus epoch."""
        self.epoch = epoch
