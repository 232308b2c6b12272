"""DataLoader with worker processes: the same batches, errors with the worker's traceback, nothing left behind."""

import multiprocessing
import multiprocessing.util
import os
import random
import time

import numpy as np
import pytest
from oracle import Numbers, assert_same, plain, stream

import rushlight as torch
from rushlight.utils.data import ColumnBatch, DataLoader, Dataset, TensorDataset, get_worker_info

data = lambda t: t.utils.data
TEN = Numbers(10)


def children():
    return {process.pid for process in multiprocessing.active_children()}


def passes(source, count=1, **options):
    def program(t):
        t.manual_seed(5)
        loader = data(t).DataLoader(source(t), num_workers=2, **options)
        return [list(loader) for _ in range(count)], t.randint(0, 1 << 30, (2,))

    return program


def pairs(t):
    return data(t).TensorDataset(t.arange(20).reshape(10, 2).float(), t.arange(10))


SAME = {
    "shuffled": passes(pairs, batch_size=3, shuffle=True),
    "persistent": passes(pairs, count=3, batch_size=3, shuffle=True, persistent_workers=True),
    "samples": passes(lambda t: TEN, batch_size=None),
    "full batches": passes(lambda t: TEN, batch_size=3, drop_last=True, prefetch_factor=1),
    "much prefetched": passes(lambda t: TEN, batch_size=1, prefetch_factor=20),
    "stream": passes(lambda t: stream(t, 11), batch_size=2),
    "stream, full batches": passes(lambda t: stream(t, 11), batch_size=3, drop_last=True),
    "stream, persistent": passes(lambda t: stream(t, 5), count=2, batch_size=2, persistent_workers=True),
}


@pytest.mark.parametrize("name", SAME)
def test_passes(name):
    assert_same(SAME[name])
    assert not children()


class Kinds(Dataset):
    """Samples that show every way in which data travels."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {
            "small": torch.tensor([index]),
            "large": torch.arange(20_000) + index,
            "half": torch.tensor([1.5, index], dtype=torch.bfloat16),
            "bool": torch.tensor([True, False]),
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(float(index)),
            "transposed": torch.arange(6).reshape(2, 3).T,
            "array": np.arange(10_000, dtype=np.float32),
            "text": ["some", index],
        }


def test_all_kinds_of_data_arrive_unchanged():
    for options in ({"batch_size": None}, {"batch_size": 2}):
        here = [plain(batch) for batch in DataLoader(Kinds(), **options)]
        assert [plain(batch) for batch in DataLoader(Kinds(), num_workers=2, **options)] == here


def test_received_tensors_are_ordinary_ones():
    first, second = DataLoader(Kinds(), batch_size=2, num_workers=1)
    total = first["large"].sum().item()
    first["large"] += 1
    assert first["large"].sum().item() == total + 40_000
    assert second["large"][1, 0].item() == 3
    assert second["large"].is_contiguous()


def test_order_of_dimensions_in_memory_and_gradient_flag_are_kept():
    def last(samples):
        return torch.zeros(2, 8, 30, 40).permute(0, 3, 1, 2), torch.ones(3).requires_grad_()

    images, weights = next(iter(DataLoader([0], num_workers=1, collate_fn=last)))
    assert images.shape == (2, 40, 8, 30) and images.stride() == (9600, 1, 1200, 40)
    assert weights.requires_grad and weights.is_leaf


def test_many_kept_batches_hold_no_descriptors():
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    batches = list(DataLoader(TensorDataset(torch.zeros(60, 10_000)), num_workers=1))
    assert len(batches) == 60
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_columns_come_whole():
    class Columns(Numbers):
        def __getitems__(self, indices):
            return ColumnBatch(torch.tensor(indices), indices)

    batches = list(DataLoader(Columns(4), batch_size=2, num_workers=1))
    assert [[c.tolist() for c in batch] for batch in batches] == [[[0, 1], [0, 1]], [[2, 3], [2, 3]]]


def test_large_keys_and_large_batches_do_not_wait_for_each_other():
    keys = [list(range(200_000))] * 6
    loader = DataLoader(
        Numbers(200_000),
        batch_sampler=keys,
        num_workers=1,
        prefetch_factor=6,
        collate_fn=lambda x: [len(x), "x" * 10**6],
    )
    assert [length for length, _ in loader] == [200_000] * 6


# Seeds and worker information ------------------------------------------------------------


class Streams(Numbers):
    """What the random streams of a worker give."""

    def __init__(self, t):
        super().__init__(4)
        self.t = t

    def __getitem__(self, index):
        info = self.t.utils.data.get_worker_info()
        drawn = self.t.randint(0, 1 << 30, (2,)).tolist()
        return (
            info.id, info.num_workers, info.seed, info.dataset is self, self.t.initial_seed(), self.t.get_num_threads(),
            drawn, random.random(), np.random.randint(1 << 30),
        )  # fmt: skip


@pytest.mark.parametrize("persistent", [False, True])
def test_random_streams_are_those_of_pytorch(persistent):
    def program(t):
        t.manual_seed(11)
        options = {"batch_size": None, "num_workers": 2, "persistent_workers": persistent}
        loader = data(t).DataLoader(Streams(t), **options)
        return [list(loader), list(loader)]

    assert_same(program)


def test_worker_info():
    assert get_worker_info() is None

    def look(_):
        info = get_worker_info()
        try:
            info.id = 3
        except RuntimeError as error:
            return str(error), repr(info)

    message, text = next(iter(DataLoader(TEN, num_workers=1, collate_fn=look)))
    assert message == "Cannot assign attributes to WorkerInfo objects"
    assert text.startswith("WorkerInfo(id=0, num_workers=1, seed=")


def test_init_fn():
    started = []
    loader = DataLoader(Numbers(2), num_workers=2, worker_init_fn=started.append, collate_fn=lambda _: list(started))
    assert list(loader) == [[0], [1]] and started == []


# Errors ------------------------------------------------------------


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


class ByName(Exception):
    message = "by name"

    def __init__(self, *, message):
        super().__init__(message)


class Failing(Numbers):
    def __init__(self, n, error):
        super().__init__(n)
        self.error = error

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return index


def errors_within(loader):
    """Batches, with errors in their places: an error does not end the pass."""
    iterator, found = iter(loader), []
    while True:
        try:
            found.append(next(iterator).item())
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad"), ValueError),
        (KeyError("k"), KeyError),
        (FileNotFoundError(2, "no such file"), FileNotFoundError),
        (TwoArguments(1, 2), RuntimeError),
        (ByName(message="m"), ByName),
        (type("Local", (Exception,), {})("made in a function"), RuntimeError),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else type(x).__name__,
)
def test_an_error_comes_in_its_place_with_class_and_traceback(error, kind):
    found = errors_within(DataLoader(Failing(5, error), num_workers=2))
    assert [x for x in found if not isinstance(x, Exception)] == [0, 1, 3, 4]
    assert type(found[2]) is kind
    text = str(found[2])
    assert text.startswith(f"Caught {type(error).__name__} in DataLoader worker process 0.\nOriginal Traceback")
    assert "raise self.error" in text and "test_workers.py" in text
    assert not children()


def test_error_in_init_fn():
    def fail(worker):
        raise ValueError(f"no licence for worker {worker}")

    with pytest.raises(ValueError, match="no licence for worker 0"):
        list(DataLoader(TEN, num_workers=2, worker_init_fn=fail))
    assert not children()


def test_error_in_the_making_of_a_stream():
    class Broken(torch.utils.data.IterableDataset):
        def __iter__(self):
            raise OSError("no connection")

    with pytest.raises(OSError, match="no connection"):
        list(DataLoader(Broken(), num_workers=2))


def test_a_batch_that_cannot_be_sent():
    with pytest.raises((AttributeError, TypeError, ValueError), match="in DataLoader worker process 0"):
        list(DataLoader(TEN, num_workers=1, collate_fn=lambda _: lambda: 1))
    leaf = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="non-leaf tensor that requires a gradient"):
        list(DataLoader(TEN, num_workers=1, collate_fn=lambda _: leaf * 2))


@pytest.mark.parametrize(
    ("die", "reason"),
    [(lambda: os.kill(os.getpid(), 9), "killed by signal: Killed"), (lambda: os._exit(3), "exit code 3")],
    ids=["killed", "exit"],
)
def test_a_dead_worker_is_named(die, reason):
    class Dying(Numbers):
        def __getitem__(self, index):
            if index == 3:
                die()
            return index

    loader = DataLoader(Dying(6), num_workers=2)
    iterator = iter(loader)
    pids = [process.pid for process in iterator._workers]
    with pytest.raises(RuntimeError, match=reason) as caught:
        list(iterator)
    assert f"DataLoader worker (pid(s) {pids[1]}) exited unexpectedly" in str(caught.value)
    assert not children()
    with pytest.raises(RuntimeError, match="workers of this DataLoader iterator are gone"):
        next(iterator)


def test_persistent_workers_are_started_again_after_a_death():
    loader = DataLoader(TEN, batch_size=5, num_workers=1, persistent_workers=True)
    first = iter(loader)
    os.kill(first._workers[0].pid, 9)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(first)  # may have got its two batches before the end came
        list(loader)
    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_timeout():
    class Slow(Numbers):
        def __getitem__(self, index):
            time.sleep(0.4 * (index == 0))
            return index

    found = errors_within(DataLoader(Slow(2), num_workers=1, timeout=0.1))
    assert found[-2:] == [0, 1] and len(found) > 2  # the pass goes on when the batch comes after all
    assert all(type(x) is RuntimeError and str(x) == "DataLoader timed out after 0.1 seconds" for x in found[:-2])


# Order, starting, ending ------------------------------------------------------------


def test_out_of_order():
    class SlowFirst(Numbers):
        def __getitem__(self, index):
            time.sleep(0.4 * (index == 0))
            return index

    found = [batch.item() for batch in DataLoader(SlowFirst(6), num_workers=2, in_order=False)]
    assert sorted(found) == list(range(6)) and found[0] != 0


def test_a_worker_whose_stream_ends_early_is_replaced():
    class Uneven(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(7)) if get_worker_info().id else iter([])

    assert [batch.tolist() for batch in DataLoader(Uneven(), batch_size=2, num_workers=2)] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6],
    ]


def test_on_demand():
    assert [batch.item() for batch in DataLoader(Numbers(3), num_workers=2, prefetch_factor=0)] == [0, 1, 2]


def test_a_pass_given_up_ends_the_workers():
    for _ in DataLoader(TEN, num_workers=2):
        break
    del _
    assert not children()

    with pytest.raises(ZeroDivisionError):
        for _ in DataLoader(TEN, num_workers=2):
            raise ZeroDivisionError
    assert not children()


def test_workers_end_as_processes_should(tmp_path):
    class Registers(Numbers):
        def __getitem__(self, index):
            if index == 0:
                multiprocessing.util.Finalize(None, (tmp_path / "done").touch, exitpriority=1)
            return index

    list(DataLoader(Registers(2), num_workers=1))
    assert (tmp_path / "done").exists()


def test_persistent_workers_stay_and_go_with_their_loader():
    loader = DataLoader(TEN, batch_size=2, num_workers=2, persistent_workers=True, shuffle=True)
    for _ in loader:
        break  # the next pass does not see what this one had asked for
    pids = children()
    assert len(pids) == 2
    assert sorted(x for batch in loader for x in batch.tolist()) == list(range(10))
    assert children() == pids
    del loader
    assert not children()


def test_two_loaders_at_once():
    first, second = iter(DataLoader(TEN, num_workers=1)), iter(DataLoader(TEN, num_workers=1))
    assert [a.item() + b.item() for a, b in zip(first, second)] == [2 * i for i in range(10)]


def test_workers_and_parent_both_compute():
    """A worker is forked from a process whose compiled programs and threads are in use, and computes with its own."""

    class Products(Numbers):
        def __getitem__(self, index):
            a = torch.ones(200, 200) * index
            return (a @ a).sum()

    big = torch.ones(400, 400)
    expected = (big @ big).sum().item()
    pending = big + 1  # recorded here, not run yet, when the workers start
    for _ in range(2):
        sums = [batch.item() for batch in DataLoader(Products(4), num_workers=2)]
        assert sums == [200.0**3 * i * i for i in range(4)]
        assert (big @ big).sum().item() == expected
    assert pending.sum().item() == 2 * 400**2


def test_within_a_thread():
    import threading

    found = []
    thread = threading.Thread(target=lambda: found.extend(b.item() for b in DataLoader(Numbers(4), num_workers=1)))
    thread.start()
    thread.join(20)
    assert found == [0, 1, 2, 3]


def test_fresh_interpreters():
    loader = DataLoader(
        TensorDataset(torch.arange(6), torch.zeros(6, 3)), 3, num_workers=1, multiprocessing_context="spawn"
    )
    assert [batch[0].tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5]]
