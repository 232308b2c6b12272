"""Attention that is written out, recognised in a graph: which products, scale, mask and dropout it is made of, and where its backward is.

``find`` begins at the maximum that a softmax subtracts and goes up to the product of q and k and down to that with v. All that
lies between must have no other user, but for the gradients, which are recognised in the same way (``attention_gradient.py``) or not at
all.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rushlight.compile.attention import MAX_HEAD
from rushlight.compile.graph import Graph, Node
from rushlight.compile.passes.attention_gradient import backward_of
from rushlight.compile.passes.attention_products import Operand, factors_of, long_dims, result_of, straight
from rushlight.compile.passes.attention_steps import (
    Drop,
    Factor,
    Found,
    Mask,
    Same,
    Use,
    Users,
    dropped,
    factor,
    mask_of,
    pattern,
    product_of,
    repeat,
    said,
    turned,
)

__all__ = ["find"]

_LARGE = 1e30


def find(graph: Graph, nodes: Sequence[Node]) -> list[Found]:
    """All that is found among the live nodes of a graph."""
    starts = [n for n in nodes if _is_softmax_start(n)]
    if not starts:
        return []
    users = Users(graph, nodes)
    return [_with_heads_apart(f) for n in starts for f in [_forward(n, users)] if f is not None]


def _is_softmax_start(node: Node) -> bool:
    return (node.kind == "reduce" and node.attrs == ("max", (len(node.inputs[0].shape) - 1,)) and len(node.inputs[0].shape) > 1
            and node.dtype.name in ("float32", "float64"))


def _forward(most: Node, users: Users) -> Found | None:
    """What the maximum of the scores belongs to."""
    scores = most.inputs[0]
    softmax = _softmax(most, scores, users)
    below = _scores(scores, users) if softmax is not None else None
    if softmax is None or below is None:
        return None
    weights, inner = softmax
    product, scale, factors, masks, steps = below
    made = factors_of(product)
    same = users.same(weights)
    dropping = _dropping(same, users) if same is not None else None
    if made is None or same is None or dropping is None:
        return None
    drop, used, rest = dropping
    results = [(r, u) for u in used.uses if u.user.kind == "contract" for r in [result_of(u.user, u.of)] if r is not None]
    if len(results) != 1:
        return None
    (v, out), use = results[0]
    lead = _lead([weights, *steps, *([product.node] if product == straight(product.node) else [])])
    operands = (*made, v)
    if lead is None or not all(_fits(o, lead) for o in (*operands, out)):
        return None
    if len({o.node.dtype for o in operands}) != 1 or most.dtype is not product.node.dtype.compute:
        return None
    # An operand is none of what lies between: the scores' own softmax times the scores, say.
    between = {*inner, *steps, product.node, *same.nodes, *used.nodes}
    found = Found(*made, v, out, lead, scale, tuple(factors), tuple(masks), drop, between)
    if any(o.node in between for o in operands) or any(n > MAX_HEAD for n in found.sizes[2:]):
        return None
    left = [u for u in used.uses if u is not use]
    return backward_of(found, weights, left, rest, users) if left or rest else found


def _dropping(same: Same, users: Users) -> tuple[Drop | None, Same, list[Use]] | None:
    """What is dropped of the weights, what they are after that, and what else becomes of them before it."""
    drops = [(d, u) for u in same.uses if u.of == straight(u.of.node) for d in [dropped(u.user, u.of.node)] if d is not None]
    if not drops:
        rest = [u for u in same.uses if u.user.kind != "contract"]
        return None, Same(same.nodes, [u for u in same.uses if u.user.kind == "contract"]), rest
    (drop, use), *more = drops
    after = users.same(use.user)
    if more or after is None:
        return None
    return drop, after, [u for u in same.uses if u is not use]


def _lead(nodes: Sequence[Node]) -> tuple[int, int] | None:
    """Batch and heads: as the most detailed of some values that differ in leading dimensions alone say."""
    most = max(nodes, key=lambda n: len(n.shape))
    *lead, _, _ = most.shape
    if len(lead) > 2:
        lead = long_dims(lead)
    if len(lead) > 2:
        return None
    b, h = (*lead, 1, 1)[:2]
    return b, h


def _fits(x: Operand, lead: tuple[int, int]) -> bool:
    """Whether the leading dimensions are those of ``lead``, or both as one."""
    want = long_dims(lead)
    if any(x.shared):
        all_of = lead if len(x.order) == 4 else want
        return len(x.order) - 2 == len(all_of) and all(d < 0 or x.node.shape[d] == n for d, n in zip(x.order, all_of))
    have = long_dims([x.node.shape[d] for d in x.order[:-2]])
    return have == want or len(have) == 1 and len(want) == 2


def _with_heads_apart(found: Found) -> Found:
    """Where heads were counted with the batch (``q.reshape(b * h, t, d)``, a copy of what lies head beside head): from before that."""
    q = _apart(found.q)
    if q is None:
        return found
    b, h, _, _ = q.node.shape
    if len(long_dims(found.lead)) != 1 or len(long_dims((b, h))) != 2:
        return found

    def apart(x: Operand) -> Operand:
        other = _apart(x)
        return x if other is None or other.node.shape[:2] != (b, h) else other
    back = found.backward
    back = None if back is None else replace(back, grad=apart(back.grad))
    return replace(found, q=q, k=apart(found.k), v=apart(found.v), lead=(b, h), backward=back)


def _apart(x: Operand) -> Operand | None:
    """An operand (batch and heads, rows, columns) as (batch, heads, rows, columns), if that is what it was reshaped from."""
    node, order = x
    turn = turned(node) if node.kind == "view" else None
    if turn is not None:
        node, order = node.inputs[0], tuple([turn[d] for d in order])
    if node.kind != "reshape" or order != (0, 1, 2):
        return None
    whole = node.inputs[0]
    return straight(whole) if len(whole.shape) == 4 and whole.shape[2:] == node.shape[1:] else None


def _softmax(most: Node, scores: Node, users: Users) -> tuple[Node, list[Node]] | None:
    """The weights, and what lies between."""
    shift = users.spread(most, scores)
    above = users.only(shift[-1]) if shift else None
    if shift is None or above is None or pattern(above) != "sub(0,1)" or above.inputs != (scores, shift[-1]):
        return None
    if set(users(scores)) != {most, above}:
        return None
    powers = [u for u in users(above) if pattern(u) == "exp(0)"]
    weights = [u for u in users(above) if pattern(u) in ("div(exp(0),1)", "mul(exp(0),reciprocal(1))")]
    if len(powers) != 1 or len(weights) != 1 or len(users(above)) != 2:
        return None
    total = users.only(powers[0])
    if total is None or total.kind != "reduce" or total.attrs != ("add", most.attrs[1]):
        return None
    sums = users.spread(total, scores)
    if sums is None or users.only(sums[-1]) is not weights[0] or weights[0].inputs != (above, sums[-1]):
        return None
    return weights[0], [*shift, above, powers[0], *sums]


def _scores(node: Node, users: Users) -> tuple[Operand, float, list[Factor], list[Mask], list[Node]] | None:
    """The product that scores are made from, the scale, factors that are data, masks; and what lies between."""
    scale, factors, masks, steps = 1.0, list[Factor](), list[Mask](), list[Node]()
    while True:
        if steps and users.only(node) is not steps[-1]:
            return None
        product = product_of(node, users)
        if product is not None:
            break
        above = said(node)
        step = None if above is not None else factor(node)
        masked = mask_of(node) if above is None and step is None and scale == 1.0 and not factors else None
        if step is not None:
            above, number, data = step
            scale *= number
            factors += [data] if data is not None else []
        elif masked is not None and (not masks or masked[1].fill == masks[0].fill):
            above = masked[0]
            masks.append(masked[1])
        if above is None:
            return None
        steps.append(node)
        node = above
    if node is not product.node:
        steps.append(node)
    fits = abs(scale) < _LARGE and product.node.dtype is product.node.inputs[0].dtype
    together = len(masks) < 2 or repeat([m.numbers for m in masks])  # one of heads and one of batches do not
    return (product, scale, factors, masks, steps) if fits and together else None
