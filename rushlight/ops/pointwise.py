"""Pointwise operations: a formula each; types, shapes, native code and gradients follow from it."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import apply
from ..autograd.engine import Rules
from ..compile import dtypes as dt
from ..compile.derivative import derivatives
from ..compile.dtypes import DType
from ..compile.expr import Expr, cast, const, e, holds_size, input_, inputs_of, substitute
from ..compile.graph import Graph, Node, renumber
from ..record.meta import Meta, meta_of
from ..record.op import Op, backward_name
from .layouts import iterated
from .promotion import default_dtype, result_type, scalar_dtype

__all__ = ["Pointwise", "pointwise", "TENSOR", "RUNTIME", "broadcast_shapes"]

TENSOR = None       # in the pattern: a tensor argument
RUNTIME = "scalar"  # in the pattern: a Python number that keeps changing, passed as a zero-dimensional tensor


def broadcast_shapes(shapes: Sequence[tuple[int, ...]], name: str = "") -> tuple[int, ...]:
    """The common shape.

    Raises:
        RuntimeError: they do not broadcast; the message names both sizes and the dimension.
    """
    rank = max((len(s) for s in shapes), default=0)
    out = [1] * rank
    for s in shapes:
        lead = rank - len(s)
        for d in range(rank - 1, lead - 1, -1):  # the last dimension that does not fit is named, as PyTorch does
            extent = s[d - lead]
            if extent != 1 and out[d] != extent:
                if out[d] != 1:
                    where = f"[{name}] " if name else ""
                    raise RuntimeError(
                        f"{where}The size of tensor a ({out[d]}) must match the size of tensor b ({extent}) at non-singleton "
                        f"dimension {d}: shapes {' and '.join(str(list(x)) for x in shapes)} do not broadcast")
                out[d] = extent
    return tuple(out)


class _Formula(Op):
    """What has an expression over its inputs: the operations themselves and their gradients."""

    _cache: dict[tuple, Any]
    lays = staticmethod(iterated)
    is_pointwise = True
    keeps_result = False  # the gradient is told by the result rather than by the inputs

    def build(self, metas: Sequence[Meta], attrs: tuple) -> Expr:
        """The expression; ``input(k)`` is the k-th tensor."""
        key = (attrs, default_dtype(), *[(m.dtype, not m.shape) for m in metas])
        found = self._cache.get(key)
        if found is None:
            found = self._build(metas, attrs)
            if not holds_size(attrs):
                self._cache[key] = found
        return found

    def _build(self, metas: Sequence[Meta], attrs: tuple) -> Expr:
        raise NotImplementedError

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta:
        expr = self.build(metas, attrs)
        shape = metas[0].shape
        if any(m.shape != shape for m in metas):
            shape = broadcast_shapes([m.shape for m in metas], self.name)
        return meta_of(shape, expr.dtype, metas[0].device)

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        metas = [meta_of(n.shape, n.dtype) for n in inputs]
        return [g.expand(g.pointwise(self.build(metas, attrs), *inputs, shape=outs[0].shape), outs[0].shape)]

    # -- gradients -----------------------------------------------------------------------------------------------
    def slope(self, metas: Sequence[Meta], attrs: tuple, k: int) -> Expr | None:
        """Gradient of input k: inputs 0..n-1 are the operation's, n its result, n + 1 the incoming gradient."""
        key = ("slope", k, attrs, default_dtype(), *[(m.dtype, not m.shape) for m in metas])
        if key not in self._cache:
            if metas[k].dtype.kind not in "fc":
                self._cache[key] = None
            else:
                self._cache[key] = self._slope(metas, attrs, k)
        return self._cache[key]

    def _slope(self, metas: Sequence[Meta], attrs: tuple, k: int) -> Expr | None:
        expr = self.build(metas, attrs)
        if expr.dtype.kind not in "fc":
            return None
        found = derivatives(expr, input_(len(metas) + 1, expr.dtype), [k])[k]
        if found is not None and self.keeps_result:
            whole = expr.args[0] if expr.fn == "cast" else expr
            result = cast(input_(len(metas), expr.dtype), whole.dtype)
            found = substitute((found,), lambda n: result if n is whole else None)[0]
        return found

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        key = ("saved", needs, attrs, default_dtype(), *[(m.dtype, not m.shape) for m in metas])  # what slopes follow from
        found = self._cache.get(key)
        if found is None:
            read: set[int] = set()
            for k, need in enumerate(needs):
                if need:
                    slope = self.slope(metas, attrs, k)
                    if slope is not None:
                        read |= inputs_of(slope)
            n = len(metas)
            found = self._cache[key] = tuple(sorted(i for i in read if i < n)), n in read
        return found  # type: ignore[no-any-return]

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        metas, attrs = ctx.metas, ctx.attrs
        (g,) = grads
        given: list[Any] = [None] * len(metas)
        tensors: list[Any] | None = None
        for k, need in enumerate(ctx.needs):
            if not need:
                continue
            slope = self.slope(metas, attrs, k)
            if slope is None or not inputs_of(slope):  # what is linear in the incoming gradient and constant is zero
                given[k] = Rules.zeros(metas[k])
                continue
            if tensors is None:
                tensors = _conjugated([*ctx.inputs, *ctx.outputs], metas) + [g]
            slope = _conjugated_constants(slope)
            used = tuple(sorted(inputs_of(slope)))
            if slope.fn == "input":
                given[k] = tensors[used[0]]
            else:
                given[k] = apply(_slope_op(self), (slope, used), [tensors[i] for i in used])
        return given


def _conjugated(tensors: list[Any], metas: Sequence[Meta]) -> list[Any]:
    """The gradient of a complex function is the incoming one times the conjugate of the derivative, which is (for the
    formulas here, with conjugated constants) the derivative at the conjugate."""
    if all(m.dtype.kind != "c" for m in metas):
        return tensors
    return [t.conj() if t is not None and t.dtype.kind == "c" else t for t in tensors]


def _conjugated_constants(slope: Expr) -> Expr:
    if slope.dtype.kind != "c":
        return slope
    return substitute((slope,), lambda n: const(n.attr.conjugate(), n.dtype) if n.fn == "const" and isinstance(
        n.attr, complex) else None)[0]


class _Slope(_Formula):
    """The gradient of a pointwise operation; attrs are (expression, positions that its inputs stand for)."""

    def __init__(self, name: str) -> None:
        self.name = name + "_backward"
        self.grad_name = backward_name(name, "Backward0")
        self._cache = {}

    def _build(self, metas: Sequence[Meta], attrs: tuple) -> Expr:
        expr, used = attrs
        positions = {p: i for i, p in enumerate(used)}
        return renumber(expr, [positions.get(i, 0) for i in range(max(used) + 1)])


_slopes: dict[Op, _Slope] = {}


def _slope_op(op: Op) -> _Slope:
    found = _slopes.get(op)
    if found is None:
        found = _slopes[op] = _Slope(op.name)
    return found


class Pointwise(_Formula):
    """``op(*args)`` with tensors and numbers as arguments; see ``pointwise`` for the parameters.

    ``attrs`` is ``(pattern, options)``: the pattern has TENSOR, RUNTIME or ``(number, kind)`` for each argument.
    """

    def __init__(self, name: str, formula: Callable[..., Any], result: str | DType, grads: Any, raw: tuple[int, ...],
                 neutral: tuple[int, ...], allowed: str, keeps_result: bool = False, grad_name: Any = None,
                 plain: str = "") -> None:
        self.name, self.plain = name, plain
        self.grad_name = grad_name or backward_name(name)
        self.formula, self.result, self.grads = formula, result, grads
        self.raw, self.neutral, self.allowed = frozenset(raw), frozenset(neutral), allowed
        self.differentiable = grads is not False and result != "bool"
        self.keeps_result = keeps_result
        self._cache = {}

    # -- calling -------------------------------------------------------------------------------------------------
    def __call__(self, *args: Any, **options: Any) -> Any:
        tensors: list[Any] = []
        pattern: list[Any] = []
        for a in args:
            if hasattr(a, "_value"):
                tensors.append(a)
                pattern.append(TENSOR)
            else:
                pattern.append(tag(a))
                if type(a) is str and len(pattern) - 1 not in self.neutral:
                    raise TypeError(f"{self.name}(): argument {len(pattern)} must be Tensor or Number, not str")
        if not tensors:
            raise TypeError(f"{self.name}(): argument 'input' (position 1) must be Tensor, not {type(args[0]).__name__}")
        return apply(self, (tuple(pattern), tuple(options.items())), tensors)

    def runtime(self, attrs: tuple) -> tuple[Op, tuple, list[Any]] | None:
        """The same call with its numbers as tensors: (op, attrs, the numbers in order), or None where it has none. A factor of 1 that
        nobody gave (``alpha``) is no number that changes."""
        pattern, options = attrs
        changing = [type(p) is tuple and type(p[0]) in (int, float) and not (p[0] == 1 and k in self.neutral)
                    for k, p in enumerate(pattern)]
        if True not in changing:
            return None
        numbers = [p[0] for p, changes in zip(pattern, changing) if changes]
        return self, (tuple([RUNTIME if changes else p for p, changes in zip(pattern, changing)]), options), numbers

    # -- the formula ---------------------------------------------------------------------------------------------
    def _types(self, metas: Sequence[Meta], pattern: tuple) -> tuple[DType, list[tuple[int | None, Any]]]:
        """(type to compute in, for each argument (tensor position or None, number))."""
        places: list[tuple[int | None, Any]] = []
        tensors = iter(range(len(metas)))
        numbers = iter(range(sum(p is TENSOR for p in pattern), len(metas)))
        typed, scalars = [], []
        for k, p in enumerate(pattern):
            if p is TENSOR:
                at = next(tensors)
                places.append((at, None))
                if k not in self.raw and k not in self.neutral:
                    typed.append(metas[at])
            elif p == RUNTIME:
                at = next(numbers)
                places.append((at, None))
                if k not in self.neutral:
                    scalars.append(dt.int64 if metas[at].dtype is dt.int64 else default_dtype())
            else:
                places.append((None, p[0]))
                if k not in self.neutral:
                    scalars.append(scalar_dtype(p[0]))
        return result_type(typed, scalars), places

    def _build(self, metas: Sequence[Meta], attrs: tuple) -> Expr:
        pattern, options = attrs
        common, args, result = self._arguments(metas, pattern)
        self._check(common)
        value = self.formula(e, *args, **dict(options))
        if not isinstance(value, Expr):
            value = const(value, common)
        return cast(value, result)

    def _arguments(self, metas: Sequence[Meta], pattern: tuple) -> tuple[DType, list[Any], DType]:
        common, places = self._types(metas, pattern)
        promoted = common
        if self.result == "float" and common.kind in "bui":
            promoted = default_dtype()
        compute = promoted.compute
        args: list[Any] = []
        for k, (at, number) in enumerate(places):
            if at is None:
                args.append(number if k in self.neutral and isinstance(number, (bool, str)) else const(number, compute))
            elif k in self.raw:
                args.append(input_(at, metas[at].dtype))
            else:
                args.append(cast(cast(input_(at, metas[at].dtype), promoted), compute))
        result = dt.bool_ if self.result == "bool" else self.result if isinstance(self.result, DType) else promoted
        return promoted, args, result

    def _check(self, common: DType) -> None:
        if common.kind not in self.allowed:
            if common.kind == "q":
                raise NotImplementedError(f'"{self.name}" not implemented for \'{common.name.capitalize()}\'')
            what = {"b": "Bool", "u": "unsigned integer", "i": "integer", "f": "floating", "c": "complex"}[common.kind]
            error = RuntimeError if common.kind in self.plain else NotImplementedError
            raise error(f'"{self.name}" not implemented for {what} tensors ({common.name})')

    def _slope(self, metas: Sequence[Meta], attrs: tuple, k: int) -> Expr | None:
        rule = self.grads
        if isinstance(rule, (tuple, list)):
            pattern, options = attrs
            _, args, result = self._arguments(metas, pattern)
            promoted, places = self._types(metas, pattern)
            position = next(i for i, (at, _) in enumerate(places) if at == k)
            chosen = rule[position] if position < len(rule) else None
            if chosen is None:
                return None
            if chosen is not ...:
                n, compute = len(metas), result.compute
                g = cast(input_(n + 1, result), compute)
                out = cast(input_(n, result), compute)
                value = chosen(e, g, out, *args, **dict(options))
                return None if value is None else cast(value, metas[k].dtype)
        return super()._slope(metas, attrs, k)


def tag(number: Any) -> tuple:
    """A number as part of a key: 1, 1.0, True and -0.0 are different."""
    kind = type(number)
    if kind is float:
        if number != number:
            return (math.nan, "f")  # one object, so that keys with it are equal
        return (number, "f") if number or str(number) == "0.0" else (number, "-f")
    if kind is int:
        return (number, "i")
    if kind is bool:
        return (number, "b")
    if isinstance(number, complex):
        return (complex(number), "c", repr(number))
    if isinstance(number, float):
        return tag(float(number))
    if hasattr(number, "__index__"):
        return tag(bool(number) if "bool" in kind.__name__ else int(number))
    if hasattr(number, "__float__"):
        return tag(float(number))
    if isinstance(number, str):
        return (number, "s")
    raise TypeError(f"expected a Tensor or a number, got {kind.__name__}")


def pointwise(name: str, formula: Callable[..., Any], *, result: str | DType = "same", grads: Any = None,
              raw: tuple[int, ...] = (), neutral: tuple[int, ...] = (), allowed: str = "buifc",
              keeps_result: bool = False, grad_name: Any = None, plain: str = "") -> Pointwise:
    """Declare a pointwise operation.

    Args:
        formula: ``lambda e, x, y, ..., **options: expression``; arguments arrive in the type to compute in.
        result: ``"same"`` the promoted type, ``"float"`` integers become the default floating type, ``"bool"``, or a dtype.
        grads: None: derived from the formula; False: not differentiable; else one rule for each argument,
            ``lambda e, g, out, x, y, ..., **options: gradient`` (None: zero, ...: derived).
        raw: arguments that keep their own type and do not take part in promotion (conditions).
        neutral: arguments that do not take part in promotion (``alpha``).
        allowed: kinds of dtype it is defined for; ``plain``: those for which the error is no more than a RuntimeError.
        grad_name: see ``Op``; by default it follows from the name.
        keeps_result: where the derivative contains the result itself (exp, tanh), autograd keeps that, as PyTorch does.
    """
    return Pointwise(name, formula, result, grads, raw, neutral, allowed, keeps_result, grad_name, plain)
