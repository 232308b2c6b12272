"""``torch.nn.attention.flex_attention``: attention with scores that a function of the program changes, and masks made of functions.

What is computed are ordinary operations: the function is called once, for all scores (``vmap``), and fuses with what stands around it.
Masks alone are given to ``scaled_dot_product_attention``.
"""
from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from ...compile import dtypes as dt
from ...tensor import FUNCTIONS
from ..functional import scaled_dot_product_attention
from .block_mask import DEFAULT_BLOCK, BlockMask, create_block_mask, create_mask, for_all, noop_mask, positions

__all__ = ["AuxOutput", "AuxRequest", "BlockMask", "FlexKernelOptions", "and_masks", "create_block_mask", "create_mask", "flex_attention",
           "noop_mask", "or_masks"]

_DEFAULT_SPARSE_BLOCK_SIZE = DEFAULT_BLOCK
_score_mod_signature = Callable[[Any, Any, Any, Any, Any], Any]
_mask_mod_signature = Callable[[Any, Any, Any, Any], Any]
FlexKernelOptions = dict  # of PyTorch's kernels: accepted, and of no meaning here


class AuxRequest(NamedTuple):
    """What is asked for besides the result."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What was asked for besides the result: the logarithms of the sums of exponentials of scores, their largest; (B, H, Q) in float32."""

    lse: Any = None
    max_scores: Any = None


def _identity(score: Any, batch: Any, head: Any, token_q: Any, token_kv: Any) -> Any:
    return score


def _joined(name: str, join: Any, of_none: bool, mask_mods: tuple[Any, ...]) -> _mask_mod_signature:
    if not all(callable(m) for m in mask_mods):
        raise RuntimeError(f"All inputs should be callable mask_mods: {mask_mods} ({name})")

    def mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        found = b.new_full((), of_none, dtype=dt.bool_)
        for one in mask_mods:
            found = join(found, one(b, h, q_idx, kv_idx))
        return found
    mask.__name__ = name[:-1]  # which is printed
    return mask


def and_masks(*mask_mods: _mask_mod_signature) -> _mask_mod_signature:
    """What all of these show.

    Raises:
        RuntimeError: one is no function.
    """
    return _joined("and_masks", operator.and_, True, mask_mods)


def or_masks(*mask_mods: _mask_mod_signature) -> _mask_mod_signature:
    """What one of these shows.

    Raises:
        RuntimeError: one is no function.
    """
    return _joined("or_masks", operator.or_, False, mask_mods)


def _check(query: Any, key: Any, value: Any, block_mask: Any, enable_gqa: bool) -> None:
    if any(t.dim() != 4 for t in (query, key, value)):
        raise NotImplementedError("NYI: query, key, and value must be 4D tensors")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError("Expect query and key/value to have the same embedding dimension but got "
                         f"E={query.shape[-1]} and E={key.shape[-1]}.")
    if query.shape[0] != key.shape[0] and not (key.shape[0] == 1 and block_mask is not None):
        raise ValueError("Expect query and key/value to have the same batch size, or non-none block_mask, but got "
                         f"block_mask={block_mask}, Bq={query.shape[0]}, and Bkv={key.shape[0]}.")
    heads, others = query.shape[1], key.shape[1]
    if not enable_gqa and heads != others:
        raise ValueError(f"Expect query and key/value to have the same number of heads but got Hq={heads} and Hkv={others}. Try setting "
                         "enable_gqa=True for GQA.")
    if heads % others:
        raise ValueError(f"Expect number of query heads to be a multiple of kv heads for GQA but got Hq={heads} and Hkv={others}.")
    if block_mask is not None:
        lengths, given = tuple(block_mask.seq_lengths), (query.shape[-2], key.shape[-2])
        if lengths != given:
            raise ValueError(f"block_mask was created for block_mask.shape={block_mask.shape} but got q_len={given[0]} and "
                             f"kv_len={given[1]}: create a block mask for these lengths, or set its seq_lengths.")
        for name, n, m in zip(("batches", "heads"), block_mask.shape[:2], (query.shape[0], heads)):
            if n not in (1, m):
                raise ValueError(f"block_mask was created for {n} {name} but got {m}.")


def flex_attention(query: Any, key: Any, value: Any, score_mod: _score_mod_signature | None = None, block_mask: BlockMask | None = None,
                   scale: float | None = None, enable_gqa: bool = False, return_lse: bool = False, kernel_options: Any = None, *,
                   return_aux: AuxRequest | None = None) -> Any:
    """Attention whose scores go through a function: softmax(score_mod(scale * query @ keyᵀ)) @ value.

    Args:
        query: (B, Hq, L, E); key: (B, Hkv, S, E); value: (B, Hkv, S, Ev). Hkv is Hq, or with ``enable_gqa`` a divisor of it.
        score_mod: ``(score, b, h, q_idx, kv_idx) -> score``, of tensors without dimensions. It is called once for all scores, and may read
            other tensors, also such that want gradients.
        block_mask: what queries see (``create_block_mask``). A query that sees nothing gives zeros.
        scale: 1 / sqrt(E) by default.
        return_lse: return (result, logarithms of the sums of exponentials) too, float32 of shape (B, Hq, L).
        return_aux: what to return besides the result, in an ``AuxOutput``.
        kernel_options: accepted for compatibility.

    Raises:
        ValueError: shapes that do not go together, or a mask of other lengths. NotImplementedError: not four dimensions.

    Example:
        >>> from rushlight.nn.attention.flex_attention import create_block_mask, flex_attention
        >>> q, k, v = torch.randn(3, 1, 2, 8, 4)
        >>> slopes = torch.tensor([0.5, 0.25])
        >>> causal = create_block_mask(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, None, None, 8, 8)
        >>> flex_attention(q, k, v, lambda score, b, h, q_idx, kv_idx: score + slopes[h] * (kv_idx - q_idx), causal).shape
        torch.Size([1, 2, 8, 4])
    """
    _check(query, key, value, block_mask, enable_gqa)
    b, h, q_len, kv_len = query.shape[0], query.shape[1], query.shape[-2], key.shape[-2]
    mask = None if block_mask is None or block_mask.mask_mod is noop_mask and block_mask._known is not None else block_mask.mask(
        b, h, q_len, kv_len)
    wanted = AuxRequest(lse=return_lse) if return_aux is None else return_aux
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if key.shape[0] != b:
        key, value = (t.expand(b, *t.shape[1:]) for t in (key, value))
    if score_mod in (None, _identity) and not (wanted.lse or wanted.max_scores) and query.dtype.kind == "f":
        out = scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=enable_gqa)
        return (out, AuxOutput()) if return_aux is not None else out
    out, lse, most = _scored(query, key, value, score_mod, mask, scale, wanted)
    if return_aux is not None:
        return out, AuxOutput(lse, most)
    return (out, lse) if return_lse else out


def _scored(query: Any, key: Any, value: Any, score_mod: Any, mask: Any, scale: float, wanted: AuxRequest) -> tuple[Any, Any, Any]:
    """(result, logarithms of sums or None, largest scores or None), with scores in float32 or wider."""
    b, h, q_len, kv_len = query.shape[0], query.shape[1], query.shape[-2], key.shape[-2]
    times = h // key.shape[1]
    if times > 1:
        key, value = (t.repeat_interleave(times, 1) for t in (key, value))
    wide = dt.float64 if query.dtype is dt.float64 else dt.float32
    scores = FUNCTIONS["matmul"](query.to(wide), key.to(wide).transpose(-2, -1)) * scale
    if score_mod is not None:
        scores = for_all(score_mod, True)(scores, *positions(b, h, q_len, kv_len)).to(wide)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    lse = FUNCTIONS["logsumexp"](scores, -1) if wanted.lse else None
    most = scores.amax(-1) if wanted.max_scores else None
    shares = FUNCTIONS["softmax"](scores, -1)
    if mask is not None or score_mod is not None:  # there may be queries that see nothing
        shares = shares.masked_fill((scores == -math.inf).all(-1, keepdim=True), 0.0)
    return FUNCTIONS["matmul"](shares, value.to(wide)).to(query.dtype), lse, most
