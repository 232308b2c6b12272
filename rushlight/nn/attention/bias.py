"""``torch.nn.attention.bias``: causal masks that know that they are, for attention with fewer or more keys than queries."""
from __future__ import annotations

import enum
from typing import Any

from ...autograd.overriding import aside
from ...compile import dtypes as dt
from ...record.warn import warn
from ...tensor import FUNCTIONS, Tensor
from ...tensor.subclassing import of_class
from ..functional import scaled_dot_product_attention

__all__ = ["CausalBias", "CausalVariant", "causal_lower_right", "causal_upper_left"]


class CausalVariant(enum.IntEnum):
    """Whether the diagonal begins in the upper left corner of the mask, or ends in the lower right one."""

    UPPER_LEFT = 1
    LOWER_RIGHT = 2


class CausalBias(Tensor):
    """A causal mask for ``scaled_dot_product_attention``, which is all that it can be given to.

    Args:
        variant: where the diagonal lies. seq_len_q, seq_len_kv: number of queries and keys.
    """

    variant: CausalVariant
    seq_len_q: int
    seq_len_kv: int

    def __new__(cls, variant: CausalVariant, seq_len_q: int, seq_len_kv: int) -> Any:
        return of_class(FUNCTIONS["empty"](0), cls)

    def __init__(self, variant: CausalVariant, seq_len_q: int, seq_len_kv: int) -> None:
        assert isinstance(variant, CausalVariant)
        self.variant, self.seq_len_q, self.seq_len_kv = variant, seq_len_q, seq_len_kv
        if seq_len_q > seq_len_kv and variant is CausalVariant.LOWER_RIGHT:
            warn("Lower right causal bias will produce NaNs in the output when seq_len_q > seq_len_kv!")

    def _materialize(self, device: Any = None) -> Any:
        """The mask: bool, (queries, keys)."""
        with aside:
            whole = FUNCTIONS["ones"](self.seq_len_q, self.seq_len_kv, dtype=dt.bool_)
            return whole.tril(0 if self.variant is CausalVariant.UPPER_LEFT else self.seq_len_kv - self.seq_len_q)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Attention with the mask.

        Raises:
            NotImplementedError: another function. ValueError: ``is_causal`` as well.
        """
        if func is not scaled_dot_product_attention:
            raise NotImplementedError("CausalBias only supports scaled_dot_product_attention")
        return _attend(*args, **(kwargs or {}))

    def __repr__(self, *, tensor_contents: str | None = None) -> str:  # type: ignore[override]  # the same signature; mypy drops the name
        return repr(self._materialize())


def _attend(query: Any, key: Any, value: Any, attn_mask: CausalBias, dropout_p: float = 0.0, is_causal: bool = False,
            scale: float | None = None, enable_gqa: bool = False) -> Any:
    if is_causal:
        raise ValueError("CausalBias should not be used with causal=True")
    upper = attn_mask.variant is CausalVariant.UPPER_LEFT or attn_mask.seq_len_q == attn_mask.seq_len_kv
    return scaled_dot_product_attention(query, key, value, None if upper else attn_mask._materialize(), dropout_p, upper, scale=scale,
                                        enable_gqa=enable_gqa)


def _causal(variant: CausalVariant, size: tuple[int, ...]) -> CausalBias:
    assert len(size) == 2, "a causal mask has two dimensions: queries and keys"
    return CausalBias(variant, *size)


def causal_upper_left(*size: int) -> CausalBias:
    """A mask with which query i sees keys 0 ... i.

    Example:
        >>> from rushlight.nn.attention.bias import causal_upper_left
        >>> causal_upper_left(2, 3)
        tensor([[ True, False, False],
                [ True,  True, False]])
    """
    return _causal(CausalVariant.UPPER_LEFT, size)


def causal_lower_right(*size: int) -> CausalBias:
    """A mask with which the last query sees all keys, the one before all but the last, and so on.

    Example:
        >>> from rushlight.nn.attention.bias import causal_lower_right
        >>> causal_lower_right(2, 3)
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """
    return _causal(CausalVariant.LOWER_RIGHT, size)
