"""After a run that failed: what PyTorch, which runs operation by operation, would have computed before the mistake.

A label out of range is found when the recorded step runs, and by then the tensors of the step are pending: the model's
parameters, too, if the optimizer was there. None of them may be lost. The path is interpreted up to the operation that
fails: what was recorded before it gets its value, and writes in place recorded after it never happened.
"""
from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..compile.cpu.alloc import array_at
from ..compile.reference.interpret import evaluate_node
from .paths import lower_path, path_to
from .trace import TraceNode
from .value import Value, allocate

__all__ = ["Aftermath", "salvage"]


def salvage(node: TraceNode, values: Sequence[Value], live: Sequence[Value], error: BaseException) -> None:
    """Give values to those of ``live`` that do not follow from the failing operation; undo the others' writes in place."""
    made: list[tuple[Value, np.ndarray]] = []
    if isinstance(error, Exception):  # an interrupted run is not repeated
        graph, leaves = lower_path(path_to(node), [v.slot for v in live])
        known = _before_the_failure(graph, leaves, lambda slot, n: _content(values[slot], n))
        made = [(v, np.array(known[n], copy=True)) for v, n in zip(live, graph.results, strict=True) if n in known]
    for v, array in made:  # all is computed before anything is written: results may lie over leaves
        if v.home is not None:
            v.buffer = v.home
        else:
            v.buffer = allocate(max(v.meta.nbytes, 1))
        np.copyto(v.buffer.array(v.meta.dtype.numpy, array.shape), array, casting="no")  # in the order that the graph's results have
        v.home = v.epoch = None
    for v in live:
        if v.buffer is None and v.home is not None:
            v.buffer, v.home, v.epoch = v.home, None, None


def _content(v: Value, n: Any) -> np.ndarray | None:
    buffer = v.buffer
    assert buffer is not None
    if buffer.flight is not None and buffer.flight.lost:
        return None
    return buffer.array(n.dtype.numpy, n.shape)


class Aftermath:
    """What is to be done if the program of a path fails, or never runs, after its results were handed out as ready.

    Args:
        path: what is run. end: where the path ends.
        slots: of the live values; in_place: for each, whether it lies over a leaf.
        moved: slots of leaves whose content moves to new memory.

    Attributes:
        forms: packed forms of leaves that the program makes, (where they are known, key, form) each; see ``packed.py``.
    """

    __slots__ = ("path", "end", "slots", "in_place", "moved", "forms")

    def __init__(self, path: Any, end: TraceNode, slots: Sequence[int], in_place: Sequence[bool], moved: Sequence[int] = ()) -> None:
        self.path, self.end, self.slots, self.in_place, self.moved = path, end, slots, in_place, moved
        self.forms: Sequence[tuple[dict[Any, Any], Any, Any]] = ()

    def idle(self) -> None:
        """Next to nothing was done beside the program: that may come again."""
        self.path.idle()

    def _forget(self) -> None:
        for known, key, form in self.forms:
            if known.get(key) is form:
                del known[key]

    def salvage(self, pointers: Sequence[int], error: BaseException) -> list[tuple[int, int]]:
        """Write what does not follow from the failing operation; writes in place that do never happened.

        Returns:
            the memory, [begin, end) each, of results that are lost.
        """
        self._forget()
        leaf_at: dict[int, int] = {}

        def leaf(slot: int, n: Any) -> np.ndarray:
            return array_at(leaf_at[slot], n.shape, n.dtype.numpy)

        graph, leaves = lower_path(path_to(self.end), [*self.slots, *self.moved])
        leaf_at.update(zip(leaves, pointers))
        made = _before_the_failure(graph, leaves, leaf) if isinstance(error, Exception) else {}
        arrays = [np.array(made[n], copy=True) if n in made else None for n in graph.results]
        lost = []
        in_places = [*self.in_place, *(False,) * len(self.moved)]
        for n, pointer, in_place, array in zip(graph.results, pointers[len(leaves):], in_places, arrays):
            if array is not None:
                np.copyto(array_at(pointer, n.shape, n.dtype.numpy), array, casting="no")
            elif not in_place:
                lost.append((pointer, pointer + max(n.size * n.dtype.itemsize, 1)))
        return lost

    def cancel(self, pointers: Sequence[int]) -> list[tuple[int, int]]:
        """Nothing was written: move what was to be moved. Returns as ``salvage``."""
        self._forget()
        graph, leaves = lower_path(path_to(self.end), [*self.slots, *self.moved])
        results = pointers[len(leaves):]
        where = dict(zip(leaves, pointers))
        sizes = [max(n.size * n.dtype.itemsize, 1) for n in graph.results]
        for slot, pointer, nbytes in zip(self.moved, results[len(self.slots):], sizes[len(self.slots):]):
            ctypes.memmove(pointer, where[slot], nbytes)
        return [(p, p + nbytes) for p, nbytes, in_place in zip(results, sizes, self.in_place) if not in_place]


def _before_the_failure(graph: Any, leaves: Sequence[int], leaf: Callable[[int, Any], np.ndarray | None]) -> dict[Any, np.ndarray]:
    """What the nodes of a graph up to the failing one compute; ``leaf`` gives the content of a slot, None if that is lost."""
    known = {}
    for n, slot in zip(graph.leaves, leaves, strict=True):
        content = leaf(slot, n)
        if content is not None:
            known[n] = content
    with np.errstate(all="ignore"):
        for n in graph.nodes:
            if n in known:
                continue
            if n.kind == "leaf" or any(i not in known for i in n.inputs):
                break  # it follows from a value that is lost
            try:
                known[n] = evaluate_node(n, [known[i] for i in n.inputs])
            except (ArithmeticError, LookupError, ValueError, RuntimeError):  # the mistake in the data that the run reported
                break
    return known
