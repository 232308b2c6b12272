"""``torch._foreach_add_`` and so on: one operation on each tensor of a list, as optimizers and averages of weights write it.

Example:
    >>> torch._foreach_mul([torch.ones(2), torch.ones(1)], 3.0)
    (tensor([3., 3.]), tensor([3.]))
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..autograd.handle import Handle
from .registry import FUNCTIONS, METHODS

__all__ = ["FOREACH"]

_UNARY = ("abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal round rsqrt sigmoid "
          "sign sin sinh sqrt tan tanh trunc").split()
_BINARY = "add sub mul div clamp_max clamp_min maximum minimum pow".split()

FOREACH: dict[str, Callable[..., Any]] = {}  # names of the public namespace


def _checked(name: str, tensors: Any) -> Any:
    if not isinstance(tensors, (list, tuple)) or not all(isinstance(t, Handle) for t in tensors):
        raise TypeError(f"{name}(): argument 'self' (position 1) must be tuple of Tensors, not {type(tensors).__name__}")
    if not tensors:
        raise RuntimeError("Tensor list must have at least one tensor.")
    return tensors


def _paired(tensors: Sequence[Any], other: Any) -> Iterator[tuple[Any, Any]]:
    """Each tensor with what belongs to it: one of a list, or the same number or tensor for all.

    Raises:
        RuntimeError: a list of another length.
    """
    if not isinstance(other, (list, tuple)):
        return iter([(t, other) for t in tensors])
    if len(other) != len(tensors):
        if other and not isinstance(other[0], Handle):
            raise RuntimeError("Tensor list must have same number of elements as scalar list.")
        raise RuntimeError(f"Tensor lists must have the same number of tensors, got {len(tensors)} and {len(other)}")
    return zip(tensors, other)


def _publish(name: str, with_end: Callable[[str], Callable[..., Sequence[Any]]], told: str = "", inplace: bool = True,
             function: bool = True) -> None:
    """``with_end("")(tensors, ...)`` gives the results of ``_foreach_name``, ``with_end("_")`` those of ``_foreach_name_``, which are
    written."""
    for end in [*([""] if function else []), *(["_"] if inplace else [])]:
        own = f"_foreach_{name}{end}"
        FOREACH[own] = made = _function(own, with_end(end), bool(end))
        made.__name__ = made.__qualname__ = own
        made.__doc__ = f"``{name}{end}`` of each tensor of a list{told}."


def _function(own: str, each: Callable[..., Sequence[Any]], writes: bool) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        results = each(_checked(own, self), *args, **kwargs)
        return self if writes else tuple(results)
    return call


def _unary(name: str) -> Any:
    def with_end(end: str) -> Any:
        method = METHODS[name + end]
        return lambda tensors: [method(t) for t in tensors]
    return with_end


def _binary(name: str) -> Any:
    def with_end(end: str) -> Any:
        def each(tensors: Any, other: Any, *, alpha: Any = None) -> list[Any]:
            more = {} if alpha is None else {"alpha": alpha}
            return [_two(name, end, t, o, more) for t, o in _paired(tensors, other)]
        return each
    return with_end


def _power(base: Any, exponents: Any) -> tuple[Any, ...]:
    """``_foreach_pow`` of one number, or a list."""
    if isinstance(base, (list, tuple)):
        return _powers(base, exponents)  # type: ignore[no-any-return]
    return tuple([FUNCTIONS["pow"](base, t) for t in _checked("_foreach_pow", exponents)])


def _two(name: str, end: str, t: Any, other: Any, more: dict[str, Any]) -> Any:
    if name in ("maximum", "minimum", "clamp_max", "clamp_min"):
        if isinstance(other, Handle):
            made = FUNCTIONS["minimum" if name in ("minimum", "clamp_max") else "maximum"](t, other)
        else:
            made = METHODS["clamp_max" if name in ("minimum", "clamp_max") else "clamp_min"](t, other)
        return METHODS["copy_"](t, made) if end else made
    return METHODS[name + end](t, other, **more)


def _ternary(name: str) -> Any:
    def with_end(end: str) -> Any:
        method = METHODS[name + end]

        def each(tensors: Any, tensor1: Any, tensor2: Any, value: Any = 1, *, scalars: Any = None) -> list[Any]:
            values = value if scalars is None else scalars
            if isinstance(values, Handle):
                values = values.tolist()
            triples = [(t, a, b) for (t, a), (_, b) in zip(_paired(tensors, tensor1), _paired(tensors, tensor2))]
            return [method(t, a, b, value=v) for (t, a, b), v in _paired(triples, values)]
        return each
    return with_end


def _lerp(end: str) -> Any:
    method = METHODS["lerp" + end]

    def each(tensors: Any, tensors1: Any, weight: Any = None, *, weights: Any = None, scalars: Any = None) -> list[Any]:
        by = next(w for w in (weight, weights, scalars) if w is not None)
        return [method(t, o, w) for (t, o), w in _paired(list(_paired(tensors, tensors1)), by)]
    return each


def _norm(end: str) -> Any:
    def each(tensors: Any, ord: Any = 2, dtype: Any = None) -> list[Any]:
        return [FUNCTIONS["norm"](t, ord, dtype=dtype) for t in tensors]
    return each


for _name in _UNARY:
    _publish(_name, _unary(_name))
for _name in _BINARY:
    _publish(_name, _binary(_name), " with a number, a tensor, or a list of these")
for _name in ("addcdiv", "addcmul"):
    _publish(_name, _ternary(_name), " with two lists of tensors, and a number or numbers")
_publish("lerp", _lerp, " with a list of tensors, and weights")
_publish("norm", _norm, inplace=False)
_publish("max", lambda end: lambda tensors: [FUNCTIONS["max"](t) for t in tensors], inplace=False)
_publish("clone", lambda end: lambda tensors, memory_format=None: [METHODS["clone"](t) for t in tensors], inplace=False)
_publish("mm", lambda end: lambda tensors, mat2: [FUNCTIONS["mm"](t, o) for t, o in _paired(tensors, mat2)], " with a list", inplace=False)
_publish("zero", lambda end: lambda tensors: [METHODS["zero_"](t) for t in tensors], function=False)
_publish("copy", lambda end: lambda tensors, src, non_blocking=False: [METHODS["copy_"](t, o) for t, o in _paired(tensors, src)],
         " from a list of tensors", function=False)
_powers, FOREACH["_foreach_pow"] = FOREACH["_foreach_pow"], _power
