"""Recurrent layers."""
from __future__ import annotations

import math
from typing import Any

from ...autograd.titles import entitle
from ...ops.recurrent import recurrent_layer
from ...record.trace import local
from ...record.warn import warn
from ...tensor import FUNCTIONS
from .. import functional as F
from .. import init
from ..parameter import Parameter
from ..utils.rnn import PackedSequence, packed_like, padded_of
from .module import Module

__all__ = ["RNNBase", "RNN", "LSTM", "GRU"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


class RNNBase(Module):
    """What the recurrent layers share: their weights and the walk over layers and directions."""

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        _check_sizes(input_size, hidden_size, num_layers, dropout, proj_size, {"bias": bias, "batch_first": batch_first})
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        gates = _GATES[mode]
        directions = 2 if bidirectional else 1
        real = proj_size or hidden_size
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            for direction in range(directions):
                end = f"_l{layer}{'_reverse' if direction else ''}"
                width = input_size if layer == 0 else real * directions
                shapes: dict[str, tuple[int, ...]] = {"weight_ih" + end: (gates * hidden_size, width),
                                                      "weight_hh" + end: (gates * hidden_size, real)}
                if bias:
                    shapes |= {"bias_ih" + end: (gates * hidden_size,), "bias_hh" + end: (gates * hidden_size,)}
                if proj_size:
                    shapes["weight_hr" + end] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    setattr(self, name, Parameter(FUNCTIONS["empty"](shape, device=device, dtype=dtype)))
                self._all_weights.append(list(shapes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All uniform within ±1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Accepted for compatibility: weights need no particular place in memory."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The weights of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    # Programs that draw initial values of their own go through the weights by these names.
    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, name) for name in self._flat_weights_names]

    # -- layers and directions ---------------------------------------------------------------------------------------
    def _layers(self, x: Any, state: tuple[Any, ...], batch_sizes: Any = None) -> tuple[Any, tuple[Any, ...]]:
        """Run all layers over inputs (T, B, F); state tensors are (layers * directions, B, ·). ``batch_sizes`` (T,): how many of
        the sequences run at each time."""
        directions = 2 if self.bidirectional else 1
        cat, stack = FUNCTIONS["cat"], FUNCTIONS["stack"]
        lengths = () if batch_sizes is None else (batch_sizes,)
        last: list[tuple[Any, ...]] = []
        for layer in range(self.num_layers):
            found = []
            for direction in range(directions):
                k = layer * directions + direction
                weights = [getattr(self, name) for name in self._all_weights[k]]
                out, *states = recurrent_layer(x, *(s[k] for s in state), *weights, *lengths, attrs=(
                    self.mode, bool(direction), self.bias, self.proj_size > 0, batch_sizes is not None))
                found.append(out)
                last.append(tuple(states[:len(state)]))
            x = found[0] if directions == 1 else cat(found, -1)
            if self.dropout and self.training and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, True)
        after = tuple(stack([end[i] for end in last], 0) for i in range(len(state)))
        if local.trace.low is not None and self.mode != "LSTM":  # under autocast PyTorch's other layers keep the state's type
            kind = state[0].dtype
            return x.to(kind), tuple(s.to(kind) for s in after)
        return x, after

    def _state_sizes(self, batch: int) -> list[tuple[int, int, int]]:
        layers = self.num_layers * (2 if self.bidirectional else 1)
        sizes = [(layers, batch, self.proj_size or self.hidden_size)]
        return [*sizes, (layers, batch, self.hidden_size)] if self.mode == "LSTM" else sizes

    def _start(self, given: Any, batch: int, like: Any, batched: bool) -> tuple[Any, ...]:
        """The first state, with a batch dimension; zeros by default."""
        sizes = self._state_sizes(batch)
        if given is None:
            return tuple(FUNCTIONS["zeros"](*size, dtype=like.dtype) for size in sizes)
        states = tuple(given) if self.mode == "LSTM" else (given,)
        wanted = 3 if batched else 2
        if any(s.ndim != wanted for s in states):
            what = "hx and cx" if len(states) == 2 else "hx"
            have = f"({', '.join(f'{s.ndim}-D' for s in states)}) tensors" if len(states) == 2 else f"{states[0].ndim}-D tensor"
            raise RuntimeError(f"For {'batched 3' if batched else 'unbatched 2'}-D input, {what} should also be {wanted}-D but got {have}")
        states = states if batched else tuple(s.unsqueeze(1) for s in states)
        for k, (s, size) in enumerate(zip(states, sizes)):
            if tuple(s.shape) != size:
                name = f"hidden[{k}]" if len(states) == 2 else "hidden"
                raise RuntimeError(f"Expected {name} size {size}, got {list(s.shape)}")
        return states

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        low = local.trace.low
        if low is not None and self.mode == "LSTM":  # PyTorch's autocast casts what goes into an LSTM
            input = input.to(low)
            hx = hx if hx is None else tuple(s.to(low) for s in hx)
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.ndim not in (2, 3):
            raise ValueError(f"{self._kind}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        batched = input.ndim == 3
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}")
        kind = getattr(self, self._all_weights[0][0]).dtype
        if input.dtype is not kind and low is None:
            raise ValueError(f"input must have the type {kind}, got type {input.dtype}")
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        if x.shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        state = self._start(hx, x.shape[1], input, batched)
        out, last = self._layers(x, state)
        if batched and self.batch_first:
            out = out.transpose(0, 1)
            if self.mode != "LSTM":
                entitle(out, "TransposeBackward1")
        if not batched:
            out, last = out.squeeze(1), tuple(s.squeeze(1) for s in last)
        return out, last if self.mode == "LSTM" else last[0]

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        x = padded_of(packed)
        state = self._start(hx, x.shape[1], x, True)
        if hx is not None and packed.sorted_indices is not None:
            state = tuple(s.index_select(1, packed.sorted_indices) for s in state)
        out, last = self._layers(x, state, packed.batch_sizes)
        if packed.unsorted_indices is not None:
            last = tuple(s.index_select(1, packed.unsorted_indices) for s in last)
        return packed_like(packed, out), last if self.mode == "LSTM" else last[0]

    @property
    def _kind(self) -> str:
        return self.mode.split("_")[0]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, plain in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0),
                            ("bidirectional", False)):
            if getattr(self, name) != plain:
                text += f", {name}={getattr(self, name)}"
        return text


def _check_sizes(input_size: Any, hidden_size: Any, num_layers: int, dropout: Any, proj_size: int, flags: dict[str, Any]) -> None:
    if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
    if dropout > 0 and num_layers == 1:
        warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers greater than "
             f"1, but got dropout={dropout} and num_layers={num_layers}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


def _no_projection(kwargs: dict[str, Any]) -> None:
    if "proj_size" in kwargs:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(RNNBase):
    """``h = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu.

    Shape:
        (L, N, input_size), (layers * directions, N, hidden_size) -> (L, N, directions * hidden_size), the last state
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None,
                 **kwargs: Any) -> None:
        _no_projection(kwargs)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + nonlinearity.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         device=device, dtype=dtype, **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory, with projections of the hidden state if ``proj_size`` > 0.

    Shape:
        (L, N, input_size), (h, c) -> (L, N, directions * hidden_size), (h, c)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """Gated recurrent units.

    Shape:
        (L, N, input_size), (layers * directions, N, hidden_size) -> (L, N, directions * hidden_size), the last state
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _no_projection(kwargs)
        super().__init__("GRU", *args, **kwargs)
