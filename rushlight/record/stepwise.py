"""The cold tier of long paths: operation by operation, each with a small program of its own.

A path that never comes again (a tree of a new form, an adaptive solver's steps, a sentence of new length) is made of operations that do:
the same operation on the same shapes is anywhere the same program. So what an operation is lowered to is kept, whatever the path, and
when it has run often enough in the interpreter it is compiled. A new path then costs a look-up and a call for each of its
operations, as it would in PyTorch, and neither a graph nor a plan.

Intermediate results lie in one stretch of memory, in places that serve again when nothing reads what lay there any more. A view that lies
in a row is where its whole is.
"""
from __future__ import annotations

import ctypes
import functools
import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile.counters import Event, tell, watchers
from ..compile.cpu.alloc import allocate, array_at
from ..compile.cpu.flight import settle
from ..compile.errors import OutOfBounds, ZeroDivision, origin
from ..compile.expr import walk
from ..compile.graph import Graph, Node
from ..compile.reference.interpret import PLAIN, interpret
from .meta import Meta, contiguous_strides, is_contiguous
from .paths import compile_path, lower_op, lower_path, needed, no_collection, ordered_leaf
from .trace import TraceNode
from .value import Buffer, Value

__all__ = ["StepwiseProgram"]

_RUNS = 64         # of an operation in the interpreter, after which it is compiled: some milliseconds against ten microseconds each
_PRODUCTS = 5_000  # products of a contraction that count like another run: the interpreter takes long for them
_STEPS = 25_000    # ... and so many steps of formulas on elements, ...
_SLOW = {"erf": 100, "erfc": 100}  # ... of which some functions are many, since Python computes them number by number
_MOST = 4_000      # operations that one thread keeps; the oldest are forgotten
_BYTES = 1 << 27   # of intermediate results, at most

_ALONE: tuple = ((), (), ())  # key of a program whose results are nobody's memory


class _Single:
    """One operation on inputs of certain metas.

    Attributes:
        offsets: of views that lie in a row: where in their whole, in bytes; None: the results are computed.
        products: multiplications in contractions and native calls.
        left: how many runs in the interpreter there are to be; each: as how many one counts.
        run: the compiled program, as a function of all addresses.
    """

    __slots__ = ("offsets", "graph", "products", "left", "each", "run", "sizes")

    def __init__(self, op: Any, attrs: tuple, ins: Sequence[Meta], outs: Sequence[Meta]) -> None:
        self.offsets = _offsets(op, attrs, ins, outs)
        self.run: Any = None
        self.sizes = [m.nbytes + 63 & -64 for m in outs]
        self.products, self.left, self.each = 0, _RUNS, 1
        self.graph = graph = Graph()
        if self.offsets is None:
            leaves = [ordered_leaf(graph, m, m.order) for m in ins]
            made = lower_op(graph, op, leaves, attrs, outs)
            graph.results = [n if m.order is None else graph.permute(n, m.order) for n, m in zip(made, outs)]
            self.products = sum(node.attrs[0].work if node.kind == "native" else math.prod(n for _, n in node.attrs[0].sizes)
                                for node in graph.nodes if node.kind in ("contract", "native"))
            if any(node.kind == "host" for node in graph.nodes):
                self.left = -1  # a library computes it: there is nothing to compile
            self.each += self.products // _PRODUCTS + sum(map(_formula_steps, graph.nodes)) // _STEPS

    def __call__(self, pointers: Sequence[int], line: Any) -> None:
        """Run it, with the addresses of inputs, then results."""
        if self.run is None and (self.left < 0 or self.left > 0 and self.products < PLAIN):
            if self.left > 0:
                self.left = max(0, self.left - self.each)
            self._interpret(pointers, line)
            return
        if self.run is None:
            program = compile_path((), _ALONE, (self.graph, range(len(self.graph.leaves))))
            self.run = program.plain or functools.partial(_run_all, program.program, len(self.graph.leaves))
        try:
            self.run(*pointers)
        except (OutOfBounds, RuntimeError) as error:
            raise type(error)(f"{error}{origin(line)}") from None

    def _interpret(self, pointers: Sequence[int], line: Any) -> None:
        start = time.perf_counter() if watchers else 0.0
        graph = self.graph
        n = len(graph.leaves)
        try:
            made = interpret(graph, [array_at(p, leaf.shape, leaf.dtype.numpy) for p, leaf in zip(pointers, graph.leaves)])
        except (OutOfBounds, ZeroDivision) as error:
            raise type(error)(f"{error}{origin(line)}") from None
        for p, node, array in zip(pointers[n:], graph.results, made):
            np.copyto(array_at(p, node.shape, node.dtype.numpy), array, casting="no")
        if watchers:
            tell(Event("cold", "cold operation", start, time.perf_counter() - start, () if line is None else (line,)))


def _formula_steps(node: Node) -> int:
    """How many steps of formulas on elements the interpreter makes for a node."""
    steps = sum([_SLOW.get(n.fn, 1) for n in walk(node.attrs[0])]) if node.kind == "pointwise" else 1
    return math.prod(node.shape) * steps


def _run_all(program: Any, leaves: int, *pointers: int) -> None:
    program.run(pointers[:leaves], pointers[leaves:])


def _offsets(op: Any, attrs: tuple, ins: Sequence[Meta], outs: Sequence[Meta]) -> list[int] | None:
    """Where views lie in their whole, if each is a stretch of it."""
    if not op.is_view or len(ins) != 1 or ins[0].order is not None or any(m.order is not None or not m.numel for m in outs):
        return None
    if any(m.dtype is not ins[0].dtype for m in outs):
        return None
    places = op.places(ins[0].shape, contiguous_strides(ins[0].shape), attrs)
    if not all(is_contiguous(shape, strides) for shape, strides, _ in places):
        return None
    return [offset * ins[0].dtype.itemsize for _, _, offset in places]


class _Known(threading.local):
    """The operations that a thread has run so; what counts is their order alone, so that each run of a program compiles the same ones at
    the same places."""

    def __init__(self) -> None:
        self.singles: dict[tuple, _Single] = {}


_known = _Known()


class StepwiseProgram:
    """Has the interface of a compiled path. ``waits``: it looks at memory itself, once the programs in flight are through with it."""

    can_fly, waits = False, True
    work = 0.0

    def __init__(self, path: Sequence[TraceNode], key: tuple) -> None:
        live, _, moved = key
        self.results = [*live, *moved]
        self.path: Sequence[TraceNode] = needed(path, self.results)
        self.leaves = tuple([node.slot for node in self.path if node.op is None])
        self.metas: dict[int, Meta] = {}
        # What is done in order, with the slots of inputs and results and the user's line. A network's parameters are updated one by one:
        # which of them have gradients may be another question in each step.
        self.parts: list[tuple[_Single, Sequence[int], Sequence[int], Any]] = []
        for node in self.path:
            self.metas.update(enumerate(node.metas, node.slot))
            if node.op is not None:
                results = range(node.slot, node.slot + len(node.metas))
                for attrs, ins, outs in node.op.apart(node.attrs, node.inputs, results):
                    self.parts.append((self._single(node.op, attrs, ins, outs), ins, outs, node.line))
        self.places, self.nbytes = self._lay_out()

    def _single(self, op: Any, attrs: tuple, inputs: Sequence[int], results: Sequence[int]) -> _Single:
        """What is known of an operation on such values."""
        name = (op, attrs, *[self.metas[s] for s in inputs])
        singles = _known.singles
        single = singles.get(name)
        if single is None:
            if len(singles) >= _MOST:
                del singles[next(iter(singles))]
            single = singles[name] = _Single(op, attrs, name[2:], [self.metas[s] for s in results])
        return single

    def _lay_out(self) -> tuple[dict[int, int], int]:
        """Where each intermediate result lies, and how many bytes they take together."""
        whole: dict[int, int] = {}  # of views: what they lie in
        last: dict[int, int] = {}   # the last part that reads what lies there
        for k, (single, inputs, results, _) in enumerate(self.parts):
            for s in inputs:
                last[whole.get(s, s)] = k
            if single.offsets is not None:
                whole.update(dict.fromkeys(results, whole.get(inputs[0], inputs[0])))
        for s in self.results:
            last[whole.get(s, s)] = len(self.parts)
        places: dict[int, int] = {}
        free: dict[int, list[int]] = {}
        ending: dict[int, list[tuple[int, int]]] = {}
        end = 0
        for k, (single, _, results, _) in enumerate(self.parts):
            for s, size in zip(results, single.sizes) if single.offsets is None else ():
                if free.get(size):
                    places[s] = free[size].pop()
                else:
                    places[s], end = end, end + size
                ending.setdefault(last.get(s, k), []).append((size, places[s]))
            for size, place in ending.pop(k, ()):
                free.setdefault(size, []).append(place)
        return places, end

    @property
    def fits(self) -> bool:
        """Whether the intermediate results take no more memory than they may."""
        return self.nbytes <= _BYTES

    @property
    def nodes(self) -> int:
        return len(self.path)

    @property
    def products(self) -> int:
        """Multiplications in contractions and native calls."""
        return sum([part[0].products for part in self.parts])

    def lowered(self) -> tuple[Graph, Sequence[int]]:
        """The graph of the whole path, and the slots of its leaves."""
        return lower_path(self.path, self.results)

    def run(self, values: Sequence[Value], results: Sequence[Buffer]) -> None:
        at: dict[int, int] = {}
        read = set()
        for slot in self.leaves:
            buffer: Any = values[slot].buffer
            if buffer.flight is not None:
                settle(buffer)
            at[slot] = buffer.ptr
            read.add(buffer.ptr)
        direct: dict[int, int] = {}  # results that are computed where they are to lie
        late = []                    # (slot, address, bytes) of those that are copied there in the end
        for slot, out in zip(self.results, results):
            if out.flight is not None:
                settle(out)
            if slot in at or slot in direct or out.ptr in read:
                late.append((slot, out.ptr, self.metas[slot].nbytes))
            else:
                direct[slot] = out.ptr
        memory = allocate(self.nbytes or 1)
        begin, places = memory.ptr, self.places
        with no_collection():
            for single, inputs, made, line in self.parts:
                if single.offsets is not None:
                    for k, offset in zip(made, single.offsets):
                        at[k] = at[inputs[0]] + offset
                        if k in direct:
                            late.append((k, direct.pop(k), self.metas[k].nbytes))
                    continue
                pointers = [at[s] for s in inputs]
                for k in made:
                    at[k] = place = direct.get(k) or begin + places[k]
                    pointers.append(place)
                run = single.run
                if run is None:
                    single(pointers, line)
                    continue
                try:
                    run(*pointers)
                except (OutOfBounds, RuntimeError) as error:
                    raise type(error)(f"{error}{origin(line)}") from None
        # All is read before anything is written over it.
        kept = [(address, ctypes.string_at(at[slot], nbytes)) for slot, address, nbytes in late]
        for address, content in kept:
            ctypes.memmove(address, content, len(content))
