"""Complex values as two real ones: their real and their imaginary parts, which kernels compute like everything else.

After this pass no value is complex. Where one is memory (a leaf, a result, what a host function takes or gives), it is real with a
last dimension of length 2, which are the same bytes. Everywhere else its two parts are values of their own, so that nothing
is stored in pairs in between. What has no form in parts is a host function, as before: it is handed complex arrays.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rushlight.compile.complexes import Complex, Transform
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, const, input_, inputs_of
from rushlight.compile.graph import Graph, HostCall, Node, View, renumber
from rushlight.compile.passes.complex_formulas import split
from rushlight.compile.passes.fourier import transform
from rushlight.compile.passes.legalise import Interpreted, Reference, live_nodes

__all__ = ["planes"]

Parts = tuple[Node, Node]


def planes(graph: Graph) -> Graph:
    """An equal graph without complex values; ``graph`` itself if it has none."""
    if not any(n.dtype.kind == "c" for n in graph.nodes):
        return graph
    return _Planes(graph).out


@dataclass(frozen=True)
class _Paired:
    """A function of complex arrays, on arrays of pairs: ``takes`` and ``gives`` are the complex types of what is complex, else None."""

    function: Callable[..., Any]
    takes: tuple[DType | None, ...]
    gives: tuple[DType | None, ...]

    def __call__(self, *arrays: np.ndarray) -> Any:
        whole = [x if d is None else np.ascontiguousarray(x).view(d.numpy)[..., 0] for x, d in zip(arrays, self.takes, strict=True)]
        made = self.function(*whole)
        several = made if isinstance(made, (tuple, list)) else (made,)
        return tuple(x if d is None else np.ascontiguousarray(x)[..., None].view(d.to_real().numpy)
                     for x, d in zip(several, self.gives, strict=True))


class _Planes:
    def __init__(self, graph: Graph) -> None:
        self.out = Graph()
        self.real: dict[Node, Node] = {}    # what a real value has become
        self.parts: dict[Node, Parts] = {}  # the parts of a complex value
        self.pairs: dict[Node, Node] = {}   # the same as pairs in memory, where they are
        self.halves: dict[Node, Parts] = {}  # real values whose last dimension holds two parts
        self.made: dict[Node, Node | Parts] = {}  # calls that have become other nodes
        for node in graph.leaves:
            self.out.line = node.line
            self._leaf(node)
        for node in live_nodes(graph):
            if node.kind != "leaf":
                self.out.line = node.line
                self._node(node)
        self.out.line = None
        self.out.results = [self._whole(r) if r.dtype.kind == "c" else self._plain(r) for r in graph.results]

    def _leaf(self, node: Node) -> None:
        if node.dtype.kind == "c":
            self._pair(node, self.out.leaf((*node.shape, 2), node.dtype.to_real()))
        else:
            self.real[node] = self.out.leaf(node.shape, node.dtype)

    def _pair(self, node: Node, pair: Node) -> None:
        self.pairs[node] = pair
        self.parts[node] = _part(self.out, pair, 0), _part(self.out, pair, 1)

    def _whole(self, node: Node) -> Node:
        """Pairs in memory, or a real value as it is."""
        if node.dtype.kind != "c":
            return self._plain(node)
        if node not in self.pairs:
            self.pairs[node] = self._together(self.parts[node])
        return self.pairs[node]

    def _together(self, parts: Parts) -> Node:
        return self.out.concat([self.out.reshape(p, (*p.shape, 1)) for p in parts], len(parts[0].shape))

    def _plain(self, node: Node) -> Node:
        if node not in self.real:
            self.real[node] = self._together(self.halves[node])
        return self.real[node]

    def _node(self, node: Node) -> None:
        is_complex = node.dtype.kind == "c" or any(i.dtype.kind == "c" for i in node.inputs)
        if node.kind == "item":
            self._item(node)
        elif node.kind in ("host", "native"):
            if is_complex or any(d.kind == "c" for _, d in node.attrs[0].results) or isinstance(node.attrs[0], Transform):
                self._call(node)
            else:
                self._same(node)
        elif is_complex:
            rule = _RULES.get(node.kind)
            made = rule(self, node) if rule is not None else None
            if made is None:
                self._hosted(node)
            elif isinstance(made, Node):
                self.real[node] = made
            else:
                self.parts[node] = made
        elif node.kind == "view" and node.inputs[0] in self.halves and (part := self._part_of(node)) is not None:
            self.real[node] = part
        else:
            self._same(node)

    def _same(self, node: Node) -> None:
        inputs = tuple(self._plain(i) for i in node.inputs)
        self.real[node] = self.out.node(node.kind, inputs, node.attrs, node.shape, node.dtype)

    def _part_of(self, node: Node) -> Node | None:
        """A view of one of two parts along the last dimension, if it is one."""
        view: View = node.attrs[0]
        if any(view.matrix[-1]) or view.offset[-1] not in (0, 1):
            return None
        return self.out.view(self.halves[node.inputs[0]][view.offset[-1]], View(view.shape, view.offset[:-1], view.matrix[:-1]))

    # -- calls -----------------------------------------------------------------------------------------------------
    def _call(self, node: Node) -> None:
        call, made = node.attrs[0], None
        if isinstance(call, Complex):
            made = _COMPLEX[call.what](self.out, *(self._given(i) for i in node.inputs))
        elif isinstance(call, Transform):
            made = transform(self.out, call, self._given(node.inputs[0]))
        if made is None:
            self._hosted(node)
        else:
            self.made[node] = made

    def _given(self, node: Node) -> tuple[Node, ...]:
        """The parts of a value; a real one has one."""
        return self.parts[node] if node.dtype.kind == "c" else (self._plain(node),)

    def _item(self, node: Node) -> None:
        """A result of a call, which has been made."""
        (call,) = node.inputs
        made = self.made.get(call)
        if made is None:
            result = self.out.node("item", (self.real[call],), node.attrs, *_stored(node.shape, node.dtype))
            if node.dtype.kind == "c":
                self._pair(node, result)
            else:
                self.real[node] = result
        elif isinstance(made, Node):
            self.real[node] = made
        elif node.dtype.kind == "c":
            self.parts[node] = made
        else:
            self.halves[node] = made

    def _hosted(self, node: Node) -> None:
        """A host call on complex arrays."""
        call = node.attrs[0] if node.kind in ("host", "native") else None
        function: Any = Interpreted(node.kind, node.attrs, node.shape, node.dtype) if call is None else \
            call.function if isinstance(call, HostCall) else Reference(call)
        results = ((node.shape, node.dtype),) if call is None else call.results
        takes = tuple(i.dtype if i.dtype.kind == "c" else None for i in node.inputs)
        paired = _Paired(function, takes, tuple(d if d.kind == "c" else None for _, d in results))
        stored = tuple(_stored(*result) for result in results)
        name = f"reference {node.kind}" if call is None else call.name
        made = self.out.node("host", tuple(self._whole(i) for i in node.inputs), (HostCall(paired, stored, name),), *stored[0])
        if call is not None:
            self.real[node] = made
        elif node.dtype.kind == "c":
            self._pair(node, self.out.node("item", (made,), (0,), *stored[0]))
        else:
            self.real[node] = self.out.node("item", (made,), (0,), *stored[0])

    # -- what has a form in parts: a real value, two parts, or None --------------------------------------------------
    def const(self, node: Node) -> Parts:
        value, real = complex(node.attrs[0]), node.dtype.to_real()
        return self.out.const(value.real, real), self.out.const(value.imag, real)

    def pointwise(self, node: Node) -> Node | Parts | None:
        operands: list[Node] = []
        inputs: dict[int, Any] = {}
        for k, i in enumerate(node.inputs):
            given = self._given(i)
            found = tuple(input_(len(operands) + place, part.dtype) for place, part in enumerate(given))
            operands.extend(given)
            inputs[k] = found if i.dtype.kind == "c" else found[0]
        made = split(node.attrs[0], inputs)
        if made is None:
            return None
        if not isinstance(made, tuple):
            return self._formula(made, operands, node)
        return self._formula(made[0], operands, node), self._formula(made[1], operands, node)

    def _formula(self, formula: Expr, operands: Sequence[Node], node: Node) -> Node:
        used = sorted(inputs_of(formula))
        place = [used.index(k) if k in used else 0 for k in range(len(operands))]
        return self.out.pointwise(renumber(formula, place), *(operands[k] for k in used), shape=node.shape)

    def both(self, node: Node) -> Parts | None:
        """The same for both parts: of sums and of what only moves elements."""
        if node.kind in ("reduce", "scan", "scatter") and node.attrs[-1 if node.kind == "scatter" else 0] not in ("add", None):
            return None
        made = []
        for k in (0, 1):
            attrs, real = node.attrs, node.dtype.to_real()
            if node.kind == "pad":
                attrs = (attrs[0], const(_component(attrs[1], k), real).attr)
            inputs = tuple(self.parts[i][k] if i.dtype.kind == "c" else self._plain(i) for i in node.inputs)
            if node.kind == "view":
                made.append(self.out.view(inputs[0], attrs[0]))
            elif node.kind == "reshape":
                made.append(self.out.reshape(inputs[0], node.shape))
            else:
                made.append(self.out.node(node.kind, inputs, attrs, node.shape, real))
        return made[0], made[1]

    def contract(self, node: Node) -> Parts:
        (spec,), real = node.attrs, node.dtype.to_real()
        (a, b), (c, d) = (tuple(None if _is_zero(x) else x for x in self.parts[i]) for i in node.inputs)

        def product(x: Node | None, y: Node | None) -> Node | None:
            return None if x is None or y is None else self.out.contract(x, y, spec, real)

        def total(x: Node | None, y: Node | None, sign: int) -> Node:
            if x is None or y is None:
                only = x if y is None else y if sign > 0 else self.out.map(lambda e, z: -z, y)
                return self.out.const(0.0, real, node.shape) if only is None else only
            return self.out.map(lambda e, p, q: p + q if sign > 0 else p - q, x, y)

        return total(product(a, c), product(b, d), -1), total(product(a, d), product(b, c), 1)


def _stored(shape: tuple[int, ...], dtype: DType) -> tuple[tuple[int, ...], DType]:
    return ((*shape, 2), dtype.to_real()) if dtype.kind == "c" else (shape, dtype)


def _part(g: Graph, pair: Node, k: int) -> Node:
    """One part of pairs, as a view."""
    n = len(pair.shape) - 1
    matrix = tuple(tuple(int(d == j) for j in range(n)) for d in range(n + 1))
    return g.view(pair, View(pair.shape[:-1], (*[0] * n, k), matrix))


def _component(value: Any, k: int) -> float:
    return complex(value).imag if k else complex(value).real


def _is_zero(x: Node) -> bool:
    while x.kind in ("view", "reshape"):
        x = x.inputs[0]
    formula = x.attrs[0] if x.kind == "pointwise" else None
    return x.kind == "const" and x.attrs[0] == 0 or formula is not None and formula.fn == "const" and formula.attr == 0


def _length(g: Graph, x: Parts) -> Node:
    return g.map(lambda e, a, b: e.hypot(a, b), *x)


def _direction(g: Graph, x: Parts) -> Parts:
    size = _length(g, x)
    made = [g.map(lambda e, a, s: e.where(e.eq(s, 0), s, a / e.where(e.eq(s, 0), e.const(1.0, s.dtype), s)), a, size) for a in x]
    return made[0], made[1]


_COMPLEX: Final[dict[str, Callable[..., Any]]] = {
    "complex": lambda g, x, y: (x[0], y[0]), "view_as_real": lambda g, x: x,
    "conj": lambda g, x: (x[0], g.map(lambda e, a: -a, x[1])), "abs": _length, "sgn": _direction}

_RULES: Final[dict[str, Callable[[_Planes, Node], Any]]] = {
    "const": _Planes.const, "pointwise": _Planes.pointwise, "contract": _Planes.contract,
    **dict.fromkeys(("view", "reshape", "pad", "fit", "concat", "weave", "gather", "scatter", "update", "reduce", "scan"), _Planes.both)}
