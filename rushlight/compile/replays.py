"""Replays of tapes (``sizes.py``): what sizes are for other inputs, and whether all comparisons come out as before."""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sizes import Tape

__all__ = ["Replay"]

#: Replays that fit before a tape is written as a function, which takes as long as some twenty replays gain by it.
_OFTEN = 16

Number = Any  # an int or a float

_SIGNS = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!="}
_SYMBOLS = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.mod: "%",
            operator.truediv: "/", operator.pow: "**", operator.lshift: "<<", operator.rshift: ">>", operator.and_: "&",
            operator.or_: "|"}


class Replay:
    """Many tapes fit hardly any other inputs (a plan for an odd height and an even width), so the first replays walk the tape, most no
    further than to the first condition that fails. One that fits again and again is written as a function.

    Args:
        tape: it is complete.
        wanted: what is computed: polynomials, and what is a plain number.
    """

    def __init__(self, tape: Tape, wanted: Sequence[Any]) -> None:
        self.tape: Tape | None = tape  # until it is written
        self.wanted = wanted
        self.fitted = 0
        self.written: Callable[[Sequence[int]], list[Number] | None] | None = None

    def __call__(self, inputs: Sequence[int]) -> list[Number] | None:
        if self.written is not None:
            return self.written(inputs)
        found = self._walked(inputs)
        self.fitted += found is not None
        if self.fitted >= _OFTEN and self.tape is not None:
            self.written = _Source(self.tape).function(self.wanted)
            self.tape, self.wanted = None, ()
        return found

    def _walked(self, inputs: Sequence[int]) -> list[Number] | None:
        tape = self.tape
        assert tape is not None
        if any(inputs[k] < 1 for k in tape._positive):
            return None
        values: list[Number] = [*inputs, *[0] * (len(tape._atoms) - tape._inputs)]

        def number(x: Any) -> Number:
            if type(x) is not tuple:
                return x
            if len(x) == 1:
                (monomial, c), = x
                if c == 1 and len(monomial) == 1:  # an atom alone need not be a number
                    return values[monomial[0]]
                for atom in monomial:
                    c *= values[atom]
                return c
            total = 0
            for monomial, c in x:
                for atom in monomial:
                    c *= values[atom]
                total += c
            return total

        for atom, condition in tape._events:
            if condition is not None:
                how, a, b, outcome = condition
                if how(number(a), number(b)) != outcome:
                    return None
            elif atom >= tape._inputs:
                function, args = tape._atoms[atom]
                values[atom] = function(*map(number, args))  # type: ignore[misc]
        return [number(x) for x in self.wanted]


class _Source:
    """Writes a tape as a Python function: some thousand lines that run in a fraction of a millisecond."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.lines: list[str] = []
        self.names: dict[Any, str] = {}
        self.scope: dict[str, Any] = {"inf": math.inf, "nan": math.nan}
        self.written: set[int] = set()

    def function(self, wanted: Sequence[Any]) -> Callable[[Sequence[int]], list[Number] | None]:
        tape = self.tape
        inputs = [f"a{k}" for k in range(tape._inputs)]
        self.written.update(range(tape._inputs))
        self.lines.append(f"    {', '.join(inputs)}, = inputs")
        if tape._positive:
            self.lines.append(f"    if {' or '.join(f'a{k} < 1' for k in sorted(tape._positive))}: return None")
        for number, condition in tape._events:
            if condition is not None:
                how, a, b, outcome = condition
                holds = f"{self.number(a)} {_SIGNS[how]} {self.number(b)}"
                self.lines.append(f"    if {'not ' if outcome else ''}{holds}: return None")
            elif number not in self.written:
                self.atom(number)
        results = [self.number(x) if type(x) is tuple else repr(x) if type(x) in (int, float) else self.given(x) for x in wanted]
        source = "def replay(inputs):\n" + "\n".join(self.lines) + f"\n    return [{', '.join(results)}]\n"
        exec(compile(source, "<sizes>", "exec"), self.scope)
        return self.scope["replay"]

    def atom(self, number: int) -> None:
        self.written.add(number)
        function, args = self.tape._atoms[number]
        numbers = [self.number(x) for x in args]
        if function in _SYMBOLS:
            text = f"{numbers[0]} {_SYMBOLS[function]} {numbers[1]}"
        elif function is operator.getitem:
            text = f"{numbers[0]}[{numbers[1]}]"
        elif (nested := getattr(function, "nested", None)) is not None:
            function, shape = nested
            names = iter(numbers)
            text = f"{self.given(function)}({', '.join([self.argument(part, names) for part in shape])})"
        else:
            text = f"{self.given(function)}({', '.join(numbers)})"
        self.lines.append(f"    a{number} = {text}")

    def given(self, x: Any) -> str:
        """A name for something."""
        name = f"f{len(self.scope)}"
        self.scope[name] = x
        return name

    def argument(self, shape: Any, names: Iterator[str]) -> str:
        """An argument of a numeric function, with the names of numbers in its tuples."""
        if shape is None:
            return next(names)
        if isinstance(shape, tuple) and not hasattr(shape, "value"):
            return f"({''.join([self.argument(part, names) + ', ' for part in shape])})"
        return self.given(shape.value)

    def number(self, x: Any) -> str:
        """What stands for a polynomial or a plain number."""
        if type(x) is not tuple:
            return f"({x!r})"
        name = self.names.get(x)
        if name is None:
            text = " + ".join("*".join([*([str(c)] if c != 1 or not m else []), *(f"a{k}" for k in m)]) for m, c in x)
            if len(x) == 1 and x[0][1] == 1 and len(x[0][0]) == 1:
                name = text
            else:
                name = f"p{len(self.names)}"
                self.lines.append(f"    {name} = {text}")
            self.names[x] = name
        return name
