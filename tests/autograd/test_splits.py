"""Views that one call gives share a graph node, as in PyTorch, and are one recorded operation."""
from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import rushlight
from rushlight.record import counters, flush
from rushlight.record.trace import local

theirs = pytest.importorskip("torch")


def both(program):
    """What a program gives in both packages."""
    return program(rushlight), program(theirs)


@st.composite
def cuts(draw):
    """A shape, a dimension of it, and how it is cut there."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple))
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[dim]
    bounds = sorted(draw(st.lists(st.integers(0, n), max_size=3)))
    sizes = [b - a for a, b in zip([0, *bounds], [*bounds, n])]
    return shape, draw(st.sampled_from([("split", sizes, dim), ("split", draw(st.integers(1, n + 1)), dim), ("unbind", dim),
                                        ("chunk", draw(st.integers(1, 12)), dim), ("unsafe_chunk", 2, dim)]))


@settings(max_examples=20, deadline=None)
@given(cuts(), st.data())
def test_gradients_of_pieces(cut, data):
    shape, (name, *arguments) = cut
    seed = np.arange(1, np.prod(shape) + 1, dtype=np.float64).reshape(shape)
    used = data.draw(st.lists(st.integers(0, 4), max_size=4))

    def program(torch):
        found = []
        for _ in range(3):  # recorded anew, from memory, replayed
            x = torch.tensor(seed, requires_grad=True)
            pieces = getattr(x.exp(), name)(*arguments)
            loss = x.sum() + sum([(pieces[k] ** (k + 2)).sum() for k in used if k < len(pieces)])
            first, = torch.autograd.grad(loss, x, create_graph=True)
            second, = torch.autograd.grad(first.sum(), x, retain_graph=True) if first.requires_grad else (first,)
            loss.backward()
            found.append([[tuple(p.shape) for p in pieces], [p.tolist() for p in pieces], first.tolist(), second.tolist(), x.grad.tolist()])
        return found
    for ours, wanted in zip(*both(program)):
        assert ours[0] == wanted[0]
        for a, b in zip(ours[1:], wanted[1:]):
            for row, other in zip(a, b):
                np.testing.assert_allclose(row, other, rtol=1e-12)


def test_pieces_share_a_node():
    def program(torch):
        x = torch.ones(4, 6, requires_grad=True) * 2
        said = []
        for pieces in (x.split(2, 1), x.split([1, 5], 1), x.chunk(3), x.unbind(1), x.split(6, 1)):
            nodes = [p.grad_fn for p in pieces]
            said.append((nodes[0].name(), all(n is nodes[0] for n in nodes), [p.output_nr for p in pieces],
                         (pieces[-1] * 1).grad_fn.next_functions[0][1]))
        return said
    ours, wanted = both(program)
    assert ours == wanted


def test_hooks_of_the_node_see_all_pieces():
    def program(torch):
        said = []

        def see(grads):
            said.append([None if g is None else g.tolist() for g in grads])
        x = torch.arange(6.0, requires_grad=True)
        a, b, c = (x * 1).split(2)
        a.grad_fn.register_prehook(see)
        a.grad_fn.register_hook(lambda grads, outs: said.append((len(grads), [g is None for g in outs])))
        b.register_hook(lambda g: g * 10)
        ((a * 2).sum() + (b * 3).sum()).backward()
        return said, x.grad.tolist()
    ours, wanted = both(program)
    assert ours == wanted


def test_pieces_are_not_written_but_those_of_unsafe_calls():
    def program(torch):
        x = torch.ones(4, requires_grad=True) * 2
        a, _ = x.chunk(2)
        with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
            a.mul_(2)
        c, d = (x * 3).unsafe_chunk(2)
        c.mul_(5)
        return c.tolist(), torch.autograd.grad(c.sum() + d.sum(), x)[0].tolist()
    ours, wanted = both(program)
    assert ours == wanted


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("cut", [lambda x: x.chunk(4, 1), lambda x: x.unbind(1), lambda x: x.split([1, 2, 9], 1)])
def test_a_split_is_one_operation(cut, grad):
    x = rushlight.ones(3, 12, requires_grad=True)
    flush()
    for step in range(4):
        with rushlight.set_grad_enabled(grad):
            y = x * 2.0
            nodes, before, values = local.trace.nodes, local.trace.node, len(local.trace.values)
            pieces = cut(y)
        assert local.trace.node.parent is before and len(local.trace.values) - values == len(pieces)
        assert step < 2 or local.trace.nodes == nodes
        assert all((p.grad_fn is not None) is grad for p in pieces)
        assert pieces[1].storage_offset() == pieces[0].shape.numel() // 3 and (pieces[0]._base is y) is grad
        del y, pieces
        flush()
    assert local.trace.node is local.trace.root


def test_a_piece_of_a_function_that_is_remembered_as_a_whole():
    """``glu`` and the like cut their argument inside."""
    def halves(x):
        a, b = x.chunk(2, 1)
        return a * b
    layer = rushlight.nn.Linear(4, 8)
    losses = []
    for _ in range(5):
        built = counters.programs_built
        losses.append(halves(layer(rushlight.ones(2, 4))).square().sum())
        losses[-1].backward()
        layer.zero_grad()
        value = losses[-1].item()
    assert counters.programs_built == built and value == pytest.approx(losses[0].item(), rel=1e-5)  # the first run is interpreted
