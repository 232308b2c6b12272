"""Losses of boxes that are compared one by one (not each with each): one less a measure of their overlap."""
from __future__ import annotations

import math
from typing import Any

__all__ = ["complete_box_iou_loss", "distance_box_iou_loss", "generalized_box_iou_loss"]


def reduced(loss: Any, reduction: str) -> Any:
    """The loss of a reduction: "none", "mean" (0 of nothing) or "sum"."""
    if reduction == "none":
        return loss
    if reduction == "mean":
        return loss.mean() if loss.numel() else 0.0 * loss.sum()
    if reduction == "sum":
        return loss.sum()
    raise ValueError(f"Invalid Value for arg 'reduction': '{reduction} \n Supported reduction modes: 'none', 'mean', 'sum'")


def _overlap(a: Any, b: Any, eps: float) -> tuple[Any, Any, Any]:
    """Intersection over union, the union, and the size (..., 2) of the box around both."""
    size = (a[..., 2:].minimum(b[..., 2:]) - a[..., :2].maximum(b[..., :2])).clamp(min=0)
    inter = size[..., 0] * size[..., 1]
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    union = areas[0] + areas[1] - inter
    return inter / (union + eps), union, a[..., 2:].maximum(b[..., 2:]) - a[..., :2].minimum(b[..., :2])


def generalized_box_iou_loss(boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7) -> Any:
    """One less the generalized overlap of boxes (..., 4) with their partners (Rezatofighi et al. 2019)."""
    iou, union, size = _overlap(boxes1, boxes2, eps)
    around = size[..., 0] * size[..., 1]
    return reduced(1 - iou + (around - union) / (around + eps), reduction)


def _distance(a: Any, b: Any, size: Any, eps: float) -> Any:
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    return (centres ** 2).sum(-1) / ((size ** 2).sum(-1) + eps)


def distance_box_iou_loss(boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7) -> Any:
    """One less the overlap, and the distance of the centres (Zheng et al. 2020)."""
    iou, _, size = _overlap(boxes1, boxes2, eps)
    return reduced(1 - iou + _distance(boxes1, boxes2, size, eps), reduction)


def complete_box_iou_loss(boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7) -> Any:
    """``distance_box_iou_loss`` and a term for different proportions (Zheng et al. 2020)."""
    iou, _, size = _overlap(boxes1, boxes2, eps)
    slopes = [((x[..., 2] - x[..., 0]) / (x[..., 3] - x[..., 1])).atan() for x in (boxes1, boxes2)]
    v = 4 / math.pi ** 2 * (slopes[1] - slopes[0]) ** 2
    alpha = (v / (1 - iou + v + eps)).detach()
    return reduced(1 - iou + _distance(boxes1, boxes2, size, eps) + alpha * v, reduction)
