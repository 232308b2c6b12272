"""What detectors have in common: boxes as offsets of others, which boxes belong together, which of them train."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rushlight.nn.modules.module import Module
from rushlight.tensor import FUNCTIONS as F
from rushlight.vision.ops.misc import FrozenBatchNorm2d

__all__ = ["BalancedPositiveNegativeSampler", "BoxCoder", "Matcher", "overwrite_eps"]


def _centred(boxes: Any) -> tuple[Any, Any, Any, Any]:
    """(centre x, centre y, width, height) of boxes (N, 4)."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height, width, height


class BoxCoder:
    """Boxes as offsets of others: of the centre in sizes of the other box, of the size as its logarithm.

    Args:
        weights: factors of the four offsets; bbox_xform_clip: the largest logarithm of a size, so that exp does not overflow.
    """

    def __init__(self, weights: Sequence[float], bbox_xform_clip: float = math.log(1000.0 / 16)) -> None:
        self.weights = tuple(weights)
        self.bbox_xform_clip = bbox_xform_clip

    def encode(self, reference_boxes: Sequence[Any], proposals: Sequence[Any]) -> tuple[Any, ...]:
        """For each image, the offsets (N, 4) that make ``reference_boxes`` of ``proposals``."""
        counts = [len(boxes) for boxes in reference_boxes]
        return self.encode_single(F["cat"](list(reference_boxes)), F["cat"](list(proposals))).split(counts)

    def encode_single(self, reference_boxes: Any, proposals: Any) -> Any:
        """The offsets (N, 4) that make ``reference_boxes`` of ``proposals``."""
        x, y, width, height = _centred(proposals)
        to_x, to_y, to_width, to_height = _centred(reference_boxes)
        offsets = ((to_x - x) / width, (to_y - y) / height, (to_width / width).log(), (to_height / height).log())
        return F["stack"]([weight * offset for weight, offset in zip(self.weights, offsets)], 1)

    def decode(self, rel_codes: Any, boxes: Sequence[Any]) -> Any:
        """The boxes (N, K, 4) that K offsets each (N, 4 K) make of the boxes of all images."""
        joined = F["cat"](list(boxes))
        found = self.decode_single(rel_codes.reshape(len(joined), -1) if len(joined) else rel_codes, joined)
        return found.reshape(len(joined), -1, 4) if len(joined) else found

    def decode_single(self, rel_codes: Any, boxes: Any) -> Any:
        """The boxes (N, 4 K) that offsets (N, 4 K) make of ``boxes`` (N, 4)."""
        x, y, width, height = (t[:, None] for t in _centred(boxes.to(rel_codes.dtype)))
        dx, dy, dw, dh = (rel_codes[:, k::4] / weight for k, weight in enumerate(self.weights))
        to_x, to_y = dx * width + x, dy * height + y
        half_width, half_height = (0.5 * (d.clamp(max=self.bbox_xform_clip).exp() * size) for d, size in ((dw, width), (dh, height)))
        return F["stack"]([to_x - half_width, to_y - half_height, to_x + half_width, to_y + half_height], 2).flatten(1)


class Matcher:
    """To each prediction the true box with which it has the largest overlap.

    Args:
        high_threshold: an overlap that is enough; low_threshold: one that is not: below it, the prediction is background.
        allow_low_quality_matches: the predictions with the largest overlap of all with some true box belong to theirs in any case.

    Raises:
        AssertionError: ``low_threshold`` is above the other.
    """

    BELOW_LOW_THRESHOLD = -1
    BETWEEN_THRESHOLDS = -2

    def __init__(self, high_threshold: float, low_threshold: float, allow_low_quality_matches: bool = False) -> None:
        if low_threshold > high_threshold:
            raise AssertionError("low_threshold should be <= high_threshold")
        self.high_threshold, self.low_threshold = high_threshold, low_threshold
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Any) -> Any:
        """The number of the true box of each prediction, or one of the two negative numbers: (M, N) overlaps -> (N,).

        Raises:
            ValueError: there are no true boxes, or no predictions.
        """
        if not match_quality_matrix.numel():
            what = "ground-truth" if match_quality_matrix.shape[0] == 0 else "proposal"
            raise ValueError(f"No {what} boxes available for one of the images during training")
        overlap, best = match_quality_matrix.max(0)
        matches = best.masked_fill(overlap < self.high_threshold, self.BETWEEN_THRESHOLDS)
        matches = matches.masked_fill(overlap < self.low_threshold, self.BELOW_LOW_THRESHOLD)
        if self.allow_low_quality_matches:
            largest = match_quality_matrix.max(1).values
            matches = F["where"]((match_quality_matrix == largest[:, None]).any(0), best, matches)
        return matches


class BalancedPositiveNegativeSampler:
    """Some of the predictions of each image, drawn by chance.

    Args:
        batch_size_per_image: how many; positive_fraction: how many of them are no background, at most.
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float) -> None:
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction

    def __call__(self, matched_idxs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """For each image, from labels (positive, 0 for background, negative for neither), which were drawn: two lists of uint8 masks."""
        chosen: tuple[list[Any], list[Any]] = ([], [])
        for labels in matched_idxs:
            left = self.batch_size_per_image
            wanted = int(left * self.positive_fraction)
            for masks, which in zip(chosen, (labels >= 1, labels == 0)):
                places = which.nonzero()[:, 0]
                drawn = places[F["randperm"](len(places))[:wanted]]
                mask = F["zeros_like"](labels, dtype=_uint8())
                mask[drawn] = 1
                masks.append(mask)
                wanted = left - len(drawn)
        return chosen


def _uint8() -> Any:
    from rushlight.compile.dtypes import uint8

    return uint8


def overwrite_eps(model: Module, eps: float) -> None:
    """Set ``eps`` of every ``FrozenBatchNorm2d``: older weights were trained with 0."""
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = eps
