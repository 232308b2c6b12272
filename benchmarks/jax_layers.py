"""What the JAX workloads are made of: initial parameters, layers, optimizers, the compiled training step. JAX alone is used.

Parameters are pytrees of arrays whose dictionaries list them in the order of ``Module.parameters()``. Images are
(batch, height, width, channels), kernels of convolutions (height, width, in, out), of linear layers (in, out).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["BatchNorms", "Inference", "Init", "Training", "adam", "attention", "binary_cross_entropy", "conv", "cross_entropy",
           "depthwise_conv", "dropout", "halve", "layer_norm", "linear", "lstm", "max_pool", "sgd", "up_conv"]

Tree = Any


class Init:
    """Initial parameters with the distributions that PyTorch's layers draw from."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def uniform(self, shape: tuple[int, ...], inputs: int) -> jax.Array:
        bound = 1 / math.sqrt(inputs)
        return jnp.asarray(self.rng.uniform(-bound, bound, shape), jnp.float32)

    def linear(self, a: int, b: int, bias: bool = True) -> Tree:
        return {"kernel": self.uniform((a, b), a)} | ({"bias": self.uniform((b,), a)} if bias else {})

    def conv(self, a: int, b: int, size: int, groups: int = 1, bias: bool = False) -> Tree:
        inputs = a // groups * size * size
        return {"kernel": self.uniform((size, size, a // groups, b), inputs)} | ({"bias": self.uniform((b,), inputs)} if bias else {})

    def norm(self, width: int) -> Tree:
        return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}

    def embedding(self, rows: int, width: int) -> jax.Array:
        return jnp.asarray(self.rng.normal(size=(rows, width)), jnp.float32)

    def lstm(self, a: int, hidden: int) -> Tree:
        def kernel(rows: int) -> Tree:
            return {"kernel": self.uniform((rows, 4 * hidden), hidden)}
        return {"inputs": kernel(a), "hidden": kernel(hidden), "bias": self.uniform((4 * hidden,), hidden),
                "hidden bias": self.uniform((4 * hidden,), hidden)}


def linear(p: Tree, x: jax.Array) -> jax.Array:
    y = x @ p["kernel"]
    return y + p["bias"] if "bias" in p else y


def conv(p: Tree, x: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    y = lax.conv_general_dilated(x, p["kernel"], (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p["bias"] if "bias" in p else y


def depthwise_conv(p: Tree, x: jax.Array, stride: int) -> jax.Array:
    """3 × 3, one filter for each channel: nine products of shifted images, which XLA fuses and its grouped convolution is slower than."""
    _, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(x[:, i:i + h:stride, j:j + w:stride] * p["kernel"][i, j, 0] for i in range(3) for j in range(3))


def up_conv(p: Tree, x: jax.Array) -> jax.Array:
    """The transposed convolution whose windows do not overlap: one product, and its (2, 2) outputs laid out as pixels."""
    b, h, w, _ = x.shape
    y = jnp.einsum("bhwi,yxio->bhywxo", x, p["kernel"])
    return y.reshape(b, 2 * h, 2 * w, -1) + p["bias"]


def halve(x: jax.Array) -> jax.Array:
    """The maximum of each 2 × 2 window. As a reduction: the gradient of ``reduce_window`` is slower."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


def max_pool(x: jax.Array, size: int, stride: int, padding: int) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), [(0, 0), *[(padding, padding)] * 2, (0, 0)])


def layer_norm(p: Tree, x: jax.Array) -> jax.Array:
    """In float32, whatever the dtype of ``x``, which the result has too."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    return ((wide - mean) * lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]).astype(x.dtype)


class BatchNorms:
    """The batch norms of one pass, in the order in which they are called: running statistics in, ``updated`` ones out."""

    def __init__(self, running: Sequence[Tree] | None, training: bool = True) -> None:
        self.running, self.training = iter(running or ()), training
        self.updated: list[Tree] = []

    @staticmethod
    def start(widths: Sequence[int]) -> list[Tree]:
        return [{"mean": jnp.zeros(width), "variance": jnp.ones(width)} for width in widths]

    def __call__(self, p: Tree, x: jax.Array) -> jax.Array:
        running = next(self.running)
        mean, variance = running["mean"], running["variance"]
        if self.training:
            mean = x.mean((0, 1, 2))
            variance = jnp.maximum(jnp.square(x).mean((0, 1, 2)) - jnp.square(mean), 0)
            n = x.size // x.shape[-1]
            self.updated.append({"mean": 0.9 * running["mean"] + 0.1 * mean,
                                 "variance": 0.9 * running["variance"] + 0.1 * variance * (n / (n - 1))})
        scale = p["scale"] * lax.rsqrt(variance + 1e-5)
        return (x - mean) * scale + p["bias"]


def dropout(key: jax.Array, x: jax.Array, p: float) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)


def attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """softmax(q kᵀ / √d) v of (batch, heads, positions, d); ``mask`` is true where a query sees a key.

    ``jax.nn.dot_product_attention`` does the same with (batch, positions, heads, d), which XLA transposes at every product.
    """
    scores = (q @ k.swapaxes(-1, -2)).astype(jnp.float32) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jax.nn.softmax(scores).astype(v.dtype) @ v


def lstm(p: Tree, x: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """One layer over (time, batch, features), from the state (h, c); the products with the inputs are one, before the scan."""
    gates = linear(p["inputs"], x) + (p["bias"] + p["hidden bias"])

    def cell(state: tuple[jax.Array, jax.Array], row: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        h, c = state
        i, f, g, o = jnp.split(row + linear(p["hidden"], h), 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    state, out = lax.scan(cell, state, gates)
    return out, state


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over all leading dimensions, in float32."""
    logs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(logs, labels[..., None], -1).mean()


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of a sigmoid, the mean over all elements."""
    return (jax.nn.softplus(logits) - labels * logits).mean()


Optimizer = tuple[Callable[[Tree], Tree], Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]]  # start, update


def sgd(lr: float, momentum: float = 0, weight_decay: float = 0, clip: float = 0) -> Optimizer:
    """``clip``: the largest norm that all gradients together may have."""
    def update(parameters: Tree, moments: Tree, grads: Tree) -> tuple[Tree, Tree]:
        if clip:
            norm = jnp.sqrt(sum(jnp.square(g).sum() for g in jax.tree.leaves(grads)))
            factor = jnp.minimum(clip / (norm + 1e-6), 1)
            grads = jax.tree.map(lambda g: g * factor, grads)
        if weight_decay:
            grads = jax.tree.map(lambda p, g: g + weight_decay * p, parameters, grads)
        if momentum:
            moments = grads = jax.tree.map(lambda m, g: momentum * m + g, moments, grads)
        return jax.tree.map(lambda p, g: p - lr * g, parameters, grads), moments

    return (lambda parameters: jax.tree.map(jnp.zeros_like, parameters) if momentum else None), update


def adam(lr: float, decay: float = 0) -> Optimizer:
    """Adam, with ``decay`` AdamW."""
    def start(parameters: Tree) -> Tree:
        return jnp.zeros((), jnp.float32), *(jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))

    def update(parameters: Tree, moments: Tree, grads: Tree) -> tuple[Tree, Tree]:
        count, first, second = moments
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
        rate, root = lr / (1 - 0.9 ** count), jnp.sqrt(1 - 0.999 ** count)

        def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            return p * (1 - lr * decay) - rate * m / (jnp.sqrt(v) / root + 1e-8)
        return jax.tree.map(moved, parameters, first, second), (count, first, second)
    return start, update


class Training:
    """A training step, compiled as a whole; parameters, moments and state are donated, so that they are updated in place.

    Args:
        loss: ``loss(parameters, state, *batch) -> (loss, state)``; the state is what else is carried on from step to step:
            running statistics, the key of random numbers, the state of a recurrent network.
    """

    def __init__(self, loss: Callable[..., tuple[jax.Array, Tree]], parameters: Tree, optimizer: Optimizer,
                 batch: Sequence[jax.Array], state: Tree = None) -> None:
        start, update = optimizer
        self.parameters, self.moments, self.state, self.batch = parameters, start(parameters), state, batch

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def step(parameters: Tree, moments: Tree, state: Tree, *batch: jax.Array) -> tuple[Tree, Tree, Tree, jax.Array]:
            (value, state), grads = jax.value_and_grad(loss, has_aux=True)(parameters, state, *batch)
            return *update(parameters, moments, grads), state, value
        self.step = step

    def __call__(self) -> float:
        """One step; its loss."""
        self.parameters, self.moments, self.state, value = self.step(self.parameters, self.moments, self.state, *self.batch)
        return float(value)


class Inference:
    """A number that a model's output gives: ``run(parameters)``."""

    def __init__(self, run: Callable[[Tree], float], parameters: Tree) -> None:
        self.run, self.parameters = run, parameters

    def __call__(self) -> float:
        return self.run(self.parameters)
