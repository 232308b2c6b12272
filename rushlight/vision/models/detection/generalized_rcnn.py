"""A detector of two stages: a backbone, proposals, and what is in them."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor

__all__ = ["GeneralizedRCNN", "checked_targets", "no_empty_boxes"]


def checked_targets(targets: Sequence[Mapping[str, Any]] | None) -> None:
    """Raises:
        AssertionError: there are none in training, or their boxes are no tensors (N, 4).
    """
    if targets is None:
        raise AssertionError("targets should not be none when in training mode")
    for target in targets:
        boxes = target["boxes"]
        if not isinstance(boxes, Tensor):
            raise AssertionError(f"Expected target boxes to be of type Tensor, got {type(boxes)}.")
        if boxes.dim() != 2 or boxes.shape[-1] != 4:
            raise AssertionError(f"Expected target boxes to be a tensor of shape [N, 4], got {boxes.shape}.")


def no_empty_boxes(targets: Sequence[Mapping[str, Any]] | None) -> None:
    """Raises:
        AssertionError: a box has no width or no height.
    """
    for k, target in enumerate(targets or ()):
        empty = (target["boxes"][:, 2:] <= target["boxes"][:, :2]).any(1)
        if empty.any():
            raise AssertionError("All bounding boxes should have positive height and width. Found invalid box "
                                 f"{target['boxes'][empty][0].tolist()} for target at index {k}.")


class GeneralizedRCNN(Module):
    """A backbone, a ``RegionProposalNetwork`` and ``RoIHeads``, between what ``GeneralizedRCNNTransform`` does.

    Shape: a list of images (C, H_n, W_n), in training also of targets -> in training a dict of losses, else a dict of detections for each
    image, in its own pixels

    Raises:
        AssertionError: targets that do not fit.
    """

    def __init__(self, backbone: Module, rpn: Module, roi_heads: Module, transform: Module) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads

    def forward(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None) -> Any:
        if self.training:
            checked_targets(targets)
        sizes = [tuple(image.shape[-2:]) for image in images]
        batch, targets = self.transform(images, targets)
        no_empty_boxes(targets)
        features = self.backbone(batch.tensors)
        if isinstance(features, Tensor):
            features = OrderedDict([("0", features)])
        proposals, proposal_losses = self.rpn(batch, features, targets)
        detections, losses = self.roi_heads(features, proposals, batch.image_sizes, targets)
        detections = self.transform.postprocess(detections, batch.image_sizes, sizes)  # type: ignore[operator]
        return {**losses, **proposal_losses} if self.training else detections
