"""DataLoader in one process, and its arguments, against PyTorch."""

import gc
import weakref

import numpy as np
import pytest
from oracle import Numbers, assert_same, stream

import rushlight as torch
from rushlight.utils.data import ColumnBatch, DataLoader, Dataset, TensorDataset

data = lambda t: t.utils.data
TEN = Numbers(10)


def passes(count=2, *, source=lambda t: TEN, **options):
    """All batches of some passes after a seed, and where they leave the default stream."""

    def program(t):
        t.manual_seed(5)
        loader = data(t).DataLoader(source(t), **{k: v(t) if callable(v) else v for k, v in options.items()})
        return [list(loader) for _ in range(count)], t.randint(0, 1 << 30, (2,))

    return program


def pairs(t):
    return data(t).TensorDataset(t.arange(20).reshape(10, 2).float(), t.arange(10))


PASSES = {
    "plain": passes(),
    "batches": passes(batch_size=3),
    "full batches": passes(batch_size=3, drop_last=True),
    "shuffled": passes(batch_size=3, shuffle=True),
    "shuffled samples": passes(batch_size=None, shuffle=True),
    "own stream": passes(batch_size=4, shuffle=True, generator=lambda t: t.Generator().manual_seed(1)),
    "sampler": passes(batch_size=2, sampler=[5, 6, 7]),
    "random sampler": passes(batch_size=4, sampler=lambda t: data(t).RandomSampler(TEN, replacement=True)),
    "batch sampler": passes(batch_sampler=[[1, 2], [3], [9, 8, 7]]),
    "no batches": passes(batch_size=None),
    "tensors": passes(source=pairs, batch_size=4, shuffle=True),
    "tensors in a subset": passes(source=lambda t: data(t).Subset(pairs(t), [7, 8, 9, 1]), batch_size=3, shuffle=True),
    "samples of tensors": passes(source=pairs, batch_size=None),
    "a list": passes(source=lambda t: [(1, "a"), (2, "b"), (3, "c")], batch_size=2),
    "a tensor": passes(source=lambda t: t.arange(6).reshape(3, 2), batch_size=2),
    "own collate_fn": passes(source=pairs, batch_size=4, collate_fn=lambda t: lambda rows: [b for _, b in rows]),
    "empty": passes(source=lambda t: Numbers(0), batch_size=2),
    "empty shuffled": passes(source=lambda t: Numbers(0), shuffle=True),
    "stream": passes(source=lambda t: stream(t, 7), batch_size=3),
    "stream, full batches": passes(source=lambda t: stream(t, 7), batch_size=3, drop_last=True),
    "stream, even": passes(source=lambda t: stream(t, 6), batch_size=3),
    "stream, samples": passes(source=lambda t: stream(t, 3), batch_size=None),
    "stream, shuffle=False": passes(source=lambda t: stream(t, 3), shuffle=False),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes(name):
    assert_same(PASSES[name])


LENGTHS = {
    "batches": lambda t: len(data(t).DataLoader(TEN, 3)),
    "full batches": lambda t: len(data(t).DataLoader(TEN, 3, drop_last=True)),
    "samples": lambda t: len(data(t).DataLoader(TEN, batch_size=None)),
    "batch sampler": lambda t: len(data(t).DataLoader(TEN, batch_sampler=[[1], [2]])),
    "iterator": lambda t: len(iter(data(t).DataLoader(TEN, 3))),
    "stream": lambda t: len(data(t).DataLoader(stream(t, 5, 5), 2)),
    "stream, full batches": lambda t: len(data(t).DataLoader(stream(t, 5, 5), 2, drop_last=True)),
    "stream, samples": lambda t: len(data(t).DataLoader(stream(t, 5, 5), batch_size=None)),
    "stream of unknown length": lambda t: len(data(t).DataLoader(stream(t, 5))),
    "sampler of unknown length": lambda t: len(data(t).DataLoader(TEN, sampler=iter([1]))),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_length(name):
    assert_same(LENGTHS[name])


def test_a_stream_longer_than_it_said():
    def program(t):
        loader = data(t).DataLoader(stream(t, 5, 3))
        return len(loader), list(loader)

    assert assert_same(program)[2] == ["UserWarning", "UserWarning"]


REFUSED = {
    "num_workers": {"num_workers": -1},
    "timeout": {"timeout": -1},
    "prefetch without workers": {"prefetch_factor": 2},
    "prefetch -1": {"num_workers": 1, "prefetch_factor": -1},
    "persistent without workers": {"persistent_workers": True},
    "sampler and shuffle": {"sampler": [1], "shuffle": True},
    "batch_sampler and shuffle": {"batch_sampler": [[1]], "shuffle": True},
    "batch_sampler and batch_size": {"batch_sampler": [[1]], "batch_size": 3},
    "batch_sampler and drop_last": {"batch_sampler": [[1]], "drop_last": True},
    "batch_sampler and sampler": {"batch_sampler": [[1]], "sampler": [2]},
    "drop_last of samples": {"batch_size": None, "drop_last": True},
    "batch_size 0": {"batch_size": 0},
    "batch_size text": {"batch_size": "3"},
    "drop_last 1": {"drop_last": 1},
    "context without workers": {"multiprocessing_context": "fork"},
    "unknown context": {"num_workers": 1, "multiprocessing_context": "xx"},
    "no context": {"num_workers": 1, "multiprocessing_context": 3},
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    assert assert_same(lambda t: data(t).DataLoader(TEN, **REFUSED[name]))[0] == "error"


@pytest.mark.parametrize(
    "options", [{"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}], ids=lambda o: next(iter(o))
)
def test_refused_for_streams(options):
    assert assert_same(lambda t: data(t).DataLoader(stream(t, 5), **options))[:2] == ("error", "ValueError")


def test_timeout_without_workers():
    assert_same(lambda t: iter(data(t).DataLoader(TEN, timeout=2)))


@pytest.mark.parametrize(
    "name", ["batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers", "collate_fn"]
)
def test_what_may_be_set_later(name):
    assert_same(lambda t: setattr(data(t).DataLoader(TEN), name, data(t).default_convert))


def test_attributes():
    def program(t):
        names = ("batch_size", "drop_last", "num_workers", "prefetch_factor", "timeout", "pin_memory", "in_order")
        loaders = [data(t).DataLoader(TEN, 4), data(t).DataLoader(TEN, batch_sampler=[[1]])]
        loaders.append(data(t).DataLoader(TEN, batch_size=None, num_workers=1))
        values = [[getattr(loader, name) for name in names] for loader in loaders]
        kinds = [(type(x.sampler).__name__, type(x.batch_sampler).__name__, x.collate_fn.__name__) for x in loaders]
        return values, kinds

    assert_same(program)


def test_warnings():
    assert assert_same(lambda t: data(t).DataLoader(TEN, num_workers=5000).num_workers)[2] == ["UserWarning"]
    pytest.importorskip("torch")
    with pytest.warns(UserWarning, match="no accelerator is found"):
        iter(DataLoader(TEN, pin_memory=True))


def test_errors_of_the_data_set_come_through():
    class Bad(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise ZeroDivisionError(f"sample {index}")

    with pytest.raises(ZeroDivisionError, match="sample 0"):
        list(DataLoader(Bad()))


def test_ragged_samples_name_both_shapes():
    with pytest.raises(RuntimeError, match=r"\[2\] at entry 0 and \[3\] at entry 1"):
        list(DataLoader([torch.zeros(2), torch.zeros(3)], batch_size=2))


class Columns(Numbers):
    """Gives batches as columns, and remembers what it was asked for."""

    def __init__(self, n):
        super().__init__(n)
        self.asked = []

    def __getitem__(self, index):
        return torch.tensor([float(index)]), index

    def __getitems__(self, indices):
        self.asked.append(indices)
        return ColumnBatch(torch.tensor([[float(i)] for i in indices]), indices)


def test_a_batch_is_asked_for_at_once():
    dataset = Columns(5)
    images, labels = next(iter(DataLoader(dataset, batch_size=3)))
    assert dataset.asked == [[0, 1, 2]]
    assert images.tolist() == [[0.0], [1.0], [2.0]] and labels.tolist() == [0, 1, 2] and labels.dtype == torch.int64
    assert [(x.tolist(), y) for x, y in DataLoader(dataset, batch_size=None)] == [([float(i)], i) for i in range(5)]


def test_own_collate_fn_is_given_a_list_of_samples():
    batch = next(iter(DataLoader(Columns(5), batch_size=2, collate_fn=lambda samples: samples)))
    assert type(batch) is list and [(x.tolist(), y) for x, y in batch] == [([0.0], 0), ([1.0], 1)]


def test_work_recorded_about_a_batch_runs_when_the_loop_moves_on(monkeypatch):
    import rushlight.utils.data.iterators as iterators

    events = []
    monkeypatch.setattr(iterators, "batch_boundary", lambda: events.append("boundary"))
    for _ in DataLoader(Numbers(2)):
        events.append("body")
    assert events == ["boundary", "body", "boundary", "body", "boundary"]


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_ready_values(shuffle):
    """Loading stored tensors, or pairs of tensors and labels, runs no program for a batch; a pass draws its seeds."""
    from rushlight.record import counters

    images = torch.from_numpy(np.ones((12, 1, 4, 4), np.float32))

    def programs_of_a_pass(dataset, batch_size):
        loader = DataLoader(dataset, batch_size=batch_size, shuffle=shuffle)
        list(loader)
        before = counters.programs_run, counters.programs_built
        list(loader)
        return counters.programs_run - before[0], counters.programs_built - before[1]

    for dataset in (TensorDataset(images, torch.arange(12)), [(images[i].clone(), i) for i in range(12)]):
        run, built = programs_of_a_pass(dataset, batch_size=4)
        assert built == 0 and run <= 2
        assert programs_of_a_pass(dataset, batch_size=1) == (run, 0)


def test_generic_and_subclass():
    class Mine(DataLoader[int]):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = 1

    assert Mine(TEN, 5).extra == 1 and len(Mine(TEN, 5)) == 2
    assert Dataset[int] is not None


def test_an_iterator_does_not_outlive_its_loop():
    dataset = TensorDataset(torch.arange(3))
    gone = weakref.ref(dataset)
    for _ in DataLoader(dataset):
        break
    del dataset, _
    gc.collect()
    assert gone() is None
