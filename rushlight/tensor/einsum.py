"""einsum for any number of operands, and the products that are written with it."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import value_of
from ..autograd.handle import Handle
from ..autograd.titles import titled
from ..ops.contraction import einsum2
from ..ops.pointwise import broadcast_shapes
from ..ops.promotion import result_type
from ..ops.structured import wrap_dim
from ..ops.views import diagonal
from .products import matmul
from .registry import METHODS, public

__all__ = ["einsum"]

_product, _outer = einsum2.named("ViewBackward0"), einsum2.named("MulBackward0")
_diagonal = diagonal.named("PermuteBackward0")

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _subscript(text: str, what: str) -> tuple[str, int | None]:
    """Letters of one operand without the ellipsis, and where the ellipsis stood."""
    at = text.find("...")
    letters = text.replace("...", "", 1) if at >= 0 else text
    for c in letters:
        if c not in _LETTERS:
            raise RuntimeError(f"einsum(): invalid subscript given at {what}, subscripts must be in [a-zA-Z] but found: {c!r}")
    return letters, at if at >= 0 else None


def _parsed(equation: str, operands: Sequence[Any]) -> tuple[list[list[Any]], list[Any]]:
    """The indices of the operands and of the result; dimensions of an ellipsis are numbers counted from the last."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(operands):
        raise RuntimeError("einsum(): " + ("fewer" if len(operands) < len(texts) else "more") +
                           " operands were provided than specified in the equation")
    rows, widest = [], 0
    for k, (text, t) in enumerate(zip(texts, operands)):
        letters, at = _subscript(text, f"operand {k}")
        extra = len(t.shape) - len(letters)
        if extra < 0 or at is None and extra:
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({len(letters)}) "
                               f"{'is more than' if extra < 0 else 'does not match'} the number of dimensions ({len(t.shape)}) for "
                               f"operand {k}"
                               f"{'' if extra < 0 else ' and no ellipsis was given'}")
        if at is not None:
            widest = max(widest, extra)
            rows.append([*letters[:at], *range(-extra, 0), *letters[at:]])
        else:
            rows.append(list(letters))
    if arrow:
        letters, at = _subscript(right, "the output")
        if len(set(letters)) != len(letters):
            raise RuntimeError("einsum(): output subscript appears more than once in the output")
        known = {c for row in rows for c in row}
        missing = [c for c in letters if c not in known]
        if missing:
            raise RuntimeError(f"einsum(): output subscript {missing[0]} does not appear in the equation for any input operand")
        out = [*letters[:at], *range(-widest, 0), *letters[at:]] if at is not None else list(letters)
    else:
        flat = [c for row in rows for c in row if isinstance(c, str)]
        out = [*range(-widest, 0), *sorted(c for c in set(flat) if flat.count(c) == 1)]
    return rows, out


def _sizes(rows: list[list[Any]], operands: Sequence[Any]) -> dict[Any, int]:
    sizes: dict[Any, int] = {}
    for k, (row, t) in enumerate(zip(rows, operands)):
        for c, n in zip(row, t.shape):
            had = sizes.get(c, 1)
            if n != 1 and had not in (1, n):
                raise RuntimeError(f"einsum(): subscript {c} has size {n} for operand {k} which does not broadcast with previously seen "
                                   f"size {had}")
            sizes[c] = max(had, n) if 0 not in (had, n) else 0
    return sizes


def _plain(t: Any, row: list[Any], sizes: dict[Any, int], keep: set[Any]) -> tuple[Any, list[Any]]:
    """Repeated indices become diagonals; indices of length 1 that others broadcast, and indices nobody wants, go."""
    while len(set(row)) != len(row):
        c = next(c for c in row if row.count(c) > 1)
        a, b = [d for d, x in enumerate(row) if x == c][:2]
        if t.shape[a] != t.shape[b]:
            raise RuntimeError(f"einsum(): subscript {c} is repeated for operand but the sizes don't match, {t.shape[b]} != {t.shape[a]}")
        t = _diagonal(t, 0, a, b)
        row = [x for d, x in enumerate(row) if d not in (a, b)] + [c]
    single = tuple(d for d, c in enumerate(row) if t.shape[d] == 1 and sizes[c] != 1)
    if single:
        t, row = t.squeeze(single), [c for d, c in enumerate(row) if d not in single]
    gone = tuple(d for d, c in enumerate(row) if c not in keep)
    if gone:
        t, row = t.sum(gone), [c for c in row if c in keep]
    return t, row


def _pair(a: Any, in_a: list[Any], b: Any, in_b: list[Any], keep: set[Any]) -> tuple[Any, list[Any]]:
    """The contraction of two operands; indices that nobody wants any more are summed over."""
    shared = set(in_a) & set(in_b)
    for_a = tuple(d for d, c in enumerate(in_a) if c not in shared and c not in keep)
    for_b = tuple(d for d, c in enumerate(in_b) if c not in shared and c not in keep)
    if for_a:
        a, in_a = a.sum(for_a), [c for d, c in enumerate(in_a) if d not in for_a]
    if for_b:
        b, in_b = b.sum(for_b), [c for d, c in enumerate(in_b) if d not in for_b]
    out = [c for c in in_a if c in keep] + [c for c in in_b if c in keep and c not in in_a]
    name = {c: _LETTERS[k] for k, c in enumerate(dict.fromkeys([*in_a, *in_b]))}
    text = tuple("".join(name[c] for c in row) for row in (in_a, in_b, out))
    contracts = bool(set(text[0] + text[1]) - set(text[2]))
    if not contracts and a.dtype is not b.dtype and a.dtype.kind in "bui" and b.dtype.kind in "bui":  # sums widen one of them
        wide = result_type([value_of(x).meta for x in (a, b)])
        a, b = a.to(wide), b.to(wide)
    return (_product if contracts else _outer)(a, b, attrs=text), out


def _flat(equation: Any, *operands: Any) -> tuple[Any, ...]:
    """Operands one by one, as classes are told of them."""
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)) and not isinstance(equation, Handle):
        operands = tuple(operands[0])
    return (equation, *operands)


def _told(form: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]) -> Callable[[Any], Any]:
    """A decorator: what classes are told that a function was called with, ``form(args, kwargs)``."""
    def mark(define: Any) -> Any:
        define.told = form
        return define
    return mark


@public(method=False, out=False)
@_told(lambda args, kwargs: (_flat(*args), kwargs))
def einsum(equation: Any, *operands: Any) -> Any:
    """Sums of products over indices: ``einsum("bij,bjk->bik", a, b)``; ellipses broadcast, repeated letters take diagonals.

    Raises:
        RuntimeError: the equation does not fit the operands.
    """
    if isinstance(equation, Handle):
        equation, operands = _from_sublists(equation, *operands)
    equation, *given = _flat(equation, *operands)
    operands = tuple(given)
    if not operands:
        raise ValueError("einsum(): must provide at least one operand")
    rows, out = _parsed(equation, operands)
    sizes = _sizes(rows, operands)
    left = list(zip(operands, rows))
    wanted = set(out)

    def needed(others: list[tuple[Any, list[Any]]]) -> set[Any]:
        return wanted.union(*[row for _, row in others]) if others else set(wanted)
    left = [_plain(t, row, sizes, needed([x for j, x in enumerate(left) if j != k])) for k, (t, row) in enumerate(left)]
    while len(left) > 1:
        i, j = _cheapest(left, sizes) if len(left) > 2 else (0, 1)
        (a, in_a), (b, in_b) = left[i], left[j]
        rest = [x for k, x in enumerate(left) if k not in (i, j)]
        left = [*rest, _pair(a, in_a, b, in_b, needed(rest))]
    t, row = left[0]
    gone = tuple(d for d, c in enumerate(row) if c not in wanted)
    if gone:
        t, row = t.sum(gone), [c for c in row if c in wanted]
    for c in out:  # length 1 in every operand
        if c not in row:
            t, row = t.unsqueeze(len(row)), [*row, c]
    return t.permute(tuple(row.index(c) for c in out)) if row != out else t


def _cheapest(left: list[tuple[Any, list[Any]]], sizes: dict[Any, int]) -> tuple[int, int]:
    """The pair whose product of index lengths is least (the first of equal ones)."""
    pairs = [(i, j) for i in range(len(left)) for j in range(i + 1, len(left))]
    return min(pairs, key=lambda p: math.prod(sizes[c] for c in set(left[p[0]][1]) | set(left[p[1]][1])))


def _from_sublists(*args: Any) -> tuple[str, tuple]:
    """``einsum(a, [0, 1], b, [1, 2], [0, 2])`` as an equation."""
    operands, texts, k = [], [], 0

    def text(row: Any) -> str:
        return "".join("..." if c is Ellipsis else _LETTERS[c] for c in row)
    while k < len(args) and isinstance(args[k], Handle):
        operands.append(args[k])
        texts.append(text(args[k + 1]))
        k += 2
    return ",".join(texts) + ("->" + text(args[k]) if k < len(args) else ""), tuple(operands)


# -- products -----------------------------------------------------------------------------------------------------


@public(method=False)
@_told(lambda args, kwargs: (args[:2], {"dims": args[2] if len(args) > 2 else 2, "out": None, **kwargs}))
def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """The sum over pairs of dimensions: so many last ones of ``a`` with first ones of ``b``, or two lists."""
    if isinstance(dims, Handle):
        dims = dims.tolist()  # type: ignore[attr-defined]
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(len(a.shape), len(b.shape)):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        of_a, of_b = tuple(range(len(a.shape) - dims, len(a.shape))), tuple(range(dims))
    else:
        of_a, of_b = (tuple(d) if isinstance(d, (tuple, list)) else (d,) for d in dims)
    if len(of_a) != len(of_b):
        raise RuntimeError("both dimension lists should have same length")
    of_a, of_b = tuple(wrap_dim(d, len(a.shape)) for d in of_a), tuple(wrap_dim(d, len(b.shape)) for d in of_b)
    for x, y in zip(of_a, of_b):
        if a.shape[x] != b.shape[y] and 1 not in (a.shape[x], b.shape[y]):
            raise RuntimeError(f"contracted dimensions need to match, but first has size {a.shape[x]} in dim {x} and second has size "
                               f"{b.shape[y]} in dim {y}")
        if a.shape[x] != b.shape[y]:  # summed here, for einsum would widen integers
            a, b = (a, b.sum(y, True, dtype=b.dtype)) if a.shape[x] == 1 else (a.sum(x, True, dtype=a.dtype), b)
    in_a = list(_LETTERS[:len(a.shape)])
    in_b = list(_LETTERS[len(a.shape):len(a.shape) + len(b.shape)])
    for x, y in zip(of_a, of_b):
        in_b[y] = in_a[x]
    out = [c for d, c in enumerate(in_a) if d not in of_a] + [c for d, c in enumerate(in_b) if d not in of_b]
    return einsum("".join(in_a) + "," + "".join(in_b) + "->" + "".join(out), a, b)


@public()
def inner(input: Any, other: Any) -> Any:
    """Sums of products over the last dimension of both."""
    if not input.shape or not other.shape:
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError("inner() the last dimension must match on both input tensors but got shapes "
                           f"{list(input.shape)} and {list(other.shape)}")
    return tensordot(input, other, ([-1], [-1]))


@public()
@titled("VdotBackward0")
def vdot(input: Any, other: Any) -> Any:
    """The inner product of vectors, the first one conjugated."""
    return (input.conj() if input.dtype.kind == "c" else input).dot(other)


@public()
@titled("UnsafeViewBackward0")
def kron(input: Any, other: Any) -> Any:
    """Every element of ``input`` times all of ``other``, laid out as blocks."""
    n = max(len(input.shape), len(other.shape))
    a = input.reshape((1,) * (n - len(input.shape)) + tuple(input.shape))
    b = other.reshape((1,) * (n - len(other.shape)) + tuple(other.shape))
    spread_a = tuple(x for s in a.shape for x in (s, 1))
    spread_b = tuple(x for s in b.shape for x in (1, s))
    return (a.reshape(spread_a) * b.reshape(spread_b)).reshape(tuple(x * y for x, y in zip(a.shape, b.shape)))


@public()
@titled("LinalgCrossBackward0")
def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """The cross product of vectors of length 3 along ``dim`` (the first such dimension)."""
    if dim is None:
        dim = next((d for d, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise RuntimeError("no dimension of size 3 in input")
    return _cross("cross", input, other, dim)


def _cross(name: str, input: Any, other: Any, dim: int) -> Any:
    if len(input.shape) != len(other.shape):
        raise RuntimeError(f"{name}: inputs must have the same number of dimensions.")
    d = wrap_dim(dim, len(input.shape))
    if input.shape[d] != 3 or other.shape[d] != 3:
        raise RuntimeError(f"{name}: inputs dimension {dim} must have length 3. Got {input.shape[d]} and {other.shape[d]}")
    shape = broadcast_shapes([input.shape, other.shape], name)
    a, b = input.expand(shape), other.expand(shape)
    return a.roll(-1, d) * b.roll(-2, d) - a.roll(-2, d) * b.roll(-1, d)


@public(method=False)
def chain_matmul(*matrices: Any) -> Any:
    """The product of matrices, in the cheapest order."""
    return multi_dot(matrices)


@titled("ViewBackward0")
def multi_dot(tensors: Sequence[Any]) -> Any:
    """The product of matrices (the first and last may be vectors), in the cheapest order.

    Raises:
        RuntimeError: fewer than two, or sizes that do not fit.
    """
    mats = list(tensors)
    if len(mats) == 1:
        return mats[0]
    first, last = len(mats[0].shape) == 1, len(mats[-1].shape) == 1
    if first:
        mats[0] = mats[0].unsqueeze(0)
    if last:
        mats[-1] = mats[-1].unsqueeze(1)
    for k, m in enumerate(mats):
        if len(m.shape) != 2:
            raise RuntimeError(f"multi_dot(): tensor {k} must be 2D but got {len(tensors[k].shape)}D")
    sizes = [mats[0].shape[0], *[m.shape[1] for m in mats]]
    n = len(mats)
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(n)}
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length - 1
            best[i, j] = min((best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j))

    def product(i: int, j: int) -> Any:
        if i == j:
            return mats[i]
        k = best[i, j][1]
        return matmul(product(i, k), product(k + 1, j))
    made = product(0, n - 1)
    if first:
        made = made.squeeze(0)
    return made.squeeze(-1) if last else made


METHODS["inner"] = inner
