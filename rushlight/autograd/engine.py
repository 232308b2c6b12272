"""The backward walk: records gradient operations into the same trace as the forward.

The walk is iterative and visits a node when all its users have delivered; a chain of 100,000 operations is fine.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..record.flush import flush_trace
from ..record.meta import CPU
from ..record.trace import Trace, local, user_line
from ..record.value import Value
from .apply import Restrided
from .autocast import paused
from .handle import LEAF, Handle, make
from .hooks import checked_gradient
from .node import GradNode, Node, edge_of
from .rules import Rules, fitted, reduced, run_rule
from .shares import advance

__all__ = ["run", "Rules"]

RULE = 16  # operations, at most, for which a rule is part of a walk that is not cut; those of ours are fewer
_PRE_HOOKS = dict.fromkeys(("tensor_hooks", "keepers", "pre_hooks")).keys()  # of a node, in the order in which they run


def run(roots: Sequence[Handle], grads: Sequence[Handle | None], *, retain_graph: bool, create_graph: bool,
        inputs: Sequence[Handle] | None = None, accumulate: bool, inner: int | None = None) -> dict[int, Any]:
    """Propagate gradients from the roots.

    With ``accumulate`` they are added to the ``grad`` of leaves (only of ``inputs``, if given); otherwise the gradients of
    ``inputs`` are returned: position -> tensor. A node's saved values are released unless ``retain_graph``. With ``inner`` the
    walk is part of a node of another one: it ends at ``inputs``, and from position ``inner`` on their hooks are left to the other.
    """
    tr = local.trace
    if tr.low is not None:
        with paused(tr):
            return run(roots, grads, retain_graph=retain_graph, create_graph=create_graph, inputs=inputs, accumulate=accumulate,
                       inner=inner)
    if any(r._value.meta.device is not CPU for r in roots) and not tr.slow:  # of what is not recorded, nothing can be remembered
        tr.slow = tr.full = True
        try:
            return run(roots, grads, retain_graph=retain_graph, create_graph=create_graph, inputs=inputs, accumulate=accumulate,
                       inner=inner)
        finally:
            tr.slow, tr.full = False, tr.exported
    mode = tr.grad_enabled, tr.inference, tr.here, tr.limit, tr.within
    tr.grad_enabled, tr.inference, tr.here, tr.within = create_graph, False, tr.here or user_line(), True
    try:
        return _run(roots, grads, retain_graph, create_graph, inputs, accumulate, inner)
    finally:
        tr.grad_enabled, tr.inference, tr.here, tr.limit, tr.within = mode


def _run(roots: Sequence[Handle], grads: Sequence[Handle | None], retain_graph: bool, create_graph: bool,
         inputs: Sequence[Handle] | None, accumulate: bool, inner: int | None) -> dict[int, Any]:
    start: list[Any] = [edge_of(r) for r in roots]
    captured: dict[int, Any] = {}
    wanted_leaves: dict[int, list[int]] | None = None
    wanted_nodes: dict[tuple[int, int], list[int]] = {}
    if inputs is not None:
        wanted_leaves = {}
        for k, t in enumerate(inputs):
            edge = t._edge
            if edge is LEAF:
                wanted_leaves.setdefault(id(t), []).append(k)
            elif edge is not None:
                node, nr = edge if type(edge) is tuple else (edge, 0)
                wanted_nodes.setdefault((id(node), nr), []).append(k)

    waiting, useful = _count_users(start, wanted_leaves, wanted_nodes)
    leaf_grads: dict[int, list[Any]] = {}
    stack: list[Node] = []
    add, tr = Rules.add, local.trace
    # The budget of a trace does not cut a walk in two: it could not be replayed, and would be made anew in every step.
    tr.limit = max(tr.limit, tr.node.depth + RULE * len(waiting))

    def deliver(edges: Sequence[Any], grads: Sequence[Any], used: int) -> None:
        """Hand gradients (None: there is none) on along edges, each of which is one of those that lead to its node, or none (``used`` 0).
        An edge without a number leads to the first result of its node."""
        for edge, grad in zip(edges, grads, strict=True):
            if edge is None:
                continue
            if type(edge) is tuple:
                edge, nr = edge
                state = waiting[edge]
                if grad is not None:
                    slots = state[1]
                    if slots is None:
                        state[1] = slots = [None] * edge.results
                    slots[nr] = grad if slots[nr] is None else add(slots[nr], grad)
            elif isinstance(edge, Handle):
                if grad is not None:
                    known = leaf_grads.get(id(edge))
                    if known is None:
                        leaf_grads[id(edge)] = [edge, grad, False]
                    else:
                        total = add(known[1], grad)
                        if known[2] and tr.alone:
                            _over(tr, known[1]._value, total._value)
                        known[1] = total
                        known[2] = tr.alone and not create_graph
                continue
            else:
                state = waiting[edge]
                if grad is not None:
                    slots = state[1]
                    if slots is None:
                        state[1] = [grad] if not edge.several else [grad, *[None] * (edge.results - 1)]
                    else:
                        slots[0] = grad if slots[0] is None else add(slots[0], grad)
            state[0] -= used
            if not state[0] and used:
                stack.append(edge)

    deliver(start, grads, 0)
    for edge in start:
        if not isinstance(edge, Handle):
            node = edge[0] if type(edge) is tuple else edge
            if waiting[node][0] == 0 and node not in stack:
                stack.append(node)

    simple = useful is waiting and not create_graph and inner is None and not wanted_nodes
    while stack:
        node = stack.pop()
        state = waiting[node]
        slots = state[1]
        edges = node.edges
        if slots is None:
            deliver(edges, (None,) * len(edges), 1)
            continue
        state[1] = None
        share: Any = None
        if tr.alone and simple and isinstance(node, GradNode) and not tr.values:
            share = advance(tr, node, slots, waiting, leaf_grads, stack)
            if share is True:
                if not retain_graph:
                    node.release()
                continue
        found = [(k, nr) for nr in range(len(slots)) for k in wanted_nodes.get((id(node), nr), ())] if wanted_nodes else ()
        rare = node.rare
        if rare is not None and not _PRE_HOOKS.isdisjoint(rare) and (inner is None or not found or found[0][0] < inner):
            slots = _run_pre_hooks(node, slots)
        for k, nr in found:
            captured[k] = slots[nr]
        if (useful is waiting or node in useful) and (inner is None or not found):
            given = run_rule(tr, node, edges, slots) if rare is None and isinstance(node, GradNode) else _step(node, slots)
            if not retain_graph:
                node.release()
            deliver(edges, given, 1)
            if tr.alone:
                if share is not None:
                    share.recorded(tr, slots, given, waiting, leaf_grads)
                    slots = given = ()  # they would count as alive
                if tr.values:
                    flush_trace(tr, True, True)
                if share is not None:
                    share.keep(tr)
        else:
            deliver(edges, (None,) * len(edges), 1)

    for leaf, grad, _ in leaf_grads.values():
        _finish_leaf(leaf, grad, create_graph, wanted_leaves, accumulate, captured, inner)
    return captured


def _over(tr: Trace, old: Value, new: Value) -> None:
    """A sum takes over the memory of the one before, which nobody but the walk knows."""
    if new.buffer is None and new.meta is old.meta and old.origin is None:
        new.home, old.home = old.home or old.buffer, None
        tr.epoch.writes = True


def _count_users(start: Sequence[Any], wanted_leaves: dict[int, list[int]] | None,
                 wanted_nodes: dict[tuple[int, int], list[int]]) -> tuple[dict[Node, list[Any]], Any]:
    """Of each node: how many edges inside the reachable graph lead to it, and the gradients of its results, of which there are none yet;
    and which nodes lead to something wanted (a wanted result of a node itself is not below it: where nothing deeper is wanted, the node is
    not run and keeps what it saved)."""
    users: dict[Node, list[Any]] = {}
    order: list[Node] = []
    todo = []
    for edge in start:
        if edge is not None and not isinstance(edge, Handle):
            node = edge[0] if type(edge) is tuple else edge
            if node not in users:
                users[node] = [0, None]
                todo.append(node)
    while todo:
        node = todo.pop()
        order.append(node)
        for edge in node.edges:
            if edge is None or isinstance(edge, Handle):
                continue
            target = edge[0] if type(edge) is tuple else edge
            state = users.get(target)
            if state is not None:
                state[0] += 1
            else:
                users[target] = [1, None]
                todo.append(target)
    if wanted_leaves is None:
        return users, users
    wanted = {n for n, _ in wanted_nodes}
    useful: set[Node] = set()
    parents: dict[Node, list[Node]] = {}
    seeds, hits = [], []
    for node in order:
        hit = False
        if id(node) in wanted:
            hits.append(node)
        for edge in node.edges:
            if isinstance(edge, Handle):
                hit = hit or id(edge) in wanted_leaves
            elif edge is not None:
                parents.setdefault(edge[0] if type(edge) is tuple else edge, []).append(node)
        if hit:
            seeds.append(node)
    for node in hits:
        seeds.extend(parents.get(node, ()))
    while seeds:
        node = seeds.pop()
        if node not in useful:
            useful.add(node)
            seeds.extend(parents.get(node, ()))
    return users, useful


def _step(node: Node, slots: list[Any]) -> Sequence[Any]:
    """Run one node, with its hooks: gradients in, gradients out, of the inputs' shapes and dtypes."""
    tr = local.trace
    here, tr.here = tr.here, None  # the user's code may be in it, with lines of its own
    try:
        return _step_as_told(node, slots)
    finally:
        tr.here = here


def _step_as_told(node: Node, slots: list[Any]) -> Sequence[Any]:
    try:
        given = node.backward(slots)
    except RuntimeError as error:
        if node.rare is not None and "trace_text" in node.rare:
            from .anomaly import explain

            explain(node, error)
        raise
    metas = getattr(node, "in_metas", None)
    if metas is not None:
        given = fitted(node, given, metas, node.edges)
    if node.rare is not None and "hooks" in node.rare:
        given = _run_hooks(node, given, slots)
    if local.trace.anomaly:
        from .anomaly import check

        check(node, given)
    return given


def _run_pre_hooks(node: Node, slots: list[Any]) -> list[Any]:
    for hook in [hook for when in _PRE_HOOKS for hook in node.rare.get(when, {}).values()]:  # type: ignore[union-attr]
        changed = hook(tuple(slots))
        if changed is not None:
            slots = list(changed) if isinstance(changed, (tuple, list)) else [changed]
    return slots


def _run_hooks(node: Node, given: Sequence[Any], slots: list[Any]) -> Sequence[Any]:
    for hook in list(node.rare["hooks"].values()):  # type: ignore[index]
        changed = hook(*node.shown_to_hooks(given, slots))
        if changed is not None:
            given = node.taken_from_hook(tuple(changed) if isinstance(changed, (tuple, list)) else (changed,), given)
    return given


def _finish_leaf(leaf: Handle, grad: Any, create_graph: bool, wanted: dict[int, list[int]] | None, accumulate: bool,
                 captured: dict[int, Any], inner: int | None) -> None:
    if wanted is not None and id(leaf) not in wanted:
        return
    if accumulate and leaf._edge is None:
        return  # it was told to want none since
    meta = leaf._value.meta
    if grad._value.meta.plain is not meta.plain:
        grad = reduced(grad, meta, "AccumulateGrad")
    more = leaf._more
    if more is not None and "hooks" in more and (inner is None or wanted[id(leaf)][0] < inner):  # type: ignore[index]
        for hook in list(more["hooks"].values()):
            changed = checked_gradient(hook(grad), grad, hook)
            if changed is not None:
                grad = changed
    if not accumulate:
        for k in wanted[id(leaf)]:  # type: ignore[index]
            captured[k] = grad
        return
    if leaf._grad is None:
        # The gradient must be nobody else's: not a view, nor the tensor that another leaf or the caller holds.
        if create_graph:
            leaf._grad = grad.clone()
        elif grad._alias is None and grad._value.meta is meta.own:
            leaf._grad = make(grad._value)
        else:  # in memory of its own, which lies as the leaf does
            leaf._grad = Restrided.in_order(grad.detach(), meta.own)
    elif create_graph:
        leaf._grad = Rules.add(leaf._grad, grad)
    else:
        leaf._grad.add_(grad)
    if more is not None and "post_hooks" in more:
        for hook in list(more["post_hooks"].values()):
            if hook(leaf) is not None:
                raise RuntimeError("Tensor post accumulate grad hooks should return None.")
