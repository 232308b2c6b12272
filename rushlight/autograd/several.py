"""Calls that were more than one operation with one result: several operations in a row, several results, writes in place.

What such a call recorded is read from where it left the trie, its results and its tensors, and written down as straight-line code
like that of ``steps.py``. It is remembered only if that explains everything: each leaf is an argument or a fresh draw, each graph node
that can be reached belongs to one of the operations and has the edges of their inputs, each write was to an argument.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..record.trace import TraceNode
from ..record.value import Value, looks
from .apply import Restrided
from .given import PLAIN_TENSORS, Made, Number, sort_arguments
from .handle import LEAF, UNWATCHED, UNWATCHED_WRITE, Alias, DataAlias, Handle, View
from .making import node_lines, tensor_lines, value_lines, writes_of
from .node import GradNode
from .steps import (
    A_LEAF,
    INDEX,
    NO,
    NUMBERS,
    RANGE,
    STRETCH,
    UNREAD,
    YES,
    Shape,
    checks,
    compiled,
    enters,
    together,
)

__all__ = ["several"]

OPERATIONS = 24  # of one call, at most: its step has lines for each of them
TENSORS = 64     # likewise


class _Unexplained(Exception):
    """Something about the call is not in what is read."""


def several(attempt: Any, out: Any) -> Made | None:
    """What there is to know of a call that has been made; None if it did what cannot be told from here."""
    tr = attempt.trace
    if tr.low is not None or tr.node is attempt.start:
        return None  # what autocast casts it keeps for the next operation
    try:
        return _Reader(attempt).read(out)
    except _Unexplained:
        return None


def _demand(condition: Any) -> None:
    if not condition:
        raise _Unexplained


@functools.lru_cache(4096)
def _step(source: str, classes: tuple[type[GradNode], ...], reads: Any) -> Callable[..., Any]:
    """``classes``: of the graph nodes, as the source numbers them; ``reads``: what it reads of an object, if it reads any."""
    return compiled(source, "<several>", looks=looks, **{f"GradNode{k}": c for k, c in enumerate(classes)},
                    **({} if reads is None else reads.scope()))


class _Reader:
    """What a call did.

    Attributes:
        ops: the trie nodes of its operations; ``names``: slot -> the name of the value in the step.
        grads: number of an operation -> its graph node; ``classes``: of these, once each; ``made``: slot -> the tensor that the
            step makes of a result.
        views: the results of view operations that somebody looks at; in the slots of the others stand plain values, which nobody needs.
            wholes: slots of results for which there are lines that make a tensor, to have views of, though the call gives none of it.
    """

    def __init__(self, attempt: Any) -> None:
        self.attempt, self.tr = attempt, attempt.trace
        self.values: list[Value] = self.tr.values
        found = sort_arguments(attempt, True)
        _demand(found is not None and len(found.tensors) <= TENSORS)
        assert found is not None
        self.found, self.args = found, found.tensors
        self.ops: list[TraceNode] = []
        self.names: dict[int, str] = {}
        self.sources: dict[str, int] = {}  # names of arguments' values -> which argument
        self.results: dict[int, tuple[int, int]] = {}  # slot -> (operation, number of the result)
        self.grads: dict[int, GradNode] = {}
        self.classes: list[type[GradNode]] = []
        self.made: dict[int, Any] = {}  # slot -> the tensor of a result
        self.views: set[int] = set()
        self.wholes: set[int] = set()
        self.events: list[tuple[str, int]] = []  # in the order of slots: ("enter", argument), ("draw", slot), ("op", operation)
        self.wants = [self._wants(t) for t in self.args]

    def _wants(self, t: Any) -> str:
        if type(t) is Number:
            return NO
        before = self.attempt.before.get(id(t))
        return before.wants if before is not None else NO if t._edge is None else A_LEAF if t._edge is LEAF else YES

    def read(self, out: Any) -> Made:
        self._read_path()
        written = self._read_writes()
        result, kind = self._read_result(out)
        writes = [line for i in written for line in self._write_lines(i)]
        self._read_views(written)
        shape = Shape(tuple(self.found.kinds), grad=self.tr.grad_enabled, wants=tuple(self.wants), is_view=bool(self.views))
        linked = sorted(self.grads)
        ops = range(len(self.ops))
        results = [(k, nr) for k in ops for nr in range(len(self.ops[k].metas))]
        heads = [*[f"x{k}_{nr}" for k, nr in results], *[f"s{k}_{nr}" for k, nr in results], *[f"m{k}" for k in linked]]
        facts = [*[self.ops[k].metas[nr] for k, nr in results], *[self.ops[k].slot + nr for k, nr in results],
                 *[self.grads[k].in_metas for k in linked]]
        for k, op in enumerate(self.ops):
            for nr, how in enumerate(op.op.hows(op) if op.op.is_view else ()):
                if how is not op and op.slot + nr in self.views:
                    heads.append(f"h{k}_{nr}")
                    facts.append(how)
        if kind is not None:
            heads.append("kind")
            facts.append(kind)
        slots = [*range(len(results), 2 * len(results))]
        if any(what == "draw" for what, _ in self.events):
            slots.append(len(facts))
            heads += ["drawn_slot", "pop", "draw"]
            leaf, *source = self.tr.drawn
            facts += [leaf.slot, *source]
        unwatched = [i for i in written if type(self.args[i]._alias) is DataAlias]
        names, kinds, lines = checks(shape, ", ".join(heads), True, written, self._kept(), unwatched)
        # A leaf has another edge, and may not be written.
        leaves = [f"e{i} is LEAF" for i, kind in enumerate(kinds) if self.wants[i] is YES and kind not in NUMBERS]
        if leaves:
            lines.append(f"if {' or '.join(leaves)}: return None")
        nodes = list(self.ops)
        if nodes[-1] is not self.tr.node:
            nodes.append(self.tr.node)  # a leaf
        then, single = "nodes", len(nodes) == 1
        made = ["spare = tr.spare"]
        if single:
            then = "n0"
        else:
            made.insert(0, f"{''.join([f'n{k}, ' for k in range(len(nodes))])}= nodes")
        for what, k in self.events:
            if what == "enter":
                made += enters(k, kinds[k], not self.views and k not in written)
            elif what == "draw":
                # One of those that are drawn in advance: without a lock or a call.
                made += ["try: l0 = pop()", "except IndexError: l0 = draw()", "l0.epoch = epoch", "l0.slot = drawn_slot",
                         "values.append(l0)"]
            else:
                made += self._operation(k)
        made.append(f"tr.node = n{len(nodes) - 1}")
        if writes:
            made += ["epoch.writes = epoch.rewrites = True", f"looks.written += {len(written)}", *writes]
        made.append(f"return {result}")
        classes, reads = tuple(self.classes), self.attempt.function.reads
        return Made(_step(together(then, names, lines, made), classes, reads), nodes[0] if single else tuple(nodes),
                    (*facts, *self.found.facts), lambda: _step(together(then, names, lines, made, True), classes, reads), slots, self.found)

    def _kept(self) -> set[int]:
        """Which arguments graph nodes keep."""
        names = {self.names[s] for k in self.grads for s, keep in zip(self.ops[k].inputs, self._plan(k)[1] or ()) if keep}
        return {self.sources[name] for name in names if name in self.sources}

    # -- the path ----------------------------------------------------------------------------------------------------

    def _read_path(self) -> None:
        """Which leaves and operations there were, and what each slot is called."""
        attempt, epoch = self.attempt, self.attempt.epoch
        path: list[TraceNode] = []
        node: Any = self.tr.node
        while node is not attempt.start:
            _demand(node is not None and not node.is_mark and not (node.stop or node.sweep) and len(path) < OPERATIONS + TENSORS)
            path.append(node)
            node = node.parent
        entering: dict[int, int] = {}
        for i, (t, v, kind) in enumerate(zip(self.args, self.found.values, self._kinds())):
            _demand(kind not in (INDEX, RANGE))
            if kind == UNREAD:
                continue
            slot = v.slot if v.epoch is epoch else self.tr.copied[1]
            self.sources[f"v{i}"] = i
            if slot >= attempt.slot:
                _demand(slot not in entering and (type(t) is Number or v.buffer is not None or v.origin is not None))
                entering[slot] = i
            self.names.setdefault(slot, f"v{i}")
        slot, kinds = attempt.slot, self._kinds()
        while path:
            node = path.pop()
            _demand(node.slot == slot)
            if node.op is None:
                i = entering.pop(slot, -1)
                if i < 0 and slot + 1 in entering and kinds[entering[slot + 1]] == STRETCH:
                    i, view = entering.pop(slot + 1), path.pop()
                    _demand(view.op is Restrided.op and view.inputs == (slot,))
                    slot += 1
                if i < 0:
                    _demand(self.values[slot] is self.tr.drawn[0] and "l0" not in self.names.values())
                    self.names[slot] = "l0"
                self.events.append(("enter", i) if i >= 0 else ("draw", slot))
                slot += 1
                continue
            _demand(all(s in self.names for s in node.inputs))
            k = len(self.ops)
            self.ops.append(node)
            self.events.append(("op", k))
            for nr in range(len(node.metas)):
                self.results[slot] = k, nr
                self.names[slot] = f"r{k}_{nr}"
                slot += 1
        _demand(not entering and slot == len(self.values) and 0 < len(self.ops) <= OPERATIONS)

    def _kinds(self) -> list[str]:
        """The kinds of the tensors, in order."""
        kinds = []
        for kind in self.found.kinds:
            items = [kind] if type(kind) is str else [item for _, item in kind[1]] if kind[0] == "**" else kind[1]
            for item in items:
                kinds += [k for k in ((item,) if type(item) is str else item[1]) if k in _TENSOR_KINDS]
        return kinds

    def _slot(self, v: Any) -> int:
        """The slot of a result of this call."""
        _demand(v.epoch is self.attempt.epoch and v.slot in self.results and self.values[v.slot] is v)
        return int(v.slot)

    # -- the graph ---------------------------------------------------------------------------------------------------

    def _edge(self, edge: Any) -> str:
        """How the step names an edge to an operation of this call."""
        if edge is None:
            return "None"
        node, nr = edge if type(edge) is tuple else (edge, None)
        _demand(isinstance(node, GradNode) and node.epoch is self.attempt.epoch)
        k = next((k for k, op in enumerate(self.ops) if op is node.node), None)
        _demand(k is not None)
        self._reach(k, node)  # type: ignore[arg-type]
        return f"(g{k}, {nr})" if nr else f"g{k}"

    def _reach(self, k: int, grad: GradNode) -> None:
        stack = [(k, grad)]
        while stack:
            k, grad = stack.pop()
            if k in self.grads:
                _demand(self.grads[k] is grad)
                continue
            op = self.ops[k]
            _demand(isinstance(grad, GradNode) and len(grad.EDGES) == len(op.inputs) and type(grad.state) is tuple)
            plan = op.saves.get(sum([1 << n for n, edge in enumerate(grad.edges) if edge is not None]))
            _demand(plan is not None and plan[0] == grad.in_metas)
            self.grads[k] = grad
            for slot, edge in zip(op.inputs, grad.edges):
                if edge is not None and slot in self.results:
                    node, nr = edge if type(edge) is tuple else (edge, 0)
                    j, number = self.results[slot]
                    _demand(isinstance(node, GradNode) and node.node is self.ops[j] and node.epoch is self.attempt.epoch and nr == number)
                    stack.append((j, node))

    def _input_edge(self, slot: int, edge: Any) -> str:
        """The edge of an operation's input, which is None or that of what is in the slot."""
        if edge is None:
            return "None"
        if slot in self.results:
            return self._edge(edge)
        i = self.sources[self.names[slot]]
        return self._outer_edge(i, edge)

    def _outer_edge(self, i: int, edge: Any) -> str:
        """How the step names the edge that an argument had."""
        t = self.args[i]
        _demand(type(t) is not Number)
        if self.wants[i] is A_LEAF:
            _demand(edge is t)
            return f"t{i}"
        before = self.attempt.before.get(id(t))
        _demand(self.wants[i] is YES and id(edge) == (id(t._edge) if before is None else before.edge))
        return f"e{i}"

    # -- writes ------------------------------------------------------------------------------------------------------

    def _read_writes(self) -> list[int]:
        """Which arguments got another value."""
        written = []
        before = self.attempt.before
        for i, t in enumerate(self.args):
            if type(t) is Number or any(t is other for other in self.args[:i]):
                continue
            state = before.get(id(t))
            if state is None:
                _demand(looks.written == self.attempt.written)
            elif state.value != id(t._value):
                _demand(state.alias == id(t._alias) and type(self.found.values[i]) is Value and not (
                    state.wants is A_LEAF and self.tr.grad_enabled))
                alias = t._alias
                _demand(alias is None or type(alias) in (Alias, DataAlias) and alias.parent is None and alias.base is None)
                count = UNWATCHED_WRITE if type(alias) is DataAlias else 1
                _demand((t._writes if alias is None else alias.storage.version) == state.version + count and t._more is None)
                written.append(i)
            else:
                _demand(state.edge == id(t._edge))
        _demand(len(written) == looks.written - self.attempt.written)
        return written

    def _write_lines(self, i: int) -> list[str]:
        """Lines that give an argument another value."""
        t, old = self.args[i], self.found.values[i]
        slot = self._slot(t._value)
        _demand(type(t._value) is Value and old.overwritten is not None)  # no view, then
        name, by = old.overwritten
        unwatched = type(t._alias) is DataAlias
        if by is None:
            writer = "None"
        elif by is UNWATCHED:
            writer = "UNWATCHED"
        elif isinstance(by, GradNode) and any(by.node is op for op in self.ops):
            writer = self._edge(by)
        else:  # a copy is told by what it is a copy of
            writer = next((self._outer_edge(k, by) for k, other in enumerate(self.args) if type(other) is not Number and (
                by is other if self.wants[k] is A_LEAF else self.wants[k] is YES and by is other._edge)), "")
            _demand(writer)
        r = self.names[slot]
        lines = [f"v{i}.overwritten = ({name!r}, {writer})", f"{r}.home = v{i}.buffer if v{i}.home is None else v{i}.home",
                 f"v{i}.home = None",
                 f"if a{i} is None: t{i}._writes += 1", "else:", f"  storage = a{i}.storage", f"  storage.value = {r}",
                 f"  storage.version = a{i}.version = storage.version + {UNWATCHED_WRITE if unwatched else 1}", f"t{i}._value = {r}"]
        state = self.attempt.before[id(t)]
        if id(t._edge) != state.edge:
            lines.append(f"t{i}._edge = {self._edge(t._edge)}")
        return lines

    # -- results -----------------------------------------------------------------------------------------------------

    def _read_result(self, out: Any) -> tuple[str, Any]:
        """How the step names what it returns, and what makes it of a tuple if it has names."""
        if isinstance(out, Handle):
            return self._tensor(out), None
        named = isinstance(out, tuple) and hasattr(out, "_fields")
        _demand((named or type(out) in (tuple, list)) and len(out) and all(item is None or isinstance(item, Handle) for item in out))
        items = "".join([("None" if item is None else self._tensor(item)) + ", " for item in out])
        if named:
            return f"kind(({items}))", getattr(type(out), "quickly", None) or functools.partial(tuple.__new__, type(out))
        return f"[{items}]" if type(out) is list else f"({items})", None

    def _tensor(self, t: Any) -> str:
        """How the step names a tensor that it returns, or that views are made of."""
        for i, other in enumerate(self.args):
            if other is t:
                return f"t{i}"
        slot = self._slot(t._value)
        begun = writes_of(self.tr.grad_enabled, self._is_view(slot))
        _demand(type(t) in PLAIN_TENSORS and t._grad is None and t._more is None and t._writes == begun)
        former = self.made.setdefault(slot, t)
        _demand(former is t)
        self._edge(t._edge)
        if self.ops[self.results[slot][0]].op.is_view:
            self.views.add(slot)
            _demand(t._alias is t._value)
        else:
            alias = t._alias
            _demand(type(t._value) is Value and (alias is None or type(alias) is Alias and alias.parent is None and alias.base is None))
        return "o" + self.names[slot]

    def _read_views(self, written: Sequence[int]) -> None:
        """Which results somebody looks at as views, and what those are made of."""
        seen = None
        while seen != (len(self.views), len(self.grads)):  # what a view is made of may have a graph node that was not reached before
            seen = len(self.views), len(self.grads)
            for k in self.grads:
                _, mask, outs, *_ = self._plan(k)
                self.views |= {s for s, keep in zip(self.ops[k].inputs, mask or ()) if keep and self._is_view(s)}
                if any(outs) and self.ops[k].op.is_view:
                    self.views |= {self.ops[k].slot + nr for nr, keep in enumerate(outs) if keep}
            self._read_sources(written)

    def _read_sources(self, written: Sequence[int]) -> None:
        for op in reversed(self.ops):
            if not op.op.is_view:
                continue
            _demand(len(op.inputs) == 1)
            source, = op.inputs
            _demand(source in self.results or self.sources[self.names[source]] not in written)
            for nr, how in enumerate(op.op.hows(op)):
                self._read_source(self.values[op.slot + nr], how, source, op.slot + nr in self.views)

    def _read_source(self, view: Any, how: Any, source: int, looked_at: bool) -> None:
        """See that a view is of what the step will make it of."""
        _demand(type(view) is View)
        if not looked_at:
            return
        _demand(view.how == how)
        parent: Any = view.parent
        base = view.base
        _demand((base is None) != bool(self.tr.grad_enabled))
        if source not in self.results:
            t = self.args[self.sources[self.names[source]]]
            state = self.attempt.before.get(id(t))
            _demand(state is not None and state.value == id(t._value) and parent is t._alias)
            _demand(base is None or base is (t if parent.base is None else parent.base))
        elif self._is_view(source):
            self.views.add(source)
            whole: Any = self.values[source]
            _demand(parent is whole and base is whole.base)
        else:
            _demand(type(parent) is Alias and parent.parent is None and parent.storage.value is self.values[source]
                    and parent.storage.version == 0)
            if base is not None:
                _demand(base._alias is parent and base._value is self.values[source])
                self._tensor(base)

    def _is_view(self, slot: int) -> bool:
        return slot in self.results and self.ops[self.results[slot][0]].op.is_view

    def _plan(self, k: int) -> tuple[Any, ...]:
        return self.ops[k].saves[sum([1 << n for n, edge in enumerate(self.grads[k].edges) if edge is not None])]

    # -- lines -------------------------------------------------------------------------------------------------------

    def _operation(self, k: int) -> list[str]:
        """Lines that record an operation."""
        op = self.ops[k]
        lines = []
        names = [self.names[op.slot + nr] for nr in range(len(op.metas))]
        views = [op.slot + nr in self.views for nr in range(len(names))]  # of what nobody looks at, a view would cost thrice as much
        for nr, (r, is_view) in enumerate(zip(names, views)):
            lines += value_lines(r, f"x{k}_{nr}", f"s{k}_{nr}", is_view, "tr.spare_views" if is_view else "spare")
            if is_view:
                lines += self._view(k, nr)
        if k in self.grads:
            lines += self._grad(k, names)
        for nr, (r, is_view) in enumerate(zip(names, views)):
            t = self.made.get(op.slot + nr)
            if t is not None:
                lines += tensor_lines(f"o{r}", r, self._edge(t._edge), self.tr.grad_enabled, is_view)
        return lines

    def _view(self, k: int, nr: int) -> list[str]:
        """Lines that tell a view what it is a view of."""
        op = self.ops[k]
        slot, = op.inputs
        source, r = self.names[slot], self.names[op.slot + nr]
        how = f"n{k}" if op.op.hows(op)[nr] is op else f"h{k}_{nr}"
        if slot not in self.results:
            t = f"t{self.sources[source]}"
            lines, base = [f"parent = {t}._alias or storage_of({t})"], f"{t} if parent.base is None else parent.base"
        elif self._is_view(slot):
            lines, base = [f"parent = {source}"], f"{source}.base"
        else:
            lines, base = [f"parent = o{source}._alias or storage_of(o{source})"], f"o{source}"
            if slot not in self.made and slot not in self.wholes:  # no tensor of this one is looked at
                self.wholes.add(slot)
                writes = writes_of(self.tr.grad_enabled)
                lines = [f"o{source} = next(blanks)", f"o{source}._value = {source}", f"o{source}._writes = {writes}",
                         f"o{source}._alias = None", *lines]
        if not self.tr.grad_enabled:
            base = "None"
        return [*lines, "storage = parent.storage", f"{r}.storage = storage", f"{r}.origin = storage.value",
                f"{r}.version = storage.version", f"{r}.base = {base}", f"{r}.parent = parent", f"{r}.how = {how}"]

    def _grad(self, k: int, names: Sequence[str]) -> list[str]:
        """Lines that make the graph node of an operation."""
        op, edges = self.ops[k], self.grads[k].edges
        _, mask, outs, *_ = self._plan(k)
        kind = type(self.grads[k])
        if kind not in self.classes:
            self.classes.append(kind)
        slots = {f"out{nr}": r if keep else "None" for nr, (r, keep) in enumerate(zip(names, outs))}
        for n, (slot, edge) in enumerate(zip(op.inputs, edges)):
            slots |= {f"edge{n}": self._input_edge(slot, edge), f"kept{n}": self.names[slot] if mask and mask[n] else "None"}
        _demand(sorted([name for name, value in slots.items() if value != "None"]) == sorted(kind.FILLED))
        return node_lines(f"g{k}", f"GradNode{self.classes.index(kind)}", f"n{k}", f"m{k}", {name: slots[name] for name in kind.FILLED})


_TENSOR_KINDS = {"slot", "view", "old part", "leaf", "part", STRETCH, UNREAD, *NUMBERS}
