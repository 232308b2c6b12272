"""The samples of a batch, one after the other."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ....record import flush, local

__all__ = ["in_turn", "samples_of"]

_MUCH = 8  # values recorded for a sample, from which on it runs by itself: a flush costs about as much as recording so many


def samples_of(dataset: Any, indices: Sequence[Any]) -> list:
    """``[dataset[i] for i in indices]``, in turn."""
    return in_turn(functools.partial(operator.getitem, dataset), indices)


def in_turn(make: Callable[[Any], Any], keys: Iterable) -> list:
    """``[make(key) for key in keys]``. A sample for which much was recorded runs before the next is made.

    What is done to a sample is often picked at random (flip it or not, cut it here or there). Then the path of one sample is one of a
    few, which are soon compiled; that of all samples of a batch never comes again, and would be interpreted in every batch.
    """
    made, begun = [], _now()
    for key in keys:
        made.append(make(key))
        begun = _run_much(begun)
    return made


def _now() -> tuple[Any, int]:
    """A moment of recording: the epoch, and how many values it has."""
    trace = local.trace
    return trace.epoch, len(trace.values)


def _run_much(begun: tuple[Any, int]) -> tuple[Any, int]:
    """Run what has been recorded since ``begun`` if it is much; returns the present moment."""
    epoch, count = _now()
    if count - (begun[1] if epoch is begun[0] else 0) < _MUCH:
        return epoch, count
    flush()
    return _now()
