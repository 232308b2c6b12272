"""Plans on disk: what a graph was made into by an earlier process is found instead of worked out again.

A second process start compiles nothing, because kernels are kept on disk (``cache.py``); and it plans nothing, because the list of
their calls is kept there, too. The key is the graph itself, node by node, with all that planning looks at: the processor, the switches,
the memory that results take over, and the compiler's source. So there is nothing to go stale, and the program is the one that planning
would have given, to the bit. The user's lines are no part of it: they are told by nodes, and come from the graph at hand.

Where a kernel is gone from the disk, or something in the graph cannot be written down, there is no plan, and the graph is planned.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import marshal
import sys
import zlib
from collections.abc import Sequence
from typing import Any

from . import cache
from .cpu import jit, target
from .dtypes import BY_NAME, DType
from .expr import Expr
from .flags import flags
from .graph import Graph, HostCall
from .program import HostStep, Instruction, Packed, Program, Segment

__all__ = ["find", "key", "keep"]

_FORMAT = 1
_PLAIN = frozenset((int, float, bool, str, type(None)))
_OURS = __name__.partition(".")[0] + "."


class _Unknown(Exception):
    """Something that cannot be written down."""


class _Gone(Exception):
    """A kernel is not on disk any more."""


def key(graph: Graph, donations: dict[int, int]) -> str | None:
    """What a plan of this graph is kept under; None if there can be none."""
    if not flags.plans or flags.debug >= 4 or cache.default() is None:
        return None
    try:
        written = _Writer().graph(graph)
    except _Unknown:
        return None
    circumstances = (_FORMAT, sys.version_info[:3], flags.state, _processor(target.current()), sorted(donations.items()))
    digest = hashlib.blake2b(marshal.dumps((written, circumstances), 2), digest_size=32)
    return cache.key("plan", digest.hexdigest())


@functools.lru_cache(maxsize=8)
def _processor(cpu: target.CPU) -> tuple[Any, ...]:
    return dataclasses.astuple(cpu)


class _Writer:
    """Writes a graph as nested tuples of plain values: equal graphs give equal bytes in every process (``marshal`` of version 2 tells
    apart neither objects nor how strings are stored)."""

    def __init__(self) -> None:
        self.formulas: dict[Expr, int] = {}
        self.written: list[tuple[Any, ...]] = []
        self.parts: dict[int, tuple[Any, Any]] = {}  # identity of a part of an attribute -> (it, what was written)

    def graph(self, graph: Graph) -> tuple[Any, ...]:
        number = {node: k for k, node in enumerate(graph.nodes)}
        value = self.value
        nodes = [(n.kind, [number[i] for i in n.inputs], value(n.attrs), n.shape, n.dtype.number) for n in graph.nodes]
        return nodes, self.written, [number[n] for n in graph.leaves], [number[n] for n in graph.results]

    def value(self, x: Any) -> Any:
        kind = type(x)
        if kind in _PLAIN:
            return x
        if kind is tuple:
            return [self.value(item) for item in x]
        if kind is Expr:
            return ("formula", self.formula(x))
        if kind is DType:
            return ("dtype", x.number)
        known = self.parts.get(id(x))
        if known is None:
            known = self.parts[id(x)] = x, self.record(x, kind)
        return known[1]

    def record(self, x: Any, kind: type) -> tuple[Any, ...]:
        if kind is HostCall:  # planning looks at nothing else, and the function is the graph's own
            return "host", x.name, self.value(x.results)
        if not (dataclasses.is_dataclass(kind) and kind.__module__.startswith(_OURS)):
            raise _Unknown(kind)
        return kind.__module__, kind.__qualname__, [self.value(getattr(x, field.name)) for field in dataclasses.fields(kind)]

    def formula(self, x: Expr) -> int:
        known = self.formulas.get(x)
        if known is None:
            args = [self.formula(a) for a in x.args]
            known = self.formulas[x] = len(self.written)
            self.written.append((x.fn, args, x.dtype.number, self.value(x.attr)))
        return known


def find(name: str, graph: Graph) -> Program | None:
    """The program of a graph with this key that is on disk, if there is one."""
    data = cache.get(name)
    return None if data is None else _Reader(marshal.loads(zlib.decompress(data)), graph).program()


def keep(name: str, program: Program, graph: Graph) -> None:
    """Put the plan of a program that was made from ``graph`` on disk."""
    try:
        data = marshal.dumps(_record(program, graph), 2)
    except (_Unknown, ValueError):  # a host function that planning has put there, numbers that are not Python's
        return
    cache.put(name, zlib.compress(data, 1))


# -- what is written ---------------------------------------------------------------------------------------------------

def _record(program: Program, graph: Graph) -> tuple[Any, ...]:
    kernels: dict[tuple[str, str], int] = {}  # in the order of their numbers
    maker = {node.line[2]: k for k, node in reversed(list(enumerate(graph.nodes))) if node.line is not None}  # slot -> its first node
    hosts = {id(node.attrs[0]): k for k, node in enumerate(graph.nodes) if node.kind == "host"}

    def number(symbol: tuple[str, str]) -> int:
        return kernels.setdefault(symbol, len(kernels))

    def makers(lines: Sequence[Any]) -> list[int | None]:
        return [None if line is None else maker.get(line[2]) for line in lines]

    def relocatable(params: Sequence[Any]) -> tuple[list[Any], list[tuple[int, int]]]:
        """Parameters without the addresses among them, and which kernel's address belongs where."""
        places = [(k, number(p.symbol)) for k, p in enumerate(params) if type(p) is jit.Address]
        bare = [0 if type(p) is jit.Address else p for p in params]
        if any(map(jit.is_address, bare)):
            raise _Unknown("an address that does not say whose it is")
        return bare, places

    def instruction(i: Instruction) -> tuple[Any, ...]:
        packed = None if i.packed is None else (i.packed.leaf, *relocatable(i.packed.key), i.packed.nbytes, i.packed.offset)
        return (number(i.symbol), *relocatable(i.params), i.parts, i.grain, str(i.label), makers(i.lines), i.nbytes, i.flops, i.work,
                packed, i.detail)

    def step(s: Segment | HostStep) -> Any:
        if isinstance(s, Segment):
            return [instruction(i) for i in s.instructions]
        if id(s.call) not in hosts:
            raise _Unknown(s.call)
        places = [[(*place, shape, dtype.name) for *place, shape, dtype in some] for some in (s.inputs, s.outputs)]
        return hosts[id(s.call)], *places, makers((s.line,))

    steps = [step(s) for s in program.steps]
    return (steps, list(kernels), _typed(program.leaves), _typed(program.results), program.arena_bytes,
            [(value, dtype.name) for value, dtype in program.numbers])


def _typed(values: Sequence[Any]) -> list[tuple[Any, str]]:
    return [(v.shape, v.dtype.name) for v in values]


# -- and read ------------------------------------------------------------------------------------------------------------

class _Reader:
    def __init__(self, record: tuple[Any, ...], graph: Graph) -> None:
        self.steps, self.kernels, self.leaves, self.results, self.arena, self.numbers = record
        self.graph = graph

    def program(self) -> Program | None:
        try:
            addresses = jit.kernels([(structure, _gone, name) for structure, name in self.kernels])
        except _Gone:
            return None
        steps = [self.segment(s, addresses) if type(s) is list else self.host(*s) for s in self.steps]
        leaves, results, numbers = ([(what, BY_NAME[dtype]) for what, dtype in some]
                                    for some in (self.leaves, self.results, self.numbers))
        return Program(leaves, results, steps, self.arena, numbers)

    def segment(self, record: list[tuple[Any, ...]], addresses: Sequence[int]) -> Segment:
        def whole(params: list[Any], places: list[tuple[int, int]]) -> list[Any]:
            for k, kernel in places:
                params[k] = addresses[kernel]
            return params

        instructions = []
        for kernel, params, places, parts, grain, label, makers, nbytes, flops, work, packed, detail in record:
            form = None
            if packed is not None:
                leaf, bare, at, size, offset = packed
                form = Packed(leaf, tuple(whole(bare, at)), size, offset)
            instructions.append(Instruction(addresses[kernel], whole(params, places), parts, grain, label, self.lines(makers), nbytes,
                                            flops, work, form, detail, self.kernels[kernel]))
        return Segment.of(instructions)

    def host(self, number: int, inputs: list[Any], outputs: list[Any], line: list[int | None]) -> HostStep:
        sources, targets = ([(*place, shape, BY_NAME[dtype]) for *place, shape, dtype in some] for some in (inputs, outputs))
        return HostStep(self.graph.nodes[number].attrs[0], sources, targets, self.lines(line)[0])

    def lines(self, makers: list[int | None]) -> tuple[Any, ...]:
        return tuple([None if k is None else self.graph.nodes[k].line for k in makers])


def _gone() -> str:
    raise _Gone
