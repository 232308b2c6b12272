"""Functions of ``nn.functional`` that are also in the top namespace, with the argument lists they have there.

Reductions are numbers there: 0 none, 1 mean, 2 sum.
"""
from __future__ import annotations

import warnings
from typing import Any

from ..tensor.registry import assign
from . import functional as F

__all__ = ["alpha_dropout", "alpha_dropout_", "bilinear", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity",
           "ctc_loss", "dropout", "dropout_", "embedding", "embedding_renorm_", "feature_alpha_dropout", "feature_alpha_dropout_",
           "feature_dropout", "feature_dropout_", "hinge_embedding_loss", "kl_div", "margin_ranking_loss", "pairwise_distance", "pdist",
           "poisson_nll_loss", "rrelu", "rrelu_", "triplet_margin_loss"]

_REDUCTIONS = ("none", "mean", "sum")
bilinear, cosine_similarity, pairwise_distance, pdist = F.bilinear, F.cosine_similarity, F.pairwise_distance, F.pdist


def dropout(input: Any, p: float, train: bool) -> Any:
    """Zero elements with probability p and scale the others, if ``train``."""
    return F.dropout(input, p, train)


def alpha_dropout(input: Any, p: float, train: bool) -> Any:
    """Dropout that keeps mean 0 and variance 1, if ``train``."""
    return F.alpha_dropout(input, p, train)


def feature_alpha_dropout(input: Any, p: float, train: bool) -> Any:
    """Alpha dropout of whole channels, if ``train``."""
    return F.feature_alpha_dropout(input, p, train)


def feature_dropout(input: Any, p: float, train: bool) -> Any:
    """Dropout of whole channels, if ``train``."""
    from .functional.dropout import _check, _features

    _check(p)
    return _features(input, p, train, False)


def rrelu(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, generator: Any = None) -> Any:
    """Leaky ReLU with random slopes in training."""
    return F.rrelu(input, lower, upper, training)


def _in_place(function: Any) -> Any:
    name = function.__name__ + "_"

    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        return assign(input, function(input, *args, **kwargs), name)
    call.__name__ = name
    call.__doc__ = f"In-place version of ``{function.__name__}``."
    return call


dropout_, alpha_dropout_, feature_dropout_, feature_alpha_dropout_, rrelu_ = map(
    _in_place, (dropout, alpha_dropout, feature_dropout, feature_alpha_dropout, rrelu))


def embedding(weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False) -> Any:
    """Rows of ``weight``; here the table comes first."""
    return F.embedding(indices, weight, None if padding_idx < 0 else padding_idx, None, 2.0, scale_grad_by_freq, sparse)


def embedding_renorm_(input: Any, indices: Any, max_norm: float, norm_type: float) -> Any:
    """Shrink the rows at ``indices``, in place, to a norm of at most ``max_norm``."""
    from .functional.embedding import _renorm

    _renorm(input, indices.detach()._array(), max_norm, norm_type)
    return input


def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1) -> Any:
    """Cross entropy of sigmoid(input) against targets in [0, 1]."""
    return F.binary_cross_entropy_with_logits(input, target, weight, pos_weight=pos_weight, reduction=_REDUCTIONS[reduction])


def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1) -> Any:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
    return F.cosine_embedding_loss(input1, input2, target, margin, reduction=_REDUCTIONS[reduction])


def ctc_loss(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: int = 1,
             zero_infinity: bool = False) -> Any:
    """The loss of sequences whose alignment is unknown."""
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, _REDUCTIONS[reduction], zero_infinity)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: int = 1) -> Any:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return F.hinge_embedding_loss(input, target, margin, reduction=_REDUCTIONS[reduction])


def kl_div(input: Any, target: Any, reduction: int = 1, *, log_target: bool = False) -> Any:
    """Kullback-Leibler divergence of log-probabilities from a target distribution."""
    with warnings.catch_warnings():  # the warning about "mean" belongs to nn.functional
        warnings.simplefilter("ignore")
        return F.kl_div(input, target, reduction=_REDUCTIONS[reduction], log_target=log_target)


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1) -> Any:
    """max(0, -y (x1 - x2) + margin)."""
    return F.margin_ranking_loss(input1, input2, target, margin, reduction=_REDUCTIONS[reduction])


def poisson_nll_loss(input: Any, target: Any, log_input: bool, full: bool, eps: float, reduction: int) -> Any:
    """Negative log-likelihood of counts under Poisson rates."""
    return F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=_REDUCTIONS[reduction])


def triplet_margin_loss(anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6,
                        swap: bool = False, reduction: int = 1) -> Any:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)."""
    return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=_REDUCTIONS[reduction])
