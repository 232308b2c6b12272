"""From a primitive graph to a runnable program: decide what there is to do (``outline``), make kernels, give addresses."""
from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import dtypes as dt
from .body import Body, Put, Value
from .contraction import Contraction
from .cpu import depthwise, jit, target, winograd, winograd_grad
from .cpu.contract import plan as plan_contraction
from .cpu.contract_step import Plan as KernelPlan
from .cpu.contract_step import Step
from .cpu.native import plan as plan_native
from .cpu.render import kernel_for
from .emit_nest import Lowered
from .expr import input_
from .flags import flags
from .graph import Graph, Node
from .index import axis_ix
from .lower_loops import lower, lower_body
from .memory import ALIGN, Memory, lay_out
from .nest import Load, Loop, Store
from .outline import HostWork, NativeWork, Nests, Outline, Piece, Work, outline
from .program import ERROR_WORDS, HostStep, Instruction, Packed, Program, Segment, note_built
from .sizes import flattened

__all__ = ["Kernels", "build", "kernels_afresh", "kernels_of", "load_llvm", "make"]


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
    plan = outline(graph, donations)
    program = make(plan, lambda: [(work, kernels_of(work)) for work in plan.works])
    note_built(program, time.perf_counter() - start)
    return program


def make(plan: Outline, lower: Callable[[], list[tuple[Work, Kernels]]]) -> Program:
    """The program of an outline whose numbers are plain: memory is laid out, kernels are loaded.

    Args:
        lower: gives each of the outline's works with its kernels.
    """
    try:
        with jit.batch():  # kernels are compiled while the rest is planned
            works = lower()
            scratch = {k: works[piece.work][1].scratch for k, piece in enumerate(plan.pieces)}
            memory = lay_out(plan.memory, scratch)
    except BaseException:
        _planned.cache_clear()  # plans that still wait for addresses
        raise
    return _Assembler(plan, works, memory).assemble()


@functools.lru_cache(maxsize=1024)
def _planned(contraction: Contraction, processor: str, with_winograd: int) -> KernelPlan:
    """The plan of a contraction: the same at every step of a recurrent network."""
    return _plan(contraction)


def _plan(contraction: Contraction) -> KernelPlan:
    contraction = contraction.merged()
    special = depthwise.plan(contraction) or flags.winograd and (winograd.plan(contraction) or winograd_grad.plan(contraction))
    return special or plan_contraction(contraction)


@dataclass
class Kernels:
    """The kernel calls of one work before memory is laid out: loop nests, or a plan with steps, or none (a host call)."""

    nests: list[Lowered]
    plan: KernelPlan | None
    scratch: int


def kernels_of(work: Work) -> Kernels:
    """Lower a work, or find what was made of an equal one."""
    if isinstance(work, Nests):
        return _of_nests(lower_body(work.body, work.serial))
    if isinstance(work, Contraction):
        return _of_plan(_planned(work, target.current().key, flags.winograd))
    return kernels_afresh(work)


def kernels_afresh(work: Work) -> Kernels:
    """Lower a work, whose numbers may be sizes."""
    if isinstance(work, Nests):
        return _of_nests(lower(work.body, work.serial))
    if isinstance(work, Contraction):
        return _of_plan(_plan(work))
    return _of_plan(plan_native(work.call, work.operands, work.wanted)) if isinstance(work, NativeWork) else Kernels([], None, 0)


def _of_nests(nests: list[Lowered]) -> Kernels:
    names = [_kernel(n) for n in nests]
    # What has two operands may turn out to copy a value to itself, which needs no kernel.
    jit.begin([name for name, n in zip(names, nests) if len(n.nest.operands) > 2])
    return Kernels(nests, None, max((n.scratch for n in nests), default=0))


def _of_plan(plan: KernelPlan) -> Kernels:
    return Kernels([], plan, sum(-(-n // ALIGN) * ALIGN for n in plan.scratch))


class _Assembler:
    """Turns pieces into instructions with addresses."""

    def __init__(self, plan: Outline, works: list[tuple[Work, Kernels]], memory: Memory) -> None:
        self.plan, self.works, self.memory = plan, works, memory
        self.given = len(plan.leaves) - len(plan.numbers)  # leaves that come from outside
        self.arena = 1 + self.given + len(plan.results)
        self.constant = set(range(self.given)) - plan.overwritten
        self.packed = 0
        self.steps: list[Segment | HostStep] = []
        self.waiting: list[tuple[Any, Instruction]] = []  # (what names the kernel, the instruction)

    def assemble(self) -> Program:
        for k, piece in enumerate(self.plan.pieces):
            work, kernels = self.works[piece.work]
            if isinstance(work, HostWork):
                self._flush()
                self.steps.append(self._host(work, piece))
            elif kernels.plan is not None:
                self._planned(k, piece, work, kernels.plan)
            else:
                for nest in kernels.nests:
                    self._nest(k, piece, nest)
        for node, nbytes, result in self.plan.memory.late:
            self._late_copy(node, nbytes, result)
        self._flush()
        return Program(self.plan.leaves[:self.given], self.plan.results, self.steps, self.memory.size, self.plan.numbers)

    def address(self, node: Node) -> tuple[int, int]:
        """(table index, byte offset) of a stored value."""
        kind, where = self.memory.place[node]
        if kind == "leaf":
            return (1 + where, 0) if where < self.given else (0, 8 * (ERROR_WORDS + where - self.given))
        if kind == "result":
            return 1 + self.given + where, 0
        return self.arena, where

    def _flush(self) -> None:
        if self.waiting:
            addresses = jit.kernels([request for request, _ in self.waiting])
            if flags.debug >= 5:
                for (_, make_ir, name), instruction in self.waiting:
                    print(f"-- {instruction.name}: {name}\n{jit.assembly(make_ir())}")
            for ((structure, _, name), instruction), address in zip(self.waiting, addresses, strict=True):
                instruction.kernel, instruction.symbol = address, (structure, name)
            self.steps.append(Segment([i for _, i in self.waiting]))
            self.waiting = []

    def _nest(self, step: int, piece: Piece, lowered: Lowered) -> None:
        if self._is_self_copy(piece, lowered):
            return
        params: list[int] = []
        for operand, offset in lowered.memory:
            table, start = (self.arena, self.memory.scratch[step]) if operand is None else self.address(piece.memory[operand][0])
            params += [table, start + offset]
        self.waiting.append((_kernel(lowered), Instruction(
            0, [*params, lowered.grain, *lowered.sizes], lowered.parts, 0, piece.label, piece.lines,
            lowered.nbytes, lowered.flops, lowered.work)))

    def _is_self_copy(self, piece: Piece, lowered: Lowered) -> bool:
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
                and self._location(piece.memory[source][0]) == self._location(piece.memory[target][0]))

    def _location(self, node: Node) -> tuple[int, int]:
        """The address, with a result that takes over a leaf standing for the leaf."""
        table, offset = self.address(node)
        result = table - 1 - self.given
        return (1 + self.plan.direct[result], offset) if result in self.plan.direct else (table, offset)

    def _planned(self, number: int, piece: Piece, work: Work, plan: KernelPlan) -> None:
        """The instructions of a plan, with the addresses of what its steps name."""
        places = []
        for node, offset in piece.memory:
            table, start = self.address(node)
            places.append((table, start + offset))
        names: dict[Any, tuple[int, int]] = {}
        if isinstance(work, NativeWork):
            names.update((("in", k), place) for k, place in enumerate(places[:len(work.operands)]))
            wanted = [k for k, present in enumerate(work.wanted) if present]
            names.update((("out", k), place) for k, place in zip(wanted, places[len(work.operands):], strict=True))
        else:
            names.update(zip("abc", places))
            names.update((("extra", k), place) for k, place in enumerate(places[3:]))
        offset = self.memory.scratch.get(number, 0)
        for k, size in enumerate(plan.scratch):
            names["scratch", k] = (self.arena, offset)
            offset += -(-size // ALIGN) * ALIGN
        flops = plan.flops if isinstance(work, NativeWork) else piece.flops
        for k, step in enumerate(plan.steps):
            packed = self._kept(step, names, plan) if step.packs else None
            params: list[int] = []
            for name, start in step.operands:
                table, at = names[name]
                params += [table, at + start]
            first = step.operands[0][0]
            main = len(step.operands) > 2 and (first in ("a", "b") or first[0] == "in")  # not packing, not adding up
            self.waiting.append((step.kernel, Instruction(
                0, [*params, *flattened(step.params)], step.parts, -step.wave,
                piece.label, piece.lines, piece.nbytes if main else 0, flops if main else 0, flops / 100 if main else 0.0, packed,
                "" if len(plan.steps) == 1 else f" step {k}")))

    def _kept(self, step: Step, names: dict[Any, tuple[int, int]], plan: KernelPlan) -> Packed | None:
        """What a packing step makes, if that can be kept from run to run: the packed form of a leaf that stays as it is."""
        (source, start), (target, _) = step.operands
        table, at = names[source]
        if table - 1 not in self.constant:
            return None
        offset, nbytes = names[target][1], plan.scratch[target[1]]  # type: ignore[index]
        self.packed += 1
        names[target] = self.arena + self.packed, 0
        return Packed(table - 1, (step.kernel[0], at + start, nbytes, *flattened(step.params)), nbytes, offset)

    def _late_copy(self, node: Node, nbytes: int, result: int) -> None:
        """Copy a result from the arena over the leaf that it replaces, as whole numbers of its size."""
        if nbytes == 0:
            return
        item = min(node.dtype.itemsize, 8)
        dtype = {1: dt.int8, 2: dt.int16, 4: dt.int32, 8: dt.int64}[item]
        body = Body({0: nbytes // item}, [0], [])
        x = body.number(Value("load", dtype, axis_ix(0), 0))
        body.puts.append(Put(1, axis_ix(0), x))
        for lowered in lower_body(body):
            places = (self.address(node), (1 + self.given + result, 0))
            params = [number for operand, _ in lowered.memory for number in places[operand]]
            self.waiting.append((_kernel(lowered), Instruction(
                0, [*params, lowered.grain, *lowered.sizes], lowered.parts, 0, "copy result",
                (node.line,), lowered.nbytes, 0, lowered.work)))

    def _host(self, work: HostWork, piece: Piece) -> HostStep:
        places = [self.address(node) for node, _ in piece.memory]
        inputs = [(*place, *what) for place, what in zip(places, work.inputs)]
        outputs = [(pick, *place, *what) for pick, place, what in zip(work.picks, places[len(work.inputs):], work.outputs, strict=True)]
        return HostStep(work.call, inputs, outputs, piece.lines[0])


def _kernel(lowered: Lowered) -> Any:
    """What names a kernel: worked out once for all nests that were lowered from equal bodies."""
    if not lowered.kernel:
        lowered.kernel.append(kernel_for(lowered.nest))
    return lowered.kernel[0]
