"""Tables of row addresses, for tiles whose rows lie anywhere: one native function for all contractions.

    void rows(ptr tables, ptr dims, i64 n_dims, i64 operands, i64 first, i64 count, ptr bases)

``dims`` has a line for each dimension, outer ones first: its extent, then bytes per step for each operand. Writes
``tables[operand][row]`` for the flattened positions ``first .. first + count - 1``, from the operands' ``bases`` on.
"""

from __future__ import annotations

from rushlight.compile.cpu.irtext import Function, Module

__all__ = ["MAX_DIMS", "MAX_OPERANDS", "MAX_ROWS", "ROWS_KEY", "rows_ir"]

MAX_ROWS = 512  # of one part: the tables are on the stack
MAX_DIMS = 16
MAX_OPERANDS = 64

ROWS_KEY = "contraction rows 1"


def rows_ir() -> str:
    module = Module()
    f = Function(
        "void @rows(ptr noalias %tables, ptr noalias %dims, i64 %n_dims, i64 %operands, i64 %first, i64 %count, "
        "ptr noalias %bases)",
        module,
    )
    width = f.add("%operands", 1)
    index, here = f.slot(f"[{MAX_DIMS} x i64]"), f.slot(f"[{MAX_OPERANDS} x i64]")
    with f.loop(0, "%operands") as i:
        f.set(f.at(here, i), f.load("%bases", i))
    rest, dim = f.slot("i64", "%first"), f.slot("i64", f.sub("%n_dims", 1))
    with f.loop_while(dim, "sge", "0") as d:
        line = f.at("%dims", f.mul(d, width))
        extent, left = f.load(line), f.get(rest)
        position = f.rem(left, extent)
        f.set(rest, f.div(left, extent))
        f.set(f.at(index, d), position)
        move(f, here, line, position)
        f.set(dim, f.sub(d, 1))
    # A stretch of the innermost dimension after the other; without dimensions there is one row.
    last = f.sub("%n_dims", 1)
    line = f.at("%dims", f.mul(last, width))
    none = f.compare("eq", "%n_dims", 0)
    extent = f.slot("i64", "1")
    with f.when(f.let(f"xor i1 {none}, true")):
        f.set(extent, f.load(line))
    length = f.get(extent)
    row = f.slot("i64", "0")
    with f.loop_while(row, "slt", "%count") as r:
        start = f.slot("i64", "0")
        with f.when(f.let(f"xor i1 {none}, true")):
            f.set(start, f.load(index, last))
        stretch = f.minimum(f.sub(length, f.get(start)), f.sub("%count", r))
        with f.loop(0, "%operands") as i:
            stride = f.slot("i64", "0")
            with f.when(f.let(f"xor i1 {none}, true")):
                f.set(stride, f.load(line, f.add(i, 1)))
            step, at = f.get(stride), f.slot("i64", f.load(here, i))
            table = f.at("%tables", f.add(f.mul(i, MAX_ROWS), r))
            with f.loop(0, stretch) as j:
                address = f.get(at)
                f.set(f.at(table, j), address)
                f.set(at, f.add(address, step))
        f.set(row, f.add(r, stretch))
        with f.when(f.compare("slt", f.get(row), "%count")):
            advance(f, here, index, width, stretch, last)
    return f.finish() + module.text()


def move(f: Function, here: str, line: str, steps: str) -> None:
    """All operands on by some steps along the dimension of ``line``."""
    with f.loop(0, "%operands") as i:
        at = f.at(here, i)
        f.set(at, f.add(f.get(at), f.mul(steps, f.load(line, f.add(i, 1)))))


def advance(f: Function, here: str, index: str, width: str, stretch: str, last: str) -> None:
    """On by ``stretch`` positions of the innermost dimension, which ends there: carry into the next ones."""
    dim, steps = f.slot("i64", last), f.slot("i64", stretch)
    with f.loop_while(dim, "sge", "0") as d:
        line = f.at("%dims", f.mul(d, width))
        extent, by = f.load(line), f.get(steps)
        place = f.at(index, d)
        position = f.add(f.get(place), by)
        carry = f.compare("sge", position, extent)
        back = f.let(f"select i1 {carry}, i64 {extent}, i64 0")
        f.set(place, f.sub(position, back))
        move(f, here, line, f.sub(by, back))
        f.set(steps, "1")
        f.set(dim, f.let(f"select i1 {carry}, i64 {f.sub(d, 1)}, i64 -1"))
