"""Feature pyramids (Lin et al. 2017): maps of several sizes, each with what the coarser ones tell."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from rushlight.nn import init
from rushlight.nn.functional import interpolate, max_pool2d
from rushlight.nn.modules.container import ModuleList
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor
from rushlight.vision.ops.misc import Conv2dNormActivation

__all__ = ["ExtraFPNBlock", "FeaturePyramidNetwork", "LastLevelMaxPool"]


class ExtraFPNBlock(Module):
    """Makes further maps: ``forward(results, inputs, names) -> (results, names)``."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        raise NotImplementedError("an ExtraFPNBlock says in forward which maps it makes")


class LastLevelMaxPool(ExtraFPNBlock):
    """Every second element of the coarsest map as a further one, "pool"."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return [*results, max_pool2d(results[-1], 1, 2, 0)], [*names, "pool"]


class FeaturePyramidNetwork(Module):
    """Maps of different sizes and channels, finest first, become as many of ``out_channels``.

    Args:
        in_channels_list: channels of each map; extra_blocks: makes further maps; norm_layer: of each convolution.

    Shape: a dict of (N, C_i, H_i, W_i) -> an ``OrderedDict`` of (N, out_channels, H_i, W_i)

    Raises:
        ValueError: a map without channels.
    """

    def __init__(self, in_channels_list: Sequence[int], out_channels: int, extra_blocks: ExtraFPNBlock | None = None,
                 norm_layer: Callable[[int], Module] | None = None) -> None:
        super().__init__()
        if 0 in in_channels_list:
            raise ValueError("in_channels=0 is currently not supported")
        self.inner_blocks = ModuleList([Conv2dNormActivation(n, out_channels, 1, padding=0, norm_layer=norm_layer, activation_layer=None)
                                        for n in in_channels_list])
        self.layer_blocks = ModuleList([Conv2dNormActivation(out_channels, out_channels, norm_layer=norm_layer, activation_layer=None)
                                        for _ in in_channels_list])
        for m in self.modules():
            if isinstance(m, Conv2d):
                init.kaiming_uniform_(m.weight, a=1)
                if m.bias is not None:
                    init.zeros_(m.bias)
        self.extra_blocks = extra_blocks

    def forward(self, x: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        names, maps = list(x), list(x.values())
        results: list[Tensor] = []
        coarser: Tensor | None = None
        for k in reversed(range(len(maps))):
            inner = self.inner_blocks[k](maps[k])
            if coarser is not None:
                inner = inner + interpolate(coarser, size=tuple(inner.shape[-2:]), mode="nearest")
            coarser = inner
            results.insert(0, self.layer_blocks[k](inner))
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, maps, names)
        return OrderedDict(zip(names, results))
