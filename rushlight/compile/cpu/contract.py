"""Planning a contraction: which dimension lies along vectors, tiles, packing, and how the work is cut into parts.

``plan(contraction)`` gives the instructions (:class:`Step`) that compute it. Everything is decided from the sizes and
strides alone, never from the number of threads, so results are bitwise the same on any number of them.

* Which dimension lies along vectors, and which operand is B: ``contract_roles.py``.
* A is read in place through tables of row addresses, whatever its strides; packed where it has to be widened, turned
  block by block where its rows lie side by side and the reduction goes across memory (weight gradients), and copied block by
  block where its rows share a place of the cache (a reduction over 1024 numbers).
* B is read in place if it is contiguous along n and its steps are even and not too long, or few rows use it; otherwise it
  is packed first, by a step of its own.
* With few rows neither is packed: dot products where both lie along k, wide panels where B lies along n.
* A long reduction with few results (a weight gradient) is split; a last step adds the splits in order.

Example::

    for step in plan(contraction).steps:
        address = jit.kernel(*step.kernel)
        # params: (table index, byte offset) of each of step.operands, then step.params
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeGuard

from rushlight.compile.contraction import Contraction
from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.contract_ask import Asked
from rushlight.compile.cpu.contract_block import BLOCK_BYTES, LINE, Copy, Lift, Turn, turned_pitch, turned_rows
from rushlight.compile.cpu.contract_cut import LONGEST, TURNED_AT_ONCE, cut, even_blocks, panels_of_a_part
from rushlight.compile.cpu.contract_epilogue import Epilogue, EpilogueOperand
from rushlight.compile.cpu.contract_ir import Driver
from rushlight.compile.cpu.contract_pack import Packing, packing
from rushlight.compile.cpu.contract_roles import Axis, Roles, chunk_table, merged, offsets, one_stride, run_table, size
from rushlight.compile.cpu.contract_rows import MAX_DIMS, MAX_OPERANDS, MAX_ROWS, ROWS_KEY, rows_ir
from rushlight.compile.cpu.contract_sizes import (
    CHUNK,
    dot_vectors,
    is_across,
    is_beyond,
    is_by_dots,
    is_copied,
    is_deep,
    is_far,
    is_in_chunks,
    is_lifted,
    is_near,
    is_read_once,
    is_tall,
    is_turned,
    is_wide,
    masked_panels,
    panel_vectors,
    parts_wanted,
    places,
    stays,
)
from rushlight.compile.cpu.contract_step import KernelRequest, Operand, Plan, Step
from rushlight.compile.cpu.contract_sums import combined, items_of, lines
from rushlight.compile.cpu.dotkernel import Dot, dot_heights
from rushlight.compile.cpu.microkernel import Micro, heights
from rushlight.compile.expr import cast, input_
from rushlight.compile.sizes import entries, largest, length, numeric, smallest

__all__ = ["Plan", "Step", "plan"]

#: The part of the second-level cache that a panel of B and a tile of A may take.
LONGEST_SHARE = 5 / 8
#: Bytes from one position of B to the next from which on it is asked for in advance.
LONG_STEP = 256


def plan(c: Contraction, cpu: target.CPU | None = None) -> Plan:
    """The steps that compute ``c``.

    Raises:
        TypeError: complex types, or an accumulation type that the operands cannot be widened to.
    """
    from rushlight.compile.cpu.pair_plan import pair_plan  # which derives from this module's planner

    cpu = cpu or target.current()
    return pair_plan(c, cpu) or Planner(c, cpu).plan()


class Planner:
    """The way of one contraction through the general kernels (``pair_plan.py`` has one for units that multiply pairs)."""

    rate = 1  # see Roles
    asks = once = near = False  # see _asks, _reads_once, _is_near

    def __init__(self, c: Contraction, cpu: target.CPU) -> None:
        self.cpu = cpu
        self.c = c
        self.accumulate = c.accumulate
        self.stores = c.stores or (cast(input_(0, c.accumulate), c.c),)
        self.lanes = max(1, cpu.vector_bytes // c.accumulate.itemsize)
        self.scratch: list[int] = []
        self.steps: list[Step] = []
        self.calls: list[tuple[Step, int, str]] = []  # (step, place among its parameters, what it calls)
        self.micro: KernelRequest
        self.lifted = False  # panels of B are copied, each before its tiles
        self.pieces: tuple[list[int], int] | None = None  # the runs of the reduction where A is packed, and how many
        roles = Roles(c, self.lanes, self.rate, cpu)
        self.batch, self.m, self.n, self.k = roles.batch, roles.m, roles.n, roles.k
        self.types, self.names, self.along, self.empty = roles.types, roles.names, roles.along, roles.empty
        self.place: Operand = self.names["a"]
        self.rows, self.batches, self.depth = size(self.m), size(self.batch), size(self.k)
        if max(len(self.batch), len(self.m), len(self.k)) > MAX_DIMS:
            raise ValueError(f"a contraction of more than {MAX_DIMS} dimensions in one role")
        self.sums = items_of(c)
        if 4 + len(c.extras) > MAX_OPERANDS:
            raise ValueError(f"a contraction of more than {MAX_OPERANDS} operands")
        if c.accumulate.kind not in "iuf":
            raise TypeError(f"contractions do not accumulate in {c.accumulate.name}")

    # ------------------------------------------------------------------------------------------------- plan

    def plan(self) -> Plan:
        if self.empty:
            return Plan()
        self.vectors, self.heights, self.dots = self._shape()
        self.panel = self.lanes * self.vectors
        self.panels = -(-self.n.extent // self.panel)
        self.flops = 2 * self.batches * self.rows * self.n.extent * self.depth
        read = self.batches * self.depth * (self.rows * self.types["a"].itemsize + self.n.extent * self.types["b"].itemsize)
        wanted = parts_wanted(self.flops, read, self.rows)
        fitting = int(LONGEST_SHARE * self.cpu.l2) // ((self.panel + self.heights[0]) * self.accumulate.itemsize)
        self.turned = self._turns()
        strides_far = self._strides_far()
        # What a piece of the reduction reads stays in the caches.
        in_pieces = self.once and is_deep(self.depth) or not self.turned and self._lies_across() and is_tall(self.rows, self.depth)
        self.longest = CHUNK if strides_far or in_pieces else min(LONGEST, fitting)
        self.block_rows = self.turned or self._copies()
        far, slow = self.cpu.far_panels, self.cpu.slow_l3
        beyond = (far or slow) and is_beyond(self.n.extent, self.depth, self.accumulate.itemsize, self.cpu.l2)
        self.down = far and not self.turned and beyond
        slow = slow and bool(self.turned) and beyond
        sizes = (self.rows, self.panels, self.n.extent, self.depth, self.batches, self.panel, self.accumulate.itemsize)
        block_m, block_n, splits = cut(wanted, *sizes, self.cpu.l2 // 4, self.longest, self.turned, self.dots, self.vectors,
                                       self.down or slow or bool(self.turned) and far, slow, *self.heights)
        if strides_far:
            block_m, block_n, splits = self.rows, panels_of_a_part(self.panels, self.batches, wanted), 1
        if self.turned:
            self.block_rows = even_blocks(block_m, self.turned, self.heights[0])
        self.chunked = not self.dots and is_in_chunks(splits, self.depth, TURNED_AT_ONCE if self.turned else self.longest)
        self._first_operand()
        b = self._second_operand()
        if self.chunked:
            self._partial(b, splits, block_m, block_n)
        else:
            self._direct(b, block_m, block_n)
        self._link()
        return Plan(self.steps, self.scratch, self.flops)

    def _link(self) -> None:
        """Asks for what the steps call."""
        shared: dict[str, KernelRequest] = {"micro": self.micro, "rows": (ROWS_KEY, rows_ir, "rows")}
        if self.turned:
            turn = self._turn()
            shared["turn"] = (turn.key, turn.ir, "turn")
        elif self.block_rows:
            copy = Copy(self.accumulate, self.lanes)
            shared["turn"] = (copy.key, copy.ir, "copy")
        if self.lifted:
            lift = Lift(self.accumulate, self.lanes)
            shared["lift"] = (lift.key, lift.ir, "lift")
        self._tell(shared)

    def _tell(self, shared: dict[str, KernelRequest]) -> None:
        """Asks for ``shared`` kernels together with the steps' own, to tell the steps where those are."""
        calls = self.calls

        def tell(addresses: list[int]) -> None:
            found = dict(zip(shared, addresses, strict=False))
            for step, place, name in calls:
                step.params[place] = found[name]

        jit.deliver([*shared.values(), *(s.kernel for s in self.steps)], tell)

    def _shape(self) -> tuple[int, tuple[int, ...], bool]:
        """Vectors in a panel, heights of tiles, and whether dot products are the way."""
        registers, a, b = self.cpu.vector_registers, self.types["a"], self.types["b"]
        if self.along:
            return (1 if self.n.extent <= self.lanes else 2), heights(registers, 4), False
        along_k = len(self.k) == 1 and self.k[0].strides == (a.itemsize, b.itemsize)
        if along_k and self.n.strides[1] != b.itemsize and self.lanes <= 16 and is_by_dots(self.rows):
            return dot_vectors(self.n.extent, self.lanes), dot_heights(registers), True
        # Where loads are not scarce: a turned tile has the rows that fill a vector, and with few rows B is asked for in narrow panels.
        self.once = self._reads_once()
        self.near = self._is_near()
        across = self._lies_across() and not self.near
        wide = self.cpu.full_loads == 1 or self.cpu.wide_tiles and not self.once and not across and is_wide(self.rows)
        vectors = panel_vectors(self.rows, self.n.extent, self.lanes, registers, wide)
        return vectors, heights(registers, vectors), False

    def _turns(self) -> int:
        """Rows of A that are turned at a time; 0 where A is read in place: unless its rows lie side by side, a line or more
        from one position of the reduction to the next, and there are enough panels to use the copy."""
        if self.dots or self.near or not self._lies_across():
            return 0
        tall = self.heights[0]
        if not is_turned(self.panels, self.vectors, self.rows, tall):
            return 0
        together = turned_rows(tall, self.lanes)
        pitch = turned_pitch(together, self.lanes) * self.accumulate.itemsize
        blocks = BLOCK_BYTES // (smallest(self.depth, CHUNK) * pitch + LINE)
        return smallest(MAX_ROWS, blocks * together)

    def _is_near(self) -> bool:
        """Whether A's rows lie side by side and are read so by wide tiles."""
        if not self.cpu.wide_tiles or self.cpu.full_loads == 1 or not self._lies_across():
            return False
        return is_near(self.rows, self.n.extent, abs(self.k[-1].strides[0]), self.lanes)

    def _lies_across(self) -> bool:
        """Whether A's rows lie side by side, and its reduction a line or more from one position to the next."""
        if self.along or not self.k or not self.m:
            return False
        return self.m[-1].strides[0] == self.types["a"].itemsize and abs(self.k[-1].strides[0]) >= 64

    def _copies(self) -> int:
        """Rows of A that are copied at a time; 0 where A is read in place: unless those of a tile share so few places of the
        first-level cache that they push each other out."""
        if self.dots or self.along or not self.k or not self.m:
            return 0
        item = self.accumulate.itemsize
        if self.types["a"] is not self.accumulate or self.k[-1].strides[0] != item or self.k[-1].extent * item < LINE:
            return 0
        if not is_copied(self.panels, self.vectors, self.rows, self.heights[0]):
            return 0
        if self.heights[0] <= numeric(places)(self.m[-1].strides[0], self.cpu.l1d, self.cpu.l1d_ways) * self.cpu.lasting_ways:
            return 0
        depth = self.depth if self.depth <= self.longest else CHUNK
        fitting = BLOCK_BYTES // ((-(-depth * item // LINE) | 1) * LINE)
        return min(MAX_ROWS, fitting) // self.heights[0] * self.heights[0]

    def _strides_far(self) -> bool:
        """Whether B is read in place from page to page, by several tiles, and is more than the second-level cache holds. The lines of a
        panel then share so few places there that none is left for the next tile, but those of a chunk of it are."""
        if self.dots or self.along or self.turned:
            return False
        uniform = one_stride(self.k, 1)
        return self._can_stay(uniform) and is_far(self.rows, self.heights[0], self.depth, uniform, self.cpu.l2)

    def _reads_once(self) -> bool:
        """Whether B, which would be packed for this product alone, is read where it lies, in narrow panels that are asked for ahead."""
        kept = self.c.constant and self.names["b"] == "b"
        if not self.cpu.slow_l3 or self.cpu.full_loads == 1 or self.along or kept or self._lies_across():
            return False
        uniform = one_stride(self.k, 1)
        return self._can_stay(uniform) and is_read_once(self.rows, self.depth, uniform, self.cpu.l1d, self.cpu.l1d_ways, self.cpu.l2)

    def _can_stay(self, uniform: int | None) -> TypeGuard[int]:
        return self.types["b"] is self.accumulate and self.n.strides[1] == self.accumulate.itemsize and uniform is not None

    def _turn(self) -> Turn:
        return Turn(self.types["a"], self.accumulate, self.lanes, turned_rows(self.heights[0], self.lanes))

    # ------------------------------------------------------------------------------------------------- B

    def _second_operand(self) -> B:
        """B in place where that is possible and pays, else packed by a step."""
        if self.dots:
            strides = [x.strides[1] for x in self.batch]
            return B((self.names["b"], 0), strides, self.panel * self.n.strides[1], self.n.strides[1], True)
        uniform = one_stride(self.k, 1)
        item = self.accumulate.itemsize
        if self.turned and self.cpu.far_panels and self.depth and self._can_stay(uniform):
            self.lifted = is_lifted(self.block_rows, self.heights[0], uniform, self.cpu.l1d, self.cpu.l1d_ways)
        if self.lifted or self.depth == 0 or self.once or self._can_stay(uniform) and stays(
                self.rows, self.heights[0], self.depth, uniform, self.n.extent, self.panel, self.lanes, self.vectors, item, self.chunked,
                self.cpu.l2, self.cpu.full_loads):  # fmt: skip
            strides = [x.strides[1] for x in self.batch]
            return B((self.names["b"], 0), strides, self.panel * item, uniform or 0, True)
        return self._pack()

    def _masked(self) -> str:
        return masked_panels(self.n.extent, self.panel, self.lanes, self.vectors)

    def _pack(self) -> B:
        batch = [(x.extent, x.strides[1]) for x in self.batch]
        k = [(x.extent, x.strides[1]) for x in self.k]
        packed = packing(self.types["b"], self.accumulate, self.lanes, self.vectors, (self.n.extent, self.n.strides[1]), k, batch)
        return B((self._packed("b", packed), 0), packed.batch_strides, packed.panel_bytes, packed.row, False)

    def _packed(self, name: str, packed: Packing) -> Operand:
        """Adds the step that packs an operand; returns where it then lies."""
        self.scratch.append(packed.nbytes)
        place: Operand = ("scratch", len(self.scratch) - 1)
        kernel = packed.kernel
        operands: list[tuple[Operand, int]] = [(self.names[name], 0), (place, 0)]
        self.steps.append(Step((kernel.key, kernel.ir, "contract"), operands, packed.params, packed.parts, packs=True))
        return place

    # ------------------------------------------------------------------------------------------------- A

    def _first_operand(self) -> None:
        """Packs A if it has to be widened, once instead of for each panel.

        Packing for the sake of strides does not pay: tried on 1024x1024 matrices in all transpositions, where a tile's
        rows fall into the same cache sets, it costs what it gains."""
        if self.types["a"] is self.accumulate or self.dots or self.along or self.turned or not self.depth:
            return
        if self.n.extent < 4 * self.panel or self.rows < 2 * self.heights[0]:
            return
        inner = self.k[-1] if self.k else Axis(1, (self.types["a"].itemsize, 0))
        batch = [(x.extent, x.strides[0]) for x in [*self.batch, *self.k[:-1]]]
        rows = [(x.extent, x.strides[0]) for x in self.m]
        packed = packing(self.types["a"], self.accumulate, self.lanes, 2, (inner.extent, inner.strides[0]), rows, batch)
        self.place = self._packed("a", packed)
        self.types = self.types | {"a": self.accumulate}
        count, step = len(self.batch), packed.row * self.rows
        for i, x in enumerate(self.batch):
            self.batch[i] = replace(x, strides=(packed.batch_strides[i], *x.strides[1:]))
        for i, x in enumerate(self.m):
            step //= x.extent
            self.m[i] = replace(x, strides=(step, *x.strides[1:]))
        # The reduction goes through the pieces of each row, panel after panel.
        outer = [Axis(x.extent, (s,)) for x, s in zip(self.k[:-1], packed.batch_strides[count:], strict=True)]
        width = packed.row // self.accumulate.itemsize
        numbers = run_table(tuple([(x.extent, *x.strides) for x in outer]), inner.extent, packed.panel_bytes, width, width)
        self.pieces = numbers, size(outer) * -(-inner.extent // width)

    # ------------------------------------------------------------------------------------------------- steps

    def _direct(self, b: B, block_m: int, block_n: int) -> None:
        runs, table, stride, count = self._runs(None)
        self.asks = self._asks(table, b)
        self._use_micro(table, b)
        values = self._common(block_m, block_n) | {
            "micro": 0, "a_panel_bytes": self.panel * self.n.strides[0] if self.along else 0,
            "panel_bytes": b.panel_bytes, "b_step": b.step, "step": stride,
            "runs": count, "turn": 0, "lift": 0, "depth": self.depth, "block_rows": self.block_rows}  # fmt: skip
        driver = self._driver("direct", self._outputs())
        names: list[Operand] = [self.place, b.place[0], *self._results(values)]
        rest = (0,) * bool(self.sums)
        tables = self._dims(self.batch, lambda i, x: (x.strides[0], b.batch_strides[i], *x.strides[2:], *rest))
        tables += self._dims(self.m, lambda i, x: (x.strides[0], 0, *x.strides[2:], *rest))
        self._run(driver, names, values, tables + entries(runs), 1)
        self._combine(values)

    def _partial(self, b: B, splits: int, block_m: int, block_n: int) -> None:
        runs, table, stride, count = self._runs(CHUNK)
        self._use_micro(table, b)
        numbers = chunk_table(runs, CHUNK)
        chunks = length(numbers) // 4
        splits = smallest(splits, chunks)
        split_chunks = -(-chunks // splits)
        splits = -(-chunks // split_chunks)
        row = self.panel * self.accumulate.itemsize
        panel_bytes = (self.rows | 1) * row  # the sums of a row, one panel after the other, do not share a place of the cache
        batch_bytes = self.panels * panel_bytes
        split_bytes = self.batches * batch_bytes
        self.scratch.append(splits * split_bytes)
        place: Operand = ("scratch", len(self.scratch) - 1)
        common = self._common(block_m, block_n)
        outputs = self._outputs() if splits == 1 else ()
        driver = self._driver("chunked" if splits == 1 else "partial", outputs)
        count = driver.operands
        width = 1 + count  # of a line of the tables of dimensions
        dims = 2 * count + len(driver.fields) + width * (len(self.batch) + len(self.m))
        values = common | {
            "micro": 0, "a_panel_bytes": self.panel * self.n.strides[0] if self.along else 0,
            "panel_bytes": b.panel_bytes, "b_step": b.step, "step": stride, "runs": count,
            "splits": splits, "chunk": chunks, "split_chunks": split_chunks, "chunks": dims + length(runs), "turn": 0, "lift": 0,
            "depth": 0, "block_rows": self.block_rows,
            "split_bytes": split_bytes, "scratch_panel_bytes": panel_bytes}  # fmt: skip
        scratch_strides, size = [0] * len(self.batch), batch_bytes
        for i in reversed(range(len(self.batch))):
            scratch_strides[i], size = size, size * self.batch[i].extent
        written, rest = slice(2, 2 + len(outputs)), (0,) * bool(self.sums)
        end = rest if outputs else ()
        tables = self._dims(self.batch, lambda i, x: (x.strides[0], b.batch_strides[i], scratch_strides[i], *x.strides[written], *end))
        tables += self._dims(self.m, lambda i, x: (x.strides[0], 0, 0, *x.strides[written], *end))
        tables += [*entries(runs), *entries(numbers)]
        self._run(driver, [self.place, b.place[0], place, *(self._results(values) if outputs else ())], values, tables, splits)
        if splits == 1:
            self._combine(values)
            return
        # Adding up is light work: parts of rows, all panels.
        values = self._common(largest(1, smallest(MAX_ROWS, (1 << 14) // (self.panels * self.panel))), self.panels) | {
            "splits": splits, "split_bytes": split_bytes, "scratch_panel_bytes": panel_bytes}  # fmt: skip
        tables = self._dims(self.batch, lambda i, x: (scratch_strides[i], *x.strides[2:], *rest))
        tables += self._dims(self.m, lambda i, x: (0, *x.strides[2:], *rest))
        self._run(self._driver("finish", self._outputs()), [place, *self._results(values)], values, tables, 1)
        self._combine(values)

    def _results(self, values: dict[str, int]) -> list[Operand]:
        """What a step with an epilogue writes and reads: C, the extras, the partials of sums over rows."""
        names: list[Operand] = ["c", *(("extra", i) for i in range(len(self.c.extras)))]
        if self.sums:
            values["sum_line"] = self.panels * self.panel * self.accumulate.itemsize
            self.scratch.append(self.batches * values["parts_m"] * lines(self.sums) * values["sum_line"])
            names.append(("scratch", len(self.scratch) - 1))
        return names

    def _combine(self, values: dict[str, int]) -> None:
        """Merges the partials, the latest scratch buffer."""
        if self.sums:
            partials = len(self.scratch) - 1, self.batches, values["parts_m"], self.n.extent, values["sum_line"]
            self.steps.append(combined(self.c, self.lanes, *partials))

    def _common(self, block_m: int, block_n: int) -> dict[str, int]:
        parts_m, parts_n = -(-self.rows // block_m), -(-self.panels // block_n)
        return {"parts_m": parts_m, "parts_n": parts_n, "m": self.rows, "n": self.n.extent, "block_m": block_m,
                "block_n": block_n, "panels": self.panels, "batch_dims": len(self.batch), "m_dims": len(self.m),
                "vectors": self.vectors, "rows": 0} | {
                f"n_stride{i}": s for i, s in enumerate(self.n.strides[2:])}  # fmt: skip

    def _outputs(self) -> tuple[EpilogueOperand, ...]:
        types = [(self.c.c, True), *((x.dtype, x.written) for x in self.c.extras)]
        rows = [not written and bool(self.sums) and not any(x.strides[2 + i] for x in self.m) for i, (_, written) in enumerate(types)]
        return tuple(
            EpilogueOperand(d, "unit" if s == d.itemsize else "zero" if s == 0 else "any", written, fixed)
            for (d, written), s, fixed in zip(types, self.n.strides[2:], rows, strict=True)
        )

    def _driver(self, kind: str, outputs: tuple[EpilogueOperand, ...] = ()) -> Driver:
        stores = self.stores if outputs else ()
        block = "" if kind == "finish" else "turned" if self.turned else "copied" if self.block_rows else ""
        sums = self.sums if outputs else ()
        return Driver(kind, self.accumulate, self.lanes, self.vectors, self.heights, outputs, stores, block, sums,
                      self.lifted and bool(block), self.down and kind == "direct", self.asks and kind == "direct")

    def _use_micro(self, table: bool, b: B) -> None:
        """Chooses the micro-kernel; there are few, and all contractions share them."""
        # How a vector register is named in inline assembly.
        fence = {"x86_64": "v", "aarch64": "w"}.get(self.cpu.triple.split("-")[0].replace("arm64", "aarch64"), "")
        a, b_type, shape = self.types["a"], self.types["b"], (self.lanes, self.vectors, self.heights)
        if self.dots:
            dot = Dot(a, b_type, self.accumulate, *shape, self.cpu.fma, fence)
            self.micro = (dot.key, dot.ir, "micro")
            return
        a = self.accumulate if self.turned else a
        b_type = b_type if b.in_place and self.depth else self.accumulate
        masked = self._masked() if b.in_place and not self.lifted else ""
        ahead = b.in_place and not self.lifted and not self.along and self.vectors == 2 and abs(b.step) >= LONG_STEP
        micro = Micro(a, b_type, self.accumulate, *shape, table, masked, self.cpu.fma, fence, self.along, ahead, self.asks)
        self.micro = (micro.key, micro.ir, "micro")

    def _asks(self, table: bool, b: B) -> bool:
        """Whether lines are asked for one by one while products are made: by wide tiles, if loads are not scarce, and those of B do not lie
        across lines. (In tiles of twelve rows it costs what it gains.)"""
        possible = self.cpu.full_loads > 1 and self.vectors == 4 and self.heights[0] > 4 and not (self.dots or self.along or table)
        lines = Epilogue(self.accumulate, self.lanes, self.vectors, self._outputs(), ()).asked_lines(self.heights[0])
        return possible and not is_across(b.step) and Asked.fits(lines)

    def _dims(self, axes: list[Axis], strides: Callable[[int, Axis], Iterable[int]]) -> list[int]:
        return [number for i, x in enumerate(axes) for number in (x.extent, *strides(i, x))]

    def _run(self, driver: Driver, names: list[Operand], values: dict[str, int], tables: list[int], splits: int) -> None:
        parts = self.batches * splits * values["parts_m"] * values["parts_n"]
        self._step((driver.key, driver.ir, "contract"), names, driver.fields, values, tables, parts)

    def _step(
        self, kernel: KernelRequest, names: list[Operand], fields: Iterable[str], values: dict[str, int],
        tables: list[int], parts: int, packs: bool = False,
    ) -> None:  # fmt: skip
        fields = list(fields)
        step = Step(kernel, [(name, 0) for name in names], [values[name] for name in fields] + tables, parts, packs)
        self.steps.append(step)
        self.calls += [(step, fields.index(name), name) for name in ("micro", "rows", "turn", "lift", "pack", "ahead") if name in fields]

    # ------------------------------------------------------------------------------------------------- the reduction

    def _runs(self, longest: int | None) -> tuple[list[int], bool, int, int]:
        """A's way through the reduction: (numbers, whether they are one for each position, bytes per step, entries)."""
        axes = merged([Axis(x.extent, (x.strides[0],)) for x in self.k], None)
        item = self.types["a"].itemsize
        if not self.depth:
            return [], False, item, 0
        if self.pieces is not None:
            return self.pieces[0], False, item, self.pieces[1]
        inner = axes[-1] if axes else Axis(1, (item,))
        outer = tuple([(x.extent, x.strides[0]) for x in axes[:-1]])
        if longest is None and not self.dots and not self.block_rows and inner.extent < 8 and self.depth <= self.longest:
            return offsets((*outer, (inner.extent, inner.strides[0]))), True, 0, self.depth
        piece = min(inner.extent, longest or inner.extent)
        numbers = run_table(outer, inner.extent, inner.strides[0], 1, piece)
        return numbers, False, inner.strides[0], size(axes[:-1]) * -(-inner.extent // piece)


@dataclass(frozen=True)
class B:
    """The second operand as the micro-kernel reads it."""

    place: tuple[Operand, int]
    batch_strides: list[int]
    panel_bytes: int
    step: int
    in_place: bool
