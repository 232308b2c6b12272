"""A batch of samples that is already stored column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

__all__ = ["ColumnBatch"]


class ColumnBatch(Sequence):
    """``n`` samples of the form ``(a, b, ...)``, held as one column for the ``a`` s, one for the ``b`` s, ...

    A data set whose ``__getitems__(indices)`` can produce a whole batch at once (one gather, one transform over all
    images) returns its columns in this form. :func:`default_collate` then hands the columns over as they are, so
    that no sample is ever made singly; any other ``collate_fn`` is given the list of samples that it expects.

    Args:
        *columns: each a tensor whose first dimension is ``n``, or a sequence of ``n`` Python objects. A sample takes
            row ``i`` of every column; rows of a sequence keep their type (an ``int`` label stays an ``int``).

    Raises:
        ValueError: there is no column, or the columns have different lengths.

    Example::

        def __getitems__(self, indices):
            return ColumnBatch(self.images[indices], [self.labels[i] for i in indices])
    """

    __slots__ = ("columns",)

    def __init__(self, *columns: Any) -> None:
        if not columns:
            raise ValueError("ColumnBatch needs at least one column")
        lengths = [len(column) for column in columns]
        if len(set(lengths)) > 1:
            raise ValueError(f"columns of a ColumnBatch should have one length, but got lengths {lengths}")
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, index: int) -> tuple: ...

    @overload
    def __getitem__(self, index: slice) -> list: ...

    def __getitem__(self, index: int | slice) -> tuple | list:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} is out of range for a batch of {len(self)}")
        return tuple(column[index] for column in self.columns)

    def __iter__(self) -> Iterator[tuple]:
        return zip(*self.columns)

    def __repr__(self) -> str:
        return f"ColumnBatch(samples={len(self)}, columns={len(self.columns)})"
