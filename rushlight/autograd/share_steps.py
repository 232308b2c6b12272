"""The code of a graph node's share of a walk (``shares.py``): written once for all that read and give the same.

``step(tr, node, slots, waiting, leaves, stack, facts)`` checks that a share is one of these, and if so does it: it calls the program and
hands the results on. Otherwise it returns False and has done nothing.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..record.again import counters
from ..record.value import Value, allocate
from . import handle
from .handle import Handle, part_at, storage_of

__all__ = ["ADDED", "BESIDE", "FIRST", "MORE", "NEW", "NOTHING", "NOWHERE", "OVER", "step_for"]

# Where the gradient of an input goes: to a leaf that has none yet, one that it is added to, one that it is written over; ...
NEW, MORE, OVER = "new", "more", "over"
# ... to a result of a node that has none, to one of several of which another has one, to one that it is added to; ...
FIRST, BESIDE, ADDED = "first", "beside", "added"
# ... there is none for a node that waits for it; the input wants none.
NOTHING, NOWHERE = "nothing", "nowhere"

Goes = tuple[str, int, int, Any]  # how, number of the result that the edge leads to, how many these are, what it is


@functools.lru_cache(1024)
def step_for(kind: Any, reads: tuple[tuple[str, bool], ...], goes: tuple[Goes, ...], names: tuple[tuple[str, int], ...],
             outs: tuple[bool, ...]) -> Callable[..., bool]:
    """The step of shares of graph nodes of a class.

    Facts: the metas of the node's inputs, the program, the node of the trie where its path ends, the metas of what is read, of each
    gradient that is made the meta (of a view also how it is made and where it lies), and the sizes of the program's results.

    Args:
        reads: what is read, by name, and whether that is a view.
        goes: of each input where its gradient goes. What that is: the number of an incoming gradient, ("slot", number of the program's
            result), ("view", number of the incoming gradient that it is a view of), or None.
        names: which of ``reads`` each input of the program is, and how many bytes behind its begin that begins.
        outs: of each of its results, whether it is written over one of those.
    """
    facts = ["in_metas", "run", "end", *[f"M{j}" for j in range(len(reads))]]
    for k, (*_, what) in enumerate(goes):
        if type(what) is tuple:
            facts += [f"R{k}"] if what[0] == "slot" else [f"R{k}", f"H{k}", f"P{k}"]
    facts += [f"N{k}" for k in range(len(outs))]
    lines = [f"{', '.join(facts)}, = facts", "if type(node) is not kind: return False",
             "if node.state is not in_metas and node.state != in_metas: return False"]
    for k, (how, nr, n, _) in enumerate(goes):
        lines += _place(k, how, nr, n)
    lines += _read(reads)
    if outs:
        lines += _run(reads, goes, names, outs)
    lines += ["unsettled = tr.unsettled", "unsettled.trail = hash((unsettled.trail, end))", *_give(goes)]
    scope: dict[str, Any] = {"__name__": __name__, "kind": kind, "Handle": Handle, "Value": Value, "allocate": allocate,
                             "blanks": handle.blanks, "part_at": part_at, "storage_of": storage_of, "counters": counters}
    source = "\n  ".join(["def step(tr, node, slots, waiting, leaves, stack, facts):", *lines, "return True"]) + "\n"
    exec(compile(source, f"<share {goes}>", "exec"), scope)
    return scope["step"]  # type: ignore[no-any-return]


def _place(k: int, how: str, nr: int, n: int) -> list[str]:
    """Lines that find the place where the gradient of input ``k`` goes: ``l0`` of a leaf, ``w0`` of a node with its gradients ``s0``, and
    ``a0`` that it is added to."""
    if how == NOWHERE:
        return [f"if node.edge{k} is not None: return False"]
    lines = [f"e{k} = node.edge{k}"]
    if how in (NEW, MORE, OVER):
        lines += [f"if not isinstance(e{k}, Handle): return False", f"l{k} = leaves.get(id(e{k}))",
                  f"if l{k} is {'not ' * (how == NEW)}None: return False"]
        if how != NEW:
            lines += [f"if l{k}[2] is not {how == OVER}: return False", f"a{k} = l{k}[1]"]
        return lines
    if n > 1:
        lines += [f"if type(e{k}) is tuple: e{k}, nr = e{k}", "else: nr = 0", f"if nr != {nr}: return False"]
    else:
        lines.append(f"if type(e{k}) is tuple: return False")
    lines += [f"w{k} = waiting.get(e{k})", f"if w{k} is None or {f'e{k}.results != {n}' if n > 1 else f'e{k}.several'}: return False"]
    if how == FIRST:
        lines.append(f"if w{k}[1] is not None: return False")
    elif how in (BESIDE, ADDED):
        lines += [f"s{k} = w{k}[1]", f"if s{k} is None or s{k}[{nr}] is {'not ' * (how == BESIDE)}None: return False"]
    if how == ADDED:
        lines.append(f"a{k} = s{k}[{nr}]")
    return lines


def _read(reads: Sequence[tuple[str, bool]]) -> list[str]:
    """Lines that find what is read, ``v0`` in the memory ``b0``, and end the step where it is something else."""
    given = {int(name[1:]) for name, _ in reads if name[0] == "g"}
    most = max(given, default=-1) + 1
    lines = [f"if len(slots) < {most} or any([g is not None for g in slots[{most}:]]): return False" if most != 1 else
             "if len(slots) != 1 and any([g is not None for g in slots[1:]]): return False"]
    for j in range(most):
        lines += [f"g{j} = slots[{j}]", f"if g{j} is {'not ' * (j not in given)}None: return False"]
    for j, (name, is_view) in enumerate(reads):
        kept = name.startswith("node.")
        doubts = [f"v{j}.meta is not M{j}", f"v{j}.overwritten is not None"]
        lines.append(f"v{j} = {name}{'' if kept else '._value'}")
        if is_view:
            lines.append(f"o{j} = v{j}.origin")
            doubts += [f"v{j}.buffer is not None", f"o{j} is None", f"o{j}.buffer is None", f"o{j}.overwritten is not None"]
        else:
            doubts.append(f"v{j}.buffer is None")
        if not kept:
            lines.append(f"alias = {name}._alias")
            doubts.append("alias is not None and alias.version != alias.storage.version")
        lines += [f"if {' or '.join(doubts)}: return False", f"b{j} = {'o' if is_view else 'v'}{j}.buffer"]
    return lines


def _run(reads: Sequence[tuple[str, bool]], goes: Sequence[Goes], names: Sequence[tuple[str, int]],
         outs: Sequence[bool]) -> list[str]:
    """Lines that run the program, with memory ``m0`` for what it does not write over something."""
    index = {name: j for j, (name, _) in enumerate(reads)}
    over = {what[1]: f"b{index[f'a{k}']}" for k, (how, _, _, what) in enumerate(goes) if how == OVER}
    lines = [f"m{k} = allocate(N{k})" for k, taken in enumerate(outs) if not taken]
    lines += [f"if {b}.packed: {b}.packed = None" for b in over.values()]
    addresses = []
    for name, behind in names:
        j = index[name]
        at = f"b{j}.ptr" + f" + v{j}.alias.place()[2] * v{j}.meta.dtype.itemsize" * reads[j][1]
        addresses.append(f"{at} + {behind}" if behind else at)
    addresses += [f"{over[k] if taken else f'm{k}'}.ptr" for k, taken in enumerate(outs)]
    return [*lines, "counters.programs_run += 1", f"run({', '.join(addresses)})"]


def _give(goes: Sequence[Goes]) -> list[str]:
    """Lines that hand the gradients on."""
    lines = []
    made: dict[int, str] = {}  # tensors of the program's results
    for k, (how, nr, n, what) in enumerate(goes):
        if how == NOWHERE or how == OVER:
            continue
        t = f"t{k}"
        if type(what) is int:
            t = f"g{what}"
        elif what is not None and what[0] == "view":
            lines.append(f"{t} = part_at(g{what[1]}._alias or storage_of(g{what[1]}), R{k}, H{k}, None, P{k})")
        elif what is not None:
            if what[1] not in made:
                lines += ["v = Value()", f"v.meta = R{k}", f"v.buffer = m{what[1]}", "v.epoch = v.origin = v.home = v.overwritten = None",
                          "v.slot = -1", f"{t} = next(blanks)", f"{t}._value = v", f"{t}._writes = 0",
                          f"{t}._edge = {t}._grad = {t}._alias = {t}._more = None"]
            t = made.setdefault(what[1], t)
        if how == NEW:
            lines.append(f"leaves[id(e{k})] = [e{k}, {t}, False]")
        elif how == MORE:
            lines += [f"l{k}[1] = {t}", f"l{k}[2] = True"]
        else:
            if how == FIRST:
                lines.append(f"w{k}[1] = [{', '.join([t if j == nr else 'None' for j in range(n)])}]")
            elif how != NOTHING:
                lines.append(f"s{k}[{nr}] = {t}")
            lines += [f"w{k}[0] -= 1", f"if not w{k}[0]: stack.append(e{k})"]
    return lines
