"""Sequences of different lengths."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...autograd.handle import Handle
from ...tensor import FUNCTIONS

__all__ = ["pad_sequence", "unpad_sequence"]


def pad_sequence(sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right") -> Any:
    """Sequences (Lᵢ, *) stacked to (max L, B, *), or (B, max L, *) with ``batch_first``.

    Raises:
        RuntimeError: not a sequence of tensors, or their other dimensions differ.
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    many = list(sequences.unbind(0) if isinstance(sequences, Handle) else sequences)  # type: ignore[attr-defined]
    if not many:
        raise RuntimeError("received an empty list of sequences")
    longest = max(s.shape[0] for s in many)
    rows = []
    for s in many:
        missing = longest - s.shape[0]
        if s.shape[1:] != many[0].shape[1:]:
            raise RuntimeError(f"pad_sequence: sequences differ beyond their length: {list(many[0].shape)} and {list(s.shape)}")
        if missing:
            fill = s.new_full((missing, *s.shape[1:]), padding_value)
            s = FUNCTIONS["cat"]([s, fill] if padding_side == "right" else [fill, s], 0)
        rows.append(s)
    return FUNCTIONS["stack"](rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """The inverse of ``pad_sequence``, given the lengths."""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:int(n)] for row, n in zip(rows.unbind(0), lengths.tolist() if isinstance(lengths, Handle) else lengths)]
