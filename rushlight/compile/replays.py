"""Replays of tapes (``sizes.py``): what sizes are for other inputs, and whether all comparisons come out as before."""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Replay", "Steps"]

#: Replays that fit before the steps are written as a function, which takes as long as some thirty replays gain by it; and how many are
#: written for one program, so that none has to wait for all that it could use.
_OFTEN, _AT_ONCE = 32, 4

Number = Any  # an int or a float

_SIGNS = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!="}
_SYMBOLS = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.mod: "%",
            operator.truediv: "/", operator.pow: "**", operator.lshift: "<<", operator.rshift: ">>", operator.and_: "&",
            operator.or_: "|"}
_CONDITION, _OF_TWO, _CALL, _PRODUCT, _SUM = range(5)


class Steps:
    """What a tape says, in order. Numbers have places: the inputs first, then constants and results as they come.

    Attributes:
        steps: of five parts each; the last is the place of the result, of a condition the outcome.
        numbers: constants in their places.
        positive: the inputs that have to be at least 1.
    """

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.steps: list[tuple[int, Any, Any, Any, Any]] = []
        self.numbers: list[Any] = [None] * inputs
        self.positive: list[int] = []
        self.constants: dict[Any, int] = {}

    def constant(self, x: Any) -> int:
        kind = type(x)
        key = (kind, x) if kind is int or kind is bool else (kind, repr(x)) if kind is float else id(x)
        place = self.constants.get(key)
        if place is None:
            place = self.constants[key] = len(self.numbers)
            self.numbers.append(x)
        return place

    def condition(self, how: Any, a: int, b: int, outcome: bool) -> None:
        self.steps.append((_CONDITION, how, a, b, outcome))

    def call(self, function: Callable[..., Number], args: list[int]) -> int:
        place = self._result()
        self.steps.append((_OF_TWO, function, args[0], args[1], place) if len(args) == 2 else (_CALL, function, args, None, place))
        return place

    def polynomial(self, terms: list[tuple[int, list[int]]]) -> int:
        place = self._result()
        self.steps.append((_PRODUCT, None, terms[0][0], terms[0][1], place) if len(terms) == 1 else (_SUM, None, terms, None, place))
        return place

    def _result(self) -> int:
        self.numbers.append(None)
        return len(self.numbers) - 1


class Replay:
    """Most steps fit few other inputs (an epoch's last batch, a plan for an odd height and an even width), so the first replays walk
    through them, many no further than to the first condition that fails. Those that fit again and again are written as a function.

    Args:
        wanted: the places of what is computed.
    """

    left = _AT_ONCE  # how many may be written for the present program

    @classmethod
    def begin(cls) -> None:
        """Another program is made."""
        cls.left = _AT_ONCE

    def __init__(self, steps: Steps, wanted: Sequence[int]) -> None:
        self.steps: Steps | None = steps  # until they are written
        self.wanted = wanted
        self.fitted = 0
        self.written: Callable[[Sequence[int]], list[Number] | None] | None = None

    def __call__(self, inputs: Sequence[int]) -> list[Number] | None:
        if self.written is not None:
            return self.written(inputs)
        found = self._walked(inputs)
        self.fitted += found is not None
        if self.fitted >= _OFTEN and Replay.left > 0 and self.steps is not None:
            Replay.left -= 1
            self.written = _Source(self.steps).function(self.wanted)
            self.steps, self.wanted = None, ()
        return found

    def _walked(self, inputs: Sequence[int]) -> list[Number] | None:
        steps = self.steps
        assert steps is not None
        for k in steps.positive:
            if inputs[k] < 1:
                return None
        x = steps.numbers.copy()
        x[:len(inputs)] = inputs
        for kind, how, a, b, result in steps.steps:
            if kind == _CONDITION:
                if how(x[a], x[b]) != result:
                    return None
            elif kind == _PRODUCT:
                for k in b:
                    a *= x[k]
                x[result] = a
            elif kind == _OF_TWO:
                x[result] = how(x[a], x[b])
            elif kind == _CALL:
                x[result] = how(*[x[k] for k in a])
            else:
                total = 0
                for c, places in a:
                    for k in places:
                        c *= x[k]
                    total += c
                x[result] = total
        return [x[k] for k in self.wanted]


class _Source:
    """Writes steps as a Python function: some thousand lines that run in a fraction of a millisecond."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.scope: dict[str, Any] = {"inf": math.inf, "nan": math.nan}
        self.names = [f"a{k}" for k in range(len(steps.numbers))]
        for place in steps.constants.values():
            x = steps.numbers[place]
            self.names[place] = f"({x!r})" if type(x) in (int, float, bool) else self.given(x)

    def function(self, wanted: Sequence[int]) -> Callable[[Sequence[int]], list[Number] | None]:
        steps, names = self.steps, self.names
        lines = [f"    {', '.join(names[:steps.inputs])}, = inputs"]
        if steps.positive:
            lines.append(f"    if {' or '.join(f'a{k} < 1' for k in steps.positive)}: return None")
        for kind, how, a, b, result in steps.steps:
            if kind == _CONDITION:
                lines.append(f"    if {'not ' if result else ''}{names[a]} {_SIGNS[how]} {names[b]}: return None")
            elif kind == _PRODUCT:
                lines.append(f"    {names[result]} = {self.product(a, b)}")
            elif kind == _SUM:
                lines.append(f"    {names[result]} = {' + '.join([self.product(*term) for term in a])}")
            else:
                lines.append(f"    {names[result]} = {self.called(how, [a, b] if kind == _OF_TWO else a)}")
        source = "def replay(inputs):\n" + "\n".join(lines) + f"\n    return [{', '.join([names[k] for k in wanted])}]\n"
        exec(compile(source, "<sizes>", "exec"), self.scope)
        return self.scope["replay"]

    def product(self, c: int, places: list[int]) -> str:
        return "*".join([*([str(c)] if c != 1 or not places else []), *[self.names[k] for k in places]])

    def called(self, function: Any, args: list[int]) -> str:
        numbers = [self.names[k] for k in args]
        if function in _SYMBOLS:
            return f"{numbers[0]} {_SYMBOLS[function]} {numbers[1]}"
        if function is operator.getitem:
            return f"{numbers[0]}[{numbers[1]}]"
        if (nested := getattr(function, "nested", None)) is not None:
            function, shape = nested
            names = iter(numbers)
            return f"{self.given(function)}({', '.join([self.argument(part, names) for part in shape])})"
        return f"{self.given(function)}({', '.join(numbers)})"

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
