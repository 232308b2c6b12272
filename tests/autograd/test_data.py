"""Writes through ``data``, which PyTorch does not hold against what saved the content."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight


def _slices(m):
    """A buffer is filled place by place through ``data``, and read between the writes, as solvers of differential equations do."""
    x = m.tensor([1.0, 2.0, 3.0], requires_grad=True)

    class Put(m.autograd.Function):
        @staticmethod
        def forward(ctx, buffer, value, place):
            ctx.place = place
            buffer.data[..., place] = value
            return buffer

        @staticmethod
        def backward(ctx, grad):
            return grad, grad[..., ctx.place], None

    buffer, weights, y = m.zeros(3, 4), m.tensor([0.5, 1.0, 2.0, 3.0], requires_grad=True), x
    for k in range(4):
        buffer = Put.apply(buffer, y * y, k)
        y = x + (buffer[..., :k + 1] * weights[:k + 1]).sum(-1)
    return x, y


def _clipped(m):
    """Weights are clipped between the forward and the backward: what was computed stays what it was for the other factor."""
    x, w = m.tensor([1.0, 2.0], requires_grad=True), m.tensor([3.0, 4.0], requires_grad=True)
    y = (x.exp() * w)
    w.data.add_(0)
    w.data[0:1].mul_(1)
    w.detach().view(2)
    return x, y


def _saved(m):
    class Double(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0]

    x = m.tensor([1.0, 2.0], requires_grad=True)
    y = Double.apply(x)
    x.data.view(2).add_(0)
    return x, y


@pytest.mark.parametrize("program", [_slices, _clipped, _saved])
@pytest.mark.parametrize("look", [False, True])
def test_writes_through_data_are_not_held_against_a_backward(program, look):
    torch = pytest.importorskip("torch")
    grads = []
    for m in (torch, rushlight):
        for _ in range(3):
            x, y = program(m)
            if look:  # the writes come into memory, where they are made at once
                y.sum().item()
            y.sum().backward()
        grads.append(x.grad.numpy())
    np.testing.assert_allclose(grads[1], grads[0], 1e-5)


@pytest.mark.parametrize("kind, named", [("float32", "FloatTensor"), ("float64", "DoubleTensor"), ("bfloat16", "BFloat16Tensor")])
def test_the_error_names_the_type_as_pytorch_does(kind, named):
    x = rushlight.ones(3, dtype=getattr(rushlight, kind), requires_grad=True)
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match=rf"\[torch\.{named} \[3\]\]"):
        y.sum().backward()


def test_other_writes_are_held_against_it():
    x = rushlight.tensor([1.0, 2.0], requires_grad=True)
    for write in (lambda w: w.detach().add_(1), lambda w: w.detach()[0:1].add_(1), lambda w: w.add_(1)):
        w = rushlight.tensor([3.0, 4.0])
        y = x * w
        write(w)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
