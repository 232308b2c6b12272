"""Parts of networks: the maps of some of a network's layers."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from rushlight.nn.modules.container import ModuleDict
from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor
from rushlight.vision.models.mobilenet import divisible as _make_divisible

__all__ = ["IntermediateLayerGetter", "_make_divisible"]


class IntermediateLayerGetter(ModuleDict):
    """A network's layers, one after the other as they were registered, as far as they are needed for some of their results.

    Args:
        model: its children are called in their order, each with what the one before returned.
        return_layers: the name of a child -> what its result is called.

    Shape: what the first child takes -> an ``OrderedDict`` of the results.

    Raises:
        ValueError: no such child.

    Example:
        >>> from rushlight.vision.models import resnet18
        >>> body = IntermediateLayerGetter(resnet18(), {"layer1": "fine", "layer3": "coarse"})
        >>> [(name, tuple(x.shape)) for name, x in body(torch.rand(1, 3, 64, 64)).items()]
        [('fine', (1, 64, 16, 16)), ('coarse', (1, 256, 4, 4))]
    """

    _version = 2

    def __init__(self, model: Module, return_layers: Mapping[str, str]) -> None:
        wanted = {str(name): str(result) for name, result in return_layers.items()}
        children = dict(model.named_children())
        if not wanted.keys() <= children.keys():
            raise ValueError("return_layers are not present in model")
        layers: OrderedDict[str, Module] = OrderedDict()
        missing = set(wanted)
        for name, layer in children.items():
            if not missing:
                break
            layers[name] = layer
            missing.discard(name)
        super().__init__(layers)
        self.return_layers = return_layers
        self._results = wanted

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        results: OrderedDict[str, Tensor] = OrderedDict()
        for name, layer in self.items():
            x = layer(x)
            if name in self._results:
                results[self._results[name]] = x
        return results
