"""Data sets and splits, against PyTorch."""

import pytest
from oracle import Numbers, assert_same, stream

import rushlight as torch
from rushlight.utils.data import ColumnBatch, StackDataset, Subset, TensorDataset, default_collate, random_split

data = lambda t: t.utils.data


def subset_batch(t):
    s = data(t).Subset(data(t).TensorDataset(t.arange(10)), [4, 5, 9])
    return s[[0, 2]], s[1], list(s.__getitems__([2, 0])), len(s)


PROGRAMS = {
    "abstract getitem": lambda t: data(t).Dataset()[0],
    "abstract len": lambda t: len(data(t).Dataset()),
    "abstract stream": lambda t: data(t).IterableDataset(),
    "tensor rows": lambda t: data(t).TensorDataset(t.zeros(3, 2), t.arange(3))[1],
    "tensor slice": lambda t: data(t).TensorDataset(t.zeros(3), t.arange(3))[1:],
    "tensor negative": lambda t: data(t).TensorDataset(t.arange(3))[-1],
    "tensor index error": lambda t: data(t).TensorDataset(t.arange(3))[3],
    "tensor length": lambda t: len(data(t).TensorDataset(t.zeros(3), t.arange(3))),
    "tensor mismatch": lambda t: data(t).TensorDataset(t.zeros(3), t.zeros(4)),
    "concat": lambda t: [data(t).ConcatDataset([Numbers(10), Numbers(3)])[i] for i in (0, 9, 10, 12, -1, -13)],
    "concat sizes": lambda t: data(t).ConcatDataset([Numbers(10), Numbers(0), Numbers(3)]).cumulative_sizes,
    "concat old name": lambda t: data(t).ConcatDataset([Numbers(10)]).cummulative_sizes,
    "concat plus": lambda t: len(data(t).TensorDataset(t.zeros(3)) + data(t).TensorDataset(t.zeros(4))),
    "concat below": lambda t: data(t).ConcatDataset([Numbers(3)])[-4],
    "concat above": lambda t: data(t).ConcatDataset([Numbers(3)])[3],
    "concat nothing": lambda t: data(t).ConcatDataset([]),
    "concat stream": lambda t: data(t).ConcatDataset([stream(t, 3)]),
    "chain": lambda t: list(stream(t, 3) + stream(t, 2)),
    "chain length": lambda t: len(data(t).ChainDataset([stream(t, 3, 3), stream(t, 2, 2)])),
    "chain no length": lambda t: len(data(t).ChainDataset([stream(t, 3)])),
    "chain map": lambda t: list(data(t).ChainDataset([Numbers(3)])),
    "stack tuple": lambda t: data(t).StackDataset(Numbers(4), Numbers(4))[2],
    "stack dict": lambda t: data(t).StackDataset(a=Numbers(4), b=Numbers(4))[2],
    "stack batch": lambda t: data(t).StackDataset(a=Numbers(4), b=Numbers(4)).__getitems__([2, 3]),
    "stack nothing": lambda t: data(t).StackDataset(),
    "stack both": lambda t: data(t).StackDataset(Numbers(4), a=Numbers(4)),
    "stack mismatch": lambda t: data(t).StackDataset(Numbers(4), Numbers(5)),
    "subset": subset_batch,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_like_pytorch(name):
    assert_same(PROGRAMS[name])


SPLITS = [
    [3, 7],
    [10, 0],
    [0.5, 0.5],
    [0.5, 0.3, 0.1, 0.1],
    [1 / 3, 1 / 3, 1 / 3],
    [0.95, 0.05, 0.0],
    [3, 4],
    [0.5, 0.6],
    [0.5, -0.5, 1.0],
    [1.5, -0.5],
    [5.0, 5.0],
    [],
]


@pytest.mark.parametrize("lengths", SPLITS, ids=str)
@pytest.mark.parametrize("seed", [0, 42])
def test_splits_draw_the_same_samples(lengths, seed):
    def with_generator(t):
        generator = t.Generator().manual_seed(seed)
        parts = data(t).random_split(Numbers(10), lengths, generator=generator)
        return [list(p.indices) for p in parts], t.randint(0, 1000, (3,), generator=generator)

    def with_default(t):
        t.manual_seed(seed)
        return [list(p.indices) for p in data(t).random_split(Numbers(10), lengths)], t.randint(0, 1000, (3,))

    assert_same(with_generator)
    assert_same(with_default)


def test_split_of_empty_set():
    assert_same(lambda t: [len(p) for p in data(t).random_split(Numbers(0), [0.5, 0.5])])


def test_messages_name_the_culprit():
    with pytest.raises(AssertionError, match=r"Size mismatch between tensors.*\[3, 4\]"):
        TensorDataset(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match=r"Size mismatch between datasets.*\[3, 4\]"):
        StackDataset(Numbers(3), Numbers(4))
    with pytest.raises(ValueError, match=r"Sum of input lengths.*\[3, 4\] sum to 7, the dataset has 10"):
        random_split(Numbers(10), [3, 4])
    with pytest.raises(ValueError, match=r"Fraction at index 1 is not between 0 and 1"):
        random_split(Numbers(10), [0.5, -0.5, 1.0])


def test_nested_batches_of_a_wrong_length_are_refused():
    class Short(Numbers):
        def __getitems__(self, indices):
            return [1]

    with pytest.raises(ValueError, match="Expected 2, got 1"):
        StackDataset(Numbers(4), Short(4)).__getitems__([0, 1])


def test_a_whole_batch_equals_its_samples():
    images, labels = torch.arange(24).reshape(6, 2, 2).float(), torch.arange(6)
    for dataset in (TensorDataset(images, labels), Subset(TensorDataset(images, labels), [5, 1, 3, 0])):
        batch = dataset.__getitems__([3, 0, 0, -1])
        assert isinstance(batch, ColumnBatch)
        singly = default_collate([dataset[i] for i in [3, 0, 0, -1]])
        assert [c.tolist() for c in default_collate(batch)] == [c.tolist() for c in singly]
        assert [[v.tolist() for v in row] for row in batch] == [[v.tolist() for v in dataset[i]] for i in (3, 0, 0, -1)]


def test_a_subclass_that_changes_samples_is_asked_for_them():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return tuple(2 * t for t in super().__getitem__(index))

    class Negated(Subset):
        def __getitem__(self, index):
            return tuple(-t for t in super().__getitem__(index))

    doubled = Doubled(torch.arange(5))
    assert default_collate(doubled.__getitems__([1, 3]))[0].tolist() == [2, 6]
    assert default_collate(Negated(doubled, [3, 4]).__getitems__([0, 1]))[0].tolist() == [-6, -8]


def test_column_batch():
    batch = ColumnBatch(torch.arange(3), ["a", "b", "c"])
    assert len(batch) == 3
    assert batch[-1][1] == "c" and batch[0][0].item() == 0
    assert [row[1] for row in batch[1:]] == ["b", "c"]
    assert [row[1] for row in batch] == ["a", "b", "c"]
    with pytest.raises(IndexError, match="sample 3 is out of range for a batch of 3"):
        batch[3]
    with pytest.raises(ValueError, match=r"lengths \[3, 2\]"):
        ColumnBatch([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="at least one column"):
        ColumnBatch()
