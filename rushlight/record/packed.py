"""Packed forms of weights, kept from one run of a program to the next.

A kernel that multiplies by a weight reads it in an order of its own (packed into panels, turned, transformed for Winograd's
algorithm). An inference would make the same form again in each call, which can take longer than the products. So the form
stays with the memory that it was made from, ``Buffer.packed``, under a key that names it, for any program that needs it.

* What writes into the memory forgets its forms: a program whose result lies there (``record/flush.py``), an array that is
  handed out (``compile/cpu/alloc.py::Block``). Nothing is kept while such an array is alive.
* They go when the memory goes, and all together never take more than ``settings.packed_bytes``.
* A program keeps forms from its first run on. Where one was forgotten before it was used again (weights that are trained
  between two runs), the program waits until it meets the same content twice.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .settings import settings
from .value import Value, allocate, is_exported

if TYPE_CHECKING:
    from ..compile.program import Program

__all__ = ["PackedLeaves", "counters"]


class Counters:
    """``made``: how often a leaf was packed; ``reused``: how often a kept form saved that; ``bytes`` of all kept forms."""

    def __init__(self) -> None:
        self.made = self.reused = self.bytes = 0


counters = Counters()


class _Form:
    """Memory with a packed form."""

    __slots__ = ("block",)

    def __init__(self, nbytes: int) -> None:
        self.block = allocate(nbytes)
        counters.bytes += nbytes

    def __del__(self, counters: Counters = counters) -> None:
        counters.bytes -= self.block.nbytes


class PackedLeaves:
    """The packed forms that a program makes of its leaves."""

    __slots__ = ("program", "slots", "kept")

    def __init__(self, program: Program, leaves: tuple[int, ...]) -> None:
        self.program = program
        self.slots = [leaves[p.leaf] for p in program.packed]
        self.kept: list[bool | None] = [None] * len(self.slots)  # whether the last run found or left it where it is kept

    def run(self, pointers: Sequence[int], values: Sequence[Value]) -> None:
        """Run the program with the addresses of its leaves, then results."""
        places, ready, made = self.begin(values)
        self.program.run(pointers, (), places, ready)
        self.keep(ready, made)

    def begin(self, values: Sequence[Value]) -> tuple[list[int], tuple[bool, ...], list[tuple[dict[Any, Any], Any, _Form]]]:
        """Of each form: its address (0: in the arena), and whether it is there; and those that are to be kept, for ``keep``."""
        places, ready, made = [], [], []
        for k, (slot, packed) in enumerate(zip(self.slots, self.program.packed)):
            forms = values[slot].buffer.packed  # type: ignore[union-attr]
            form = forms.get(packed.key) if forms else None  # type: ignore[union-attr]
            if form is not None:
                self.kept[k] = True
                places.append(form.block.ptr)
                ready.append(True)
                continue
            form = self._place(k, values[slot])
            places.append(0 if form is None else form.block.ptr)
            ready.append(False)
            if form is not None:
                made.append((values[slot].buffer.packed, packed.key, form))  # type: ignore[union-attr]
        return places, tuple(ready), made  # type: ignore[return-value]

    def keep(self, ready: tuple[bool, ...], made: Sequence[tuple[dict[Any, Any], Any, _Form]]) -> None:
        """The run has been made, or will have been before anybody looks."""
        hits = ready.count(True)
        counters.reused += hits
        counters.made += len(ready) - hits
        for forms, key, form in made:
            forms[key] = form  # if the memory was written to meanwhile, nobody sees these any more

    def _place(self, k: int, leaf: Value) -> _Form | None:
        """Where the k-th form of a leaf is to be kept; None: nowhere."""
        packed, before = self.program.packed[k], self.kept[k]
        self.kept[k] = False
        if is_exported(leaf):
            return None
        buffer = leaf.buffer
        assert buffer is not None
        if buffer.packed is None:
            buffer.packed = {}
        if buffer.packed == () or isinstance(buffer.owner, Value):  # its address was handed out, or it is part of other memory
            return None
        seen = packed.key in buffer.packed
        buffer.packed.setdefault(packed.key, None)  # type: ignore[union-attr]
        if not (seen or before is None) or counters.bytes + packed.nbytes > settings.packed_bytes:
            return None
        self.kept[k] = True
        return _Form(packed.nbytes)
