"""When a reduction shares a kernel with what uses it, or with another reduction of the same data."""
from __future__ import annotations

import math
from collections.abc import Iterator

from .flags import flags
from .fuse_rules import memory_base, reduction_behind, spread_size
from .fuse_sizes import short_columns, short_rows
from .fusion import Fusion
from .graph import Graph, Node
from .group import Group, Groups
from .index import Index, axis_ix, plain_axes

__all__ = ["RowRules", "operands_of"]

_MAX_ROOTS = 12    # results of one kernel
_STEPS = 6         # of a chain of formulas that is looked through


class RowRules:
    """The part of fusion that places reductions; the rest (``fuse``) provides what is declared here."""

    groups: Groups
    out: Fusion
    users: dict[Node, dict[Group, None]]
    operands: set[Node]                             # of contractions and native calls
    origins: dict[Node, set[Node]]                  # see ``_may_share``
    columns: dict[tuple, list[tuple[Node, Group]]]  # reductions by their operand's shape and axes, with their groups

    def _want(self, group: Group, node: Node, index: Index) -> None:
        raise NotImplementedError

    def _is_hard(self, node: Node) -> bool:
        raise NotImplementedError

    def _may_host(self, group: Group, node: Node) -> bool:
        raise NotImplementedError

    def _settle(self, node: Node, group: Group) -> None:
        raise NotImplementedError

    def _is_positional(self, node: Node) -> bool:
        raise NotImplementedError

    def _summed_by_product(self, node: Node) -> bool:
        raise NotImplementedError

    def _is_summed_by_product(self, node: Node) -> bool:
        raise NotImplementedError

    def _expect_rows(self, node: Node) -> None:
        """Where a group uses one value for each row, and that value comes from a reduction of rows as long as the
        group's, let the group be ready for it: ``1 / sqrt(var + eps)`` is visited before the variance."""
        for group in self.users.get(node, ()):
            known = group.demand[node]
            if group.kind != "loops" or group.reduced or len(known) != 1:
                continue
            axes = plain_axes(known[0], node.shape, group.extents)
            long = [a for a in group.kept if group.extents[a] != 1]
            if axes is None or not set(axes) < set(long):
                continue
            rest = [a for a in long if a not in axes]
            reduction = reduction_behind(node, [group.extents[a] for a in rest])
            if reduction is not None and not self._is_summed_by_product(reduction) and self._rows_pay(reduction, group, multi=True):
                group.reduced = rest
                group.kept = [a for a in group.kept if a not in rest]

    def _reduce(self, node: Node) -> None:
        if self._summed_by_product(node):
            return
        group = self._join_rows(node, fresh=False) or self._join_columns(node) or self._join_rows(node, fresh=True)
        if group is None:
            x, axes = node.inputs[0], node.attrs[1]
            group = self.groups.new("loops", node.shape)
            group.reduced = group.new_axes([x.shape[a] for a in axes])
            self._add_reduce(node, group, group.identity())
            group.roots[node] = group.reduces[node][0]
        if self._is_hard(node) or any(g is not group for g in self.users.get(node, ())):
            group.roots[node] = group.reduces[node][0]
        if node in group.roots:
            self._settle(node, group)
        self.columns.setdefault((node.inputs[0].shape, node.attrs[1]), []).append((node, group))
        self._want(group, node.inputs[0], group.reduces[node][1])

    def _add_reduce(self, node: Node, group: Group, index: Index) -> None:
        axes = node.attrs[1]
        inner, outer = iter(group.reduced), iter(index)
        operand = tuple(axis_ix(next(inner)) if a in axes else next(outer) for a in range(len(node.inputs[0].shape)))
        group.reduces[node] = (index, operand)

    def _join_rows(self, node: Node, fresh: bool) -> Group | None:
        """Compute the reduction inside a group that uses its result once for each row. ``fresh``: one without loops inside."""
        if flags.fuse_rows and node.size:
            for user in self.users.get(node, ()):
                if user.kind == "loops" and self._may_host(user, node) and self._joins_rows(node, user, fresh):
                    return user
        return None

    def _joins_rows(self, node: Node, group: Group, fresh: bool) -> bool:
        known = group.demand[node]
        if len(known) != 1:
            return False
        index = known[0]
        axes = plain_axes(index, node.shape, group.extents)
        if axes is None:
            return False
        x = node.inputs[0]
        lengths = [x.shape[a] for a in node.attrs[1]]
        long_kept = {a for a in group.kept if group.extents[a] != 1}
        inside = bool(group.reduced) or set(axes) != long_kept
        if group.reduced:
            reduced = group.reduced
            if set(axes) != long_kept or [group.extents[a] for a in reduced] != lengths:
                return False
        elif inside:
            # The group loops over whole rows: its axes that the reduction's result does not move with are the reduced ones.
            reduced = [a for a in group.kept if a not in axes and group.extents[a] != 1]
            if [group.extents[a] for a in reduced] != [n for n in lengths if n != 1] or len(reduced) != len(lengths):
                return False
        if fresh == inside or not self._rows_pay(node, group, multi=inside) or not self._reads_alike(x, group):
            return False
        if fresh:
            group.reduced = group.new_axes(lengths)
        elif not group.reduced:
            group.reduced = reduced
            group.kept = [a for a in group.kept if a not in reduced]
        self._add_reduce(node, group, index)
        return True

    def _reads_alike(self, x: Node, group: Group) -> bool:
        """Whether an operand has something in common with what else the group reduces. Sums of unrelated values in one kernel (the biases
        of all layers, for an optimizer) save next to nothing, and keep all of these values until the last is there. That is so whatever
        their size: a threshold would be a plan of its own for each layer that a batch carries over it."""
        others = {n.inputs[0] for n in map(memory_base, group.demand) if n.kind == "reduce"} | {n.inputs[0] for n in group.reduces}
        here = self._sources(x)
        return all(here & self._sources(other) for other in others)

    def _sources(self, x: Node, anywhere: bool = False) -> set[Node]:
        """The values from which ``x`` is computed element by element, back to those in memory, for some steps. What a contraction reads
        will be there: the gradients of a residual network, each the next one's and something more, have nothing in common.
        ``anywhere``: whatever is in memory."""
        found, edge = {x}, [x]
        for _ in range(_STEPS):
            edge = [i for n in edge if n.kind in ("pointwise", "reshape", "view") and n not in self.operands
                    and (anywhere or not self._is_hard(n))
                    for i in n.inputs if spread_size(i) * 2 > x.size and not self._is_positional(i)]
            found.update(edge)
        return found

    def _may_share(self, here: set[Node], x: Node) -> bool:
        """Whether one of these may be among the sources of ``x``, whatever will be in memory: of a long loop hardly any is, and so it is
        looked up."""
        known = self.origins.get(x)
        if known is None:
            known = self.origins[x] = self._sources(x, True)
        return not known.isdisjoint(here)

    def _rows_pay(self, node: Node, group: Group, multi: bool) -> bool:
        """Whether rows are short enough to be read again from the cache, and many enough for all cores."""
        if not multi:
            return True
        x, axes = node.inputs[0], node.attrs[1]
        length = math.prod(x.shape[a] for a in axes)
        order = self.out.order.get(x) or tuple(range(len(x.shape)))
        total = x.size * x.dtype.itemsize
        return short_rows(length, node.size, total, x.dtype.itemsize) if order[-1] in axes else short_columns(length, node.size, total)

    def _join_columns(self, node: Node) -> Group | None:
        """Join a group that reduces over the same axes the same operand, or one that is computed from the same large values: the
        sums of a gradient and of its product with something are one pass over the gradient."""
        for group, at in self._column_groups(node):
            # Who reads the result at other places than it is computed at, as windows do, reads it from memory.
            here = all(index == at[0] for index in group.demand.get(node, ()))
            if here and len(group.roots) < _MAX_ROOTS and self._may_host(group, node) and group.covers(at[0], node.shape) == "kept":
                group.reduces[node] = at
                group.roots[node] = at[0]
                return group
        return None

    def _column_groups(self, node: Node) -> Iterator[tuple[Group, tuple[Index, Index]]]:
        """Groups that ``node`` may join, with its index there and that of its operand."""
        if not flags.fuse_siblings:
            return
        x, axes = node.inputs[0], node.attrs[1]
        for group in self.users.get(x, ()):
            if group.kind == "loops" and group.reduced:
                for index in group.demand[x]:
                    if [i for d, i in enumerate(index) if d in axes] == [axis_ix(a) for a in group.reduced]:
                        yield group, (tuple(i for d, i in enumerate(index) if d not in axes), index)
        here = self._sources(x)
        for other, group in self.columns.get((x.shape, axes), ()):
            if group not in self.users.get(node, ()) and all(
                    self._may_share(here, n.inputs[0]) and here & self._sources(n.inputs[0]) for n in group.reduces):
                yield group, group.reduces[other]


def operands_of(graph: Graph) -> set[Node]:
    """The values that contractions and native calls read, themselves or in another shape."""
    found = set()
    for node in (i for user in graph.nodes if user.kind in ("contract", "native") for i in user.inputs):
        while node.kind in ("view", "reshape"):
            node = node.inputs[0]
        found.add(node)
    return found
