"""Recurrent networks: one step of each cell, and the walk over a sequence."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...ops.recurrent import gru_state, lstm_cell_state, lstm_output
from ...tensor import FUNCTIONS
from .linear import linear

__all__: list[str] = []

State = tuple[Any, ...]


def lstm_step(x: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
    """One step from the input's part of the gates (B, 4 H), the state ((B, H), (B, H)) and the recurrent weight (4 H, H)."""
    h, c = state
    i, f, g, o = (x + linear(h, weight, bias)).chunk(4, 1)
    c = lstm_cell_state(i, f, g, c)
    h = lstm_output(o, c)
    return (h if projection is None else linear(h, projection)), c


def gru_step(x: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
    """One step from the input's part of the gates (B, 3 H), the state ((B, H),) and the recurrent weight (3 H, H)."""
    (h,) = state
    return (gru_state(*x.chunk(3, 1), *linear(h, weight, bias).chunk(3, 1), h),)


def tanh_step(x: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
    return ((x + linear(state[0], weight, bias)).tanh(),)


def relu_step(x: Any, state: State, weight: Any, bias: Any, projection: Any = None) -> State:
    return ((x + linear(state[0], weight, bias)).relu(),)


STEPS: dict[str, Callable[..., State]] = {"LSTM": lstm_step, "GRU": gru_step, "RNN_TANH": tanh_step, "RNN_RELU": relu_step}


def walk(step: Callable[[Any, State], State], inputs: Sequence[Any], state: State, reverse: bool) -> tuple[list[Any], State]:
    """(outputs of every time, last state) for inputs (Bₜ, G) whose batch sizes never grow.

    Sequences are sorted by length: the first Bₜ are still running at time t.
    """
    cat = FUNCTIONS["cat"]
    outputs: list[Any] = []
    if reverse:
        now = tuple(s.narrow(0, 0, inputs[-1].shape[0]) for s in state)
        for x in reversed(inputs):
            running, wanted = now[0].shape[0], x.shape[0]
            if wanted > running:
                now = tuple(cat([s, first.narrow(0, running, wanted - running)], 0) for s, first in zip(now, state))
            now = step(x, now)
            outputs.append(now[0])
        outputs.reverse()
        return outputs, now
    now, ended = state, []
    for x in inputs:
        wanted, running = x.shape[0], now[0].shape[0]
        if wanted < running:
            ended.append(tuple(s.narrow(0, wanted, running - wanted) for s in now))
            now = tuple(s.narrow(0, 0, wanted) for s in now)
        now = step(x, now)
        outputs.append(now[0])
    if ended:
        now = tuple(cat([s, *(part[k] for part in reversed(ended))], 0) for k, s in enumerate(now))
    return outputs, now
