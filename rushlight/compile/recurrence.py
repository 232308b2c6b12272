"""Recurrent layers as primitives: the loop over time of one layer in one direction, and its gradient.

What the layer's input contributes to the gates of all times is one large product outside; what remains is, for every time,
a product of the state with the recurrent weights and the formulas of the cell. ``Recurrence`` is that loop, forward;
``RecurrenceGrad`` goes back through it and leaves the gradients of the gates, from which those of all weights are large
products again.

Letters: T times, B sequences, H hidden units, G gates, P numbers of output (P = H unless a projection follows).

Sequences of different lengths: ``batch_sizes`` (T,) says how many sequences run at each time, never growing. A sequence
that does not run keeps its state. Values of states at such times are finite, and their gradients 0.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .dtypes import DType
from .expr import Expr, e, input_
from .graph import NativeCall, Shape

__all__ = ["CELLS", "Cell", "Formulas", "Recurrence", "RecurrenceGrad", "backward_formulas", "forward_formulas"]


@dataclass(frozen=True)
class Cell:
    """One step of a recurrent network, on the formulas of one hidden unit.

    Attributes:
        gates: what each unit has a row of weights for.
        saved: how many values the gradient wants to find again for each unit and time.
        has_c: whether there is a cell state besides the output.
        same: whether the gradients of a gate's two parts (of the input, of the state) are always equal.
        forward: ``(x, z, h, c) -> (h, c or None, saved)``: both parts of the gates, the state before.
        backward: ``(dh, dc, saved, h, c, h_old, c_old) -> (dx, dz, dc_old or None, dh_old or None)``; dh_old is what does not
            go through the recurrent weights.
    """

    gates: int
    saved: int
    has_c: bool
    same: bool
    forward: Callable[..., tuple[Expr, Expr | None, tuple[Expr, ...]]]
    backward: Callable[..., tuple[tuple[Expr, ...], tuple[Expr, ...], Expr | None, Expr | None]]


def _sigmoid(x: Expr) -> Expr:
    return 1 / (1 + e.exp(-x))


def _lstm(x: Sequence[Expr], z: Sequence[Expr], h: Expr, c: Expr) -> Any:
    i, f, o = (_sigmoid(x[k] + z[k]) for k in (0, 1, 3))
    g = e.tanh(x[2] + z[2])
    new = f * c + i * g
    return o * e.tanh(new), new, (i, f, g, o)


def _lstm_back(dh: Expr, dc: Expr, saved: Sequence[Expr], h: Expr, c: Expr, h_old: Expr, c_old: Expr) -> Any:
    i, f, g, o = saved
    t = e.tanh(c)
    dc = dc + dh * o * (1 - t * t)
    dx = dc * g * (i * (1 - i)), dc * c_old * (f * (1 - f)), dc * i * (1 - g * g), dh * t * (o * (1 - o))
    return dx, dx, dc * f, None


def _gru(x: Sequence[Expr], z: Sequence[Expr], h: Expr, c: Expr) -> Any:
    r, u = _sigmoid(x[0] + z[0]), _sigmoid(x[1] + z[1])
    n = e.tanh(x[2] + r * z[2])
    return n + u * (h - n), None, (r, u, n, z[2])


def _gru_back(dh: Expr, dc: Expr, saved: Sequence[Expr], h: Expr, c: Expr, h_old: Expr, c_old: Expr) -> Any:
    r, u, n, zn = saved
    dn = dh * (1 - u) * (1 - n * n)
    du = dh * (h_old - n) * (u * (1 - u))
    dr = dn * zn * (r * (1 - r))
    return (dr, du, dn), (dr, du, dn * r), None, dh * u


def _tanh_back(dh: Expr, dc: Expr, saved: Sequence[Expr], h: Expr, c: Expr, h_old: Expr, c_old: Expr) -> Any:
    dx = (dh * (1 - h * h),)
    return dx, dx, None, None


def _relu_back(dh: Expr, dc: Expr, saved: Sequence[Expr], h: Expr, c: Expr, h_old: Expr, c_old: Expr) -> Any:
    dx = (e.where(h <= 0, 0, dh),)  # a NaN lets the gradient through
    return dx, dx, None, None


CELLS = {
    "LSTM": Cell(4, 4, True, True, _lstm, _lstm_back),
    "GRU": Cell(3, 4, False, False, _gru, _gru_back),
    "RNN_TANH": Cell(1, 0, False, True, lambda x, z, h, c: (e.tanh(x[0] + z[0]), None, ()), _tanh_back),
    "RNN_RELU": Cell(1, 0, False, True, lambda x, z, h, c: (e.max(x[0] + z[0], 0), None, ()), _relu_back),
}


@dataclass(frozen=True)
class Formulas:
    """``outputs``: name -> formula; ``inputs``: the name of each input number."""

    inputs: tuple[str, ...]
    outputs: dict[str, Expr]


@functools.cache
def forward_formulas(cell: str, dtype: DType) -> Formulas:
    """A step. Inputs: x0, x1, ... and z0, z1, ... (the gates' parts), h_old, c_old; outputs: h, c, s0, s1, ... (saved)."""
    kind = CELLS[cell]
    gates = range(kind.gates)
    names = (*(f"x{k}" for k in gates), *(f"z{k}" for k in gates), "h_old", "c_old")
    value = [input_(k, dtype) for k in range(len(names))]
    h, c, saved = kind.forward(value[:kind.gates], value[kind.gates:2 * kind.gates], value[-2], value[-1])
    return Formulas(names, {"h": h, **({} if c is None else {"c": c}), **{f"s{k}": s for k, s in enumerate(saved)}})


@functools.cache
def backward_formulas(cell: str, dtype: DType) -> Formulas:
    """Back through a step. Inputs: dh, dc, s0, s1, ..., h, c, h_old, c_old; outputs: dx0, ..., dz0, ... (where they differ
    from those), dc_old, dh_old."""
    kind = CELLS[cell]
    names = ("dh", "dc", *(f"s{k}" for k in range(kind.saved)), "h", "c", "h_old", "c_old")
    value = [input_(k, dtype) for k in range(len(names))]
    dx, dz, dc, dh = kind.backward(value[0], value[1], value[2:2 + kind.saved], *value[2 + kind.saved:])
    outputs = {f"dx{k}": x for k, x in enumerate(dx)}
    if not kind.same:
        outputs |= {f"dz{k}": z for k, z in enumerate(dz)}
    outputs |= {name: x for name, x in (("dc_old", dc), ("dh_old", dh)) if x is not None}
    return Formulas(names, outputs)


@dataclass(frozen=True)
class _Loop(NativeCall):
    cell: str
    steps: int
    batch: int
    hidden: int
    size: int
    dtype: DType
    reverse: bool
    projected: bool
    ragged: bool

    @property
    def kind(self) -> Cell:
        return CELLS[self.cell]

    @property
    def gates(self) -> int:
        """Numbers of all gates: G H."""
        return self.kind.gates * self.hidden

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the operands, in order."""
        raise NotImplementedError

    @property
    def outputs(self) -> dict[str, Shape]:
        """Names and shapes of the results, in order."""
        raise NotImplementedError

    @property
    def results(self) -> tuple[tuple[Shape, DType], ...]:
        return tuple((shape, self.dtype) for shape in self.outputs.values())

    def _over(self, result: str, operand: str) -> dict[int, int]:
        """``overwrites`` of a result over an operand, where both are there and equally large."""
        if result not in self.outputs or operand not in self.inputs or self.kind.saved != self.kind.gates:
            return {}
        return {list(self.outputs).index(result): self.inputs.index(operand)}

    @property
    def work(self) -> int:
        return self.steps * self.batch * (self.gates + (self.hidden if self.projected else 0)) * self.size


@dataclass(frozen=True)
class Recurrence(_Loop):
    """The loop over time.

    Operands: x (T, B, G H): the input's part of the gates; w (G H, P); bias (G H) of the state's part, if ``biased``; h (B, P)
    and, with a cell state, c (B, H): the first state; projection (P, H), if ``projected``; batch_sizes (T,) int64, if ``ragged``.

    Results: h (T + 1, B, P): the outputs in order of time, with the first state before the first (after the last, if
    ``reverse``: the last time is then the first); c (T + 1, B, H) likewise; last_c (B, H); saved (T, B, S H): what the
    gradient needs besides. The middle two only with a cell state, the last one only if the cell saves anything.
    """

    biased: bool
    name = "recurrence"

    @property
    def inputs(self) -> tuple[str, ...]:
        found = ["x", "w", "bias" if self.biased else "", "h0", "c0" if self.kind.has_c else "",
                 "projection" if self.projected else "", "batch_sizes" if self.ragged else ""]
        return tuple(filter(None, found))

    @property
    def outputs(self) -> dict[str, Shape]:
        out: dict[str, Shape] = {"h": (self.steps + 1, self.batch, self.size)}
        if self.kind.has_c:
            out |= {"c": (self.steps + 1, self.batch, self.hidden), "last_c": (self.batch, self.hidden)}
        if self.kind.saved:
            out["saved"] = (self.steps, self.batch, self.kind.saved * self.hidden)
        return out

    @property
    def overwrites(self) -> dict[int, int]:
        return self._over("saved", "x")

    def reference(self, *arrays: Any) -> tuple[Any, ...]:
        from .reference.recurrence import forward

        return forward(self, dict(zip(self.inputs, arrays, strict=True)))


@dataclass(frozen=True)
class RecurrenceGrad(_Loop):
    """Back through the loop.

    Operands: dout (T, B, P): gradient of the outputs, if ``driven``; dh (B, P) and dc (B, H): of the last state; w and
    projection; what ``Recurrence`` gave: h, c, saved (as far as the cell's gradient reads them); batch_sizes.

    Results: dx (T, B, G H): gradient of the input's part of the gates; dz (T, B, G H): of the state's part, where that
    differs; dh0 (B, P) and dc0 (B, H): of the first state; dh (T, B, P): of all outputs, if ``projected``.
    """

    driven: bool
    name = "recurrence gradient"

    @property
    def inputs(self) -> tuple[str, ...]:
        has_c, reads = self.kind.has_c, self.cell != "LSTM"
        found = ["dout" if self.driven else "", "dh", "dc" if has_c else "", "w", "projection" if self.projected else "",
                 "h" if reads else "", "c" if has_c else "", "saved" if self.kind.saved else "",
                 "batch_sizes" if self.ragged else ""]
        return tuple(filter(None, found))

    @property
    def outputs(self) -> dict[str, Shape]:
        out: dict[str, Shape] = {"dx": (self.steps, self.batch, self.gates)}
        if not self.kind.same:
            out["dz"] = out["dx"]
        out["dh0"] = (self.batch, self.size)
        if self.kind.has_c:
            out["dc0"] = (self.batch, self.hidden)
        if self.projected:
            out["dh"] = (self.steps, self.batch, self.size)
        return out

    @property
    def overwrites(self) -> dict[int, int]:
        return self._over("dx", "saved")

    def reference(self, *arrays: Any) -> tuple[Any, ...]:
        from .reference.recurrence import backward

        return backward(self, dict(zip(self.inputs, arrays, strict=True)))


