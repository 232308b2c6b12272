"""What strides leave over of an extent: a matter of the whole graph, not of each window.

The gradient of a pool covers the whole windows of an image, and lies in one kernel with what comes behind it where these are all of the
image. An odd height or width leaves a row or a column of zeros, and then it lies in memory by itself (``fuse.py``). Were that
decided pool by pool and dimension by dimension, there would be a plan for each pattern of odd and even extents, 64 of them for three
pools. So a graph has one of two forms: nothing is left over anywhere, and all values are what they are made from, or each is
made as if something were.
"""
from __future__ import annotations

from rushlight.compile.graph import Graph
from rushlight.compile.passes.legalise import live_nodes, rebuilt
from rushlight.compile.sizes import decision

__all__ = ["rests"]


def rests(graph: Graph) -> Graph:
    """An equal graph, without nodes of kind ``fit`` if none of them changes anything."""
    nodes = live_nodes(graph)
    left = [n.shape[d] - n.inputs[0].shape[d] for n in nodes if n.kind == "fit" for d in n.attrs[0]]
    if not left or not _nothing(*left):
        return graph
    return rebuilt(graph, nodes, lambda out, node, made: made[node.inputs[0]] if node.kind == "fit" else None)


@decision
def _nothing(*left: int) -> bool:
    return not any(left)
