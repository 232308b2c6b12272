"""Calls of many tensors: the step of one, which has lines for each tensor, is written only when such calls come often."""
from __future__ import annotations

import pytest

import rushlight as torch
from rushlight.autograd.anew import SEEN
from rushlight.autograd.calls import MANY, Attempt, Function
from rushlight.record.trace import local


@pytest.mark.parametrize("tensors, times", [(1, SEEN), (MANY - 1, SEEN), (MANY, MANY // 2), (3 * MANY, 3 * MANY // 2)])
def test_how_often_a_call_has_to_come_before_its_step_is_written(tensors, times):
    given = [torch.ones(1) for _ in range(tensors)]
    name = (object(), tensors)
    attempts = [Attempt(Function(-1, -1), local.trace, (given,), None, given, name) for _ in range(times + 2)]
    assert [a._is_rare() for a in attempts] == [True] * (times - 1) + [False] * 3
    del local.trace.known[name]


def test_stacks_of_any_length_are_right_when_they_have_steps_and_when_they_have_none():
    values = [torch.tensor(float(k), requires_grad=True) for k in range(3 * MANY)]
    for n in [2, MANY, 2 * MANY + 1, 3 * MANY] * (3 * MANY):
        out = torch.stack(values[:n])
        (grad,) = torch.autograd.grad((out * out).sum(), values[n - 1])
        assert grad.item() == 2 * (n - 1)
