"""Which physical order each stored value should have: channels-last around convolutions, row-major elsewhere.

Only an order of dimensions is chosen; memory stays dense, and every kernel takes whatever strides it is given, so a
choice here changes speed and nothing else. Convolutions ask for it; pointwise, pooling and padding pass it on.
"""
from __future__ import annotations

from collections.abc import Sequence

from rushlight.compile.graph import ContractSpec, Graph, Node, View, Window

__all__ = ["choose_orders", "is_filter_gradient", "reshaped_order"]

Order = tuple[int, ...]
_LANES = 16


def choose_orders(graph: Graph) -> dict[Node, Order]:
    """The wanted orders (dimensions from the outermost to the innermost) that are not row-major."""
    orders: dict[Node, Order] = {}
    asked = _asked(graph)
    for node in graph.nodes:
        order = asked.get(node) or _inherited(node, orders)
        if order is not None and node.kind not in ("leaf", "item") and order != tuple(range(len(node.shape))):
            orders[node] = order
    return orders


def _asked(graph: Graph) -> dict[Node, Order]:
    """What the operands and results of windowed contractions should look like."""
    out: dict[Node, Order] = {}
    for node in graph.nodes:
        if node.kind != "contract":
            continue
        spec: ContractSpec = node.attrs[0]
        windowed = [dims for dims in (spec.a, spec.b) if any(isinstance(d, Window) for d in dims)]
        if not windowed:
            continue
        windows = [d for d in windowed[0] if isinstance(d, Window)]
        spatial = {w.output for w in windows} | {w.kernel for w in windows}
        other = spec.b if windowed[0] is spec.a else spec.a
        for x, dims in zip(node.inputs, (spec.a, spec.b), strict=True):
            # Images: everything that is an image or a position first, channels last. Filters keep their own order.
            image = dims is windowed[0] or any(d in {w.output for w in windows} for d in dims)
            base = x.inputs[0] if x.kind == "view" else x
            if image and base.kind in ("pad", "fit", "pointwise", "copy", "concat", "weave"):
                lead = _images(dims)
                places = [k for k, d in enumerate(dims) if isinstance(d, Window) or d in spatial]
                order = (*lead, *places, *(k for k in range(len(dims)) if k not in lead and k not in places))
                out.setdefault(base, order if base is x else _under(x.attrs[0], order))
        out[node] = _result_order(spec, windowed[0], other, spatial)
    return out


def _under(view: View, order: Order) -> Order:
    """The order of a value of which a view should lie in ``order``."""
    rank = {j: k for k, j in enumerate(order)}
    places = [min((rank[j] for j, c in enumerate(row) if c), default=-1) for row in view.matrix]
    return tuple(sorted(range(len(places)), key=lambda d: places[d]))


def _images(dims: Sequence) -> tuple[int, ...]:
    """The dimension that counts images: the first, where it is a plain letter."""
    return (0,) if isinstance(dims[0], str) else ()


def is_filter_gradient(spec: ContractSpec) -> bool:
    """Whether a contraction's result has the kernel positions of a window: it is the gradient of a filter."""
    return any(isinstance(d, Window) and d.kernel in spec.out for d in (*spec.a, *spec.b))


def _result_order(spec: ContractSpec, windowed: Sequence, other: Sequence, spatial: set[str]) -> Order:
    """Images, positions, groups, channels. What comes last lies along the vectors of the contraction: letters that the
    windows do not move.

    A filter's gradient has its groups first, then output channels, positions in the filter, input channels: so it differs
    from the filter's own order only within one output channel, a few kilobytes that are turned in the cache. Few input
    channels would not fill vectors; there the output channels come last.
    """
    sizes = dict(spec.sizes)
    if is_filter_gradient(spec):
        inner = [c for c in spec.out if c not in spatial and c in windowed and c not in other]
        turned = all(sizes[c] < _LANES for c in inner)

        def rank(c: str) -> int:
            if c in windowed and c in other:
                return 0
            return (1 if c in spatial else 2 if c in inner else 3) if turned else (2 if c in spatial else 3 if c in inner else 1)
    else:
        def rank(c: str) -> int:
            if c in spatial:
                return 1
            return (2 if c in other else 0) if c in windowed else 3

    return tuple(sorted(range(len(spec.out)), key=lambda k: rank(spec.out[k])))


def _inherited(node: Node, orders: dict[Node, Order]) -> Order | None:
    kind = node.kind
    if kind in ("concat", "weave"):
        return next((orders[source] for source in node.inputs if source in orders), None)
    if kind in ("pointwise", "copy", "scan", "scatter", "update", "gather"):
        best = None
        for source in node.inputs:
            found = orders.get(source)
            if found is not None and source.shape == node.shape:
                return found
        return best
    if not node.inputs:
        return None
    order = orders.get(node.inputs[0])
    if order is None:
        return None
    if kind in ("pad", "fit"):
        return order
    if kind == "reduce":
        axes = node.attrs[1]
        kept = [d for d in range(len(order)) if d not in axes]
        return tuple(kept.index(d) for d in order if d in kept)
    if kind == "view":
        return _viewed(node.attrs[0], order)
    if kind == "reshape":
        return reshaped_order(order, node.inputs[0].shape, node.shape)
    return None


def _viewed(view: View, order: Order) -> Order | None:
    """Output dimensions in the order of the input dimensions that they move along; one that repeats follows the one before it, as
    the elements of a window follow its position."""
    rank = {d: k for k, d in enumerate(order)}
    places: list[tuple[int, int]] = []
    for j in range(len(view.shape)):
        moved = [rank[d] for d, row in enumerate(view.matrix) if row[j]]
        places.append((min(moved, default=places[-1][0] if places else -1), j))
    return tuple(j for _, j in sorted(places))


def reshaped_order(order: Order, source: Sequence[int], shape: Sequence[int]) -> Order | None:
    """The order after a reshape that only splits dimensions, merges neighbours, or adds and drops ones."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) or j < len(shape):
        ins, outs = [], []
        left = right = 1
        if i < len(source):
            ins.append(i)
            left = source[i]
            i += 1
        if j < len(shape) and (left != 1 or not ins or shape[j] == 1):
            outs.append(j)
            right = shape[j]
            j += 1
        while left != right:
            if left < right and i < len(source):
                ins.append(i)
                left *= source[i]
                i += 1
            elif j < len(shape):
                outs.append(j)
                right *= shape[j]
                j += 1
            else:
                return None
        blocks.append((ins, outs))
    rank = {d: k for k, d in enumerate(order)}
    placed: list[tuple[int, list[int]]] = []
    for ins, outs in blocks:
        long = [d for d in ins if source[d] != 1]
        ranks = [rank[d] for d in long]
        if len(long) > 1 and ranks != list(range(ranks[0], ranks[0] + len(long))):
            return None
        placed.append((ranks[0] if ranks else -1, outs))
    return tuple(d for _, outs in sorted(placed, key=lambda p: p[0]) for d in outs)
