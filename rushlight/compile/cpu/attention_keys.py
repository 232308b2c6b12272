"""Attention's kernels whose parts are some keys of one head: rows put side by side, and the sum of gradients in pieces."""

from __future__ import annotations

from rushlight.compile.cpu.attention_writer import Writer
from rushlight.compile.cpu.microkernel import ir_type, mask

__all__ = ["Add", "ByKeys", "Gather"]


class ByKeys(Writer):
    """A part is a number of keys (``chunk``) of one key head."""

    def place_of(self, part: str) -> tuple[str, str, str, str, str]:
        """Batch, key head, these two as one number, the first key, one past the last."""
        f, frame = self.f, self.frame
        chunks = f.div(f.add(frame["source"], f.sub(frame["chunk"], 1)), frame["chunk"])
        head, chunk = f.div(part, chunks), f.rem(part, chunks)
        groups = f.div(frame["heads"], frame["group"])
        b, g = f.div(head, groups), f.rem(head, groups)
        first = f.mul(chunk, frame["chunk"])
        return b, g, head, first, f.minimum(f.add(first, frame["chunk"]), frame["source"])


class Gather(ByKeys):
    def part(self, part: str) -> None:
        f, frame = self.f, self.frame
        self.define("copy_rows")
        b, g, head, first, last = self.place_of(part)
        for x, size in (("k", "e_size"), ("v", "v_size")):
            target, source = self.place(f"near_{x}", n=head, s=first), self.place(x, b=b, g=g, s=first)
            f.do(f"call void @copy_rows(ptr {target}, i64 {frame[f'near_{x}_s']}, ptr {source}, i64 {frame[f'{x}_s']}, "
                 f"i64 {f.sub(last, first)}, i64 {frame[size]})")  # fmt: skip


class Add(ByKeys):
    def part(self, part: str) -> None:
        f, frame = self.f, self.frame
        b, g, head, first, last = self.place_of(part)
        with f.loop(first, last) as s:
            for name, size in (("k", "e_size"), ("v", "v_size")):
                source, target = self.place(f"parts_{name}", n=head, s=s), self.place(f"to_{name}", b=b, g=g, s=s)
                self.sum(source, target, frame[size], frame[f"{name}_split"])

    def sum(self, source: str, target: str, columns: str, step: str) -> None:
        f, lanes, item = self.f, self.tiles.lanes, self.dtype.itemsize
        vector = ir_type(self.dtype, lanes)
        total = f.slot(vector)
        with f.loop(0, columns, lanes) as e:
            on = mask(f, f.sub(columns, e), lanes)
            f.set(total, "zeroinitializer", vector)
            with f.loop(0, self.frame["blocks"]) as split:
                at = f.at(source, f.add(f.mul(split, step), f.mul(e, item)), "i8")
                f.set(total, f.let(f"fadd {vector} {f.get(total, vector)}, {self.tiles.load(f, at, on)}"), vector)
            self.tiles.put(f, target, e, f.get(total, vector), on)
