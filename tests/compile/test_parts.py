"""Values made in parts: nothing is copied, nothing is multiplied by zero, and the values are right."""
from __future__ import annotations

import math

import numpy as np
import pytest

from rushlight.compile import dtypes as dt
from rushlight.compile.build import build
from rushlight.compile.flags import flags
from rushlight.compile.graph import ContractSpec, Graph, Node, View, Window
from rushlight.compile.program import Program, Segment
from rushlight.compile.reference.interpret import interpret
from rushlight.ops.convolution import conv_input_grad, convolution
from rushlight.record.meta import CPU, meta_of

F32 = dt.float32


def instructions(program: Program) -> list:
    return [i for step in program.steps if isinstance(step, Segment) for i in step.instructions]


def kinds(program: Program) -> list[str]:
    return sorted(i.name.split()[0] for i in instructions(program))


def agrees(g: Graph) -> Program:
    """Builds, runs, compares with the interpreter."""
    g.verify()
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]
    program = build(g, {})
    outs = [np.full(r.shape, np.nan, np.float32) for r in g.results]
    program.run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    for got, want in zip(outs, interpret(g, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)
    return program


def conv(g: Graph, x: Node, w: Node, padding: int) -> Node:
    (n, c, h, wide), (o, _, k, _) = x.shape, w.shape
    size = (h + 2 * padding - k + 1, wide + 2 * padding - k + 1)
    sizes = {"n": n, "c": c, "o": o, "x": size[0], "y": size[1], "u": k, "v": k}
    spec = ContractSpec(("n", "c", Window("x", "u", padding=padding), Window("y", "v", padding=padding)), ("o", "c", "u", "v"),
                        ("n", "o", "x", "y"), tuple(sorted(sizes.items())))
    return g.contract(x, w, spec)


def two_convolutions(padding: int) -> Graph:
    g = Graph()
    x, v, w = g.leaf((2, 3, 8, 9), F32), g.leaf((16, 3, 3, 3), F32), g.leaf((5, 16, 3, 3), F32)
    hidden = g.map(lambda e, t: e.max(t, 0.0), conv(g, x, v, padding))
    g.results = [conv(g, hidden, w, padding)]
    return g


def test_a_padded_operand_is_computed_in_place_by_the_convolution_before():
    program = agrees(two_convolutions(1))
    # The image is a leaf: padded by a copy. The hidden value: only its border is filled, one kernel for each dimension.
    assert kinds(program).count("part") == 2
    assert kinds(program).count("pointwise") == 1
    with flags.using(fuse_parts=0):
        other = agrees(two_convolutions(1))
    assert kinds(other).count("pointwise") == 2 and "part" not in kinds(other)
    assert other.arena_bytes > program.arena_bytes


def test_joined_values_are_computed_in_place():
    g = Graph()
    x, v, w = g.leaf((2, 3, 8, 9), F32), g.leaf((16, 3, 1, 1), F32), g.leaf((24, 3, 1, 1), F32)
    joined = g.concat([conv(g, x, v, 0), conv(g, x, w, 0)], 1)
    g.results = [g.reduce("add", g.map(lambda e, t: e.max(t, 0.0), joined), (0, 2, 3))]
    assert "part" not in kinds(agrees(g))


def test_what_cannot_live_in_the_whole_is_copied():
    g = Graph()
    x = g.leaf((4, 6), F32)
    y = g.map(lambda e, t: e.exp(t), x)
    joined = g.concat([x, y, y], 1)  # a leaf; a part of one whole; the same part again
    flat = g.reshape(y, (24,))       # which also lives on as rows of memory
    g.results = [g.reduce("add", joined, (0,)), g.map(lambda e, t: t * 2, flat), y]
    agrees(g)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [
    ((3, 3), (2, 2), (1, 1), (1, 1)), ((1, 1), (2, 2), (0, 0), (1, 1)), ((2, 2), (2, 2), (0, 0), (1, 1)), ((4, 5), (3, 2), (2, 0), (1, 1)),
    ((3, 2), (2, 4), (1, 1), (2, 2)), ((3, 3), (3, 2), (4, 3), (3, 1)), ((7, 7), (2, 2), (3, 3), (1, 1))])
def test_the_input_gradient_of_a_strided_convolution_multiplies_by_no_zero(kernel, stride, padding, dilation):
    size = (12, 15)
    attrs = (stride, padding, dilation, 1)
    out = meta_of((2, 16, *size), F32, CPU)
    forward = convolution.meta([out, meta_of((16, 16, *kernel), F32, CPU)], attrs)
    g = Graph()
    grad, w = g.leaf(forward.shape, F32), g.leaf((16, 16, *kernel), F32)
    dx = conv_input_grad.lower(g, [grad, w], (size, *attrs), [out])[0]
    g.results = [g.map(lambda e, t: e.max(t, 0.0), dx)]
    program = agrees(g)
    # A product for each pair of a gradient and a tap that falls inside the image (or into its padding).
    most = 2 * 2 * 16 * 16 * math.prod(kernel) * math.prod(-(-n // s) for n, s in zip(size, stride))
    assert 0 < sum(i.flops for i in instructions(program) if i.name.startswith("contract")) <= most
    assert "update" not in kinds(program)


def test_a_weave_inside_a_padding_inside_a_concatenation():
    g = Graph()
    a, b, w = g.leaf((1, 4, 3, 5), F32), g.leaf((1, 4, 3, 5), F32), g.leaf((6, 4, 3, 3), F32)
    parts = [g.map(lambda e, t: e.tanh(t), a), g.map(lambda e, t: t * t, b)]
    matrix = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 1))
    woven = g.weave(parts, [View((1, 4, 3, 5), (0, 0, k, 0), matrix) for k in (0, 1)], (1, 4, 6, 5))
    y = conv(g, woven, w, 1)
    g.results = [g.reduce("max", g.concat([y, woven], 1), (1,))]
    agrees(g)
