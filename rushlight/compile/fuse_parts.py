"""Values that are made in parts (padded, joined, interleaved) and where their parts are computed.

A part that has to be stored anyway is stored *as a part*: its memory is a window of the whole's memory, so the kernel that
computes it writes straight there and nothing is copied. That holds for a padded operand of a convolution, whose border is
all that is left to fill, for ``cat``, and for the phases of a strided convolution's input gradient. A part that cannot be
(a leaf, a result, one that other values share their memory with, a part of two wholes) is copied by a kernel of its own.

Whether it can is known only when all its users have been visited, so it is wished for first and granted later.
"""
from __future__ import annotations

from dataclasses import dataclass

from .flags import flags
from .fusion import Fusion
from .graph import Node, View
from .group import Group, Groups
from .index import Index
from .sizes import is_size

__all__ = ["PartRules"]

_STORED = ("pointwise", "contract", "reduce", "weave", "concat")


@dataclass
class _Wish:
    whole: Node
    view: View
    join: Group


class PartRules:
    """The part of fusion that places wholes and their parts; the rest (``fuse``) provides what is declared here."""

    groups: Groups
    out: Fusion
    users: dict[Node, dict[Group, None]]
    memory: dict[Node, dict[Group, None]]
    forced: set[Node]
    shared: set[Node]             # values whose memory a reshape or an update reads as its own
    wishes: dict[Node, _Wish]

    def _want(self, group: Group, node: Node, index: Index) -> None:
        raise NotImplementedError

    def _need(self, group: Group, node: Node) -> None:
        raise NotImplementedError

    def _is_hard(self, node: Node) -> bool:
        raise NotImplementedError

    def _settle(self, node: Node, group: Group) -> None:
        raise NotImplementedError

    def _place(self, node: Node) -> None:
        raise NotImplementedError

    def _inline(self, node: Node) -> None:
        raise NotImplementedError

    # -- wholes --------------------------------------------------------------------------------------------------
    def _concat(self, node: Node) -> None:
        axis, start = node.attrs[0], 0
        views = []
        for part in node.inputs:
            offset = tuple(start if d == axis else 0 for d in range(len(node.shape)))
            views.append(View(part.shape, offset, _identity(len(node.shape))))
            start += part.shape[axis]
        self._in_parts(node, views)

    def _weave(self, node: Node) -> None:
        self._in_parts(node, node.attrs[0])

    def _pad(self, node: Node) -> None:
        read_by_contraction = any(g.kind == "contract" for g in [*self.users.get(node, ()), *self.memory.get(node, ())])
        if flags.fuse_views and not self._is_hard(node) and not read_by_contraction:
            self._inline(node)
            return
        source = node.inputs[0]
        interior = View(source.shape, node.attrs[0], _identity(len(node.shape)))
        if not read_by_contraction or not self._can_wish(source, node):
            self._place(node)
            return
        join = self._in_parts(node, [interior])
        for view in _border(node):
            self._copied(None, node, view, join)

    def _in_parts(self, node: Node, views: list[View] | tuple[View, ...]) -> Group:
        join = self.groups.new("join", (), node)
        self._settle(node, join)
        for part, view in zip(node.inputs, views, strict=True):
            if self._can_wish(part, node):
                self.wishes[part] = _Wish(node, view, join)
                self._need(join, part)
            else:
                self._copied(part, node, view, join)
        return join

    def _copied(self, source: Node | None, whole: Node, view: View, join: Group) -> Group:
        group = self.groups.new("part", view.shape, whole)
        group.window, group.source = view, source
        self.groups.add_edge(join, group)
        if source is not None:
            self._want(group, source, group.identity())
        return group

    # -- parts ---------------------------------------------------------------------------------------------------
    def _can_wish(self, part: Node, whole: Node) -> bool:
        return bool(flags.fuse_parts) and part.kind in _STORED and part not in self.wishes and part not in self.forced and (
            whole not in self.forced and whole.size > 0)

    def _grant(self, part: Node) -> None:
        """Called when ``part`` has been placed: let it live in the whole's memory, or have it copied there."""
        wish = self.wishes[part]
        good = part in self.out.home and part not in self.out.alias and part not in self.shared and part not in self.forced
        if good and all(g.kind in ("contract", "join") for g in self.memory[part]):
            self.out.alias[part] = wish.whole
            self.out.window[part] = wish.view
            self.out.order.pop(part, None)
            if wish.whole in self.out.order:
                self.out.order[part] = self.out.order[wish.whole]
            return
        group = self._copied(part, wish.whole, wish.view, wish.join)
        self.groups.add_edge(group, self.out.home[self.out.origin(part)])


def _identity(n: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(j == d) for j in range(n)) for d in range(n))


def _border(node: Node) -> list[View]:
    """The places of a padded value that lie outside: for each dimension, what the dimensions before it leave. How wide they are is
    not asked where another size would change it."""
    low, source = node.attrs[0], node.inputs[0].shape
    rank = len(node.shape)
    out = []
    for d in range(rank):
        high = node.shape[d] - low[d] - source[d]
        varies = is_size(low[d]) or is_size(high)
        both = not varies and low[d] == high  # then the two ends are one piece: position = end * (low + size) + k
        ends = [(0, low[d], 2)] if both else [(0, low[d], 1), (low[d] + source[d], high, 1)]
        for start, width, count in ends:
            if not is_size(width) and not width:
                continue
            shape, offset = list(node.shape), [0] * rank
            shape[:d], offset[:d] = source[:d], low[:d]
            shape[d], offset[d] = width, start
            matrix = [list(row) for row in _identity(rank)]
            if count == 2:
                shape.insert(d, 2)
                for k, row in enumerate(matrix):
                    row.insert(d, low[d] + source[d] if k == d else 0)
            out.append(View(tuple(shape), tuple(offset), tuple(map(tuple, matrix))))
    return out
