"""Where the boxes of a graph go: layers from top to bottom, few crossings, short and straight edges.

The steps are Sugiyama's. Each is linear (times a logarithm) in boxes and edges and none recurses:

1. layers by the longest path from the leaves; leaves (and what comes of them alone) move down to their first user;
2. a leaf used in far-apart layers is shown again beside each far user, instead of an edge across the picture;
3. edges longer than a layer get bends, one in each layer that they pass;
4. sweeps order each layer by the mean place of its neighbours; the order with the fewest crossings stays;
5. sweeps move boxes to the mean of their neighbours as far as their order and widths allow.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

GAP_X, GAP_Y = 22.0, 34.0
_FAR = 4  # layers between a leaf and a user from which on the leaf is repeated
_MOST_BENDS = 20_000  # beyond it the longest edges go straight through
_SWEEPS = 10


def layers_of(inputs: Sequence[Sequence[int]]) -> list[int]:
    """The row of each box: below all its inputs, and above all its users.

    A box is as high as it can be (the longest path that leads to it), but leaves, and what is computed from leaves
    alone and not needed yet (a transposed weight), are directly above their first user.
    """
    users = users_of(inputs)
    missing = [len(sources) for sources in inputs]
    order = [i for i, count in enumerate(missing) if not count]
    layer = [0] * len(inputs)
    for box in order:  # grows while it is walked
        for user in users[box]:
            layer[user] = max(layer[user], layer[box] + 1)
            missing[user] -= 1
            if not missing[user]:
                order.append(user)
    latest = [max(layer, default=0)] * len(inputs)
    for box in reversed(order):
        latest[box] = min([latest[box], *(latest[user] - 1 for user in users[box])])
    movable = [False] * len(inputs)
    for box in order:
        leaf = not inputs[box]
        movable[box] = leaf or (layer[box] < latest[box] and all(movable[source] for source in inputs[box]))
    for box in reversed(order):
        if movable[box] and users[box]:
            layer[box] = min(layer[user] for user in users[box]) - 1
    return layer


def users_of(inputs: Sequence[Sequence[int]]) -> list[list[int]]:
    """For each box the boxes that take data from it, once per edge."""
    users: list[list[int]] = [[] for _ in inputs]
    for box, sources in enumerate(inputs):
        for source in sources:
            users[source].append(box)
    return users


@dataclass
class Layout:
    """The placed picture: `shown[i]` is the box that place i shows (a repeated leaf twice); bends are not in it."""

    shown: list[int] = field(default_factory=list)
    repeated: list[bool] = field(default_factory=list)
    x: list[float] = field(default_factory=list)  # centres
    y: list[float] = field(default_factory=list)
    edges: list[tuple[int, int, list[tuple[float, float]]]] = field(default_factory=list)  # places, and bends between
    width: float = 0.0
    height: float = 0.0


def lay_out(inputs: Sequence[Sequence[int]], sizes: Sequence[tuple[float, float]]) -> Layout:
    """Places for boxes of the given (width, height), whose edges come from `inputs`."""
    layout = Layout()
    layer = layers_of(inputs)
    layout.shown = list(range(len(inputs)))
    layout.repeated = [False] * len(inputs)
    edges = _edges_with_repeated_leaves(inputs, layer, layout)
    widths = [sizes[box][0] for box in layout.shown]
    # From here on bends are places too, of no width.
    chains = _add_bends(edges, layer, widths)
    above: list[list[int]] = [[] for _ in layer]
    below: list[list[int]] = [[] for _ in layer]
    for chain in chains:
        for upper, lower in zip(chain, chain[1:]):
            if layer[lower] == layer[upper] + 1:
                below[upper].append(lower)
                above[lower].append(upper)
    rows = _order(layer, above, below)
    x = _straighten(rows, above, below, widths, len(layout.shown))
    row_heights = [max((sizes[layout.shown[p]][1] for p in row if p < len(layout.shown)), default=0.0) for row in rows]
    tops, top = [], 0.0
    for height in row_heights:
        tops.append(top)
        top += height + GAP_Y
    left = min((x[p] - widths[p] / 2 for row in rows for p in row), default=0.0)
    x = [value - left for value in x]
    centre = [tops[layer[p]] + row_heights[layer[p]] / 2 for p in range(len(layer))]
    layout.x, layout.y = x[: len(layout.shown)], centre[: len(layout.shown)]
    layout.width = max((x[p] + widths[p] / 2 for p in range(len(x))), default=0.0)
    layout.height = top - GAP_Y if rows else 0.0
    layout.edges = [(chain[0], chain[-1], [(x[p], centre[p]) for p in chain[1:-1]]) for chain in chains]
    return layout


def _edges_with_repeated_leaves(
    inputs: Sequence[Sequence[int]], layer: list[int], layout: Layout
) -> list[tuple[int, int]]:
    edges: list[tuple[int, int]] = []
    for box, sources in enumerate(inputs):
        near: dict[int, int] = {}  # one repetition per user, however often it takes the leaf
        for source in sources:
            if inputs[source] or layer[box] - layer[source] <= _FAR:
                edges.append((source, box))
                continue
            if source not in near:
                near[source] = len(layout.shown)
                layout.shown.append(source)
                layout.repeated.append(True)
                layer.append(layer[box] - 1)
            edges.append((near[source], box))
    return edges


def _add_bends(edges: list[tuple[int, int]], layer: list[int], widths: list[float]) -> list[list[int]]:
    """Each edge as the chain of places that it passes; `layer` and `widths` grow by the bends."""
    budget = _MOST_BENDS
    chains: dict[int, list[int]] = {}
    for number in sorted(range(len(edges)), key=lambda e: layer[edges[e][1]] - layer[edges[e][0]]):
        upper, lower = edges[number]
        passed = range(layer[upper] + 1, layer[lower])
        chain = [upper]
        if len(passed) <= budget:
            budget -= len(passed)
            for row in passed:
                chain.append(len(layer))
                layer.append(row)
                widths.append(0.0)
        chains[number] = [*chain, lower]
    return [chains[number] for number in range(len(edges))]


def _order(layer: list[int], above: list[list[int]], below: list[list[int]]) -> list[list[int]]:
    """The rows, each from left to right."""
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for place in _depth_first(layer, above, below):
        rows[layer[place]].append(place)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        neighbours = above if down else below
        position = [0.0] * len(layer)
        for row in rows if down else reversed(rows):
            # Positions are relative to the length of the row, so that rows of any length compare.
            scale = 1.0 / max(1, len(row))
            mean = {
                place: _mean([position[q] for q in neighbours[place]], (i + 0.5) * scale)
                for i, place in enumerate(row)
            }
            row.sort(key=mean.__getitem__)
            for i, place in enumerate(row):
                position[place] = (i + 0.5) * scale
        count = _crossings(rows, below)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
    return best


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _depth_first(layer: list[int], above: list[list[int]], below: list[list[int]]) -> list[int]:
    """All places, connected ones near each other: a good first order."""
    seen = [False] * len(layer)
    order: list[int] = []
    for start in sorted(range(len(layer)), key=lambda place: -layer[place]):
        stack = [start]
        while stack:
            place = stack.pop()
            if seen[place]:
                continue
            seen[place] = True
            order.append(place)
            stack.extend(reversed(below[place]))
            stack.extend(reversed(above[place]))
    return order


def _crossings(rows: list[list[int]], below: list[list[int]]) -> int:
    """How often edges between neighbouring rows cross: the inversions of their lower ends."""
    total = 0
    for upper, lower in zip(rows, rows[1:]):
        position = {place: i for i, place in enumerate(lower)}
        seen: list[int] = []
        for place in upper:
            ends = sorted(position[q] for q in below[place])
            for end in ends:
                total += len(seen) - bisect_right(seen, end)
            for end in ends:
                insort(seen, end)
    return total


def _straighten(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], widths: list[float], boxes: int
) -> list[float]:
    """Centres: every place as near to the mean of its neighbours as order and widths allow."""
    x = [0.0] * len(widths)
    for row in rows:
        right = 0.0
        for place in row:
            x[place] = right + widths[place] / 2
            right += widths[place] + GAP_X
        for place in row:
            x[place] -= (right - GAP_X) / 2
    for sweep in range(_SWEEPS + 2):
        # The last sweeps look both ways, which settles boxes between their inputs and their users.
        both = sweep >= _SWEEPS
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wanted, weights = [], []
            for place in row:
                near = above[place] + below[place] if both else (above if down else below)[place]
                bend = place >= boxes
                pulls = [8.0 if bend and q >= boxes else 2.0 if bend or q >= boxes else 1.0 for q in near]
                total = sum(pulls)
                wanted.append(sum(p * x[q] for p, q in zip(pulls, near)) / total if total else x[place])
                weights.append(total or 0.1)
            for place, value in zip(row, _spread(wanted, weights, [widths[p] for p in row])):
                x[place] = value
    return x


def _spread(wanted: list[float], weights: list[float], widths: list[float]) -> list[float]:
    """The centres nearest to the wanted ones (least squares) that keep the order and do not overlap.

    Taking the space that the boxes to the left need from each wish leaves wishes that only must not fall; those are
    met by pooling neighbours that would (isotonic regression).
    """
    needed = [0.0]
    for left, right in zip(widths, widths[1:]):
        needed.append(needed[-1] + (left + right) / 2 + GAP_X)
    pools: list[tuple[float, float, int]] = []  # value, weight, how many
    for wish, weight, space in zip(wanted, weights, needed):
        value, count = wish - space, 1
        while pools and pools[-1][0] > value:
            before, before_weight, before_count = pools.pop()
            value = (before * before_weight + value * weight) / (before_weight + weight)
            weight, count = weight + before_weight, count + before_count
        pools.append((value, weight, count))
    values = [value for value, _, count in pools for _ in range(count)]
    return [value + space for value, space in zip(values, needed)]
