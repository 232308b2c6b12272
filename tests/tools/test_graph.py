"""Graph drawings: complete, readable (nothing overlaps, edges go down), bounded, and safe on deep graphs."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.tools import graph_layout
from rushlight.tools.graph import GraphDrawing, GraphNode, draw
from rushlight.tools.graph_render import box_size

SVG = "{http://www.w3.org/2000/svg}"


class Node:
    """The protocol of a gradient node."""

    def __init__(self, name, *inputs, variable=None):
        self._name, self.next_functions = name, tuple((node, 0) for node in inputs)
        if variable is not None:
            self.variable = variable

    def name(self):
        return self._name


class Tensor:
    """As much of a Tensor as a drawing looks at."""

    def __init__(self, shape=(), grad_fn=None, requires_grad=True):
        self.shape, self.dtype, self.grad_fn, self.requires_grad = shape, "torch.float32", grad_fn, requires_grad


def leaf(*shape):
    tensor = Tensor(shape)
    return tensor, Node("torch::autograd::AccumulateGrad", variable=tensor)


def small():
    weight, weight_node = leaf(3, 4)
    data, data_node = leaf(2, 3)
    product = Node("MmBackward0", data_node, weight_node)
    square = Node("MulBackward0", product, product)
    return weight, data, Tensor((), Node("MeanBackward1", square, None))


def test_boxes_names_and_shapes():
    weight, data, result = small()
    drawing = draw(result, {"fc.weight": weight})
    texts = {node.lines: node.kind for node in drawing.nodes}
    assert texts == {
        ("result", "scalar"): "output",
        ("Mean",): "op",
        ("Mul",): "op",
        ("Mm",): "op",
        ("leaf", "(2, 3)"): "input",
        ("fc.weight", "(3, 4)"): "parameter",
    }
    name = [node.lines[0] for node in drawing.nodes]
    edges = {(name[source], name[box]) for box, row in enumerate(drawing.inputs) for source in row}
    assert edges == {("leaf", "Mm"), ("fc.weight", "Mm"), ("Mm", "Mul"), ("Mul", "Mean"), ("Mean", "result")}
    assert sum(map(len, drawing.inputs)) == 6  # x * x takes x twice
    assert repr(drawing) == "GraphDrawing(input: 1, op: 3, output: 1, parameter: 1)"


def test_svg_and_dot_hold_every_box_and_edge(tmp_path):
    weight, _, result = small()
    drawing = draw(result, {'a<b>&"c"': weight})
    root = ET.fromstring(drawing.svg)
    boxes = [group for group in root.iter(SVG + "g") if group.get("class")]
    assert len(boxes) == 6
    assert 'a<b>&"c"' in [text.text for text in root.iter(SVG + "text")]
    assert sum("marker-end" in path.attrib for path in root.iter(SVG + "path")) == 6
    assert drawing.dot.count("->") == 6
    assert r'label="a<b>&\"c\"\n(3, 4)"' in drawing.dot
    assert drawing._repr_svg_() == drawing.svg
    for name, text in (("g.svg", drawing.svg), ("g.dot", drawing.dot), ("g.gv", drawing.dot)):
        drawing.save(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == text


def test_several_results_and_leaves_alone():
    weight, _, result = small()
    both = draw([result, Tensor((2, 4), result.grad_fn.next_functions[0][0])])
    assert sum(node.kind == "output" for node in both.nodes) == 2
    assert sum(node.kind == "op" for node in both.nodes) == 3
    alone = draw(weight, {"w": weight})
    assert [node.lines for node in alone.nodes] == [("w", "(3, 4)")]
    ET.fromstring(alone.svg)


def rectangles(svg):
    """(left, top, right, bottom) of every box."""
    found = []
    for group in ET.fromstring(svg).iter(SVG + "g"):
        if group.get("class"):
            x, y, width, height = (float(group.find(SVG + "rect").get(name)) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


@st.composite
def graphs(draw_from):
    """Acyclic graphs: box i takes data from boxes of lower number."""
    count = draw_from(st.integers(1, 25))
    inputs = [draw_from(st.lists(st.integers(0, max(0, i - 1)), max_size=3)) if i else [] for i in range(count)]
    lengths = draw_from(st.lists(st.integers(1, 30), min_size=count, max_size=count))
    return GraphDrawing([GraphNode("op", ("x" * length,), "") for length in lengths], inputs)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_nothing_overlaps_and_edges_go_down(drawing):
    boxes = rectangles(drawing.svg)
    assert len(boxes) >= len(drawing.nodes)
    by_place = sorted(boxes)
    for i, (left, top, right, bottom) in enumerate(by_place):
        for other_left, other_top, _, other_bottom in by_place[i + 1 :]:
            if other_left >= right - 0.2:
                break
            assert other_top >= bottom or other_bottom <= top
        assert left >= -0.1
    layout = graph_layout.lay_out(drawing.inputs, [box_size(node.lines) for node in drawing.nodes])
    drawn = [(layout.shown[upper], layout.shown[lower]) for upper, lower, _ in layout.edges]
    assert sorted(drawn) == sorted((source, box) for box, row in enumerate(drawing.inputs) for source in row)
    for upper, lower, bends in layout.edges:
        heights = [layout.y[upper], *(y for _, y in bends), layout.y[lower]]
        assert heights == sorted(set(heights))
    for path in re.findall(r'<path d="(M[^"]+)" marker-end', drawing.svg):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
        start, end = numbers[:2], numbers[-2:]
        assert any(abs(b - start[1]) < 0.2 and x0 - 0.2 <= start[0] <= x1 + 0.2 for x0, _, x1, b in boxes)
        assert any(abs(t - end[1]) < 0.2 and x0 - 0.2 <= end[0] <= x1 + 0.2 for x0, t, x1, _ in boxes)


def test_edges_that_need_not_cross_do_not():
    partners = [3, 0, 5, 1, 4, 2]
    inputs = [*([] for _ in partners), *([partner] for partner in partners), range(6, 12)]
    layout = graph_layout.lay_out(inputs, [(40, 20)] * len(inputs))
    upper_to_lower = sorted((layout.x[partner], layout.x[6 + i]) for i, partner in enumerate(partners))
    assert [lower for _, lower in upper_to_lower] == sorted(lower for _, lower in upper_to_lower)


def test_a_shared_weight_is_shown_again_beside_far_users():
    weight, weight_node = leaf(4, 4)
    state = Node("TanhBackward0", weight_node)
    for _ in range(10):
        state = Node("TanhBackward0", Node("MmBackward0", state, weight_node))
    drawing = draw(Tensor((), state), {"w": weight})
    assert sum(node.kind == "parameter" for node in drawing.nodes) == 1
    assert 5 < drawing.svg.count("(shown again)") < 10


def test_a_chain_of_100_000_operations():
    weight, node = leaf(3)
    for i in range(100_000):
        node = Node("AddBackward0", node) if i % 4 else Node("MulBackward0", node, node)
    drawing = draw(Tensor((), node), {"w": weight}, max_nodes=100)
    assert len(drawing.nodes) == 100
    folded = next(node for node in drawing.nodes if node.kind == "folded")
    assert folded.lines[0] == "… 99,903 more …"
    assert sum(int(line.split(" ×")[0].replace(",", "")) for line in folded.lines[1:]) == 99_903
    ET.fromstring(drawing.svg)
    while node.next_functions:  # taken apart by hand: Python frees nested objects with recursion
        node = node.next_functions[0][0]


def test_a_wide_graph_is_folded_too():
    weight, node = leaf(3)
    total = Node("StackBackward0", *(Node("MulBackward0", node) for _ in range(5000)))
    drawing = draw(Tensor((), total), {"w": weight}, max_nodes=20)
    assert len(drawing.nodes) == 20
    assert {"w", "Stack", "Mul", "result"} < {node.lines[0] for node in drawing.nodes}
    graph_layout.layers_of(drawing.inputs)


def test_long_edges_beyond_the_budget_go_straight(monkeypatch):
    monkeypatch.setattr(graph_layout, "_MOST_BENDS", 3)
    inputs = [[], [0], [1], [2], [3], [4, 1], [5, 2]]
    layout = graph_layout.lay_out(inputs, [(40, 20)] * len(inputs))
    assert sorted(len(bends) for _, _, bends in layout.edges) == [0, 0, 0, 0, 0, 0, 0, 3]


def test_bad_arguments():
    with pytest.raises(ValueError, match="no graph to draw"):
        draw(Tensor((), requires_grad=False))
    weight, _, result = small()
    with pytest.raises(TypeError, match="params must be"):
        draw(result, [weight])
    with pytest.raises(ValueError, match="max_nodes must be at least 4, got 1"):
        draw(result, max_nodes=1)
    with pytest.raises(ValueError, match=r"g\.png.*\.svg, \.dot, \.gv"):
        draw(result).save("g.png")


@pytest.mark.parametrize("package", ["torch", "rushlight"])
def test_a_network(package):
    torch = pytest.importorskip(package)
    if not callable(getattr(torch, "tensor", None)) or not hasattr(torch, "nn"):
        pytest.skip("the rooms above are not there")
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    loss = torch.nn.functional.cross_entropy(model(torch.rand(3, 8)), torch.tensor([0, 1, 1]))
    drawing = draw(loss, model)
    parameters = {node.lines for node in drawing.nodes if node.kind == "parameter"}
    assert parameters == {
        ("0.weight", "(4, 8)"), ("0.bias", "(4,)"), ("2.weight", "(2, 4)"), ("2.bias", "(2,)"),
    }  # fmt: skip
    assert "Relu" in {node.lines[0] for node in drawing.nodes}
    loss.backward()  # drawing leaves the graph as it was
    ET.fromstring(drawing.svg)
