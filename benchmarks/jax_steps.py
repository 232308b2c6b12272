"""The workloads of ``workloads.py`` as a JAX program has them: pytrees, pure functions, one ``jit`` of the whole step.

Same sizes, data, optimizers and mathematics. Where there is a choice that JAX leaves to its user (layouts, how attention, pooling and
transposed convolutions are written), the one that was measured faster on a CPU. Nothing but JAX and NumPy is imported.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.jax_layers import (
    BatchNorms,
    Inference,
    Init,
    Training,
    Tree,
    adam,
    attention,
    binary_cross_entropy,
    conv,
    cross_entropy,
    depthwise_conv,
    dropout,
    halve,
    layer_norm,
    linear,
    lstm,
    max_pool,
    sgd,
    up_conv,
)

__all__ = ["INFERENCE", "WORKLOADS"]

Classified = Callable[[Tree, Tree, jax.Array], tuple[jax.Array, Tree]]  # (parameters, state, images) -> (logits, state)


def _data(shape: tuple[int, ...], classes: int) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    if len(shape) == 4:
        x = x.transpose(0, 2, 3, 1)
    return jnp.asarray(x), jnp.asarray(rng.integers(0, classes, shape[0]))


def _classifier(model: Classified) -> Callable[..., tuple[jax.Array, Tree]]:
    def loss(parameters: Tree, state: Tree, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Tree]:
        logits, state = model(parameters, state, x)
        return cross_entropy(logits, y), state
    return loss


def logistic_regression() -> Training:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 30)).astype(np.float32), rng.integers(0, 2, 64).astype(np.float32)

    def loss(p: Tree, state: None, x: jax.Array, y: jax.Array) -> tuple[jax.Array, None]:
        return binary_cross_entropy(linear(p, x), y), state
    return Training(loss, Init().linear(30, 1), sgd(0.1), (jnp.asarray(x), jnp.asarray(y[:, None])))


def _mlp(p: Tree, state: None, x: jax.Array) -> tuple[jax.Array, None]:
    for layer in p[:-1]:
        x = jax.nn.relu(linear(layer, x))
    return linear(p[-1], x), state


def mlp() -> Training:
    init, widths = Init(), (784, 512, 256, 10)
    parameters = [init.linear(a, b) for a, b in zip(widths, widths[1:])]
    return Training(_classifier(_mlp), parameters, adam(1e-3), _data((128, 784), 10))


def mnist_cnn() -> Training:
    init = Init()
    parameters = [init.conv(1, 32, 3, bias=True), init.conv(32, 64, 3, bias=True), init.linear(64 * 12 * 12, 128), init.linear(128, 10)]

    def model(p: Tree, key: Tree, x: jax.Array) -> tuple[jax.Array, Tree]:
        key, first, second = jax.random.split(key, 3)
        x = jax.nn.relu(conv(p[1], jax.nn.relu(conv(p[0], x))))
        x = dropout(first, halve(x), 0.25)
        x = jax.nn.relu(linear(p[2], x.reshape(len(x), -1)))
        return linear(p[3], dropout(second, x, 0.5)), key
    return Training(_classifier(model), parameters, sgd(0.01, momentum=0.5), _data((64, 1, 28, 28), 10), jax.random.key(0))


RESNET18 = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))  # width and stride of each block


def _resnet18(init: Init, stem: int, classes: int) -> tuple[Tree, list[Tree]]:
    """Parameters and running statistics."""
    parameters = {"conv": init.conv(3, 64, stem), "norm": init.norm(64), "blocks": []}
    widths, before = [64], 64
    for width, stride in RESNET18:
        block = {"conv1": init.conv(before, width, 3), "norm1": init.norm(width), "conv2": init.conv(width, width, 3),
                 "norm2": init.norm(width)}
        if stride != 1 or before != width:
            block |= {"short": init.conv(before, width, 1), "norm3": init.norm(width)}
        parameters["blocks"].append(block)
        widths += [width] * (len(block) // 2)
        before = width
    return parameters | {"head": init.linear(512, classes)}, BatchNorms.start(widths)


def _resnet18_body(p: Tree, norms: BatchNorms, x: jax.Array) -> jax.Array:
    """From the stem's output to the logits."""
    for block, (_, stride) in zip(p["blocks"], RESNET18):
        y = jax.nn.relu(norms(block["norm1"], conv(block["conv1"], x, stride, 1)))
        y = norms(block["norm2"], conv(block["conv2"], y, 1, 1))
        x = jax.nn.relu(y + (norms(block["norm3"], conv(block["short"], x, stride)) if "short" in block else x))
    return linear(p["head"], x.mean((1, 2)))


def resnet18() -> Training:
    parameters, running = _resnet18(Init(), 3, 10)

    def model(p: Tree, running: Tree, x: jax.Array) -> tuple[jax.Array, Tree]:
        norms = BatchNorms(running)
        return _resnet18_body(p, norms, jax.nn.relu(norms(p["norm"], conv(p["conv"], x, 1, 1)))), norms.updated
    return Training(_classifier(model), parameters, sgd(0.1, 0.9, 5e-4), _data((32, 3, 32, 32), 10), running)


def _gpt(init: Init, vocabulary: int, layers: int, width: int, context: int) -> Tree:
    tables = {"tokens": init.embedding(vocabulary, width), "positions": init.embedding(context, width)}
    blocks = [{"norm1": init.norm(width), "norm2": init.norm(width), "qkv": init.linear(width, 3 * width), "out": init.linear(width, width),
               "up": init.linear(width, 4 * width), "down": init.linear(4 * width, width)} for _ in range(layers)]
    return tables | {"blocks": blocks, "norm": init.norm(width), "head": init.linear(width, vocabulary, bias=False)}


def _heads(p: Tree, x: jax.Array, heads: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """q, k, v of (batch, heads, positions, d)."""
    b, t, width = x.shape
    q, k, v = linear(p["qkv"], layer_norm(p["norm1"], x)).reshape(b, t, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
    return q, k, v


def _rest_of_block(p: Tree, x: jax.Array, attended: jax.Array) -> jax.Array:
    x = x + linear(p["out"], attended.swapaxes(1, 2).reshape(x.shape))
    return x + linear(p["down"], jax.nn.gelu(linear(p["up"], layer_norm(p["norm2"], x)), approximate=False))


def _gpt_training(dtype: Any) -> Training:
    """The small GPT, whose weights and activations are of ``dtype``; the optimizer's parameters are float32."""
    tokens = np.random.default_rng(0).integers(0, 65, (16, 129))

    def loss(parameters: Tree, state: None, x: jax.Array, y: jax.Array) -> tuple[jax.Array, None]:
        p = jax.tree.map(lambda w: w.astype(dtype), parameters)
        z = p["tokens"][x] + p["positions"]
        mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
        for block in p["blocks"]:
            z = _rest_of_block(block, z, attention(*_heads(block, z, 4), mask))
        return cross_entropy(linear(p["head"], layer_norm(p["norm"], z)), y), state
    return Training(loss, _gpt(Init(), 65, 4, 256, 128), adam(3e-4, 0.01), (jnp.asarray(tokens[:, :-1]), jnp.asarray(tokens[:, 1:])))


def gpt() -> Training:
    return _gpt_training(jnp.float32)


def gpt_bf16() -> Training:
    return _gpt_training(jnp.bfloat16)


def language_model() -> Training:
    init, rng = Init(), np.random.default_rng(0)
    x, y = (jnp.asarray(rng.integers(0, 1000, (35, 20))) for _ in range(2))
    parameters = {"embed": init.embedding(1000, 200), "layers": [init.lstm(200, 200), init.lstm(200, 200)], "head": init.linear(200, 1000)}

    def loss(p: Tree, states: Tree, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Tree]:
        z, after = p["embed"][x], []
        for layer, state in zip(p["layers"], states):
            z, state = lstm(layer, z, state)
            after.append(state)
        return cross_entropy(linear(p["head"], z), y), after
    zeros = [(jnp.zeros((20, 200)), jnp.zeros((20, 200))) for _ in range(2)]
    return Training(loss, parameters, sgd(1.0, clip=0.25), (x, y), zeros)


def vit_tiny() -> Training:
    init = Init()
    blocks = [{"norm1": init.norm(192), "norm2": init.norm(192), "qkv": init.linear(192, 576), "out": init.linear(192, 192),
               "up": init.linear(192, 768), "down": init.linear(768, 192)} for _ in range(12)]
    parameters = {"cls": jnp.zeros((1, 1, 192)), "positions": jnp.zeros((1, 197, 192)), "patches": init.conv(3, 192, 16, bias=True),
                  "blocks": blocks, "norm": init.norm(192), "head": init.linear(192, 100)}

    def model(p: Tree, state: None, x: jax.Array) -> tuple[jax.Array, None]:
        z = conv(p["patches"], x, 16).reshape(len(x), 196, 192)
        z = jnp.concatenate([jnp.broadcast_to(p["cls"], (len(x), 1, 192)), z], axis=1) + p["positions"]
        for block in p["blocks"]:
            z = _rest_of_block(block, z, attention(*_heads(block, z, 3)))
        return linear(p["head"], layer_norm(p["norm"], z[:, 0])), state
    return Training(_classifier(model), parameters, adam(1e-3, 0.01), _data((8, 3, 224, 224), 100))


def unet() -> Training:
    init, widths = Init(), (64, 128, 256, 512)

    def double(a: int, b: int) -> list[Tree]:
        return [init.conv(a, b, 3), init.norm(b), init.conv(b, b, 3), init.norm(b)]
    parameters = {"down": [double(a, b) for a, b in zip((1, *widths), widths)],
                  "up": [init.conv(2 * b, b, 2, bias=True) for b in widths[-2::-1]],
                  "join": [double(2 * b, b) for b in widths[-2::-1]], "head": init.conv(64, 1, 1, bias=True)}
    running = BatchNorms.start([b for b in (*widths, *widths[-2::-1]) for _ in range(2)])

    def loss(p: Tree, running: Tree, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Tree]:
        norms = BatchNorms(running)

        def twice(layers: list[Tree], x: jax.Array) -> jax.Array:
            x = jax.nn.relu(norms(layers[1], conv(layers[0], x, 1, 1)))
            return jax.nn.relu(norms(layers[3], conv(layers[2], x, 1, 1)))
        skips: list[jax.Array] = []
        for layers in p["down"]:
            x = twice(layers, halve(x) if skips else x)
            skips.append(x)
        for up, join, skip in zip(p["up"], p["join"], skips[-2::-1]):
            x = twice(join, jnp.concatenate([skip, up_conv(up, x)], axis=-1))
        return binary_cross_entropy(conv(p["head"], x), y), norms.updated
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 1, 128, 128)).astype(np.float32).reshape(4, 128, 128, 1)
    y = rng.integers(0, 2, (4, 1, 128, 128)).astype(np.float32).reshape(4, 128, 128, 1)
    return Training(loss, parameters, adam(1e-3), (jnp.asarray(x), jnp.asarray(y)), running)


def depthwise() -> Training:
    init, before, widths = Init(), 32, [32]
    strides = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1))
    blocks = []
    for width, _ in strides:
        blocks.append([init.conv(before, before, 3, groups=before), init.norm(before), init.conv(before, width, 1), init.norm(width)])
        widths += [before, width]
        before = width
    parameters = {"conv": init.conv(3, 32, 3), "norm": init.norm(32), "blocks": blocks, "head": init.linear(512, 10)}

    def model(p: Tree, running: Tree, x: jax.Array) -> tuple[jax.Array, Tree]:
        norms = BatchNorms(running)
        x = jax.nn.relu6(norms(p["norm"], conv(p["conv"], x, 2, 1)))
        for (deep, norm1, wide, norm2), (_, stride) in zip(p["blocks"], strides):
            x = jax.nn.relu6(norms(norm1, depthwise_conv(deep, x, stride)))
            x = jax.nn.relu6(norms(norm2, conv(wide, x)))
        return linear(p["head"], x.mean((1, 2))), norms.updated
    return Training(_classifier(model), parameters, sgd(0.05, 0.9), _data((16, 3, 64, 64), 10), BatchNorms.start(widths))


def _inference(model: Callable[..., jax.Array], parameters: Tree, *inputs: Tree) -> Inference:
    total = jax.jit(lambda *inputs: model(*inputs).sum())
    return Inference(lambda parameters: float(total(parameters, *inputs)), parameters)


def _resnet18_imagenet(batch: int) -> Inference:
    def model(p: Tree, running: Tree, x: jax.Array) -> jax.Array:
        norms = BatchNorms(running, training=False)
        x = jax.nn.relu(norms(p["norm"], conv(p["conv"], x, 2, 3)))
        return _resnet18_body(p, norms, max_pool(x, 3, 2, 1))
    return _inference(model, *_resnet18(Init(), 7, 1000), _data((batch, 3, 224, 224), 10)[0])


def small_mlp() -> Inference:
    init, widths = Init(), (64, 128, 128, 10)
    return _inference(lambda p, x: _mlp(p, None, x)[0], [init.linear(a, b) for a, b in zip(widths, widths[1:])], _data((1, 64), 10)[0])


def gpt_decoding() -> Inference:
    prompt = jnp.asarray(np.random.default_rng(0).integers(0, 65, (1, 8)))
    room = 8 + 128  # positions of the cache: the prompt and what is decoded

    @partial(jax.jit, donate_argnums=2)
    def decode(p: Tree, idx: jax.Array, cache: Tree) -> tuple[jax.Array, Tree]:
        """The next token after ``idx`` (1, t), which follow what the cache holds, and the cache with their keys and values."""
        start, t = cache["length"], idx.shape[1]
        z = p["tokens"][idx] + lax.dynamic_slice_in_dim(p["positions"], start, t)
        mask = jnp.arange(room) <= start + jnp.arange(t)[:, None]
        layers = []
        for block, layer in zip(p["blocks"], cache["layers"]):
            q, k, v = _heads(block, z, 4)
            k, v = (lax.dynamic_update_slice(old, new, (0, 0, start, 0)) for old, new in zip(layer, (k, v)))
            z = _rest_of_block(block, z, attention(q, k, v, mask))
            layers.append((k, v))
        token = linear(p["head"], layer_norm(p["norm"], z[:, -1])).argmax(-1, keepdims=True)
        return token, {"length": start + t, "layers": layers}

    def sequence(parameters: Tree) -> float:
        total, idx = 0, prompt
        cache: Tree = {"length": jnp.zeros((), int), "layers": [tuple(jnp.zeros((1, 4, room, 64)) for _ in range(2)) for _ in range(4)]}
        for _ in range(128):
            idx, cache = decode(parameters, idx, cache)
            total += idx.item()
        return float(total)
    return Inference(sequence, _gpt(Init(), 65, 4, 256, 256))


WORKLOADS: dict[str, Callable[[], Training]] = {
    "logistic regression": logistic_regression, "MLP": mlp, "MNIST CNN": mnist_cnn, "ResNet-18": resnet18, "GPT": gpt,
    "LSTM": language_model, "ViT-Tiny": vit_tiny, "U-Net": unet, "depthwise blocks": depthwise, "GPT, bf16 autocast": gpt_bf16}

INFERENCE: dict[str, Callable[[], Inference]] = {
    "ResNet-18, 1 image": partial(_resnet18_imagenet, 1), "ResNet-18, 16 images": partial(_resnet18_imagenet, 16),
    "GPT decoding": gpt_decoding, "small MLP, 1 sample": small_mlp}
