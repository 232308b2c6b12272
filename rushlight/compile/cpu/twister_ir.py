"""Draws of random numbers as LLVM IR text: the Mersenne Twister and the distributions that PyTorch makes of it, to the last bit.

PyTorch's distributions are compiled C++: sums of products are fused multiply-adds, double precision calls the C library, and blocks
of float32 normals go through the Cephes polynomials for logarithm, sine and cosine. The same steps are spelled out here.

Each function is a module of its own (:func:`source`), compiled when it is first asked for. Its first two arguments are the address of
a generator's state and of the memory to fill; the third is a number of elements; it returns 0, unless it refuses what it is given.
The state (``STATE_BYTES``) holds the 624 words, then 64-bit fields at ``POSITION`` (of the next word; 624: none is left),
``UNTOUCHED`` (nothing was drawn since it was seeded), ``HAS_NORMAL`` and ``NORMAL`` (the second of a pair of normals, a double that
waits for the next call).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.normal_ir import block32, block64
from rushlight.compile.cpu.values import V, const, fma, where

__all__ = ["FUNCTIONS", "HAS_NORMAL", "NORMAL", "POSITION", "STATE_BYTES", "UNTOUCHED", "VERSION", "WORDS", "library", "load",
           "next_normal", "source", "store", "unit"]

VERSION = 1
WORDS = 624
POSITION, UNTOUCHED, HAS_NORMAL, NORMAL = range(4 * WORDS, 4 * WORDS + 32, 8)
STATE_BYTES = 4 * WORDS + 32

_LANES = 16   # 32-bit words in a vector: on narrower registers LLVM takes several
_CHUNK = 2048  # elements that are drawn, then transformed while they are in the first-level cache
_BITS = {"float": 32, "double": 64}


def _arg(f: Function, name: str, type_: str) -> V:
    return V(f, f"%{name}", type_)


def load(f: Function, address: str, type_: str, lanes: int = 0) -> V:
    text = f"<{lanes} x {type_}>" if lanes else type_
    return V(f, f.let(f"load {text}, ptr {address}, align {_size(type_)}"), type_, lanes)


def store(x: V, address: str) -> None:
    x.f.do(f"store {x!r}, ptr {address}, align {_size(x.type)}")


def _size(type_: str) -> int:
    return {"i8": 1, "i32": 4, "float": 4, "i64": 8, "double": 8}[type_]


def _field(f: Function, offset: int) -> str:
    return f.at("%state", offset, "i8")


def _each(f: Function, begin: str | int, end: str, lanes: int, body: Callable[[str, int], None]) -> None:
    """``body(i, lanes)`` for whole vectors from ``begin`` on, then ``body(i, 0)`` for what is left."""
    last = f.sub(end, f.rem(f.sub(end, str(begin)), lanes))
    with f.loop(begin, last, lanes) as i:
        body(i, lanes)
    with f.loop(last, end) as i:
        body(i, 0)


# -- the twister ----------------------------------------------------------------------------------------------------


def _mixed(f: Function, at: str | int, ahead: str | int, following: str | int, lanes: int) -> None:
    """The next value of word ``at``: of its top bit, the others of the ``following`` word, and the word ``ahead``."""
    def word(k: str | int) -> V:
        return load(f, f.at("%state", k, "i32"), "i32", lanes)

    y = (word(at) & -0x80000000) | (word(following) & 0x7FFFFFFF)
    odd = -(y & 1) & 0x9908B0DF - (1 << 32)
    store(word(ahead) ^ y.lshr(1) ^ odd, f.at("%state", at, "i32"))


def _twist(module: Module) -> str:
    """All words anew."""
    f = Function("private void @twist(ptr %state) noinline", module)
    for begin, end, shift in ((0, WORDS - 397, 397), (WORDS - 397, WORDS - 1, 397 - WORDS)):
        def one(i: str, lanes: int, shift: int = shift) -> None:
            _mixed(f, i, f.add(i, shift), f.add(i, 1), lanes)

        _each(f, begin, str(end), _LANES, one)
    _mixed(f, WORDS - 1, 396, 0, 0)
    return f.finish()


def _words(module: Module) -> str:
    """``n`` words of the stream."""
    f = Function("private void @words(ptr %state, ptr %out, i64 %n) noinline", module)
    begun = f.slot("i64", "0")
    with f.when(f.compare("sgt", "%n", 0)):
        f.do(f"store i64 0, ptr {_field(f, UNTOUCHED)}")
    with f.loop_while(begun, "slt", "%n") as done:
        position = f.load(_field(f, POSITION))
        start = f.slot("i64", position)
        with f.when(f.compare("sge", position, WORDS)):
            f.do("call void @twist(ptr %state)")
            f.set(start, "0")
        first = f.get(start)
        count = f.minimum(f.sub("%n", done), f.sub(str(WORDS), first))
        source, out = f.at("%state", first, "i32"), f.at("%out", done, "i32")

        def tempered(i: str, lanes: int) -> None:
            y = load(f, f.at(source, i, "i32"), "i32", lanes)
            y = y ^ y.lshr(11)
            y = y ^ ((y << 7) & 0x9D2C5680 - (1 << 32))
            y = y ^ ((y << 15) & 0xEFC60000 - (1 << 32))
            store(y ^ y.lshr(18), f.at(out, i, "i32"))

        _each(f, 0, count, _LANES, tempered)
        f.do(f"store i64 {f.add(first, count)}, ptr {_field(f, POSITION)}")
        f.set(begun, f.add(done, count))
    return f.finish()


def _seed(f: Function) -> None:
    """Start over from the 32-bit number ``%n``; there is no memory to fill."""
    word = f.slot("i64", f.let("and i64 %n, 4294967295"))
    f.do(f"store i32 {f.let(f'trunc i64 {f.get(word)} to i32')}, ptr %state")
    with f.loop(1, str(WORDS)) as i:
        before = V(f, f.get(word), "i64")
        value = ((before ^ before.lshr(30)) * 1812433253 + V(f, i, "i64")) & 0xFFFFFFFF
        f.set(word, value.name)
        store(value.convert("trunc", "i32"), f.at("%state", i, "i32"))
    for field, number in ((POSITION, WORDS), (UNTOUCHED, 1), (HAS_NORMAL, 0)):
        f.do(f"store i64 {number}, ptr {_field(f, field)}")


# -- numbers of words -----------------------------------------------------------------------------------------------


@contextmanager
def _chunks(f: Function, words: int, buffered: bool, total: str = "%n") -> Iterator[tuple[str, str, str]]:
    """The elements in chunks: gives (number of the first, how many, address of the words that were drawn for them, ``words`` for each):
    on the stack if ``buffered``, else in the memory to fill."""
    memory = f.slot(f"[{_CHUNK * words} x i32]", align=64) if buffered else ""
    with f.loop(0, total, _CHUNK) as begin:
        count = f.minimum(f.sub(total, begin), _CHUNK)
        place = memory or f.at("%out", f.mul(begin, words), "i32")
        f.do(f"call void @words(ptr %state, ptr {place}, i64 {f.mul(count, words)})")
        yield begin, count, place


def _wide_bits(f: Function, place: str, i: str, lanes: int) -> V:
    """64 bits of two words, the high half first."""
    x = load(f, f.at(place, i, "i64"), "i64", lanes)
    return (x << 32) | x.lshr(32)


def unit(f: Function, type_: str, place: str, i: str, lanes: int) -> V:
    """Numbers in [0, 1): 24 bits of a word, or 53 of two."""
    if type_ == "float":
        bits = load(f, f.at(place, i, "i32"), "i32", lanes) & (1 << 24) - 1
        return bits.convert("sitofp", "float") * 2.0**-24
    return (_wide_bits(f, place, i, lanes) & (1 << 53) - 1).convert("sitofp", "double") * 2.0**-53


def _width(type_: str) -> int:
    """Lanes of a vector of this type."""
    return _LANES * 32 // _BITS.get(type_, 64)


def _words_of(type_: str) -> int:
    return _BITS[type_] // 32


def _raw(f: Function) -> None:
    f.do("call void @words(ptr %state, ptr %out, i64 %n)")


def _raw_wide(f: Function) -> None:
    with _chunks(f, 2, False) as (_, count, place):
        _each(f, 0, count, _width("i64"), lambda i, lanes: store(_wide_bits(f, place, i, lanes), f.at(place, i, "i64")))


def _seeds(f: Function) -> None:
    """63 bits of two words, the low half first."""
    with _chunks(f, 2, False) as (_, count, place):
        def one(i: str, lanes: int) -> None:
            at = f.at(place, i, "i64")
            store(load(f, at, "i64", lanes) & (1 << 63) - 1, at)

        _each(f, 0, count, _width("i64"), one)


def _uniform(f: Function, type_: str) -> None:
    """unit * scale + low, or ``low`` where that is ``top``."""
    scale, low, top = [_arg(f, name, type_) for name in ("scale", "low", "top")]
    with _chunks(f, _words_of(type_), False) as (_, count, place):
        def one(i: str, lanes: int) -> None:
            x = fma(unit(f, type_, place, i, lanes), scale, low)
            store(where(x.eq(top), low, x), f.at(place, i, type_))

        _each(f, 0, count, _width(type_), one)


def _integers(f: Function, words: int) -> None:
    """Bits modulo ``span``, plus ``low``, as 64-bit integers."""
    span, low = _arg(f, "span", "i64"), _arg(f, "low", "i64")
    divisor = span.convert("uitofp", "double")
    with _chunks(f, words, words == 1) as (begin, count, place):
        def one(i: str, lanes: int) -> None:
            if words == 2:
                bits = _wide_bits(f, place, i, lanes).urem(span)
            else:  # a quotient of numbers of less than 32 bits is never rounded up to a whole number
                bits = load(f, f.at(place, i, "i32"), "i32", lanes).convert("zext", "i64")
                times = (bits.convert("sitofp", "double") / divisor).convert("fptosi", "i64")
                bits = bits - times * span
            store(bits + low, f.at("%out", f.add(begin, i), "i64"))

        _each(f, 0, count, _width("i64") if words == 1 else 1, one)


def _trials(f: Function, type_: str, each: bool, out: str = "i8") -> None:
    """1 where a number in [0, 1) is below ``%p``, or below each of the numbers at ``%p``, else 0. Returns 1, and nothing is drawn, if
    one of those is not in [0, 1]."""
    if each:
        wrong = f.slot("i1", "false")

        def look(i: str, lanes: int) -> None:
            p = load(f, f.at("%p", i, type_), type_, lanes)
            outside = ~(p.ge(0.0) & p.le(1.0))
            if lanes:
                f.module.declare(f"i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)")
                outside = V(f, f.let(f"call i1 @llvm.vector.reduce.or.v{lanes}i1({outside!r})"), "i1")
            f.set(wrong, (outside | V(f, f.get(wrong, "i1"), "i1")).name, "i1")

        _each(f, 0, "%n", _width(type_), look)
        _refuse(f, f.let(f"zext i1 {f.get(wrong, 'i1')} to i64"))
    with _chunks(f, _words_of(type_), True) as (begin, count, place):
        def one(i: str, lanes: int) -> None:
            at = f.add(begin, i)
            p = load(f, f.at("%p", at, type_), type_, lanes) if each else _arg(f, "p", type_)
            below = unit(f, type_, place, i, lanes).lt(p)
            store(below.convert("zext" if out == "i8" else "uitofp", out), f.at("%out", at, out))

        _each(f, 0, count, _width(type_), one)


def _refuse(f: Function, verdict: str) -> None:
    """Return the verdict if it is not 0."""
    with f.when(f.compare("ne", verdict, 0)):
        f.do(f"ret i64 {verdict}")
        f.label(f.name())


# -- through the C library ------------------------------------------------------------------------------------------


def library(name: str, x: V) -> V:
    x.f.module.declare(f"double @{name}(double)")
    return V(x.f, x.f.let(f"call double @{name}({x!r})"), "double")


def _narrowed(x: V, type_: str) -> V:
    return x if type_ == "double" else x.convert("fptrunc", type_)


def _exponential(f: Function, type_: str) -> None:
    """log(1 - unit) * factor, where ``factor`` is negative."""
    factor = _arg(f, "factor", "double")
    with _chunks(f, 2, type_ == "float") as (begin, count, place), f.loop(0, count) as i:
        x = library("log1p", -unit(f, "double", place, i, 0)) * factor
        store(_narrowed(x, type_), f.at("%out", f.add(begin, i), type_))


def _mapped(name: str, f: Function) -> None:
    """A function of each of the doubles there; the state is not touched."""
    with f.loop(0, "%n") as i:
        at = f.at("%out", i, "double")
        store(library(name, load(f, at, "double")), at)


def _scaled(f: Function) -> None:
    """x * scale + low of each of the doubles there."""
    with f.loop(0, "%n") as i:
        at = f.at("%out", i, "double")
        store(fma(load(f, at, "double"), _arg(f, "scale", "double"), _arg(f, "low", "double")), at)


def next_normal(f: Function, pair: str) -> V:
    """A standard normal by the polar form of Box-Muller, which makes two; the second waits in the state. ``pair``: room for four words."""
    has, kept = _field(f, HAS_NORMAL), _field(f, NORMAL)
    known = f.load(has)
    with f.when(f.compare("eq", known, 0)):
        f.do(f"call void @words(ptr %state, ptr {pair}, i64 4)")
        radius = (library("log1p", -unit(f, "double", pair, "1", 0)) * -2.0).sqrt()
        angle = unit(f, "double", pair, "0", 0) * (2 * math.pi)
        store(radius * library("sin", angle), kept)
        store(radius * library("cos", angle), f.at(pair, 0))
    with f.when(f.compare("ne", known, 0)):
        store(load(f, kept, "double"), f.at(pair, 0))
    f.do(f"store i64 {f.let(f'xor i64 {known}, 1')}, ptr {has}")
    return load(f, pair, "double")


def _pairs(f: Function, type_: str) -> None:
    mean, std = _arg(f, "mean", "double"), _arg(f, "std", "double")
    pair = f.slot("[4 x i32]", align=16)
    with f.loop(0, "%n") as i:
        x = fma(next_normal(f, pair), std, mean)
        store(_narrowed(x, type_), f.at("%out", i, type_))


def _normals(f: Function, type_: str) -> None:
    """Sixteen normals or more, in blocks: eight radii by eight angles. The last sixteen places are drawn anew where the blocks do not
    fill the memory; ``%dropped``: how many numbers are drawn for what is left before that."""
    mean, std = _arg(f, "mean", type_), _arg(f, "std", type_)
    block, words = (block32, 1) if type_ == "float" else (block64, 2)
    whole = f.sub("%n", f.rem("%n", 16))

    def drawn(place: str, count: str | int) -> None:
        f.do(f"call void @words(ptr %state, ptr {place}, i64 {f.mul(str(count), words)})")

    def transformed(place: str, count: str | int) -> None:
        def one(i: str, lanes: int) -> None:
            at = f.at(place, i, type_)
            store(unit(f, type_, at, "0", lanes or 16), at)

        _each(f, 0, f.add("0", count), 16, one)
        pairs = f.sub(str(count), f.rem(str(count), 32))
        with f.loop(0, pairs, 32) as i:
            block(f, f.at(place, i, type_), mean, std, 2)
        with f.loop(pairs, str(count), 16) as i:
            block(f, f.at(place, i, type_), mean, std, 1)

    with f.loop(0, whole, _CHUNK) as begin:
        count = f.minimum(f.sub(whole, begin), _CHUNK)
        place = f.at("%out", begin, type_)
        drawn(place, count)
        transformed(place, count)
    with f.when(f.compare("sgt", f.sub("%n", whole), 0)):
        last = f.at("%out", f.sub("%n", 16), type_)
        spare = f.slot(f"[{16 * words} x i32]", align=64)
        drawn(spare, "%dropped")
        drawn(last, 16)
        transformed(last, 16)


def _shuffle(f: Function, words: int) -> None:
    """0 ... n - 1 shuffled: each place changes with a later one, or with itself."""
    with f.loop(0, "%n") as i:
        f.do(f"store i64 {i}, ptr {f.at('%out', i)}")
    with _chunks(f, words, True, f.sub("%n", 1)) as (begin, count, place), f.loop(0, count) as k:
        i = f.add(begin, k)
        if words == 2:
            bits = _wide_bits(f, place, k, 0)
        else:
            bits = load(f, f.at(place, k, "i32"), "i32").convert("zext", "i64")
        here = f.at("%out", i)
        there = f.at(here, bits.urem(V(f, f.sub("%n", i), "i64")).name)
        one, other = f.load(here), f.load(there)
        f.do(f"store i64 {other}, ptr {here}")
        f.do(f"store i64 {one}, ptr {there}")


def _race(f: Function, type_: str) -> None:
    """One draw for each of ``n`` rows of ``%size`` weights at ``%weights``: the number with the largest weight / exponential. Returns 2,
    and nothing is drawn, if a weight is negative, infinite or NaN; else 1 if those of a row are all zero."""
    zero, infinite = const(f, type_, 0, 0.0), const(f, type_, 0, math.inf)
    verdict = f.slot("i64", "0")

    def weight(row: str, i: str) -> V:
        return load(f, f.at("%weights", f.add(f.mul(row, "%size"), i), type_), type_)

    with f.loop(0, "%n") as row:
        empty = f.slot("i64", "1")
        with f.loop(0, "%size") as i:
            w = weight(row, i)
            with f.when((~(w.ge(zero) & w.lt(infinite))).name):
                f.set(verdict, "2")
            with f.when(w.ne(zero).name):
                f.set(empty, "0")
        f.set(verdict, f.let(f"or i64 {f.get(verdict)}, {f.get(empty)}"))
    _refuse(f, f.get(verdict))
    with f.loop(0, "%n") as row:
        best, first = f.slot(type_, const(f, type_, 0, -1.0).name), f.slot("i64", "0")
        with _chunks(f, 2, True, "%size") as (begin, count, place), f.loop(0, count) as k:
            i = f.add(begin, k)
            clock = -library("log1p", -unit(f, "double", place, k, 0))
            at = weight(row, i) / _narrowed(clock, type_)
            with f.when(at.gt(V(f, f.get(best, type_), type_)).name):  # 0 / 0 is never the largest
                f.set(best, at.name, type_)
                f.set(first, i)
        f.do(f"store i64 {f.get(first)}, ptr {f.at('%out', row)}")


#: name -> (further parameters, what writes its body)
FUNCTIONS: dict[str, tuple[str, Callable[[Function], None]]] = {
    "seed": ("", _seed),
    "raw": ("", _raw),
    "raw_wide": ("", _raw_wide),
    "seeds": ("", _seeds),
    "integers": ("i64 %span, i64 %low", lambda f: _integers(f, 1)),
    "integers_wide": ("i64 %span, i64 %low", lambda f: _integers(f, 2)),
    "trials": ("double %p", lambda f: _trials(f, "double", False)),
    "shuffle": ("", lambda f: _shuffle(f, 1)),
    "shuffle_wide": ("", lambda f: _shuffle(f, 2)),
    "map_fma": ("double %scale, double %low", _scaled),
    **{f"map_{name}": ("", functools.partial(_mapped, name)) for name in ("exp", "log", "tan")},
}
for _type, _suffix in (("float", "32"), ("double", "64")):
    def _typed(write: Callable[..., None], *more: object, type_: str = _type) -> Callable[[Function], None]:
        return lambda f: write(f, type_, *more)

    FUNCTIONS.update({
        f"uniform{_suffix}": (f"{_type} %scale, {_type} %low, {_type} %top", _typed(_uniform)),
        f"normals{_suffix}": (f"{_type} %mean, {_type} %std, i64 %dropped", _typed(_normals)),
        f"pairs{_suffix}": ("double %mean, double %std", _typed(_pairs)),
        f"exponential{_suffix}": ("double %factor", _typed(_exponential)),
        f"trials_each{_suffix}": ("ptr %p", _typed(_trials, True)),
        f"bernoulli{_suffix}": ("ptr %p", _typed(_trials, True, _type)),
        f"race{_suffix}": ("ptr %weights, i64 %size", _typed(_race)),
    })  # fmt: skip


def source(name: str, more: str, write: Callable[[Function], None]) -> str:
    """The module that defines ``@rl_random_<name>``, with further parameters ``more``, whose body is written by ``write``."""
    module = Module()
    f = Function(f"i64 @rl_random_{name}(ptr %state, ptr %out, i64 %n{', ' if more else ''}{more})", module)
    write(f)
    module.functions += [_twist(module), _words(module), f.finish("i64 0")]
    return module.text()
