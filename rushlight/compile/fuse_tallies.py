"""When a reduction is made by the contraction whose results it reduces: sums over all rows of what an epilogue computes.

The mean and the variance of a convolution's channels (batch norm), the two sums of its gradient, the gradient of a bias: each
reads all of a large value again only to make a few numbers. The contraction adds them up while it stores its tiles
(``cpu/contract_sums.py``), and what nobody else needs, such as the product of a gradient and the normalised input, is not
stored at all.

Such a reduction is visited before its contraction, so the group of that is made early, and grows towards it: by then the
contraction has to be all that is missing. Where something came between, the group becomes a plain one.
"""
from __future__ import annotations

from collections.abc import Iterable

from .flags import flags
from .fuse_rules import is_irregular, spread_size
from .fuse_sizes import is_summed
from .fusion import Fusion
from .graph import ContractSpec, Node, Window
from .group import Group, Groups
from .index import Index

__all__ = ["TallyRules", "product_summed"]

_MAX_ROOTS = 12  # results of one kernel
_WINOGRAD_CHANNELS = 16
_FEW = 8         # a value of which there are so many elements to each of another is read at next to no cost
_NODES = 12      # formulas between a contraction and a reduction
_STEPS = 6       # of a chain that does not depend on the contraction


def product_summed(node: Node) -> Node | None:
    """The contraction from whose results the operand of a reduction follows element by element, if its rows are what is reduced."""
    op, axes = node.attrs
    x = node.inputs[0]
    if op not in ("add", "deviations") or node.dtype.kind != "f" or _kept(node) is None:
        return None
    anchor = _product(x)
    if anchor is None or node.dtype is not anchor.inputs[0].dtype.compute:
        return None
    spec: ContractSpec = anchor.attrs[0]
    summed = [spec.out[a] for a in axes]
    kept = spec.out[_kept(node)]  # type: ignore[index]
    if kept not in spec.b or any(c in spec.b for c in summed) or any(not isinstance(d, str) for d in spec.b):
        return None
    if flags.winograd and _in_tiles(spec) and _reads_more(x, anchor):
        return None
    return anchor if is_summed(node.size) else None


def _kept(node: Node) -> int | None:
    """The dimension of its operand that a reduction keeps, if it is a single one."""
    kept = [d for d, n in enumerate(node.inputs[0].shape) if d not in node.attrs[1] and n != 1]
    return kept[0] if len(kept) == 1 else None


def _product(x: Node) -> Node | None:
    """The contraction from which ``x`` follows, and from nothing else that would have to wait for it."""
    stack, seen = [x], {x}
    anchor: Node | None = None
    while stack:
        node = stack.pop()
        if node.kind == "contract":
            if anchor is None or node.number > anchor.number:
                anchor = node
        elif node.kind == "pointwise" and not is_irregular(node) and (anchor is None or node.number > anchor.number):
            new = [i for i in node.inputs if i not in seen and i.size == x.size]
            seen.update(new)
            stack += new
        if len(seen) > 4 * _NODES:
            return None
    return anchor if anchor is not None and _follows(x, anchor, set()) else None


def _depends(node: Node, anchor: Node, steps: int) -> bool:
    """Whether a value may depend on the contraction; nodes are numbered after their operands."""
    return node.number >= anchor.number and node.kind not in ("leaf", "const") and (
        node is anchor or not steps or any(_depends(i, anchor, steps - 1) for i in node.inputs))


def _follows(node: Node, anchor: Node, seen: set[Node]) -> bool:
    """Whether a value is computed from the contraction element by element, and from what is there before it."""
    if node is anchor or node in seen or not _depends(node, anchor, _STEPS):
        return True
    seen.add(node)
    return node.kind == "pointwise" and not is_irregular(node) and len(seen) <= _NODES and all(
        _follows(i, anchor, seen) for i in node.inputs)


def _in_tiles(spec: ContractSpec) -> bool:
    """Whether a contraction has the form of Winograd's algorithm, whose results come tile by tile, from all over memory. To read a
    further value there costs more than a pass over both in order (ResNet-18's backward is 3% slower that way)."""
    sizes = dict(spec.sizes)
    windows = [d for d in spec.a if isinstance(d, Window)]
    return len(windows) == 2 and all((w.stride, w.dilation, sizes[w.kernel]) == (1, 1, 3) for w in windows) and any(
        sizes[c] >= _WINOGRAD_CHANNELS for c in spec.a if isinstance(c, str) and c not in spec.out)


def _reads_more(x: Node, anchor: Node) -> bool:
    """Whether what ``x`` follows from is more than the contraction and what is small against it."""
    stack, seen = [x], {x}
    while stack:
        node = stack.pop()
        if node is not anchor:
            if not _depends(node, anchor, _STEPS):
                if spread_size(node) * _FEW > anchor.size:
                    return True
                continue
            new = [i for i in node.inputs if i not in seen]
            seen.update(new)
            stack += new
    return False


class TallyRules:
    """The part of fusion that lets contractions make sums; the rest (``fuse``) provides what is declared here."""

    groups: Groups
    out: Fusion
    users: dict[Node, dict[Group, None]]
    summing: dict[Node, Group]  # contractions that are to make sums, with their groups

    def _want(self, group: Group, node: Node, index: Index) -> None:
        raise NotImplementedError

    def _may_host(self, group: Group, node: Node) -> bool:
        raise NotImplementedError

    def _settle(self, node: Node, group: Group) -> None:
        raise NotImplementedError

    def _may_fuse(self, contraction: Node) -> bool:
        raise NotImplementedError

    def _is_summed_by_product(self, node: Node) -> bool:
        """Whether a contraction is likely to make the reduction, when it will be visited."""
        return bool(flags.fuse_sums and flags.fuse_contract) and node.kind == "reduce" and product_summed(node) is not None

    def _summed_by_product(self, node: Node) -> bool:
        """Let a contraction make the reduction, where it can and that pays."""
        anchor = product_summed(node) if flags.fuse_sums and flags.fuse_contract else None
        if anchor is None or not self._may_fuse(anchor):
            return False
        x, axes = node.inputs[0], node.attrs[1]
        order = self.out.order.get(anchor) or range(len(x.shape))
        if order[-1] != _kept(node):
            return False  # columns are what lies along vectors
        group = self.summing.get(anchor)
        if group is None:
            group = self.summing[anchor] = self.groups.new("contract", x.shape, anchor)
        elif not self._may_host(group, node) or len(group.roots) >= _MAX_ROOTS:
            return False
        index = group.domain
        results = tuple(i for d, i in enumerate(index) if d not in axes)
        group.reduces[node] = results, index
        group.roots[node] = results
        self._settle(node, group)
        self._want(group, x, index)
        return True

    def _by_sums(self, users: Iterable[Group]) -> list[Group]:
        """The groups of contractions that are to make sums first: what is between them and the contraction is computed there."""
        return sorted(users, key=lambda group: group.kind != "contract" or not group.reduces)

    def _may_store(self, group: Group, node: Node) -> bool:
        """A contraction that makes sums stores what follows from it, nothing else that its sums are made of."""
        return not group.reduces or group.kind != "contract" or group.anchor is None or _depends(node, group.anchor, _STEPS)

    def _made_sums(self, contraction: Node) -> Group | None:
        """The group that makes sums of the contraction's results, if that is all it waits for."""
        group = self.summing.get(contraction)
        if group is None:
            return None
        known = group.demand.get(contraction, [])
        if known == [group.domain] and self._may_host(group, contraction):
            return group
        index, _ = next(iter(group.reduces.values()))
        kept = group.covered(index)
        group.kind, group.anchor = "loops", None
        group.reduced = [a for a in group.kept if a not in kept]
        group.kept = [a for a in group.kept if a in kept]
        return None
