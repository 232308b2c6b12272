"""Recurrent networks as functions of their weights, in the top namespace: ``torch.lstm``, ``torch.gru_cell``, ..."""
from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ..autograd.quick import quick
from ..ops.recurrent_cells import step
from . import functional as F
from .modules.rnn import RNNBase
from .utils.rnn import PackedSequence, packed_like, padded_of

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]


def _run(mode: str, x: Any, state: tuple[Any, ...], lengths: Any, params: Sequence[Any], has_biases: bool, num_layers: int, dropout: float,
         train: bool, bidirectional: bool) -> tuple[Any, ...]:
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    projected = each == (5 if has_biases else 3)
    names = [f"weight{k}" for k in range(len(params))]
    layers: Any = SimpleNamespace(mode=mode, bias=bool(has_biases), num_layers=num_layers, dropout=dropout, training=train,
                                  bidirectional=bidirectional, proj_size=int(projected), **dict(zip(names, params)),
                                  _all_weights=[names[k:k + each] for k in range(0, len(names), each)])
    out, last = RNNBase._layers(layers, x, state, lengths)
    return out, *last


def _network(mode: str, name: str) -> Any:
    def call(input: Any, hx: Any, params: Any, has_biases: Any, *rest: Any, **named: Any) -> tuple[Any, ...]:
        """Layers over a sequence (T, B, F), with their weights in the order of the module: ``(input, hx, params, has_biases, num_layers,
        dropout, train, bidirectional, batch_first)``; or over a packed one: ``(data, batch_sizes, hx, params, ...)``."""
        if isinstance(has_biases, (list, tuple)):
            data, sizes, state, (weights, biases, rest) = input, hx, params, (has_biases, rest[0], rest[1:])
            packed = PackedSequence(data, sizes)
            out, *last = _run(mode, padded_of(packed), _states(state), packed.batch_sizes, weights, biases, *rest, **named)
            return (packed_like(packed, out).data, *last)
        order = ("num_layers", "dropout", "train", "bidirectional", "batch_first")
        options = {**dict(zip(order, rest)), **named}
        first = options.pop("batch_first")
        out, *last = _run(mode, input.transpose(0, 1) if first else input, _states(hx), None, params, has_biases, **options)
        return (out.transpose(0, 1) if first else out, *last)
    call.__name__ = name
    return call


def _states(hx: Any) -> tuple[Any, ...]:
    return tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)


def _cell(mode: str, name: str) -> Any:
    def call(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
        """One step (B, F) of the cell with these weights; the state is (B, H), for LSTMs the pair (h, c)."""
        made = step(mode, F.linear(input, w_ih, b_ih), _states(hx), w_hh, b_hh)
        return made if len(made) > 1 else made[0]
    call.__name__ = name
    return call


_MODES = ("LSTM", "GRU", "RNN_TANH", "RNN_RELU")
lstm, gru, rnn_tanh, rnn_relu = (_network(mode, mode.lower()) for mode in _MODES)
lstm_cell, gru_cell, rnn_tanh_cell, rnn_relu_cell = (quick(_cell(mode, mode.lower() + "_cell")) for mode in _MODES)
