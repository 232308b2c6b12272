"""A call that was made before, as straight-line code: written once for each shape of call, then shared by all that have it.

``step(tr, then, facts, *arguments)`` checks that a call is the remembered one (the same atoms, tensors at the same places of the
trace, the same wish for gradients), and if so records what that call recorded: it moves to the node ``then`` of the trie, and
makes the value, the tensor and the graph node. Otherwise it returns None and has done nothing. What belongs to one call is in
``facts``; of what is known, only the node belongs to one point of a trace.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..record.value import COPIED, Value, is_exported, scalar_value
from . import handle
from .entering import copy_of, in_use_text, is_stretch, is_strided, part_of, stretch_of
from .handle import LEAF, UNWATCHED, Alias, DataAlias, How, View, storage_of
from .making import node_lines, tensor_lines, value_lines
from .node import grad_class, titled_class
from .overriding import forgetting, overriding
from .reads import Reads

__all__ = ["ATOM", "CONSTANTS", "EQUAL", "FLOATS", "INTS", "SLICE", "SLOT", "VIEW", "OLD_PART", "LEAF_VALUE", "PART", "STRETCH", "UNREAD",
           "NUMBER", "INTEGER", "INDEX", "PLACE", "RANGE", "NUMBERS", "SAME", "NO", "A_LEAF", "YES", "Shape", "checks", "compiled",
           "enters", "same", "start_of", "step_for", "together"]

# What an argument can be, and what ``facts`` hold of it. Groups of arguments are ("*", kinds) for *args, of which some may be lists of
# tensors; ("[]", kinds) for a list or tuple of tensors, ("()", kinds) for a tuple with slices, ("**", (name, kind) pairs) for **kwargs,
# and (``Reads``, kinds) for an object of which some attributes are read.
CONSTANTS = {"None": None, "True": True, "False": False}  # nothing
ATOM = "atom"          # no tensor: the object. EQUAL: one that is the same as any equal one of its type; INTS: a tuple or list of numbers,
EQUAL = "equal"        # behind which stand its type and how many there are
INTS = "ints"
SLICE = "slice"        # its three fields
SLOT = "slot"          # a tensor in the trace: its slot
VIEW = "view"          # ... that is a view: likewise
OLD_PART = "old part"  # ... that entered as a leaf of its own before: likewise
LEAF_VALUE = "leaf"    # a tensor of ready memory, which enters the trace: its meta
PART = "part"          # a row-major part of ready memory, which enters as a leaf of its own: its meta
STRETCH = "stretch"    # a view with strides of ready memory, recorded behind the stretch that it lies in, which enters: its meta
SAME = "same "          # a tensor that is another argument, too, whose number among the tensors follows: nothing
UNREAD = "unread"      # a tensor that is in no slot, because its value was not read: its meta
# Numbers that keep changing (``varying.py``) and enter as leaves:
NUMBER = "number"      # a float: nothing
INTEGER = "integer"    # likewise
INDEX = "index"        # a position, which may count from the end: the length of the dimension
PLACE = "place"        # a place among all elements: their number
RANGE = "range"        # a slice of fixed length: (length of the dimension, of the slice, step)
NUMBERS = (NUMBER, INTEGER, INDEX, PLACE, RANGE)

_LEAST, _MOST = -1 << 63, (1 << 63) - 1  # of an int64

# Whether a tensor wants a gradient.
NO, A_LEAF, YES = "no", "a leaf", "yes"

FLOATS = {float, np.float16, np.float32, np.float64}  # equal ones may differ in the sign of zero

UNROLLED = 8  # views that one call gives, for each of which a step has lines of its own


class Shape(NamedTuple):
    """What the calls have in common that one step makes.

    Attributes:
        arguments: what each is, or of a group what its items are.
        inputs: the inputs of the operation, as positions among the tensors; ``entering``: the tensors that enter, in order.
        grad: the grad mode, None in inference mode; ``wants``: which tensors want a gradient (not looked at where it is off): NO, A_LEAF
            or YES.
        linked: the result has a graph node; ``keeps``: which inputs that keeps, or None; ``outs``: which results; ``title``: its
            name, if that is not the operation's.
        results: how many results the operation has; ``nr``: which of them is the result of the call. Of several the facts have all
            metas instead of the one.
        is_view: the result shares the memory of the tensor; ``moves``: its position is a number, and the facts have besides the
            meta the operation and its attributes with another position.
        pieces: the result is a tuple of so many such views; instead of the result's meta the facts have (meta, how it is made) of each.
    """

    arguments: tuple[Any, ...]
    entering: tuple[int, ...] = ()
    grad: bool | None = False
    wants: tuple[str, ...] = ()
    inputs: tuple[int, ...] = ()
    linked: bool = False
    keeps: tuple[bool, ...] | None = None
    outs: tuple[bool, ...] = ()
    title: str | None = None
    results: int = 1
    nr: int = 0
    is_view: bool = False
    moves: bool = False
    pieces: int = 0


@functools.lru_cache(4096)
def step_for(shape: Shape, anew: bool = False) -> Callable[..., Any]:
    """The step of all calls of a shape. Its facts: meta and slot of the result, metas of the operation's inputs, then those of each
    argument. ``anew``: of calls where nobody has been (``anew.py``)."""
    wants = tuple([shape.wants[i] is not NO for i in shape.inputs]) if shape.linked else ()
    kind: Any = grad_class(wants, shape.keeps or (False,) * len(wants), shape.outs)
    if shape.title is not None:
        kind = titled_class(kind, shape.title)
    reads = shape.arguments[-1][0] if type(shape.arguments[-1][0]) is Reads else None
    return compiled(_source(shape, anew), f"<step {shape.arguments}>", GradNode=kind, **({} if reads is None else reads.scope()))


forgetting(step_for.cache_clear)


def compiled(source: str, name: str, **more: Any) -> Callable[..., Any]:
    """The step with this source; ``more``: what it refers to besides what all of them may."""
    scope: dict[str, Any] = {f.__name__: f for f in (
        Alias, DataAlias, Value, View, storage_of, scalar_value, start_of, same, getrefcount, is_exported, is_strided, is_stretch, part_of,
        stretch_of, copy_of)}
    scope |= {"__name__": __name__, "blanks": handle.blanks, "LEAF": LEAF, "UNWATCHED": UNWATCHED, "MISSING": object(),
              "ndarray": ndarray, "overriding": overriding, "how_of": functools.partial(tuple.__new__, How), **more}
    exec(compile(source, name, "exec"), scope)
    return scope["step"]  # type: ignore[no-any-return]


def _source(shape: Shape, anew: bool) -> str:
    kept = [i for i, keep in zip(shape.inputs, shape.keeps or ()) if keep]
    names, tensors, lines = checks(shape, "meta, slot, in_metas", bool(shape.grad), kept=kept)
    # Leaves enter right before the result, or the first of several.
    before = len(shape.entering) + shape.nr
    made = [line for k, i in enumerate(shape.entering) for line in enters(i, tensors[i], not shape.is_view, f"slot - {before - k}")]
    made.append("tr.node = node")
    made.append(f"spare = tr.{'spare_views' if shape.is_view else 'spare'}")
    if shape.is_view:
        made += _whole(shape)
    made += _pieces(shape) if shape.pieces else [*_result(shape), "return out"]
    return together("node", names, lines, made, anew)


def together(then: str, names: Sequence[str], checks: Sequence[str], made: Sequence[str], anew: bool = False) -> str:
    """The source of a step: lines that end it where the call is another one, and lines that record. ``then``: what they call the node;
    ``anew``: it is made only now."""
    if anew:
        made = [f"{then} = {then}()", f"if {then} is None: return None", *made]
    # One of them is no tensor, a group has another length, an object has no such attribute.
    odd = "  except (AttributeError, ValueError, KeyError): return None"
    return "\n".join([f"def step({', '.join(['tr', then, 'facts', *names])}):", "  try:", *["    " + line for line in checks], odd,
                      *["  " + line for line in made]]) + "\n"


def checks(shape: Shape, heads: str, edges: bool, written: Sequence[int] = (), kept: Collection[int] = (),
           unwatched: Collection[int] = ()) -> tuple[list[str], list[str], list[str]]:
    """Names of the parameters, kinds of the tensors, and lines that end the step where it is another call. Afterwards there are
    ``epoch``, ``values``, of each tensor ``t0``, its value ``v0`` and, with ``edges``, its edge ``e0``, and what the facts begin with.

    Args:
        heads: the names of that.
        written: which tensors get another value: nobody outside may see their memory, no view may be what is written.
        kept: which tensors a graph node keeps: they may not be of inference mode. One that wants a gradient hardly is.
        unwatched: which of the written ones are ``x.data``.
    """
    names, facts, tensors, doubts, lines = _arguments(shape)
    doubts = ["tr.full", "not tr.grad_enabled" if shape.grad else f"tr.grad_enabled is not {shape.grad}", *doubts]
    lines = [f"{heads}, {''.join([f + ', ' for f in facts])}= facts", _unless(doubts), *lines,
             "epoch = tr.epoch", "values = tr.values"]
    entered: list[str] = []
    for i, kind in enumerate(tensors):
        if kind in NUMBERS:
            continue
        v = f"v{i}"
        lines.append(f"{v} = t{i}._value")
        # What was written through another tensor is found out by its value, that of a view by its version.
        doubts = [f"{v}.overwritten is not None"]
        if kind in _VIEWS:
            lines.append(f"alias = t{i}._alias")
            doubts = ["alias is not None and alias.version != alias.storage.version"]  # None: what a graph node keeps
        if kind in (SLOT, VIEW):
            doubts += [f"values[w{i}] is not {v}"]  # what is no view in this slot never is one
            if i in written:
                doubts.append(f"{v}.buffer is not None and {in_use_text(v)}")
        elif kind == OLD_PART:
            doubts += [f"{v}.slot != w{i}", f"{v}.epoch is not epoch"]
        elif kind == UNREAD:
            doubts = [f"{v}.meta is not w{i}"]
        else:
            doubts += [f"{v}.meta is not w{i}", f"{v}.epoch is epoch", *[f"{v} is {other}" for other in entered]]
            if kind == PART:  # ``is_whole``, written out
                r = f"r{i}"
                lines.append(f"{r} = {v}.origin")
                doubts += [f"{v}.buffer is not None", f"{r} is None", f"{v}.meta.strides is not None and is_strided({v})",
                           f"{r}.buffer is None", f"{r}.epoch is epoch", *[f"{r} is {other}" for other in entered]]
                if shape.is_view or i in written:
                    doubts.append(in_use_text(r))
                else:
                    lines += [_unless(doubts), f"copy{i} = {in_use_text(r)}"]
                    doubts = [f"copy{i} and {v}.meta.nbytes > {COPIED}"]
            elif kind == STRETCH:
                doubts.append(f"{v}.buffer is not None or not is_stretch({v}, epoch, ({''.join([other + ', ' for other in entered])}))")
            elif shape.is_view or i in written:
                doubts.append(f"{v}.buffer is None or {in_use_text(v)}")
            else:  # a copy may enter, as ``apply`` has it
                lines += [_unless([*doubts, f"{v}.buffer is None"]), f"copy{i} = {in_use_text(v)}"]
                doubts = [f"copy{i} and {v}.meta.nbytes > {COPIED}"]
            entered.append(v)
        if overriding:
            doubts.append(f"type(t{i}) in overriding")
        if i in kept and shape.wants[i] is NO:
            doubts.append("alias is not None and alias.storage.version < 0" if kind in _VIEWS else f"t{i}._writes < 0")
        if i in written:
            lines.append(f"a{i} = t{i}._alias")
            doubts += [f"t{i}._more is not None", *([] if shape.grad is None else [f"t{i}._writes < 0"]), _is_no_whole(i, i in unwatched)]
        lines.append(_unless(doubts))
        if edges:
            lines += [f"e{i} = t{i}._edge", _unless([f"e{i} is {_EDGES[shape.wants[i]]}"])]
    return names, tensors, lines


def _is_no_whole(i: int, is_data: bool) -> str:
    """A condition: what is written is a view, or it is not ``x.data`` where it was, or the other way round."""
    odd = f"type(a{i}) is not {'DataAlias' if is_data else 'Alias'} or a{i}.parent is not None or a{i}.base is not None"
    return odd if is_data else f"a{i} is not None and ({odd})"


def enters(i: int, kind: str, copies: bool, slot: str = "len(values)") -> list[str]:
    """Lines that let a tensor enter as a leaf, in a slot; ``copies``: maybe as a copy."""
    v = f"v{i}"
    if kind == STRETCH:
        return [f"values.append(stretch_of(tr, {v}))", f"{v}.epoch = epoch", f"{v}.slot = len(values)", f"values.append({v})"]
    found = [f"{v}.epoch = epoch", f"{v}.slot = {slot}",
             f"values.append({v})" if kind != PART else f"values.append(part_of(tr, {v}))"]
    if kind in NUMBERS:
        return [f"{v} = scalar_value(n{i})", *found]
    if kind in (LEAF_VALUE, PART) and copies:
        return [f"if copy{i}: values.append(copy_of({v}, epoch, {slot}))", "else: " + "; ".join(found)]
    return found


_VIEWS = (VIEW, PART, OLD_PART, STRETCH)
_EDGES = {NO: "not None", A_LEAF: "not LEAF", YES: "None"}


def _unless(doubts: Sequence[str]) -> str:
    """A line that ends the step where the call may be another one."""
    return f"if {' or '.join(doubts)}: return None"


def _arguments(shape: Shape) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
    """Names of the parameters, names of their facts, kinds of the tensors, conditions under which it is another call, and lines
    that take groups apart."""
    names: list[str] = []
    facts: list[str] = []
    tensors: list[str] = []
    doubts: list[str] = []
    lines: list[str] = []
    late: list[str] = []  # conditions on the items of groups
    numbers: list[str] = []  # lines that find the numbers

    def see(name: str, kind: str, doubts: list[str]) -> str:
        """What is to be known of one argument; returns the name that it gets."""
        if kind in CONSTANTS:
            doubts.append(f"{name} is not {kind}")
            return name
        if kind == ATOM:
            facts.append("f" + name)
            doubts.append(f"{name} is not f{name} and not same({name}, f{name})")
            return name
        if kind == EQUAL or kind.startswith(INTS):  # without a call
            facts.append("f" + name)
            others = [f"type({name}) is not type(f{name})"]
            if kind != EQUAL:
                _, of, n = kind.split()
                others = [f"type({name}) is not {of}", f"len({name}) != {n}", *[f"type({name}[{k}]) is not int" for k in range(int(n))]]
            doubts.append(f"{name} is not f{name} and ({' or '.join(others)} or {name} != f{name})")
            return name
        if kind == SLICE:
            doubts.append(f"type({name}) is not slice")
            for field in ("start", "stop", "step"):
                facts.append(f"{field}_{name}")
                doubts.append(f"{name}.{field} is not {field}_{name} and not same({name}.{field}, {field}_{name})")
            return name
        if kind.startswith(SAME):
            late.append(f"{name} is not t{kind[len(SAME):]}")
            return name
        i = len(tensors)
        tensors.append(kind)
        if kind == NUMBER:
            doubts.append(f"type({name}) is not float")
            numbers.append(f"n{i} = {name}")
            return name
        if kind == INTEGER:
            doubts.append(f"type({name}) is not int or not {_LEAST} <= {name} <= {_MOST}")
            numbers.append(f"n{i} = {name}")
            return name
        facts.append(f"w{i}")
        if kind in (INDEX, PLACE):
            doubts.append(f"type({name}) is not int or not -w{i} <= {name} < w{i}")
            numbers.append(f"n{i} = {name} % w{i}")
            return name
        if kind == RANGE:
            numbers.extend((f"n{i} = start_of({name}, *w{i})", _unless([f"n{i} < 0"])))
            return name
        return f"t{i}"

    for n, kind in enumerate(shape.arguments):
        if type(kind) is str:
            names.append(see(f"a{n}", kind, doubts))
            continue
        group, items = kind
        names.append(f"a{n}")
        if group == "[]":
            doubts.append(f"type(a{n}) is not list and type(a{n}) is not tuple")
        elif group == "()":
            doubts.append(f"type(a{n}) is not tuple")
        if not items and type(group) is not Reads:
            doubts.append(f"a{n}")
            continue
        if type(group) is Reads:
            names.append("owner")
            lines += [_unless(group.doubts(f"a{n}")),
                      *[f"{see(f'a{n}_{k}', item, late)} = a{n}[{name!r}]" for k, (name, item) in enumerate(zip(group.names, items))]]
        elif group == "**":
            doubts.append(f"len(a{n}) != {len(items)}")
            for k, (key, item) in enumerate(items):
                lines.append(f"{see(f'a{n}_{k}', item, late)} = a{n}.get({key!r}, MISSING)")
        else:
            parts, inner = [], []
            for k, item in enumerate(items):
                part = f"a{n}_{k}"
                if type(item) is str:
                    parts.append(see(part, item, late))
                else:
                    parts.append(part)
                    inner += [_unless([f"type({part}) is not list and type({part}) is not tuple"]),
                              "".join([see(f"{part}_{j}", one, late) + ", " for j, one in enumerate(item[1])]) + f"= {part}"]
            lines += ["".join([part + ", " for part in parts]) + f"= a{n}", *inner]
    if late:
        lines.append(_unless(late))
    lines += numbers
    return names, facts, tensors, doubts, lines


def _whole(shape: Shape) -> list[str]:
    """Lines that find what views of the tensor have in common: the alias and storage of its whole, and the base of their history. Where it
    has no view yet this is ``storage_of``, written out: most views are the first one of a result, and the call would be a tenth of all."""
    return ["parent = t0._alias", "if parent is None:", f"  base = {'t0' if shape.grad else 'None'}", "  wholes = tr.spare_wholes",
            "  if wholes and wholes[-1].how.meta is v0.meta:", "    parent = t0._alias = wholes.pop()", "    storage = parent.storage",
            "    origin = storage.value = v0", "    version = parent.version = storage.version = t0._writes",
            "  else:", "    parent = storage_of(t0)", "    storage = parent.storage", "    origin = v0", "    version = t0._writes",
            "else:", f"  base = {'t0 if parent.base is None else parent.base' if shape.grad else 'None'}", "  storage = parent.storage",
            "  origin = storage.value", "  version = storage.version"]


def _result(shape: Shape) -> list[str]:
    """Lines that make the result, if it is a view behind those of ``_whole``."""
    lines = ["meta, op, attrs = meta"] if shape.moves else []
    outs = ["made"] if shape.results == 1 else [f"made{k}" for k in range(shape.results)]
    metas = ["meta"] if shape.results == 1 else [f"meta{k}" for k in range(shape.results)]
    if shape.results > 1:
        lines.append(f"{', '.join(metas)} = meta")
    for k, (made, meta) in enumerate(zip(outs, metas)):
        lines += value_lines(made, meta, f"slot{f' + {k - shape.nr}' if k != shape.nr else ''}", shape.is_view)
    if shape.is_view:
        lines += _seen("made", f"how_of((op, op.moved(attrs, n{shape.inputs[1]}), meta))" if shape.moves else "node")
    edge = "None"
    if shape.linked:
        filled = {}
        for k, i in enumerate(shape.inputs):
            if shape.wants[i] is not NO:
                filled[f"edge{k}"] = f"t{i}" if shape.wants[i] is A_LEAF else f"e{i} if e{i} is not LEAF else t{i}"
            if shape.keeps is not None and shape.keeps[k]:
                filled[f"kept{k}"] = f"v{i}"
        filled |= {f"out{k}": out for k, (out, keep) in enumerate(zip(outs, shape.outs)) if keep}
        lines += node_lines("grad", "GradNode", "node", "in_metas", filled)
        edge = f"(grad, {shape.nr})" if shape.nr else "grad"
    return [*lines, *tensor_lines("out", outs[shape.nr], edge, shape.grad, shape.is_view)]


def _seen(made: str, how: str) -> list[str]:
    """Lines that tell a view what it is of, behind those of ``_whole``."""
    return [f"{made}.{slot} = {slot}" for slot in ("base", "origin", "version", "storage", "parent")] + [f"{made}.how = {how}"]


def _pieces(shape: Shape) -> list[str]:
    """Lines that make several views and return them, behind those of ``_whole``."""
    lines = []
    if shape.linked:
        lines += node_lines("grad", "GradNode", "node", "in_metas", {
            "edge0": "t0" if shape.wants[0] is A_LEAF else "e0 if e0 is not LEAF else t0"})

    def piece(out: str, m: str, how: str, slot: str, edge: str) -> list[str]:
        return [*value_lines("made", m, slot, True), *_seen("made", how),
                *tensor_lines(out, "made", edge if shape.linked else "None", shape.grad, True)]

    if shape.pieces > UNROLLED:
        return [*lines, "outs = []", "for nr, (m, how) in enumerate(meta):",
                *["  " + line for line in piece("out", "m", "how", "slot + nr", "(grad, nr) if nr else grad")], "  outs.append(out)",
                "return tuple(outs)"]
    each = range(shape.pieces)
    lines.append(f"{''.join([f'(m{k}, how{k}), ' for k in each])}= meta")
    for k in each:
        lines += piece(f"out{k}", f"m{k}", f"how{k}", f"slot + {k}" if k else "slot", f"(grad, {k})" if k else "grad")
    return [*lines, f"return ({''.join([f'out{k}, ' for k in each])})"]


# -- what steps call ----------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Whether two atoms are the same for every function: 1, 1.0 and True are not, nor are 0.0 and -0.0."""
    kind = type(a)
    if kind is not type(b):
        return False
    if kind in FLOATS:
        return a == b and (a != 0 or math.copysign(1, a) == math.copysign(1, b))
    if kind is slice:
        return same(a.start, b.start) and same(a.stop, b.stop) and same(a.step, b.step)
    if kind is tuple or kind is list:
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def start_of(s: Any, size: int, length: int, step: int) -> int:
    """Where a slice of that length begins, or -1 if it has another."""
    if type(s) is not slice or type(s.start) is not int or type(s.stop) is not int:
        return -1
    start, stop, by = s.indices(size)
    return start if by == step and max(0, (stop - start + step - 1) // step) == length else -1
