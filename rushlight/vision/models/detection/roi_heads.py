"""What is in proposals: the class of each, better boxes, masks (Girshick 2015, He et al. 2017)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rushlight.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss
from rushlight.nn.modules.module import Module
from rushlight.tensor import FUNCTIONS as F
from rushlight.vision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from rushlight.vision.models.detection.transform import paste_masks_in_image
from rushlight.vision.ops.boxes import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes
from rushlight.vision.ops.roi import roi_align

__all__ = ["RoIHeads", "fastrcnn_loss", "maskrcnn_inference", "maskrcnn_loss", "paste_masks_in_image"]

Target = Mapping[str, Any]


def fastrcnn_loss(class_logits: Any, box_regression: Any, labels: Sequence[Any],
                  regression_targets: Sequence[Any]) -> tuple[Any, Any]:
    """(loss of the classes, loss of the offsets of what is no background), from logits (N, C) and offsets (N, 4 C)."""
    label, wanted = F["cat"](list(labels)), F["cat"](list(regression_targets))
    objects = (label > 0).nonzero()[:, 0]
    offsets = box_regression.reshape(len(class_logits), -1, 4)[objects, label[objects]]
    return (cross_entropy(class_logits, label),
            smooth_l1_loss(offsets, wanted[objects], beta=1 / 9, reduction="sum") / label.numel())


def maskrcnn_inference(x: Any, labels: Sequence[Any]) -> tuple[Any, ...]:
    """For each image the masks (L, 1, S, S) of the classes that were found, from logits (N, C, S, S)."""
    label = F["cat"](list(labels))
    return x.sigmoid()[F["arange"](len(x)), label][:, None].split([len(each) for each in labels])


def maskrcnn_loss(mask_logits: Any, proposals: Sequence[Any], gt_masks: Sequence[Any], gt_labels: Sequence[Any],
                  mask_matched_idxs: Sequence[Any]) -> Any:
    """Binary cross entropy between logits (N, C, S, S) of the true classes and the true masks, cut out by ``proposals``."""
    size = mask_logits.shape[-1]
    label = F["cat"]([labels[which] for labels, which in zip(gt_labels, mask_matched_idxs)])
    if not label.numel():
        return mask_logits.sum() * 0
    wanted = []
    for masks, boxes, which in zip(gt_masks, proposals, mask_matched_idxs):
        regions = F["cat"]([which[:, None].to(boxes.dtype), boxes], 1)  # each mask is an image
        cut: Any = roi_align(masks[:, None].to(boxes.dtype), regions, (size, size), 1.0)
        wanted.append(cut[:, 0])
    return binary_cross_entropy_with_logits(mask_logits[F["arange"](len(label)), label], F["cat"](wanted))


class RoIHeads(Module):
    """Detections from proposals, and in training what they are wrong by.

    Args:
        box_roi_pool, box_head, box_predictor: regions of the maps, what is seen in them, and from that classes and offsets.
        fg_iou_thresh, bg_iou_thresh: overlaps of a proposal that is an object, and of one that is none.
        batch_size_per_image, positive_fraction: how many proposals train, and how many of them objects at most.
        bbox_reg_weights: of ``BoxCoder``, (10, 10, 5, 5) by default.
        score_thresh, nms_thresh, detections_per_img: the least probability of a detection, the overlap of two of one class of which the
            worse is dropped, and how many there are at most.
        mask_roi_pool, mask_head, mask_predictor: likewise for masks; without them there are none.

    Shape: maps by name, N tensors of proposals, sizes of the images, targets -> N dicts with "boxes" (L, 4), "labels", "scores" (L,) and
    "masks" (L, 1, S, S); and a dict of losses
    """

    def __init__(self, box_roi_pool: Any, box_head: Any, box_predictor: Any, fg_iou_thresh: float, bg_iou_thresh: float,
                 batch_size_per_image: int, positive_fraction: float, bbox_reg_weights: Sequence[float] | None, score_thresh: float,
                 nms_thresh: float, detections_per_img: int, mask_roi_pool: Any = None, mask_head: Any = None,
                 mask_predictor: Any = None) -> None:
        super().__init__()
        self.box_similarity = box_iou
        self.proposal_matcher = Matcher(fg_iou_thresh, bg_iou_thresh)
        self.fg_bg_sampler = BalancedPositiveNegativeSampler(batch_size_per_image, positive_fraction)
        self.box_coder = BoxCoder(bbox_reg_weights or (10.0, 10.0, 5.0, 5.0))
        self.box_roi_pool, self.box_head, self.box_predictor = box_roi_pool, box_head, box_predictor
        self.score_thresh, self.nms_thresh, self.detections_per_img = score_thresh, nms_thresh, detections_per_img
        self.mask_roi_pool, self.mask_head, self.mask_predictor = mask_roi_pool, mask_head, mask_predictor

    def has_mask(self) -> bool:
        """Whether there are masks."""
        return None not in (self.mask_roi_pool, self.mask_head, self.mask_predictor)

    def assign_targets_to_proposals(self, proposals: Sequence[Any], gt_boxes: Sequence[Any], gt_labels: Sequence[Any]) -> tuple[
            list[Any], list[Any]]:
        """For each image, the number of the true box next to a proposal, and the class: 0 for background, -1 for neither."""
        numbers, labels = [], []
        for boxes, true, classes in zip(proposals, gt_boxes, gt_labels):
            if not true.numel():
                numbers.append(classes.new_zeros(len(boxes)).long())
                labels.append(numbers[-1])
                continue
            matched = self.proposal_matcher(self.box_similarity(true, boxes))
            numbers.append(matched.clamp(min=0))
            label = classes[numbers[-1]].long().masked_fill(matched == Matcher.BELOW_LOW_THRESHOLD, 0)
            labels.append(label.masked_fill(matched == Matcher.BETWEEN_THRESHOLDS, -1))
        return numbers, labels

    def check_targets(self, targets: Sequence[Target] | None) -> None:
        """Raises:
            ValueError: there are none, or one lacks what trains.
        """
        if targets is None:
            raise ValueError("targets should not be None")
        for key in ("boxes", "labels", *(["masks"] if self.has_mask() else [])):
            if not all(key in target for target in targets):
                raise ValueError(f"Every element of targets should have a {key} key")

    def select_training_samples(self, proposals: Sequence[Any], targets: Sequence[Target] | None) -> tuple[
            list[Any], list[Any], list[Any], tuple[Any, ...]]:
        """For each image: some of the proposals and true boxes, numbers of the true boxes next to them, classes, and offsets."""
        self.check_targets(targets)
        assert targets is not None
        true = [target["boxes"].to(proposals[0].dtype) for target in targets]
        boxes = [F["cat"]([found, also]) for found, also in zip(proposals, true)]
        numbers, labels = self.assign_targets_to_proposals(boxes, true, [target["labels"] for target in targets])
        chosen = [(positive | negative).nonzero()[:, 0] for positive, negative in zip(*self.fg_bg_sampler(labels))]
        boxes, numbers, labels = ([x[which] for x, which in zip(each, chosen)] for each in (boxes, numbers, labels))
        next_to = [(t if t.numel() else t.new_zeros((1, 4)))[which] for t, which in zip(true, numbers)]
        return boxes, numbers, labels, self.box_coder.encode(next_to, boxes)

    def postprocess_detections(self, class_logits: Any, box_regression: Any, proposals: Sequence[Any],
                               image_shapes: Sequence[tuple[int, int]]) -> tuple[list[Any], list[Any], list[Any]]:
        """For each image: the best boxes, their probabilities, their classes."""
        counts, classes = [len(boxes) for boxes in proposals], class_logits.shape[-1]
        boxes, scores = self.box_coder.decode(box_regression, proposals), class_logits.softmax(-1)
        found: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        for box, score, size in zip(boxes.split(counts), scores.split(counts), image_shapes):
            box = clip_boxes_to_image(box.reshape(-1, classes, 4), size)[:, 1:].reshape(-1, 4)  # without background
            score, label = score[:, 1:].reshape(-1), F["arange"](1, classes).repeat(len(score))
            keep = (score > self.score_thresh).nonzero()[:, 0]
            keep = keep[remove_small_boxes(box[keep], 1e-2)]
            keep = keep[batched_nms(box[keep], score[keep], label[keep], self.nms_thresh)[:self.detections_per_img]]
            for each, values in zip(found, (box, score, label)):
                each.append(values[keep])
        return found

    def forward(self, features: Mapping[str, Any], proposals: Sequence[Any], image_shapes: Sequence[tuple[int, int]],
                targets: Sequence[Target] | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        numbers: list[Any] = []
        labels: list[Any] = []
        offsets: tuple[Any, ...] = ()
        if self.training:
            proposals, numbers, labels, offsets = self.select_training_samples(proposals, targets)
        logits, regression = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        result: list[dict[str, Any]] = []
        losses: dict[str, Any] = {}
        if self.training:
            losses["loss_classifier"], losses["loss_box_reg"] = fastrcnn_loss(logits, regression, labels, offsets)
        else:
            found = self.postprocess_detections(logits, regression, proposals, image_shapes)
            result = [{"boxes": boxes, "labels": label, "scores": scores} for boxes, scores, label in zip(*found)]
        if self.has_mask():
            self._masks(features, proposals, image_shapes, targets, (numbers, labels), result, losses)
        return result, losses

    def _masks(self, features: Mapping[str, Any], proposals: Sequence[Any], image_shapes: Sequence[tuple[int, int]],
               targets: Sequence[Target] | None, said: tuple[list[Any], list[Any]], result: list[dict[str, Any]],
               losses: dict[str, Any]) -> None:
        """Masks of what was found go into ``result``; in training, their loss into ``losses``."""
        boxes: list[Any] = [found["boxes"] for found in result]
        numbers: list[Any] = []
        if self.training:
            objects = [(label > 0).nonzero()[:, 0] for label in said[1]]
            boxes, numbers = ([x[which] for x, which in zip(each, objects)] for each in (proposals, said[0]))
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, image_shapes)))
        if self.training:
            assert targets is not None
            losses["loss_mask"] = maskrcnn_loss(logits, boxes, [target["masks"] for target in targets],
                                                [target["labels"] for target in targets], numbers)
        else:
            for found, masks in zip(result, maskrcnn_inference(logits, [found["labels"] for found in result])):
                found["masks"] = masks
