"""Attention on the tile unit (AMX): the kernels of ``attention_ir.py`` with products of squares (``attention_squares.py``).

Scores, softmax and sums are tiles of float32, as on vectors, and what is multiplied is taken apart first. Keys and values are, once for
each head, as left operands: row by row for scores, and turned for what is summed over keys. A part does that for its own head, on its
stack, if that fits into the second-level cache and there are heads enough; else the step "apart" does it for all heads. Queries and
their gradients are taken apart block by block; weights, and the gradients of scores, in the registers where they are computed.

Gradients of k and v are added up beside that, in whole squares, and copied to where they belong.
"""

from __future__ import annotations

from collections.abc import Callable

from rushlight.compile.attention import MAX_HEAD
from rushlight.compile.cpu import tile_unit
from rushlight.compile.cpu.attention_ir import SQUARES, Backward, Forward
from rushlight.compile.cpu.attention_keys import ByKeys
from rushlight.compile.cpu.attention_squares import DEEP, SIDE, SquareTiles
from rushlight.compile.cpu.attention_writer import Writer
from rushlight.compile.cpu.values import V, splat, where

__all__ = ["UNIT_WRITERS"]


class _Unit(Writer):
    """What both directions share."""

    tiles: SquareTiles
    turned_squares: dict[str, str]  # of tiles with a block's queries in their columns
    pairs: str                      # the present tile as a right operand
    turn_mask = "turn_tile"
    reads_keys = False

    def begin(self) -> None:
        super().begin()
        tile_unit.configure(self.f)
        self.local = self.f.let(f"alloca i8, i64 {self.frame['local']}, align 64")

    def end(self) -> None:
        tile_unit.release(self.f)

    @property
    def scales_late(self) -> bool:  # type: ignore[override]
        """Queries of bfloat16 are multiplied as they are."""
        return self.tiles.parts == 1

    # -- memory ------------------------------------------------------------------------------------------------------
    @property
    def is_local(self) -> str:
        return self.f.compare("sgt", self.frame["local"], 0)

    def here(self, name: str, elsewhere: str) -> str:
        """Where something of the part's head begins: on the stack, or elsewhere."""
        local = self.f.at(self.local, self.frame[f"{name}_at"], "i8")
        return self.f.let(f"select i1 {self.is_local}, ptr {local}, ptr {elsewhere}")

    def head(self, b: str, g: str) -> None:
        f, frame = self.f, self.frame
        number = f.add(f.mul(b, f.div(frame["heads"], frame["group"])), g)
        self.heads = {x: self.here(x, self.place(x, n=number)) for x in self.kernel.operands if x in SQUARES}
        with f.when(self.is_local):
            for x, target in self.heads.items():
                take_apart(self, x, target, self.place(x[-1], b=b, g=g), frame["source"], frame[f"{_SIZES[x[-1]]}"])

    def squares_of(self, name: str, key: str) -> str:
        return self.f.at(self.heads[name], self.f.mul(key, self.frame[f"{name}_s"]), "i8")

    def squares(self, deep: int, columns: int) -> str:
        """Memory for an operand: so many positions of the sum by so many rows or columns."""
        return self.f.slot(f"[{-(-deep // DEEP) * -(-columns // SIDE) * self.tiles.square} x i8]", align=64)

    # -- numbers of squares ------------------------------------------------------------------------------------------
    def steps(self, positions: str) -> str:
        return self.f.div(self.f.add(positions, DEEP - 1), DEEP)

    def sides(self, rows: str) -> str:
        return self.f.div(self.f.add(rows, SIDE - 1), SIDE)

    @property
    def columns(self) -> str:
        """Squares across the present block's queries."""
        return self.f.let(f"select i1 {self.slim}, i64 1, i64 2")

    # -- products ----------------------------------------------------------------------------------------------------
    def times(self, c: str, c_row: str | int, a: tuple[str, str | int, int], b: tuple[str, int, int], k: str, rows: str, columns: str,
              accumulate: str) -> None:  # fmt: skip
        """a: where it is, the bytes from one square to the next along its rows and along the sum; b: along its columns and the sum."""
        self.f.do(f"call void @tile_product(ptr {c}, i64 {c_row}, ptr {a[0]}, i64 {a[1]}, i64 {a[2]}, ptr {b[0]}, i64 {b[1]}, i64 {b[2]}, "
                  f"i64 {k}, i64 {rows}, i64 {columns}, i64 {accumulate})")  # fmt: skip

    def turned(self, tile: str, name: str, rows: str, size: str, factor: str, **at: str) -> None:
        self.turn_in(tile, name, rows, self.frame[size], self.one if self.scales_late else factor, **at)
        self.f.do(f"call void @tile_pairs(ptr {self.turned_squares[tile]}, ptr {tile}, i64 {self.row}, i64 {self.frame[size]}, "
                  f"i64 {self.tiles.width})")  # fmt: skip

    def scored(self, tile: str, name: str, turned: str, size: str, count: str, **at: str) -> None:
        f, square = self.f, self.tiles.square
        place, k, b = self.squares_of(f"lines_{name}", at["s"]), self.steps(self.frame[size]), self.turned_squares[turned]
        row = f.mul(k, square)
        seen = self.seen[0] if self.seen else count
        self.times(tile, self.row, (place, row, square), (b, square, 2 * square), k, self.sides(seen), self.columns, "0")
        if self.seen:
            rest = f.sub(count, seen)
            with f.when(f.compare("sgt", rest, 0)):  # then the block has queries for two vectors, and what it sees are whole squares
                place, b, into = f.at(place, f.mul(f.div(seen, SIDE), row), "i8"), f.at(b, square, "i8"), self.row_of(tile, seen)
                self.times(f.at(into, self.vector_size, "i8"), self.row, (place, row, square), (b, square, 2 * square), k,
                           self.sides(rest), "1", "0")  # fmt: skip

    def score(self, at: str) -> V:
        score = self.load(at)
        return score * splat(V(self.f, self.number(self.frame["scale"]), self.scalar), self.tiles.width) if self.scales_late else score

    def summed(self, total: str, name: str, tile: str, count: str, size: str, again: str, **at: str) -> None:
        f, square = self.f, self.tiles.square
        row = f.mul(self.steps(self.frame["source"]), square)
        self.times(total, self.row, (self.squares_of(f"turned_{name}", at["s"]), row, square), (self.pairs, square, 2 * square),
                   self.steps(count), self.sides(self.frame[size]), self.columns, again)  # fmt: skip

    # -- rows in registers -------------------------------------------------------------------------------------------
    def keep(self, tile: str, r: str, value: V) -> None:
        self.row_kept[tile] = value

    def each_two_keys(self, first: str, last: str, count: str, whole: str, plain: str, body: Callable[[str, V | None, bool], None],
                      done: Callable[[str, list[dict[str, V]]], None], lanes: str, query: str, key: str) -> None:  # fmt: skip
        """``body`` for two keys that are taken apart together, then ``done`` with what they kept, for pairs ``first`` to ``last`` of those
        of a tile of ``count`` keys. ``whole`` keys from the first on are seen by all ``lanes`` queries, of which there are none beyond."""
        f = self.f
        with f.loop(first, last) as pair:
            low = f.add(f.mul(f.div(pair, SIDE), DEEP), f.rem(pair, SIDE))
            rows = (low, f.add(low, SIDE))
            free = f.compare("slt", rows[1], whole)
            ways = [(free, None, False), (f.let(f"xor i1 {free}, true"), lanes, False)]
            if plain:
                looks = f.let(f"xor i1 {plain}, true")
                ways = [(f.let(f"and i1 {here}, {plain}"), there, False) for here, there, _ in ways] + [(looks, lanes, True)]
            for here, there, masked in ways:
                with f.when(here):
                    made = []
                    for r in rows:
                        self.row_kept: dict[str, V] = {}
                        on = None
                        if there:
                            on = self.lanes(f.let(f"select i1 {f.compare('slt', r, count)}, i64 {there}, i64 0"))
                            if self.kernel.causal:
                                on = on & self.visible(f.add(key, r), query)
                        body(r, on, masked)
                        made.append({tile: value if on is None else where(on, value, 0.0) for tile, value in self.row_kept.items()})
                    done(pair, made)

    def seen_by_all(self, rows: str, count: str, query: str, key: str, every: bool) -> str:
        """How many keys from the first on are seen by all queries of a block; where ``every``, by a vector's whole lanes."""
        f = self.f
        free = count
        if self.kernel.causal:
            free = f.minimum(f.add(f.sub(query, key), 1), count)
        return f.let(f"select i1 {f.compare('eq', rows, self.tiles.width)}, i64 {free}, i64 0") if every else free

    def halves(self, value: V) -> list[V]:
        out = []
        for first in (0, SIDE):
            order = ", ".join(f"i32 {i}" for i in range(first, first + SIDE))
            half = self.f.let(f"shufflevector {value!r}, {value.text} poison, <{SIDE} x i32> <{order}>")
            out.append(V(self.f, half, value.type, SIDE))
        return out

    def line(self, memory: str, square: str, pair: str) -> str:
        """A pair's line in one of the squares."""
        f = self.f
        at = f.add(f.mul(square, self.tiles.square), f.mul(f.rem(pair, SIDE), tile_unit.ROW_BYTES))
        return f.at(memory, at, "i8")

    def store_pairs(self, memory: str, pair: str, words: list[list[V]]) -> None:
        """A line of a right operand: of the squares for the first and the second 16 queries."""
        group = self.f.mul(self.f.div(pair, SIDE), 2)
        for i, word in enumerate(words):
            self.tiles.store_parts(self.f, self.line(memory, self.f.add(group, i), pair), word)

    store_lines = store_pairs  # of a left operand: of the squares for the first and the second 16 keys


_SIZES = {"k": "e_size", "v": "v_size"}


def take_apart(writer: Writer, name: str, target: str, source: str, rows: str, columns: str) -> None:
    """Some keys, or values, as the operand ``name``."""
    f, frame = writer.f, writer.frame
    how, x = name.split("_")
    whole = ""
    if how == "turned":
        assert isinstance(writer.tiles, SquareTiles)
        whole = f", i64 {f.mul(f.div(f.add(frame['source'], DEEP - 1), DEEP), writer.tiles.square)}"
    f.do(f"call void @{'turned' if whole else 'row'}_lines(ptr {target}{whole}, ptr {source}, i64 {frame[f'{x}_s']}, i64 {rows}, "
         f"i64 {columns})")  # fmt: skip


class _UnitForward(_Unit, Forward):
    products = ("tile_product", "tile_pairs", "row_lines", "turned_lines", "turn_tile")

    def tiles_made(self) -> None:
        self.turned_squares = {self.queries: self.squares(MAX_HEAD, self.tiles.width)}
        self.pairs = self.squares(self.kernel.tile_rows, self.tiles.width)

    def weigh(self, b: str, h: str, query: str, key: str, count: str) -> None:
        f = self.f

        def done(pair: str, made: list[dict[str, V]]) -> None:
            vectors = [half for row in made for half in self.halves(row[self.scores])]
            self.store_pairs(self.pairs, pair, self.tiles.apart(f, vectors, [(0, 2), (1, 3)]))

        self.each_two_keys("0", f.mul(self.steps(count), SIDE), count, self.seen_by_all("", count, query, key, False), "",
                           lambda r, on, _: self.weighed(b, h, query, f.add(key, r), r, on), done, str(self.tiles.width), query,
                           key)  # fmt: skip


class _UnitBackward(_Unit, Backward):
    products = ("tile_product", "tile_pairs", "row_pairs", "row_lines", "turned_lines", "turn_tile")

    def tiles_made(self) -> None:
        rows, width = self.kernel.tile_rows, self.tiles.width
        self.turned_squares = {tile: self.squares(MAX_HEAD, width) for tile in (self.queries, self.grads)}
        self.row_squares = {tile: self.squares(width, MAX_HEAD) for tile in (self.query_rows, self.grad_rows)}
        self.lines = {tile: self.squares(width, rows) for tile in (self.weights, self.changes)}
        self.pairs = self.squares(rows, width)

    def head(self, b: str, g: str) -> None:
        super().head(b, g)
        self.totals = {name: self.here(name, self.place(name, b=b, g=g)) for name in ("to_k", "to_v")}

    def gradient(self, name: str, b: str, g: str, s: str) -> str:
        return self.f.at(self.totals[name], self.f.add(self.f.mul(s, self.frame[f"{name}_s"]), self.moved[name]), "i8")

    def near(self, buffer: str, place: str, row: str, rows: str, size: str) -> tuple[str, str]:
        target = self.row_squares[buffer]
        self.f.do(f"call void @row_pairs(ptr {target}, ptr {place}, i64 {row}, i64 {rows}, i64 {self.frame[size]})")
        return target, ""

    def derive(self, b: str, h: str, query: str, rows: str, key: str, count: str, plain: str) -> None:
        """All 32 queries are summed over: the weights of those that the block does not have are zero, whatever their scores."""
        f = self.f

        def done(pair: str, made: list[dict[str, V]]) -> None:
            weights, changes = ([half for row in made for half in self.halves(row[x])] for x in (self.weights, self.changes))
            self.store_lines(self.lines[self.weights], pair, self.tiles.apart(f, weights, [(0, 1), (2, 3)]))
            words = self.tiles.apart(f, changes, [(0, 1), (2, 3), (0, 2), (1, 3)])
            self.store_lines(self.lines[self.changes], pair, words[:2])
            self.store_pairs(self.pairs, pair, words[2:])

        self.each_two_keys("0", f.mul(self.steps(count), SIDE), count, self.seen_by_all(rows, count, query, key, True), plain,
                           lambda r, on, masked: self.derived(b, h, query, f.add(key, r), r, on, masked), done, rows, query,
                           key)  # fmt: skip

    def to_keys(self, b: str, g: str, rows: str, key: str, count: str) -> None:
        square = self.tiles.square
        for name, tile, size, source in (("to_v", self.weights, "v_size", "grad"), ("to_k", self.changes, "e_size", "q")):
            self.times(self.gradient(name, b, g, key), self.frame[f"{name}_s"], (self.lines[tile], square, 0),
                       (self.sources[source][0], square, 0), "1", self.sides(count), self.sides(self.frame[size]), "1")  # fmt: skip


class _Apart(ByKeys):
    """Keys and values as left operands. A part begins at a whole number of squares."""

    def part(self, part: str) -> None:
        f, frame = self.f, self.frame
        self.define("row_lines", "turned_lines")
        b, g, head, first, last = self.place_of(part)
        for name in SQUARES:
            with f.when(f.compare("sgt", frame[f"{name}_columns"], 0)):
                take_apart(self, name, self.place(name, n=head, s=first), self.place(name[-1], b=b, g=g, s=first), f.sub(last, first),
                           frame[f"{name}_columns"])  # fmt: skip


UNIT_WRITERS: dict[str, type[Writer]] = {"forward": _UnitForward, "backward": _UnitBackward, "apart": _Apart}
