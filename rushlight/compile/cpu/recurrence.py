"""Planning recurrent loops: packing of the weights, how the work is cut, kernels (``recurrence_loops.py``).

Cuts depend on sizes alone. A block of sequences reads all weights at every time: from the second-level cache, if they fit, as fast
as it multiplies; larger ones wait for memory unless the block has many sequences. With few sequences groups of columns share the
weights instead, and threads wait for each other at every time.
"""

from __future__ import annotations

from collections.abc import Sequence

from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.contract_pack import Packing, packing
from rushlight.compile.cpu.contract_step import Plan, Step
from rushlight.compile.cpu.microkernel import ROW_CYCLES, TILE_CYCLES, Micro, heights
from rushlight.compile.cpu.native import Operand
from rushlight.compile.cpu.recurrence_ir import FIELDS, MAX_ROWS, Shape
from rushlight.compile.cpu.recurrence_loops import Backward, Forward
from rushlight.compile.dtypes import DType
from rushlight.compile.recurrence import Recurrence, RecurrenceGrad
from rushlight.compile.sizes import decision, numeric

__all__ = ["has_kernel", "plan"]

#: Cycles for one position of a panel of two vectors, measured: of a tile while the weights come from the second-level cache, at
#: least; and of a whole block, at least, while they come from beyond.
NEAR, FAR = 4.3, 13.0
#: The same in wide tiles, where loads are scarce (Ice Lake): of a tile, of each of its rows, and of a tile at least.
WIDE_TILE, WIDE_ROW, WIDE_NEAR = 0.5, 1.05, 3.6
#: Rows of the tallest tile of so many vectors, where it is wide.
TALLEST = {3: 8, 4: 6}
#: Cycles of a wave of the executor, of each of its parts, and of a cache line that another thread has written, measured. Most groups of
#: columns.
WAVE, PART, LINE, MOST_GROUPS = 500, 1500, 150, 8
#: Columns have to be so much faster: who waits at every time waits for whatever holds up another thread.
GAIN = 0.83
#: Threads that the cut is to be good for, and how much each number of them counts.
THREADS = ((1, 1), (2, 2), (4, 1))


def has_kernel(call: Recurrence | RecurrenceGrad, dtypes: Sequence[DType]) -> bool:
    # One by one: which of them is the smallest would be another question for each size.
    return call.dtype.name in ("float32", "float64") and all(n > 0 for n in (call.steps, call.batch, call.hidden, call.size))


def plan(call: Recurrence | RecurrenceGrad, operands: Sequence[Operand], wanted: Sequence[bool]) -> Plan:
    return _Planner(call, wanted).plan()


class _Planner:
    def __init__(self, call: Recurrence | RecurrenceGrad, wanted: Sequence[bool]) -> None:
        self.call, self.cpu = call, target.current()
        self.steps: list[Step] = []
        self.scratch: list[int] = []
        self.forward = isinstance(call, Recurrence)
        weights = (call.gates + (call.hidden if call.projected else 0)) * call.size * call.dtype.itemsize
        self.ahead = self.cpu.full_loads == 1 and is_far(weights, self.cpu.l2)
        self.shape = _shape(self.cpu, call.dtype, call.kind.gates if self.forward else 1, self.ahead)
        self.place: dict[str, tuple[str, int]] = {name: ("in", k) for k, name in enumerate(call.inputs)}
        self.wanted = dict(zip(call.outputs, wanted, strict=True))
        self.numbers = {name: k for k, name in enumerate(call.outputs)}

    def plan(self) -> Plan:
        call = self.call
        item, h, p = call.dtype.itemsize, call.hidden, call.size
        if self.forward:
            w = self._packed("w", (h, p * item), [(p, item)], [(call.kind.gates, h * p * item)], self.shape.beside)
            projection = self._packed("projection", (p, h * item), [(h, item)], []) if call.projected else None
        else:
            w = self._packed("w", (p, item), [(call.gates, p * item)], [])
            projection = self._packed("projection", (h, item), [(p, h * item)], []) if call.projected else None
        width, depth = (h, p * call.kind.gates) if self.forward else (p, call.gates)
        shape, weights = self.shape, w.nbytes + (projection.nbytes if projection else 0)
        units = shape.lanes * (1 if shape.beside else shape.vectors)  # of a panel
        block, groups, columns = cut(call.batch, width, depth, (p if self.forward else call.gates) * item, weights, call.projected, units,
                                     shape.lanes, shape.heights, self.cpu.l2, self.cpu.full_loads)
        parts = (call.steps + 1) * groups if groups > 0 else -(-call.batch // block)
        c_times = self._outputs()
        if call.projected:
            self.place["m"] = self._scratch(-(-call.batch // block) * block * h * item)
        micro = Micro(call.dtype, call.dtype, call.dtype, shape.lanes, shape.vectors, shape.heights, False, "",
                      self.cpu.fma, self._fence(), ahead=self.ahead)  # fmt: skip
        kernel = (Forward if self.forward else Backward)(call.cell, call.dtype, shape, tuple(self.place), groups > 0)
        loop = (kernel.key, kernel.ir, "loop")
        last = call.steps - 1
        descending = call.reverse == self.forward
        needs_first = self.forward or self.wanted["dh0"]
        values = {
            "steps": call.steps, "batch": call.batch, "hidden": h, "size": p, "gates": call.gates, "block": block,
            "first": last if descending else 0, "step": -1 if descending else 1, "shift": int(call.reverse), "c_times": c_times,
            "micro": 0, "w_gate": w.batch_strides[0] if w.batch_strides else 0,
            "w_panel": w.panel_bytes, "p_panel": projection.panel_bytes if projection else 0,
            "products": call.steps if needs_first else last, "groups": groups, "columns": columns}  # fmt: skip
        step = Step(loop, [(place, 0) for place in self.place.values()], [values[name] for name in FIELDS], parts, wave=groups)
        self.steps.append(step)

        def tell(addresses: list[int]) -> None:
            step.params[FIELDS.index("micro")] = addresses[0]

        jit.deliver([(micro.key, micro.ir, "micro"), *(s.kernel for s in self.steps)], tell)
        return Plan(self.steps, self.scratch, 2 * call.work)

    def _outputs(self) -> int:
        """Places of the results; gives how many cell states are kept. What the loop needs and nobody else gets scratch memory."""
        call = self.call
        item, running = call.dtype.itemsize, call.batch * call.hidden
        names = {"dh": "dh_all"} if not self.forward else {}
        for name, shape in call.outputs.items():
            if self.wanted[name]:
                self.place[names.get(name, name)] = ("out", self.numbers[name])
            elif name in ("h", "dx", "dz", "dh0", "dc0"):
                size = item
                for extent in shape:
                    size *= extent
                self.place[name] = self._scratch(size)
        if not self.forward or not call.kind.has_c or self.wanted["c"]:
            return call.steps + 1
        # The running state is the last one.
        self.place["c"] = self.place.pop("last_c") if "last_c" in self.place else self._scratch(running * item)
        return 1

    def _scratch(self, nbytes: int) -> tuple[str, int]:
        self.scratch.append(nbytes)
        return "scratch", len(self.scratch) - 1

    def _packed(self, name: str, n: tuple[int, int], k: list[tuple[int, int]], batch: list[tuple[int, int]],
                beside: bool = False) -> Packing:  # fmt: skip
        """The panels of weights; ``beside``: of what ``batch`` counts one vector each."""
        dtype = self.call.dtype
        packed = packing(dtype, dtype, self.shape.lanes, 1 if beside else self.shape.vectors, n, k, batch, beside)
        source, place = self.place[name], self._scratch(packed.nbytes)
        kernel = (packed.kernel.key, packed.kernel.ir, "contract")
        self.steps.append(Step(kernel, [(source, 0), (place, 0)], packed.params, packed.parts, packs=True))
        self.place[name] = place
        return packed

    def _fence(self) -> str:
        machine = self.cpu.triple.split("-")[0].replace("arm64", "aarch64")
        return {"x86_64": "v", "aarch64": "w"}.get(machine, "")


def _shape(cpu: target.CPU, dtype: DType, gates: int, far: bool) -> Shape:
    """The tiles; ``gates``: of a unit, that its panel can have. ``far``: the weights come from beyond the second-level cache."""
    lanes = cpu.vector_bytes // dtype.itemsize
    if cpu.full_loads == 1 and cpu.vector_registers >= 32:
        # Wide tiles of few rows need fewer loads for as many multiply-adds. A tile less high is cheap: there is code for all heights.
        beside = gates in TALLEST
        vectors = gates if beside else 3 if far else 4  # taller tiles read the weights less often
        return Shape(lanes, vectors, tuple(range(TALLEST[vectors], 0, -1)), beside)
    most = heights(cpu.vector_registers, 2)[0]
    # Few sequences should be one tile: more heights than large products need, in micro-kernels of their own.
    return Shape(lanes, 2, (*range(most, 4, -2), *(h for h in (4, 2, 1) if h < most)), False)


@decision
def is_far(weights: int, l2: int) -> bool:
    """Whether weights come from beyond the second-level cache at every time."""
    return weights > l2


@numeric
def cut(batch: int, columns: int, depth: int, row: int, weights: int, projected: bool, panel: int, lanes: int,
        heights: tuple[int, ...], l2: int, full_loads: int) -> tuple[int, int, int]:
    """Sequences of a part, groups of columns (0: the work is cut by sequences alone), and columns of a group.

    Args:
        columns, depth: of the product at each time: every sequence has ``depth`` multiply-adds for each of ``columns``.
        row: bytes of a sequence that the product reads. weights: bytes of all weights.
        panel, lanes: columns of a panel and of a vector. heights: of tiles. l2, full_loads: of the processor.
    """
    panels, pairs = -(-columns // panel), panel / (2 * lanes)

    def tile(height: int) -> float:
        """Cycles of a tile for one position of two vectors."""
        return max(WIDE_TILE + WIDE_ROW * height, WIDE_NEAR) if full_loads == 1 else max(TILE_CYCLES + ROW_CYCLES * height, NEAR)

    def rows(count: int, readers: int) -> float:
        """Cycles of so many sequences for one position of two vectors, where ``readers`` share the weights."""
        cycles = 0.0
        near = weights <= readers * l2 // 2
        while count:
            height = next(h for h in heights if h <= count)
            cycles, count = cycles + tile(height), count - height
        return cycles if near else max(cycles, FAR)

    def by_rows(block: int) -> float:
        parts, each = -(-batch // block), rows(block, 1) * pairs * panels * depth
        return sum(count * threads * -(-parts // threads) * each for threads, count in THREADS)

    def by_columns(groups: int) -> float:
        each, time = -(-panels // groups) * pairs * depth, 0.0
        for threads, count in THREADS:
            waiting = WAVE + PART * groups + LINE * batch * row / 64 * (1 - 1 / threads) if threads > 1 else 0
            time += count * threads * (-(-groups // threads) * each * rows(batch, min(threads, groups)) + waiting)
        return time

    block = min(range(1, min(batch, MAX_ROWS) + 1), key=by_rows)
    if projected or batch > MAX_ROWS or panels == 1:
        return block, 0, columns
    groups = min(range(2, min(panels, MOST_GROUPS) + 1), key=by_columns)
    if by_columns(groups) >= GAIN * by_rows(block):
        return block, 0, columns
    each = -(-panels // groups) * panel
    return batch, -(-columns // each), each
