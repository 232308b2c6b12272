"""From a primitive graph to a runnable program: decide what there is to do (``outline``), make kernels, give addresses."""
from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .addresses import Assembler
from .calls import Calls, of_nests, of_plan
from .contraction import Contraction
from .cpu import depthwise, jit, target, winograd, winograd_grad
from .cpu.contract import plan as plan_contraction
from .cpu.contract_step import Plan as KernelPlan
from .cpu.native import plan as plan_native
from .cpu.render import kernel_for
from .emit_nest import Lowered
from .flags import flags
from .graph import Graph
from .lower_loops import lower, lower_body
from .memory import ALIGN, lay_out
from .outline import NativeWork, Nests, Outline, Work, outline
from .program import Program, note_built

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


def make(plan: Outline, lower: Callable[[], list[tuple[Work, Kernels | Calls]]]) -> Program:
    """The program of an outline whose numbers are plain: memory is laid out, kernels are loaded.

    Args:
        lower: gives each of the outline's works with its kernels, or their calls.
    """
    try:
        with jit.batch():  # kernels are compiled while the rest is planned
            works = lower()
            needs = [made.scratch for _, made in works]
            memory = lay_out(plan.memory, {k: needs[piece.work] for k, piece in enumerate(plan.pieces)})
    except BaseException:
        _planned.cache_clear()  # plans that still wait for addresses
        raise
    calls = [(work, made if isinstance(made, Calls) else made.calls(work)) for work, made in works]
    return Assembler(plan, calls, memory).assemble()


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
    """The kernels of one work: loop nests, or a plan with steps, or none (a host call). ``scratch``: the bytes that they need."""

    nests: list[Lowered]
    plan: KernelPlan | None
    scratch: int
    made: Calls | None = None

    def calls(self, work: Work) -> Calls:
        """Their calls, when the batch in which they were made (``jit.batch``) is over."""
        if self.made is None:
            self.made = of_nests(self.nests, [_kernel(n) for n in self.nests]) if self.plan is None else of_plan(self.plan, work)
        return self.made


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


def _kernel(lowered: Lowered) -> Any:
    """What names a kernel: worked out once for all nests that were lowered from equal bodies."""
    if not lowered.kernel:
        lowered.kernel.append(kernel_for(lowered.nest))
    return lowered.kernel[0]
