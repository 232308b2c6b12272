"""Draws by rejection as LLVM IR text: gamma and Poisson numbers, each with a parameter of its own, as PyTorch draws them.

How many words of the stream a number takes is known when it is accepted, so they are drawn one by one. The memory to fill holds the
parameters, as doubles; each makes way for its number. See ``twister_ir.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.twister_ir import library, load, next_normal, store, unit
from rushlight.compile.cpu.values import V, const

__all__ = ["FUNCTIONS"]

_THIRD = struct.unpack("<f", struct.pack("<f", 1 / 3))[0]  # as PyTorch has it, in single precision: samples are to be the same


class _Number:
    """A double in a slot of the stack."""

    def __init__(self, f: Function, value: V | float) -> None:
        self.f, self.slot = f, f.slot("double")
        self.set(value)

    def set(self, value: V | float) -> None:
        store(value if isinstance(value, V) else const(self.f, "double", 0, value), self.slot)

    def get(self) -> V:
        return load(self.f, self.slot, "double")


@contextmanager
def _until(f: Function) -> Iterator[Callable[[V], None]]:
    """A loop; gives what takes the condition under which no further turn follows, which is to be told in each turn."""
    going = f.slot("i64", "1")

    def ends(condition: V) -> None:
        f.set(going, (~condition).convert("zext", "i64").name)

    with f.loop_while(going, "ne", "0"):
        yield ends


def _call(f: Function, name: str, *args: V) -> V:
    """Of the C library."""
    f.module.declare(f"double @{name}({', '.join(['double'] * len(args))})")
    return V(f, f.let(f"call double @{name}({', '.join(map(repr, args))})"), "double")


def _uniform(f: Function, words: str) -> V:
    """A number in [0, 1) of the next two words."""
    f.do(f"call void @words(ptr %state, ptr {words}, i64 2)")
    return unit(f, "double", words, "0", 0)


def _gammas(f: Function) -> None:
    """Gamma numbers of rate 1 with the shapes that are there, by squeezing and rejection (Marsaglia and Tsang 2000)."""
    words = f.slot("[4 x i32]", align=16)
    with f.loop(0, "%n") as i:
        place = f.at("%out", i, "double")
        given = load(f, place, "double")
        with f.when(given.ne(0.0).name):  # else 0 is the number
            shape, scale = _Number(f, given), _Number(f, 1.0)
            with f.when(given.lt(1.0).name):  # as a power of a uniform number times a draw for one more
                scale.set(_call(f, "pow", 1.0 - _uniform(f, words), 1.0 / given))
                shape.set(given + 1.0)
            d = shape.get() - _THIRD
            c = 1.0 / (d * 9.0).sqrt()
            with _until(f) as accepted:
                x, y = _Number(f, 0.0), _Number(f, 0.0)
                with _until(f) as positive:
                    x.set(next_normal(f, words))
                    y.set(c * x.get() + 1.0)
                    positive(~y.get().le(0.0))
                v = y.get() * y.get() * y.get()
                u = 1.0 - _uniform(f, words)
                square = x.get() * x.get()
                store(scale.get() * d * v, place)
                accepted(u.lt(1.0 - square * 0.0331 * square)
                          | library("log", u).lt(square * 0.5 + d * (1.0 - v + library("log", v))))


def _poissons(f: Function) -> None:
    """Poisson numbers with the rates that are there."""
    words = f.slot("[4 x i32]", align=16)
    with f.loop(0, "%n") as i:
        place = f.at("%out", i, "double")
        rate = load(f, place, "double")
        with f.when(rate.ge(10.0).name):
            _frequent(f, rate, words, place)
        with f.when((rate.lt(10.0) & rate.ne(0.0)).name):
            _rare(f, rate, words, place)


def _rare(f: Function, rate: V, words: str, place: str) -> None:
    """How many uniform numbers can be multiplied before the product is too small."""
    limit = library("exp", -rate)
    count, product = _Number(f, -1.0), _Number(f, 1.0)
    with _until(f) as ended:
        product.set(product.get() * _uniform(f, words))
        count.set(count.get() + 1.0)
        ended(product.get().le(limit))
    store(count.get(), place)


def _frequent(f: Function, rate: V, words: str, place: str) -> None:
    """By transformed rejection (Hörmann 1993)."""
    root, log_rate = rate.sqrt(), library("log", rate)
    b = root * 2.53 + 0.931
    a = b * 0.02483 + -0.059
    log_inverse_alpha = library("log", 1.1328 / (b - 3.4) + 1.1239)
    most = 0.9277 - 3.6224 / (b - 2.0)
    with _until(f) as accepted:
        u = _uniform(f, words) - 0.5
        v = _uniform(f, words)
        us = 0.5 - u.abs()
        k = ((a * 2.0 / us + b) * u + rate + 0.43).floor()
        store(k, place)
        refused = k.lt(0.0) | us.lt(0.013) & v.gt(us)
        left = library("log", v) + log_inverse_alpha - library("log", a / (us * us) + b)
        fits = left.le(k * log_rate - rate - library("lgamma", k + 1.0))
        accepted(us.ge(0.07) & v.le(most) | ~refused & fits)


#: name -> (further parameters, what writes its body)
FUNCTIONS: dict[str, tuple[str, Callable[[Function], None]]] = {"gammas": ("", _gammas), "poissons": ("", _poissons)}
