"""The loop over time of a recurrent layer where there is only one time, in ordinary primitives.

A decoder that calls a layer for each step would pack the weights at every call, to use them once.
"""
from __future__ import annotations

from collections.abc import Mapping

from ..compile.expr import Expr, inputs_of
from ..compile.graph import Graph, Node, renumber
from ..compile.recurrence import Formulas, Recurrence, RecurrenceGrad, backward_formulas, forward_formulas

__all__ = ["backward", "forward"]

Nodes = Mapping[str, Node]


def forward(g: Graph, call: Recurrence, v: Nodes) -> dict[str, Node]:
    """What ``Recurrence`` gives, by name, from its operands; ``new_h``: the output alone."""
    rows, hidden = call.batch, call.hidden
    gates = g.einsum("bp,gp->bg", v["h0"], v["w"])
    if call.biased:
        gates = g.map(lambda e, a, b: a + b, gates, v["bias"])
    given = _parts(g, "x", g.reshape(v["x"], (rows, call.gates)), hidden) | _parts(g, "z", gates, hidden)
    given |= {new: v[old] for new, old in (("h_old", "h0"), ("c_old", "c0")) if old in v}
    made = _evaluated(g, forward_formulas(call.cell, call.dtype), given)
    h = g.einsum("bh,ph->bp", made["h"], v["projection"]) if call.projected else made["h"]
    out = {"new_h": h, "h": _states(g, call, v["h0"], h)}
    if call.kind.has_c:
        out |= {"c": _states(g, call, v["c0"], made["c"]), "last_c": made["c"]}
    if call.kind.saved:
        out["saved"] = _joined(g, [made[f"s{k}"] for k in range(call.kind.saved)])
    return out


def backward(g: Graph, call: RecurrenceGrad, v: Nodes) -> dict[str, Node]:
    """What ``RecurrenceGrad`` gives, by name, from its operands."""
    rows, hidden, size = call.batch, call.hidden, call.size
    dh = v["dh"]
    if call.driven:
        dh = g.map(lambda e, a, b: a + b, dh, g.reshape(v["dout"], (rows, size)))
    given = {"dh": g.einsum("bp,ph->bh", dh, v["projection"]) if call.projected else dh}
    if call.kind.saved:
        given |= _parts(g, "s", g.reshape(v["saved"], (rows, call.kind.saved * hidden)), hidden)
    if call.kind.has_c:
        given["dc"] = v["dc"]
    for name in ("h", "c"):
        if name in v:
            first, second = (g.reshape(g.slice(v[name], (k, 0, 0), (1, *v[name].shape[1:])), v[name].shape[1:]) for k in (0, 1))
            given |= {name: first, name + "_old": second} if call.reverse else {name: second, name + "_old": first}
    made = _evaluated(g, backward_formulas(call.cell, call.dtype), given)
    out = {name: _joined(g, [made[f"{name}{k}"] for k in range(call.kind.gates)]) for name in (("dx",) if call.kind.same else ("dx", "dz"))}
    through = g.reshape(out["dx" if call.kind.same else "dz"], (rows, call.gates))
    out["dh0"] = g.einsum("bg,gp->bp", through, v["w"])
    if "dh_old" in made:
        out["dh0"] = g.map(lambda e, a, b: a + b, out["dh0"], made["dh_old"])
    if call.kind.has_c:
        out["dc0"] = made["dc_old"]
    if call.projected:
        out["dh"] = g.reshape(dh, (1, rows, size))
    return out


def _parts(g: Graph, name: str, x: Node, hidden: int) -> dict[str, Node]:
    rows, width = x.shape
    return {f"{name}{k}": g.slice(x, (0, k * hidden), (rows, hidden)) for k in range(width // hidden)}


def _evaluated(g: Graph, formulas: Formulas, given: Nodes) -> dict[str, Node]:
    return {name: _value(g, expr, formulas.inputs, given) for name, expr in formulas.outputs.items()}


def _value(g: Graph, expr: Expr, names: tuple[str, ...], given: Nodes) -> Node:
    used = sorted(inputs_of(expr))
    places = [used.index(k) if k in used else 0 for k in range(len(names))]
    return g.pointwise(renumber(expr, places), *(given[names[k]] for k in used))


def _joined(g: Graph, parts: list[Node]) -> Node:
    made = g.concat(parts, 1)
    return g.reshape(made, (1, *made.shape))


def _states(g: Graph, call: Recurrence, old: Node, new: Node) -> Node:
    parts = [g.reshape(x, (1, *x.shape)) for x in ((new, old) if call.reverse else (old, new))]
    return g.concat(parts, 0)
