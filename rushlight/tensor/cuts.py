"""Cuts of memory that is there already: indices of numbers and slices, ``split``, ``unbind``; and other views of what NumPy shows. They
are views of known places, for which nothing is recorded, so no call is remembered where they were made. What cuts of values of one meta
have in common is remembered with the meta: all but where they begin.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import handle
from ..autograd.given import PLAIN_TENSORS
from ..autograd.handle import Handle, How, View, part_at, storage_of, whole_of
from ..ops.views import select_of_unbind, slice_of_sizes, slice_of_split
from ..record.meta import Meta, meta_of
from ..record.trace import Trace
from ..record.value import COPIED, is_exported
from .parts import part

__all__ = ["all_of_ready", "part_finder", "pieces_of_ready", "view_of_shown"]

_MOST = 256  # of each kind. What is remembered does not depend on positions, so few programs have as many
_NEAR = 4    # forms of an index that are tried one after the other before anybody looks for its name


class Cuts:
    """What cuts of memory of one meta have in common. They are forgotten where something of that meta lies otherwise, which a meta does
    not tell alone.

    Attributes:
        shape, strides: how the memory lies.
        row: of ``x[i]``: (meta, how, shape, strides, the step between positions, how many there are, 0 where there is nothing to cut).
        slices: of ``x[i:j]`` by its length, of ``x[i:j:k]`` by length and step: the first five of that.
        named: of other indices by their names: (tells where a view begins, its arguments, meta, how, shape, strides); ``near``: the latest.
        pieces: of ``split`` by its arguments. views: of methods and their arguments: (meta, how, shape, strides, how far behind it begins).
    """

    __slots__ = ("shape", "strides", "row", "slices", "named", "near", "pieces", "views")

    def __init__(self, meta: Meta, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.shape, self.strides = shape, strides
        self.row = (*_like(meta, shape[1:], strides[1:]), strides[0], shape[0]) if shape and meta.numel else (None, None, (), (), 0, 0)
        self.slices: dict[Any, tuple[Any, ...]] = {}
        self.named: dict[Any, tuple[Any, ...]] = {}
        self.near: list[tuple[Any, ...]] = []
        self.pieces: dict[Any, Any] = {}
        self.views: dict[Any, tuple[Any, ...]] = {}


def _keep(known: dict[Any, Any], name: Any, found: Any) -> Any:
    if len(known) >= _MOST:
        known.clear()
    known[name] = found
    return found


def _like(meta: Meta, lengths: tuple[int, ...], steps: tuple[int, ...]) -> tuple[Any, ...]:
    """The meta of such a part, how it is made, its shape and strides."""
    seen = meta_of(lengths, meta.dtype, meta.device, steps)
    return seen, whole_of(seen), lengths, steps


def _lies(tr: Trace, t: Any) -> Any:
    """The alias of a tensor in ready memory, whose ``_place`` is known; None if it is not there, or autograd has to know of its views."""
    alias, v = t._alias, t._value
    root = v if alias is None else alias.storage.value
    if root.buffer is None or t._edge is not None and tr.grad_enabled or not root.meta.numel or type(t) not in PLAIN_TENSORS:
        return None
    if root.meta.dtype is not v.meta.dtype:
        return None
    if alias is None:
        alias = storage_of(t)
    if alias._place is None:
        alias.place()
    return alias


def _cuts(meta: Meta, place: tuple[Any, ...]) -> Cuts:
    """What is known of cuts of something of a meta that lies so."""
    shape, strides, _ = place
    cuts: Any = meta.cuts
    if cuts is not None and cuts.strides == strides:
        cuts.strides = strides  # this very tuple is asked for again
        return cuts  # type: ignore[no-any-return]
    meta.cuts = cuts = Cuts(meta, shape, strides)
    return cuts  # type: ignore[no-any-return]


def part_finder(full: Callable[..., Any]) -> Callable[[Trace, Any, Any], Any]:
    """For ``at_once``: ``find(trace, t, key)`` gives the view ``t[key]`` of ready memory, or None. ``full``: the method itself."""
    other = view_of_shown(full)

    def part_of_ready(tr: Trace, t: Any, key: Any) -> Any:
        """The view ``t[key]`` of ready memory, or None."""
        alias = t._alias
        if alias is None or alias._place is None or t._edge is not None and tr.grad_enabled:
            alias = _lies(tr, t)
            if alias is None:
                return None
        # ``_lies``, and below ``part_at``, written out: loops over data do nothing as often.
        storage = alias.storage
        origin = storage.value
        meta = t._value.meta
        if origin.buffer is None or origin.meta.dtype is not meta.dtype or type(t) is not handle.plain and type(t) not in PLAIN_TENSORS:
            return None
        place = alias._place
        begin = place[2]
        cuts = meta.cuts
        if cuts is None or cuts.strides is not place[1]:
            cuts = _cuts(meta, place)
        kind = type(key)
        if kind is int:  # the two indices of loops over data come first: ``x[i]`` and ``x[i:i + n]``
            seen, how, lengths, steps, step, n = cuts.row
            if not 0 <= key < n:
                key += n
                if not 0 <= key < n:
                    return None
            begin += key * step
        elif kind is slice:
            start, stop, by = key.start, key.stop, key.step
            if by is not None or type(start) is not int or type(stop) is not int or not 0 <= start < stop <= cuts.row[5]:
                if by is not None and (type(by) is not int or by <= 0):
                    return None
                start, stop, by = key.indices(cuts.row[5])
                if stop <= start:
                    return None
            name: Any = stop - start if by is None or by == 1 else (stop - start, by)
            found = cuts.slices.get(name)
            if found is None:
                by, shape, strides = by or 1, cuts.shape, cuts.strides
                lengths, steps = ((stop - start + by - 1) // by, *shape[1:]), (strides[0] * by, *strides[1:])
                found = _keep(cuts.slices, name, (*_like(meta, lengths, steps), strides[0]))
            seen, how, lengths, steps, step = found
            begin += start * step
        else:
            parts = key if kind is tuple else (key,)
            for found in cuts.near:
                offset = found[0](parts, found[1])
                if offset is not None:
                    break
            else:
                found = _named(cuts, meta, parts)
                if found is None:
                    return other(tr, t, key)
                offset = found[0](parts, found[1])
                if offset is None:  # a number out of range
                    return None
            _, _, seen, how, lengths, steps = found
            begin += offset
        v: Any = View()
        v.buffer = v.home = v.overwritten = v.epoch = None
        v.slot = -1
        v.meta = seen
        v.storage = storage
        v.origin = origin
        v.version = storage.version
        v.base = None if not tr.grad_enabled else t if alias.base is None else alias.base
        v.parent = alias
        v.how = how
        v._place = lengths, steps, begin
        out = next(handle.blanks)
        out._value = out._alias = v
        out._writes = 0
        out._edge = out._grad = out._more = None
        return out
    return part_of_ready


_SIMPLE = frozenset((int, type(None)))


def _named(cuts: Cuts, meta: Meta, parts: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What indices of a form have in common, which is numbers and slices with certain bounds; None for any other index, and where there is
    nothing."""
    if not meta.numel:
        return None
    name: list[Any] = []
    for p in parts:
        kind = type(p)
        if kind is int:
            name.append(kind)
        elif kind is slice:
            bounds = start, stop, by = p.start, p.stop, p.step
            if type(start) not in _SIMPLE or type(stop) not in _SIMPLE or type(by) not in _SIMPLE:  # 1.0, which equals 1, is an error
                return None
            name.append(bounds)
        elif p is Ellipsis:
            name.append(p)
        else:
            return None
    form = tuple(name)
    found = cuts.named.get(form)
    if found is None:
        place = part(cuts.shape, cuts.strides, 0, tuple([0 if type(p) is int else p for p in parts]))
        if place is None:
            return None
        found = _keep(cuts.named, form, (*_begin(cuts, form, place[2]), *_like(meta, *place[:2])))
    cuts.near = [found, *[other for other in cuts.near if other is not found][:_NEAR - 1]]
    return found  # type: ignore[no-any-return]


def _begin(cuts: Cuts, form: tuple[Any, ...], offset: int) -> tuple[Callable[..., int | None], tuple[Any, ...]]:
    """What tells where a view begins, and the arguments that it has for indices of this form; ``offset``: for the numbers 0."""
    kinds: list[Any] = []
    facts: list[Any] = [offset]
    dim = 0
    for p in form:
        if p is Ellipsis:
            kinds.append("...")
            dim += len(cuts.shape) - len(form) + 1
            continue
        if p is int:
            kinds.append("n")
            facts += cuts.shape[dim], cuts.strides[dim]
        else:
            kinds.append(tuple([bound is not None for bound in p]))
            facts += [bound for bound in p if bound is not None]
        dim += 1
    return _begin_for(tuple(kinds)), tuple(facts)


@functools.lru_cache(1024)
def _begin_for(kinds: tuple[Any, ...]) -> Callable[..., int | None]:
    """``begin(parts, facts)`` tells where the view begins of which the parts of an index say so, or None if they are of another form or a
    number is out of range: straight-line code for all indices with numbers (``n``) and slices with certain bounds at the same places."""
    facts, doubts, moves = ["offset"], [], []
    for k, kind in enumerate(kinds):
        p = f"p{k}"
        if kind == "...":
            doubts.append(f"{p} is not Ellipsis")
        elif kind == "n":
            facts += [f"n{k}", f"s{k}"]
            doubts.append(f"type({p}) is not int or not -n{k} <= {p} < n{k}")
            moves.append(f" + ({p} if {p} >= 0 else {p} + n{k}) * s{k}")
        else:
            doubts.append(f"type({p}) is not slice")
            for bound, there in zip(("start", "stop", "step"), kind):
                field = f"{p}.{bound}"
                if there:
                    facts.append(f"{bound}{k}")
                    doubts.append(f"type({field}) is not int or {field} != {bound}{k}")
                else:
                    doubts.append(f"{field} is not None")
    source = ["def begin(parts, facts):", f"  if len(parts) != {len(kinds)}: return None",
              f"  [{', '.join([f'p{k}' for k in range(len(kinds))])}] = parts", f"  [{', '.join(facts)}] = facts",
              *([f"  if {' or '.join(doubts)}: return None"] if doubts else []), f"  return offset{''.join(moves)}"]
    scope: dict[str, Any] = {"__name__": __name__}
    exec(compile("\n".join(source), f"<index {kinds}>", "exec"), scope)
    return scope["begin"]  # type: ignore[no-any-return]


def view_of_shown(full: Callable[..., Any]) -> Callable[..., Any]:
    """What finds the results of a method that takes views by numbers (``unsqueeze``), of small memory that NumPy shows: what environments
    write their states into. ``full`` is the method itself, ``*args`` as one argument."""
    def find(tr: Trace, t: Any, *given: Any) -> Any:
        if type(t) not in PLAIN_TENSORS or not _are_numbers(given):
            return None
        alias, meta = t._alias, t._value.meta
        root = t._value if alias is None else alias.storage.value
        if root.buffer is None or root.epoch is tr.epoch or root.meta.dtype is not meta.dtype or not 0 < meta.nbytes <= COPIED:
            return None
        if t._edge is not None and tr.grad_enabled or not is_exported(root):
            return None
        if alias is None:
            alias = storage_of(t)
        place = alias._place or alias.place()
        cuts = meta.cuts
        if cuts is None or cuts.strides is not place[1]:
            cuts = _cuts(meta, place)
        found = cuts.views.get((full, given))
        if found is None:
            made = full(t, *given)
            v = made._value
            if type(v) is View and v.epoch is None and v.parent is alias:
                lengths, steps, begin = v.place()
                _keep(cuts.views, (full, given), (v.meta, v.how, lengths, steps, begin - place[2]))
            return made
        seen, how, lengths, steps, offset = found
        base = None if not tr.grad_enabled else t if alias.base is None else alias.base
        return part_at(alias, seen, how, base, (lengths, steps, place[2] + offset))
    return find


def _are_numbers(given: Any) -> bool:
    """Whether the arguments are whole numbers, or tuples of such, or None: equal ones of other types may be errors."""
    for g in given:
        if type(g) is not int and g is not None and not (type(g) is tuple and _are_numbers(g)):
            return False
    return True


def all_of_ready(tr: Trace, t: Any, dim: Any = 0) -> tuple[Any, ...] | None:
    """All positions along a dimension of ready memory, or None."""
    alias = _lies(tr, t) if isinstance(t, Handle) else None
    if alias is None:
        return None
    shape, steps, begin = alias._place
    if type(dim) is not int or not -len(shape) <= dim < len(shape):
        return None
    dim %= len(shape)
    meta, step = t._value.meta, steps[dim]
    lengths, strides = (*shape[:dim], *shape[dim + 1:]), (*steps[:dim], *steps[dim + 1:])
    seen = meta_of(lengths, meta.dtype, meta.device, strides)
    how = How(select_of_unbind, (), seen)
    base = None if not tr.grad_enabled else t if alias.base is None else alias.base
    return tuple([part_at(alias, seen, how, base, (lengths, strides, begin + k * step)) for k in range(shape[dim])])


def pieces_of_ready(tr: Trace, t: Any, sizes: Any, dim: Any = 0) -> tuple[Any, ...] | None:
    """What ``split`` gives of ready memory, or None."""
    alias = _lies(tr, t) if isinstance(t, Handle) else None
    if alias is None or type(dim) is not int:
        return None
    if type(sizes) is not int:
        if type(sizes) is not list and type(sizes) is not tuple or any(type(s) is not int for s in sizes):
            return None
        sizes = tuple(sizes)
    place, meta = alias._place, t._value.meta
    cuts = meta.cuts
    if cuts is None or cuts.strides is not place[1]:
        cuts = _cuts(meta, place)
    found = cuts.pieces.get((sizes, dim))
    if found is None:
        found = _keep(cuts.pieces, (sizes, dim), _pieces(meta, cuts, sizes, dim))
    if not found:
        return None
    begin = place[2]
    base = None if not tr.grad_enabled else t if alias.base is None else alias.base
    pieces = []
    for seen, how, lengths, steps, offset in found:
        pieces.append(part_at(alias, seen, how, base, (lengths, steps, begin + offset)))
    return tuple(pieces)


def _pieces(meta: Meta, cuts: Cuts, sizes: Any, dim: int) -> Sequence[tuple[Any, ...]]:
    """Of each piece its meta, how it is made, its shape and strides, and how far behind the begin it lies; none for sizes that do not fit
    or are 0, and where there is no such dimension."""
    shape, strides = cuts.shape, cuts.strides
    if not -len(shape) <= dim < len(shape):
        return ()
    dim %= len(shape)
    n, one = shape[dim], type(sizes) is int
    if one:
        sizes = [min(sizes, n - k) for k in range(0, n, sizes)] if sizes > 0 else []
    if not sizes or min(sizes) <= 0 or sum(sizes) != n:
        return ()
    op = slice_of_split if one else slice_of_sizes
    found, at = [], 0
    for s in sizes:
        lengths = *shape[:dim], s, *shape[dim + 1:]
        seen = meta_of(lengths, meta.dtype, meta.device, strides)
        found.append((seen, How(op, (), seen), lengths, strides, at * strides[dim]))
        at += s
    return found
