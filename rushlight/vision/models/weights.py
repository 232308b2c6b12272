"""Published weights: where they are, and what their images went through."""
from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rushlight import hub
from rushlight.compile.dtypes import float32
from rushlight.tensor import Tensor
from rushlight.vision.transforms import functional as F

__all__ = ["ImageClassification", "ObjectDetection", "SemanticSegmentation", "Weights", "WeightsEnum", "begin_with", "load_weights",
           "published"]

_HOST = "https://download.pytorch.org/models/"
_M = TypeVar("_M", bound=Any)


@dataclass(frozen=True)
class ImageClassification:
    """What an image goes through before a classifier that was trained on ImageNet sees it.

    Args:
        crop_size: height and width of the result; resize_size: the shorter side before the centre is cut out.

    Shape: a PIL image or (..., 3, H, W) uint8 or float in [0, 1] becomes (..., 3, crop_size, crop_size) float32.

    Example:
        >>> import rushlight as torch
        >>> ImageClassification(crop_size=8, resize_size=10)(torch.zeros(2, 3, 20, 30)).shape
        torch.Size([2, 3, 8, 8])
    """

    crop_size: int = 224
    resize_size: int = 256
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: F.InterpolationMode = F.InterpolationMode.BILINEAR

    def __call__(self, image: Any) -> Tensor:
        image = F.center_crop(F.resize(image, [self.resize_size], self.interpolation), [self.crop_size])
        return F.normalize(ObjectDetection()(image), self.mean, self.std)


@dataclass(frozen=True)
class SemanticSegmentation:
    """What an image goes through before a network that names the class of each pixel sees it.

    Args:
        resize_size: the shorter side; None: as it is.

    Shape: a PIL image or (..., 3, H, W) uint8 or float in [0, 1] becomes (..., 3, H', W') float32.
    """

    resize_size: int | None = 520
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: F.InterpolationMode = F.InterpolationMode.BILINEAR

    def __call__(self, image: Any) -> Tensor:
        if self.resize_size is not None:
            image = F.resize(image, [self.resize_size], self.interpolation)
        return F.normalize(ObjectDetection()(image), self.mean, self.std)


@dataclass(frozen=True)
class ObjectDetection:
    """What an image goes through before a network that finds objects sees it: it normalises and resizes images itself.

    Shape: a PIL image or (..., 3, H, W) uint8 or float in [0, 1] becomes (..., 3, H, W) float32.
    """

    def __call__(self, image: Any) -> Tensor:
        return F.convert_image_dtype(image if isinstance(image, Tensor) else F.pil_to_tensor(image), float32)


@dataclass(frozen=True)
class Weights:
    """A file of published weights: ``url``, and ``transforms()``, which makes the function that prepares an image."""

    url: str
    transforms: Callable[[], Callable[[Any], Tensor]] = ImageClassification

    @classmethod
    def file(cls, name: str, transforms: Callable[[], Callable[[Any], Tensor]]) -> Weights:
        """Those in the file of this name."""
        return cls(f"{_HOST}{name}.pth", transforms)

    @classmethod
    def named(cls, name: str, resize_size: int = 256, crop_size: int = 224, **more: Any) -> Weights:
        """Those in the file of this name; further arguments are those of ``ImageClassification``."""
        return cls.file(name, lambda: ImageClassification(crop_size, resize_size, **more))


class WeightsEnum(enum.Enum):
    """The published weights of one model; ``DEFAULT`` are the best."""

    @property
    def url(self) -> str:
        return self.value.url

    @property
    def transforms(self) -> Callable[[], Callable[[Any], Tensor]]:
        return self.value.transforms

    def get_state_dict(self, progress: bool = True, check_hash: bool = False) -> dict[str, Any]:
        """The weights, fetched unless they are there (``rushlight.hub``)."""
        return hub.load_state_dict_from_url(self.url, progress=progress, check_hash=check_hash)


def published(name: str, kind: type[WeightsEnum], build: Callable[..., _M], what: str, rename: Callable[[str], str] | None = None,
              **loaded: Any) -> Callable[..., _M]:
    """The function ``name(weights=None, progress=True, **kwargs)`` that makes a model by ``build(**kwargs)`` with weights of ``kind``.

    Args:
        what: what it makes, for its documentation.
        rename: the present name of a parameter from that in the file.
        loaded: further arguments of ``build`` where weights are loaded.
    """
    def make(weights: Any = None, progress: bool = True, *, pretrained: bool | None = None, **kwargs: Any) -> _M:
        if weights is not None and weights is not False or pretrained:
            kwargs = {**kwargs, **loaded}
        return load_weights(build(**kwargs), kind, weights, progress, pretrained, rename)
    make.__name__ = make.__qualname__ = name
    make.__module__ = getattr(build, "__module__", __name__)
    make.__doc__ = f"""{what}, as published under this name.

    Args:
        weights: a member of ``{kind.__name__}`` or its name, None for initial values.
        progress: whether to tell how much of a file has been fetched.
        pretrained: what older programs say instead.
        kwargs: of the network's class.
    """
    return make


def begin_with(weights: Any, classes: int, num_classes: int | None, of_backbone: type[WeightsEnum], weights_backbone: Any,
               pretrained_backbone: bool | None) -> Any:
    """The weights that a network below another begins with: none where there are ``weights`` of the whole.

    Args:
        classes: of the weights of the whole; num_classes: those that are wanted.
        of_backbone: what there is for the network below; pretrained_backbone: the older way to ask for it.

    Raises:
        ValueError: another number of classes than the weights of the whole have.
    """
    if weights is not None:
        if num_classes not in (None, classes):
            raise ValueError(f"The parameter 'num_classes' expected value {classes} but got {num_classes} instead.")
        return None
    if pretrained_backbone is not None:
        return of_backbone["IMAGENET1K_V1"] if pretrained_backbone else None
    return weights_backbone


def load_weights(model: _M, kind: type[WeightsEnum], weights: Any, progress: bool, pretrained: bool | None = None,
                 rename: Callable[[str], str] | None = None) -> _M:
    """``model`` with the weights that were asked for.

    Args:
        weights: a member of ``kind`` or the name of one, None for the initial values.
        pretrained: what older programs say instead: True for the first weights that were published.
        rename: the present name of a parameter from that in the file.

    Raises:
        TypeError: weights of another model. KeyError: no such name.
    """
    if isinstance(weights, bool):
        weights, pretrained = None, weights
    if pretrained:
        weights = kind["IMAGENET1K_V1"]
    if weights is None:
        return model
    if isinstance(weights, str):
        weights = kind[weights.rpartition(".")[2]]
    if not isinstance(weights, kind):
        raise TypeError(f"Invalid Weight class provided; expected {kind.__name__} but received {type(weights).__name__}.")
    state = weights.get_state_dict(progress=progress, check_hash=True)
    model.load_state_dict(state if rename is None else {rename(name): value for name, value in state.items()})
    return model
