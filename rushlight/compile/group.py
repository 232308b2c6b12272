"""Group: the values that one kernel computes, and where in them each iteration of its loops is."""
from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np

from .graph import Node, View
from .index import Index, Ix, axis_ix, plain_axes, replace_axis

__all__ = ["Group", "Groups"]


class Group:
    """A set of loops and the values stored from them.

    Attributes:
        kind: ``"loops"`` (pointwise values and reductions), or the kind of its anchor: ``"contract"`` (the rest is its
            epilogue), ``"scan"``, ``"scatter"``, ``"update"``, ``"host"``, ``"native"``, ``"part"`` (of a value that is made in
            parts: ``source``, or a piece of a border, at the places ``window``), ``"join"`` (no kernel: all parts are there).
        extents: the length of each axis; also of each dynamic axis (negative numbers).
        kept: axes of the results. ``reduced``: axes that reductions run over, inside.
        dynamic: what a dynamic axis stands for: the value of a node at an index (the gather that made it first).
        roots: values computed here that go to memory, with their index.
        reduces: reductions computed here, with their index (over kept axes) and that of their operand.
        demand: for each value wanted by the group's formulas, at which indices.
        domain: the index of the shape that the group was made for.
        ops: how many expression nodes have been put into it.
    """

    def __init__(self, number: int, kind: str, shape: Sequence[int], anchor: Node | None = None) -> None:
        self.number = number
        self.kind = kind
        self.anchor = anchor
        self.window: View | None = None
        self.source: Node | None = None
        self.extents: dict[int, int] = dict(enumerate(shape))
        self.kept: list[int] = list(range(len(shape)))
        self.reduced: list[int] = []
        self.dynamic: dict[int, tuple[Node, Node, Index]] = {}
        self.roots: dict[Node, Index] = {}
        self.reduces: dict[Node, tuple[Index, Index]] = {}
        self.demand: dict[Node, list[Index]] = {}
        self.ops = 0
        self.irregular = False  # contains guards, positions or gathers: cannot be an epilogue
        self._next = len(shape)
        self.domain: Index = self.identity()  # the group's first shape, in terms of its axes

    @property
    def axes(self) -> list[int]:
        return [*self.kept, *self.reduced]

    def identity(self) -> Index:
        return tuple(axis_ix(a) for a in self.kept)

    def new_axes(self, shape: Sequence[int]) -> list[int]:
        made = list(range(self._next, self._next + len(shape)))
        self._next += len(shape)
        self.extents.update(zip(made, shape, strict=True))
        return made

    def dynamic_axis(self, gather: Node, index: Index) -> int:
        """The axis that stands for ``gather``'s index value at ``index``."""
        for axis, (known, _, at) in self.dynamic.items():
            if known is gather and at == index:
                return axis
        axis = -1 - len(self.dynamic)
        self.dynamic[axis] = (gather, gather.inputs[1], index)
        self.extents[axis] = max(1, gather.inputs[0].shape[gather.attrs[0]])
        return axis

    def want(self, node: Node, index: Index) -> None:
        known = self.demand.setdefault(node, [])
        if index not in known:
            known.append(index)

    def split(self, axis: int, inner: int) -> None:
        """Cut an axis into an outer one and an inner one of ``inner`` positions, everywhere."""
        first, second = self.new_axes((self.extents[axis] // inner, inner))
        by = Ix(0, ((first, inner), (second, 1)))
        for axes in (self.kept, self.reduced):
            if axis in axes:
                at = axes.index(axis)
                axes[at: at + 1] = [first, second]
        del self.extents[axis]
        self.domain = replace_axis(self.domain, axis, by)
        self.roots = {n: replace_axis(i, axis, by) for n, i in self.roots.items()}
        self.reduces = {n: (replace_axis(i, axis, by), replace_axis(j, axis, by)) for n, (i, j) in self.reduces.items()}
        self.demand = {n: [replace_axis(i, axis, by) for i in known] for n, known in self.demand.items()}
        self.dynamic = {a: (g, n, replace_axis(i, axis, by)) for a, (g, n, i) in self.dynamic.items()}

    def covered(self, index: Index) -> set[int]:
        """The loop axes that an index moves with (through dynamic positions too)."""
        out: set[int] = set()
        stack = list(index)
        while stack:
            for axis, _ in stack.pop().terms:
                if axis < 0:
                    stack.extend(self.dynamic[axis][2])
                else:
                    out.add(axis)
        return out

    def evaluations(self, index: Index) -> int:
        """How many iterations there are that an index tells apart."""
        return math.prod(self.extents[a] for a in self.covered(index))

    def covers(self, index: Index, shape: Sequence[int]) -> str | None:
        """``"all"`` if the index visits each element of a value once over all axes, ``"kept"`` if over the kept axes."""
        axes = plain_axes(index, shape, self.extents)
        if axes is None:
            return None
        long = {a for a in self.axes if self.extents[a] != 1}
        if long == set(axes):
            return "all"
        return "kept" if self.reduced and {a for a in self.kept if self.extents[a] != 1} == set(axes) else None


class Groups:
    """All groups and the order between them, kept free of cycles."""

    def __init__(self) -> None:
        self.all: list[Group] = []
        self._makers: list[set[int]] = []  # of each group: the groups that it reads from
        # Bit j of row i: group j needs something that group i computes, directly or not.
        self._users = np.zeros((64, 1), np.uint64)

    def new(self, kind: str, shape: Sequence[int], anchor: Node | None = None) -> Group:
        group = Group(len(self.all), kind, shape, anchor)
        self.all.append(group)
        self._makers.append(set())
        if len(self.all) > len(self._users):
            size = 2 * len(self._users)
            grown = np.zeros((size, size // 64), np.uint64)
            grown[: self._users.shape[0], : self._users.shape[1]] = self._users
            self._users = grown
        return group

    def needs(self, user: Group, maker: Group) -> bool:
        return bool(int(self._users[maker.number, user.number >> 6]) >> (user.number & 63) & 1)

    def add_edge(self, user: Group, maker: Group) -> None:
        """``user`` reads what ``maker`` computes (or must run after it)."""
        if user is maker or maker.number in self._makers[user.number]:
            return
        self._makers[user.number].add(maker.number)
        if self.needs(user, maker):
            return
        assert not self.needs(maker, user), "cycle between groups"
        more = self._users[user.number].copy()
        more[user.number >> 6] |= _BITS[user.number & 63]
        # Makers are met after their users, so that hardly any of them has makers itself yet: a chain costs a row for each group.
        left = [maker.number]
        while left:
            number = left.pop()
            known = self._users[number]
            if (more & ~known).any():  # else those behind it have them too
                known |= more
                left += self._makers[number]

    def in_order(self, priority: dict[Group, int]) -> list[Group]:
        """Makers before users; among those that could run, the lowest priority number first."""
        count = [len(makers) for makers in self._makers]
        users: dict[int, list[Group]] = {}
        for group, makers in zip(self.all, self._makers, strict=True):
            for maker in makers:
                users.setdefault(maker, []).append(group)
        ready = [(priority.get(g, 0), g.number) for g in self.all if not count[g.number]]
        heapq.heapify(ready)
        out = []
        while ready:
            _, number = heapq.heappop(ready)
            out.append(self.all[number])
            for user in users.get(number, ()):
                count[user.number] -= 1
                if not count[user.number]:
                    heapq.heappush(ready, (priority.get(user, 0), user.number))
        assert len(out) == len(self.all)
        return out


_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
