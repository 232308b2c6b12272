"""The backward of attention that is written out, recognised below a forward that is.

    dV = Pᵀ dO,  dP = dO Vᵀ,  dS = P (dP - Σ P dP),  dQ = dS K,  dK = dSᵀ Q

with what dropout does to P and dP, and mask and scale to dS.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rushlight.compile.graph import Node
from rushlight.compile.passes.attention_products import Operand, other_of, placed, straight
from rushlight.compile.passes.attention_steps import (
    Backward,
    Factor,
    Found,
    Mask,
    Use,
    Users,
    dropped,
    factor,
    pattern,
    plain,
    product_of,
    said,
)

__all__ = ["backward_of"]


def backward_of(found: Found, weights: Node, used: Sequence[Use], rest: Sequence[Use], users: Users) -> Found | None:
    """With the gradients, if these are all that else becomes of the weights: ``rest`` before some are dropped, ``used`` after."""
    inner = [u.user for u in rest if pattern(u.user) in ("mul(0,1)", "mul(1,0)")]
    change = [u.user for u in rest if pattern(u.user) == "mul(1,sub(0,2))"]
    if len(inner) != 1 or len(change) != 1 or len({u.user for u in rest}) != 2 or len(used) > 1:
        return None
    steps = _softmax_gradient(weights, inner[0], change[0], {u.of.node for u in rest if u.of == straight(u.of.node)}, users)
    above = _product_above(change[0].inputs[0], found, (inner[0], change[0]), users)
    chain = _chain(change[0], found, users)
    if steps is None or above is None or chain is None:
        return None
    first, between = above
    grad = other_of(first, found.v)
    if grad is None:
        return None
    made_v = placed(used[0].user, used[0].of, grad, "yz,yx->zx") if used and used[0].user.kind == "contract" else None
    if used and made_v is None:
        return None
    uses, more = chain
    made_q = made_k = None
    for user, scores in uses:
        to_q, to_k = placed(user, scores, found.k, "yz,zx->yx"), placed(user, scores, found.q, "yz,yx->zx")
        if to_q is not None and made_q is None:
            made_q = to_q
        elif to_k is not None and made_k is None:
            made_k = to_k
        else:
            return None
    # The gradient's product with turned weights looks like a forward, which would come too late.
    made = (made_q, made_k, made_v)
    if any(x is not None and x.shared != of.shared for x, of in zip(made, (found.q, found.k, found.v), strict=True)):
        return None
    late = all(x is None or x.node.number > found.out.node.number for x in made)
    all_inner = {*found.inner, *steps, *between, *more, first.node}
    return replace(found, inner=all_inner, backward=Backward(grad, made)) if late and grad.node not in all_inner else None


def _softmax_gradient(weights: Node, inner: Node, change: Node, same: set[Node], users: Users) -> list[Node] | None:
    """What lies between the gradient of the weights and that of the scores, if it is softmax's."""
    first, p, spread = change.inputs
    total = users.only(inner)
    if total is None or total.kind != "reduce" or total.attrs != ("add", (len(weights.shape) - 1,)):
        return None
    sums = users.spread(total, weights)
    if sums is None or users.only(sums[-1]) is not change or spread is not sums[-1] or p not in same or set(inner.inputs) != {first, p}:
        return None
    return [inner, *sums]


def _product_above(node: Node, found: Found, last: tuple[Node, Node], users: Users) -> tuple[Operand, list[Node]] | None:
    """The product that the gradient of the weights is, through what is dropped of it, and what lies between."""
    drop, steps, expected = found.drop, list[Node](), set(last)
    while True:
        if set(users(node)) != expected:
            return None
        product = product_of(node, users)
        if product is not None:
            return (product, [*steps, node]) if drop is None else None
        above = said(node)
        if above is None and drop is not None and dropped(node, node.inputs[0]) == drop:
            above, drop = node.inputs[0], None
        if above is None:
            return None
        steps.append(node)
        expected, node = {node}, above


def _chain(node: Node, found: Found, users: Users) -> tuple[list[Use], list[Node]] | None:
    """The products made with the gradient of q kᵀ, from that of the softmax's input on: through the mask and the scale."""
    between, scale = list[Node](), 1.0
    masks = list(found.masks) if found.fill is not None else []
    factors = list[Factor]()
    while True:
        same = users.same(node)
        if same is None or not same.uses:
            return None
        between += same.nodes
        if all(u.user.kind == "contract" for u in same.uses):
            break
        if len(same.uses) != 1:
            return None
        node, (inner, order) = same.uses[0]
        if order != straight(inner).order:
            return None
        if masks:
            if not _is_shut(node, inner, masks.pop(0)):
                return None
        else:
            step = factor(node)
            if step is None or step[0] is not inner:
                return None
            scale *= step[1]
            factors += [step[2]] if step[2] is not None else []
    equal = Counter(factors) == Counter(found.factors)
    return (same.uses, between) if not masks and equal and _is_close(scale, found.scale) else None


def _is_close(a: float, b: float) -> bool:
    """``math.isclose`` for numbers that may be sizes; b is finite."""
    return bool(a == b or abs(a - b) <= 1e-6 * abs(b))


def _is_shut(node: Node, inner: Node, mask: Mask) -> bool:
    """Whether it is a gradient that is zero where the mask put a number."""
    if pattern(node) not in ("where(0,#,1)", "where(0,1,#)", "where(1,#,0)", "where(1,0,#)"):
        return False
    what, yes, no = plain(node.attrs[0]).args
    zero, kept = (plain(x) for x in ((no, yes) if mask.inverted else (yes, no)))
    return (node.inputs[what.attr] is mask.numbers and zero.fn == "const" and zero.attr == 0 and kept.fn == "input"
            and node.inputs[kept.attr] is inner)
