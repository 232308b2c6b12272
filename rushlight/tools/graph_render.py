"""A placed graph as SVG text, and any graph as Graphviz text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from .graph_layout import Layout, lay_out

if TYPE_CHECKING:
    from .graph import GraphNode

# kind: fill, line, corner radius
STYLES = {
    "op": ("#eef1f6", "#64748b", 6),
    "parameter": ("#fdeccf", "#b9770e", 2),
    "input": ("#dcecfb", "#2f6fab", 2),
    "output": ("#d9f2de", "#2e7d4f", 14),
    "folded": ("#ffffff", "#94a3b8", 6),
}
_FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"
_FONT_SIZE, _CHARACTER, _LINE, _MARGIN = 12, 7.25, 16, 16
_EDGE = "#7b8794"


def box_size(lines: Sequence[str]) -> tuple[float, float]:
    """Width and height of a box with these lines of text."""
    return max(44.0, max(map(len, lines)) * _CHARACTER + 18), len(lines) * _LINE + 10.0


def render_svg(nodes: Sequence[GraphNode], inputs: Sequence[Sequence[int]]) -> str:
    """The picture as one SVG document."""
    sizes = [box_size(node.lines) for node in nodes]
    layout = lay_out(inputs, sizes)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    area = f'width="{width:.1f}" height="{height:.1f}"'
    font = f'font-family="{_FONT}" font-size="{_FONT_SIZE}"'
    view = f'viewBox="{-_MARGIN} {-_MARGIN} {width:.1f} {height:.1f}"'
    arrow = 'id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {area} {view} {font}>',
        f'<defs><marker {arrow}><path d="M0 0.8 L8 4 L0 7.2 z" fill="{_EDGE}"/></marker></defs>',
        f'<rect x="{-_MARGIN}" y="{-_MARGIN}" {area} fill="white"/>',
        f'<g fill="none" stroke="{_EDGE}" stroke-width="1.2">',
    ]
    parts += [f'<path d="{path}" marker-end="url(#arrow)"/>' for path in _paths(layout, sizes)]
    parts.append("</g>")
    for place, box in enumerate(layout.shown):
        parts.append(
            _box(nodes[box], layout.x[place], layout.y[place], *sizes[box], repeated=layout.repeated[place])
        )
    parts.append("</svg>\n")
    return "\n".join(parts)


def _box(node: GraphNode, x: float, y: float, width: float, height: float, *, repeated: bool) -> str:
    fill, line, radius = STYLES[node.kind]
    dashed = ' stroke-dasharray="4 3"' if repeated or node.kind == "folded" else ""
    first = y - (len(node.lines) - 1) * _LINE / 2 + _FONT_SIZE * 0.35
    text = "".join(
        f'<text x="{x:.1f}" y="{first + i * _LINE:.1f}" text-anchor="middle" '
        f'fill="{"#1f2937" if i == 0 else "#4b5563"}">{escape(row)}</text>'
        for i, row in enumerate(node.lines)
    )
    again = " (shown again)" if repeated else ""
    return (
        f'<g class="{node.kind}"><title>{escape(node.tooltip)}{again}</title>'
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{radius}" fill="{fill}" stroke="{line}"{dashed}/>{text}</g>'
    )


def _paths(layout: Layout, sizes: Sequence[tuple[float, float]]) -> list[str]:
    """Edges as curves that leave and enter boxes upright, the ends of one box side by side."""
    starts = _ports(layout, sizes, entering=False)
    ends = _ports(layout, sizes, entering=True)
    paths = []
    for number, (upper, lower, bends) in enumerate(layout.edges):
        start = (starts[number], layout.y[upper] + sizes[layout.shown[upper]][1] / 2)
        end = (ends[number], layout.y[lower] - sizes[layout.shown[lower]][1] / 2)
        points = [start, *bends, end]
        path = f"M{start[0]:.1f} {start[1]:.1f}"
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            if abs(x0 - x1) < 0.5:
                path += f" L{x1:.1f} {y1:.1f}"
            else:
                middle = (y0 + y1) / 2
                path += f" C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
        paths.append(path)
    return paths


def _ports(layout: Layout, sizes: Sequence[tuple[float, float]], *, entering: bool) -> list[float]:
    """Where along its box each edge starts (or ends): in the order of where it comes from (or goes to)."""
    at_box: dict[int, list[tuple[float, int]]] = {}
    for number, (upper, lower, bends) in enumerate(layout.edges):
        box, other = (lower, upper) if entering else (upper, lower)
        towards = bends[-1 if entering else 0][0] if bends else layout.x[other]
        at_box.setdefault(box, []).append((towards, number))
    ports = [0.0] * len(layout.edges)
    for box, edges in at_box.items():
        edges.sort()
        step = min(14.0, (sizes[layout.shown[box]][0] - 16) / max(1, len(edges) - 1)) if entering else 0.0
        for i, (_, number) in enumerate(edges):
            ports[number] = layout.x[box] + (i - (len(edges) - 1) / 2) * step
    return ports


def render_dot(nodes: Sequence[GraphNode], inputs: Sequence[Sequence[int]]) -> str:
    """The graph in Graphviz' language."""
    lines = [
        "digraph {",
        "  rankdir=TB;",
        f'  node [shape=box, style="filled,rounded", fontname="DejaVu Sans Mono", fontsize={_FONT_SIZE}];',
        f'  edge [color="{_EDGE}", arrowsize=0.7];',
    ]
    for number, node in enumerate(nodes):
        fill, line, _ = STYLES[node.kind]
        style = ', style="filled,dashed"' if node.kind == "folded" else ""
        label = "\\n".join(_quoted(row) for row in node.lines)
        tooltip = _quoted(node.tooltip)
        lines.append(f'  n{number} [label="{label}", tooltip="{tooltip}", fillcolor="{fill}", color="{line}"{style}];')
    for box, sources in enumerate(inputs):
        lines += [f"  n{source} -> n{box};" for source in sources]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
