"""Loads and stores of a loop nest: contiguous, strided, gathered, guarded, combined."""

from __future__ import annotations

from rushlight.compile.cpu import target, vecmath
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.nest_scope import Scope, iota
from rushlight.compile.cpu.nest_sums import combine
from rushlight.compile.cpu.values import V, const, splat, type_text
from rushlight.compile.dtypes import DType
from rushlight.compile.nest import Operand, Store

__all__ = ["LONG_ROW", "SECOND_LEVEL", "WOVEN", "Memory", "ahead"]

#: How many bytes a loop over vectors asks for, ahead of its loads, of all the arrays together that it reads, and of one. Processors
#: fetch ahead by themselves, but beside arithmetic not far enough: waiting and computing add up. Where arrays come from memory, the
#: second-level cache is asked: the few lines that the first-level one can wait for are then left to the stores. (Measured on Granite
#: Rapids, arrays of 64 MB: logistic functions, softmax, log and sin gain 25 to 70 % where part of them lies in a third-level cache; where
#: all comes from memory, copies gain a quarter over requests to the first level, and reads of three arrays a tenth by asking less far
#: ahead.) What a cache holds is on its way for so short a time that the first level is asked. (Measured on Emerald Rapids, arrays of 256
#: KB to 16 MB, against requests to the second level: sums of two arrays and products with a number take 0.75 to 0.97 of the time,
#: means of rows 0.7 to 0.95, layer norms 0.85 to 0.97.)
_AHEAD, _MOST_AHEAD = 4096, 3072
_LINE = 64
_FIRST_LEVEL, SECOND_LEVEL = 3, 2  # as LLVM numbers them
#: Bytes of a row from which on the next one is asked for while this one is read again.
LONG_ROW = 16 << 10

#: Strides along vectors at which whole vectors are read and the elements picked out, or put together and written.
WOVEN = (2, 3, 4)


def ahead(arrays: int) -> int:
    """How many bytes ahead of its loads a loop that reads so many arrays side by side asks for their lines."""
    return min(_AHEAD // max(arrays, 1) & -_LINE, _MOST_AHEAD)


class Memory:
    """Emits accesses to the operands; ``strides[k][a]`` is an int or the name of a run-time number."""

    def __init__(self, f: Function, operands: tuple[Operand, ...], strides: list[list[int | str]], beyond: bool = False) -> None:
        """``beyond``: whether the caches do not hold what the kernel moves."""
        self.f, self.operands, self.strides = f, operands, strides
        self.locality = SECOND_LEVEL if beyond else _FIRST_LEVEL
        self.streamed: frozenset[int] = frozenset()  # operands that are written past the caches, at aligned addresses
        # In a loop over vectors, operands of which it asks for lines: how many bytes ahead of its loads, into which cache.
        self.asks: dict[int, tuple[int | str, int]] = {}

    # -- addresses -----------------------------------------------------------------------------------------------------
    def advance(self, scope: Scope, used: set[int], axis: int, position: str) -> None:
        """Bind ``axis`` to ``position`` in the addresses of the operands ``used``."""
        f = self.f
        for k in used:
            step = self.strides[k][axis]
            if step == 0:
                continue
            by = position if step == 1 else f.mul(position, str(step))
            scope.at[k] = f.at(scope.at[k], by, vecmath.memory_type(self.operands[k].dtype))

    def _address(self, scope: Scope, k: int, offset: V | None) -> tuple[str, bool]:
        """(address, contiguous): one address for all lanes, or a vector of them (contiguous False)."""
        f, type_ = self.f, vecmath.memory_type(self.operands[k].dtype)
        base = scope.at[k]
        if offset is not None and not offset.lanes:
            base, offset = f.at(base, offset.name, type_), None
        step = self.strides[k][scope.axis] if scope.lanes else 0
        if offset is None and step in (0, 1):
            return base, True
        lanes = scope.lanes
        where: V | None = offset
        if step != 0:
            along = iota(f, "i64", lanes)
            if step != 1:
                along = along * V(f, str(step), "i64")
            where = along if where is None else where + along
        assert where is not None
        return f.let(f"getelementptr {type_}, ptr {base}, {where!r}"), False

    # -- loads ---------------------------------------------------------------------------------------------------------
    def load(self, scope: Scope, k: int, offset: V | None, guard: V | None, other: float) -> V:
        """The register form of operand k here: a scalar if it is the same for all lanes."""
        dtype, f = self.operands[k].dtype, self.f
        type_ = vecmath.memory_type(dtype)
        address, one = self._address(scope, k, offset)
        uniform = one and (not scope.lanes or self.strides[k][scope.axis] == 0)
        if uniform and (guard is None or not guard.lanes):
            return vecmath.load_form(self._scalar(address, dtype, guard, other), dtype)
        lanes, text = scope.lanes, type_text(type_, scope.lanes)
        if guard is not None:
            guard = splat(guard, lanes)
        mask = both(guard, scope.mask)
        step = self.strides[k][scope.axis]
        if step in (*WOVEN, -1) and (offset is None or not offset.lanes) and _shuffles(dtype):
            base = scope.at[k] if offset is None else f.at(scope.at[k], offset.name, type_)
            pick = self._backwards if step == -1 else self._every
            return vecmath.load_form(pick(base, int(step), mask, self.other(dtype, lanes, other), dtype), dtype)
        if uniform:  # one address, but only where the guard says so
            address, one = f.let(f"getelementptr {type_}, ptr {address}, <{lanes} x i64> zeroinitializer"), False
        if one and mask is None:
            if k in self.asks and offset is None:
                self._fetch_ahead(address, lanes * dtype.itemsize, *self.asks[k])
            plain = f.let(f"load {text}, ptr {address}, align {dtype.itemsize}")
            return vecmath.load_form(V(f, plain, type_, lanes), dtype)
        mask = const(f, "i1", lanes, 1) if mask is None else mask
        rest = self.other(dtype, lanes, other if guard is not None else 0)
        value = masked_load(f, address, one, mask, rest, dtype.itemsize)
        return vecmath.load_form(value, dtype)

    def _fetch_ahead(self, address: str, nbytes: int, distance: int | str, locality: int) -> None:
        """Ask for the lines that a later turn loads as this one loads these ``nbytes``. Where nothing lies, nothing happens."""
        f = self.f
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        behind = f.at(address, distance, "i8")
        for start in range(0, nbytes, _LINE):
            f.do(f"call void @llvm.prefetch.p0(ptr {f.at(behind, start, 'i8')}, i32 0, i32 {locality}, i32 1)")

    def _every(self, base: str, step: int, mask: V | None, rest: V, dtype: DType) -> V:
        """The elements at 0, step, 2 step, ... from ``base``: vectors of what lies in between are loaded whole, none beyond the last
        element that is wanted, and the elements picked out of them."""
        f, lanes, text = self.f, rest.lanes, rest.text
        value, have = rest, 0  # the lanes of ``value`` before ``have`` are right
        for j in range(step):
            start = min(j * lanes, step * (lanes - 1) + 1 - lanes)
            at = f.at(base, str(start), rest.type)
            wanted = {p // step: p - start for p in range(start, start + lanes) if p % step == 0 and p // step >= have}
            if mask is None:
                part = V(f, f.let(f"load {text}, ptr {at}, align {dtype.itemsize}"), rest.type, lanes)
            else:
                places = {p - start: p // step for p in range(start, start + lanes) if p % step == 0}
                inside = _shuffled(mask, const(f, "i1", lanes, 0), [places.get(i, lanes) for i in range(lanes)])
                part = masked_load(f, at, True, inside, rest, dtype.itemsize)
            value = _shuffled(value, part, [lanes + wanted[i] if i in wanted else i for i in range(lanes)])
            have = max([have, *(i + 1 for i in wanted)])
        return value

    def _backwards(self, base: str, _: int, mask: V | None, rest: V, dtype: DType) -> V:
        """The elements at 0, -1, -2, ... from ``base``."""
        f, lanes = self.f, rest.lanes
        order = list(reversed(range(lanes)))
        at = f.at(base, str(1 - lanes), rest.type)
        if mask is None:
            part = V(f, f.let(f"load {rest.text}, ptr {at}, align {dtype.itemsize}"), rest.type, lanes)
        else:
            part = masked_load(f, at, True, _shuffled(mask, mask, order), rest, dtype.itemsize)
        return _shuffled(part, part, order)

    def _scalar(self, address: str, dtype: DType, guard: V | None, other: float) -> V:
        f, type_ = self.f, vecmath.memory_type(dtype)
        if guard is None:
            return V(f, f.let(f"load {type_}, ptr {address}"), type_)
        slot = f.slot(type_, self.other(dtype, 0, other).name)
        with f.when(guard.name):
            f.set(slot, f.let(f"load {type_}, ptr {address}"), type_)
        return V(f, f.get(slot, type_), type_)

    def other(self, dtype: DType, lanes: int, other: float) -> V:
        """The constant ``other`` as it would lie in memory."""
        bits = vecmath.constant_bits(other, dtype)
        type_ = vecmath.memory_type(dtype)
        if type_ in ("float", "double"):
            return const(self.f, type_, lanes, other)
        if type_ == "half":
            text = f"0xH{bits:04X}"
            return V(self.f, f"splat (half {text})" if lanes else text, "half", lanes)
        return const(self.f, type_, lanes, bits)

    # -- stores --------------------------------------------------------------------------------------------------------
    def store(self, scope: Scope, k: int, value: V, offset: V | None, guard: V | None, op: str | None,
              distinct: bool) -> None:
        dtype, f = self.operands[k].dtype, self.f
        address, one = self._address(scope, k, offset)
        if not scope.lanes:
            if guard is None:
                self._store_one(address, value, dtype, op)
            else:
                with f.when(guard.name):
                    self._store_one(address, value, dtype, op)
            return
        lanes = scope.lanes
        value = splat(value, lanes)
        mask = both(None if guard is None else splat(guard, lanes), scope.mask)
        moves = self.strides[k][scope.axis] != 0
        if one and not moves:
            address = f.let(f"getelementptr {vecmath.memory_type(dtype)}, ptr {address}, <{lanes} x i64> zeroinitializer")
        if one and moves:
            if op is not None:
                value = combine(dtype, op, self._read(address, True, mask, dtype, lanes), value)
                value = vecmath.rounded(value, dtype)
            stored = vecmath.store_form(value, dtype)
            if mask is None and k in self.streamed:
                f.module.metadata("!0 = !{i32 1}")
                f.do(f"store {stored!r}, ptr {address}, align {target.current().vector_bytes}, !nontemporal !0")
            elif mask is None:
                f.do(f"store {stored!r}, ptr {address}, align {dtype.itemsize}")
            else:
                masked_store(f, stored, address, True, mask, dtype.itemsize)
            return
        mask = const(f, "i1", lanes, 1) if mask is None else mask
        if op is not None and not (distinct or offset is None and moves):
            self._one_by_one(address, value, mask, dtype, op)
            return
        if op is not None:
            value = combine(dtype, op, self._read(address, False, mask, dtype, lanes), value)
            value = vecmath.rounded(value, dtype)
        # LLVM's scatter writes the lanes in order, so that the last of several wins.
        masked_store(f, vecmath.store_form(value, dtype), address, False, mask, dtype.itemsize)

    def weaves(self, scope: Scope, s: Store, axis: int, length: int) -> bool:
        """Whether the turns of a loop over ``axis`` fill what this store leaves out between two neighbours along the vector."""
        strides, dtype = self.strides[s.operand], self.operands[s.operand].dtype
        plain = s.combine is None and s.offset is None and s.guard is None
        return plain and strides[axis] == 1 and strides[scope.axis] == length and length in WOVEN and _shuffles(dtype)

    def store_woven(self, scope: Scope, k: int, values: list[V]) -> None:
        """Store ``values[0][0], values[1][0], ..., values[0][1], ...`` one after the other."""
        dtype, f, lanes, n = self.operands[k].dtype, self.f, scope.lanes, len(values)
        parts = [vecmath.store_form(splat(v, lanes), dtype) for v in values]
        whole, have = parts[0], 1
        for part in parts[1:]:  # lane i * have + j of ``whole`` is lane i of part j
            wide = _shuffled(part, part, [i % lanes for i in range(have * lanes)]) if have > 1 else part
            order = [i * have + j if j < have else have * lanes + i for i in range(lanes) for j in range(have + 1)]
            whole, have = _shuffled(whole, wide, order), have + 1
        if scope.mask is None:
            f.do(f"store {whole!r}, ptr {scope.at[k]}, align {dtype.itemsize}")
        else:
            mask = _shuffled(scope.mask, scope.mask, [i // n for i in range(n * lanes)])
            masked_store(f, whole, scope.at[k], True, mask, dtype.itemsize)

    def _read(self, address: str, one: bool, mask: V | None, dtype: DType, lanes: int) -> V:
        type_ = vecmath.memory_type(dtype)
        if mask is None and one:
            text = type_text(type_, lanes)
            value = V(self.f, self.f.let(f"load {text}, ptr {address}, align {dtype.itemsize}"), type_, lanes)
        else:
            mask = const(self.f, "i1", lanes, 1) if mask is None else mask
            value = masked_load(self.f, address, one, mask, self.other(dtype, lanes, 0), dtype.itemsize)
        return vecmath.load_form(value, dtype)

    def _store_one(self, address: str, value: V, dtype: DType, op: str | None) -> None:
        f, type_ = self.f, vecmath.memory_type(dtype)
        if op is not None:
            old = vecmath.load_form(V(f, f.let(f"load {type_}, ptr {address}"), type_), dtype)
            value = vecmath.rounded(combine(dtype, op, old, value), dtype)
        stored = vecmath.store_form(value, dtype)
        f.do(f"store {stored!r}, ptr {address}")

    def _one_by_one(self, addresses: str, value: V, mask: V, dtype: DType, op: str) -> None:
        """Combine lane after lane: several may have the same address."""
        f, lanes = self.f, value.lanes
        wide = vecmath.memory_type(dtype) if value.type == "i1" else value.type
        kept = value.convert("zext", wide) if value.type == "i1" else value
        values, places = f.slot(kept.text, kept.name), f.slot(f"<{lanes} x ptr>", addresses)
        flags = mask.convert("zext", "i8")
        exists = f.slot(flags.text, flags.name)
        with f.loop("0", str(lanes)) as i, f.when(f.let(f"trunc i8 {f.load(exists, i, 'i8')} to i1")):
            one = V(f, f.load(values, i, wide), wide)
            self._store_one(f.load(places, i, "ptr"), one.ne(0) if value.type == "i1" else one, dtype, op)


def _shuffled(a: V, b: V, order: list[int]) -> V:
    """The lanes of a, then those of b, in this order."""
    lanes = ", ".join(f"i32 {i}" for i in order)
    name = a.f.let(f"shufflevector {a!r}, {b!r}, <{len(order)} x i32> <{lanes}>")
    return V(a.f, name, a.type, len(order))


def _shuffles(dtype: DType) -> bool:
    """Whether vectors of these elements are read and written under a mask at once: narrow ones only since AVX-512."""
    return dtype.itemsize >= 4 or target.current().vector_bytes >= 64


def both(a: V | None, b: V | None) -> V | None:
    return b if a is None else a if b is None else a & b


def _suffix(x: V) -> str:
    return f"v{x.lanes}{ {'float': 'f32', 'double': 'f64', 'half': 'f16'}.get(x.type, x.type) }"


def masked_load(f: Function, address: str, one: bool, mask: V, rest: V, align: int) -> V:
    """A masked load from one address, or a gather from a vector of them; ``rest`` for the lanes that are masked out."""
    text = rest.text
    if one:
        name = f"@llvm.masked.load.{_suffix(rest)}.p0"
        f.module.declare(f"{text} {name}(ptr, i32, {mask.text}, {text})")
        call = f"call {text} {name}(ptr {address}, i32 {align}, {mask!r}, {rest!r})"
    else:
        name = f"@llvm.masked.gather.{_suffix(rest)}.v{rest.lanes}p0"
        f.module.declare(f"{text} {name}(<{rest.lanes} x ptr>, i32, {mask.text}, {text})")
        call = f"call {text} {name}(<{rest.lanes} x ptr> {address}, i32 {align}, {mask!r}, {rest!r})"
    return V(f, f.let(call), rest.type, rest.lanes)


def masked_store(f: Function, value: V, address: str, one: bool, mask: V, align: int) -> None:
    if one:
        name, where = f"@llvm.masked.store.{_suffix(value)}.p0", "ptr"
    else:
        name, where = f"@llvm.masked.scatter.{_suffix(value)}.v{value.lanes}p0", f"<{value.lanes} x ptr>"
    f.module.declare(f"void {name}({value.text}, {where}, i32, {mask.text})")
    f.do(f"call void {name}({value!r}, {where} {address}, i32 {align}, {mask!r})")
