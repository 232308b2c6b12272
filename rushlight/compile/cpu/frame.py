"""What kernels with operands, extents and strides in their parameters share: reading those, and odometers over dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from rushlight.compile.cpu.contract_rows import MAX_DIMS, MAX_ROWS
from rushlight.compile.cpu.irtext import Function

__all__ = ["Frame"]


class Frame:
    """What all kernels share: the parameters, addresses of the operands, odometers over dimension lists."""

    def __init__(self, f: Function, operands: int, fields: Sequence[str]) -> None:
        self.f = f
        self.operands = operands
        self.bases = []
        for i in range(operands):
            base = f.load("%table", f.load("%params", 2 * i), "ptr")
            self.bases.append(f.at(base, f.load("%params", 2 * i + 1), "i8"))
        self.value = {name: f.load("%params", 2 * operands + i) for i, name in enumerate(fields)}
        self.tables = f.at("%params", 2 * operands + len(fields))

    def __getitem__(self, name: str) -> str:
        return self.value[name]

    def offsets(self, table: str, dims: str, position: str, start: list[str]) -> tuple[list[str], str]:
        """Slots with ``start`` moved to the flattened ``position`` over a dimension table; and its index array."""
        f, width = self.f, 1 + self.operands
        index = f.slot(f"[{MAX_DIMS} x i64]")
        slots = [f.slot("i64", value) for value in start]
        rest = f.slot("i64", position)
        dim = f.slot("i64", f.sub(dims, 1))
        with f.loop_while(dim, "sge", "0") as d:
            row = f.at(table, f.mul(d, width))
            extent, left = f.load(row), f.get(rest)
            here = f.rem(left, extent)
            f.set(rest, f.div(left, extent))
            f.set(f.at(index, d), here)
            for i, slot in enumerate(slots):
                f.set(slot, f.add(f.get(slot), f.mul(here, f.load(row, 1 + i))))
            f.set(dim, f.sub(d, 1))
        return slots, index

    def advance(self, table: str, dims: str, index: str, slots: list[str]) -> None:
        """Moves ``slots`` (as ``offsets`` made them) on by one position."""
        f, width = self.f, 1 + self.operands
        dim = f.slot("i64", f.sub(dims, 1))
        with f.loop_while(dim, "sge", "0") as d:
            row = f.at(table, f.mul(d, width))
            extent = f.load(row)
            place = f.at(index, d)
            here = f.add(f.get(place), 1)
            carry = f.compare("sge", here, extent)
            back = f.let(f"select i1 {carry}, i64 {extent}, i64 0")
            f.set(place, f.sub(here, back))
            for i, slot in enumerate(slots):
                stride = f.load(row, 1 + i)
                f.set(slot, f.add(f.get(slot), f.sub(stride, f.mul(stride, back))))
            f.set(dim, f.let(f"select i1 {carry}, i64 {f.sub(d, 1)}, i64 -1"))

    def row_tables(self, table: str, first: str, count: str, bases: list[str]) -> list[str]:
        """Tables on the stack with the address of each operand at rows ``first .. first + count - 1``."""
        f = self.f
        memory = f.slot(f"[{MAX_ROWS * self.operands} x i64]", align=64)
        start = f.slot(f"[{self.operands} x i64]")
        for i, base in enumerate(bases):
            f.set(f.at(start, i), base)
        function = f.let(f"inttoptr i64 {self['rows']} to ptr")
        f.do(f"call void {function}(ptr {memory}, ptr {table}, i64 {self['m_dims']}, i64 {self.operands}, i64 {first}, "
             f"i64 {count}, ptr {start})")  # fmt: skip
        return [f.at(memory, i * MAX_ROWS) for i in range(self.operands)]

    def address(self, i: int) -> str:
        return self.f.let(f"ptrtoint ptr {self.bases[i]} to i64")
