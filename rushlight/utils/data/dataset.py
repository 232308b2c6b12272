"""Data sets: where samples come from, and how sets are combined and split."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...record.warn import warn
from ._utils.columns import ColumnBatch
from ._utils.rows import gather_rows
from ._utils.samples import samples_of

if TYPE_CHECKING:
    from rushlight import Generator, Tensor

__all__ = [
    "ChainDataset",
    "ConcatDataset",
    "Dataset",
    "IterableDataset",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A map from keys (usually ``0 .. len - 1``) to samples.

    A subclass defines ``__getitem__(index)`` and, for samplers, ``__len__()``. It may also define
    ``__getitems__(indices)``, which :class:`DataLoader` then calls once with all indices of a batch; it returns the
    list of samples, or a :class:`ColumnBatch`.

    Example::

        class Squares(Dataset):
            def __len__(self):
                return 100

            def __getitem__(self, index):
                return index, index * index
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} is a map-style dataset and should implement __getitem__.")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])

    # No __len__ here: `len()` of a set that does not define one must be a TypeError.


class IterableDataset(Dataset[T_co], Iterable[T_co]):
    """A stream of samples: a subclass defines ``__iter__()``.

    With ``num_workers > 0`` every worker iterates over its own copy of the data set; use :func:`get_worker_info` to
    give each its share.
    """

    def __add__(self, other: Dataset[T_co]) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple]):
    """Samples are the rows of tensors: sample ``i`` is ``(tensors[0][i], tensors[1][i], ...)``.

    Args:
        *tensors: tensors of one length in dimension 0.

    Raises:
        AssertionError: the lengths differ.

    Example::

        TensorDataset(torch.zeros(3, 2), torch.arange(3))[1]   # (tensor([0., 0.]), tensor(1))
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        lengths = [tensor.size(0) for tensor in tensors]
        if len(set(lengths)) > 1:
            raise AssertionError(f"Size mismatch between tensors: their first dimensions are {lengths}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple:
        return tuple(tensor[index] for tensor in self.tensors)  # type: ignore[index]

    def __getitems__(self, indices: Sequence[Any]) -> Sequence:
        # One gather per tensor instead of a view per sample and tensor. A subclass with samples of its own, and indices
        # that are not plain numbers, go sample by sample.
        if type(self).__getitem__ is not TensorDataset.__getitem__ or not all(type(i) is int for i in indices):
            return samples_of(self, indices)
        return ColumnBatch(*(gather_rows(tensor, indices) for tensor in self.tensors))

    def __len__(self) -> int:
        return self.tensors[0].size(0)


class StackDataset(Dataset):
    """Sets of one length side by side: samples are tuples, or dictionaries when the sets are given by name.

    Raises:
        ValueError: no set, sets of different lengths, or both kinds of argument.

    Example::

        StackDataset(image=images, text=texts)[0]   # {"image": images[0], "text": texts[0]}
    """

    datasets: tuple | dict

    def __init__(self, *args: Dataset, **kwargs: Dataset) -> None:
        if args and kwargs:
            raise ValueError("Supported either tuple- (via args) or dict- (via kwargs) like input, but both are given.")
        if not args and not kwargs:
            raise ValueError("At least one dataset should be passed")
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in self._sets()]  # type: ignore[arg-type]
        if len(set(lengths)) > 1:
            raise ValueError(f"Size mismatch between datasets: their lengths are {lengths}")
        self._length = lengths[0]

    def _sets(self) -> list[Dataset]:
        return list(self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)

    def _sample(self, values: Iterable) -> tuple | dict:
        return dict(zip(self.datasets, values)) if isinstance(self.datasets, dict) else tuple(values)

    def __getitem__(self, index: Any) -> tuple | dict:
        return self._sample([dataset[index] for dataset in self._sets()])

    def __getitems__(self, indices: Sequence[Any]) -> list:
        columns = [_fetch_all(dataset, indices) for dataset in self._sets()]
        for column in columns:
            if len(column) != len(indices):
                raise ValueError(f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(column)}")
        return [self._sample(values) for values in zip(*columns)]

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """Sets one after another, as one set.

    Args:
        datasets: the map-style sets; ``a + b`` makes the same.

    Raises:
        AssertionError: no set is given, or one of them is an :class:`IterableDataset`.
    """

    datasets: list[Dataset[T_co]]
    cumulative_sizes: list[int]

    @staticmethod
    def cumsum(sequence: Iterable) -> list[int]:
        """Running totals of the lengths of the given sets."""
        return list(itertools.accumulate(len(element) for element in sequence))

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                raise AssertionError(f"ConcatDataset does not support IterableDataset, but got {dataset!r}")
        self.cumulative_sizes = self.cumsum(self.datasets)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if index < 0:
            if -index > len(self):
                raise ValueError(
                    f"absolute value of index should not exceed dataset length, but got index {index} of {len(self)}"
                )
            index += len(self)
        elif index >= len(self):
            raise IndexError(f"index {index} is out of range for a dataset of length {len(self)}")
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    @property
    def cummulative_sizes(self) -> list[int]:
        """The misspelt name that old programs use."""
        warn(
            "`cummulative_sizes` attribute is renamed to `cumulative_sizes`", category=FutureWarning)
        return self.cumulative_sizes


class ChainDataset(IterableDataset):
    """Streams one after another, as one stream.

    Args:
        datasets: :class:`IterableDataset` s; may itself be lazy. Anything else is an AssertionError when reached.
    """

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = datasets

    def _streams(self) -> Iterator[IterableDataset]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError(f"ChainDataset only supports IterableDataset, but got {dataset!r}")
            yield dataset

    def __iter__(self) -> Iterator:
        for stream in self._streams():
            yield from stream

    def __len__(self) -> int:
        return sum(len(stream) for stream in self._streams())  # type: ignore[arg-type, misc]


class Subset(Dataset[T_co]):
    """The samples of ``dataset`` at ``indices``.

    Example::

        Subset(dataset, [4, 5])[1]   # dataset[5]
    """

    dataset: Dataset[T_co]
    indices: Sequence[int]

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[T_co]:
        # A subclass that changes the samples must be asked for them
        if type(self).__getitem__ is not Subset.__getitem__:
            return samples_of(self, indices)
        return _fetch_all(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def _fetch_all(dataset: Any, indices: Sequence[Any]) -> Sequence:
    """The samples at ``indices``, in one call where ``dataset`` offers it."""
    getitems = getattr(dataset, "__getitems__", None)
    return getitems(indices) if callable(getitems) else samples_of(dataset, indices)


def random_split(
    dataset: Dataset[T], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[T]]:
    """Split ``dataset`` at random into disjoint subsets.

    Args:
        dataset: a set with a length.
        lengths: the lengths of the subsets, or fractions that sum to 1 (what rounding down leaves over goes one each to
            the first subsets).
        generator: the random stream; the default one when None.

    Raises:
        ValueError: the lengths do not add up, or a fraction is not between 0 and 1.

    Example::

        train, valid = random_split(dataset, [0.9, 0.1], generator=torch.Generator().manual_seed(42))
    """
    import rushlight as torch

    total = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        counts = []
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {i} is not between 0 and 1, but {fraction}")
            counts.append(math.floor(total * fraction))
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
        for i, count in enumerate(counts):
            if count == 0:
                warn(
           f"Length of split at index {i} is 0. This might result in an empty dataset.")
        lengths = counts
    if sum(lengths) != total:
        raise ValueError(
            "Sum of input lengths does not equal the length of the input dataset! "
            f"The lengths {list(lengths)} sum to {sum(lengths)}, the dataset has {total} samples"
        )
    order = torch.randperm(sum(lengths), generator=generator).tolist()  # type: ignore[arg-type]
    ends = itertools.accumulate(lengths)
    return [Subset(dataset, order[end - length : end]) for end, length in zip(ends, lengths)]  # type: ignore[misc]
