"""Samplers: the same seeds give the orders of PyTorch."""

import pytest
from oracle import Numbers, assert_same

data = lambda t: t.utils.data
TEN = Numbers(10)


def seeded(make):
    """The order that a sampler gives twice after a seed, its length, and where it leaves the default stream."""

    def program(t):
        t.manual_seed(7)
        sampler = make(t)
        return list(sampler), list(sampler), len(sampler), t.randint(0, 1 << 30, (2,))

    return program


def shared_stream(make):
    """The same with a stream that others go on drawing from."""

    def program(t):
        generator = t.Generator().manual_seed(3)
        return list(make(t, generator)), t.randint(0, 1 << 30, (2,), generator=generator)

    return program


def begun(t):
    t.manual_seed(1)
    iterator = iter(data(t).RandomSampler(TEN, replacement=True, num_samples=100))
    return [next(iterator) for _ in range(40)], t.randint(0, 1 << 30, (2,))


SEEDED = {
    "sequential": lambda t: data(t).SequentialSampler(TEN),
    "random": lambda t: data(t).RandomSampler(TEN),
    "random of one": lambda t: data(t).RandomSampler(Numbers(1)),
    "random of 1000": lambda t: data(t).RandomSampler(Numbers(1000)),
    "fewer": lambda t: data(t).RandomSampler(TEN, num_samples=4),
    "more": lambda t: data(t).RandomSampler(TEN, num_samples=25),
    "twice": lambda t: data(t).RandomSampler(TEN, num_samples=20),
    "replacement": lambda t: data(t).RandomSampler(TEN, replacement=True),
    "replacement 64": lambda t: data(t).RandomSampler(TEN, replacement=True, num_samples=64),
    "replacement 70": lambda t: data(t).RandomSampler(TEN, replacement=True, num_samples=70),
    "subset": lambda t: data(t).SubsetRandomSampler([30, 40, 50, 60]),
    "subset of names": lambda t: data(t).SubsetRandomSampler(["a", "b", "c"]),
    "batches": lambda t: data(t).BatchSampler(data(t).RandomSampler(TEN), 3, False),
    "full batches": lambda t: data(t).BatchSampler(range(10), 3, True),
    "even batches": lambda t: data(t).BatchSampler(range(9), 3, False),
    "big batch": lambda t: data(t).BatchSampler(range(3), 30, False),
    "no batch": lambda t: data(t).BatchSampler(range(3), 30, True),
    "weighted": lambda t: data(t).WeightedRandomSampler([0.1, 2, 0, 3], 12),
    "weighted once": lambda t: data(t).WeightedRandomSampler([0.1, 2, 0.5, 3], 3, False),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_order(name):
    assert_same(seeded(SEEDED[name]))


SHARED = {
    "random": lambda t, g: data(t).RandomSampler(TEN, generator=g),
    "twice": lambda t, g: data(t).RandomSampler(TEN, num_samples=20, generator=g),
    "more": lambda t, g: data(t).RandomSampler(TEN, num_samples=23, generator=g),
    "replacement": lambda t, g: data(t).RandomSampler(TEN, replacement=True, num_samples=40, generator=g),
    "subset": lambda t, g: data(t).SubsetRandomSampler([3, 4, 5], generator=g),
    "weighted": lambda t, g: data(t).WeightedRandomSampler([1, 2, 3], 5, generator=g),
}


@pytest.mark.parametrize("name", SHARED)
def test_shared_stream(name):
    assert_same(shared_stream(SHARED[name]))


def test_an_iteration_given_up_early():
    assert_same(begun)


REFUSED = {
    "abstract": lambda t: iter(data(t).Sampler()),
    "no length": lambda t: len(data(t).Sampler()),
    "replacement 1": lambda t: data(t).RandomSampler(TEN, replacement=1),
    "num_samples 0": lambda t: data(t).RandomSampler(TEN, num_samples=0),
    "num_samples 2.5": lambda t: data(t).RandomSampler(TEN, num_samples=2.5),
    "nothing to draw": lambda t: data(t).RandomSampler([]),
    "weighted 0": lambda t: data(t).WeightedRandomSampler([1, 2], 0),
    "weighted True": lambda t: data(t).WeightedRandomSampler([1, 2], True),
    "weighted replacement": lambda t: data(t).WeightedRandomSampler([1, 2], 2, 1),
    "weighted 2-D": lambda t: data(t).WeightedRandomSampler([[1, 2], [2, 3]], 2),
    "weighted too many": lambda t: list(data(t).WeightedRandomSampler([1, 2, 3], 4, False)),
    "weighted all zero": lambda t: list(data(t).WeightedRandomSampler([0, 0], 2)),
    "weighted negative": lambda t: list(data(t).WeightedRandomSampler([-1.0, 2], 2)),
    "batch 0": lambda t: data(t).BatchSampler(range(5), 0, True),
    "batch True": lambda t: data(t).BatchSampler(range(5), True, True),
    "batch 2.0": lambda t: data(t).BatchSampler(range(5), 2.0, True),
    "batch drop_last": lambda t: data(t).BatchSampler(range(5), 2, 1),
    "rank": lambda t: data(t).DistributedSampler(TEN, 3, 3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    assert assert_same(REFUSED[name])[0] == "error"


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("length", "replicas"), [(10, 3), (10, 5), (2, 5), (1, 1)])
def test_distributed(length, replicas, shuffle, drop_last):
    def program(t):
        shares = []
        for rank in range(replicas):
            sampler = data(t).DistributedSampler(Numbers(length), replicas, rank, shuffle, 4, drop_last)
            sampler.set_epoch(2)
            shares.append((list(sampler), len(sampler)))
        return shares

    assert_same(program)
