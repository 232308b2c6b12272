"""Attention."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...autograd.autocast import narrowed
from ...ops.attention import attention
from ...record.settings import settings
from ...tensor import FUNCTIONS
from ...tensor.creation import from_owned
from .dropout import dropout, fresh_seed
from .linear import linear

__all__ = ["scaled_dot_product_attention", "multi_head_attention_forward"]


def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
                                 scale: float | None = None, enable_gqa: bool = False) -> Any:
    """softmax(query @ keyᵀ * scale + mask) @ value: (..., L, E), (..., S, E), (..., S, V) -> (..., L, V).

    Args:
        attn_mask: bool (True takes part) or numbers that are added to the scores; broadcasts to (..., L, S).
        is_causal: position i sees positions up to i only, and of these what the mask lets through.
        scale: 1 / sqrt(E) by default.
        enable_gqa: key and value may have fewer heads (dimension -3), each shared by a group of query heads.

    Raises:
        RuntimeError: dtypes or sizes do not fit, or a mask together with ``is_causal`` where PyTorch has no fused kernel
            for it: with dropout, a mask that wants a gradient, or inputs that have not four dimensions.
    """
    if query.ndim < 2 or key.ndim < 2 or value.ndim < 2:
        raise RuntimeError("scaled_dot_product_attention: Expected query, key, and value to all be  at least 2 dimensional, but got "
                           f"query.dim(): {query.ndim}, key.dim(): {key.ndim} and value.dim(): {value.ndim} instead.")
    if not query.dtype is key.dtype is value.dtype or attn_mask is not None and attn_mask.dtype is not query.dtype:
        cast = narrowed(query, key, value, attn_mask)
        if cast is not None:
            query, key, value, attn_mask = cast
    if not query.dtype is key.dtype is value.dtype:
        raise RuntimeError("Expected query, key, and value to have the same dtype, but got query.dtype: "
                           f"{query.dtype.name} key.dtype: {key.dtype.name} and value.dtype: {value.dtype.name} instead.")
    fused = dropout_p <= 0.0 and query.ndim == key.ndim == value.ndim == 4
    if is_causal and attn_mask is not None and (attn_mask.requires_grad or not fused):
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if attn_mask is not None and attn_mask.dtype.name != "bool" and attn_mask.dtype is not query.dtype:
        raise RuntimeError("Expected attn_mask dtype to be bool or to match query dtype, but got attn_mask.dtype: "
                           f"{attn_mask.dtype.name} and  query.dtype: {query.dtype.name} instead.")
    factor = 1.0 / math.sqrt(max(query.shape[-1], 1)) if scale is None else float(scale)
    matching = dropout_p > 0.0 and settings.match_pytorch  # then it is the weights that numbers are drawn for
    if matching or dropout_p >= 1.0 or query.dtype.kind != "f" or attn_mask is not None and attn_mask.requires_grad:
        return _written_out(query, key, value, attn_mask, dropout_p, is_causal, factor, enable_gqa)
    lead = _common_lead(query, key, value, enable_gqa)
    if lead is not None:
        query, key, value = (t if t.shape[:-2] == lead else t.expand(*lead, *t.shape[-2:]) for t in (query, key, value))
    if attn_mask is not None and attn_mask.dtype.name == "bool":
        attn_mask = FUNCTIONS["where"](attn_mask, 0.0, float("-inf")).to(query.dtype)
    inputs = (query, key, value) if attn_mask is None else (query, key, value, attn_mask)
    if dropout_p > 0.0:
        inputs = (*inputs, fresh_seed())
    return attention(*inputs, attrs=(factor, is_causal, attn_mask is not None, float(dropout_p)))[0]


def _common_lead(query: Any, key: Any, value: Any, grouped: bool) -> tuple[int, ...] | None:
    """The leading dimensions to which the three broadcast; None where they fit as they are."""
    q, k, v = (tuple(t.shape[:-2]) for t in (query, key, value))
    if q == k == v or grouped and q and k and q[:-1] == k[:-1] and k == v:
        return None
    return tuple(np.broadcast_shapes(q, k, v))


def _written_out(query: Any, key: Any, value: Any, attn_mask: Any, dropout_p: float, is_causal: bool, factor: float,
                 enable_gqa: bool) -> Any:
    """The same as products and a softmax: where the mask has a gradient, or PyTorch's numbers are to be drawn."""
    if enable_gqa and query.ndim >= 3 and query.shape[-3] != key.shape[-3]:
        key, value = (_repeated(t, query.shape[-3]) for t in (key, value))
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


# -- several heads ------------------------------------------------------------------------------------------------


def _additive(mask: Any, dtype: Any, name: str) -> Any:
    """A mask as numbers to add: -inf where a bool mask is True."""
    if mask is None or mask.dtype.kind == "f":
        return mask
    if mask.dtype.name != "bool":
        raise RuntimeError(f"only bool and floating types of {name} are supported")
    return FUNCTIONS["zeros"](*mask.shape, dtype=dtype).masked_fill(mask, float("-inf"))


def _projected(query: Any, key: Any, value: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """The three inputs through the thirds of one packed weight (3 E, E): one product where they are one tensor."""
    width = query.shape[-1]
    if key is value and query is key:
        joint = linear(query, weight, bias)
        return tuple(joint.narrow(-1, k * width, width) for k in range(3))  # type: ignore[return-value]
    weights = weight.chunk(3)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return tuple(linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))  # type: ignore[return-value]


def _check_attention(query: Any, key: Any, value: Any, key_padding_mask: Any, attn_mask: Any, heads: int) -> bool:
    """Whether there is a batch dimension.

    Raises:
        AssertionError: numbers of dimensions do not fit.
    """
    if query.ndim not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor")
    batched = query.ndim == 3
    if key.ndim != query.ndim or value.ndim != query.ndim:
        raise AssertionError(f"For {'batched (3-D)' if batched else 'unbatched (2-D)'} `query`, expected `key` and `value` to be "
                             f"{query.ndim}-D but found {key.ndim}-D and {value.ndim}-D tensors respectively")
    if key_padding_mask is not None and key_padding_mask.ndim != query.ndim - 1:
        raise AssertionError(f"For {'batched (3-D)' if batched else 'unbatched (2-D)'} `query`, expected `key_padding_mask` to be `None` "
                             f"or {query.ndim - 1}-D but found {key_padding_mask.ndim}-D tensor instead")
    if attn_mask is not None and attn_mask.ndim not in (2, 3):
        raise AssertionError(f"expected `attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.ndim}-D tensor instead")
    return batched


def multi_head_attention_forward(query: Any, key: Any, value: Any, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any,
                                 in_proj_bias: Any, bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float, out_proj_weight: Any,
                                 out_proj_bias: Any, training: bool = True, key_padding_mask: Any = None, need_weights: bool = True,
                                 attn_mask: Any = None, use_separate_proj_weight: bool = False, q_proj_weight: Any = None,
                                 k_proj_weight: Any = None, v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None,
                                 average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Any, Any]:
    """What ``nn.MultiheadAttention`` computes: (L, N, E), (S, N, E), (S, N, E) -> (L, N, E) and weights (N, L, S) or None.

    Bool masks are True where attention is *not* allowed, other than in ``scaled_dot_product_attention``.
    """
    batched = _check_attention(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        one, two = query is key, key is value
        query = query.unsqueeze(1)
        key = query if one else key.unsqueeze(1)
        value = key if two else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    if width != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}")
    head = width // num_heads
    if head * num_heads != width:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    if use_separate_proj_weight:
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        q, k, v = (linear(x, w, b) for x, w, b in zip((query, key, value), (q_proj_weight, k_proj_weight, v_proj_weight), biases))
    else:
        if key.shape != value.shape:
            raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
        q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias)
    attn_mask, key_padding_mask = _additive(attn_mask, q.dtype, "attn_mask"), _additive(key_padding_mask, q.dtype, "key_padding_mask")
    if attn_mask is not None:
        wanted = (length, key.shape[0]) if attn_mask.ndim == 2 else (batch * num_heads, length, key.shape[0])
        if tuple(attn_mask.shape) != wanted:
            raise RuntimeError(f"The shape of the {attn_mask.ndim}D attn_mask is {attn_mask.shape}, but should be {wanted}.")
        attn_mask = attn_mask.unsqueeze(0) if attn_mask.ndim == 2 else attn_mask
    cat, zeros = FUNCTIONS["cat"], FUNCTIONS["zeros"]

    def widen() -> None:
        nonlocal attn_mask, key_padding_mask
        if attn_mask is not None:
            attn_mask = cat([attn_mask, attn_mask.new_zeros((*attn_mask.shape[:-1], 1))], -1)
        if key_padding_mask is not None:
            key_padding_mask = cat([key_padding_mask, key_padding_mask.new_zeros((*key_padding_mask.shape[:-1], 1))], -1)
    if bias_k is not None and bias_v is not None:
        k, v = cat([k, bias_k.expand(1, batch, width)]), cat([v, bias_v.expand(1, batch, width)])
        widen()
    def heads(t: Any) -> Any:
        """(length, N, E) -> (N, heads, length, head): a view, also of a part of a joint projection."""
        return t.reshape(t.shape[0], batch, num_heads, head).permute(1, 2, 0, 3)
    q = heads(q)
    k = heads(k) if static_k is None else static_k.reshape(batch, num_heads, *static_k.shape[1:])
    v = heads(v) if static_v is None else static_v.reshape(batch, num_heads, *static_v.shape[1:])
    if add_zero_attn:
        k, v = (cat([t, zeros(batch, num_heads, 1, head, dtype=t.dtype)], 2) for t in (k, v))
        widen()
    source = k.shape[2]
    mask = attn_mask
    if mask is not None:
        mask = mask.reshape(-1, num_heads if mask.shape[0] != 1 else 1, *mask.shape[1:])  # (N or 1, heads or 1, L, S)
    if key_padding_mask is not None:
        spread = key_padding_mask.reshape(batch, 1, 1, source)
        mask = spread if mask is None else mask + spread
    drop = dropout_p if training else 0.0
    weights = None
    if need_weights and (mask is not None or drop > 0.0):
        scores = FUNCTIONS["matmul"](q * math.sqrt(1.0 / head), k.transpose(-2, -1))     # (N, heads, L, S)
        weights = (scores if mask is None else scores + mask).softmax(-1)
        if drop > 0.0:
            weights = dropout(weights, drop)
        mixed = FUNCTIONS["matmul"](weights, v)
    else:
        hidden = is_causal and key_padding_mask is None  # the mask is what the hint says it is
        mixed = scaled_dot_product_attention(q, k, v, None if hidden else mask, drop, hidden)
        if need_weights:
            # In a call whose weights nobody looks at, these are never computed.
            weights = FUNCTIONS["matmul"](q * math.sqrt(1.0 / head), k.transpose(-2, -1)).softmax(-1)
    mixed = mixed.permute(2, 0, 1, 3).reshape(length, batch, width)
    out = linear(mixed, out_proj_weight, out_proj_bias)
    if not batched:
        out = out.squeeze(1)
    if weights is None:
        return out, None
    shown = weights.mean(1) if average_attn_weights else weights
    return out, shown if batched else shown.squeeze(0)
