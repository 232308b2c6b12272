"""Recurrent cells in ordinary operations: their pointwise parts, one node each, and a step."""
from __future__ import annotations

from typing import Any

from .contraction import linear
from .pointwise import pointwise

__all__ = ["lstm_cell_state", "lstm_output", "gru_state", "step"]

State = tuple[Any, ...]


def _sigmoid(e: Any, x: Any) -> Any:
    return 1 / (1 + e.exp(-x))


# c' = sigmoid(f) c + sigmoid(i) tanh(g), and h = sigmoid(o) tanh(c').
lstm_cell_state = pointwise("lstm_cell_state", grad_name="AddBackward0", formula=lambda e, i, f, g, c:
                            _sigmoid(e, f) * c + _sigmoid(e, i) * e.tanh(g), allowed="f")
lstm_output = pointwise("lstm_output", grad_name="MulBackward0", formula=lambda e, o, c: _sigmoid(e, o) * e.tanh(c), allowed="f")


def _gru(e: Any, xr: Any, xz: Any, xn: Any, hr: Any, hz: Any, hn: Any, h: Any) -> Any:
    z = _sigmoid(e, xz + hz)
    n = e.tanh(xn + _sigmoid(e, xr + hr) * hn)
    return n + z * (h - n)


gru_state = pointwise("gru_state", _gru, grad_name="AddBackward0", allowed="f")


def step(cell: str, x: Any, state: State, weight: Any, bias: Any = None, projection: Any = None) -> State:
    """One step: the state (B, H), with an LSTM's cell state if it is one, after the input's part of the gates x (B, G H).

    ``weight`` (G H, H) and ``bias`` give the state's part; ``projection`` (P, H) makes an LSTM's output (B, P).
    """
    h = state[0]
    z = linear(h, weight) if bias is None else linear(h, weight, bias)
    if cell == "LSTM":
        i, f, g, o = (x + z).chunk(4, 1)
        c = lstm_cell_state(i, f, g, state[1])
        h = lstm_output(o, c)
        return (h if projection is None else linear(h, projection)), c
    if cell == "GRU":
        return (gru_state(*x.chunk(3, 1), *z.chunk(3, 1), h),)
    return ((x + z).tanh() if cell == "RNN_TANH" else (x + z).relu(),)
