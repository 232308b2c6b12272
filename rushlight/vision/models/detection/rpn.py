"""Region proposals (Ren et al. 2015): where there may be objects, from anchors."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rushlight.nn import init
from rushlight.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.module import Module
from rushlight.tensor import FUNCTIONS as F
from rushlight.vision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from rushlight.vision.models.detection.anchor_utils import AnchorGenerator
from rushlight.vision.models.detection.image_list import ImageList
from rushlight.vision.ops.boxes import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes
from rushlight.vision.ops.misc import Conv2dNormActivation

__all__ = ["AnchorGenerator", "RPNHead", "RegionProposalNetwork"]


class RPNHead(Module):
    """What each anchor of each map is: a logit that there is an object, and four offsets.

    Args:
        in_channels: of the maps; num_anchors: of a cell; conv_depth: 3x3 convolutions before.

    Shape: maps (N, in_channels, H_i, W_i) -> lists of (N, num_anchors, H_i, W_i) and (N, 4 * num_anchors, H_i, W_i)
    """

    _version = 2

    def __init__(self, in_channels: int, num_anchors: int, conv_depth: int = 1) -> None:
        super().__init__()
        self.conv = Sequential(*[Conv2dNormActivation(in_channels, in_channels, 3, norm_layer=None) for _ in range(conv_depth)])
        self.cls_logits = Conv2d(in_channels, num_anchors, 1)
        self.bbox_pred = Conv2d(in_channels, 4 * num_anchors, 1)
        for layer in self.modules():
            if isinstance(layer, Conv2d):
                init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    init.zeros_(layer.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any) -> None:
        if (local_metadata.get("version") or 1) < 2:  # the convolution stood alone
            for kind in ("weight", "bias"):
                if f"{prefix}conv.{kind}" in state_dict:
                    state_dict[f"{prefix}conv.0.0.{kind}"] = state_dict.pop(f"{prefix}conv.{kind}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(self, x: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        seen = [self.conv(m) for m in x]
        both = [(self.cls_logits(m), self.bbox_pred(m)) for m in seen]
        return [logits for logits, _ in both], [offsets for _, offsets in both]


def by_anchor(maps: Sequence[Any], numbers: int) -> Any:
    """Maps (N, A * numbers, H_i, W_i) as (N, the sum of H_i * W_i * A, numbers): in the order of anchors."""
    return F["cat"]([m.unflatten(1, (-1, numbers)).permute(0, 3, 4, 1, 2).reshape(len(m), -1, numbers) for m in maps], 1)


class RegionProposalNetwork(Module):
    """Proposals, and in training what they are wrong by.

    Args:
        anchor_generator, head: see ``AnchorGenerator`` and ``RPNHead``.
        fg_iou_thresh, bg_iou_thresh: overlaps of an anchor that is an object, and of one that is none.
        batch_size_per_image, positive_fraction: how many anchors train, and how many of them objects at most.
        pre_nms_top_n, post_nms_top_n: dicts with keys "training" and "testing": the best of each map, and of what is left.
        nms_thresh: the overlap of two proposals of which the worse is dropped; score_thresh: the least probability.

    Shape: an ``ImageList``, maps by name, targets with boxes (M, 4) -> N tensors of boxes (L, 4), and a dict of losses
    """

    def __init__(self, anchor_generator: Module, head: Module, fg_iou_thresh: float, bg_iou_thresh: float, batch_size_per_image: int,
                 positive_fraction: float, pre_nms_top_n: Mapping[str, int], post_nms_top_n: Mapping[str, int], nms_thresh: float,
                 score_thresh: float = 0.0) -> None:
        super().__init__()
        self.anchor_generator = anchor_generator
        self.head = head
        self.box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.box_similarity = box_iou
        self.proposal_matcher = Matcher(fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches=True)
        self.fg_bg_sampler = BalancedPositiveNegativeSampler(batch_size_per_image, positive_fraction)
        self._pre_nms_top_n, self._post_nms_top_n = pre_nms_top_n, post_nms_top_n
        self.nms_thresh, self.score_thresh, self.min_size = nms_thresh, score_thresh, 1e-3

    def pre_nms_top_n(self) -> int:
        """How many proposals of a map are looked at."""
        return self._pre_nms_top_n["training" if self.training else "testing"]

    def post_nms_top_n(self) -> int:
        """How many proposals of an image there are at most."""
        return self._post_nms_top_n["training" if self.training else "testing"]

    def assign_targets_to_anchors(self, anchors: Sequence[Any], targets: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
        """For each image, whether an anchor is an object (1), background (0) or neither (-1), and the true box next to it."""
        labels, boxes = [], []
        for those, target in zip(anchors, targets):
            true = target["boxes"]
            if not true.numel():
                labels.append(F["zeros"](len(those)))
                boxes.append(F["zeros"](those.shape))
                continue
            matched = self.proposal_matcher(self.box_similarity(true, those))
            boxes.append(true[matched.clamp(min=0)])
            labels.append((matched >= 0).float().masked_fill(matched == Matcher.BETWEEN_THRESHOLDS, -1.0))
        return labels, boxes

    def filter_proposals(self, proposals: Any, objectness: Any, image_shapes: Sequence[tuple[int, int]],
                         num_anchors_per_level: Sequence[int]) -> tuple[list[Any], list[Any]]:
        """The best proposals of each image, and their probabilities."""
        objectness = objectness.detach().reshape(len(proposals), -1)
        best, levels, start = [], [], 0
        for k, logits in enumerate(objectness.split(list(num_anchors_per_level), 1)):
            n = logits.shape[1]
            best.append(logits.topk(min(self.pre_nms_top_n(), n), 1).indices + start)
            levels.append(F["full"]((best[-1].shape[1],), k))
            start += n
        chosen, level = F["cat"](best, 1), F["cat"](levels)
        found: tuple[list[Any], list[Any]] = ([], [])
        for boxes, logits, which, size in zip(proposals, objectness, chosen, image_shapes):
            boxes, scores = clip_boxes_to_image(boxes[which], size), logits[which].sigmoid()
            keep = remove_small_boxes(boxes, self.min_size)
            keep = keep[scores[keep] >= self.score_thresh]
            keep = keep[batched_nms(boxes[keep], scores[keep], level[keep], self.nms_thresh)[:self.post_nms_top_n()]]
            found[0].append(boxes[keep])
            found[1].append(scores[keep])
        return found

    def compute_loss(self, objectness: Any, pred_bbox_deltas: Any, labels: Sequence[Any],
                     regression_targets: Sequence[Any]) -> tuple[Any, Any]:
        """(loss of the logits, loss of the offsets)."""
        positive, negative = (F["cat"](masks).nonzero()[:, 0] for masks in self.fg_bg_sampler(labels))
        chosen = F["cat"]([positive, negative])
        wanted, label = F["cat"](list(regression_targets)), F["cat"](list(labels))
        offsets = smooth_l1_loss(pred_bbox_deltas[positive], wanted[positive], beta=1 / 9, reduction="sum") / chosen.numel()
        return binary_cross_entropy_with_logits(objectness.flatten()[chosen], label[chosen]), offsets

    def forward(self, images: ImageList, features: Mapping[str, Any], targets: Sequence[Mapping[str, Any]] | None = None) -> tuple[
            list[Any], dict[str, Any]]:
        maps = list(features.values())
        logits, offsets = self.head(maps)
        anchors = self.anchor_generator(images, maps)
        counts = [m[0].numel() for m in logits]
        objectness, deltas = by_anchor(logits, 1).flatten(), by_anchor(offsets, 4).reshape(-1, 4)
        proposals = self.box_coder.decode(deltas.detach(), anchors).reshape(len(anchors), -1, 4)
        boxes, _ = self.filter_proposals(proposals, objectness, images.image_sizes, counts)
        if not self.training:
            return boxes, {}
        if targets is None:
            raise ValueError("targets should not be None")
        labels, matched = self.assign_targets_to_anchors(anchors, targets)
        losses = self.compute_loss(objectness, deltas, labels, self.box_coder.encode(matched, anchors))
        return boxes, dict(zip(("loss_objectness", "loss_rpn_box_reg"), losses))
