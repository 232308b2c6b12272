"""Grouping: which values go to memory, and which kernel computes what.

Nodes are visited users before makers. A value that nobody needs in memory is computed where it is used (*inlined*) if
that repeats no dear work; else it becomes a *root* of a group: of one of the groups that use it where that group visits
each of its elements once, or of a group that reads the same data, or of a new one. Every placement keeps the order between
groups free of cycles (``Groups.add_edge``), so that any sequence of decisions gives a program that can run.

A reduction joins the group that uses it when the group's loops are the reduction's kept axes, or its kept and reduced
axes together: softmax, layer norm and their gradients become one *row program*.
"""
from __future__ import annotations

from collections.abc import Container, Iterable

from . import index as ix
from .costs import CHEAP, node_cost
from .flags import flags
from .fuse_parts import PartRules
from .fuse_rows import RowRules, operands_of
from .fuse_rules import (
    contiguous_axis,
    is_irregular,
    iterations,
    memory_base,
    native_operand,
    product_behind,
    reshaped,
    spread_size,
    through_pad,
    varying,
)
from .fuse_sizes import MANY, few_for_many, is_few, many_as_large, repeats
from .fuse_sums import stations
from .fuse_tallies import TallyRules
from .fusion import Fusion
from .graph import Graph, Node
from .group import Group, Groups
from .index import CannotSplit, Index, axis_ix
from .passes.layout import reshaped_order
from .sizes import is_size

__all__ = ["Fusion", "fuse"]

_MAX_OPS = 300     # expression nodes in one kernel
_MAX_ROOTS = 12    # results of one kernel


def fuse(graph: Graph, order: dict[Node, tuple[int, ...]], alone: Container[Node] = ()) -> Fusion:
    """Group the nodes of a legalised graph. ``order``: wanted physical orders (row-major where absent); ``alone``: contractions
    into which nothing is fused."""
    return _Fuser(graph, order, alone).run()


class _Fuser(TallyRules, RowRules, PartRules):
    def __init__(self, graph: Graph, order: dict[Node, tuple[int, ...]], alone: Container[Node]) -> None:
        self.graph, self.alone = graph, alone
        self.groups = Groups()
        self.out = Fusion(self.groups, order=order)
        self.users: dict[Node, dict[Group, None]] = {}     # groups whose formulas want a value
        self.memory: dict[Node, dict[Group, None]] = {}    # groups that need it in memory
        self.forced: set[Node] = set(graph.results)        # must be in memory whoever uses it
        # An extent that a stride does not divide cannot be split into windows and their elements, as one could that it divides.
        self.forced.update([node.inputs[0] for node in graph.nodes if node.kind == "fit"])
        self.shared = set()
        self.wishes = {}
        self.columns = {}
        self.summing = {}
        self.copies: dict[Node, list[Node]] = {}           # a value -> copies of it that are results, until it is visited
        self.items: dict[Node, list[Node]] = {}
        self.reduced = {node.inputs[0] for node in graph.nodes if node.kind == "reduce"}
        self.operands = operands_of(graph)
        self.origins = {}
        self.stations = stations(graph)
        self._positional: dict[Node, bool] = {}
        for node in graph.nodes:  # operands first
            self._is_positional(node)
        for node in graph.results:
            order.pop(node, None)

    def run(self) -> Fusion:
        for node in reversed(self.graph.nodes):
            for copy in self.copies.pop(node, ()):
                self._place_copy(copy, self.users.get(node, ()))
            if node in self.users or node in self.memory or node in self.forced:
                getattr(self, "_" + node.kind)(node)
                if node in self.wishes:
                    self._grant(node)
        for node, groups in self.users.items():
            if self.out.stored(node):
                home = self.out.home.get(self.out.origin(node))
                self.out.readers.setdefault(self.out.origin(node), []).extend(g for g in groups if g is not home)
        for node, groups in self.memory.items():
            self.out.readers.setdefault(self.out.origin(node), []).extend(groups)
        return self.out

    # -- bookkeeping ---------------------------------------------------------------------------------------------
    def _want(self, group: Group, node: Node, index: Index) -> None:
        group.want(node, index)
        self.users.setdefault(node, {})[group] = None

    def _need(self, group: Group, node: Node) -> None:
        self.memory.setdefault(node, {})[group] = None

    def _is_hard(self, node: Node) -> bool:
        return node in self.forced or bool(self.memory.get(node))

    def _everybody(self, node: Node) -> list[Group]:
        return [*self.users.get(node, ()), *self.memory.get(node, ())]

    def _settle(self, node: Node, group: Group) -> None:
        """``node`` is stored by ``group``; whoever wants it comes later."""
        self.out.home[node] = group
        for user in self._everybody(node):
            self.groups.add_edge(user, group)

    def _may_host(self, group: Group, node: Node) -> bool:
        """Whether ``group`` may compute ``node`` for everybody else without waiting for itself."""
        return group not in self.memory.get(node, ()) and not any(
            self.groups.needs(group, other) for other in self._everybody(node) if other is not group)

    def _push_inputs(self, node: Node, group: Group, index: Index) -> None:
        """The operands that computing ``node`` at ``index`` wants."""
        kind = node.kind
        if kind in ("pointwise", "copy"):
            for source in node.inputs:
                self._want(group, source, index)
        elif kind == "gather":
            x, at = node.inputs
            axis = node.attrs[0]
            moved = axis_ix(group.dynamic_axis(node, index))
            self._want(group, x, (*index[:axis], moved, *index[axis + 1:]))
            self._want(group, at, index)
        elif kind == "view":
            self._want(group, node.inputs[0], ix.through_view(index, node.attrs[0]))
        elif kind == "pad":
            self._want(group, node.inputs[0], through_pad(index, node.attrs[0]))
        elif kind == "fit":
            self._want(group, node.inputs[0], index)
        elif kind == "reshape":
            self._want(group, node.inputs[0], reshaped(node, group, index))

    def _put(self, node: Node, group: Group, index: Index) -> None:
        """Let ``group`` compute ``node`` at ``index``."""
        group.ops += node_cost(node)
        if is_irregular(node):
            group.irregular = True
        self._push_inputs(node, group, index)

    # -- placing a stored value ----------------------------------------------------------------------------------
    def _place(self, node: Node) -> None:
        """Make a pointwise-like node a root of a group."""
        group = None if node in self.stations else self._host_among_users(node) or self._sibling(node)
        if group is not None:
            index = group.demand[node][0] if node in group.demand else self._sibling_index(node, group)
        else:
            group = self.groups.new("loops", node.shape)
            index = group.identity()
        group.roots[node] = index
        self._settle(node, group)
        try:
            self._put(node, group, index)
        except CannotSplit:  # only reshapes: they are tried in a group of their own
            del group.roots[node], self.out.home[node]
            raise

    def _host_among_users(self, node: Node) -> Group | None:
        if not flags.fuse_pointwise or node.kind in ("reshape", "const"):
            return None
        product = flags.fuse_contract and product_behind(node)
        for group in self._by_sums(self.users.get(node, ())):
            known = group.demand[node]
            if product and (group.kind == "loops" and (group.reduced or group.irregular or group.dynamic) or _wants_many(group, node)):
                continue  # in a group of its own it can become the contraction's epilogue
            if (group.kind in ("loops", "contract") and len(known) == 1 and len(group.roots) < _MAX_ROOTS
                    and group.ops + node_cost(node) <= _MAX_OPS
                    and not (group.kind == "contract" and (is_irregular(node) or not self._leaves_whole(node, group)))
                    and group.covers(known[0], node.shape) and self._may_host(group, node) and self._may_store(group, node)):
                return group
        return None

    def _sibling(self, node: Node) -> Group | None:
        """A group over the same domain that reads one of the node's operands at the same place."""
        if not flags.fuse_siblings or node.kind != "pointwise" or node.size == 0:
            return None
        for source in node.inputs:
            if not is_size(node.size) and _share_numbers(source, node):
                continue
            for group in self.users.get(source, ()):
                if (group.kind == "loops" and not group.reduced and len(group.roots) < _MAX_ROOTS
                        and node not in group.demand  # at another place, which is not where it would be computed
                        and group.ops + node_cost(node) <= _MAX_OPS
                        and any(group.covers(i, node.shape) == "all" for i in group.demand[source])
                        and self._may_host(group, node)):
                    if is_size(node.size) and _share_numbers(source, node):  # asked where there is such a group, not of every value
                        break
                    return group
        return None

    def _sibling_index(self, node: Node, group: Group) -> Index:
        return next(i for source in node.inputs if source in group.demand and not _share_numbers(source, node)
                    for i in group.demand[source] if group.covers(i, node.shape) == "all")

    # -- pointwise-like nodes ------------------------------------------------------------------------------------
    def _leaf(self, node: Node) -> None:
        return

    def _const(self, node: Node) -> None:
        if self._is_hard(node):
            self._place(node)

    def _copy(self, node: Node) -> None:
        if node.attrs[0] == "result":
            self.copies.setdefault(node.inputs[0], []).append(node)
        else:
            self._place_copy(node, ())

    def _place_copy(self, node: Node, readers: Iterable[Group]) -> None:
        """Copy in a group that reads all of the value anyway, as an update reads a gradient that is a result too; else in a new one."""
        for group in readers if flags.fuse_siblings else ():
            index = next((i for i in group.demand[node.inputs[0]] if group.covers(i, node.shape) == "all"), None)
            if index is not None and group.kind == "loops" and not group.reduced and len(group.roots) < _MAX_ROOTS:
                break
        else:
            group = self.groups.new("loops", node.shape)
            index = group.identity()
        group.roots[node] = index
        self._settle(node, group)
        self._put(node, group, index)

    def _pointwise(self, node: Node) -> None:
        if flags.fuse_rows and flags.fuse_pointwise:
            self._expect_rows(node)
        if not flags.fuse_pointwise or self._is_hard(node) or node in self.stations or not self._inlines(node):
            self._place(node)
        else:
            self._inline(node)

    _gather = _pointwise

    def _inline(self, node: Node) -> None:
        for group in self.users[node]:
            for k in range(len(group.demand[node])):  # a reshape may split axes, and so rewrite the list
                self._put(node, group, group.demand[node][k])

    def _inlines(self, node: Node) -> bool:
        """Whether computing the value where it is used repeats no dear work."""
        users = list(self.users[node])
        cost = node_cost(node)
        if flags.fuse_contract and any(_wants_many(g, node) for g in users) and product_behind(node):
            return False  # a sum of many products: each few of them are added up behind one of theirs
        if self._is_positional(node):
            return not any(g.kind == "contract" or g.ops + cost > _MAX_OPS for g in users)
        for group in users:
            if group.kind == "contract" and is_irregular(node) or group.ops + cost > _MAX_OPS:
                return False
        if len(users) > 1:
            wide = [i for i in node.inputs if spread_size(i) > 1 and not self._is_positional(i)]
            if not flags.recompute or cost > 2 or node.kind == "gather":
                return False
            if len(wide) > 1 and not (self._from_stored(node) and all(self._leaves_whole(node, g) for g in users)):
                return False
        for group in users:
            indices = group.demand[node]
            work = sum(iterations(group, index) for index in indices)
            if repeats(work, node.size, cost <= CHEAP and node.kind != "gather"):
                return False
        return True

    def _from_stored(self, node: Node) -> bool:
        """Whether a value follows cheaply from one that is in memory anyway and from a few numbers: what a normalisation makes of
        its input, which was reduced to statistics before. Storing it too would be one more pass of writing."""
        cost = 0
        while node.kind == "pointwise":
            cost += node_cost(node)
            large = [i for i in node.inputs if not is_few(spread_size(i), node.size, len(varying(i)) < len(node.shape))]
            if cost > CHEAP or len(large) != 1:
                return False
            if large[0].kind == "leaf" or large[0] in self.reduced or self._is_hard(large[0]):
                return True
            node = large[0]
        return False

    def _leaves_whole(self, node: Node, group: Group) -> bool:
        """Whether the formula's operands leave a contraction's dimensions in one piece. Numbers for each group of channels, among
        values that are seen by groups, would cut them: short rows, and no Winograd convolution."""
        if group.kind != "contract" or group.anchor is None:
            return True
        anchor, index = group.anchor, group.demand[node][0]
        whole_index = group.roots.get(anchor) or group.demand.get(anchor, [group.domain])[0]
        pieces = [{a for a, _ in i.terms if group.extents[a] != 1} for i in whole_index]
        for operand in node.inputs:
            covered = group.covered(tuple(index[d] for d in varying(operand)))
            if any(whole & covered and not whole <= covered for whole in pieces):
                return False
        return True

    def _is_positional(self, node: Node) -> bool:
        """Whether a value follows cheaply from positions alone, so that storing it would be waste."""
        known = self._positional.get(node)
        if known is None:
            if node.kind == "pointwise":
                known = node_cost(node) <= 2 * CHEAP and all(self._positional.get(i, i.kind == "const") for i in node.inputs)
            else:
                known = node.kind == "const" or node.kind == "view" and self._positional.get(node.inputs[0], False)
            self._positional[node] = known
        return known

    def _fit(self, node: Node) -> None:
        if flags.fuse_views and not self._is_hard(node):
            self._inline(node)
        else:
            self._place(node)

    def _view(self, node: Node) -> None:
        if not flags.fuse_views or self._is_hard(node):
            self._place(node)
        else:
            self._inline(node)

    def _reshape(self, node: Node) -> None:
        source = node.inputs[0]
        if flags.fuse_views and not self._is_hard(node) and not self._reads_memory(source):
            try:
                self._inline(node)
                return
            except CannotSplit:
                pass  # then its operand goes to memory, whose row-major order makes any reshape an address
        copied = source.kind in ("view", "pad", "const") or source in self.out.order and source.kind == "contract"
        if self._is_hard(node) and copied:
            try:
                self._place(node)
                return
            except CannotSplit:
                pass
        self._alias(node, source)

    def _reads_memory(self, source: Node) -> bool:
        """Whether the operand is in row-major memory anyway, so that a reshape of it costs nothing."""
        return source.kind in ("leaf", "item") or self._is_hard(source) and source not in self.out.order

    def _alias(self, node: Node, source: Node) -> None:
        """The reshape is its operand's memory, read with other strides. The memory is row-major, unless the reshape takes dimensions
        apart or together that lie side by side in the operand's order too: channels seen by groups."""
        self.out.alias[node] = source
        self.shared.add(source)
        order = self.out.order.get(source)
        kept = None if order is None else reshaped_order(order, source.shape, node.shape)
        if kept is None or kept != self.out.order.get(node):
            self.out.order.pop(source, None)
        for group in self.users.get(node, ()):
            self._need(group, source)
        for group in self.memory.get(node, ()):
            self._need(group, source)
        if node in self.forced:
            self.forced.add(source)
        if not self._is_hard(source):
            self.forced.add(source)

    # -- anchors -------------------------------------------------------------------------------------------------
    def _may_fuse(self, contraction: Node) -> bool:
        return contraction not in self.alone

    def _contract(self, node: Node) -> None:
        group = self._made_sums(node)
        index = group.domain if group is not None else ()
        for user in self.users.get(node, ()) if flags.fuse_contract and group is None and node not in self.alone else ():
            known = user.demand[node]
            if (user.kind == "loops" and not user.reduced and not user.irregular and not user.dynamic and len(known) == 1
                    and user.covers(known[0], node.shape) == "all" and self._may_host(user, node)
                    and self._lies_like(user, node, known[0])):
                group, index = user, known[0]
                group.kind, group.anchor = "contract", node
                break
        if group is None:
            group = self.groups.new("contract", node.shape, node)
            index = group.identity()
        elsewhere = self._is_hard(node) or any(g is not group for g in self.users.get(node, ()))
        if elsewhere or group.roots.keys() <= group.reduces.keys():
            group.roots[node] = index
            self._settle(node, group)
        for operand in node.inputs:
            self._need(group, memory_base(operand))

    def _lies_like(self, group: Group, node: Node, index: Index) -> bool:
        """Whether the group's first result is contiguous along the dimension in which the contraction wants to write."""
        first, at = next(iter(group.roots.items()))
        return contiguous_axis(group, first, at, self.out.order) == contiguous_axis(group, node, index, self.out.order)

    def _own_group(self, node: Node, kind: str, domain: Node) -> Group:
        group = self.groups.new(kind, domain.shape, node)
        self._settle(node, group)
        return group

    def _scan(self, node: Node) -> None:
        group = self._own_group(node, "scan", node)
        group.roots[node] = group.identity()
        self._want(group, node.inputs[0], group.identity())

    def _scatter(self, node: Node) -> None:
        base, index, src = node.inputs
        group = self._own_group(node, "scatter", index)
        self._overwrite(node, base, group)
        self._want(group, index, group.identity())
        self._want(group, src, group.identity())

    def _update(self, node: Node) -> None:
        base, src = node.inputs
        group = self._own_group(node, "update", src)
        self._overwrite(node, base, group)
        self._want(group, src, group.identity())

    def _overwrite(self, node: Node, base: Node, group: Group) -> None:
        """``node`` takes over the memory of ``base``, a copy that nobody else uses."""
        self._need(group, base)
        self.out.alias[node] = base
        self.shared.add(base)
        self.out.order.pop(base, None)
        if node in self.out.order:
            self.out.order[base] = self.out.order[node]

    def _host(self, node: Node) -> None:
        group = self.groups.new("host", (), node)
        for item in self.items.get(node, ()):
            self._settle(item, group)
        for source in node.inputs:
            self._need(group, source)
            self.out.order.pop(source, None)

    def _native(self, node: Node) -> None:
        group = self.groups.new("native", (), node)
        for item in self.items.get(node, ()):
            self._settle(item, group)
        for k, source in enumerate(node.inputs):
            base = native_operand(node.attrs[0], k, source)
            self._need(group, base)
            if not node.attrs[0].strided:
                self.out.order.pop(base, None)

    def _item(self, node: Node) -> None:
        host = node.inputs[0]
        self.items.setdefault(host, []).append(node)
        self.forced.add(host)


def _share_numbers(source: Node, node: Node) -> bool:
    """Whether all that large values have in common is a few numbers: they would share a learning rate, which is a kernel less, and
    memory of all of them at once."""
    return few_for_many(spread_size(source), node.size)


def _wants_many(group: Group, node: Node) -> bool:
    """Whether a kernel's formulas want many values as large as this one."""
    return len(group.demand) > MANY and many_as_large(node.size, *[n.size for n in group.demand])
