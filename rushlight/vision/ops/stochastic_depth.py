"""Blocks that are left out at random in training (Huang et al. 2016)."""
from __future__ import annotations

from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor

__all__ = ["StochasticDepth", "stochastic_depth"]


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """In training, ``input`` or zeros, with probability ``p``; what remains is divided by ``1 - p``.

    Args:
        mode: "batch" (all samples or none) or "row" (each sample, along dimension 0, by itself).

    Raises:
        ValueError: ``p`` is no probability, or another mode.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"drop probability has to be between 0 and 1, but got {p}")
    if mode not in ("batch", "row"):
        raise ValueError(f"mode has to be either 'batch' or 'row', but got {mode}")
    if not training or p == 0:
        return input
    size = (input.shape[0] if mode == "row" else 1, *[1] * (input.dim() - 1))
    kept = input.new_empty(size).bernoulli_(1 - p)
    return input * (kept / (1 - p) if p < 1 else kept)


class StochasticDepth(Module):
    """``stochastic_depth`` as a layer."""

    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, input: Tensor) -> Tensor:
        return stochastic_depth(input, self.p, self.mode, self.training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p}, mode={self.mode})"
