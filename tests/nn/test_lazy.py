"""Lazy modules take their shapes from the first input or from a checkpoint."""
from __future__ import annotations

import pytest

import rushlight
from rushlight import nn

from .compare import torch

CASES = [("LazyLinear", (3,), (2, 5)), ("LazyConv1d", (4, 3), (2, 3, 8)), ("LazyConv2d", (4, 3), (3, 8, 8)),
         ("LazyConv3d", (4, 2), (1, 3, 4, 4, 4)), ("LazyConvTranspose1d", (4, 3), (2, 3, 8)), ("LazyConvTranspose2d", (4, 3), (2, 3, 5, 5)),
         ("LazyConvTranspose3d", (4, 2), (1, 3, 3, 3, 3)), ("LazyBatchNorm1d", (), (4, 3)), ("LazyBatchNorm2d", (), (4, 3, 2, 2)),
         ("LazyBatchNorm3d", (), (4, 3, 2, 2, 2)), ("LazyInstanceNorm1d", (), (4, 3, 5)), ("LazyInstanceNorm2d", (), (2, 3, 5, 5)),
         ("LazyInstanceNorm3d", (), (2, 3, 2, 2, 2))]


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize(("name", "args", "shape"), CASES)
def test_first_input_gives_the_shapes(name, args, shape):
    torch.manual_seed(1)
    rushlight.manual_seed(1)
    theirs, ours = getattr(torch.nn, name)(*args), getattr(nn, name)(*args)
    assert repr(ours) == repr(theirs)
    assert [str(p) for p in ours.parameters()] == [str(p) for p in theirs.parameters()]
    with pytest.raises(RuntimeError, match="uninitialized"):
        ours.weight.shape  # noqa: B018
    theirs(torch.ones(shape))
    ours(rushlight.ones(shape))
    assert repr(ours) == repr(theirs)
    assert type(ours).__name__ == name.removeprefix("Lazy")
    for (key, mine), (other, value) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert key == other
        assert mine.tolist() == value.tolist()
    assert all(type(p) is nn.Parameter for p in ours.parameters())


def test_a_checkpoint_gives_the_shapes():
    done = nn.Conv2d(3, 4, 3)
    lazy = nn.LazyConv2d(4, 3)
    lazy.load_state_dict(done.state_dict())
    x = rushlight.randn(1, 3, 5, 5)
    assert (lazy(x) == done(x)).all().item()
