"""Addresses: from an outline's pieces, the calls of each, and a plan of memory to the instructions of a program."""
from __future__ import annotations

import functools
from array import array
from typing import Any

import numpy as np

from . import dtypes as dt
from .body import Body, Put, Value
from .calls import Call, Calls, of_nests
from .cpu import jit, target
from .cpu.render import kernel_for
from .flags import flags
from .index import axis_ix
from .lower_loops import lower_body
from .memory import ALIGN, Memory, Stored
from .outline import HostWork, Outline, Piece, Work
from .program import ERROR_WORDS, HostStep, Instruction, Packed, Program, Segment
from .sizes import flattened, stands_for_many

__all__ = ["Assembler"]

class Assembler:
    """Args:
        plan: its numbers are plain.
        works: of each of its works, itself and the calls that compute it.
        memory: where values lie.
    """

    def __init__(self, plan: Outline, works: list[tuple[Work, Calls]], memory: Memory) -> None:
        self.plan, self.works, self.memory = plan, works, memory
        self.given = len(plan.leaves) - len(plan.numbers)  # leaves that come from outside
        self.arena = 1 + self.given + len(plan.results)
        self.constant = set(range(self.given)) - plan.overwritten
        self.packed = 0
        self.places = {node: self._place(*place) for node, place in memory.place.items()}
        self.copies: list[Piece] = []  # of results at the end, behind the plan's pieces
        self.steps: list[Segment | HostStep] = []
        self._begin()

    def _begin(self) -> None:
        """A segment begins."""
        self.params = array("q")       # of all calls, one after the other
        self.rows: list[int] = []      # four numbers for each call: kernel, where its parameters begin, parts, grain
        self.calls: list[Call] = []
        self.numbers: list[list[Any]] = []  # of each call, those of its work
        self.pieces: list[int] = []    # of each call, its piece
        self.forms: list[tuple[int, Packed]] = []
        self.time = 0.0

    def assemble(self) -> Program:
        for k, piece in enumerate(self.plan.pieces):
            work, calls = self.works[piece.work]
            if isinstance(work, HostWork):
                self._end()
                self.steps.append(self._host(work, piece))
            else:
                self._piece(k, piece, calls)
        for node, nbytes, result in self.plan.memory.late:
            self._late_copy(node, nbytes, result)
        self._end()
        return Program(self.plan.leaves[:self.given], self.plan.results, self.steps, self.memory.size, self.plan.numbers)

    def _place(self, kind: str, where: int) -> tuple[int, int]:
        """(table index, byte offset) of a stored value."""
        if kind == "arena":
            return self.arena, where
        if kind == "leaf":
            return (1 + where, 0) if where < self.given else (0, 8 * (ERROR_WORDS + where - self.given))
        return 1 + self.given + where, 0

    def _end(self) -> None:
        """The segment ends, if it has begun."""
        if not self.calls:
            return
        lacking = [call for call in self.calls if not call.address]
        for call, address in zip(lacking, jit.kernels([call.kernel for call in lacking]), strict=True):
            call.address = address
        self.rows[::4] = [call.address for call in self.calls]
        params = np.frombuffer(self.params, np.int64)
        told = _Told(self, params)
        if flags.debug >= 5:
            for call, one in zip(self.calls, told()):
                print(f"-- {one.name}: {call.kernel[2]}\n{jit.assembly(call.kernel[1]())}")
        self.steps.append(Segment(self.rows, params, self.time, self.forms, told))
        self._begin()

    def _piece(self, step: int, piece: Piece, calls: Calls) -> None:
        """The instructions of a piece."""
        places, where = self.places, []
        for node, offset in piece.memory:
            table, start = places[node]
            where.append((table, start + offset))
        numbers = calls.numbers
        if calls.buffers:
            at = self.memory.scratch.get(step, 0)
            for nbytes in numbers[:calls.buffers]:
                where.append((self.arena, at))
                at += -(-nbytes // ALIGN) * ALIGN
        for call in calls.calls:
            if call.copies and self._is_nothing(piece, call, numbers):
                continue
            packed = self._kept(call, numbers, where, calls.buffers) if call.packs else None
            self._call(step, call, numbers, where, packed)

    def _call(self, step: int, call: Call, numbers: list[Any], where: list[tuple[int, int]], packed: Packed | None) -> None:
        params, at, end = self.params, call.start, call.end
        self.rows += (0, 8 * len(params), numbers[end], numbers[end + 1])
        for place in call.places:
            table, start = where[place]
            params.append(table)
            params.append(start + numbers[at])
            at += 1
        if call.has_lists:
            self._add_tables(numbers[at:end])
        else:
            params.extend(numbers[at:end])
        if packed is not None:
            self.forms.append((len(self.calls), packed))
        self.time += numbers[end + 2]
        self.calls.append(call)
        self.numbers.append(numbers)
        self.pieces.append(step)

    def _add_tables(self, numbers: list[Any]) -> None:
        """Append parameters of which some are tables, as long as images have rows."""
        for x in numbers:
            if not stands_for_many(x):
                self.params.append(x)
            elif type(x) is list:
                self.params.extend(x)
            else:
                self.params.frombytes(np.asarray(x, np.int64).tobytes())

    def _is_nothing(self, piece: Piece, call: Call, numbers: list[Any]) -> bool:
        """Whether what only copies would write what it reads."""
        source, target = call.places
        return numbers[call.start] == numbers[call.start + 1] and self._location(piece.memory[source][0]) == self._location(
            piece.memory[target][0])

    def _location(self, node: Stored) -> tuple[int, int]:
        """The address, with a result that takes over a leaf standing for the leaf."""
        table, offset = self.places[node]
        result = table - 1 - self.given
        return (1 + self.plan.direct[result], offset) if result in self.plan.direct else (table, offset)

    def _kept(self, call: Call, numbers: list[Any], where: list[tuple[int, int]], buffers: int) -> Packed | None:
        """What a packing step makes, if that can be kept from run to run: the packed form of a leaf that stays as it is. It lies in
        memory of its own then, for the steps behind this one, too."""
        source, target = call.places
        table, start = where[source]
        if table - 1 not in self.constant:
            return None
        nbytes, offset = numbers[buffers + target], where[target][1]
        self.packed += 1
        where[target] = self.arena + self.packed, 0
        key = (call.kernel[0], numbers[call.start] + start, nbytes, *flattened(numbers[call.start + 2:call.end]))
        return Packed(table - 1, key, nbytes, offset)

    def _late_copy(self, node: Stored, nbytes: int, result: int) -> None:
        """Copy a result from the arena over the leaf that it replaces, as whole numbers of its size."""
        if nbytes == 0:
            return
        calls = _copy(nbytes, min(node.dtype.itemsize, 8), target.current().key, flags.state)
        self.copies.append(Piece(-1, [], "copy result", (node.line,)))
        for call in calls.calls:
            where = [self.places[node], (1 + self.given + result, 0)]
            self._call(len(self.plan.pieces) + len(self.copies) - 1, call, calls.numbers, where, None)

    def _host(self, work: HostWork, piece: Piece) -> HostStep:
        places = [self.places[node] for node, _ in piece.memory]
        inputs = [(*place, *what) for place, what in zip(places, work.inputs)]
        outputs = [(pick, *place, *what) for pick, place, what in zip(work.picks, places[len(work.inputs):], work.outputs, strict=True)]
        return HostStep(work.call, inputs, outputs, piece.lines[0])


@functools.lru_cache(maxsize=1024)
def _copy(nbytes: int, item: int, processor: str, switches: Any) -> Calls:
    """The calls that copy so many bytes, as whole numbers of ``item`` bytes: the same for every parameter of one shape, in programs of
    all sizes."""
    dtype = {1: dt.int8, 2: dt.int16, 4: dt.int32, 8: dt.int64}[item]
    body = Body({0: nbytes // item}, [0], [])
    x = body.number(Value("load", dtype, axis_ix(0), 0))
    body.puts.append(Put(1, axis_ix(0), x))
    nests = lower_body(body)
    return of_nests(nests, [kernel_for(nest.nest) for nest in nests])


class _Told:
    """The instructions of a segment, made when somebody looks at what the profiler says about them."""

    def __init__(self, made: Assembler, params: np.ndarray) -> None:
        self.plan, self.copies, self.calls, self.numbers, self.pieces = made.plan, made.copies, made.calls, made.numbers, made.pieces
        self.rows, self.params, self.forms = made.rows, params, dict(made.forms)

    def __call__(self) -> list[Instruction]:
        pieces = [*self.plan.pieces, *self.copies]
        told = [(piece.label, piece.nbytes) for piece in pieces]
        if self.plan.told is not None:
            told = [*self.plan.told(), *told[len(self.plan.pieces):]]
        out = []
        for k, (call, numbers, piece, begin) in enumerate(zip(self.calls, self.numbers, self.pieces, self.rows[1::4])):
            parts, grain, work, flops, nbytes = numbers[call.end:call.end + 5]
            label, whole = told[piece]
            places = 2 * len(call.places)
            params = [*self.params[begin // 8:begin // 8 + places].tolist(), *flattened(numbers[call.start + places // 2:call.end])]
            structure, _, name = call.kernel
            out.append(Instruction(call.address, params, parts, grain, label, pieces[piece].lines,
                                   whole if nbytes is None else nbytes, flops, work, self.forms.get(k), call.detail, (structure, name)))
        return out
