"""Packing the second operand of a contraction into panels, as LLVM IR text.

    out[batch][panel][k][column]

in the accumulation type; a panel is as wide as the micro-kernel's tile. Columns beyond the last one hold anything
finite: their sums are never stored. Where B is contiguous along one of the axes of k (``x @ weight.T``, images as columns of a
convolution with few channels) blocks are turned in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.contract_block import LINE
from rushlight.compile.cpu.contract_epilogue import gather, scattered
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import convert, ir_type, mask, masked_load
from rushlight.compile.dtypes import DType

__all__ = ["Pack", "MAX_TURNED"]

#: The most lanes whose square blocks are turned in registers.
MAX_TURNED = 16
#: Positions that are asked for in advance where each has a stretch of columns: the processor does not follow such strides, over pages.
AHEAD = 8


@dataclass(frozen=True)
class Pack:
    """Operands: B, out. ``stride`` of B along n: "unit", "any", or "turn" where B is contiguous along a k axis, which is then the
    last one of the k dimensions' table.

    A part is a block of positions of one panel of one batch; for "turn" a block of that k axis, at least ``lanes``
    long, for all positions of the others.
    """

    source: DType
    target: DType
    lanes: int
    vectors: int
    stride: str

    fields = ("parts_k", "panels", "k", "block_k", "n", "n_stride", "batch_dims", "k_dims", "panel_bytes", "outer", "vectors")
    operands = 2

    @property
    def key(self) -> str:
        return f"pack8 {self.source.name} {self.target.name} {self.lanes}x{self.vectors} {self.stride}"

    def ir(self) -> str:
        module = Module()
        f = Function("void @contract(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, 2, self.fields)
        width = self.lanes * self.vectors
        with f.loop("%begin", "%end") as part:
            ki, rest = f.rem(part, frame["parts_k"]), f.div(part, frame["parts_k"])
            panel, batch = f.rem(rest, frame["panels"]), f.div(rest, frame["panels"])
            slots, _ = frame.offsets(frame.tables, frame["batch_dims"], batch, [frame.address(0), frame.address(1)])
            column = f.mul(panel, width)
            columns = f.minimum(f.sub(frame["n"], column), width)
            source = f.add(f.get(slots[0]), f.mul(column, frame["n_stride"]))
            target = f.add(f.get(slots[1]), f.mul(panel, frame["panel_bytes"]))
            first = f.mul(ki, frame["block_k"])
            count = f.minimum(f.sub(frame["k"], first), frame["block_k"])
            body = self._turned if self.stride == "turn" else self._copied
            body(f, frame, source, target, first, count, columns)
        return f.finish() + module.text()

    def _copied(
        self, f: Function, frame: Frame, source: str, target: str, first: str, count: str, columns: str
    ) -> None:
        """One position after the other."""
        k_table = f.at(frame.tables, f.mul(frame["batch_dims"], 3))
        masks = [mask(f, f.sub(columns, v * self.lanes), self.lanes) for v in range(self.vectors)]
        here, index = frame.offsets(k_table, frame["k_dims"], first, [source, target])
        ahead = f.mul(f.load(f.at(k_table, f.mul(f.sub(frame["k_dims"], 1), 3)), 1), AHEAD) if self.stride == "unit" else ""
        with f.loop(0, count):
            src, dst = (f.let(f"inttoptr i64 {f.get(slot)} to ptr") for slot in here)
            if ahead:
                for line in range(0, self.vectors * self.lanes * self.source.itemsize, LINE):
                    self._ask(f, f.at(f.at(src, ahead, "i8"), line, "i8"))
            for v in range(self.vectors):
                if self.stride == "unit":
                    at = f.at(src, v * self.lanes * self.source.itemsize, "i8")
                    value = masked_load(f, at, self.source, self.lanes, masks[v])
                else:
                    places = scattered(f, src, frame["n_stride"], v * self.lanes, self.lanes)
                    value = gather(f, places, self.source, self.lanes, masks[v])
                self._store(f, convert(f, value, self.source, self.target, self.lanes), dst, v)
            frame.advance(k_table, frame["k_dims"], index, here)

    def _turned(
        self, f: Function, frame: Frame, source: str, target: str, first: str, count: str, columns: str
    ) -> None:
        """Square blocks: ``lanes`` columns by ``lanes`` positions of the last k axis, for every position of the others.

        ``outer`` is the number of positions of the other axes."""
        k_table = f.at(frame.tables, f.mul(frame["batch_dims"], 3))
        last = f.at(k_table, f.mul(f.sub(frame["k_dims"], 1), 3))
        dims = f.sub(frame["k_dims"], 1)
        step = f.load(last, 2)
        start = [f.add(source, f.mul(first, f.load(last, 1))), f.add(target, f.mul(first, step))]
        here, index = frame.offsets(k_table, dims, "0", start)
        with f.loop(0, frame["outer"]):
            src, dst = (f.let(f"inttoptr i64 {f.get(slot)} to ptr") for slot in here)
            with f.loop(0, count, self.lanes) as k, f.loop(0, frame["vectors"]) as v:
                # The last block reaches back over positions that are done already: no other shape of block is needed.
                k_here, column = f.minimum(k, f.sub(count, self.lanes)), f.mul(v, self.lanes)
                here_dst = f.at(f.at(dst, f.mul(k_here, step), "i8"), f.mul(column, self.target.itemsize), "i8")
                self._block(f, frame, f.at(src, f.mul(k_here, self.source.itemsize), "i8"), here_dst, step, column, columns)
            frame.advance(k_table, dims, index, here)

    def _block(self, f: Function, frame: Frame, src: str, dst: str, step: str, column: str, columns: str) -> None:
        """One square, whose positions lie ``step`` bytes apart in ``dst``."""
        last = f.sub(columns, 1)
        rows = []
        for j in range(self.lanes):
            here = f.minimum(f.add(column, j), last)  # beyond the last column: that one again
            at = f.at(src, f.mul(here, frame["n_stride"]), "i8")
            value = f.let(f"load {ir_type(self.source, self.lanes)}, ptr {at}, align {self.source.itemsize}")
            self._ask(f, f.at(at, LINE, "i8"))  # the processor follows few rows side by side
            rows.append(convert(f, value, self.source, self.target, self.lanes))
        for j, value in enumerate(turned(f, rows, ir_type(self.target, self.lanes), self.lanes)):
            self._store(f, value, f.at(dst, f.mul(step, j), "i8"), 0)

    def _ask(self, f: Function, pointer: str) -> None:
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        f.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)")

    def _store(self, f: Function, value: str, dst: str, v: int) -> None:
        at = f.at(dst, v * self.lanes * self.target.itemsize, "i8")
        f.do(f"store {ir_type(self.target, self.lanes)} {value}, ptr {at}, align {self.target.itemsize}")


def turned(f: Function, rows: list[str], vector: str, lanes: int) -> list[str]:
    """The transpose of a square of ``lanes`` vectors: halves of halves change places."""
    distance = lanes // 2
    while distance:
        out = list(rows)
        for i in range(lanes):
            if i & distance:
                continue
            a, b = rows[i], rows[i + distance]
            low = [j if not j & distance else lanes + j - distance for j in range(lanes)]
            high = [j + distance if not j & distance else lanes + j for j in range(lanes)]
            for place, choice in ((i, low), (i + distance, high)):
                numbers = ", ".join(f"i32 {c}" for c in choice)
                out[place] = f.let(f"shufflevector {vector} {a}, {vector} {b}, <{lanes} x i32> <{numbers}>")
        rows = out
        distance //= 2
    return rows
