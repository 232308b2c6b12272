"""What the networks of this folder have in common: a backbone, a head, and the head's maps as large as the images."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from rushlight.nn.functional import interpolate
from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor
from rushlight.vision.models.weights import WeightsEnum, begin_with, load_weights

__all__ = ["SimpleSegmentationModel", "enlarged", "with_weights"]


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps of another height and width."""
    return interpolate(maps, size=size, mode="bilinear", align_corners=False)


class SimpleSegmentationModel(Module):
    """A backbone whose result "out" a head turns into scores, and "aux" another.

    Shape: (N, 3, H, W) -> an ``OrderedDict``: "out" (N, num_classes, H, W), "aux" likewise, if there is such a head
    """

    def __init__(self, backbone: Module, classifier: Module, aux_classifier: Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        size, maps = tuple(x.shape[-2:]), self.backbone(x)
        result = OrderedDict(out=enlarged(self.classifier(maps["out"]), size))
        if self.aux_classifier is not None:
            result["aux"] = enlarged(self.aux_classifier(maps["aux"]), size)
        return result


def with_weights(name: str, kind: type[WeightsEnum], backbone: Any, backbone_weights: type[WeightsEnum],
                 build: Callable[..., Any], what: str, classes: int = 21, may_have_aux: bool = True) -> Callable[..., Any]:
    """The function of this ``name`` with torchvision's parameters.

    Args:
        kind: weights of the whole; backbone: makes the network below from its weights; backbone_weights: of that.
        build: the whole from (backbone, num_classes, whether there is an auxiliary head).
        classes: of the published weights.
    """
    def make(*, weights: Any = None, progress: bool = True, num_classes: int | None = None, aux_loss: bool | None = None,
             weights_backbone: Any = backbone_weights["IMAGENET1K_V1"], pretrained: bool | None = None,
             pretrained_backbone: bool | None = None, **kwargs: Any) -> Any:
        weights = kind["DEFAULT"] if pretrained else weights
        weights_backbone = begin_with(weights, classes, num_classes, backbone_weights, weights_backbone, pretrained_backbone)
        if weights is not None:
            aux_loss = may_have_aux
        model = build(backbone(weights=weights_backbone, **kwargs), classes if num_classes is None else num_classes, bool(aux_loss))
        return load_weights(model, kind, weights, progress)

    make.__name__ = make.__qualname__ = name
    make.__module__ = build.__module__
    make.__doc__ = f"""{what}.

    Args:
        weights: a member of ``{kind.__name__}`` or its name, None for initial values.
        progress: whether to tell how much of a file has been fetched.
        num_classes: by default {classes}, those of the published weights.
        aux_loss: whether there is a second head, for training, on the map before the last.
        weights_backbone: of the network below, by default those of ImageNet; None for initial values.

    Raises:
        ValueError: another number of classes than the weights have.
    """
    return make
