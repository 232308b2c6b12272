"""Sequences of different lengths."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...autograd.handle import Handle
from ...tensor import FUNCTIONS
from ...tensor.creation import from_owned

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pad_packed_sequence", "pad_sequence", "unpad_sequence",
           "pack_sequence", "unpack_sequence"]


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


# -- packed: all elements of time 0, then of time 1, ... -----------------------------------------------------------


class _Packed(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any
    unsorted_indices: Any


class PackedSequence(_Packed):
    """Sequences of different lengths, longest first, time by time.

    Attributes:
        data: the elements (sum of lengths, *).
        batch_sizes: how many sequences run at each time (int64).
        sorted_indices, unsorted_indices: the order by length and its inverse, or None where they came sorted.
    """

    def __new__(cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Converted: see ``Tensor.to``."""
        return type(self)(self.data.to(*args, **kwargs), *self[1:])

    def cpu(self) -> PackedSequence:
        return self.to(device="cpu")

    def double(self) -> PackedSequence:
        return type(self)(self.data.double(), *self[1:])

    def float(self) -> PackedSequence:
        return type(self)(self.data.float(), *self[1:])

    @property
    def is_cuda(self) -> bool:
        return False


def invert_permutation(permutation: Any) -> Any:
    """The permutation that undoes another."""
    if permutation is None:
        return None
    return from_owned(np.argsort(permutation._array()).astype(np.int64))


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Padded sequences (T, B, *) and their lengths, packed.

    Raises:
        RuntimeError: lengths are not sorted (with ``enforce_sorted``), not positive, or not one for each sequence.
    """
    counts = np.array(lengths.detach()._array() if isinstance(lengths, Handle) else lengths, np.int64)  # type: ignore[attr-defined]
    order = None
    if not enforce_sorted:
        by_length = np.argsort(-counts, kind="stable")
        order = from_owned(by_length.astype(np.int64))
        counts = counts[by_length]
        input = input.index_select(0 if batch_first else 1, order)
    x = input.transpose(0, 1) if batch_first else input
    if x.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if counts.size != x.shape[1]:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {counts.size} (batch_size={x.shape[1]})")
    if counts[-1] <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if (np.diff(counts) > 0).any():
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                           "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if you do not "
                           "need ONNX exportability.")
    sizes = (counts[None] > np.arange(counts[0])[:, None]).sum(1)
    data = FUNCTIONS["cat"]([x[t].narrow(0, 0, int(n)) for t, n in enumerate(sizes)], 0)
    return PackedSequence(data, from_owned(sizes.astype(np.int64)), order, None)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Any, Any]:
    """(padded sequences (T, B, *), lengths (B,)) of packed ones.

    Raises:
        ValueError: ``total_length`` is below the longest length.
    """
    sizes = sequence.batch_sizes.tolist()
    longest, batch = len(sizes), sizes[0]
    if total_length is not None and total_length < longest:
        raise ValueError("Expected total_length to be at least the length of the longest sequence in input, but got "
                         f"total_length={total_length} and max sequence length being {longest}")
    rows = []
    for part in sequence.data.split(sizes, 0):
        missing = batch - part.shape[0]
        rows.append(part if not missing else FUNCTIONS["cat"]([part, part.new_full((missing, *part.shape[1:]), padding_value)], 0))
    rows += [sequence.data.new_full((batch, *sequence.data.shape[1:]), padding_value)] * ((total_length or longest) - longest)
    padded = FUNCTIONS["stack"](rows, 0)
    lengths = from_owned((np.array(sizes)[:, None] > np.arange(batch)[None]).sum(0).astype(np.int64))
    padded = padded.transpose(0, 1) if batch_first else padded
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(0 if batch_first else 1, sequence.unsorted_indices)
        lengths = lengths.index_select(0, sequence.unsorted_indices)
    return padded, lengths


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """A list of sequences (Lᵢ, *), packed."""
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The inverse of ``pack_sequence``."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
