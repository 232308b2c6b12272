"""Building blocks that many networks for images have in common."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rushlight.nn.modules.activation import ReLU, Sigmoid
from rushlight.nn.modules.batchnorm import BatchNorm2d, BatchNorm3d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d, Conv3d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d
from rushlight.tensor import Tensor, ones, zeros

__all__ = ["MLP", "Conv2dNormActivation", "Conv3dNormActivation", "FrozenBatchNorm2d", "Permute", "SqueezeExcitation"]

Layer = Callable[..., Module]


def _in_place(layer: Layer, inplace: bool | None) -> Module:
    return layer() if inplace is None else layer(inplace=inplace)


class _ConvNormActivation(Sequential):
    """A convolution, a norm and an activation, of which the last two may be absent (None).

    Args:
        padding: by default what keeps the size where the stride is 1.
        bias: by default where there is no norm.
        inplace: handed to the activation; None: not handed.

    Shape: that of the convolution.
    """

    conv: Any
    norm: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any = 3, stride: Any = 1, padding: Any = None, groups: int = 1,
                 norm_layer: Layer | None | str = "usual", activation_layer: Layer | None = ReLU, dilation: Any = 1,
                 inplace: bool | None = True, bias: bool | None = None) -> None:
        norm: Any = self.norm if norm_layer == "usual" else norm_layer
        if padding is None:
            if isinstance(kernel_size, int) and isinstance(dilation, int):
                padding = (kernel_size - 1) // 2 * dilation
            else:
                n = len(kernel_size) if isinstance(kernel_size, Sequence) else len(dilation)
                sizes, steps = (x if isinstance(x, Sequence) else (x,) * n for x in (kernel_size, dilation))
                padding = tuple((k - 1) // 2 * d for k, d in zip(sizes, steps))
        layers = [self.conv(in_channels, out_channels, kernel_size, stride, padding, dilation=dilation, groups=groups,
                            bias=norm is None if bias is None else bias)]
        if norm is not None:
            layers.append(norm(out_channels))
        if activation_layer is not None:
            layers.append(_in_place(activation_layer, inplace))
        super().__init__(*layers)
        self.out_channels = out_channels


class Conv2dNormActivation(_ConvNormActivation):
    __doc__ = _ConvNormActivation.__doc__
    conv, norm = Conv2d, BatchNorm2d


class Conv3dNormActivation(_ConvNormActivation):
    __doc__ = _ConvNormActivation.__doc__
    conv, norm = Conv3d, BatchNorm3d


class SqueezeExcitation(Module):
    """Channels scaled by what two layers make of their means (Hu et al. 2018).

    Args:
        input_channels: of the input; squeeze_channels: between the layers.
        activation: between them; scale_activation: of the factors.

    Shape: (N, input_channels, H, W), both
    """

    def __init__(self, input_channels: int, squeeze_channels: int, activation: Layer = ReLU, scale_activation: Layer = Sigmoid) -> None:
        super().__init__()
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc1 = Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, input: Tensor) -> Tensor:
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(input))))) * input


class MLP(Sequential):
    """Linear layers with norms, activations and dropout between them.

    Args:
        in_channels: of the input; hidden_channels: of each layer, the last of which is the result.
        norm_layer: made with the number of channels, None for no norms; activation_layer: None for none; inplace: handed to activations
            and dropout unless None.

    Shape: (..., in_channels) -> (..., hidden_channels[-1])
    """

    def __init__(self, in_channels: int, hidden_channels: Sequence[int], norm_layer: Layer | None = None,
                 activation_layer: Layer | None = ReLU, inplace: bool | None = None, bias: bool = True, dropout: float = 0.0) -> None:
        more = {} if inplace is None else {"inplace": inplace}
        layers: list[Module] = []
        for k, width in enumerate(hidden_channels):
            layers.append(Linear(in_channels, width, bias=bias))
            if k < len(hidden_channels) - 1:
                layers += [norm_layer(width)] if norm_layer is not None else []
                layers += [_in_place(activation_layer, inplace)] if activation_layer is not None else []
            layers.append(Dropout(dropout, **more))
            in_channels = width
        super().__init__(*layers)


class Permute(Module):
    """Dimensions in another order."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = list(dims)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


class FrozenBatchNorm2d(Module):
    """A batch norm with fixed statistics and factors, none of which is a parameter: (N, num_features, H, W), both."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", ones), ("bias", zeros), ("running_mean", zeros), ("running_var", ones)):
            self.register_buffer(name, value(num_features))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)  # of the norm that was trained
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return x * scale.reshape(1, -1, 1, 1) + (self.bias - self.running_mean * scale).reshape(1, -1, 1, 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight.shape[0]}, eps={self.eps})"
