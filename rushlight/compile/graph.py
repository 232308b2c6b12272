"""Graph: the compiler's SSA form of one recorded path, in a closed set of primitives.

Operations (``rushlight/ops``) lower themselves to these through the building methods of ``Graph``; everything after
that (``passes``, fusion, planning, the reference interpreter) knows these primitives and nothing else.

| kind | meaning, for an output position i |
| --- | --- |
| leaf | the ``attrs[0]``-th value that enters the program |
| const | a scalar (shape ``()``), ``attrs = (value,)`` |
| pointwise | ``attrs = (expr,)``: ``input(k)`` is ``inputs[k][i]`` (all inputs have the output's shape); ``index(a)`` is i[a] |
| reduce | ``attrs = (op, axes)``: add, mul, min, max, and, or, argmin, argmax over axes, which are dropped; deviations: see below |
| scan | ``attrs = (op, axis)``: running add, mul, min, max along an axis |
| view | ``attrs = (View,)``: ``inputs[0][offset + matrix · i]``: permute, slice, expand, flip, diagonal, window |
| reshape | the same elements in row-major order |
| pad | ``attrs = (low, value)``: ``inputs[0][i - low]`` where that is inside, else value |
| concat | ``attrs = (axis,)``: inputs one after the other |
| weave | ``attrs = (Views,)``: ``out[view_k(i)] = inputs[k][i]``; together the views reach every element once |
| gather | inputs (x, index), ``attrs = (axis, code of a failed bound check or 0)``: ``x[i with i[axis] replaced by index[i]]`` |
| scatter | inputs (base, index, src), ``attrs = (axis, combine)``: a copy of base, then src written into it; see below |
| update | inputs (base, src), ``attrs = (View,)``: a copy of base with ``out[offset + matrix · i] = src[i]`` |
| contract | inputs (a, b), ``attrs = (ContractSpec,)``: the sum over shared indices; see ContractSpec |
| host | ``attrs = (HostCall,)``: a Python function on NumPy arrays, with several results; ``item`` picks one |
| native | ``attrs = (NativeCall,)``: a computation with a kernel of its own, with several results; ``item`` picks one |
| item | ``attrs = (k,)``: the k-th result of a host or native node |

deviations: the sum of squared distances from the mean over the axes; made by ``passes/moments.py`` alone.

scatter: for every i of src, in row-major order, ``out[i with i[axis] replaced by index[i]] = or op= src[i]``; combine is None, add,
mul, min or max.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import dtypes as dt
from .dtypes import DType
from .expr import Expr, cast, const, e, input_, inputs_of, substitute, walk
from .sizes import is_size

__all__ = ["Graph", "Node", "View", "ContractSpec", "Window", "HostCall", "NativeCall", "is_one", "told_apart"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """An affine map from output positions to input positions: ``in[d] = offset[d] + sum_j matrix[d][j] * out[j]``."""

    shape: Shape                         # of the output
    offset: Shape                        # one per input dimension
    matrix: tuple[tuple[int, ...], ...]  # [input dimension][output dimension]

    def then(self, outer: View) -> View:
        """The view of this view: positions of ``outer``'s output to positions of this one's input."""
        offset = tuple(o + sum(c * outer.offset[j] for j, c in enumerate(row))
                       for o, row in zip(self.offset, self.matrix, strict=True))
        matrix = tuple(tuple(sum(c * outer.matrix[j][k] for j, c in enumerate(row)) for k in range(len(outer.shape)))
                       for row in self.matrix)
        return View(outer.shape, offset, matrix)

    def is_identity(self, shape: Shape) -> bool:
        """Whether it leaves a value of this shape as it is. Sizes are not asked whether they are equal where dimensions change places."""
        if len(self.shape) != len(shape):
            return False
        moved = {j for d, row in enumerate(self.matrix) for j, c in enumerate(row) if c != (d == j)}
        return all(shape[j] == 1 for j in sorted(moved)) and self.shape == shape and not any(self.offset)


@dataclass(frozen=True)
class Window:
    """A convolution's index: ``position = stride * output + dilation * kernel - padding`` along one spatial dimension
    of an operand. Positions outside the operand read zero."""

    output: str
    kernel: str
    stride: int = 1
    dilation: int = 1
    padding: int = 0


@dataclass(frozen=True)
class ContractSpec:
    """An einsum with windows. Each operand's dimensions are named by single letters or ``Window``s (operand a and b; the
    output has letters only); a letter that the output lacks is summed over. Example, convolution 2d, NCHW, groups g::

        a = ("n", "g", "c", Window("y", "u", 2, 1, 1), Window("x", "v", 2, 1, 1))
        b = ("g", "o", "c", "u", "v")
        out = ("n", "g", "o", "y", "x")

    ``sizes`` gives the extent of every letter.
    """

    a: tuple[str | Window, ...]
    b: tuple[str | Window, ...]
    out: tuple[str, ...]
    sizes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class HostCall:
    """``function(*arrays) -> array or tuple of arrays``; must return new arrays (never views of its arguments)."""

    function: Callable[..., Any]
    results: tuple[tuple[Shape, DType], ...]
    name: str = ""


class NativeCall:
    """A computation that is no combination of the other primitives and has a kernel of its own: a loop over time, say.

    Subclasses are frozen dataclasses that say everything but the operands. ``reference`` is what the call means; the back
    end finds its kernel by ``name`` (``compile/cpu/native.py``) and falls back to the reference where it has none.

    Attributes:
        name: which kernel; also what the profiler shows.
        strided: whether the kernel takes views of its operands' memory as they lie, in any order; else they are row-major,
            and dense but for those that ``in_place`` lets be.
    """

    name = ""
    strided = False

    def in_place(self, k: int, strides: Shape) -> bool:
        """Whether the kernel reads operand k where it lies, with these strides (in elements)."""
        return self.strided

    @property
    def results(self) -> tuple[tuple[Shape, DType], ...]:
        """Shape and dtype of each result."""
        raise NotImplementedError

    def wide(self) -> NativeCall | None:
        """The same on operands of half precision in ``DType.compute``, with such results: what is called, between casts, where the
        back end has a kernel for that and none for this."""
        return None

    @property
    def work(self) -> int:
        """How many multiplications it is, to decide whether a first run is worth compiling."""
        raise NotImplementedError

    @property
    def overwrites(self) -> dict[int, int]:
        """Results that may be written over an operand of the same size, because each element is read before it is written:
        number of the result -> number of the operand."""
        return {}

    def reference(self, *arrays: Any) -> tuple[Any, ...]:
        """The results with NumPy: new arrays, never views of the arguments."""
        raise NotImplementedError


class Node:
    """One value of a graph. ``shape`` and ``dtype`` describe the result; ``line`` where it comes from: (file,
    line, slot of the recorded operation)."""

    __slots__ = ("kind", "inputs", "attrs", "shape", "dtype", "number", "line", "_size")

    def __init__(self, kind: str, inputs: tuple[Node, ...], attrs: tuple, shape: Shape, dtype: DType,
                 number: int, line: Any) -> None:
        self.kind, self.inputs, self.attrs, self.shape, self.dtype = kind, inputs, attrs, shape, dtype
        self.number, self.line = number, line
        self._size: int | None = None

    def __repr__(self) -> str:
        args = ", ".join(f"%{i.number}" for i in self.inputs)
        return f"%{self.number} = {self.kind}({args}) {self.attrs} : {self.dtype.name}{list(self.shape)}"

    @property
    def size(self) -> int:
        size = self._size
        if size is None:  # asked for again and again, which costs where extents are sizes
            size = self._size = math.prod(self.shape)
        return size


class _Told(tuple):
    """A tuple equal only to one that looks the same: -0.0 is not 0.0 there, and NaN is NaN."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is _Told and repr(self) == repr(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(repr(self))


def told_apart(attrs: tuple) -> tuple:
    """Attributes as part of a key: with -0.0, which is equal to 0.0, and NaN, which is equal to nothing, told apart and found again.

    Numbers of different types that are equal (1, 1.0, True) mean the same there: an operation's types are attributes of their own."""
    for a in attrs:
        if type(a) is float and not a > 0.0 and not a < 0.0 and repr(a) != "0.0":
            return _Told(attrs)
    return attrs


class Graph:
    """A list of nodes, arguments before users, with value numbering: equal nodes are built once.

    Attributes:
        nodes: all nodes in order.
        leaves: ``leaf`` nodes by position.
        results: the nodes whose values leave the program.
        line: set by the caller before lowering an op; stamped on new nodes.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leaves: list[Node] = []
        self.results: list[Node] = []
        self.line: Any = None
        self._known: dict[tuple, Node] = {}

    # -- building ------------------------------------------------------------------------------------------------
    def node(self, kind: str, inputs: tuple[Node, ...], attrs: tuple, shape: Shape, dtype: DType) -> Node:
        key = (kind, inputs, told_apart(attrs) if kind in ("const", "pad") else attrs, shape, dtype)
        found = self._known.get(key)
        if found is None:
            found = Node(kind, inputs, attrs, shape, dtype, len(self.nodes), self.line)
            self._known[key] = found
            self.nodes.append(found)
        return found

    def leaf(self, shape: Shape, dtype: DType) -> Node:
        node = self.node("leaf", (), (len(self.leaves),), shape, dtype)
        self.leaves.append(node)
        return node

    def const(self, value: Any, dtype: DType, shape: Shape = ()) -> Node:
        return self.expand(self.node("const", (), (const(value, dtype).attr,), (), dtype), shape)

    def pointwise(self, expr: Expr, *inputs: Node, shape: Shape | None = None) -> Node:
        """``shape`` is needed only where there is no input. Inputs are broadcast to their common shape."""
        shape = broadcast([i.shape for i in inputs]) if shape is None else shape
        inputs = tuple(self.expand(i, shape) for i in inputs)
        for n in walk(expr):
            if n.fn == "input" and n.dtype is not inputs[n.attr].dtype:
                raise TypeError(f"input {n.attr} of {expr} is {inputs[n.attr].dtype.name}")
        if expr.fn == "input":
            return inputs[expr.attr]
        return self.node("pointwise", inputs, (expr,), shape, expr.dtype)

    def map(self, formula: Callable[..., Expr], *inputs: Node) -> Node:
        """``g.map(lambda e, x, y: e.exp(x) * y, a, b)``: a pointwise node from a formula, inputs broadcast."""
        return self.pointwise(formula(e, *(input_(k, n.dtype) for k, n in enumerate(inputs))), *inputs)

    def cast(self, x: Node, dtype: DType) -> Node:
        return x if x.dtype is dtype else self.pointwise(cast(input_(0, x.dtype), dtype), x)

    def index(self, shape: Shape, axis: int) -> Node:
        """An int64 value holding its own position along ``axis``."""
        return self.pointwise(e.index(axis), shape=shape)

    def reduce(self, op: str, x: Node, axes: Iterable[int], keepdim: bool = False) -> Node:
        axes = tuple(sorted(a % len(x.shape) for a in axes)) if x.shape else ()
        if not axes and not op.startswith("arg"):
            return x
        shape = tuple(s for a, s in enumerate(x.shape) if a not in axes)
        out = self.node("reduce", (x,), (op, axes), shape, dt.int64 if op.startswith("arg") else x.dtype)
        return self.reshape(out, tuple(1 if a in axes else s for a, s in enumerate(x.shape))) if keepdim else out

    def scan(self, op: str, x: Node, axis: int) -> Node:
        return self.node("scan", (x,), (op, axis), x.shape, x.dtype)

    def view(self, x: Node, view: View) -> Node:
        if x.kind == "view":
            return self.view(x.inputs[0], x.attrs[0].then(view))
        return x if view.is_identity(x.shape) else self.node("view", (x,), (view,), view.shape, x.dtype)

    def expand(self, x: Node, shape: Shape) -> Node:
        """Broadcast to ``shape`` (NumPy rules)."""
        if same_shape(x.shape, shape):
            return x
        lead = len(shape) - len(x.shape)
        matrix = tuple(tuple(int(j == d + lead and s != 1) for j in range(len(shape))) for d, s in enumerate(x.shape))
        return self.view(x, View(shape, (0,) * len(x.shape), matrix))

    def permute(self, x: Node, order: Sequence[int]) -> Node:
        """Output dimension j is input dimension ``order[j]``."""
        matrix = tuple(tuple(int(order[j] == d) for j in range(len(order))) for d in range(len(order)))
        return self.view(x, View(tuple(x.shape[d] for d in order), (0,) * len(order), matrix))

    def slice(self, x: Node, starts: Sequence[int], shape: Shape, steps: Sequence[int] | None = None) -> Node:
        """``x[start : : step]`` with the given output shape; steps may be negative."""
        steps = steps or (1,) * len(shape)
        matrix = tuple(tuple(steps[d] if j == d else 0 for j in range(len(shape))) for d in range(len(shape)))
        return self.view(x, View(tuple(shape), tuple(starts), matrix))

    def reshape(self, x: Node, shape: Shape) -> Node:
        shape = tuple(shape)
        if math.prod(shape) != x.size:
            raise ValueError(f"cannot reshape {x.shape} to {shape}")
        if x.kind == "reshape":
            return self.reshape(x.inputs[0], shape)
        return x if same_shape(x.shape, shape) else self.node("reshape", (x,), (), shape, x.dtype)

    def pad(self, x: Node, low: Sequence[int], high: Sequence[int], value: Any = 0) -> Node:
        """Grow by ``low`` and ``high`` elements at each end (both >= 0; use slice to shrink)."""
        if not any(low) and not any(high):
            return x
        shape = tuple(lo + s + hi for lo, s, hi in zip(low, x.shape, high, strict=True))
        return self.node("pad", (x,), (tuple(low), const(value, x.dtype).attr), shape, x.dtype)

    def fit(self, x: Node, shape: Shape, dims: Sequence[int]) -> Node:
        """What tiles of windows make, as a value of another shape: along each of ``dims`` cut off behind, or filled up with zeros, by the
        rest that a stride leaves over. That a shape leaves none is for ``passes/rests.py`` to see."""
        return self.node("fit", (x,), (tuple(dims),), shape, x.dtype) if dims else x

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        if len(parts) == 1:
            return parts[0]
        first = parts[0].shape
        shape = (*first[:axis], sum(p.shape[axis] for p in parts), *first[axis + 1:])
        return self.node("concat", tuple(parts), (axis,), shape, parts[0].dtype)

    def weave(self, parts: Sequence[Node], views: Sequence[View], shape: Shape) -> Node:
        """Part k at the positions that ``views[k]`` gives it (dimension d of the part moves along dimension d of the result);
        no position is left out and none is written twice."""
        if len(parts) == 1 and views[0].is_identity(shape):
            return parts[0]
        return self.node("weave", tuple(parts), (tuple(views),), tuple(shape), parts[0].dtype)

    def gather(self, x: Node, index: Node, axis: int, check: int = 1) -> Node:
        """``index`` (int64 or int32) has the output's shape; except along ``axis`` it is no longer than x. Values must
        be in ``[0, x.shape[axis])``; others raise IndexError at the end of the run, in the words for ``check``: an index
        (1) or a class label (``errors.TARGET``); 0: nobody looks."""
        return self.node("gather", (x, index), (axis, check), index.shape, x.dtype)

    def scatter(self, base: Node, index: Node, src: Node, axis: int, combine: str | None = None) -> Node:
        return self.node("scatter", (base, index, src), (axis, combine), base.shape, base.dtype)

    def update(self, base: Node, src: Node, view: View) -> Node:
        if view.is_identity(base.shape):
            return src
        return self.node("update", (base, src), (view,), base.shape, base.dtype)

    def contract(self, a: Node, b: Node, spec: ContractSpec, dtype: DType | None = None) -> Node:
        """a and b have one dtype; half precision accumulates in float32. The result has the operands' dtype, or ``dtype``:
        with ``a.dtype.compute`` the sums are not rounded before what follows."""
        sizes = dict(spec.sizes)
        return self.node("contract", (a, b), (spec,), tuple(sizes[c] for c in spec.out), dtype or a.dtype)

    def einsum(self, equation: str, a: Node, b: Node, dtype: DType | None = None) -> Node:
        """``g.einsum("mk,kn->mn", a, b)``; ``dtype`` as for ``contract``."""
        left, out = equation.split("->")
        in_a, in_b = left.split(",")
        sizes = {**dict(zip(in_a, a.shape, strict=True)), **dict(zip(in_b, b.shape, strict=True))}
        return self.contract(a, b, ContractSpec(tuple(in_a), tuple(in_b), tuple(out), tuple(sorted(sizes.items()))), dtype)

    def host(self, call: HostCall, *inputs: Node) -> tuple[Node, ...]:
        shape, dtype = call.results[0]
        made = self.node("host", inputs, (call,), shape, dtype)
        return tuple(self.node("item", (made,), (k,), s, d) for k, (s, d) in enumerate(call.results))

    def native(self, call: NativeCall, *inputs: Node) -> tuple[Node, ...]:
        """The results of ``call``; what nobody uses of them is not stored."""
        shape, dtype = call.results[0]
        made = self.node("native", inputs, (call,), shape, dtype)
        return tuple(self.node("item", (made,), (k,), s, d) for k, (s, d) in enumerate(call.results))

    # -- checking ------------------------------------------------------------------------------------------------
    def verify(self) -> None:
        """Raise AssertionError where a node breaks the rules of its kind; run after every pass in tests."""
        position = {n: i for i, n in enumerate(self.nodes)}
        for n in self.nodes:
            assert all(position.get(i, len(position)) < position[n] for i in n.inputs), f"order: {n}"
            assert all(isinstance(s, int) and s >= 0 for s in n.shape), f"shape: {n}"
            if n.kind == "pointwise":
                assert all(i.shape == n.shape for i in n.inputs), f"shapes: {n}"
                assert inputs_of(n.attrs[0]) <= set(range(len(n.inputs))), f"inputs: {n}"
                assert n.attrs[0].dtype is n.dtype, f"dtype: {n}"
            elif n.kind == "view":
                v, source = n.attrs[0], n.inputs[0].shape
                assert v.shape == n.shape and len(v.offset) == len(v.matrix) == len(source), f"view: {n}"
                if n.size:
                    for d, row in enumerate(v.matrix):
                        ends = [c * (s - 1) for c, s in zip(row, n.shape, strict=True)]
                        low, high = v.offset[d] + sum(min(0, x) for x in ends), v.offset[d] + sum(max(0, x) for x in ends)
                        assert 0 <= low and high < source[d], f"view leaves its input: {n}"
            elif n.kind == "fit":
                source = n.inputs[0].shape
                assert all(d in n.attrs[0] or a == b for d, (a, b) in enumerate(zip(n.shape, source, strict=True))), f"shape: {n}"
            elif n.kind == "weave":
                assert sum(i.size for i in n.inputs) == n.size, f"parts do not cover: {n}"
                assert all(v.shape == i.shape for v, i in zip(n.attrs[0], n.inputs, strict=True)), f"views: {n}"
            elif n.kind == "reshape":
                assert n.size == n.inputs[0].size, f"size: {n}"
            elif n.kind in ("gather", "scatter"):
                assert n.inputs[1].dtype.kind in "iu", f"index dtype: {n}"
        for r in self.results:
            assert r in position, f"result not in the graph: {r}"

    def __str__(self) -> str:
        rows = [repr(n) for n in self.nodes]
        return "\n".join([*rows, "return " + ", ".join(f"%{r.number}" for r in self.results)])


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The common shape under NumPy's rules."""
    rank = max((len(s) for s in shapes), default=0)
    out = [1] * rank
    for s in shapes:
        for d, extent in enumerate(s, rank - len(s)):
            if out[d] is not extent:
                if is_one(out[d]):
                    out[d] = extent
                elif not is_one(extent) and out[d] != extent and extent != 1:
                    if out[d] != 1:
                        raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
                    out[d] = extent
    return tuple(out)


def same_shape(a: Shape, b: Shape) -> bool:
    """Tuples compare their items before their lengths, and sizes would be asked about what cannot be equal."""
    return len(a) == len(b) and a == b


def is_one(extent: int) -> bool:
    """Whether it is 1 for every size."""
    return not is_size(extent) and extent == 1


def renumber(expr: Expr, positions: Sequence[int]) -> Expr:
    """The same formula with input k read from ``positions[k]``."""
    return substitute((expr,), lambda n: input_(positions[n.attr], n.dtype) if n.fn == "input" else None)[0]
