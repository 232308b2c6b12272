"""Training steps built by hand from primitives, as the operations lower them: for tests and measurements."""
from __future__ import annotations

import numpy as np

from rushlight.compile import dtypes as dt
from rushlight.compile.graph import ContractSpec, Graph, Node, View, Window

F32 = dt.float32


def log_softmax(g: Graph, x: Node) -> Node:
    shifted = g.map(lambda e, a, b: a - b, x, g.reduce("max", x, (1,), True))
    total = g.reduce("add", g.map(lambda e, x: e.exp(x), shifted), (1,), True)
    return g.map(lambda e, s, t: s - e.log(t), shifted, total)


def cross_entropy(g: Graph, logits: Node, labels: Node) -> tuple[Node, Node]:
    """(loss, gradient of the logits)."""
    n, classes = logits.shape
    ls = log_softmax(g, logits)
    at = g.reshape(labels, (n, 1))
    loss = g.map(lambda e, x: -x / float(n), g.reduce("add", g.gather(ls, at, 1), (0, 1)))
    spread = g.scatter(g.const(0.0, F32, (n, classes)), at, g.const(-1.0 / n, F32, (n, 1)), 1, "add")
    total = g.reduce("add", spread, (1,), True)
    return loss, g.map(lambda e, d, x, t: d - e.exp(x) * t, spread, ls, total)


def adam(g: Graph, lr: Node, step: Node, p: Node, m: Node, v: Node, grad: Node) -> tuple[Node, Node, Node]:
    m2 = g.map(lambda e, m, d: m + (d - m) * 0.1, m, grad)
    v2 = g.map(lambda e, v, d: v * 0.999 + d * d * 0.001, v, grad)
    c1 = g.map(lambda e, t: 1 - e.pow(e.const(0.9, t.dtype), t), step)
    c2 = g.map(lambda e, t: e.sqrt(1 - e.pow(e.const(0.999, t.dtype), t)), step)
    new = g.map(lambda e, p, m, v, lr, c1, c2: p - (lr / c1) * (m / (e.sqrt(v) / c2 + 1e-8)), p, m2, v2, lr, c1, c2)
    return new, m2, v2


def mlp_adam(sizes=(784, 512, 256, 10), batch: int = 128, seed: int = 0):
    """(graph, leaf arrays, donations): one step of an MLP with Adam; results: loss, then p, m, v of each parameter."""
    rng = np.random.default_rng(seed)
    g, arrays, donations = Graph(), [], {}

    def leaf(a: np.ndarray) -> Node:
        arrays.append(a)
        return g.leaf(a.shape, dt.from_numpy(a.dtype))

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    x, labels = leaf(normal(batch, sizes[0])), leaf(rng.integers(0, sizes[-1], batch))
    lr, step = leaf(np.array(1e-3, np.float32)), leaf(np.array(3.0, np.float32))
    params = [(leaf(normal(o, i, scale=i ** -0.5)), leaf(normal(o, scale=0.1))) for i, o in zip(sizes, sizes[1:])]
    inputs, outs = [x], []
    for k, (w, b) in enumerate(params):
        z = g.map(lambda e, a, b: a + b, g.einsum("nk,mk->nm", inputs[-1], w), b)
        outs.append(z)
        inputs.append(g.map(lambda e, z: e.max(z, 0.0), z) if k < len(params) - 1 else z)
    loss, grad = cross_entropy(g, outs[-1], labels)
    results: list[Node] = [loss]
    for k in reversed(range(len(params))):
        w, b = params[k]
        grads = (g.einsum("nm,nk->mk", grad, inputs[k]), g.reduce("add", grad, (0,)))
        if k:
            back = g.einsum("nm,mk->nk", grad, w)
            grad = g.map(lambda e, d, z: e.where(e.gt(z, 0.0), d, e.const(0.0, F32)), back, outs[k - 1])
        for p, d in zip((w, b), grads):
            m, v = leaf(np.zeros(p.shape, np.float32)), leaf(np.zeros(p.shape, np.float32))
            for old, new in zip((p, m, v), adam(g, lr, step, p, m, v, d)):
                donations[len(results)] = g.leaves.index(old)
                results.append(new)
    g.results = results
    return g, arrays, donations


def conv2d(g: Graph, x: Node, w: Node, padding: int = 0) -> Node:
    (n, c, h, wd), (o, _, kh, kw) = x.shape, w.shape
    sizes = (("n", n), ("c", c), ("o", o), ("y", h + 2 * padding - kh + 1), ("x", wd + 2 * padding - kw + 1),
             ("u", kh), ("v", kw))
    return g.contract(x, w, ContractSpec(("n", "c", Window("y", "u", 1, 1, padding), Window("x", "v", 1, 1, padding)),
                                         ("o", "c", "u", "v"), ("n", "o", "y", "x"), sizes))


def conv2d_weight_gradient(g: Graph, x: Node, d: Node, kernel: int) -> Node:
    (n, c, _, _), (_, o, y, xx) = x.shape, d.shape
    sizes = (("n", n), ("c", c), ("o", o), ("y", y), ("x", xx), ("u", kernel), ("v", kernel))
    return g.contract(x, d, ContractSpec(("n", "c", Window("y", "u"), Window("x", "v")), ("n", "o", "y", "x"),
                                         ("o", "c", "u", "v"), sizes))


def conv2d_input_gradient(g: Graph, d: Node, w: Node) -> Node:
    o, c, kh, kw = w.shape
    n, _, y, x = d.shape
    flipped = g.slice(w, (0, 0, kh - 1, kw - 1), w.shape, (1, 1, -1, -1))
    sizes = (("n", n), ("o", o), ("c", c), ("y", y + kh - 1), ("x", x + kw - 1), ("u", kh), ("v", kw))
    return g.contract(d, flipped, ContractSpec(
        ("n", "o", Window("y", "u", 1, 1, kh - 1), Window("x", "v", 1, 1, kw - 1)), ("o", "c", "u", "v"),
        ("n", "c", "y", "x"), sizes))


def max_pool2(g: Graph, x: Node) -> Node:
    n, c, h, w = x.shape
    window = View((n, c, h // 2, w // 2, 2, 2), (0, 0, 0, 0),
                  ((1, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0), (0, 0, 2, 0, 1, 0), (0, 0, 0, 2, 0, 1)))
    return g.reduce("max", g.view(x, window), (4, 5))


def cnn_sgd(batch: int = 64, size: int = 28, channels=(32, 64), hidden: int = 128, seed: int = 0):
    """(graph, leaf arrays, donations): the MNIST tutorial's network, one step of SGD with momentum; the gradient of the
    pooling compares positions with the maximum."""
    rng = np.random.default_rng(seed)
    g, arrays, donations = Graph(), [], {}

    def leaf(a: np.ndarray) -> Node:
        arrays.append(a)
        return g.leaf(a.shape, dt.from_numpy(a.dtype))

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    c1, c2 = channels
    side = (size - 4) // 2
    flat = c2 * side * side
    x, labels = leaf(normal(batch, 1, size, size)), leaf(rng.integers(0, 10, batch))
    lr = leaf(np.array(0.01, np.float32))
    w1, b1, w2, b2 = (leaf(normal(c1, 1, 3, 3, scale=0.3)), leaf(normal(c1, scale=0.1)),
                      leaf(normal(c2, c1, 3, 3, scale=0.06)), leaf(normal(c2, scale=0.1)))
    w3, b3, w4, b4 = (leaf(normal(hidden, flat, scale=flat ** -0.5)), leaf(normal(hidden, scale=0.1)),
                      leaf(normal(10, hidden, scale=0.1)), leaf(normal(10, scale=0.1)))

    def biased(z: Node, b: Node) -> Node:
        return g.map(lambda e, a, b: a + b, z, g.reshape(b, (b.shape[0], 1, 1)) if len(z.shape) == 4 else b)

    def relu(z: Node) -> Node:
        return g.map(lambda e, z: e.max(z, 0.0), z)

    def masked(d: Node, z: Node) -> Node:
        return g.map(lambda e, d, z: e.where(e.gt(z, 0.0), d, e.const(0.0, F32)), d, z)

    z1 = biased(conv2d(g, x, w1), b1)
    h1 = relu(z1)
    z2 = biased(conv2d(g, h1, w2), b2)
    h2 = relu(z2)
    pooled = max_pool2(g, h2)
    rows = g.reshape(pooled, (batch, flat))
    z3 = biased(g.einsum("nk,mk->nm", rows, w3), b3)
    h3 = relu(z3)
    z4 = biased(g.einsum("nk,mk->nm", h3, w4), b4)
    loss, d4 = cross_entropy(g, z4, labels)
    d3 = masked(g.einsum("nm,mk->nk", d4, w4), z3)
    dp = g.reshape(g.einsum("nm,mk->nk", d3, w3), pooled.shape)
    n, c, h, w = h2.shape

    def spread(p: Node) -> Node:
        six = g.expand(g.reshape(p, (n, c, h // 2, 1, w // 2, 1)), (n, c, h // 2, 2, w // 2, 2))
        return g.reshape(six, (n, c, h, w))

    dh2 = g.map(lambda e, x, p, d: e.where(e.eq(x, p), d, e.const(0.0, F32)), h2, spread(pooled), spread(dp))
    d2 = masked(dh2, z2)
    d1 = masked(conv2d_input_gradient(g, d2, w2), z1)
    grads = [(w1, conv2d_weight_gradient(g, x, d1, 3)), (b1, g.reduce("add", d1, (0, 2, 3))),
             (w2, conv2d_weight_gradient(g, h1, d2, 3)), (b2, g.reduce("add", d2, (0, 2, 3))),
             (w3, g.einsum("nm,nk->mk", d3, rows)), (b3, g.reduce("add", d3, (0,))),
             (w4, g.einsum("nm,nk->mk", d4, h3)), (b4, g.reduce("add", d4, (0,)))]
    results: list[Node] = [loss]
    for p, d in grads:
        buffer = leaf(np.zeros(p.shape, np.float32))
        moved = g.map(lambda e, b, d: b * 0.5 + d, buffer, d)
        new = g.map(lambda e, p, b, lr: p - lr * b, p, moved, lr)
        for old, value in ((buffer, moved), (p, new)):
            donations[len(results)] = g.leaves.index(old)
            results.append(value)
    g.results = results
    return g, arrays, donations
