"""Boxes, as (x1, y1, x2, y2) with x1 < x2 and y1 < y2 unless another format is told: areas, overlaps, suppression of those that overlap."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from rushlight.tensor import cat, from_numpy, stack, where, zeros

__all__ = ["batched_nms", "box_area", "box_convert", "box_iou", "clip_boxes_to_image", "complete_box_iou", "distance_box_iou",
           "generalized_box_iou", "masks_to_boxes", "nms", "remove_small_boxes"]


def _floating(boxes: Any) -> Any:
    """Numbers whose products do not overflow."""
    if boxes.dtype.is_floating_point:
        return boxes if boxes.dtype.itemsize > 2 else boxes.float()
    return boxes.long()


def _kept(boxes: Any, scores: Any, iou_threshold: float, groups: np.ndarray | None) -> Any:
    if boxes.dim() != 2 or boxes.shape[-1] != 4:
        raise RuntimeError(f"boxes should be of shape (N, 4), got {list(boxes.shape)}")
    if scores.dim() != 1 or scores.shape[0] != boxes.shape[0]:
        raise RuntimeError(f"boxes and scores should have same number of elements in dimension 0, got {boxes.shape[0]} and "
                           f"{list(scores.shape)}")
    places = _floating(boxes.detach()).numpy()
    x1, y1, x2, y2 = places.T
    area = (x2 - x1) * (y2 - y1)
    order = np.argsort(-scores.detach().float().numpy(), kind="stable")
    dropped = np.zeros(len(order), bool)
    found = []
    for k, one in enumerate(order):
        if dropped[one]:
            continue
        found.append(one)
        rest = order[k + 1:]
        wide = np.minimum(x2[one], x2[rest]) - np.maximum(x1[one], x1[rest])
        high = np.minimum(y2[one], y2[rest]) - np.maximum(y1[one], y1[rest])
        inter = np.maximum(wide, 0) * np.maximum(high, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            over = inter / (area[one] + area[rest] - inter) > iou_threshold
        if groups is not None:
            over &= groups[rest] == groups[one]
        dropped[rest[over]] = True
    return from_numpy(np.array(found, np.int64))


def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Which boxes remain if each removes those of lower scores whose overlap with it (intersection over union) is above the threshold.

    Args:
        boxes: (N, 4); scores: (N,).

    Returns:
        int64 positions, highest scores first. They are looked up now: nothing here is recorded or has a gradient.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    return _kept(boxes, scores, iou_threshold, None)


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    """``nms`` within each group of boxes that have the same number in ``idxs`` (N,): classes do not suppress each other."""
    return _kept(boxes, scores, iou_threshold, idxs.detach().numpy())


def box_area(boxes: Any) -> Any:
    """Areas (N,) of boxes (N, 4)."""
    boxes = _floating(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _overlap(boxes1: Any, boxes2: Any) -> tuple[Any, Any]:
    """Intersections and unions (N, M)."""
    a, b = _floating(boxes1), _floating(boxes2)
    size = (a[:, None, 2:].minimum(b[:, 2:]) - a[:, None, :2].maximum(b[:, :2])).clamp(min=0)  # (N, M, 2)
    inter = size[..., 0] * size[..., 1]
    return inter, box_area(a)[:, None] + box_area(b) - inter


def box_iou(boxes1: Any, boxes2: Any) -> Any:
    """Intersection over union (N, M) of each of the boxes (N, 4) with each of (M, 4)."""
    inter, union = _overlap(boxes1, boxes2)
    return inter / union


def _hull(boxes1: Any, boxes2: Any) -> Any:
    """Width and height (N, M, 2) of the smallest box around both."""
    a, b = _floating(boxes1), _floating(boxes2)
    return (a[:, None, 2:].maximum(b[:, 2:]) - a[:, None, :2].minimum(b[:, :2])).clamp(min=0)


def generalized_box_iou(boxes1: Any, boxes2: Any) -> Any:
    """``box_iou`` less the part of the smallest box around both that neither covers (Rezatofighi et al. 2019)."""
    inter, union = _overlap(boxes1, boxes2)
    size = _hull(boxes1, boxes2)
    around = size[..., 0] * size[..., 1]
    return inter / union - (around - union) / around


def _distance(boxes1: Any, boxes2: Any, eps: float) -> Any:
    """The squared distance of the centres over the squared diagonal of the smallest box around both."""
    a, b = _floating(boxes1), _floating(boxes2)
    diagonal = (_hull(a, b) ** 2).sum(-1) + eps
    centres = ((a[:, :2] + a[:, 2:]) / 2)[:, None] - (b[:, :2] + b[:, 2:]) / 2
    return (centres ** 2).sum(-1) / diagonal


def distance_box_iou(boxes1: Any, boxes2: Any, eps: float = 1e-7) -> Any:
    """``box_iou`` less the squared distance of the centres in squared diagonals of the box around both (Zheng et al. 2020)."""
    return box_iou(boxes1, boxes2) - _distance(boxes1, boxes2, eps)


def complete_box_iou(boxes1: Any, boxes2: Any, eps: float = 1e-7) -> Any:
    """``distance_box_iou`` less a term for different proportions (Zheng et al. 2020)."""
    a, b = _floating(boxes1), _floating(boxes2)
    iou = box_iou(a, b)
    slope = [((x[:, 2] - x[:, 0]) / (x[:, 3] - x[:, 1])).atan() for x in (a, b)]
    v = 4 / math.pi ** 2 * (slope[0][:, None] - slope[1]) ** 2
    alpha = (v / (1 - iou + v + eps)).detach()
    return iou - _distance(a, b, eps) - alpha * v


def box_convert(boxes: Any, in_fmt: str, out_fmt: str) -> Any:
    """Boxes (..., 4) in another format: "xyxy" (two corners), "xywh" (a corner and the size), "cxcywh" (the centre and the size).

    Raises:
        ValueError: another format.
    """
    known = ("xyxy", "xywh", "cxcywh")
    if in_fmt not in known or out_fmt not in known:
        raise ValueError(f"Unsupported Bounding Box Conversions for given in_fmt {in_fmt} and out_fmt {out_fmt}: use one of {known}")
    if in_fmt == out_fmt:
        return boxes.clone()
    a, b, c, d = boxes.unbind(-1)
    if in_fmt == "xywh":
        c, d = a + c, b + d
    elif in_fmt == "cxcywh":
        a, b, c, d = a - 0.5 * c, b - 0.5 * d, a + 0.5 * c, b + 0.5 * d
    if out_fmt == "xywh":
        c, d = c - a, d - b
    elif out_fmt == "cxcywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return stack((a, b, c, d), -1)


def clip_boxes_to_image(boxes: Any, size: tuple[int, int]) -> Any:
    """Boxes (..., 4) within an image of ``size`` (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return stack((x, y), -1).reshape(boxes.shape)


def remove_small_boxes(boxes: Any, min_size: float) -> Any:
    """Positions of the boxes (N, 4) both of whose sides are at least ``min_size``."""
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return where((wide >= min_size) & (high >= min_size))[0]


def masks_to_boxes(masks: Any) -> Any:
    """The boxes (N, 4), float32, around what each of the masks (N, H, W) marks.

    Raises:
        ValueError: a mask marks nothing.
    """
    if not masks.numel():
        return zeros((0, 4))
    marked = masks.detach().numpy() != 0
    if not marked.any((1, 2)).all():
        raise ValueError(f"mask {int(np.argmin(marked.any((1, 2))))} of {len(marked)} marks no pixel")
    rows, columns = marked.any(2), marked.any(1)  # (N, H), (N, W)
    first, last = [seen.argmax(1) for seen in (columns, rows)], [seen.shape[1] - 1 - seen[:, ::-1].argmax(1) for seen in (columns, rows)]
    return cat([from_numpy(np.stack(first, 1)), from_numpy(np.stack(last, 1))], 1).float()
