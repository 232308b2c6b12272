"""Where a long sum is put into memory: the gradient of a bias that a loop used in each of its turns is a sum of as many terms.

One kernel for all of them would be another one for each number of turns. So a sum of many terms passes through memory every few
terms, counted from its end: the kernels in between are alike, for one sum and for all lengths. What is left at its beginning is done
in halves of that, so that a handful of kernels serves all lengths. Each term is rounded as it is added: bits do not depend on it.
"""
from __future__ import annotations

from .graph import Graph, Node

__all__ = ["stations"]

_TERMS = 8  # that a kernel adds to what is in memory


def stations(graph: Graph) -> set[Node]:
    """The values of sums ``((a + b) + c) + ...`` that are to be in memory."""
    users: dict[Node, int] = dict.fromkeys(graph.results, 2)
    for node in graph.nodes:
        for source in node.inputs:
            users[source] = users.get(source, 0) + 1
    found: set[Node] = set()
    seen: set[Node] = set()
    for node in reversed(graph.nodes):
        if node not in seen and _is_sum(node):
            chain = [node]  # the last addition first
            while (before := next((x for x in chain[-1].inputs if users[x] == 1 and _is_sum(x)), None)) is not None:
                chain.append(before)
            seen.update(chain)
            if len(chain) > _TERMS:
                found.update(_ends(chain))
    return found


def _ends(chain: list[Node]) -> list[Node]:
    """What the kernels for a chain of additions begin with, without the first of all."""
    out, at, step = [], 0, _TERMS
    while at < len(chain):
        while step > len(chain) - at:
            step //= 2
        at += step
        out.append(at)
    return [chain[k] for k in out[:-1]]


def _is_sum(node: Node) -> bool:
    if node.kind != "pointwise" or len(node.inputs) != 2:
        return False
    expr = node.attrs[0]
    return expr.fn == "add" and all(x.fn == "input" for x in expr.args)
