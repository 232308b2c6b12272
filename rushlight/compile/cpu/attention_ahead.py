"""Rows that attention's kernels will read or write soon are asked for while products are made: memory takes its time.

Heads lie far apart in memory, and each is read in blocks, so the processor does not see what comes next. Before each tile of keys a
share of that is put into a queue, from which the tile's products take some lines at a time: the rows of the block that comes next, of this
part or of the next one that the thread has; the keys that it reads first; and, where a head ends, the gradients of the next head's keys and
values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rushlight.compile.cpu.irtext import Function, Module

if TYPE_CHECKING:
    from rushlight.compile.cpu.attention_writer import Writer

__all__ = ["Block", "Coming", "Queue", "ask_ahead", "ask_first", "define", "what_comes"]

_KEYS = (("k", "e_size"), ("v", "v_size"))
_LINE = 64
_ENTRY = 16  # bytes
#: Rows of a queue: of six operands, and then some.
_ENTRIES = 384


class Block(NamedTuple):
    """Batch, query head, key head, first query."""

    b: str
    h: str
    g: str
    query: str


class Coming(NamedTuple):
    """The present block and the next one, which begins beyond the last query where there is none. Whether (i1) the present one is the
    first of its head, and whether the next one is that of another head of keys."""

    present: Block
    next: Block
    opens: str
    closes: str


class Queue:
    """Rows that have not been asked for yet, on a thread's stack: the addresses of the next entry and of one past the last, then entries of
    an address and a number of lines, negative where they will be written.

    A cache waits for some sixteen lines at a time: asked for all at once, the rows of a tile keep the products waiting until most of
    them have come. So a product takes a few lines from the queue before each of its groups of rows (``ask_some``)."""

    def __init__(self, f: Function) -> None:
        self.place = f.slot(f"[{2 + 2 * _ENTRIES} x i64]", align=_LINE)
        self.entries = f.at(self.place, 2)
        for k in range(2):
            f.set(f.at(self.place, k), self.entries, "ptr")

    def empty(self, f: Function) -> None:
        """Asks for what is left."""
        f.do(f"call void @ask_some(ptr {self.place}, i64 {1 << 30})")
        for k in range(2):
            f.set(f.at(self.place, k), self.entries, "ptr")


def define(module: Module) -> None:
    """``ask`` and ``ask_to_write`` put rows into a queue, as far as there is room, ``ask_some`` asks for ``lines`` of them, or as many as
    there are."""
    for name, written in (("ask", False), ("ask_to_write", True)):
        f = Function(f"internal void @{name}(ptr %queue, ptr %memory, i64 %row, i64 %rows, i64 %bytes) noinline nounwind", module)
        last, lines = f.load("%queue", 1, "ptr"), _quotient(f, "%bytes", _LINE)
        room = f.let(f"ptrtoint ptr {f.at('%queue', 2 + 2 * _ENTRIES)} to i64")
        room = f.div(f.sub(room, f.let(f"ptrtoint ptr {last} to i64")), _ENTRY)
        many = f.maximum(f.minimum("%rows", room), "0")
        with f.loop(0, many) as r:
            entry = f.at(last, f.mul(r, _ENTRY), "i8")
            f.set(entry, f.at("%memory", f.mul(r, "%row"), "i8"), "ptr")
            f.set(f.at(entry, 1), f.sub("0", lines) if written else lines)
        f.set(f.at("%queue", 1), f.at(last, f.mul(many, _ENTRY), "i8"), "ptr")
        module.functions.append(f.finish())

    f = Function("internal void @ask_some(ptr %queue, i64 %lines) noinline nounwind", module)
    module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    end, place = (f.let(f"ptrtoint ptr {f.load('%queue', k, 'ptr')} to i64") for k in (1, 0))
    left, here = f.slot("i64", "%lines"), f.slot("i64", place)
    with f.loop_while(left, "sgt", "0") as most:
        entry = f.let(f"inttoptr i64 {f.get(here)} to ptr")
        there = f.compare("ult", f.get(here), end)
        f.set(left, "0")
        with f.when(there):
            memory, lines = f.load(entry, 0, "ptr"), f.load(entry, 1)
            count = f.maximum(lines, f.sub("0", lines))
            for writes, how in ((0, "sgt"), (1, "slt")):
                with f.when(f.compare(how, lines, 0)), f.loop(0, count) as line:
                    at = f.at(memory, f.mul(line, _LINE), "i8")
                    f.do(f"call void @llvm.prefetch.p0(ptr {at}, i32 {writes}, i32 2, i32 1)")
            f.set(left, f.sub(most, count))
            f.set(here, f.add(f.get(here), _ENTRY))
    f.set("%queue", f.let(f"inttoptr i64 {f.get(here)} to ptr"), "ptr")
    module.functions.append(f.finish())


def what_comes(w: Writer, present: Block, same: Block, opens: str, closes: str, after: str, other: Block) -> Coming:
    """After ``present``: ``same``, a block of the same part, or where it closes that, ``other``, the first one of the part ``after`` it, if
    the thread has that."""
    f = w.f
    there = f.compare("slt", after, "%end")
    last = f.let(f"select i1 {there}, i64 {other.query}, i64 {w.frame['length']}")
    next_ = [f.let(f"select i1 {closes}, i64 {a}, i64 {b}") for a, b in zip((*other[:3], last), same, strict=True)]
    fresh = f.let(f"or i1 {f.compare('ne', other.b, present.b)}, {f.compare('ne', other.g, present.g)}")
    return Coming(present, Block(*next_), opens, f.let(f"and i1 {f.let(f'and i1 {closes}, {there}')}, {fresh}"))


def ask_first(w: Writer, b: str, g: str) -> None:
    """For the first keys of a kernel's first part."""
    if w.reads_keys:
        _ask_keys(w, b, g, "0", w.frame["source"], str(w.tiles.width if w.kernel.causal else w.kernel.tile_rows))


def ask_ahead(w: Writer, coming: Coming, key: str, keys: str, reads: tuple[tuple[str, str], ...], writes: str, totals: bool) -> None:
    """Before the tile from ``key`` on, of a block that sees so many ``keys``. ``reads``: operands with a row for each query, ``writes``:
    one that the block writes; ``totals``: whether there are gradients of keys and values."""
    f, frame, tall, width = w.f, w.frame, w.kernel.tile_rows, w.tiles.width
    w.asked.empty(f)
    tiles, tile = _quotient(f, keys, tall), f.div(key, tall)
    share = _quotient(f, str(width), tiles)
    first = f.mul(tile, share)
    present, next_ = coming.present, coming.next
    if writes:
        begin = f.add(present.query, first)
        rows = f.minimum(share, f.sub(f.minimum(frame["length"], f.add(present.query, width)), begin))
        _ask(w, writes, "e_size", rows, "ask_to_write", b=present.b, h=present.h, l=begin)
    begin, end = f.add(next_.query, first), f.add(next_.query, width)
    rows = f.minimum(share, f.sub(f.minimum(frame["length"], end), begin))
    for name, size in reads:
        _ask(w, name, size, rows, b=next_.b, h=next_.h, l=begin)
    if w.reads_keys and w.kernel.causal:  # those that the next block sees and none before it
        _ask_keys(w, next_.b, next_.g, begin, f.minimum(frame["source"], end), share)
    elif w.reads_keys:
        with f.when(coming.opens):
            _ask_keys(w, present.b, present.g, f.add(key, tall), frame["source"], str(tall))
        with f.when(coming.closes):
            share = _quotient(f, str(tall), tiles)
            _ask_keys(w, next_.b, next_.g, f.mul(tile, share), f.minimum(frame["source"], str(tall)), share)
    if totals:
        with f.when(f.let(f"and i1 {coming.closes}, {f.compare('eq', frame['chunk'], 1)}")):  # pieces have gradients of their own
            share = _quotient(f, frame["source"], tiles)
            begin = f.mul(tile, share)
            for name, size in (("to_k", "e_size"), ("to_v", "v_size")):
                rows = f.minimum(share, f.sub(frame["source"], begin))
                _ask(w, name, size, rows, "ask_to_write", b=next_.b, g=next_.g, s=begin)
    if w.kernel.unit:  # its products take nothing from the queue
        w.asked.empty(f)


def _ask(w: Writer, name: str, size: str, rows: str, how: str = "ask", **at: str) -> None:
    f, step = w.f, w.frame[f"{name}_{'s' if 's' in at else 'l'}"]
    f.do(f"call void @{how}(ptr {w.asked.place}, ptr {w.place(name, **at)}, i64 {step}, i64 {rows}, "
         f"i64 {f.mul(w.frame[size], w.tiles.item)})")  # fmt: skip


def _ask_keys(w: Writer, b: str, g: str, first: str, end: str, most: str) -> None:
    rows = w.f.minimum(w.f.sub(end, first), most)
    for name, size in _KEYS:
        _ask(w, name, size, rows, b=b, g=g, s=first)


def _quotient(f: Function, a: str, b: str | int) -> str:
    """a / b, rounded up."""
    return f.div(f.add(a, f.sub(str(b), 1)), b)
