"""A picture of the dynamic graph: what `loss.backward()` will walk, drawn without Graphviz.

    >>> drawing = draw(loss, dict(model.named_parameters()))  # doctest: +SKIP
    >>> drawing.save("graph.svg")  # doctest: +SKIP

Data flows down: parameters and inputs above the operations that use them, the result at the bottom. In a notebook a
drawing shows itself.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .graph_layout import layers_of
from .graph_render import render_dot, render_svg

_BACKWARD = re.compile(r"Backward\d*$")


@dataclass(frozen=True)
class GraphNode:
    """One box: `kind` is "op", "parameter", "input", "output" or "folded"; `lines` is its text."""

    kind: str
    lines: tuple[str, ...]
    tooltip: str


@dataclass
class GraphDrawing:
    """Boxes and, for each of them, the boxes that it takes data from."""

    nodes: list[GraphNode]
    inputs: list[list[int]]

    @cached_property
    def svg(self) -> str:
        """The picture as SVG text."""
        return render_svg(self.nodes, self.inputs)

    @cached_property
    def dot(self) -> str:
        """The graph in Graphviz' language, for its own layouts."""
        return render_dot(self.nodes, self.inputs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the name ends in `.svg`, or in `.dot` or `.gv`. ValueError for another ending."""
        path = Path(path)
        endings = {".svg": "svg", ".dot": "dot", ".gv": "dot"}
        if path.suffix.lower() not in endings:
            raise ValueError(f"cannot save a graph as {path.name!r}: the name must end in {', '.join(endings)}")
        path.write_text(getattr(self, endings[path.suffix.lower()]), encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        kinds = Counter(node.kind for node in self.nodes)
        return f"GraphDrawing({', '.join(f'{kind}: {count}' for kind, count in sorted(kinds.items()))})"


def draw(tensor: Any, params: Any = None, *, max_nodes: int = 500) -> GraphDrawing:
    """Draw the graph that computed `tensor`, from its `grad_fn` back to the leaves that require gradients.

    Args:
        tensor: a Tensor, or several in a list or tuple.
        params: names for the leaves: a dictionary from name to Tensor, or a Module.
        max_nodes: of a larger graph only the parts next to the leaves and next to the result are shown, and one box
            says what is between them.

    Raises:
        ValueError: nothing in `tensor` requires a gradient, so there is no graph; or `max_nodes` is below 4.
    """
    if max_nodes < 4:
        raise ValueError(f"max_nodes must be at least 4, got {max_nodes}")
    tensors = list(tensor) if isinstance(tensor, (list, tuple)) else [tensor]
    nodes, inputs = _collect(tensors, _names(params))
    if len(nodes) > max_nodes:
        nodes, inputs = _fold(nodes, inputs, max_nodes)
    return GraphDrawing(nodes, inputs)


def _names(params: Any) -> dict[int, str]:
    if params is None:
        return {}
    if hasattr(params, "named_parameters"):
        params = dict(params.named_parameters())
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a dictionary of named tensors or a Module, got {type(params).__name__}")
    return {id(value): str(name) for name, value in params.items()}


def _about(tensor: Any) -> tuple[str, str]:
    """The shape as a line of text, and a longer description."""
    shape = str(tuple(tensor.shape)) if len(tensor.shape) else "scalar"
    return shape, f"{shape} {str(tensor.dtype).removeprefix('torch.').removeprefix('rushlight.')}"


def _leaf(tensor: Any, names: Mapping[int, str], order: Counter[str]) -> GraphNode:
    shape, about = _about(tensor)
    if id(tensor) in names:
        name = names[id(tensor)]
        return GraphNode("parameter", (name, shape), f"{name} {about}")
    if type(tensor).__name__ == "Parameter":
        order["parameter"] += 1
        return GraphNode("parameter", ("parameter", shape), f"parameter {about}")
    order["input"] += 1
    return GraphNode("input", ("leaf", shape), f"leaf {about}")


def _collect(tensors: list[Any], names: Mapping[int, str]) -> tuple[list[GraphNode], list[list[int]]]:
    """All boxes and their inputs, by a walk that keeps its own stack: graphs are deeper than Python's."""
    nodes: list[GraphNode] = []
    inputs: list[list[int]] = []
    place: dict[int, int] = {}
    alive: list[Any] = []  # an id stays one object's only while the object lives
    counted: Counter[str] = Counter()
    stack: list[tuple[Any, int]] = []

    def box(node: GraphNode) -> int:
        nodes.append(node)
        inputs.append([])
        return len(nodes) - 1

    def visit(function: Any) -> int:
        key = id(function)
        if key not in place:
            alive.append(function)
            variable = getattr(function, "variable", None)
            if variable is not None:
                place[key] = visit_leaf(variable)
            else:
                name = str(function.name()).rpartition("::")[2]
                place[key] = box(GraphNode("op", (_BACKWARD.sub("", name) or name,), name))
                stack.append((function, place[key]))
        return place[key]

    def visit_leaf(variable: Any) -> int:
        key = id(variable)
        if key not in place:
            alive.append(variable)
            place[key] = box(_leaf(variable, names, counted))
        return place[key]

    for tensor in tensors:
        if tensor.grad_fn is None and not tensor.requires_grad:
            raise ValueError("there is no graph to draw: the tensor has no grad_fn and does not require a gradient")
        shape, about = _about(tensor)
        if tensor.grad_fn is None:
            visit_leaf(tensor)
            continue
        result = box(GraphNode("output", ("result", shape), f"result {about}"))
        inputs[result].append(visit(tensor.grad_fn))
        while stack:
            function, index = stack.pop()
            for source, _ in function.next_functions:
                if source is not None:
                    inputs[index].append(visit(source))
    return nodes, inputs


def _fold(
    nodes: list[GraphNode], inputs: list[list[int]], max_nodes: int
) -> tuple[list[GraphNode], list[list[int]]]:
    """The graph with the middle of its order of execution in one box; what stays is acyclic as it was."""
    layer = layers_of(inputs)
    order = sorted(range(len(nodes)), key=layer.__getitem__)
    keep = max_nodes - 1
    first, last = order[: keep // 2], order[len(order) - (keep - keep // 2) :]
    hidden = order[len(first) : len(order) - len(last)]
    kept = [*first, *last]
    place = {old: new for new, old in enumerate(kept)}
    folded = len(kept)
    operations = Counter(nodes[i].lines[0] for i in hidden if nodes[i].kind == "op")
    leaves = sum(nodes[i].kind in ("parameter", "input") for i in hidden)
    lines = [f"… {len(hidden):,} more …"]
    lines += [f"{count:,} × {name}" for name, count in operations.most_common(3)]
    if len(operations) > 3:
        lines.append(f"{sum(operations.values()) - sum(c for _, c in operations.most_common(3)):,} other operations")
    if leaves:
        lines.append(f"{leaves:,} leaves")
    new_nodes = [nodes[i] for i in kept] + [GraphNode("folded", tuple(lines), f"{len(hidden)} boxes not shown")]
    new_inputs: list[list[int]] = [[] for _ in new_nodes]
    for old, new in place.items():
        sources: Iterable[int] = (place.get(source, folded) for source in inputs[old])
        new_inputs[new] = _once(sources, folded)
    new_inputs[folded] = list(dict.fromkeys(place[s] for i in hidden for s in inputs[i] if s in place))
    return new_nodes, new_inputs


def _once(sources: Iterable[int], folded: int) -> list[int]:
    """The sources, with the folded box mentioned once."""
    result: list[int] = []
    for source in sources:
        if source != folded or folded not in result:
            result.append(source)
    return result
