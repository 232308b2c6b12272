"""After a run that failed: what PyTorch, which runs operation by operation, would have computed before the mistake.

A label out of range is found when the recorded step runs, and by then the tensors of the step are pending: the model's
parameters, too, if the optimizer was there. None of them may be lost. The path is interpreted up to the operation that
fails: what was recorded before it gets its value, and writes in place recorded after it never happened.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compile.reference.interpret import evaluate_node
from .paths import lower_path, path_to
from .trace import TraceNode
from .value import Value, allocate

__all__ = ["salvage"]


def salvage(node: TraceNode, values: Sequence[Value], live: Sequence[Value], error: BaseException) -> None:
    """Give values to those of ``live`` that do not follow from the failing operation; undo the others' writes in place."""
    made: list[tuple[Value, np.ndarray]] = []
    if isinstance(error, Exception):  # an interrupted run is not repeated
        made = _before_the_failure(node, values, live)
    for v, array in made:  # all is computed before anything is written: results may lie over leaves
        if v.home is not None:
            v.buffer = v.home
        else:
            v.buffer = allocate(max(v.meta.nbytes, 1))
        np.copyto(v.buffer.array(v.meta.dtype.numpy, v.meta.shape), array, casting="no")
        v.home = v.epoch = None
    for v in live:
        if v.buffer is None and v.home is not None:
            v.buffer, v.home, v.epoch = v.home, None, None


def _before_the_failure(end: TraceNode, values: Sequence[Value], live: Sequence[Value]) -> list[tuple[Value, np.ndarray]]:
    path = path_to(end)
    graph, leaves = lower_path(path, [v.slot for v in live])
    known = {n: values[slot].buffer.array(n.dtype.numpy, n.shape)  # type: ignore[union-attr]
             for n, slot in zip(graph.leaves, leaves, strict=True)}
    with np.errstate(all="ignore"):
        for n in graph.nodes:
            if n not in known:
                try:
                    known[n] = evaluate_node(n, [known[i] for i in n.inputs])
                except (ArithmeticError, LookupError, ValueError, RuntimeError):  # the mistake in the data that the run reported
                    break
    return [(v, np.array(known[n], copy=True)) for v, n in zip(live, graph.results, strict=True) if n in known]
