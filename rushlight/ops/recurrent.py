"""The pointwise parts of recurrent cells, one node each."""
from __future__ import annotations

from typing import Any

from .pointwise import pointwise

__all__ = ["lstm_cell_state", "lstm_output", "gru_state"]


def _sigmoid(e: Any, x: Any) -> Any:
    return 1 / (1 + e.exp(-x))


# c' = sigmoid(f) c + sigmoid(i) tanh(g), and h = sigmoid(o) tanh(c').
lstm_cell_state = pointwise("lstm_cell_state", lambda e, i, f, g, c: _sigmoid(e, f) * c + _sigmoid(e, i) * e.tanh(g), allowed="f")
lstm_output = pointwise("lstm_output", lambda e, o, c: _sigmoid(e, o) * e.tanh(c), allowed="f")


def _gru(e: Any, xr: Any, xz: Any, xn: Any, hr: Any, hz: Any, hn: Any, h: Any) -> Any:
    z = _sigmoid(e, xz + hz)
    n = e.tanh(xn + _sigmoid(e, xr + hr) * hn)
    return n + z * (h - n)


gru_state = pointwise("gru_state", _gru, allowed="f")
