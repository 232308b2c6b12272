"""Vision transformers (Dosovitskiy et al. 2021): an image as a sentence of patches."""
from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import rushlight
from rushlight.nn import init
from rushlight.nn.modules.activation import GELU, Tanh
from rushlight.nn.modules.attention import MultiheadAttention
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.normalization import LayerNorm
from rushlight.nn.parameter import Parameter
from rushlight.tensor import Tensor, cat, empty, zeros
from rushlight.vision.models.weights import Weights, WeightsEnum, published
from rushlight.vision.ops.misc import MLP

__all__ = ["ViT_B_16_Weights", "ViT_B_32_Weights", "ViT_H_14_Weights", "ViT_L_16_Weights", "ViT_L_32_Weights", "VisionTransformer",
           "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32"]

Norm = Callable[[int], Module]


_norm = partial(LayerNorm, eps=1e-6)


class MLPBlock(MLP):
    """Two linear layers; older files call them ``linear_1`` and ``linear_2``."""

    _version = 2

    def __init__(self, in_dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__(in_dim, [mlp_dim, in_dim], activation_layer=GELU, inplace=None, dropout=dropout)
        for m in self.modules():
            if isinstance(m, Linear):
                init.xavier_uniform_(m.weight)
                init.normal_(m.bias, std=1e-6)  # type: ignore[arg-type]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any) -> None:
        for old, new in (("linear_1", "0"), ("linear_2", "3")):
            for kind in ("weight", "bias"):
                if f"{prefix}{old}.{kind}" in state_dict:
                    state_dict[f"{prefix}{new}.{kind}"] = state_dict.pop(f"{prefix}{old}.{kind}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class EncoderBlock(Module):
    """Self-attention and two linear layers, each behind a norm and beside a shortcut: (N, L, hidden_dim), both."""

    def __init__(self, num_heads: int, hidden_dim: int, mlp_dim: int, dropout: float, attention_dropout: float, norm_layer: Norm) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln_1 = norm_layer(hidden_dim)
        self.self_attention = MultiheadAttention(hidden_dim, num_heads, dropout=attention_dropout, batch_first=True)
        self.dropout = Dropout(dropout)
        self.ln_2 = norm_layer(hidden_dim)
        self.mlp = MLPBlock(hidden_dim, mlp_dim, dropout)

    def forward(self, input: Tensor) -> Tensor:
        x = self.ln_1(input)
        x = self.dropout(self.self_attention(x, x, x, need_weights=False)[0]) + input
        return x + self.mlp(self.ln_2(x))


class Encoder(Module):
    """Blocks behind a learned position: (N, seq_length, hidden_dim), both."""

    def __init__(self, seq_length: int, num_layers: int, num_heads: int, hidden_dim: int, mlp_dim: int, dropout: float,
                 attention_dropout: float, norm_layer: Norm) -> None:
        super().__init__()
        self.pos_embedding = Parameter(init.normal_(empty(1, seq_length, hidden_dim), std=0.02))
        self.dropout = Dropout(dropout)
        self.layers = Sequential(OrderedDict((f"encoder_layer_{k}", EncoderBlock(
            num_heads, hidden_dim, mlp_dim, dropout, attention_dropout, norm_layer)) for k in range(num_layers)))
        self.ln = norm_layer(hidden_dim)

    def forward(self, input: Tensor) -> Tensor:
        return self.ln(self.layers(self.dropout(input + self.pos_embedding)))


class VisionTransformer(Module):
    """A vision transformer, with torchvision's names of parameters.

    Args:
        image_size, patch_size: height and width of an image, of a patch.
        num_layers, num_heads, hidden_dim, mlp_dim: of the encoder.
        dropout, attention_dropout: in it; num_classes: outputs; norm_layer: made with ``hidden_dim``.
        representation_size: width of a further layer before the last one.

    Shape: (N, 3, image_size, image_size) -> (N, num_classes)

    Raises:
        ValueError: patches do not fill the image. AssertionError: an image of another size.
    """

    def __init__(self, image_size: int, patch_size: int, num_layers: int, num_heads: int, hidden_dim: int, mlp_dim: int,
                 dropout: float = 0.0, attention_dropout: float = 0.0, num_classes: int = 1000, representation_size: int | None = None,
                 norm_layer: Norm = _norm) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"Input shape indivisible by patch size! {image_size} is no multiple of {patch_size}")
        self.image_size, self.patch_size, self.hidden_dim, self.mlp_dim = image_size, patch_size, hidden_dim, mlp_dim
        self.attention_dropout, self.dropout, self.num_classes = attention_dropout, dropout, num_classes
        self.representation_size, self.norm_layer = representation_size, norm_layer
        self.conv_proj = Conv2d(3, hidden_dim, patch_size, patch_size)
        self.seq_length = (image_size // patch_size) ** 2 + 1
        self.class_token = Parameter(zeros(1, 1, hidden_dim))
        self.encoder = Encoder(self.seq_length, num_layers, num_heads, hidden_dim, mlp_dim, dropout, attention_dropout, norm_layer)
        heads: OrderedDict[str, Module] = OrderedDict()
        if representation_size is not None:
            heads["pre_logits"], heads["act"] = Linear(hidden_dim, representation_size), Tanh()
            init.trunc_normal_(heads["pre_logits"].weight, std=math.sqrt(1 / hidden_dim))  # type: ignore[arg-type]
            init.zeros_(heads["pre_logits"].bias)  # type: ignore[arg-type]
        heads["head"] = Linear(representation_size or hidden_dim, num_classes)
        self.heads = Sequential(heads)
        init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / (3 * patch_size ** 2)))
        for zero in (self.conv_proj.bias, heads["head"].weight, heads["head"].bias):
            init.zeros_(zero)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        rushlight._assert(height == self.image_size, f"Wrong image height! Expected {self.image_size} but got {height}!")
        rushlight._assert(width == self.image_size, f"Wrong image width! Expected {self.image_size} but got {width}!")
        patches = self.conv_proj(x).flatten(2).permute(0, 2, 1)  # (N, L - 1, hidden_dim)
        return self.heads(self.encoder(cat([self.class_token.expand(n, -1, -1), patches], 1))[:, 0])


class ViT_B_16_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vit_b_16-c867db91")
    DEFAULT = IMAGENET1K_V1


class ViT_B_32_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vit_b_32-d86f8d99")
    DEFAULT = IMAGENET1K_V1


class ViT_L_16_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vit_l_16-852ce7e3", 242)
    DEFAULT = IMAGENET1K_V1


class ViT_L_32_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vit_l_32-c7638314")
    DEFAULT = IMAGENET1K_V1


class ViT_H_14_Weights(WeightsEnum):
    """There are none for images of 224 by 224 that are trained as a whole."""


def _published(size: str, **usual: int) -> Callable[..., VisionTransformer]:
    def build(**kwargs: Any) -> VisionTransformer:
        return VisionTransformer(**{"image_size": 224, **usual, **kwargs})
    return published(f"vit_{size}", globals()[f"ViT_{size.upper()}_Weights"], build, f"The ``VisionTransformer`` {size}")


vit_b_16 = _published("b_16", patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072)
vit_b_32 = _published("b_32", patch_size=32, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072)
vit_l_16 = _published("l_16", patch_size=16, num_layers=24, num_heads=16, hidden_dim=1024, mlp_dim=4096)
vit_l_32 = _published("l_32", patch_size=32, num_layers=24, num_heads=16, hidden_dim=1024, mlp_dim=4096)
vit_h_14 = _published("h_14", patch_size=14, num_layers=32, num_heads=16, hidden_dim=1280, mlp_dim=5120)
