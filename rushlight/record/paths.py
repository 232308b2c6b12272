"""From a recorded path to a compiled program: the one place where recording meets the compiler."""
from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..compile import plans
from ..compile.cpu import compilers
from ..compile.cpu.flight import Launch
from ..compile.dtypes import DType
from ..compile.graph import Graph, HostCall, Node
from ..compile.program import note_found
from ..compile.sizes import Tape
from .meta import Meta, meta_of
from .op import Op
from .packed import PackedLeaves
from .trace import TraceNode
from .value import Buffer, Value

__all__ = ["Asked", "path_to", "needed", "cost", "compile_family", "compile_path", "lower_op", "lower_path", "no_collection",
           "ordered_leaf"]


def path_to(node: TraceNode) -> list[TraceNode]:
    """The nodes from the root (excluded) to ``node``."""
    path = []
    while node.parent is not None:
        path.append(node)
        node = node.parent
    path.reverse()
    return path


def needed(path: Sequence[TraceNode], live: Sequence[int]) -> list[TraceNode]:
    """The nodes of a path that the live slots depend on, in order."""
    wanted = set(live)
    kept = []
    for node in reversed(path):
        n = len(node.metas)  # none of a mark
        if node.slot in wanted if n == 1 else any(node.slot + k in wanted for k in range(n)):
            kept.append(node)
            wanted.update(node.inputs)
    kept.reverse()
    return kept


def cost(path: Sequence[TraceNode]) -> int:
    return sum(n.op.cost(n.metas) for n in path if n.op is not None)


def lower_path(path: Sequence[TraceNode], results: Sequence[int]) -> tuple[Graph, list[int]]:
    """The graph that computes the result slots, and the slots of its leaves in order."""
    return lower_nodes(needed(path, results), results)


def lower_nodes(nodes: Iterable[Any], results: Sequence[int]) -> tuple[Graph, list[int]]:
    """As ``lower_path``, from the nodes that are needed (anything with a ``TraceNode``'s attributes)."""
    graph = Graph()
    made: dict[int, Node] = {}
    orders: dict[int, tuple[int, ...]] = {}  # of slots that do not fill their memory by rows
    leaves: list[int] = []
    for node in nodes:
        if node.op is None:
            order = node.orders[0]
            made[node.slot] = ordered_leaf(graph, node.meta, order)
            leaves.append(node.slot)
            if order is not None:
                orders[node.slot] = order
            continue
        graph.line = None if node.line is None else (*node.line, node.slot)
        outs = lower_op(graph, node.op, [made[s] for s in node.inputs], node.attrs, node.metas)
        for k, out in enumerate(outs):
            made[node.slot + k] = out
        orders.update({node.slot + k: order for k, order in enumerate(node.orders) if order is not None})
    graph.results = [graph.permute(made[s], orders[s]) if s in orders else made[s] for s in results]
    return graph, leaves


def ordered_leaf(graph: Graph, meta: Meta, order: tuple[int, ...] | None) -> Node:
    """A leaf whose memory is filled in some order, with its dimensions in theirs."""
    if order is None:
        return graph.leaf(meta.shape, meta.dtype)
    return graph.permute(graph.leaf(tuple([meta.shape[d] for d in order]), meta.dtype), [order.index(d) for d in range(len(order))])


def lower_op(g: Graph, op: Op, inputs: Sequence[Node], attrs: tuple, metas: Sequence[Meta]) -> Sequence[Node]:
    """Lower one operation; what has only a reference rule becomes a call of it."""
    if op.is_host:
        results = tuple((m.shape, m.dtype) for m in metas)
        return g.host(HostCall(_Reference(op, attrs, results), results, op.name), *inputs)
    outs = op.lower(g, inputs, attrs, metas)
    for out, m in zip(outs, metas, strict=True):
        if out.shape != m.shape or out.dtype is not m.dtype:
            raise AssertionError(f"{op.name} {attrs} lowers to {out.dtype.name}{list(out.shape)}, its meta says {m}")
    return outs


@dataclass(frozen=True)
class _Reference:
    """The reference rule of an operation, as a function of arrays."""

    op: Op
    attrs: tuple
    results: tuple[tuple[tuple[int, ...], DType], ...]

    def __call__(self, *arrays: Any) -> tuple:
        return tuple(self.op.reference(arrays, self.attrs, [meta_of(*result) for result in self.results]))


class CompiledPath:
    """A compiled program with the slots of its leaves; ``can_fly``: whether it may run while Python goes on, ``work``: how long
    that will take, an estimate in nanoseconds on one core; ``plain``: runs it with one address after the other, of leaves and
    results, where that is all there is to do, else None."""

    __slots__ = ("program", "leaves", "packed", "plain", "can_fly", "work", "pause", "rest", "calm")
    waits = False

    def __init__(self, program: Any, leaves: Sequence[int]) -> None:
        self.program, self.leaves = program, tuple(leaves)
        self.packed = PackedLeaves(program, self.leaves) if program.packed else None
        self.plain = program.plain_run() if self.packed is None and program.is_plain else None
        self.can_fly, self.work = program.can_fly, program.work
        self.pause = 0  # how many runs were not launched because nothing was done beside the one before them
        self.rest = 0   # how many there are still to be
        self.calm = 0   # launches since then

    def rests(self) -> bool:
        """Whether to run it rather than to launch it: nothing was done beside it of late."""
        if self.rest:
            self.rest -= 1
            return True
        return False

    def idle(self) -> None:
        """Nothing was done beside the last launch: try another after twice as many runs as before."""
        self.rest = self.pause = min(2 * self.pause + 1, 63)
        self.calm = 0

    def run(self, values: Sequence[Value], results: Sequence[Buffer]) -> None:
        """Run with the trace's values, among them the leaves, and memory for the results."""
        self.start([*(values[s].buffer.ptr for s in self.leaves), *(b.ptr for b in results)], values)  # type: ignore[union-attr]

    def inside_another(self) -> bool:
        """Whether this thread is in a host function that a program has called."""
        return self.program.inside_another()  # type: ignore[no-any-return]

    def launch(self, pointers: Sequence[int], values: Sequence[Value], aftermath: Any) -> Launch:
        """Launch it with the addresses of leaves, then results."""
        self.calm += 1
        if self.calm > 4:
            self.pause = 0
        if self.packed is None:
            return self.program.launch(pointers, (), (), aftermath)  # type: ignore[no-any-return]
        places, ready, made = self.packed.begin(values)
        aftermath.forms = made
        launch = self.program.launch(pointers, places, ready, aftermath)
        self.packed.keep(ready, made)
        return launch  # type: ignore[no-any-return]

    def start(self, pointers: Sequence[int], values: Sequence[Value]) -> None:
        """Run with the addresses of leaves, then results."""
        if self.packed is None:
            self.program.run(pointers, ())
        else:
            self.packed.run(pointers, values)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Planning makes many objects and leaves few cycles: the garbage collector would look at all of them for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@functools.cache
def _builder() -> Any:
    """The compiler, which is loaded at the first compilation, not at import."""
    with compilers.lock:  # no fork in the middle: the locks of an import would stay locked in the child
        from ..compile import build, family

        build.load_llvm()
        return build, family


class Asked:
    """A program that is asked for: it may be on disk, where it is kept under the name that its graph gives it.

    Args:
        lowered: the path's graph and leaves, where somebody has made them already.
    """

    def __init__(self, path: Sequence[TraceNode], key: tuple, lowered: tuple[Graph, Sequence[int]] | None = None) -> None:
        self.start = time.perf_counter()
        live, _, moved = key
        self.graph, self.leaves = lower_path(path, [*live, *moved]) if lowered is None else lowered
        self.donations = taken(key, self.leaves)
        with compilers.lock:  # no fork in the middle: the locks of an import would stay locked in the child
            self.name = plans.key(self.graph, self.donations)

    def found(self) -> CompiledPath | None:
        """The program that an earlier process has made."""
        program = None if self.name is None else plans.find(self.name, self.graph)
        if program is None:
            return None
        note_found(program, time.perf_counter() - self.start)
        return CompiledPath(program, self.leaves)

    def built(self) -> CompiledPath:
        """The program, planned for these sizes alone."""
        made = CompiledPath(_builder()[0].build(self.graph, self.donations), self.leaves)
        self.keep(made)
        return made

    def keep(self, made: CompiledPath) -> None:
        """This is the program: keep it for later processes."""
        if self.name is not None:
            plans.keep(self.name, made.program, self.graph)


def compile_path(path: Sequence[TraceNode], key: tuple, lowered: tuple[Graph, Sequence[int]] | None = None) -> CompiledPath:
    """Its program is found on disk, or built."""
    asked = Asked(path, key, lowered)
    return asked.found() or asked.built()


def compile_family(nodes: Iterable[Any], key: tuple, tape: Tape) -> tuple[Any, list[int]]:
    """The family of programs of nodes whose shapes are sizes, and the slots of their leaves.

    Raises:
        NotGeneric: their sizes cannot be exchanged.
    """
    live, _, moved = key
    graph, leaves = lower_nodes(nodes, [*live, *moved])
    return _builder()[1].Family(graph, taken(key, leaves), tape), leaves


def taken(key: tuple, leaves: Sequence[int]) -> dict[int, int]:
    """Which results take over the memory of which leaves, by their numbers in the program."""
    live, donations, _ = key
    position = {slot: k for k, slot in enumerate(leaves)}
    where = {slot: k for k, slot in enumerate(live)}
    return {where[result]: position[leaf] for result, leaf in donations if leaf in position}
