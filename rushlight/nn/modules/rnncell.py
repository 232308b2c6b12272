"""Single steps of recurrent networks as layers."""
from __future__ import annotations

import math
from typing import Any

from ...ops.recurrent_cells import step
from ...tensor import FUNCTIONS
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .layers import remembered
from .module import Module

__all__ = ["RNNCellBase", "RNNCell", "LSTMCell", "GRUCell"]


class RNNCellBase(Module):
    """The weights of a cell."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

        def new(*shape: int) -> Parameter:
            return Parameter(FUNCTIONS["empty"](shape, device=device, dtype=dtype))
        self.weight_ih = new(num_chunks * hidden_size, input_size)
        self.weight_hh = new(num_chunks * hidden_size, hidden_size)
        self.register_parameter("bias_ih", new(num_chunks * hidden_size) if bias else None)
        self.register_parameter("bias_hh", new(num_chunks * hidden_size) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All uniform within ±1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    @remembered
    def _run(self, mode: str, input: Any, state: tuple[Any, ...] | None) -> tuple[Any, ...]:
        name = mode.partition("_")[0] + "Cell"
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        parts = 2 if mode == "LSTM" else 1
        for k, s in enumerate(state or ()):
            if s.ndim not in (1, 2):
                which = "hidden" if parts == 1 else f"hx[{k}]"
                raise ValueError(f"{name}: Expected {which} to be 1D or 2D, got {s.ndim}D instead")
        batched = input.ndim == 2
        x = input if batched else input.unsqueeze(0)
        if x.shape[1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}")
        if state is None:
            shape = x.shape[0], self.hidden_size
            state = tuple(FUNCTIONS["zeros"](*shape, dtype=x.dtype) for _ in range(parts))
        elif not batched:
            state = tuple(s.unsqueeze(0) for s in state)
        for k, s in enumerate(state):
            if s.shape[0] != x.shape[0]:
                raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{k if k else ''} batch size {s.shape[0]}")
            if s.shape[1] != self.hidden_size:
                raise RuntimeError(f"hidden{k if k else ''} has inconsistent hidden_size: got {s.shape[1]}, expected {self.hidden_size}")
        made = step(mode, F.linear(x, self.weight_ih, self.bias_ih), state, self.weight_hh, self.bias_hh)
        return made if batched else tuple(s.squeeze(0) for s in made)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu: (N, input_size), (N, hidden_size) -> (N, hidden_size)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    @remembered
    def forward(self, input: Any, hx: Any = None) -> Any:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._run("RNN_" + self.nonlinearity.upper(), input, None if hx is None else (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of an LSTM: (N, input_size), (h, c) -> (h, c)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    @remembered
    def forward(self, input: Any, hx: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
        return self._run("LSTM", input, hx)  # type: ignore[return-value]


class GRUCell(RNNCellBase):
    """One step of a GRU: (N, input_size), (N, hidden_size) -> (N, hidden_size)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    @remembered
    def forward(self, input: Any, hx: Any = None) -> Any:
        return self._run("GRU", input, None if hx is None else (hx,))[0]
