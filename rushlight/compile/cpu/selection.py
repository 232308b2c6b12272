"""Finding the first few elements of rows: a scan that compares whole vectors with the last of those kept.

Of random numbers few are inserted, k log(n / k) of n, so a row takes little more than reading it. Kept are 64-bit numbers, the
element's rank above its position, in order (as in ``compile/reference/order_keys.py``); a part is some rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushlight.compile.cpu import target
from rushlight.compile.cpu.contract_step import Plan, Step
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.native import Operand
from rushlight.compile.dtypes import DType
from rushlight.compile.selection import MOST, FirstPositions
from rushlight.compile.sizes import largest

__all__ = ["has_kernel", "plan"]

_PART = 16 << 10  # elements of a part


def has_kernel(call: FirstPositions, dtypes: Sequence[DType]) -> bool:
    return dtypes[0].name == "float32" and 0 < call.k <= MOST


def plan(call: FirstPositions, operands: Sequence[Operand], wanted: Sequence[bool]) -> Plan:
    kernel = _Selection(target.current().vector_bytes // 4, call.descending)
    rows = largest(1, _PART // largest(1, call.n))
    step = Step((kernel.key, kernel.ir, "select"), [(("in", 0), 0), (("out", 0), 0)], [call.rows, rows, call.n, call.k],
                -(-call.rows // rows))
    return Plan([step], [], call.work)


@dataclass(frozen=True)
class _Selection:
    """Operands: float32 rows, int64 positions."""

    lanes: int
    descending: bool

    fields = ("rows", "block", "n", "k")

    @property
    def key(self) -> str:
        return f"selection1 {self.lanes} {self.descending}"

    def ir(self) -> str:
        module = Module()
        f = Function("void @select(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, 2, self.fields)
        lanes, n, k = self.lanes, frame["n"], frame["k"]
        numbers, ranks = f"<{lanes} x float>", f"<{lanes} x i32>"
        module.declare(f"{numbers} @llvm.masked.load.v{lanes}f32.p0(ptr, i32, <{lanes} x i1>, {numbers})")
        module.declare("i64 @llvm.cttz.i64(i64, i1)")
        kept, found = f.slot(f"[{MOST} x i64]", align=64), f.slot(ranks, align=64)
        last = f.at(kept, f.sub(k, 1))
        with f.loop("%begin", "%end") as part:
            first = f.mul(part, frame["block"])
            with f.loop(first, f.minimum(f.add(first, frame["block"]), frame["rows"])) as row:
                x = f.at(frame.bases[0], f.mul(row, n), "float")
                with f.loop(0, k) as i:
                    f.set(f.at(kept, i), "-1")
                with f.loop(0, n, lanes) as i:
                    inside = self._inside(f, f.sub(n, i))
                    value = f.let(f"call {numbers} @llvm.masked.load.v{lanes}f32.p0(ptr {f.at(x, i, 'float')}, i32 4, "
                                  f"<{lanes} x i1> {inside}, {numbers} zeroinitializer)")
                    rank = self._ranks(f, value)
                    bound = f.let(f"trunc i64 {f.let(f'lshr i64 {f.load(last)}, 32')} to i32")
                    near = f.let(f"icmp ult {ranks} {rank}, {self._splat(f, 'i32', bound)}")
                    # An equal one comes in only while fewer than k have been met.
                    near = f.let(f"or <{lanes} x i1> {near}, {self._splat(f, 'i1', f.compare('slt', i, k))}")
                    bits = f.let(f"bitcast <{lanes} x i1> {f.let(f'and <{lanes} x i1> {near}, {inside}')} to i{lanes}")
                    f.set(found, rank, ranks)
                    left = f.slot("i64", f.let(f"zext i{lanes} {bits} to i64"))
                    with f.loop_while(left, "ne", "0") as some:
                        lane = f.let(f"call i64 @llvm.cttz.i64(i64 {some}, i1 true)")
                        high = f.let(f"zext i32 {f.load(found, lane, 'i32')} to i64")
                        key = f.let(f"or i64 {f.let(f'shl i64 {high}, 32')}, {f.add(i, lane)}")
                        with f.when(f.compare("ult", key, f.load(last))):
                            self._insert(f, kept, key, k)
                        f.set(left, f.let(f"and i64 {some}, {f.sub(some, 1)}"))
                out = f.at(frame.bases[1], f.mul(row, k))
                with f.loop(0, k) as i:
                    f.set(f.at(out, i), f.let(f"and i64 {f.load(kept, i)}, 4294967295"))
        return f.finish() + module.text()

    def _inside(self, f: Function, left: str) -> str:
        """Which lanes hold elements of the row, of which ``left`` are left."""
        numbers = ", ".join(f"i32 {i}" for i in range(self.lanes))
        count = f.let(f"trunc i64 {f.minimum(left, self.lanes)} to i32")
        return f.let(f"icmp slt <{self.lanes} x i32> <{numbers}>, {self._splat(f, 'i32', count)}")

    def _splat(self, f: Function, type_: str, value: str) -> str:
        vector = f"<{self.lanes} x {type_}>"
        one = f.let(f"insertelement {vector} poison, {type_} {value}, i64 0")
        return f.let(f"shufflevector {vector} {one}, {vector} poison, <{self.lanes} x i32> zeroinitializer")

    def _ranks(self, f: Function, value: str) -> str:
        """Whole numbers without sign in the order of the numbers: all bits of negative ones are turned, the sign of others; all NaN are
        one, and so are the zeros."""
        floats, ints, lanes = f"<{self.lanes} x float>", f"<{self.lanes} x i32>", self.lanes
        nan = f"<{', '.join(['float 0x7FF8000000000000'] * lanes)}>"
        wide = f.let(f"fadd {floats} {value}, zeroinitializer")  # -0.0 + 0.0 is 0.0
        wide = f.let(f"select <{lanes} x i1> {f.let(f'fcmp uno {floats} {value}, {value}')}, {floats} {nan}, {floats} {wide}")
        bits = f.let(f"bitcast {floats} {wide} to {ints}")
        sign = f.let(f"ashr {ints} {bits}, {self._all(31)}")
        rank = f.let(f"xor {ints} {bits}, {f.let(f'or {ints} {sign}, {self._all(-(1 << 31))}')}")
        return f.let(f"xor {ints} {rank}, {self._all(-1)}") if self.descending else rank

    def _all(self, value: int) -> str:
        return f"<{', '.join([f'i32 {value}'] * self.lanes)}>"

    def _insert(self, f: Function, kept: str, key: str, k: str) -> None:
        """Put ``key`` before the kept ones that are larger; the last falls out."""
        place = f.slot("i64", f.sub(k, 1))
        name = f.name()
        f.do(f"br label %{name}.test")
        f.label(f"{name}.test")
        here = f.get(place)
        f.do(f"br i1 {f.compare('sgt', here, 0)}, label %{name}.look, label %{name}.end")
        f.label(f"{name}.look")
        before = f.load(kept, f.sub(here, 1))
        f.do(f"br i1 {f.compare('ugt', before, key)}, label %{name}.move, label %{name}.end")
        f.label(f"{name}.move")
        f.set(f.at(kept, here), before)
        f.set(place, f.sub(here, 1))
        f.do(f"br label %{name}.test")
        f.label(f"{name}.end")
        f.set(f.at(kept, f.get(place)), key)
