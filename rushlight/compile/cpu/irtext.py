"""Writing LLVM IR text without phi nodes by hand: values are numbered, counters and variables live in stack slots.

LLVM's first pass turns the slots into registers, so the text can read like the loops that it means::

    f = Function("void @twice(ptr %x, i64 %n)")
    with f.loop("0", "%n") as i:
        at = f.let(f"getelementptr float, ptr %x, i64 {i}")
        value = f.let(f"load float, ptr {at}")
        f.do(f"store float {f.let(f'fadd float {value}, {value}')}, ptr {at}")
    text = f.finish()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["Function", "Module"]


class Module:
    """The parts of a module that functions share: declarations, each written once."""

    def __init__(self) -> None:
        self.declarations: dict[str, None] = {}
        self.functions: list[str] = []
        self.numbered: dict[str, None] = {}  # metadata

    def declare(self, text: str) -> None:
        self.declarations[f"declare {text}"] = None

    def metadata(self, text: str) -> None:
        self.numbered[text] = None

    def text(self) -> str:
        return "\n".join([*self.declarations, *self.functions, *self.numbered]) + "\n"


class Function:
    """One function being written: ``let`` gives the result of an instruction a name, ``do`` has none."""

    def __init__(self, header: str, module: Module | None = None) -> None:
        self.header = header
        self.module = module if module is not None else Module()
        self.slots: list[str] = []
        self.lines: list[str] = []
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def let(self, instruction: str) -> str:
        value = f"%{self.name()}"
        self.lines.append(f"  {value} = {instruction}")
        return value

    def do(self, instruction: str) -> None:
        self.lines.append(f"  {instruction}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def slot(self, type_: str, initial: str | None = None, align: int = 0) -> str:
        """A stack slot, made once at the function's entry; ``initial`` is stored here and now."""
        value = f"%{self.name()}"
        self.slots.append(f"  {value} = alloca {type_}" + (f", align {align}" if align else ""))
        if initial is not None:
            self.do(f"store {type_} {initial}, ptr {value}")
        return value

    def get(self, slot: str, type_: str = "i64") -> str:
        return self.let(f"load {type_}, ptr {slot}")

    def set(self, slot: str, value: str, type_: str = "i64") -> None:
        self.do(f"store {type_} {value}, ptr {slot}")

    # Arithmetic on i64, the only scalar type of addressing.
    def add(self, a: str, b: str | int) -> str:
        return a if b == 0 or b == "0" else self.let(f"add i64 {a}, {b}")

    def sub(self, a: str, b: str | int) -> str:
        return self.let(f"sub i64 {a}, {b}")

    def mul(self, a: str, b: str | int) -> str:
        return self.let(f"mul i64 {a}, {b}")

    def div(self, a: str, b: str | int) -> str:
        return self.let(f"udiv i64 {a}, {b}")

    def rem(self, a: str, b: str | int) -> str:
        return self.let(f"urem i64 {a}, {b}")

    def minimum(self, a: str, b: str | int) -> str:
        return self.let(f"select i1 {self.let(f'icmp slt i64 {a}, {b}')}, i64 {a}, i64 {b}")

    def maximum(self, a: str, b: str | int) -> str:
        return self.let(f"select i1 {self.let(f'icmp sgt i64 {a}, {b}')}, i64 {a}, i64 {b}")

    def at(self, pointer: str, index: str | int, type_: str = "i64") -> str:
        """The address of element ``index`` (of ``type_``; ``i8`` for bytes)."""
        return self.let(f"getelementptr {type_}, ptr {pointer}, i64 {index}")

    def load(self, pointer: str, index: str | int = 0, type_: str = "i64") -> str:
        return self.let(f"load {type_}, ptr {self.at(pointer, index, type_)}")

    @contextmanager
    def loop(self, begin: str | int, end: str, step: str | int = 1) -> Iterator[str]:
        """``for i in range(begin, end, step)``; gives i."""
        counter = self.slot("i64", str(begin))
        name = self.name()
        self.do(f"br label %{name}.test")
        self.label(f"{name}.test")
        i = self.get(counter)
        self.do(f"br i1 {self.let(f'icmp slt i64 {i}, {end}')}, label %{name}.body, label %{name}.end")
        self.label(f"{name}.body")
        yield i
        self.set(counter, self.add(i, step))
        self.do(f"br label %{name}.test")
        self.label(f"{name}.end")

    @contextmanager
    def loop_while(self, slot: str, compare: str, bound: str) -> Iterator[str]:
        """``while slot <compare> bound``: the body moves the slot on; gives its value at the start of the body."""
        name = self.name()
        self.do(f"br label %{name}.test")
        self.label(f"{name}.test")
        value = self.get(slot)
        self.do(f"br i1 {self.let(f'icmp {compare} i64 {value}, {bound}')}, label %{name}.body, label %{name}.end")
        self.label(f"{name}.body")
        yield value
        self.do(f"br label %{name}.test")
        self.label(f"{name}.end")

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        name = self.name()
        self.do(f"br i1 {condition}, label %{name}.then, label %{name}.end")
        self.label(f"{name}.then")
        yield
        self.do(f"br label %{name}.end")
        self.label(f"{name}.end")

    def cases(self, value: str, numbers: Sequence[int]) -> Iterator[int]:
        """``for n in f.cases(value, numbers)``: code for each number that ``value`` may be; for others, nothing is done."""
        name = self.name()
        self.do(f"switch i64 {value}, label %{name}.end [ {' '.join(f'i64 {n}, label %{name}.{n}' for n in numbers)} ]")
        for n in numbers:
            self.label(f"{name}.{n}")
            yield n
            self.do(f"br label %{name}.end")
        self.label(f"{name}.end")

    def compare(self, how: str, a: str, b: str | int) -> str:
        return self.let(f"icmp {how} i64 {a}, {b}")

    def finish(self, result: str = "void") -> str:
        """The function's text; it returns ``result`` (``"i64 %x"``)."""
        return "\n".join([f"define {self.header} {{", "entry:", *self.slots, *self.lines, f"  ret {result}", "}", ""])
