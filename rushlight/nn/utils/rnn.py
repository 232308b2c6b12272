"""Sequences of different lengths."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ...autograd.apply import value_of
from ...autograd.handle import Handle
from ...autograd.modes import is_grad_enabled, set_grad_enabled
from ...tensor import FUNCTIONS
from ...tensor.creation import from_owned

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pad_packed_sequence", "pad_sequence", "unpad_sequence",
           "pack_sequence", "unpack_sequence", "packed_like", "padded_of"]


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
    if all(_is_plain(s) for s in many):  # no program for each combination of lengths
        return _padded_by_hand(many, longest, padding_value, padding_side == "left", batch_first)
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


def _is_plain(t: Any) -> bool:
    """Whether the data are there and nobody wants their gradient."""
    return not (t.requires_grad and is_grad_enabled()) and value_of(t).buffer is not None


def _padded_by_hand(many: list[Any], longest: int, padding_value: float, left: bool, batch_first: bool) -> Any:
    first = many[0].detach()._array()
    if any(s.shape[1:] != first.shape[1:] for s in many):
        raise RuntimeError("pad_sequence: sequences differ beyond their length: "
                           f"{list(first.shape)} and {next(list(s.shape) for s in many if s.shape[1:] != first.shape[1:])}")
    out = np.full((len(many), longest, *first.shape[1:]), padding_value).astype(np.result_type(*(s.detach()._array().dtype for s in many)))
    for k, s in enumerate(many):
        n = s.shape[0]
        out[k, longest - n if left else 0:longest if left else n] = s.detach()._array()
    return from_owned(out if batch_first else np.ascontiguousarray(out.swapaxes(0, 1)))


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

    Between packing, recurrent layers and unpacking, sequences stay padded, sorted and time by time: a shape that does not
    depend on the lengths, so that batches of all lengths share their programs. ``data`` is made when somebody reads it.

    Attributes:
        data: the elements (sum of lengths, *).
        batch_sizes: how many sequences run at each time (int64).
        sorted_indices, unsorted_indices: the order by length and its inverse, or None where they came sorted.
    """

    _padded: Any = None  # (T, B, *), or None where only the data are known

    def __new__(cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    @property
    def data(self) -> Any:  # type: ignore[override]
        given = tuple.__getitem__(self, 0)
        if given is None and self._padded is not None:
            # From here on the data count: they may be written to. They have the gradients that the layer's output has,
            # whoever looks at them first.
            with set_grad_enabled(is_grad_enabled() or self._padded.requires_grad):
                self._data = _without_padding(self._padded, _running(self))
            self._padded = None
        return given if given is not None else self.__dict__.get("_data")

    def __iter__(self) -> Iterator[Any]:
        yield self.data
        yield from tuple.__getitem__(self, slice(1, None))

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in zip(self._fields, self))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Converted: see ``Tensor.to``."""
        return self._with(lambda x: x.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        return self.to(device="cpu")

    def double(self) -> PackedSequence:
        return self._with(lambda x: x.double())

    def float(self) -> PackedSequence:
        return self._with(lambda x: x.float())

    def _with(self, change: Callable[[Any], Any]) -> PackedSequence:
        if self._padded is not None:
            return packed_like(self, change(self._padded))
        return type(self)(change(self.data), *self[1:])

    @property
    def is_cuda(self) -> bool:
        return False


def packed_like(like: PackedSequence, padded: Any) -> PackedSequence:
    """Sequences of the same lengths and order, given padded (T, B, *); what lies in the padding does not matter."""
    made = PackedSequence(None, *tuple.__getitem__(like, slice(1, None)))
    made._padded = padded
    return made


def padded_of(packed: PackedSequence) -> Any:
    """The sequences padded with anything finite (T, B, *), in the order in which they are packed."""
    if packed._padded is not None:
        return packed._padded
    runs = _running(packed)
    data = packed.data
    if not runs.all():
        first = np.cumsum(runs.sum(1)) - runs.sum(1)
        places = np.where(runs, first[:, None] + np.arange(runs.shape[1]), 0)  # where no sequence runs, the first element
        data = data.index_select(0, from_owned(places.ravel()))
    return data.reshape((*runs.shape, *data.shape[1:]))


def _running(packed: PackedSequence) -> np.ndarray:
    """Whether each sequence runs at each time (T, B)."""
    sizes = packed.batch_sizes._array()
    return np.arange(sizes[0]) < sizes[:, None]


def _without_padding(padded: Any, runs: np.ndarray) -> Any:
    """The elements time by time."""
    flat = padded.reshape((-1, *padded.shape[2:]))
    return flat if runs.all() else flat.index_select(0, from_owned(np.flatnonzero(runs)))


def _masked(padded: Any, runs: np.ndarray, value: Any) -> Any:
    """``value`` where no sequence runs."""
    if runs.all():
        return padded
    mask = from_owned(runs.reshape((*runs.shape, *(1,) * (padded.ndim - 2))))
    return FUNCTIONS["where"](mask, padded, padded.new_full((), value))


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
    runs = counts[None] > np.arange(counts[0])[:, None]
    made = PackedSequence(None, from_owned(runs.sum(1).astype(np.int64)), order, None)
    made._padded = _masked(x.narrow(0, 0, int(counts[0])), runs, 0)  # a gradient times 0 must be 0 there: no NaN
    return made


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Any, Any]:
    """(padded sequences (T, B, *), lengths (B,)) of packed ones.

    Raises:
        ValueError: ``total_length`` is below the longest length.
    """
    runs = _running(sequence)
    longest, batch = runs.shape
    if total_length is not None and total_length < longest:
        raise ValueError("Expected total_length to be at least the length of the longest sequence in input, but got "
                         f"total_length={total_length} and max sequence length being {longest}")
    padded = _masked(padded_of(sequence), runs, padding_value)
    if total_length is not None and total_length > longest:
        padded = FUNCTIONS["cat"]([padded, padded.new_full((total_length - longest, *padded.shape[1:]), padding_value)], 0)
    lengths = runs.sum(0)
    padded = padded.transpose(0, 1) if batch_first else padded
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(0 if batch_first else 1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices._array()]
    return padded, from_owned(lengths.astype(np.int64))


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """A list of sequences (Lᵢ, *), packed."""
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The inverse of ``pack_sequence``."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
