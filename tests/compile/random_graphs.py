"""Random small graphs over all primitives, for property tests: hypothesis draws the choices."""
from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import strategies as st

from rushlight.compile import dtypes as dt
from rushlight.compile.graph import ContractSpec, Graph, HostCall, Node, View, Window

DTYPES = [dt.float32, dt.float32, dt.float32, dt.int64, dt.int32, dt.bool_, dt.float64, dt.bfloat16, dt.float16, dt.uint8]


class Drawer:
    """Builds a graph by asking ``draw`` for every choice; keeps leaf values beside it."""

    def __init__(self, draw, dtypes=DTYPES) -> None:
        self.draw, self.dtypes = draw, dtypes
        self.graph = Graph()
        self.arrays: list[np.ndarray] = []
        self.pool: list[Node] = []
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def permutation(self, n):
        return self.draw(st.permutations(range(n)))

    def shape(self, low=0, high=3):
        return tuple(self.pick([1, 2, 3, 4, 5, 0] if self.number(0, 9) == 0 else [1, 2, 3, 4, 5])
                     for _ in range(self.number(low, high)))

    def leaf(self, shape, dtype, low=-4, high=5) -> Node:
        if dtype.kind == "f":
            value = self.rng.standard_normal(shape).astype(np.float32).astype(dtype.numpy)
        elif dtype.kind == "b":
            value = self.rng.integers(0, 2, shape).astype(bool)
        else:
            value = self.rng.integers(max(low, 0) if dtype.kind == "u" else low, high, shape).astype(dtype.numpy)
        self.arrays.append(np.asarray(value))
        return self.graph.leaf(tuple(shape), dtype)

    def any(self, test=lambda n: True) -> Node:
        fitting = [n for n in self.pool if test(n)]
        if not fitting:
            return self.leaf(self.shape(1, 3), dt.float32)
        return fitting[self.number(0, len(fitting) - 1)]

    def step(self) -> None:
        kind = self.pick(["map", "map", "map", "map2", "map2", "reduce", "reduce", "scan", "permute", "slice", "expand",
                          "reshape", "reshape", "pad", "fit", "concat", "weave", "gather", "scatter", "update", "einsum", "conv", "host",
                          "softmax", "index", "const"])
        made = getattr(self, kind)()
        if made is not None and made.size <= 2000:
            self.pool.append(made)

    def map(self) -> Node:
        x = self.any()
        if x.dtype.kind == "f":
            f = self.pick([lambda e, x: e.tanh(x), lambda e, x: x * 2 + 1, lambda e, x: e.max(x, 0.0),
                           lambda e, x: e.where(x > 0, x, -x), lambda e, x: e.exp(e.min(x, 1.0))])
            return self.graph.map(f, x)
        if x.dtype.kind == "b":
            return self.graph.map(lambda e, x: x ^ e.const(True, x.dtype), x)
        return self.graph.map(lambda e, x: x * 3 - 1, x) if self.number(0, 2) else self.graph.cast(x, self.pick(self.dtypes))

    def map2(self) -> Node:
        x = self.any()
        y = self.any(lambda n: n.dtype is x.dtype and (n.shape == x.shape or n.shape == x.shape[1:] or n.shape == ()))
        if y.dtype is not x.dtype or y.shape not in (x.shape, x.shape[1:], ()):
            y = x
        if x.dtype.kind == "b":
            return self.graph.map(lambda e, x, y: x & y, x, y)
        if x.dtype.kind != "f" and self.number(0, 3) == 0:
            return self.graph.map(lambda e, x, y: e.floordiv(x, e.where(e.eq(y, 0), e.const(1, y.dtype), y)), x, y)
        return self.graph.map(self.pick([lambda e, x, y: x + y, lambda e, x, y: x * y, lambda e, x, y: e.max(x, y)]), x, y)

    def reduce(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) >= 1)
        axes = sorted({self.number(0, len(x.shape) - 1) for _ in range(self.number(1, 2))})
        ops = ["and", "or"] if x.dtype.kind == "b" else ["add", "min", "max", "argmax", "argmin"]
        op = self.pick(ops)
        if op.startswith("arg") and not all(x.shape[a] for a in axes):
            return None
        return self.graph.reduce(op, x, axes, keepdim=bool(self.number(0, 1)))

    def scan(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) >= 1 and n.dtype.kind != "b")
        return self.graph.scan(self.pick(["add", "max", "min"]), x, self.number(0, len(x.shape) - 1))

    def permute(self) -> Node:
        x = self.any()
        return self.graph.permute(x, self.permutation(len(x.shape)))

    def slice(self) -> Node:
        x = self.any(lambda n: all(n.shape))
        if not all(x.shape):
            return x
        starts, shape, steps = [], [], []
        for s in x.shape:
            step = self.pick([1, 1, 2, -1])
            start = self.number(0, s - 1)
            room = (s - 1 - start) // step if step > 0 else start
            starts.append(start)
            steps.append(step)
            shape.append(self.number(1, room + 1))
        return self.graph.slice(x, starts, shape, steps)

    def expand(self) -> Node:
        x = self.any()
        lead = self.shape(0, 1)
        return self.graph.expand(x, (*lead, *(self.number(1, 3) if s == 1 else s for s in x.shape)))

    def reshape(self) -> Node:
        x = self.any()
        n = x.size
        shapes = [(n,), (1, n)] + [(d, n // d) for d in range(1, n + 1) if n % d == 0]
        shapes += [(*x.shape[:-2], math.prod(x.shape[-2:])), (math.prod(x.shape[:2]), *x.shape[2:])]
        return self.graph.reshape(x, self.pick(shapes))

    def pad(self) -> Node:
        x = self.any()
        return self.graph.pad(x, [self.number(0, 2) for _ in x.shape], [self.number(0, 2) for _ in x.shape],
                              self.pick([0, 1]))

    def fit(self) -> Node:
        x = self.any()
        dims = sorted({self.number(0, len(x.shape) - 1) for _ in range(2)}) if x.shape else []
        return self.graph.fit(x, tuple(max(0, n + self.number(-2, 2)) if d in dims else n for d, n in enumerate(x.shape)), dims)

    def concat(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) >= 1)
        if not x.shape:
            return None
        y = self.map2_like(x)
        return self.graph.concat([x, y, x][:self.number(2, 3)], self.number(0, len(x.shape) - 1))

    def weave(self) -> Node:
        """The phases of a value (or what a formula makes of them), put together again."""
        x = self.any(lambda n: all(n.shape) and n.dtype.kind != "b")
        if not all(x.shape) or x.dtype.kind == "b":
            return x
        steps = [self.pick([1, 2, 3]) for _ in x.shape]
        rank = len(x.shape)
        matrix = tuple(tuple(steps[d] if j == d else 0 for j in range(rank)) for d in range(rank))
        parts, views = [], []
        for starts in itertools.product(*(range(min(t, n)) for t, n in zip(steps, x.shape))):
            shape = tuple(-(-(n - a) // t) for n, a, t in zip(x.shape, starts, steps))
            part = self.graph.slice(x, starts, shape, steps)
            if self.number(0, 2):
                part = self.graph.map(lambda e, a: a * 2 + 1, part)
            parts.append(part)
            views.append(View(shape, starts, matrix))
        return self.graph.weave(parts, views, x.shape)

    def map2_like(self, x) -> Node:
        y = self.any(lambda n: n.dtype is x.dtype and n.shape == x.shape)
        return y if y.dtype is x.dtype and y.shape == x.shape else x

    def _index(self, shape, size) -> Node:
        value = self.rng.integers(0, size, shape)
        self.arrays.append(np.asarray(value, np.int64))
        return self.graph.leaf(tuple(shape), dt.int64)

    def gather(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) >= 1 and all(n.shape))
        if not all(x.shape) or not x.shape:
            return None
        axis = self.number(0, len(x.shape) - 1)
        shape = [self.number(1, s) for s in x.shape]
        shape[axis] = self.number(1, 5)
        return self.graph.gather(x, self._index(shape, x.shape[axis]), axis)

    def scatter(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) >= 1 and all(n.shape) and n.dtype.kind != "b")
        if not all(x.shape) or not x.shape or x.dtype.kind == "b":
            return None
        axis = self.number(0, len(x.shape) - 1)
        shape = [self.number(1, s) for s in x.shape]
        shape[axis] = self.number(1, 5)
        src = self.leaf(shape, x.dtype)
        return self.graph.scatter(x, self._index(shape, x.shape[axis]), src, axis, self.pick([None, "add", "max"]))

    def update(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) >= 1 and all(n.shape))
        if not all(x.shape) or not x.shape:
            return None
        starts = [self.number(0, s - 1) for s in x.shape]
        shape = tuple(self.number(1, s - a) for s, a in zip(x.shape, starts))
        matrix = tuple(tuple(int(i == j) for j in range(len(shape))) for i in range(len(shape)))
        return self.graph.update(x, self.leaf(shape, x.dtype), View(shape, tuple(starts), matrix))

    def einsum(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) == 2 and n.dtype.kind != "b" and n.dtype.itemsize >= 4)
        if len(x.shape) != 2 or x.dtype.kind == "b" or x.dtype.itemsize < 4:
            return None
        y = self.leaf((x.shape[1], self.number(1, 4)), x.dtype)
        out = self.graph.einsum(self.pick(["ij,jk->ik", "ij,jk->ki"]), x, y)
        if self.number(0, 1) and x.dtype.kind == "f":
            bias = self.leaf(out.shape[-1:], x.dtype)
            out = self.graph.map(lambda e, a, b: e.max(a + b, 0.0), out, bias)
        return out

    def conv(self) -> Node:
        n, c, o, h, k = (self.number(1, v) for v in (2, 3, 3, 5, 3))
        h = max(h, k)
        padding, stride = self.number(0, 1), self.number(1, 2)
        out = (h + 2 * padding - k) // stride + 1
        x, w = self.leaf((n, c, h, h), dt.float32), self.leaf((o, c, k, k), dt.float32)
        if self.number(0, 1):
            x = self.graph.map(lambda e, x: e.tanh(x), x)
        spec = ContractSpec(("n", "c", Window("y", "u", stride, 1, padding), Window("x", "v", stride, 1, padding)),
                            ("o", "c", "u", "v"), ("n", "o", "y", "x"),
                            (("n", n), ("c", c), ("o", o), ("y", out), ("x", out), ("u", k), ("v", k)))
        z = self.graph.contract(x, w, spec)
        self.pool.append(z)
        return self.graph.map(lambda e, z: e.max(z, 0.0), z)

    def host(self) -> Node:
        x = self.any()
        call = HostCall(lambda a: (np.flip(a).copy(), np.array(a, copy=True)), ((x.shape, x.dtype), (x.shape, x.dtype)), "flip")
        return self.graph.host(call, x)[self.number(0, 1)]

    def softmax(self) -> Node | None:
        x = self.any(lambda n: len(n.shape) >= 1 and n.dtype.kind == "f")
        if x.dtype.kind != "f" or not x.shape or not x.size:
            return None
        g, axis = self.graph, (self.number(0, len(x.shape) - 1),)
        raised = g.map(lambda e, x, m: e.exp(x - m), x, g.reduce("max", x, axis, True))
        return g.map(lambda e, a, b: a / b, raised, g.reduce("add", raised, axis, True))

    def index(self) -> Node:
        shape = self.shape(1, 3)
        return self.graph.index(shape, self.number(0, len(shape) - 1))

    def const(self) -> Node:
        return self.graph.const(self.number(0, 3), self.pick(self.dtypes), self.shape())


class SeededDrawer(Drawer):
    """The same choices from a seed: larger graphs than hypothesis likes to draw."""

    def __init__(self, seed: int, dtypes=DTYPES) -> None:
        self.dtypes, self.graph, self.arrays, self.pool = dtypes, Graph(), [], []
        self.rng = np.random.default_rng(seed)

    def pick(self, options):
        options = list(options)
        return options[self.rng.integers(len(options))]

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def permutation(self, n):
        return [int(k) for k in self.rng.permutation(n)]


def seeded_graph(seed: int, steps: int, dtypes=DTYPES):
    """(graph, leaf arrays) with about ``steps`` operations."""
    d = SeededDrawer(seed, dtypes)
    for _ in range(3):
        d.pool.append(d.leaf(d.shape(), d.pick(dtypes)))
    while len(d.graph.nodes) < steps:
        d.step()
    d.graph.results = [d.pool[-1], *(d.any() for _ in range(4))]
    return d.graph, d.arrays


class WideDrawer(SeededDrawer):
    """Longer dimensions: masked vectors, chunks, parts, split reductions."""

    KINDS = ("map", "map2", "map2", "reduce", "reduce", "scan", "permute", "slice", "reshape", "pad", "fit", "concat", "weave", "gather",
             "scatter", "update", "einsum", "conv", "softmax", "index")

    def shape(self, low=0, high=3):
        return tuple(self.pick([1, 2, 3, 7, 16, 17, 33, 64, 70, 129, 300]) for _ in range(self.number(low, high)))

    def step(self) -> None:
        made = getattr(self, self.pick(self.KINDS))()
        if made is not None and made.size <= 300_000:
            self.pool.append(made)

    def reshape(self) -> Node:
        x = self.any()
        return self.graph.reshape(x, self.pick([(x.size,), (*x.shape[:-2], math.prod(x.shape[-2:])),
                                                (math.prod(x.shape[:2]), *x.shape[2:])]))


def wide_graph(seed: int, steps: int):
    """(graph, leaf arrays) over some tens of thousands of elements."""
    d = WideDrawer(seed, [dt.float32, dt.int64, dt.float32])
    while sum(x.size for x in d.pool) < 40_000:
        x = d.leaf(d.shape(1, 3), d.pick(d.dtypes))
        if x.size < 300_000:
            d.pool.append(x)
    while len(d.graph.nodes) < steps:
        d.step()
    d.graph.results = [d.pool[-1], *(d.any() for _ in range(3))]
    return d.graph, d.arrays


@st.composite
def graphs(draw, steps=8, dtypes=DTYPES):
    """(graph, leaf arrays)."""
    d = Drawer(draw, dtypes)
    for _ in range(draw(st.integers(1, 3))):
        d.pool.append(d.leaf(d.shape(), d.pick(dtypes)))
    for _ in range(draw(st.integers(1, steps))):
        d.step()
    results = draw(st.integers(1, 3))
    d.graph.results = [d.pool[-1], *(d.any() for _ in range(results - 1))]
    return d.graph, d.arrays
