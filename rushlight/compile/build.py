"""From a primitive graph to a runnable program: legalise, lay out, fuse, lower, plan memory, load kernels."""
from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import dtypes as dt
from .body import Body, Put, Value
from .contraction import Contraction
from .cpu import depthwise, jit, target, winograd, winograd_grad
from .cpu.contract import Plan as KernelPlan
from .cpu.contract import Step
from .cpu.contract import plan as plan_contraction
from .cpu.render import kernel_for
from .expr import input_
from .flags import flags
from .fuse import fuse
from .fusion import Fusion
from .graph import Graph, Node
from .group import Group
from .index import axis_ix
from .lower_contract import LoweredContract, lower_contract
from .lower_group import group_body
from .lower_loops import Lowered, lower_body
from .lower_native import LoweredNative, lower_native
from .memory import ALIGN, Plan, donate, plan_memory
from .nest import Load, Loop, Store
from .passes.assemble import assemble
from .passes.layout import choose_orders
from .passes.legalise import legalise
from .passes.simplify import simplify
from .program import HostStep, Instruction, Packed, Program, Segment, note_built

__all__ = ["build", "load_llvm"]


def load_llvm() -> None:
    """Load what compiling needs, once."""
    target.current()


def build(graph: Graph, donations: dict[int, int]) -> Program:
    """Plan and compile a graph.

    Args:
        graph: its results are what ``Program.run`` writes.
        donations: result number -> number of the leaf whose memory the result takes over.
    """
    start = time.perf_counter()
    try:
        program = _Build(graph, donations).program()
    except BaseException:
        _planned.cache_clear()  # plans that still wait for addresses
        raise
    note_built(program, time.perf_counter() - start)
    return program


@functools.lru_cache(maxsize=1024)
def _planned(contraction: Contraction, processor: str, with_winograd: int) -> Any:
    """The plan of a contraction: the same at every step of a recurrent network."""
    special = depthwise.plan(contraction) or with_winograd and (winograd.plan(contraction) or winograd_grad.plan(contraction))
    return special or plan_contraction(contraction)


@dataclass
class _Kernels:
    """The kernel calls of one group before memory is planned."""

    group: Group
    nests: list[Lowered] = field(default_factory=list)
    contract: LoweredContract | None = None
    native: LoweredNative | None = None
    plan: KernelPlan | None = None
    scratch: int = 0


class _Build:
    def __init__(self, graph: Graph, donations: dict[int, int]) -> None:
        self.donations = donations
        self.show("graph", graph)
        self.source = graph
        if flags.simplify:
            graph = simplify(graph)
            self.show("simplified", graph)
        if flags.assemble:
            graph = assemble(graph)
            self.show("assembled", graph)
        self.graph = legalise(graph)
        self.show("legalised", self.graph)

    def show(self, what: str, graph: Graph) -> None:
        if flags.debug >= 4:
            print(f"-- {what}\n{graph}")

    def program(self) -> Program:
        graph = self.graph
        order = choose_orders(graph) if flags.layout else {}
        fusion = fuse(graph, order)
        with jit.batch():  # kernels are compiled while the rest is lowered and memory is planned
            kernels = {group: _Kernels(group) for group in fusion.groups.all}
            bodies: dict[Group, Body] = {}
            for made in kernels.values():
                self.lower(made, fusion, bodies)
            direct = donate(graph, fusion, bodies, self.donations)
            number = {n: k for k, n in enumerate(graph.nodes)}
            priority = {g: min([number[n] for n in g.roots] + ([number[g.anchor]] if g.anchor is not None else [0]), default=0)
                        for g in fusion.groups.all}
            in_order = fusion.groups.in_order(priority)
            memory = plan_memory(graph, fusion, in_order, bodies, self.donations, direct,
                                 {g: k.scratch for g, k in kernels.items()})
        return _Assembler(self.source, graph, fusion, memory, direct, self.donations).assemble([kernels[g] for g in in_order])

    def lower(self, made: _Kernels, fusion: Fusion, bodies: dict[Group, Body]) -> None:
        group = made.group
        if group.kind == "contract":
            made.contract, bodies[group] = lower_contract(group, fusion)
            made.plan = _planned(made.contract.contraction, target.current().key, flags.winograd)
        elif group.kind == "native":
            made.native = lower_native(group, fusion)
            made.plan = made.native.plan
        elif group.kind not in ("host", "join") and (group.roots or group.anchor is not None):
            body, serial = group_body(group, fusion)
            bodies[group] = body
            made.nests = lower_body(body, serial)
            made.scratch = max((n.scratch for n in made.nests), default=0)
            # What has two operands may turn out to copy a value to itself, which needs no kernel.
            jit.begin([_kernel(n) for n in made.nests if len(n.nest.operands) > 2])
        if made.plan is not None:
            made.scratch = sum(-(-n // ALIGN) * ALIGN for n in made.plan.scratch)


class _Assembler:
    """Turns lowered groups into instructions with addresses."""

    def __init__(self, source: Graph, graph: Graph, fusion: Fusion, memory: Plan, direct: dict[int, int],
                 donations: dict[int, int]) -> None:
        self.source, self.graph, self.fusion, self.memory, self.direct = source, graph, fusion, memory, direct
        self.arena = 1 + len(graph.leaves) + len(graph.results)
        self.constant = set(range(len(graph.leaves))) - set(donations.values())  # leaves that the program does not write
        self.packed = 0
        self.steps: list[Segment | HostStep] = []
        self.waiting: list[tuple[Any, Instruction]] = []  # (what names the kernel, the instruction)

    def assemble(self, kernels: list[_Kernels]) -> Program:
        for one in kernels:
            if one.group.kind == "host":
                self._flush()
                self.steps.append(self._host(one.group))
                continue
            for nest in one.nests:
                self._nest(one.group, nest)
            if one.contract is not None:
                self._contract(one)
            if one.native is not None:
                self._native(one)
        for node, result in self.memory.late:
            self._late_copy(node, result)
        self._flush()
        return Program(self.source, self.steps, self.memory.size)

    def address(self, node: Node) -> tuple[int, int]:
        """(table index, byte offset) of a stored value."""
        kind, where = self.memory.place[self.fusion.origin(node)]
        if kind == "leaf":
            return 1 + where, 0
        if kind == "result":
            return 1 + len(self.graph.leaves) + where, 0
        return self.arena, where

    def _flush(self) -> None:
        if self.waiting:
            addresses = jit.kernels([request for request, _ in self.waiting])
            if flags.debug >= 5:
                for (_, make_ir, name), instruction in self.waiting:
                    print(f"-- {instruction.name}: {name}\n{jit.assembly(make_ir())}")
            for (_, instruction), address in zip(self.waiting, addresses, strict=True):
                instruction.kernel = address
            self.steps.append(Segment([i for _, i in self.waiting]))
            self.waiting = []

    def _params(self, memory: list[tuple[Node | None, int]], group: Group) -> list[int]:
        out = []
        for node, offset in memory:
            table, start = (self.arena, self.memory.scratch[group]) if node is None else self.address(node)
            out += [table, start + offset]
        return out

    def _nest(self, group: Group, lowered: Lowered) -> None:
        if self._is_self_copy(lowered):
            return
        params = [*self._params(lowered.memory, group), lowered.grain, *lowered.sizes]
        self.waiting.append((_kernel(lowered), Instruction(
            0, np.array(params, np.int64), lowered.parts, 0, _name(group), _lines(group), lowered.nbytes, lowered.flops,
            lowered.work)))

    def _is_self_copy(self, lowered: Lowered) -> bool:
        """Whether a kernel would only write what it reads: the base of an update that lies where it must be already."""
        nest = lowered.nest
        body = nest.body
        while len(body) == 1 and isinstance(body[0], Loop):
            body = body[0].body
        if len(nest.operands) != 2 or len(body) != 2:
            return False
        load, store = body
        if not (isinstance(load, Load) and isinstance(store, Store) and store.expr is input_(load.value, store.expr.dtype)):
            return False
        if load.guard is not None or load.offset is not None or nest.operands[0].dtype is not nest.operands[1].dtype:
            return False
        (source, at), (target, to) = lowered.memory
        return (source is not None and target is not None and at == to and lowered.same_steps
                and self._location(source) == self._location(target))

    def _location(self, node: Node) -> tuple[int, int]:
        """The address, with a result that takes over a leaf standing for the leaf."""
        table, offset = self.address(node)
        result = table - 1 - len(self.graph.leaves)
        return (1 + self.direct[result], offset) if result in self.direct else (table, offset)

    def _contract(self, one: _Kernels) -> None:
        assert one.contract is not None
        places = [(table, start + offset) for table, start, offset in (
            (*self.address(node), offset) for node, offset in one.contract.memory)]
        names: dict[Any, tuple[int, int]] = {"a": places[0], "b": places[1], "c": places[2]}
        names.update((("extra", k), place) for k, place in enumerate(places[3:]))
        self._planned(one, names, one.contract.nbytes, one.contract.flops)

    def _native(self, one: _Kernels) -> None:
        assert one.native is not None and one.plan is not None
        names: dict[Any, tuple[int, int]] = {}
        for k, (node, offset) in enumerate(one.native.memory):
            table, start = self.address(node)
            names["in", k] = (table, start + offset)
        for item, home in self.fusion.home.items():
            if home is one.group:
                names["out", item.attrs[0]] = self.address(item)
        self._planned(one, names, one.native.nbytes, one.plan.flops)

    def _planned(self, one: _Kernels, names: dict[Any, tuple[int, int]], nbytes: int, flops: int) -> None:
        """The instructions of a plan, with the addresses of what its steps name."""
        assert one.plan is not None
        lines = _lines(one.group)
        offset = self.memory.scratch.get(one.group, 0)
        for k, size in enumerate(one.plan.scratch):
            names["scratch", k] = (self.arena, offset)
            offset += -(-size // ALIGN) * ALIGN
        for k, step in enumerate(one.plan.steps):
            packed = self._kept(step, names, one.plan) if step.packs else None
            params: list[int] = []
            for name, start in step.operands:
                table, at = names[name]
                params += [table, at + start]
            first = step.operands[0][0]
            main = len(step.operands) > 2 and (first in ("a", "b") or first[0] == "in")  # not packing, not adding up
            self.waiting.append((step.kernel, Instruction(
                0, np.array([*params, *step.params], np.int64), step.parts, 0,
                _name(one.group) + ("" if len(one.plan.steps) == 1 else f" step {k}"), lines, nbytes if main else 0,
                flops if main else 0, flops / 100 if main else 0.0, packed)))

    def _kept(self, step: Step, names: dict[Any, tuple[int, int]], plan: KernelPlan) -> Packed | None:
        """What a packing step makes, if that can be kept from run to run: the packed form of a leaf that stays as it is."""
        (source, start), (target, _) = step.operands
        table, at = names[source]
        if table - 1 not in self.constant:
            return None
        offset, nbytes = names[target][1], plan.scratch[target[1]]  # type: ignore[index]
        self.packed += 1
        names[target] = self.arena + self.packed, 0
        return Packed(table - 1, (step.kernel[0], at + start, nbytes, *step.params), nbytes, offset)

    def _late_copy(self, node: Node, result: int) -> None:
        """Copy a result from the arena over the leaf that it replaces."""
        n, dtype = node.size, node.dtype
        if n == 0:
            return
        if dtype.kind == "c":  # complex numbers have no native form, their bits do
            n, dtype = n * dtype.itemsize // 8, dt.int64
        body = Body({0: n}, [0], [])
        x = body.number(Value("load", dtype, axis_ix(0), node))
        body.puts.append(Put(None, axis_ix(0), x))
        for lowered in lower_body(body):
            table, start = self.address(node)
            params = [table, start, 1 + len(self.graph.leaves) + result, 0]
            if lowered.memory[0][0] is None:
                params = params[2:] + params[:2]
            self.waiting.append((_kernel(lowered), Instruction(
                0, np.array([*params, lowered.grain, *lowered.sizes], np.int64), lowered.parts, 0, "copy result",
                (node.line,), lowered.nbytes, 0, lowered.work)))

    def _host(self, group: Group) -> HostStep:
        node = group.anchor
        assert node is not None
        inputs = [(*self.address(x), x.shape, x.dtype) for x in node.inputs]
        outputs = []
        for item, home in self.fusion.home.items():
            if home is group:
                outputs.append((item.attrs[0], *self.address(item), item.shape, item.dtype))
        return HostStep(node.attrs[0], inputs, outputs, node.line)


def _kernel(lowered: Lowered) -> Any:
    """What names a kernel: worked out once for all nests that were lowered from equal bodies."""
    if not lowered.kernel:
        lowered.kernel.append(kernel_for(lowered.nest))
    return lowered.kernel[0]


def _lines(group: Group) -> tuple[Any, ...]:
    nodes = [*([group.anchor] if group.anchor is not None else []), *group.roots, *group.reduces]
    return tuple(dict.fromkeys(n.line for n in nodes if n.line is not None))


def _name(group: Group) -> str:
    kinds = [r.attrs[0] for r in group.reduces]
    if group.kind == "loops":
        shape = "x".join(str(group.extents[a]) for a in group.axes)
        return f"{'+'.join(['reduce', *kinds]) if kinds else 'pointwise'} {shape} -> {len(group.roots)}"
    if group.kind == "native" and group.anchor is not None:
        return f"{group.anchor.attrs[0].name} {'x'.join(map(str, group.anchor.shape))}"
    return f"{group.kind} {'x'.join(map(str, group.anchor.shape if group.anchor else ()))} -> {len(group.roots)}"
