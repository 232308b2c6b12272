"""A recurrent layer in one direction, all times at once: one operation, and one for its gradient.

The products of the inputs of all times, and those for the gradients of all weights, are ordinary contractions around a loop
over time (``compile/recurrence.py``). A second derivative goes through the layer step by step, in ordinary operations.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import engine
from ..compile.graph import Graph, Node
from ..compile.recurrence import CELLS, Recurrence, RecurrenceGrad
from ..record.meta import Meta, meta_of
from ..record.trace import local
from . import recurrent_once as once
from .basic import cat
from .contraction import einsum2, linear
from .recurrent_cells import step
from .structured import Structured

__all__ = ["recurrent_layer"]

# attrs: (cell, reverse, biased, projected, ragged).


def _names(cell: str, reverse: bool, biased: bool, projected: bool, ragged: bool) -> tuple[str, ...]:
    """Inputs: x (T, B, F), the first state, weights and biases as the layers keep them, batch_sizes (T,) of sequences
    sorted by length, longest first."""
    found = ["x", "h0", "c0" if CELLS[cell].has_c else "", "w_ih", "w_hh", *(("b_ih", "b_hh") if biased else ()),
             "w_hr" if projected else "", "batch_sizes" if ragged else ""]
    return tuple(filter(None, found))


def _outputs(cell: str) -> tuple[str, ...]:
    """Results: out (T, B, P), the last state (h_n and c_n), and what the gradient reads: all states, what the cell saves."""
    kind = CELLS[cell]
    return tuple(filter(None, ["out", "h_n", "c_n" if kind.has_c else "", "h", "c" if kind.has_c else "", "saved" if kind.saved else ""]))


def _loop(m: dict[str, Any], cell: str, reverse: bool, projected: bool, ragged: bool) -> dict[str, Any]:
    """The fields that both directions of the loop have, from shapes of the operands."""
    x, w = m["x"].shape, m["w_hh"].shape
    return {"cell": cell, "steps": x[0], "batch": x[1], "hidden": w[0] // CELLS[cell].gates, "size": w[1],
            "dtype": m["x"].dtype.compute, "reverse": reverse, "projected": projected, "ragged": ragged}


def _meta(metas: Sequence[Meta], *attrs: Any) -> tuple[Meta, ...]:
    m = dict(zip(_names(*attrs), metas, strict=True))
    x = m["x"]
    for name in ("h0", "c0"):
        if name in m and m[name].dtype is not x.dtype:
            raise RuntimeError("Input and hidden tensors are not the same dtype, found input tensor with "
                               f"{x.dtype.name} and hidden tensor with {m[name].dtype.name}")
    if x.dtype is not m["w_ih"].dtype:
        raise RuntimeError(f"Input and parameter tensors are not the same dtype, found input tensor with {x.dtype.name} and "
                           f"parameter tensor with {m['w_ih'].dtype.name}")
    cell, reverse, _, projected, ragged = attrs
    call = Recurrence(**_loop(m, cell, reverse, projected, ragged), biased=False)
    shapes = {**call.outputs, "out": (call.steps, call.batch, call.size), "h_n": (call.batch, call.size), "c_n": (call.batch, call.hidden)}
    return tuple(meta_of(shapes[name], x.dtype if name in ("out", "h_n", "c_n") else call.dtype, x.device) for name in _outputs(cell))


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    cell, reverse, biased, projected, ragged = attrs
    given = dict(zip(_names(*attrs), inputs, strict=True))
    dtype = given["x"].dtype
    v = {name: x if name == "batch_sizes" else g.cast(x, dtype.compute) for name, x in given.items()}
    gates = g.einsum("tbf,gf->tbg", v["x"], v["w_ih"])
    apart = biased and not CELLS[cell].same  # where the parts of a gate are not just added, each has its own bias
    if apart:
        gates = g.map(lambda e, a, b: a + b, gates, v["b_ih"])
    elif biased:
        gates = g.map(lambda e, a, b, c: a + (b + c), gates, v["b_ih"], v["b_hh"])
    call = Recurrence(**_loop(given, cell, reverse, projected, ragged), biased=apart)
    renamed = {"w": "w_hh", "bias": "b_hh", "projection": "w_hr"}
    operands = v | {"x": gates} | {new: v[old] for new, old in renamed.items() if old in v}
    steps, rows, size = call.steps, call.batch, call.size
    if steps == 1:
        made = once.forward(g, call, operands)
        made |= {"h_n": made["new_h"], "out": g.reshape(made["new_h"], (1, rows, size))}
    else:
        made = dict(zip(call.outputs, g.native(call, *(operands[name] for name in call.inputs)), strict=True))
        made["out"] = g.slice(made["h"], (0 if reverse else 1, 0, 0), (steps, rows, size))
        made["h_n"] = g.reshape(g.slice(made["h"], (0 if reverse else steps, 0, 0), (1, rows, size)), (rows, size))
    if "last_c" in made:
        made["c_n"] = made["last_c"]
    return [g.cast(made[name], m.dtype) for name, m in zip(_outputs(cell), outs, strict=True)]


# -- the gradient: attrs (cell, reverse, projected, ragged, names of the gradients that there are) --------------------


def _back_names(cell: str, reverse: bool, projected: bool, ragged: bool, given: tuple[str, ...]) -> tuple[str, ...]:
    kind = CELLS[cell]
    found = [*given, "w_hh", "w_hr" if projected else "", "h", "c" if kind.has_c else "", "saved" if kind.saved else "",
             "batch_sizes" if ragged else ""]
    return tuple(filter(None, found))


def _back_call(shapes: dict[str, Any], cell: str, reverse: bool, projected: bool, ragged: bool, given: tuple[str, ...]) -> RecurrenceGrad:
    times, rows, size = shapes["h"].shape
    hidden = shapes["w_hh"].shape[0] // CELLS[cell].gates
    return RecurrenceGrad(cell, times - 1, rows, hidden, size, shapes["h"].dtype, reverse, projected, ragged, "dout" in given)


def _back_meta(metas: Sequence[Meta], *attrs: Any) -> tuple[Meta, ...]:
    call = _back_call(dict(zip(_back_names(*attrs), metas, strict=True)), *attrs)
    return tuple(meta_of(shape, call.dtype, metas[0].device) for shape in call.outputs.values())


def _back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    given = dict(zip(_back_names(*attrs), inputs, strict=True))
    call = _back_call(given, *attrs)
    v = {name: x if name == "batch_sizes" else g.cast(x, call.dtype) for name, x in given.items()}
    v |= {new: v[old] for new, old in (("w", "w_hh"), ("projection", "w_hr")) if old in v}
    for name, width in (("dh", call.size), ("dc", call.hidden)):
        if name not in v:
            v[name] = g.const(0, call.dtype, (call.batch, width))
    if call.steps == 1:
        made = once.backward(g, call, v)
        return [made[name] for name in call.outputs]
    return g.native(call, *(v[name] for name in call.inputs))


_back = Structured("recurrent_layer_backward", meta=_back_meta, lower=_back_lower)
_back.differentiable = False  # see _through_steps


def _grad(ctx: Any, *grads: Any) -> Sequence[Any]:
    if local.trace.grad_enabled:
        return _through_steps(ctx, grads)
    cell, reverse, biased, projected, ragged = ctx.attrs
    names = _names(*ctx.attrs)
    v = dict(zip(names, ctx.inputs, strict=True)) | dict(zip(_outputs(cell), ctx.outputs, strict=True))
    found = {"d" + name.removesuffix("_n"): d for name, d in zip(_outputs(cell), grads) if d is not None and name in ("out", "h_n", "c_n")}
    attrs = (cell, reverse, projected, ragged, tuple(found))
    call = _back_call({name: v[name] for name in ("h", "w_hh")}, *attrs)
    saved = [v[name] for name in _back_names(*attrs)[len(found):]]
    made = dict(zip(call.outputs, _back(*found.values(), *saved, attrs=attrs), strict=True))
    dtype = v["x"].dtype
    dx = made["dx"].to(dtype)
    dz = dx if call.kind.same else made["dz"].to(dtype)
    before, after = (1, 0) if reverse else (0, 1)

    def weights_of_output() -> Any:
        output = v["saved"].narrow(2, 3 * call.hidden, call.hidden) * v["c"].narrow(0, after, call.steps).tanh()
        return einsum2(made["dh"].to(dtype), output.to(dtype), attrs=("tbp", "tbh", "ph"))

    rules: dict[str, Any] = {
        "x": lambda: einsum2(dx, v["w_ih"], attrs=("tbg", "gf", "tbf")), "h0": lambda: made["dh0"].to(dtype),
        "c0": lambda: made["dc0"].to(dtype), "w_ih": lambda: einsum2(dx, v["x"], attrs=("tbg", "tbf", "gf")),
        "w_hh": lambda: einsum2(dz, v["h"].narrow(0, before, call.steps).to(dtype), attrs=("tbg", "tbp", "gp")),
        "b_ih": lambda: made["dx"].sum((0, 1)).to(dtype), "w_hr": weights_of_output,
        "b_hh": lambda: made["dx" if call.kind.same else "dz"].sum((0, 1)).to(dtype)}  # fmt: skip
    return [rules[name]() if need else None for name, need in zip(names, ctx.needs)]


# -- step by step ----------------------------------------------------------------------------------------------------


def _steps(attrs: tuple, v: dict[str, Any]) -> dict[str, Any]:
    """The layer in ordinary operations: out, h_n, c_n."""
    cell, reverse, _, _, ragged = attrs
    gates = linear(v["x"], v["w_ih"], v["b_ih"]) if "b_ih" in v else linear(v["x"], v["w_ih"])
    state = tuple(v[name] for name in ("h0", "c0") if name in v)
    outs = []
    order = range(v["x"].shape[0])
    position = v["batch_sizes"].new_ones((v["x"].shape[1],)).cumsum(0) if ragged else None
    for t in reversed(order) if reverse else order:
        new = step(cell, gates.select(0, t), state, v["w_hh"], v.get("b_hh"), v.get("w_hr"))
        if ragged:
            runs = (position <= v["batch_sizes"].select(0, t)).unsqueeze(1)
            new = tuple(a.where(runs, b) for a, b in zip(new, state, strict=True))
        state = new
        outs.append(state[0].unsqueeze(0))
    return dict(zip(("out", "h_n", "c_n"), (cat(*(outs[::-1] if reverse else outs), attrs=(0,)), *state)))


def _through_steps(ctx: Any, grads: Sequence[Any]) -> Sequence[Any]:
    """The gradient under ``create_graph``: of the layer done again step by step."""
    tied = [t.view_as(t) if need else t for t, need in zip(ctx.inputs, ctx.needs)]
    made = _steps(ctx.attrs, dict(zip(_names(*ctx.attrs), tied, strict=True)))
    pairs = [(made[name], d) for name, d in zip(_outputs(ctx.attrs[0]), grads) if d is not None]
    places = [k for k, need in enumerate(ctx.needs) if need]
    found = engine.run([y for y, _ in pairs], [d for _, d in pairs], retain_graph=True, create_graph=True,
                       inputs=[tied[k] for k in places], accumulate=False, inner=len(places))
    given: list[Any] = [None] * len(tied)
    for position, k in enumerate(places):
        given[k] = found.get(position)
    return given


class _Layer(Structured):
    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], Any]:
        """All inputs (a second derivative goes through them again), and of the results those that users do not see."""
        return tuple(range(len(metas))), tuple(k for k, name in enumerate(_outputs(attrs[0])) if name in ("h", "c", "saved"))

    def cost(self, outs: Sequence[Meta]) -> int:
        return 8 * outs[0].numel


def _name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    mode, _, _, projected, ragged = attrs
    return "CatBackward0" if ragged else "MkldnnRnnLayerBackward0" if mode == "LSTM" and not projected else "StackBackward0"


recurrent_layer = _Layer("recurrent_layer", grad_name=_name, meta=_meta, lower=_lower, grad=_grad, autocast="low")
