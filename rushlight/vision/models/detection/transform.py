"""What a detector does to images before, and to boxes and masks after: normalise, resize, batch; and back to the images' own pixels."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rushlight.nn.functional import interpolate, pad
from rushlight.nn.modules.module import Module
from rushlight.tensor import FUNCTIONS as F
from rushlight.tensor import Tensor
from rushlight.vision.models.detection.image_list import ImageList

__all__ = ["GeneralizedRCNNTransform", "paste_masks_in_image", "resize_boxes"]

Target = dict[str, Any]


def resize_boxes(boxes: Any, original_size: Sequence[int], new_size: Sequence[int]) -> Tensor:
    """Boxes (N, 4) of an image that had ``original_size`` (height, width) and has ``new_size``."""
    down, right = (F["tensor"](float(new)) / F["tensor"](float(old)) for new, old in zip(new_size, original_size))
    return boxes * F["stack"]([right, down, right, down])


def _pasted(mask: Any, box: Sequence[int], height: int, width: int) -> Tensor:
    """A mask (S, S) stretched over a box of whole pixels, both ends included, as an image."""
    left, top, right, bottom = box
    size = (max(bottom - top + 1, 1), max(right - left + 1, 1))
    large: Any = interpolate(mask[None, None], size, mode="bilinear", align_corners=False).squeeze(0).squeeze(0)
    x0, x1, y0, y1 = max(left, 0), min(right + 1, width), max(top, 0), min(bottom + 1, height)
    return pad(large[y0 - top:y1 - top, x0 - left:x1 - left], (x0, width - x1, y0, height - y1))


def paste_masks_in_image(masks: Any, boxes: Any, img_shape: Sequence[int], padding: int = 1) -> Tensor:
    """Masks (N, 1, S, S) of what is in boxes (N, 4), as images (N, 1, height, width). A frame of ``padding`` zeros around each mask, and as
    much around its box, keeps its edges from being cut."""
    height, width = img_shape
    if not len(masks):
        return masks.new_zeros((0, 1, height, width))
    scale = (masks.shape[-1] + 2 * padding) / masks.shape[-1]
    masks = pad(masks, (padding,) * 4)
    low, high = boxes[:, :2], boxes[:, 2:]
    middle, half = (high + low) * 0.5, (high - low) * 0.5 * scale
    corners = F["cat"]([middle - half, middle + half], 1).long().tolist()
    return F["stack"]([_pasted(mask[0], box, height, width) for mask, box in zip(masks, corners)])[:, None]


class GeneralizedRCNNTransform(Module):
    """Images of any sizes become an ``ImageList``, with boxes and masks of targets likewise; ``postprocess`` goes back.

    Args:
        min_size: the shorter side, or several, of which one is drawn for each image in training and the last is taken otherwise.
        max_size: the longer side at most.
        image_mean, image_std: of each channel.
        size_divisible: sizes of the batch are multiples of this; fixed_size: every image gets this (width, height), whatever shape it has.
    """

    def __init__(self, min_size: int | Sequence[int], max_size: int, image_mean: Sequence[float], image_std: Sequence[float],
                 size_divisible: int = 32, fixed_size: tuple[int, int] | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.min_size = tuple(min_size) if isinstance(min_size, (list, tuple)) else (min_size,)
        self.max_size = max_size
        self.image_mean, self.image_std = image_mean, image_std
        self.size_divisible, self.fixed_size = size_divisible, fixed_size
        self._skip_resize = kwargs.pop("_skip_resize", False)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> tuple[ImageList, list[Target] | None]:
        found: list[Tensor] = []
        said: list[Target] | None = None if targets is None else [dict(target) for target in targets]
        for k, image in enumerate(images):
            if image.dim() != 3:
                raise ValueError(f"images is expected to be a list of 3d tensors of shape [C, H, W], got {image.shape}")
            image, target = self.resize(self.normalize(image), None if said is None else said[k])
            found.append(image)
            if said is not None and target is not None:
                said[k] = target
        sizes = [tuple(image.shape[-2:]) for image in found]
        return ImageList(self.batch_images(found, self.size_divisible), sizes), said  # type: ignore[arg-type]

    def normalize(self, image: Tensor) -> Tensor:
        """Less ``image_mean``, by ``image_std``.

        Raises:
            TypeError: the image is not of a floating dtype.
        """
        if not image.is_floating_point():
            raise TypeError(f"Expected input images to be of floating type (in range [0, 1]), but found type {image.dtype} instead")
        mean, std = (F["tensor"](list(x), dtype=image.dtype)[:, None, None] for x in (self.image_mean, self.image_std))
        return (image - mean) / std

    def torch_choice(self, k: Sequence[int]) -> int:
        """One of them, by chance."""
        return k[int(F["empty"](1).uniform_(0.0, float(len(k))).item())]

    def resize(self, image: Any, target: Target | None = None) -> tuple[Any, Target | None]:
        """An image and what is said of it, with the shorter side of ``min_size``, unless the longer one would be above ``max_size``."""
        if self.training and self._skip_resize:
            return image, target
        height, width = image.shape[-2:]
        size = self.torch_choice(self.min_size) if self.training else self.min_size[-1]
        how: dict[str, Any] = {"size": tuple(self.fixed_size[::-1])} if self.fixed_size is not None else {
            "scale_factor": min(size / min(height, width), self.max_size / max(height, width)), "recompute_scale_factor": True}
        image = interpolate(image[None], mode="bilinear", align_corners=False, **how).squeeze(0)
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], (height, width), image.shape[-2:])
            if "masks" in target:
                target["masks"] = interpolate(target["masks"][:, None].float(), **how)[:, 0].byte()
        return image, target

    def batch_images(self, images: Sequence[Tensor], size_divisible: int = 32) -> Tensor:
        """One tensor, with zeros right of and below what is smaller."""
        height, width = (math.ceil(max(image.shape[k] for image in images) / size_divisible) * size_divisible for k in (-2, -1))
        return F["stack"]([pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images])

    def postprocess(self, result: list[Target], image_shapes: Sequence[tuple[int, int]],
                    original_image_sizes: Sequence[tuple[int, int]]) -> list[Target]:
        """Detections in pixels of the images as they were given; in training there are none."""
        if self.training:
            return result
        for found, size, original in zip(result, image_shapes, original_image_sizes):
            found["boxes"] = resize_boxes(found["boxes"], size, original)
            if "masks" in found:
                found["masks"] = paste_masks_in_image(found["masks"], found["boxes"], original)
        return result

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(\n    Normalize(mean={self.image_mean}, std={self.image_std})\n"
                f"    Resize(min_size={self.min_size}, max_size={self.max_size}, mode='bilinear')\n)")
