"""Detectors by name, with published weights of the whole or of the backbone."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.vision.models.detection._utils import overwrite_eps
from rushlight.vision.models.detection.backbone_utils import trained_layers
from rushlight.vision.models.weights import WeightsEnum, begin_with, load_weights
from rushlight.vision.ops.misc import FrozenBatchNorm2d

__all__ = ["with_weights"]


def with_weights(name: str, kind: type[WeightsEnum], *, backbone: Callable[..., Any], backbone_weights: type[WeightsEnum],
                 build: Callable[..., Any], what: str, most: int = 5, frozen: bool = True, begun: bool = True, exact: bool = False,
                 classes: int = 91) -> Callable[..., Any]:
    """The function of this ``name`` with torchvision's parameters.

    Args:
        kind: weights of the whole; backbone: makes the network below; backbone_weights: of that.
        build: the whole from (backbone, num_classes, how many layers of it train).
        most: how many layers of the backbone can train.
        frozen: whether norms of trained backbones are frozen; begun: whether backbones are trained ones by default.
        exact: whether the published weights were trained with frozen norms whose ``eps`` was 0.
        classes: of the published weights.
    """
    def make(*, weights: Any = None, progress: bool = True, num_classes: int | None = None,
             weights_backbone: Any = backbone_weights["IMAGENET1K_V1"] if begun else None,
             trainable_backbone_layers: int | None = None, pretrained: bool | None = None, pretrained_backbone: bool | None = None,
             **kwargs: Any) -> Any:
        weights = kind["DEFAULT"] if pretrained else weights
        weights_backbone = begin_with(weights, classes, num_classes, backbone_weights, weights_backbone, pretrained_backbone)
        trained = weights is not None or weights_backbone is not None
        layers = trained_layers(trained, trainable_backbone_layers, most, 3)
        norm = FrozenBatchNorm2d if trained and frozen else BatchNorm2d
        below = backbone(weights=weights_backbone, progress=progress, **({"norm_layer": norm} if frozen else {}))
        model = load_weights(build(below, classes if num_classes is None else num_classes, layers, **kwargs), kind, weights, progress)
        if exact and weights is not None:
            overwrite_eps(model, 0.0)
        return model

    make.__name__ = make.__qualname__ = name
    make.__module__ = build.__module__
    make.__doc__ = f"""{what}.

    Args:
        weights: a member of ``{kind.__name__}`` or its name, None for initial values.
        progress: whether to tell how much of a file has been fetched.
        num_classes: with background; by default {classes}, those of the published weights.
        weights_backbone: of the network below; None for initial values.
        trainable_backbone_layers: how many of its stages train, of {most}, counted from the end; by default 3 where it is trained.
        kwargs: of the detector's class.

    Raises:
        ValueError: another number of classes than the weights have, or more layers than there are.
    """
    return make
