"""Packing the second operand of a contraction into panels, as LLVM IR text.

    out[batch][panel][k][column]

in the accumulation type; a panel is as wide as the micro-kernel's tile. Columns beyond the last one hold anything
finite: their sums are never stored. Where B is contiguous along k (``x @ weight.T``) blocks are turned in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.contract_epilogue import gather, scattered
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import convert, ir_type, mask, masked_load
from rushlight.compile.dtypes import DType

__all__ = ["Pack", "MAX_TURNED"]

#: The most lanes whose square blocks are turned in registers.
MAX_TURNED = 16


@dataclass(frozen=True)
class Pack:
    """Operands: B, out. ``stride`` of B along n: "unit", "any", or "turn" where B is contiguous along the last k axis.

    A part is a block of positions of one panel of one batch; for "turn" a block of the last k axis, at least ``lanes``
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
        return f"pack6 {self.source.name} {self.target.name} {self.lanes}x{self.vectors} {self.stride}"

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
        with f.loop(0, count):
            src, dst = (f.let(f"inttoptr i64 {f.get(slot)} to ptr") for slot in here)
            for v in range(self.vectors):
                if self.stride == "unit":
                    at = f.at(src, v * self.lanes * self.source.itemsize, "i8")
                    value = masked_load(f, at, self.source, self.lanes, masks[v])
                else:
                    places = scattered(f, src, frame["n_stride"], v * self.lanes, self.lanes)
                    value = gather(f, places, self.source, self.lanes, masks[v])
                self._store(f, convert(f, value, self.source, self.target, self.lanes), dst, 0, v)
            frame.advance(k_table, frame["k_dims"], index, here)

    def _turned(
        self, f: Function, frame: Frame, source: str, target: str, first: str, count: str, columns: str
    ) -> None:
        """Square blocks: ``lanes`` columns by ``lanes`` positions of the last k axis, for every position of the others.

        The last row of the k dimensions' table is the last axis; ``outer`` is the number of positions of the others."""
        k_table = f.at(frame.tables, f.mul(frame["batch_dims"], 3))
        last = f.at(k_table, f.mul(f.sub(frame["k_dims"], 1), 3))
        dims = f.sub(frame["k_dims"], 1)
        row = self.lanes * self.vectors * self.target.itemsize
        start = [f.add(source, f.mul(first, f.load(last, 1))), f.add(target, f.mul(first, row))]
        here, index = frame.offsets(k_table, dims, "0", start)
        with f.loop(0, frame["outer"]):
            src, dst = (f.let(f"inttoptr i64 {f.get(slot)} to ptr") for slot in here)
            with f.loop(0, count, self.lanes) as k, f.loop(0, frame["vectors"]) as v:
                # The last block reaches back over positions that are done already: no other shape of block is needed.
                self._block(f, frame, src, dst, f.minimum(k, f.sub(count, self.lanes)), f.mul(v, self.lanes), columns)
            frame.advance(k_table, dims, index, here)

    def _block(self, f: Function, frame: Frame, src: str, dst: str, k: str, column: str, columns: str) -> None:
        row = self.lanes * self.vectors * self.target.itemsize
        src = f.at(src, f.mul(k, self.source.itemsize), "i8")
        dst = f.at(f.at(dst, f.mul(k, row), "i8"), f.mul(column, self.target.itemsize), "i8")
        last = f.sub(columns, 1)
        rows = []
        for j in range(self.lanes):
            here = f.minimum(f.add(column, j), last)  # beyond the last column: that one again
            at = f.at(src, f.mul(here, frame["n_stride"]), "i8")
            value = f.let(f"load {ir_type(self.source, self.lanes)}, ptr {at}, align {self.source.itemsize}")
            rows.append(convert(f, value, self.source, self.target, self.lanes))
        for j, value in enumerate(turned(f, rows, ir_type(self.target, self.lanes), self.lanes)):
            self._store(f, value, dst, j, 0)

    def _store(self, f: Function, value: str, dst: str, row: int, v: int) -> None:
        at = f.at(dst, (row * self.vectors + v) * self.lanes * self.target.itemsize, "i8")
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
