"""Attention."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...tensor import FUNCTIONS
from ...tensor.creation import from_owned
from .dropout import dropout

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
                                 scale: float | None = None, enable_gqa: bool = False) -> Any:
    """softmax(query @ keyᵀ * scale + mask) @ value: (..., L, E), (..., S, E), (..., S, V) -> (..., L, V).

    Args:
        attn_mask: bool (True takes part) or numbers that are added to the scores; broadcasts to (..., L, S).
        is_causal: position i sees positions up to i only.
        scale: 1 / sqrt(E) by default.
        enable_gqa: key and value may have fewer heads (dimension -3), each shared by a group of query heads.

    Raises:
        RuntimeError: dtypes or sizes do not fit, or a mask together with ``is_causal``.
    """
    if query.ndim < 2 or key.ndim < 2 or value.ndim < 2:
        raise RuntimeError("scaled_dot_product_attention: Expected query, key, and value to all be  at least 2 dimensional, but got "
                           f"query.dim(): {query.ndim}, key.dim(): {key.ndim} and value.dim(): {value.ndim} instead.")
    if not query.dtype is key.dtype is value.dtype:
        raise RuntimeError("Expected query, key, and value to have the same dtype, but got query.dtype: "
                           f"{query.dtype.name} key.dtype: {key.dtype.name} and value.dtype: {value.dtype.name} instead.")
    if is_causal and attn_mask is not None:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa and query.ndim >= 3 and query.shape[-3] != key.shape[-3]:
        key, value = (_repeated(t, query.shape[-3]) for t in (key, value))
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = FUNCTIONS["matmul"](query * factor, key.transpose(-2, -1))  # (..., L, S)
    if is_causal:
        attn_mask = from_owned(np.tril(np.ones((query.shape[-2], key.shape[-2]), bool)))
    if attn_mask is None:
        weights = scores.softmax(-1)
    elif attn_mask.dtype.name == "bool":
        # A row that sees nothing gives zeros, not NaN.
        shut = FUNCTIONS["where"](attn_mask, scores, float("-inf"))
        weights = FUNCTIONS["where"](attn_mask.any(-1, True), shut.softmax(-1), 0.0) if not is_causal else shut.softmax(-1)
    else:
        if attn_mask.dtype is not query.dtype:
            raise RuntimeError(f"Expected attn_mask dtype to be bool or to match query dtype, but got attn_mask.dtype: "
                               f"{attn_mask.dtype.name} "
                               f"and  query.dtype: {query.dtype.name} instead.")
        weights = (scores + attn_mask).softmax(-1)
    if dropout_p > 0.0:
        weights = dropout(weights, dropout_p)
    return FUNCTIONS["matmul"](weights, value)


def _repeated(t: Any, heads: int) -> Any:
    """Every head ``heads / own`` times in a row."""
    own = t.shape[-3]
    if own == 0 or heads % own:
        raise RuntimeError(f"Number of heads in key and value must divide the number of heads in query, got {own} and {heads}")
    lead, tail = t.shape[:-3], t.shape[-2:]
    return t.unsqueeze(-3).expand(*lead, own, heads // own, *tail).reshape(*lead, heads, *tail)
