"""Softmax over many classes of very different frequency."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...tensor import FUNCTIONS
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _ASMoutput(NamedTuple):
    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """Frequent classes get a full layer; rarer ones share clusters with ever narrower layers.

    Classes are numbered by falling frequency. ``cutoffs`` are the first numbers of the clusters.

    Shape:
        (N, in_features), (N,) -> output (N,): log-probability of the target; loss: scalar

    Raises:
        ValueError: cutoffs are not increasing numbers between 1 and n_classes - 1.
    """

    def __init__(self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0, head_bias: bool = False,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (cutoffs != sorted(set(cutoffs)) or min(cutoffs) <= 0 or max(cutoffs) > n_classes - 1
                or any(int(c) != c for c in cutoffs)):
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each value is "
                             "between 1 and n_classes-1")
        self.in_features, self.n_classes, self.div_value, self.head_bias = in_features, n_classes, div_value, head_bias
        self.cutoffs = [*cutoffs, n_classes]
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        where = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **where)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // (div_value ** (i + 1)))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, width, bias=False, **where), Linear(width, size, bias=False, **where)))

    def reset_parameters(self) -> None:
        """As when it was made."""
        self.head.reset_parameters()
        for pair in self.tail:
            for layer in pair.children():
                layer.reset_parameters()

    def forward(self, input: Any, target: Any) -> _ASMoutput:
        if input.ndim != target.ndim + 1 or target.ndim > 1:
            raise RuntimeError(f"{'0D' if target.ndim == 0 else '1D'} target tensor expects {target.ndim + 1}D input tensors, but found "
                               f"inputs with size {input.size()}" if target.ndim < 2 else
                               "0D or 1D target tensor expected, multi-target not supported")
        if target.ndim and input.shape[0] != target.shape[0]:
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        values = target.detach()._array()
        if values.size and (values.min() < 0 or values.max() >= self.n_classes):
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                               f"[{values.min()}, {values.max()}] were found. ")
        single = target.ndim == 0
        rows = input.unsqueeze(0) if single else input
        output = self.log_prob(rows).gather(1, target.reshape(-1, 1)).squeeze(1)
        loss = (-output).mean()
        return _ASMoutput(output.squeeze(0) if single else output, loss)

    def log_prob(self, input: Any) -> Any:
        """Log-probabilities of all classes: (N, in_features) -> (N, n_classes)."""
        head = self.head(input).log_softmax(1)
        parts = [head.narrow(1, 0, self.shortlist_size)]
        for i, layers in enumerate(self.tail):
            parts.append(layers(input).log_softmax(1) + head.narrow(1, self.shortlist_size + i, 1))
        return FUNCTIONS["cat"](parts, 1)

    def predict(self, input: Any) -> Any:
        """The number of the most probable class of each row: a cluster is looked into only where it wins as a whole."""
        first = self.head(input).argmax(1)
        return FUNCTIONS["where"](first < self.shortlist_size, first, self.log_prob(input).argmax(1))
