"""From a group to its body: the rules of the anchors that are neither reductions nor contractions."""
from __future__ import annotations

from . import dtypes as dt
from . import index as ix
from .body import Body, Builder, Put, Test, Value, strides_of
from .expr import cast, const, count, e
from .fusion import Fusion
from .group import Group
from .index import axis_ix

__all__ = ["group_body"]


def group_body(group: Group, fusion: Fusion) -> tuple[Body, frozenset[int]]:
    """The body of a group, and the axes along which its iterations must run in order."""
    builder = Builder(group, fusion)
    builder.build()
    serial: frozenset[int] = frozenset()
    if group.kind == "scan":
        serial = _scan(group, builder)
    elif group.kind == "scatter":
        serial = _scatter(group, builder)
    elif group.kind == "update":
        _update(group, builder)
    elif group.kind == "part":
        _part(group, builder)
    return builder.body, serial


def _scan(group: Group, builder: Builder) -> frozenset[int]:
    """An accumulator that is stored at every position along the axis. Many steps follow one another, each rounded: sums and products
    of float32 are kept in float64, as PyTorch keeps them."""
    node = group.anchor
    assert node is not None
    op, axis = node.attrs
    x = builder.pull(node.inputs[0], group.domain)
    wide = dt.float64 if node.dtype is dt.float32 and op in ("add", "mul") else node.dtype.compute
    if node.dtype.kind == "b":
        op = "and" if op in ("min", "mul") else "or"
    running = builder.body.number(Value("running", wide, op=op, expr=cast(x, wide)))
    builder.body.puts.append(Put(node, builder.at(node, group.domain), cast(running, node.dtype)))
    return frozenset((group.kept[axis],))


def _scatter(group: Group, builder: Builder) -> frozenset[int]:
    """One position after the other along the axis where two may meet; the other axes are independent."""
    node = group.anchor
    assert node is not None
    axis, combine = node.attrs
    index = group.domain
    body = builder.body
    where = e.cast(builder.pull(node.inputs[1], index), dt.int64)
    source = builder.pull(node.inputs[2], index)
    size = node.shape[axis]
    good = e.ge(where, 0) & e.lt(where, count(size))
    body.tests.append(Test(good, 1, where, size))
    moved = -1 - len(body.dynamic)
    body.extents[moved] = max(1, size)
    body.dynamic[moved] = e.where(good, where, e.const(0, dt.int64))
    at = ix.address((*index[:axis], axis_ix(moved), *index[axis + 1:]), strides_of(builder.fusion, node))
    if node.dtype.kind == "b" and combine is not None:
        combine = "max" if combine in ("add", "max") else "min"
    if node.size:
        body.puts.append(Put(node, at, source, combine, good, True))
    return frozenset(a for a, _ in index[axis].terms)


def _update(group: Group, builder: Builder) -> None:
    node = group.anchor
    assert node is not None
    index = group.domain
    source = builder.pull(node.inputs[1], index)
    at = ix.address(ix.through_view(index, node.attrs[0]), strides_of(builder.fusion, node))
    builder.body.puts.append(Put(node, at, source))


def _part(group: Group, builder: Builder) -> None:
    """A part of a value that is made in parts: one of its inputs, or a piece of its border."""
    node, view = group.anchor, group.window
    assert node is not None and view is not None
    at = builder.at(node, ix.through_view(group.domain, view))
    source = const(node.attrs[1], node.dtype) if group.source is None else builder.pull(group.source, group.domain)
    builder.body.puts.append(Put(node, at, source))
