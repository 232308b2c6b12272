"""The meaning of a Graph, in NumPy: the oracle of the compiled path, and the fallback for what has no native form.

One function per primitive; no cleverness. Half precision sums and products are accumulated in float32, as the native
code does.

Example::

    g = Graph(); x = g.leaf((2, 3), float32); g.results = [g.reduce("add", x, (1,))]
    (total,) = interpret(g, [np.ones((2, 3), np.float32)])
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rushlight.compile.errors import TARGET, OutOfBounds, ZeroDivision, origin
from rushlight.compile.graph import ContractSpec, Graph, Node, View, Window
from rushlight.compile.reference.evaluate import constant, evaluated

__all__ = ["interpret", "evaluate_node", "PLAIN"]

PLAIN = 2_000_000  # products in a contraction that is summed without BLAS

_UFUNC = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
          "and": np.logical_and, "or": np.logical_or}


def interpret(graph: Graph, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of ``graph`` for the given leaf values.

    Raises:
        OutOfBounds: a checked gather or a scatter meets an index outside its axis.
        ZeroDivision: integers are divided by zero.
    """
    values: dict[Node, Any] = dict(zip(graph.leaves, leaves, strict=True))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in values:
                try:
                    values[node] = evaluate_node(node, [values[i] for i in node.inputs])
                except (OutOfBounds, ZeroDivision) as error:
                    raise type(error)(f"{error}{origin(node.line)}") from None
    return [np.array(values[r], order="C") for r in graph.results]


def evaluate_node(node: Node, inputs: Sequence[Any]) -> Any:
    """The value of one node (for ``host`` and ``native``: the tuple of its results)."""
    value = _RULES[node.kind](node, *inputs)
    if node.kind in ("host", "native"):
        return value
    value = np.asarray(value)
    if value.dtype != node.dtype.numpy:
        value = value.astype(node.dtype.numpy)
    return value if value.shape == node.shape else value.reshape(node.shape)


def _const(node: Node) -> np.ndarray:
    return constant(node.attrs[0], node.dtype)


def _pointwise(node: Node, *inputs: np.ndarray) -> np.ndarray:
    value = evaluated(node.attrs[0], inputs, node.shape)
    return value if np.shape(value) == node.shape else np.broadcast_to(value, node.shape)


def _reduce(node: Node, x: np.ndarray) -> np.ndarray:
    op, axes = node.attrs
    if op.startswith("arg"):
        return _arg_reduce(op, x, axes)
    wide = x.astype(node.dtype.compute.numpy, copy=False)
    if op in ("min", "max") and not all(x.shape[a] for a in axes):
        return np.full(node.shape, extreme(node.dtype, op), wide.dtype)
    if op == "deviations":
        wide = wide.astype(np.float64)
        return np.square(wide - wide.mean(tuple(axes), keepdims=True)).sum(tuple(axes))
    if op == "add" and wide.dtype == np.float32:
        return wide.sum(tuple(axes), np.float64)  # NumPy adds along outer axes one after the other
    return _UFUNC[op].reduce(wide, axis=tuple(axes))


def _arg_reduce(op: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = np.transpose(x, [*kept, *axes]).reshape(
        [*(x.shape[a] for a in kept), math.prod(x.shape[a] for a in axes)])
    if rows.shape[-1] == 0:
        return np.zeros(rows.shape[:-1], np.int64)
    if rows.dtype.kind not in "biufc":
        rows = rows.astype(np.float32)  # NumPy's argmax does not know that a bfloat16 NaN is extreme
    return (np.argmax if op == "argmax" else np.argmin)(rows, axis=-1)


def extreme(dtype: Any, op: str) -> Any:
    """What ``min`` or ``max`` start from: the neutral element for the type."""
    low = op == "max"
    if dtype.kind == "f":
        return -np.inf if low else np.inf
    if dtype.kind == "b":
        return not low
    info = np.iinfo(dtype.numpy)
    return info.min if low else info.max


def _scan(node: Node, x: np.ndarray) -> np.ndarray:
    op, axis = node.attrs
    wide = node.dtype.compute.numpy
    if op in ("add", "mul") and wide == np.float32:
        wide = np.dtype(np.float64)
    return _UFUNC[op].accumulate(x.astype(wide, copy=False), axis=axis)


def view_index(view: View) -> tuple[np.ndarray, ...]:
    """One broadcastable integer array for each input dimension: the positions that the view reads."""
    grids = [np.arange(s).reshape([-1 if j == k else 1 for k in range(len(view.shape))])
             for j, s in enumerate(view.shape)]
    out = []
    for offset, row in zip(view.offset, view.matrix, strict=True):
        position = np.full((1,) * len(view.shape), offset, dtype=np.int64)
        for c, grid in zip(row, grids, strict=True):
            if c:
                position = position + c * grid
        out.append(position)
    return tuple(out)


def _view(node: Node, x: np.ndarray) -> np.ndarray:
    if node.size == 0:
        return np.zeros(node.shape, x.dtype)
    return _through(node.attrs[0], x)


def _through(view: View, x: np.ndarray) -> np.ndarray:
    """The memory of ``x`` as the view sees it. Nobody writes to values, so it need not be copied."""
    steps = x.strides
    strides = [sum([row[j] * step for row, step in zip(view.matrix, steps)]) for j in range(len(view.shape))]
    if x.flags.c_contiguous and x.dtype.kind in "biufc":
        return np.ndarray(view.shape, x.dtype, x, sum([o * step for o, step in zip(view.offset, steps)]), strides)  # type: ignore[call-overload, no-any-return]
    corner: Any = (*(slice(o, None) for o in view.offset), ...)
    return np.lib.stride_tricks.as_strided(x[corner], view.shape, strides, writeable=False)


def _apart(view: View) -> bool:
    """Whether each dimension of a view's output moves along an input dimension of its own: no place is reached twice."""
    moved = [[d for d, row in enumerate(view.matrix) if row[j]] for j, n in enumerate(view.shape) if n > 1]
    return all(len(dims) == 1 for dims in moved) and len({dims[0] for dims in moved}) == len(moved)


def _reshape(node: Node, x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(node.shape)


def _fit(node: Node, x: np.ndarray) -> np.ndarray:
    out = np.zeros(node.shape, x.dtype)
    common = tuple([slice(min(a, b)) for a, b in zip(node.shape, x.shape, strict=True)])
    out[common] = x[common]
    return out


def _pad(node: Node, x: np.ndarray) -> np.ndarray:
    low, value = node.attrs
    out = np.full(node.shape, np.array(value).astype(x.dtype), dtype=x.dtype)
    out[tuple(slice(lo, lo + s) for lo, s in zip(low, x.shape, strict=True))] = x
    return out


def _weave(node: Node, *parts: np.ndarray) -> np.ndarray:
    out = np.empty(node.shape, node.dtype.numpy)
    for view, part in zip(node.attrs[0], parts, strict=True):
        if part.size:
            out[tuple(slice(o, o + row[d] * (n - 1) + 1, row[d] or None)
                      for d, (o, row, n) in enumerate(zip(view.offset, view.matrix, part.shape, strict=True)))] = part
    return out


def _concat(node: Node, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=node.attrs[0])


def _along(shape: tuple[int, ...], index: np.ndarray, axis: int, code: int = 1) -> tuple[np.ndarray, ...]:
    where = [np.arange(s).reshape([-1 if j == k else 1 for k in range(index.ndim)]) for j, s in enumerate(index.shape)]
    if index.size and (index.min() < 0 or index.max() >= shape[axis]):
        bad = index[(index < 0) | (index >= shape[axis])].flat[0]
        if code == TARGET:
            raise OutOfBounds(f"Target {bad} is out of bounds.")
        raise OutOfBounds(f"index {bad} is out of bounds for dimension {axis} with size {shape[axis]}")
    where[axis] = index
    return tuple(np.broadcast_to(w, index.shape) for w in where)


def _gather(node: Node, x: np.ndarray, index: np.ndarray) -> np.ndarray:
    return x[_along(x.shape, index.astype(np.int64), *node.attrs)]


def _scatter(node: Node, base: np.ndarray, index: np.ndarray, src: np.ndarray) -> np.ndarray:
    axis, combine = node.attrs
    dtype = base.dtype if combine is None else node.dtype.compute.numpy
    out = np.array(base, dtype=dtype)
    where = _along(base.shape, index.astype(np.int64), axis)
    if combine is None:
        out[where] = src[tuple(slice(0, s) for s in index.shape)]
    elif index.size:
        _UFUNC[combine].at(out, where, src[tuple(slice(0, s) for s in index.shape)].astype(dtype))
    return out


def _update(node: Node, base: np.ndarray, src: np.ndarray) -> np.ndarray:
    out = np.array(base, order="C")
    if src.size:
        view = node.attrs[0]
        if out.dtype.kind in "biufc" and _apart(view):
            _through(view, out)[...] = src
        elif out.ndim:  # where places overlap (an expanded view was written), the last one stays
            out[tuple(np.broadcast_to(i, view.shape) for i in view_index(view))] = src
        else:
            out[()] = src.reshape(-1)[-1]
    return out


def windowed(x: np.ndarray, dims: tuple[str | Window, ...], sizes: dict[str, int]) -> tuple[np.ndarray, list[str]]:
    """``x`` with each windowed dimension replaced by two, and the letters of the dimensions."""
    if not any(isinstance(dim, Window) for dim in dims):
        return x, list(dims)  # type: ignore[arg-type]
    pads, shape, strides, letters = [], [], [], []
    for d, dim in enumerate(dims):
        if isinstance(dim, Window):
            reach = (sizes[dim.output] - 1) * dim.stride + (sizes[dim.kernel] - 1) * dim.dilation + 1 - dim.padding
            pads.append((max(0, dim.padding), max(0, reach - x.shape[d])))
        else:
            pads.append((0, 0))
    x = np.pad(x, pads) if any(p != (0, 0) for p in pads) else x
    # A negative padding starts inside the operand.
    x = x[tuple(slice(max(0, -dim.padding) if isinstance(dim, Window) else 0, None) for dim in dims)]
    for d, dim in enumerate(dims):
        if isinstance(dim, Window):
            letters += [dim.output, dim.kernel]
            shape += [sizes[dim.output], sizes[dim.kernel]]
            strides += [x.strides[d] * dim.stride, x.strides[d] * dim.dilation]
        else:
            letters.append(dim)
            shape.append(sizes[dim])
            strides.append(x.strides[d])
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False), letters


def _contract(node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    spec: ContractSpec = node.attrs[0]
    sizes = dict(spec.sizes)
    if not all(sizes.values()):
        return np.zeros(node.shape, node.dtype.numpy)
    wide = node.dtype.compute.numpy
    # Larger ones by BLAS, whose order of summation may follow its number of threads. What runs in the cold tier is small:
    # it is summed in one order, in double precision, so that first runs, too, are the same for any number of threads.
    small = math.prod(sizes.values()) <= PLAIN
    if small and wide.kind in "fc":
        wide = np.dtype(np.complex128 if wide.kind == "c" else np.float64)
    wa, in_a = windowed(a.astype(wide, copy=False), spec.a, sizes)
    wb, in_b = windowed(b.astype(wide, copy=False), spec.b, sizes)
    number = {letter: k for k, letter in enumerate(sizes)}
    return np.einsum(wa, [number[c] for c in in_a], wb, [number[c] for c in in_b], [number[c] for c in spec.out],
                     optimize=wide.kind in "fc" and not small)


def _copy(node: Node, x: np.ndarray) -> np.ndarray:
    return np.array(x)


def _host(node: Node, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    call = node.attrs[0]
    out = call.function(*inputs) if node.kind == "host" else call.reference(*inputs)
    out = out if isinstance(out, tuple) else (out,)
    return tuple(np.asarray(o).astype(d.numpy, copy=False).reshape(s)
                 for o, (s, d) in zip(out, call.results, strict=True))


def _item(node: Node, results: tuple[np.ndarray, ...]) -> np.ndarray:
    return results[node.attrs[0]]


_RULES: dict[str, Callable[..., Any]] = {
    "const": _const, "pointwise": _pointwise, "reduce": _reduce, "scan": _scan, "view": _view, "reshape": _reshape,
    "pad": _pad, "fit": _fit, "concat": _concat, "weave": _weave, "gather": _gather, "scatter": _scatter, "update": _update,
    "contract": _contract, "copy": _copy, "host": _host, "native": _host, "item": _item,
}
