"""Gradient rules as calls: a rule that a walk has run at this point of a trace before is not run again.

A rule works out attributes, checks arguments and records operations, from what its graph node keeps and from the incoming gradients.
So it is remembered like the call of a public function (``quick.py``), with these tensors as its arguments: at the same node of the trie,
for values of the same slots, the walk goes straight to where the rule arrived, with or without graph nodes for a second derivative.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from ..record.meta import Meta
from ..record.trace import NOTHING, Trace
from ..record.value import looks
from . import handle
from .apply import value_of
from .bare import MOST, written_down
from .calls import Attempt, Function, search
from .handle import make
from .node import GradNode

__all__ = ["Rules", "fitted", "reduced", "run_rule"]

_INPUTS = 16  # of an operation, at most, whose rule is remembered: steps are written for each number of them


class Rules:
    """Operations the engine itself needs, handed in by the rooms above."""

    add: Any          # (a, b) -> a + b
    reduce_to: Any    # (grad, meta) -> grad summed to the meta's shape and cast to its dtype
    zeros: Any        # (meta) -> tensor
    ones: Any         # (meta) -> tensor
    stack: Any        # (list of tensors) -> tensor
    from_numpy: Any   # (array) -> tensor
    find_nan: Any     # (tensor) -> bool


class _Rule(Function):
    """The rule of all graph nodes whose inputs and results are alike. ``passes``: meta of the gradient -> which inputs get just that,
    where the rule records nothing."""

    __slots__ = ("passes", "__weakref__")

    def __init__(self) -> None:
        super().__init__(-1, -1)
        self.passes: dict[Meta, tuple[bool, ...]] = {}


_rules: WeakValueDictionary[Any, _Rule] = WeakValueDictionary()  # one for all that is equal: what differs from call to call are tensors


def _rule(node: GradNode, needs: int) -> _Rule:
    """The rule of a graph node, some of whose inputs (a bit for each) want a gradient."""
    at: Any = node.node
    key = at.op, at.attrs, node.in_metas, at.metas, needs
    found = _rules.get(key)
    if found is None:
        found = _rules[key] = _Rule()
    if at.rules is NOTHING:
        at.rules = {}
    at.rules[needs] = found
    return found


class _Context:
    """What a gradient rule reads of its graph node (``Op.gradient``), with tensors made once."""

    __slots__ = ("attrs", "metas", "needs", "inputs", "outputs", "_out_metas")

    def __init__(self, node: GradNode, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self.attrs, self.metas, self.needs, self._out_metas = node.node.attrs, node.in_metas, node.needs, node.node.metas
        self.inputs, self.outputs = inputs, outputs

    def out_metas(self) -> tuple[Meta, ...]:
        return self._out_metas


def run_rule(tr: Trace, node: GradNode, edges: Sequence[Any], grads: Sequence[Any]) -> Sequence[Any]:
    """The gradients of a node's inputs, given those of its results, of the inputs' shapes and dtypes."""
    if tr.full or node.state is None or len(edges) > _INPUTS:
        return fitted(node, node.backward(grads), node.in_metas, edges)
    needs, bit = 0, 1
    for edge in edges:
        if edge is not None:
            needs += bit
        bit += bit
    if not (tr.grad_enabled or tr.node.edges or tr.node.last.function):
        return _anew(tr, node, needs, edges, grads)
    rule = node.node.rules.get(needs) or _rule(node, needs)
    if rule.passes and len(grads) == 1:
        g = grads[0]
        passes = rule.passes.get(g._value.meta)
        if passes is not None:
            return [g if one else None for one in passes]
    if tr.grad_enabled:
        inputs, outputs = node.inputs, node.outputs
        args = [t for t in (*inputs, *outputs) if t is not None]
    else:  # without edges, so that there are fewer kinds of calls
        args = _opener(node.HELD)(node)
    start = tr.node
    last = start.last
    if last.function is rule:
        step = last.step  # not called as a method, as in ``quick.py``
        given = step(tr, start.then, last.facts, *args, *grads)
        if given is not None:
            return given  # type: ignore[no-any-return]
    known = search(rule, tr, (*args, *grads))
    if not isinstance(known, Attempt):
        return known  # type: ignore[no-any-return]
    if not tr.grad_enabled:
        before = tr.epoch, len(tr.values), looks.count, looks.written
        given = _anew(tr, node, needs, edges, grads)
        return _kept(tr, rule, known, before, grads, given)
    return _run(tr, node, rule, known, _Context(node, inputs, outputs), edges, grads)


def _anew(tr: Trace, node: GradNode, needs: int, edges: Sequence[Any], grads: Sequence[Any]) -> Sequence[Any]:
    """The same where it is not remembered, without graph nodes for a second derivative."""
    args = [v if v.overwritten is None and v.origin is None else node._checked(v) for v in (*node.kept, *node.kept_outs) if v is not None]
    at: Any = node.node
    first = len(args)
    name: Any = None
    if all(g is not None for g in grads):
        args += [value_of(g) for g in grads]
        name = (at.op, at.attrs, node.in_metas, at.metas, needs, *[v.meta for v in args])
        ids = list(map(id, args))
        if len(set(ids)) < len(ids):  # some are the same value
            name = (*name, *map(ids.index, ids))
        bare = tr.bare.get(name)
        if bare:
            return bare.record(tr, args, grads, first)  # type: ignore[no-any-return]
        if bare is False or not tr.rules_met.again(name):
            name = None
    made = iter(map(make, args))
    inputs = [None if v is None else next(made) for v in node.kept]
    outputs = [None if v is None else next(made) for v in node.kept_outs]
    start, before = tr.node, (tr.epoch, len(tr.values), looks.count, looks.written)
    tr.full = True  # so that the calls inside are not remembered, each by itself
    try:
        given = fitted(node, at.op.gradient(_Context(node, inputs, outputs), *grads), node.in_metas, edges)
    finally:
        tr.full = tr.exported or tr.slow
    if name is not None:
        if len(tr.bare) >= MOST:
            del tr.bare[next(iter(tr.bare))]
        tr.bare[name] = written_down(tr, start, before, args, grads, first, given) or False
    return given


@functools.cache
def _opener(held: tuple[str, ...]) -> Any:
    """``opened(node)`` gives tensors of what a graph node keeps in these slots: straight-line code, since every rule begins so."""
    lines = ["def opened(node):"]
    for k, name in enumerate(held):
        lines += [f"  v = node.{name}", "  if v.overwritten is not None or v.origin is not None: node._checked(v)",
                  f"  t{k} = next(blanks)", f"  t{k}._value = v", f"  t{k}._writes = 0",
                  f"  t{k}._edge = t{k}._grad = t{k}._alias = t{k}._more = None"]
    lines.append(f"  return [{', '.join([f't{k}' for k in range(len(held))])}]")
    scope: dict[str, Any] = {"blanks": handle.blanks, "__name__": __name__}
    exec(compile("\n".join(lines), f"<opened {len(held)}>", "exec"), scope)
    return scope["opened"]


def _run(tr: Trace, node: GradNode, rule: _Rule, attempt: Attempt, context: _Context, edges: Sequence[Any],
         grads: Sequence[Any]) -> Sequence[Any]:
    """Run the rule itself, and remember what it did."""
    before = tr.epoch, len(tr.values), looks.count, looks.written
    tr.full = type(attempt) is Attempt  # then the calls inside are not remembered, each by itself, as well
    try:
        given = fitted(node, node.node.op.gradient(context, *grads), node.in_metas, edges)  # type: ignore[union-attr]
    finally:
        tr.full = tr.exported or tr.slow
    return _kept(tr, rule, attempt, before, grads, given)


def _kept(tr: Trace, rule: _Rule, attempt: Attempt, before: tuple[Any, ...], grads: Sequence[Any], given: Sequence[Any]) -> Sequence[Any]:
    """What a rule gave, after it is remembered."""
    if len(grads) == 1 and before == (tr.epoch, len(tr.values), looks.count, looks.written) and all(
            g is None or g is grads[0] for g in given):
        rule.passes[grads[0]._value.meta] = tuple([g is not None for g in given])
        return given
    return attempt.keep(given)  # type: ignore[no-any-return]


def fitted(node: Any, given: Sequence[Any], metas: Sequence[Meta], edges: Sequence[Any]) -> tuple[Any, ...]:
    """The gradients that the rule of a node gave, of its inputs' shapes and dtypes."""
    return tuple([g if g is None or edge is None or g._value.meta.plain is m.plain else reduced(g, m, node.name(), k)
                  for k, (g, m, edge) in enumerate(zip(given, metas, edges, strict=True))])


def reduced(grad: Any, meta: Meta, name: str, nr: int = 0) -> Any:
    """The gradient that a node of this name gives for input ``nr``, summed to the shape of that.

    Raises:
        RuntimeError: the shape does not broadcast to the gradient's (another tensor became the content meanwhile).
    """
    have, want = grad._value.meta.shape, meta.shape
    if len(want) > len(have) or any(n != m and n != 1 for n, m in zip(reversed(want), reversed(have))):
        raise RuntimeError(f"Function {name} returned an invalid gradient at index {nr} - got {list(have)} but expected shape "
                           f"compatible with {list(want)}")
    return Rules.reduce_to(grad, meta)
