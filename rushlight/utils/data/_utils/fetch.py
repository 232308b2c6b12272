"""Fetchers: from the keys of a batch to the batch, in the loading process itself or in a worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from .collate import default_collate
from .columns import ColumnBatch
from .samples import in_turn, samples_of

__all__ = ["IterableDatasetFetcher", "MapDatasetFetcher"]


class MapDatasetFetcher:
    """Fetches from a set with ``__getitem__``; ``batching`` says whether a key is a list of keys or a single one."""

    def __init__(self, dataset: Any, batching: bool, collate_fn: Callable, drop_last: bool) -> None:
        self.dataset = dataset
        self.batching = batching
        self.collate_fn = collate_fn

    def fetch(self, key: Any) -> Any:
        """The collated batch (or the converted sample) for ``key``."""
        if not self.batching:
            return self.collate_fn(self.dataset[key])
        getitems = getattr(self.dataset, "__getitems__", None)
        samples = getitems(key) if getitems else samples_of(self.dataset, key)
        # Only default_collate knows columns; functions that users write are given the list that they expect.
        if type(samples) is ColumnBatch and self.collate_fn is not default_collate:
            samples = list(samples)
        return self.collate_fn(samples)


class IterableDatasetFetcher:
    """Fetches from a stream. A key only tells how many samples to take; StopIteration says that there are no more."""

    def __init__(self, dataset: Any, batching: bool, collate_fn: Callable, drop_last: bool) -> None:
        self.stream: Iterator = iter(dataset)
        self.batching = batching
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def fetch(self, key: Any) -> Any:
        """The next batch (or sample) of the stream."""
        if self.ended:
            raise StopIteration
        if not self.batching:
            return self.collate_fn(next(self.stream))
        samples = in_turn(lambda sample: sample, itertools.islice(self.stream, len(key)))
        # A short batch is the last one: the stream is not asked again, it may not answer StopIteration twice.
        self.ended = len(samples) < len(key)
        if not samples or (self.ended and self.drop_last):
            raise StopIteration
        return self.collate_fn(samples)
