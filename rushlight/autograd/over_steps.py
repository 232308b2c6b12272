"""Writes in place of one operation that were recorded before, as straight-line code: an optimizer makes the same in every step.

``step(tr, facts, tensors, targets)`` checks that the tensors are at the same places of the trace, or enter as leaves like those of
former times, and if so records what was recorded then: it moves to the node of the trie, and gives each target its new value. It
returns whether a flush is due at once. If these are others it returns None and has done nothing. What belongs to one point of a
trace is in ``facts``; the code is shared by all writes that have as many tensors of the same kinds.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any, NamedTuple

from numpy import ndarray

from ..record.op import Op
from ..record.trace import TraceNode
from ..record.value import Value, is_exported
from .entering import in_use_text
from .handle import Handle

__all__ = ["Over", "over_of"]

LIMIT = 300  # tensors: some ten lines each, which are compiled in some milliseconds


class Over(NamedTuple):
    """Writes of one operation that were recorded at a trie node; ``step`` is None where they have come once."""

    op: Op
    attrs: tuple
    step: Callable[..., bool | None] | None
    facts: tuple


def over_of(op: Op, attrs: tuple, tensors: Sequence[Handle], slots: Sequence[int], targets: Sequence[Handle], before: int,
            end: TraceNode, values: Sequence[Value]) -> Over | None:
    """What was recorded, to do it again; None where nothing is written, an input is there twice, or entered otherwise than in order.

    Args:
        op, attrs: the operation. tensors, slots: its inputs. targets: those that are written. before: how many values there were.
        end: the node of the operation. values: of the trace.
    """
    entered = [s for s in slots if s >= before]
    if not targets or len(tensors) > LIMIT or entered != list(range(before, before + len(entered))) or len(set(slots)) < len(slots):
        return None
    place = {id(t): k for k, t in enumerate(tensors)}
    step = _step_for(tuple([s >= before for s in slots]), tuple([place[id(t)] for t in targets]))
    return Over(op, attrs, step, (end, (op.name, None), *[values[s].meta if s >= before else s for s in slots], *end.metas))


@functools.lru_cache(1024)
def _step_for(enters: tuple[bool, ...], targets: tuple[int, ...]) -> Callable[..., bool | None]:
    """``enters``: for each tensor, whether it enters as a leaf; ``targets``: the tensors that are written."""
    tensors, leaves = range(len(enters)), [k for k, leaf in enumerate(enters) if leaf]
    results = range(len(targets))
    names = ["end", "by", *[f"w{k}" for k in tensors], *[f"m{k}" for k in results]]
    lines = [f"{', '.join(names)}, = facts", f"{''.join([f't{k}, ' for k in tensors])} = tensors",
             f"{''.join([f'u{k}, ' for k in results])} = targets", "epoch, values = tr.epoch, tr.values"]
    doubts = ["tr.grad_enabled", *[f"u{k} is not t{at}" for k, at in enumerate(targets)]]
    lines.append(_unless(doubts))
    for k, leaf in enumerate(enters):
        lines += [f"v{k}, a{k} = t{k}._value, t{k}._alias"]
        doubts = [f"a{k} is not None and (a{k}.parent is not None or a{k}.version != a{k}.storage.version)"]
        if leaf:
            doubts += [f"v{k}.meta is not w{k}", f"v{k}.epoch is epoch", f"v{k}.buffer is None", in_use_text(f"v{k}")]
        else:
            doubts.append(f"values[w{k}] is not v{k}")
        lines.append(_unless(doubts))
    if len(leaves) > 1:
        lines.append(_unless([f"len({{{', '.join([f'id(v{k})' for k in leaves])}}}) != {len(leaves)}"]))
    made = ["n = len(values)"]
    for n, k in enumerate(leaves):
        made += [f"v{k}.epoch, v{k}.slot = epoch, n + {n}"]
    made += [f"values += ({''.join([f'v{k}, ' for k in leaves])})", "epoch.writes, tr.node, spare, at_once = True, end, tr.spare, False"]
    for n, k in enumerate(targets):
        made += ["if spare: r = spare.pop()", "else:", "  r = Value()", "  r.buffer = r.origin = r.overwritten = None",
                 f"r.meta, r.epoch, r.slot = m{n}, epoch, n + {len(leaves) + n}", "values.append(r)",
                 f"if a{k} is None: t{k}._writes += 1", "else:", f"  storage = a{k}.storage", "  storage.value = r",
                 f"  a{k}.version = storage.version = storage.version + 1",
                 f"t{k}._value, v{k}.overwritten = r, by"]
        if not enters[k]:
            made += [f"if v{k}.buffer is None: epoch.rewrites = True",
                     f"elif {in_use_text(f'v{k}')}: at_once = True"]
        made += [f"r.home = v{k}.buffer if v{k}.home is None else v{k}.home", f"v{k}.home = None"]
    source = "\n".join(["def step(tr, facts, tensors, targets):", "  try:", *["    " + line for line in lines],
                        "  except ValueError: return None  # there are more or fewer", *["  " + line for line in made], "  return at_once"])
    scope: dict[str, Any] = {"__name__": __name__, "getrefcount": getrefcount, "ndarray": ndarray, "is_exported": is_exported,
                             "Value": Value}
    exec(compile(source + "\n", "<over>", "exec"), scope)
    return scope["step"]  # type: ignore[no-any-return]


def _unless(doubts: Sequence[str]) -> str:
    """A line that ends the step where the writes may be others."""
    return f"if {' or '.join(doubts)}: return None"
