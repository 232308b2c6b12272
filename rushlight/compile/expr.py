"""The formula language of pointwise operations.

A formula is a small, typed, interned expression tree. It is written once per operation, as ordinary Python over
``Expr`` values::

    sigmoid = lambda e, x: 1 / (1 + e.exp(-x))

and from it come the NumPy evaluation (``compile/reference``), the native code (``compile/cpu``) and the derivative
(``derivative`` below). Interning makes equal subexpressions identical, so that common subexpressions cost nothing.
"""
from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, Final

from . import dtypes as dt
from .dtypes import DType
from .sizes import is_size

__all__ = ["Expr", "Formula", "e", "const", "input_", "index", "extent", "count", "cast", "substitute", "walk", "inputs_of",
           "holds_size", "FUNCTIONS"]

# Every function of the language: name -> (number of arguments, result). "same": the type of the arguments (which
# must agree); "bool": bool; "cond": where(bool, a, a) -> a; float functions need a floating type.
FUNCTIONS: Final[dict[str, tuple[int, str]]] = {
    # arithmetic; integers wrap, as in C. div is true division (floating types only).
    "add": (2, "same"), "sub": (2, "same"), "mul": (2, "same"), "div": (2, "float"), "neg": (1, "same"),
    "abs": (1, "same"), "sign": (1, "same"),
    "floordiv": (2, "same"),  # rounds to minus infinity; integer division by zero is an error caught at run time
    "truncdiv": (2, "same"),  # rounds to zero
    "mod": (2, "same"),       # Python's %: the sign of the divisor
    "fmod": (2, "same"),      # C's %: the sign of the dividend
    "min": (2, "same"), "max": (2, "same"),  # a NaN operand gives NaN
    "pow": (2, "same"),       # integers: exact by squaring (a negative exponent gives 0 except for bases 1 and -1)
    "atan2": (2, "float"), "hypot": (2, "float"), "copysign": (2, "float"), "nextafter": (2, "float"),
    # floating functions
    **dict.fromkeys((
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal",
        "log1p_exp",  # log(1 + exp(x)), for any x
        "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        "erf", "erfc", "erfinv", "normal_cdf", "lgamma", "digamma", "trigamma", "i0", "i0e", "i1", "i1e", "ndtri",
        "floor", "ceil", "round", "trunc"), (1, "float")),  # round: half to even
    # comparisons and predicates
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), (2, "bool")),
    "isnan": (1, "bool"), "isinf": (1, "bool"),
    # bits; on bool these are the logical operations
    "and": (2, "same"), "or": (2, "same"), "xor": (2, "same"), "not": (1, "same"),
    "shl": (2, "same"), "shr": (2, "same"),  # shr: arithmetic for signed types, logical for unsigned
    "where": (3, "cond"),
}

_SHORT = 100  # the order of longer formulas is not kept: that of a long chain would be kept for each of its beginnings

_interned: weakref.WeakValueDictionary[tuple, Expr] = weakref.WeakValueDictionary()


class Expr:
    """One node of a formula.

    Attributes:
        fn: a name in ``FUNCTIONS``, or ``"input"`` (attr: position), ``"const"`` (attr: Python number), ``"index"``
            (attr: axis; the int64 position along that axis of the iteration domain), ``"extent"`` (attr: axis; its int64
            length, in loop nests only), ``"count"`` (attr: a whole number that another size would change, in bodies only),
            ``"cast"`` (convert the value to ``dtype``; float to integer truncates, anything to bool is ``!= 0``),
            ``"bitcast"`` (same bits, same width).
        args: argument expressions.
        dtype: the element type of the result.
        attr: see fn; None otherwise.
    """

    __slots__ = ("fn", "args", "dtype", "attr", "_below", "_inputs", "__weakref__")
    fn: str
    args: tuple[Expr, ...]
    dtype: DType
    attr: Any
    _below: tuple[Expr, ...] | None    # what ``walk`` gives before the node itself, once somebody has walked
    _inputs: frozenset[int] | None

    def __new__(cls, fn: str, args: tuple[Expr, ...], dtype: DType, attr: Any = None) -> Expr:
        # 0.0, -0.0, 0 and False are equal as dictionary keys but are different constants.
        tag = (type(attr), math.copysign(1.0, attr)) if type(attr) is float else type(attr)
        key = (fn, args, dtype, repr(attr) if attr != attr else attr, tag)
        found = _interned.get(key)
        if found is None:
            found = object.__new__(cls)
            found.fn, found.args, found.dtype, found.attr = fn, args, dtype, attr
            found._below = found._inputs = None
            _interned[key] = found
        return found

    def __reduce__(self) -> tuple:
        return Expr, (self.fn, self.args, self.dtype, self.attr)

    def __repr__(self) -> str:
        if self.fn == "const":
            return f"{self.attr!r}:{self.dtype.name}"
        if self.fn == "input":
            return f"x{self.attr}:{self.dtype.name}"
        if self.fn == "index":
            return f"i{self.attr}"
        inner = ", ".join(map(repr, self.args))
        return f"{self.fn}[{self.dtype.name}]({inner})" if self.fn in ("cast", "bitcast") else f"{self.fn}({inner})"

    # Arithmetic notation; a Python number takes the type of the other side.
    def __add__(self, other: Any) -> Expr: return e.add(self, other)
    def __radd__(self, other: Any) -> Expr: return e.add(const(other, self.dtype), self)
    def __sub__(self, other: Any) -> Expr: return e.sub(self, other)
    def __rsub__(self, other: Any) -> Expr: return e.sub(const(other, self.dtype), self)
    def __mul__(self, other: Any) -> Expr: return e.mul(self, other)
    def __rmul__(self, other: Any) -> Expr: return e.mul(const(other, self.dtype), self)
    def __truediv__(self, other: Any) -> Expr: return e.div(self, other)
    def __rtruediv__(self, other: Any) -> Expr: return e.div(const(other, self.dtype), self)
    def __pow__(self, other: Any) -> Expr: return e.pow(self, other)
    def __neg__(self) -> Expr: return e.neg(self)
    def __lt__(self, other: Any) -> Expr: return e.lt(self, other)
    def __le__(self, other: Any) -> Expr: return e.le(self, other)
    def __gt__(self, other: Any) -> Expr: return e.gt(self, other)
    def __ge__(self, other: Any) -> Expr: return e.ge(self, other)
    def __and__(self, other: Any) -> Expr: return getattr(e, "and")(self, other)
    def __or__(self, other: Any) -> Expr: return getattr(e, "or")(self, other)
    def __xor__(self, other: Any) -> Expr: return e.xor(self, other)
    def __invert__(self) -> Expr: return getattr(e, "not")(self)


def const(value: Any, dtype: DType) -> Expr:
    """A constant of the given type (an Expr is returned as it is)."""
    if isinstance(value, Expr):
        return value
    if is_size(value) and dtype.kind != "b":
        pass  # a number that another size would change stays what it is
    elif dtype.kind == "f":
        value = float(value)
    elif dtype.kind == "b":
        value = bool(value)
    elif dtype.kind in "iu":
        value = int(value)
    return Expr("const", (), dtype, value)


def input_(position: int, dtype: DType) -> Expr:
    return Expr("input", (), dtype, position)


def index(axis: int) -> Expr:
    """The position along ``axis`` of the output, as int64."""
    return Expr("index", (), dt.int64, axis)


def extent(axis: int) -> Expr:
    """The length of an axis of a loop nest, as int64."""
    return Expr("extent", (), dt.int64, axis)


def count(number: int) -> Expr:
    """An int64 number that is not worth a kernel of its own, such as the length of a dimension."""
    return Expr("count", (), dt.int64, number)


def cast(x: Expr, dtype: DType) -> Expr:
    if x.dtype is dtype:
        return x
    if x.fn == "const" and dtype.kind != "c":
        if dtype.kind == "f" and dtype.itemsize >= 4 or dtype.kind == "b" or x.dtype.kind in "biu" and dtype.kind in "iu":
            wrapped = x.attr
            bits = 8 * dtype.itemsize
            if dtype.kind in "iu" and not (is_size(wrapped) and 0 <= wrapped < 1 << (bits - 1)):
                wrapped = int(x.attr) & ((1 << bits) - 1)
                if dtype.kind == "i" and wrapped >> (bits - 1):
                    wrapped -= 1 << bits
            return const(wrapped, dtype)
    return Expr("cast", (x,), dtype)


class _Builder:
    """``e.exp(x)``, ``e.where(c, a, b)``, ...: builds checked, lightly simplified nodes."""

    def __getattr__(self, fn: str) -> Callable[..., Expr]:
        if fn not in FUNCTIONS:
            raise AttributeError(f"the formula language has no function {fn!r}")
        arity, result = FUNCTIONS[fn]

        def build(*args: Any) -> Expr:
            if len(args) != arity:
                raise TypeError(f"{fn} takes {arity} arguments, got {len(args)}")
            operands = args[1:] if result == "cond" else args
            dtype = next((a.dtype for a in operands if isinstance(a, Expr)), None)
            if dtype is None:
                raise TypeError(f"{fn} needs at least one expression to take the type from")
            operands = tuple(const(a, dtype) for a in operands)
            clash = [a.dtype.name for a in operands if a.dtype is not dtype]
            if clash:
                raise TypeError(f"{fn}: operand types differ: {dtype.name} and {clash[0]}")
            if result == "float" and dtype.kind not in "fc":
                raise TypeError(f"{fn} needs a floating type, got {dtype.name}")
            if result == "cond":
                if args[0].dtype is not dt.bool_:
                    raise TypeError(f"where needs a bool condition, got {args[0].dtype.name}")
                if operands[0] is operands[1]:
                    return operands[0]
                return Expr("where", (args[0], *operands), dtype)
            return _simplified(fn, operands, dt.bool_ if result == "bool" else dtype)

        setattr(self, fn, build)  # the next use finds it without this method
        return build

    const = staticmethod(const)
    cast = staticmethod(cast)
    index = staticmethod(index)

    @staticmethod
    def bitcast(x: Expr, dtype: DType) -> Expr:
        return x if x.dtype is dtype else Expr("bitcast", (x,), dtype)

    def clamp(self, x: Expr, low: Any, high: Any) -> Expr:
        return self.min(self.max(x, low), high)


e: Any = _Builder()


def _is(x: Expr, value: float) -> bool:
    return x.fn == "const" and x.attr == value and not (value == 0 and math.copysign(1.0, x.attr) < 0)


def _simplified(fn: str, args: tuple[Expr, ...], dtype: DType) -> Expr:
    """Identities that hold for every value, NaN, infinities and signed zeros included, so derivatives stay small.

    ``x + 0`` is not among them for floats (-0 + 0 is +0) but ``x - 0`` and ``x * 1`` are.
    """
    if fn in ("mul", "div") and _is(args[1], 1):
        return args[0]
    if fn == "mul" and _is(args[0], 1):
        return args[1]
    if fn == "sub" and _is(args[1], 0):
        return args[0]
    if fn == "add" and dtype.kind in "iu" and (_is(args[0], 0) or _is(args[1], 0)):
        return args[1] if _is(args[0], 0) else args[0]
    if fn == "neg" and args[0].fn == "neg":
        return args[0].args[0]
    if fn in ("add", "mul", "sub") and all(a.fn == "const" for a in args) and dtype.kind == "f" and dtype.itemsize == 8:
        a, b = args[0].attr, args[1].attr
        return const(a + b if fn == "add" else a * b if fn == "mul" else a - b, dtype)
    return Expr(fn, args, dtype)


def walk(*roots: Expr) -> Iterable[Expr]:
    """Every distinct node below the roots, arguments before users, without recursion."""
    if len(roots) != 1:
        return _walk(roots)
    root = roots[0]
    if not root.args:
        return roots
    if root._below is None:
        order = tuple(_walk(roots))
        if len(order) > _SHORT:
            return order
        root._below = order[:-1]
    return *root._below, root


def _walk(roots: Sequence[Expr]) -> Iterator[Expr]:
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if node in seen:
            continue
        if ready:
            seen.add(node)
            yield node
        else:
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args) if a not in seen)


def inputs_of(*roots: Expr) -> Set[int]:
    """Positions of the inputs that the expressions read."""
    if len(roots) != 1:
        return {n.attr for n in walk(*roots) if n.fn == "input"}
    root = roots[0]
    if root._inputs is None:
        root._inputs = frozenset(n.attr for n in walk(root) if n.fn == "input")
    return root._inputs


def substitute(roots: tuple[Expr, ...], replace: Callable[[Expr], Expr | None]) -> tuple[Expr, ...]:
    """Rebuild the expressions with nodes replaced where ``replace`` gives something."""
    made: dict[Expr, Expr] = {}
    for node in walk(*roots):
        new = replace(node)
        if new is None:
            args = tuple(made[a] for a in node.args)
            new = node if args == node.args else Expr(node.fn, args, node.dtype, node.attr)
        made[node] = new
    return tuple(made[r] for r in roots)


def holds_size(x: Any) -> bool:
    """Whether nested tuples or formulas hold a size."""
    if isinstance(x, tuple):
        return any(map(holds_size, x))
    return any(is_size(n.attr) for n in walk(x)) if isinstance(x, Expr) else is_size(x)


Formula = Callable[..., Expr]


def canonical(*roots: Expr) -> str:
    """One line per distinct node: equal formulas give equal text in every process, so it can name cached code."""
    number: dict[Expr, int] = {}
    lines = []
    for n in walk(*roots):
        number[n] = len(number)
        what = "" if n.attr is None else repr(n.attr)
        lines.append(f"{n.fn}{what}:{n.dtype.name}({','.join(str(number[a]) for a in n.args)})")
    return ";".join(lines) + "|" + ",".join(str(number[r]) for r in roots)
