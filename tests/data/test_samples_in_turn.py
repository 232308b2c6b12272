"""Samples for which much is recorded run one by one: random augmentations leave few paths, not a new one in every batch."""
from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

import rushlight as torch
from rushlight.tools.profiler import counters
from rushlight.utils.data import DataLoader, Dataset, IterableDataset, StackDataset, Subset

IMAGES = torch.arange(16 * 36, dtype=torch.float32).reshape(16, 1, 6, 6) / 100


def augmented(x, flip, turn):
    x = x.exp() - 1
    if flip:
        x = x.flip(-1).sqrt()
    x = x.roll(turn, -1)
    return ((x - x.mean()) / (x.std() + 1)).tanh() * 2 + x.sum()


class Augmented(Dataset):
    def __init__(self):
        self.random = random.Random(0)

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return augmented(IMAGES[index], self.random.random() < 0.5, self.random.randrange(2))


class Stream(IterableDataset):
    def __init__(self):
        self.set = Augmented()

    def __iter__(self):
        return (self.set[i] for i in range(len(IMAGES)))


@pytest.mark.parametrize("kind", ["map", "subset", "stack", "stream"])
def test_augmentations_picked_at_random_are_soon_compiled(kind):
    base = Augmented()
    data = {"map": base, "subset": Subset(base, range(16)), "stack": StackDataset(base), "stream": Stream()}[kind]
    loader = DataLoader(data, batch_size=8)
    for _ in range(8):
        assert len(list(loader)) == 2
    before = counters()
    batch = list(loader)[1]
    done = counters() - before
    assert done.programs_built == done.cold_runs == 0 and done.flushes >= 16
    drawn = random.Random(0)
    for _ in range(9):
        want = [augmented(x, drawn.random() < 0.5, drawn.randrange(2)) for x in IMAGES]
    got = batch[0] if kind == "stack" else batch
    np.testing.assert_allclose(got.numpy(), torch.stack(want[8:]).numpy(), 1e-6)


def test_samples_of_few_operations_run_together():
    class Scaled(Dataset):
        def __len__(self):
            return 16

        def __getitem__(self, index):
            return IMAGES[index] * 2 - 1
    batches = iter(DataLoader(Scaled(), batch_size=16))
    next(itertools.chain(batches))
    before = counters()
    next(iter(DataLoader(Scaled(), batch_size=16)))
    assert (counters() - before).flushes <= 2
