"""Calls: the kernel calls of one work, before memory is laid out, with their numbers apart.

What a call is but for its numbers (which kernel, which operands) is the same for all sizes. The numbers (offsets, extents, strides,
parts) are one list for each work, so that for another size of a family nothing but that list is computed (``family.py``).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .contraction import Contraction
from .cpu.contract_step import KernelRequest, Plan, Step
from .emit_nest import Lowered
from .expr import input_
from .memory import ALIGN
from .nest import Load, Loop, Store
from .outline import NativeWork, Work
from .sizes import stands_for_many

__all__ = ["Call", "Calls", "of_nests", "of_plan"]


@dataclass(slots=True)
class Call:
    """One kernel call.

    Attributes:
        places: what each of its pointers is to: number k of ``Piece.memory``, or one of -n to -1 for n scratch buffers.
        start, end: where its numbers begin in the list of the work, and where its parameters end: an offset for each place, then the
            others. Behind them follow parts, grain, nanoseconds (an estimate, on one core), floating-point operations and bytes moved
            (None: as many as the piece says).
        has_lists: whether a parameter may stand for several.
        copies: whether it only writes what it reads, and would do nothing where both are at one place.
        packs: whether it only fills a scratch buffer, its second place, from its first.
        detail: what the profiler shows behind the piece's label.
        address: of the kernel, once that is known.
    """

    kernel: KernelRequest
    places: tuple[int, ...]
    start: int
    end: int
    has_lists: bool = False
    copies: bool = False
    packs: bool = False
    detail: str = ""
    address: int = 0


@dataclass(slots=True)
class Calls:
    """Attributes:
        buffers: how many scratch buffers there are; their sizes are the first numbers.
        numbers: those of all calls; for a work of any size, sizes.
    """

    calls: list[Call]
    buffers: int
    numbers: list[Any]

    @property
    def scratch(self) -> int:
        """The bytes of all scratch buffers."""
        return sum([-(-n // ALIGN) * ALIGN for n in self.numbers[:self.buffers]])

    def add(self, kernel: KernelRequest, memory: Sequence[tuple[int, Any]], params: Sequence[Any], more: Sequence[Any]) -> Call:
        """A further call, with its places and their offsets."""
        start = len(self.numbers)
        self.numbers += [at for _, at in memory]
        self.numbers += params
        call = Call(kernel, tuple([place for place, _ in memory]), start, len(self.numbers))
        call.has_lists = any(map(stands_for_many, params))
        self.numbers += more
        self.calls.append(call)
        return call


def of_nests(nests: Sequence[Lowered], kernels: Sequence[KernelRequest]) -> Calls:
    """The calls of loop nests, each with its kernel."""
    made = Calls([], 1, [max((n.scratch for n in nests), default=0)])
    for nest, kernel in zip(nests, kernels, strict=True):
        memory = [(-1 if operand is None else operand, at) for operand, at in nest.memory]
        call = made.add(kernel, memory, [nest.grain, *nest.sizes], [nest.parts, 0, nest.work, nest.flops, nest.nbytes])
        call.copies = _is_copy(nest)
    return made


def of_plan(plan: Plan, work: Work) -> Calls:
    """The calls of a plan's steps."""
    buffers = len(plan.scratch)
    made = Calls([], buffers, list(plan.scratch))
    place: dict[Any, int] = {("scratch", j): j - buffers for j in range(buffers)}
    flops = plan.flops
    if isinstance(work, NativeWork):
        inputs, wanted = len(work.operands), [k for k, present in enumerate(work.wanted) if present]
        place.update({("in", k): k for k in range(inputs)})
        place.update({("out", k): inputs + i for i, k in enumerate(wanted)})
    else:
        assert isinstance(work, Contraction)
        place.update(a=0, b=1, c=2)
        flops = work.flops
    for k, step in enumerate(plan.steps):
        memory = [(place[name] if name in place else 3 + int(name[1]), at) for name, at in step.operands]
        more = [flops / 100, flops, None] if _is_main(step) else [0.0, 0, 0]
        call = made.add(step.kernel, memory, step.params, [step.parts, -step.wave, *more])
        call.packs = step.packs
        call.detail = "" if len(plan.steps) == 1 else f" step {k}"
    return made


def _is_main(step: Step) -> bool:
    """Whether a step reads and writes what the piece does, and is no packing and no adding up."""
    first = step.operands[0][0]
    return len(step.operands) > 2 and (first in ("a", "b") or first[0] == "in")


def _is_copy(lowered: Lowered) -> bool:
    """Whether a kernel writes just what it reads: the base of an update, which may lie where it must be already."""
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
    return lowered.same_steps and all(operand is not None for operand, _ in lowered.memory)
