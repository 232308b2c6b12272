"""The meaning of recurrent loops, in NumPy: one time after the other."""
from __future__ import annotations

from typing import Any

import numpy as np

from rushlight.compile.recurrence import Formulas, Recurrence, RecurrenceGrad, backward_formulas, forward_formulas
from rushlight.compile.reference.evaluate import evaluate

__all__ = ["forward", "backward"]

_PLAIN = 200_000  # multiplications of one time that are summed without BLAS


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b.T; small ones in one order and in double precision, so that they are the same for any number of threads."""
    if a.size * b.shape[0] > _PLAIN:
        return a @ b.T
    return np.einsum("mk,nk->mn", a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)


def _step(formulas: Formulas, values: dict[str, Any], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    inputs = [values.get(name) for name in formulas.inputs]
    return {name: np.broadcast_to(evaluate(expr, inputs, shape), shape)  # type: ignore[arg-type]
            for name, expr in formulas.outputs.items()}


def _running(call: Any, values: dict[str, Any], t: int) -> int:
    return int(values["batch_sizes"][t]) if call.ragged else call.batch


def _parts(x: np.ndarray, name: str, hidden: int) -> dict[str, np.ndarray]:
    return {f"{name}{k}": x[:, k * hidden:(k + 1) * hidden] for k in range(x.shape[1] // hidden)}


def forward(call: Recurrence, values: dict[str, Any]) -> tuple[np.ndarray, ...]:
    out = {name: np.zeros(shape, call.dtype.numpy) for name, shape in call.outputs.items()}
    formulas = forward_formulas(call.cell, call.dtype)
    first = call.steps if call.reverse else 0
    out["h"][first] = values["h0"]
    if call.kind.has_c:
        out["c"][first] = values["c0"]
    for t in reversed(range(call.steps)) if call.reverse else range(call.steps):
        old, new = (t + 1, t) if call.reverse else (t, t + 1)
        n = _running(call, values, t)
        gates = _product(out["h"][old, :n], values["w"])
        if call.biased:
            gates = gates + values["bias"]
        given = {**_parts(values["x"][t, :n], "x", call.hidden), **_parts(gates, "z", call.hidden)}
        if not call.projected:
            given["h_old"] = out["h"][old, :n]
        if call.kind.has_c:
            given["c_old"] = out["c"][old, :n]
        made = _step(formulas, given, (n, call.hidden))
        for name in ("h", "c") if call.kind.has_c else ("h",):
            out[name][new] = out[name][old]
        out["h"][new, :n] = _product(made["h"], values["projection"]) if call.projected else made["h"]
        if call.kind.has_c:
            out["c"][new, :n] = made["c"]
        for k in range(call.kind.saved):
            out["saved"][t, :n, k * call.hidden:(k + 1) * call.hidden] = made[f"s{k}"]
    if call.kind.has_c:
        out["last_c"][:] = out["c"][0 if call.reverse else call.steps]
    return tuple(out.values())


def backward(call: RecurrenceGrad, values: dict[str, Any]) -> tuple[np.ndarray, ...]:
    out = {name: np.zeros(shape, call.dtype.numpy) for name, shape in call.outputs.items()}
    formulas = backward_formulas(call.cell, call.dtype)
    dh = np.array(values["dh"])
    dc = np.array(values["dc"]) if call.kind.has_c else None
    for t in range(call.steps) if call.reverse else reversed(range(call.steps)):
        old, new = (t + 1, t) if call.reverse else (t, t + 1)
        n = _running(call, values, t)
        if call.driven:
            dh += values["dout"][t]
        total = dh[:n]
        if call.projected:
            out["dh"][t, :n] = total
            total = _product(total, values["projection"].T)
        given: dict[str, Any] = {"dh": total}
        if call.kind.saved:
            given |= _parts(values["saved"][t, :n], "s", call.hidden)
        for name in ("h", "c"):
            if name in values:
                given |= {name: values[name][new, :n], name + "_old": values[name][old, :n]}
        if dc is not None:
            given["dc"] = dc[:n]
        made = _step(formulas, given, (n, call.hidden))
        for name in ("dx",) if call.kind.same else ("dx", "dz"):
            for k in range(call.kind.gates):
                out[name][t, :n, k * call.hidden:(k + 1) * call.hidden] = made[f"{name}{k}"]
        dh[:n] = _product(out["dx" if call.kind.same else "dz"][t, :n], values["w"].T)
        if "dh_old" in made:
            dh[:n] += made["dh_old"]
        if dc is not None:
            dc[:n] = made["dc_old"]
    out["dh0"][:] = dh
    if dc is not None:
        out["dc0"][:] = dc
    return tuple(out.values())
