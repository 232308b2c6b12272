"""What image datasets share: torchvision's interface, and batches in one step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rushlight.tensor import Tensor, from_numpy
from rushlight.utils.data import ColumnBatch, Dataset
from rushlight.vision.transforms import pil
from rushlight.vision.transforms.batch import plan_for


class StandardTransform:
    """A transform of the image and one of the target, as one of both."""

    def __init__(self, transform: Callable[[Any], Any] | None, target_transform: Callable[[Any], Any] | None) -> None:
        self.transform = transform
        self.target_transform = target_transform

    def __call__(self, input: Any, target: Any) -> tuple[Any, Any]:
        if self.transform is not None:
            input = self.transform(input)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return input, target

    def __repr__(self) -> str:
        body = [type(self).__name__]
        for head, transform in (("Transform: ", self.transform), ("Target transform: ", self.target_transform)):
            if transform is not None:
                first, *rest = repr(transform).splitlines()
                body += [head + first, *(" " * len(head) + line for line in rest)]
        return "\n".join(body)


class VisionDataset(Dataset):
    """The base of image datasets.

    Args:
        root: the folder that the data is in.
        transforms: a function of image and target, in place of the other two.
        transform: a function of the image.
        target_transform: a function of the target.
    """

    _repr_indent = 4

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        transforms: Callable[[Any, Any], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.root = os.path.expanduser(root) if isinstance(root, str) else root
        separate = transform is not None or target_transform is not None
        if transforms is not None and separate:
            raise ValueError("Only transforms or transform/target_transform can be passed as argument")
        self.transform = transform
        self.target_transform = target_transform
        self.transforms = StandardTransform(transform, target_transform) if separate else transforms

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define __len__")

    def extra_repr(self) -> str:
        """Further lines of the printed form."""
        return ""

    def __repr__(self) -> str:
        body = [f"Number of datapoints: {len(self)}"]
        body += [f"Root location: {self.root}"] if self.root is not None else []
        body += self.extra_repr().splitlines()
        body += [repr(self.transforms)] if self.transforms is not None else []
        return "\n".join([f"Dataset {type(self).__name__}", *(" " * self._repr_indent + part for part in body)])


class ArrayImages(VisionDataset):
    """A dataset whose images, all of one size, lie in one array.

    A subclass sets `data`, uint8 (N, H, W) or (N, H, W, 3), and `targets`, N integers; both may be tensors, arrays or
    lists, and may be replaced by the user. A sample is (image, target): a PIL image, for the transform, and an int.
    Where the transform is a pipeline that ends in tensors and whose every step has a batch form, the pixels go through
    it directly, whole batches at a time; the numbers are the same, and Pillow is not needed.
    """

    data: Any
    targets: Any

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        pixels, target = numpy_of(self.data)[index], int(self.targets[index])
        plan = plan_for(self.transform) if self.transform is not None else None
        if plan is not None:
            image: Any = from_numpy(plan(pixels[None])[0])
        else:
            image = pil.with_mode(pixels, "L" if pixels.ndim == 2 else "RGB")
            if self.transform is not None:
                image = self.transform(image)
        return image, target if self.target_transform is None else self.target_transform(target)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[tuple[Any, Any]]:
        """The samples at `indices`, for `DataLoader`: as columns where the transform has a batch form."""
        plan = plan_for(self.transform) if self.transform is not None else None
        if plan is None or type(self).__getitem__ is not ArrayImages.__getitem__:
            return [self[i] for i in indices]
        chosen = np.asarray(indices, np.intp)
        images = from_numpy(plan(numpy_of(self.data)[chosen]))
        targets = numpy_of(self.targets)[chosen].tolist()
        if self.target_transform is not None:
            targets = [self.target_transform(t) for t in targets]
        return ColumnBatch(images, targets)


def numpy_of(values: Any) -> np.ndarray:
    """A tensor's memory, an array itself, or a list as an array."""
    return values.numpy() if isinstance(values, Tensor) else np.asarray(values)
