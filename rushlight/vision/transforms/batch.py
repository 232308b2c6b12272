"""Transform a whole batch of images of one size in one step, with the bits that sample by sample would give.

A transform takes part by having a batch form:

* `batch_words(size)` says how many 32-bit words of the random stream one sample of this (height, width) uses;
* `batch_draw(words, size)` makes of these words, (B, n), what `batch_apply` needs;
* `batch_size(size)` is the size that comes out;
* `batch_apply(images, drawn, axis)` transforms all samples; `images` is a NumPy array (B, H, W) or (B, H, W, C) of
  uint8 before `ToTensor`, (B, C, H, W) after it, and `axis` is that of the height.

Samples draw one after the other, each through the whole pipeline: the random stream is used as if there were no batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rushlight.vision.transforms import draws


class BatchPlan:
    """A pipeline of transforms that all know how to work on a batch."""

    def __init__(self, steps: list[Any]) -> None:
        self._steps = steps

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Transform uint8 images (B, H, W) or (B, H, W, C); the result is a new array (B, C, H, W)."""
        size = images.shape[1], images.shape[2]
        sizes, counts = [], []
        for step in self._steps:
            sizes.append(size)
            counts.append(step.batch_words(size))
            size = step.batch_size(size)
        words = draws.words(len(images) * sum(counts)).reshape(len(images), -1) if any(counts) else None
        axis, used = 1, 0
        for step, size, count in zip(self._steps, sizes, counts):
            drawn = None
            if words is not None and count:
                drawn = step.batch_draw(words[:, used : used + count], size)
                used += count
            images = step.batch_apply(images, drawn, axis)
            axis = 2 if step.batch_makes_tensors else axis
        return images


def plan_for(transform: Any) -> BatchPlan | None:
    """The batch form of a transform, or None if a step has none or the pipeline does not end in tensors."""
    steps = _flatten(transform)
    if steps is None or not any(step.batch_makes_tensors for step in steps):
        return None
    as_tensor = False
    for step in steps:
        if step.batch_makes_tensors and as_tensor or step.batch_wants_tensors and not as_tensor:
            return None
        as_tensor |= step.batch_makes_tensors
    return BatchPlan(steps)


def _flatten(transform: Any) -> list[Any] | None:
    """The leaves of nested pipelines, or None where one of them works on single samples only."""
    inner = getattr(type(transform), "batch_steps", None)
    if inner is not None:
        steps: list[Any] = []
        for step in inner(transform):
            leaves = _flatten(step)
            if leaves is None:
                return None
            steps += leaves
        return steps
    # A subclass that overrides what happens to one sample no longer does what the batch form does.
    owner = _definer(type(transform), "batch_apply")
    behaviour = [_definer(type(transform), name) for name in ("forward", "__call__")]
    if owner is None or any(b is not None and issubclass(b, owner) and b is not owner for b in behaviour):
        return None
    return [transform] if transform.batch_possible() else None


def _definer(kind: type, name: str) -> type | None:
    return next((k for k in kind.__mro__ if name in vars(k)), None)


class Batchable:
    """What a transform with a batch form says about itself; the defaults fit one that draws nothing."""

    batch_makes_tensors = False  # channels last, uint8 in; channels first out
    batch_wants_tensors = False  # only works on what `ToTensor` returned

    def batch_possible(self) -> bool:
        """Whether this transform, as it was configured, has a batch form."""
        return True

    def batch_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that comes out."""
        return size

    def batch_words(self, size: tuple[int, int]) -> int:
        """How many 32-bit words of the random stream a sample of this size uses."""
        return 0

    def batch_draw(self, words: np.ndarray, size: tuple[int, int]) -> Any:
        """What all samples draw, from their words (B, n), uint64."""
        raise NotImplementedError

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        """All samples at once. `drawn` comes from `batch_draw`; None where no words are used."""
        raise NotImplementedError
