"""What computing a value again costs, in units of one simple vector instruction for each element."""
from __future__ import annotations

from functools import lru_cache

from .expr import Expr, walk
from .graph import Node
from .sizes import numeric

__all__ = ["expr_cost", "expr_flops", "node_cost", "CHEAP", "uses_index", "divides_integers", "nanoseconds"]

CHEAP = 4  # up to here a value may be computed at several places

_SIMPLE = frozenset(("add", "sub", "mul", "neg", "abs", "min", "max", "lt", "le", "gt", "ge", "eq", "ne", "isnan", "isinf",
                     "and", "or", "xor", "not", "shl", "shr", "where", "cast", "bitcast", "sign", "copysign"))
_FREE = frozenset(("input", "const", "index", "extent", "count"))
_DIVISIONS = frozenset(("floordiv", "truncdiv", "mod", "fmod"))


@lru_cache(maxsize=4096)
def expr_cost(expr: Expr) -> int:
    return sum(0 if n.fn in _FREE else 1 if n.fn in _SIMPLE else 20 for n in walk(expr))


def node_cost(node: Node) -> int:
    return expr_cost(node.attrs[0]) if node.kind == "pointwise" else 20 if node.kind == "gather" else 0


_ARITHMETIC = frozenset(("add", "sub", "mul", "div", "neg", "abs", "min", "max", "sqrt", "rsqrt", "reciprocal", "floor", "ceil", "round",
                         "trunc"))
_MOVES = frozenset(("lt", "le", "gt", "ge", "eq", "ne", "isnan", "isinf", "where", "cast", "bitcast", "sign", "copysign"))


@lru_cache(maxsize=4096)
def expr_flops(expr: Expr) -> int:
    """Floating-point operations: one for what is one instruction, twenty for a function that is a polynomial."""
    return sum(1 if n.fn in _ARITHMETIC else 20 for n in walk(expr)
               if n.dtype.kind == "f" and n.fn not in _FREE and n.fn not in _MOVES)


@lru_cache(maxsize=4096)
def uses_index(expr: Expr) -> bool:
    return any(n.fn == "index" for n in walk(expr))


@lru_cache(maxsize=4096)
def divides_integers(expr: Expr) -> bool:
    return any(n.fn in _DIVISIONS and n.dtype.kind in "iu" for n in walk(expr))


@numeric
def nanoseconds(elements: int, nbytes: int, ops: int) -> float:
    """A rough time of a kernel on one core: memory at 10 bytes, simple vector work at 16 operations a nanosecond."""
    return nbytes / 10 + elements * ops / 16


