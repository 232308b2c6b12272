"""Attention's kernels against softmax written out in NumPy: sizes, layouts, masks, instruction sets, threads; and how much they store."""
from __future__ import annotations

import ctypes
import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.compile import dtypes as dt
from rushlight.compile.attention import MAX_HEAD, attend, attend_backward
from rushlight.compile.build import build
from rushlight.compile.counters import watchers
from rushlight.compile.cpu import attention_ahead as ahead
from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.graph import Graph
from rushlight.compile.randoms import random_bits
from rushlight.compile.reference.interpret import interpret
from rushlight.ops.attention import attention
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings as recorder

SETTINGS = settings(max_examples=60, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
TOLERANCE = {"float32": 2e-5, "float64": 1e-11, "bfloat16": 4e-2}


def written_out(q, k, v, grad, mask, scale, causal, factor=1.0):
    """The result and the gradients, in double precision, with every weight there at once. What softmax subtracts in its gradient comes from
    the result as it is kept, rounded to the operands' type: of bfloat16 another number, where few keys make it cancel."""
    kept = q.dtype
    q, k, v, grad = (np.asarray(x, np.float64) for x in (q, k, v, grad))
    group = q.shape[1] // k.shape[1]
    wide_k, wide_v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = q @ wide_k.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = scores + mask
    if causal:
        scores = np.where(np.arange(q.shape[2])[:, None] >= np.arange(k.shape[2]), scores, -np.inf)
    most = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(most == -np.inf, 0, most))
    total = weights.sum(-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    out = weights * factor @ wide_v
    change = grad @ wide_v.swapaxes(-1, -2) * factor
    inner = (grad * out.astype(kept).astype(np.float64)).sum(-1, keepdims=True)
    change = weights * (change - inner) * scale
    to_q, to_k, to_v = change @ wide_k, change.swapaxes(-1, -2) @ q, (weights * factor).swapaxes(-1, -2) @ grad
    shape = (k.shape[0], k.shape[1], group)
    return out, to_q, to_k.reshape(*shape, *to_k.shape[2:]).sum(2), to_v.reshape(*shape, *to_v.shape[2:]).sum(2)


def hashed(seed: int, n: int) -> np.ndarray:
    """The bits that dropout takes for ``n`` elements."""
    g = Graph()
    g.results = [random_bits(g, g.leaf((), dt.int64), n)]
    return interpret(g, [np.array(seed)])[0]


class Case:
    """A graph with attention and its gradients, whose operands lie in leaves of a given order of dimensions."""

    def __init__(self, sizes, *, causal=False, mask=None, orders=((0, 1, 2, 3),) * 4, dtype=dt.float32, seed=0, scale=0.3, drop=0.0):
        b, h, g_, length, source, e, v = sizes
        rng = np.random.default_rng(seed)
        self.graph = g = Graph()
        self.arrays, values, nodes = [], [], []
        for shape, order in zip(((b, h, length, e), (b, g_, source, e), (b, g_, source, v), (b, h, length, v)), orders):
            value = rng.normal(size=shape).astype(dtype.numpy)
            values.append(value)
            self.arrays.append(np.ascontiguousarray(value.transpose(order)))
            nodes.append(g.permute(g.leaf(self.arrays[-1].shape, dtype), tuple(np.argsort(order).tolist())))
        q, k, v_, grad = nodes
        shown = None
        if mask is not None:
            numbers = np.where(rng.random(mask) < 0.7, rng.normal(size=mask), -np.inf).astype(dtype.compute.numpy)
            self.arrays.append(numbers)
            shown = g.expand(g.leaf(mask, dtype.compute), (b, h, length, source))
        chosen, factor = None, 1.0
        if drop:
            self.arrays.append(rng.integers(0, 2**63, ()))
            chosen, n = g.leaf((), dt.int64), b * h * length * source
            factor = (hashed(int(self.arrays[-1]), n) >= int(drop * 2**32)).reshape(b, h, length, source) / (1 - drop)
        out, rows = attend(g, q, k, v_, shown, scale, causal, drop, chosen)
        g.results = [out, *attend_backward(g, q, k, v_, out, grad, rows, shown, scale, causal, drop, chosen)]
        g.verify()
        self.want = written_out(*values, None if mask is None else numbers.astype(np.float64), scale, causal, factor)
        self.dtype = dtype

    def run(self):
        program = build(self.graph, {})
        outs = [np.full(r.shape, 77).astype(r.dtype.numpy) for r in self.graph.results]
        program.run([a.ctypes.data for a in self.arrays], [o.ctypes.data for o in outs])
        return program, outs

    def check(self):
        program, outs = self.run()
        for got in (outs, interpret(self.graph, self.arrays)):
            for name, a, b in zip(("result", "to q", "to k", "to v"), got, self.want, strict=True):
                allowed = TOLERANCE[self.dtype.name] * max(1, np.abs(b).max())
                np.testing.assert_allclose(a.astype(np.float64), b, rtol=0, atol=allowed, err_msg=name)
        return program

    def check_threads(self):
        """The same bits on any number of threads."""
        before, found = torch.get_num_threads(), set()
        try:
            for threads in (1, 2, 3, 1):
                torch.set_num_threads(threads)
                found.add(b"".join(a.tobytes() for a in self.run()[1]))
        finally:
            torch.set_num_threads(before)
        assert len(found) == 1


ORDERS = st.permutations((0, 1, 2, 3))


@SETTINGS
@given(st.data())
def test_sizes_layouts_and_masks(data):
    draw = data.draw
    g = draw(st.integers(1, 3))
    sizes = (draw(st.integers(1, 2)), g * draw(st.integers(1, 3)), g, draw(st.integers(1, 80)), draw(st.integers(1, 150)),
             draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    b, h, _, length, source, *_ = sizes
    mask = draw(st.sampled_from([None, None, (source,), (1, 1, length, 1), (b, 1, 1, source), (length, source), (b, h, length, source)]))
    Case(sizes, causal=mask is None and draw(st.booleans()), mask=mask, orders=[draw(ORDERS) for _ in range(4)],
         dtype=draw(st.sampled_from([dt.float32, dt.float64, dt.bfloat16])), drop=draw(st.sampled_from([0.0, 0.0, 0.4])),
         seed=draw(st.integers(0, 99))).check()


@pytest.mark.parametrize("level", ["sse", "avx2", "avx512"] if target.machine() == "x86_64" else ["neon"])
@pytest.mark.parametrize("causal", [False, True])
def test_instruction_sets(level, causal):
    if target.named(level).vector_bytes > target.host().vector_bytes:
        pytest.skip(f"no {level} here")
    with target.using(level):
        Case((2, 4, 2, 45, 77, 20, 36), causal=causal, orders=((0, 2, 1, 3),) * 4).check()
        Case((1, 2, 2, 33, 130, 64, 16), mask=(33, 130), dtype=dt.float64).check()
        Case((1, 2, 1, 40, 50, 16, 16), causal=causal, drop=0.25).check()
        Case((1, 2, 1, 40, 51, 16, 18), causal=causal, dtype=dt.bfloat16).check()


@pytest.mark.skipif(target.host().vector_registers < 32, reason="rows of four vectors need 32 registers")
@pytest.mark.parametrize("loads", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_processors_that_load_one_or_two_full_vectors_a_cycle(loads, causal):
    with target.using(dataclasses.replace(target.host(), full_loads=loads, amx=False)):
        for sizes in ((1, 2, 1, 64, 64, 64, 64), (2, 2, 2, 81, 150, 48, 20), (1, 1, 1, 100, 70, 33, 129), (1, 2, 2, 150, 150, 80, 96)):
            Case(sizes, causal=causal, orders=((0, 2, 1, 3),) * 4).check()
        Case((1, 1, 1, 70, 71, 16, 40), mask=(70, 71), dtype=dt.float64).check()
        Case((1, 2, 1, 49, 50, 16, 16), causal=causal, drop=0.25).check()


@pytest.mark.parametrize("sizes", [(1, 1, 1, 700, 600, 64, 64), (1, 2, 1, 257, 257, MAX_HEAD, 33), (2, 6, 2, 130, 260, 48, 80),
                                   (1, 16, 16, 70, 75, 64, 64), (2, 16, 4, 40, 90, 64, 96), (1, 2, 1, 330, 300, MAX_HEAD, MAX_HEAD)])
@pytest.mark.parametrize("dtype", [dt.float32, dt.bfloat16], ids=lambda d: d.name)
def test_long_and_wide_ones_and_any_number_of_threads(sizes, dtype):
    """The wide ones have rows that are far apart: tiles of them are put side by side first."""
    case = Case(sizes, causal=True, orders=((0, 2, 1, 3),) * 4, dtype=dtype, scale=0.1)
    case.check()
    case.check_threads()


@pytest.mark.parametrize("dtype", [dt.float32, dt.bfloat16], ids=lambda d: d.name)
def test_a_row_that_sees_nothing_gives_zeros(dtype):
    g = Graph()
    q, k, v = (g.leaf(s, dtype) for s in ((1, 1, 40, 8), (1, 1, 50, 8), (1, 1, 50, 8)))
    mask = g.leaf((40, 50), dt.float32)
    wide = g.expand(mask, (1, 1, 40, 50))
    out, rows = attend(g, q, k, v, wide, 1.0, False)
    g.results = [out, rows, *attend_backward(g, q, k, v, out, q, rows, wide, 1.0, False)]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=n.shape).astype(n.dtype.numpy) for n in g.leaves]
    arrays[3][:] = -np.inf
    arrays[3][::2, 7] = 0  # odd queries see nothing, even ones a single key
    outs = [np.full(n.shape, 7).astype(n.dtype.numpy) for n in g.results]
    build(g, {}).run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    out, rows, to_q, to_k, to_v = (o.astype(np.float32) for o in outs)
    assert not out[0, 0, 1::2].any() and not rows[0, 0, :, 1::2].any() and not to_q[0, 0, 1::2].any()
    np.testing.assert_allclose(out[0, 0, ::2], np.repeat(arrays[2][0, 0, 7:8].astype(np.float32), 20, 0), rtol=1e-6)
    assert to_v[0, 0, 7].any() and not np.delete(to_v[0, 0], 7, 0).any()
    np.testing.assert_allclose(to_k, 0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_numbers_that_are_no_numbers_spread_along_their_rows_only(dtype):
    rng = np.random.default_rng(0)
    q, k, v = (torch.tensor(rng.normal(size=(1, 2, 40, 16)).astype(np.float32)).to(dtype) for _ in range(3))
    q[0, 0, 3, 5] = float("nan")
    q[0, 1, 4, 5] = 3e38  # scores that overflow
    with compiled():
        out = F.scaled_dot_product_attention(q, k, v).float().numpy()
    assert np.isnan(out[0, 0, 3]).all()
    out[0, 0, 3] = out[0, 1, 4] = 0
    assert np.isfinite(out).all()


class compiled:
    """Small programs, too, are compiled the first time."""

    def __enter__(self):
        self.before, recorder.cold_limit = recorder.cold_limit, 0
        start_afresh()

    def __exit__(self, *_):
        recorder.cold_limit = self.before
        start_afresh()


def step(batch, length, heads, width, causal=True):
    """A block of a transformer as people write it; returns the program of its training step."""
    rng = np.random.default_rng(0)
    x, w, o = (torch.tensor(rng.normal(size=s).astype(np.float32) * 0.1, requires_grad=True)
               for s in ((batch, length, width), (3 * width, width), (width, width)))
    with compiled():
        q, k, v = (t.view(batch, length, heads, width // heads).transpose(1, 2) for t in F.linear(x, w).split(width, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        F.linear(y.transpose(1, 2).reshape(batch, length, width), o).sum().backward()
        from rushlight.record import local
        from rushlight.record.flush import flush
        node = local.trace.node
        flush()
        (path,) = node.programs.values()
        return path.program


def test_what_is_stored_does_not_grow_with_the_square_of_the_length():
    sizes = [step(1, n, 4, 64).arena_bytes for n in (256, 512, 1024)]
    assert sizes[2] - sizes[1] <= 2.1 * (sizes[1] - sizes[0])
    names = [i.name.split(" 1x")[0] for i in step(4, 64, 4, 64).instructions if "attention" in i.name]
    assert [n.split(" 4x")[0] for n in names] == ["attention", "attention backward"]


def test_second_derivatives():
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    rng = np.random.default_rng(0)
    q, k, v = (torch.tensor(rng.normal(size=s), requires_grad=True) for s in ((1, 4, 5, 3), (1, 2, 4, 3), (1, 2, 4, 2)))
    # The first run is interpreted, the next are compiled: they differ in their last bits.
    assert torch.autograd.gradcheck(f, (q, k, v), nondet_tol=1e-12)
    assert torch.autograd.gradgradcheck(f, (q, k, v), nondet_tol=1e-12)
    mask = torch.tensor(rng.random((5, 4)) < 0.6)

    seed = torch.tensor(12345)

    def dropping(q, k, v):
        return attention(q, k, v, seed, attrs=(0.5, True, False, 0.3))[0]

    assert torch.autograd.gradcheck(dropping, (q, k, v), nondet_tol=1e-12)
    assert torch.autograd.gradgradcheck(dropping, (q, k, v), nondet_tol=1e-12)

    def masked(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    assert torch.autograd.gradcheck(masked, (q[:, :2], k, v), nondet_tol=1e-12)
    assert torch.autograd.gradgradcheck(masked, (q[:, :2], k, v), nondet_tol=1e-12)


@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
def test_projections_are_read_and_their_gradients_written_where_they_lie(low):
    """No kernel copies a part of a joint projection, in any of the ways in which people take it apart."""
    if low and not (target.host().bf16_dot and target.host().vector_bytes == 64):
        pytest.skip("bfloat16 is widened first")
    rng = np.random.default_rng(0)

    def gpt(y, b, t, h, d):
        return (x.view(b, t, h, d).transpose(1, 2) for x in y.split(h * d, dim=2))

    def vit(y, b, t, h, d):
        return y.reshape(b, t, 3, h, d).permute(2, 0, 3, 1, 4).unbind(0)

    def interleaved(y, b, t, h, d):
        return y.view(b, t, h, 3 * d).transpose(1, 2).chunk(3, -1)

    b, t, h, d = 2, 40, 4, 16
    for parts in (gpt, vit, interleaved):
        x, w, o = (torch.tensor(rng.normal(size=s).astype(np.float32) * 0.1, requires_grad=True)
                   for s in ((b, t, h * d), (3 * h * d, h * d), (h * d, h * d)))
        names: list[str] = []

        def watch(event, names=names):
            names.append(event.name)

        with compiled():
            watchers.append(watch)
            try:
                with torch.autocast("cpu", enabled=low):
                    y = F.scaled_dot_product_attention(*parts(F.linear(x, w), b, t, h, d))
                    loss = F.linear(y.transpose(1, 2).reshape(b, t, h * d), o).square().sum()
                loss.backward()
                del y, loss
                assert np.isfinite(x.grad.numpy()).all()
            finally:
                watchers.remove(watch)
        assert sum("attention" in n and " step 0" not in n for n in names) == 2
        assert not [n for n in names if n.split()[0] in ("update", "part", "concat", "copy") or n.startswith("pointwise 2x40x4x16")], names


@pytest.mark.parametrize("positions", [20, 64])
def test_gradients_of_heads_whose_positions_lie_side_by_side(positions):
    """Diffusion models project with 1×1 convolutions: the channels of a head lie a map apart, where the kernels cannot write them."""
    rng = np.random.default_rng(0)
    given = rng.normal(size=(2, 3, 4, 8, positions)).astype(np.float32)
    q, k, v = (given[:, j].swapaxes(-1, -2) for j in range(3))
    with compiled():
        x = torch.tensor(given, requires_grad=True)
        y = F.scaled_dot_product_attention(*(x * 1.0).transpose(3, 4).unbind(1))
        (y * y).sum().backward()
        result = y.detach().numpy()
        found = x.grad.numpy()
    wanted = written_out(q, k, v, 2 * result, None, 8 ** -0.5, False)
    np.testing.assert_allclose(found, np.stack([g.swapaxes(-1, -2) for g in wanted[1:]], 1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch_first", [False, True])
def test_modules_use_the_kernels(batch_first):
    nn = torch.nn
    x = torch.tensor(np.random.default_rng(0).normal(size=(4, 24, 32)).astype(np.float32))
    for module, arguments in ((nn.MultiheadAttention(32, 4, batch_first=batch_first), (x, x, x)),
                              (nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=batch_first), (x,)),
                              (nn.TransformerDecoderLayer(32, 4, 64, dropout=0.0, batch_first=batch_first), (x, x))):
        names: list[str] = []

        def watch(event, names=names):
            names.append(event.name)

        with compiled():
            watchers.append(watch)
            try:
                out = module(*arguments)
                (out[0] if isinstance(out, tuple) else out).sum().backward()
                del out
                assert all(np.isfinite(p.grad.numpy()).all() for p in module.parameters())
            finally:
                watchers.remove(watch)
        count = 2 if isinstance(module, nn.TransformerDecoderLayer) else 1
        calls = [n for n in names if n.startswith("attention") and (" step " not in n or n.endswith("step 1"))]
        assert sum(n.startswith("attention backward") for n in calls) == count and len(calls) == 2 * count
        assert not any(n.startswith("reduce+max") for n in names)


@pytest.mark.parametrize("queries", [40, 2])
def test_dropped_weights(queries):
    """Kernel and written-out form drop the same weights, as often as they should, and the same ones in the backward."""
    n, p = 300, 0.4
    q = torch.zeros(1, 1, queries, 8)
    k, v = torch.zeros(1, 1, n, 8), torch.eye(n).reshape(1, 1, n, n)[..., :250].clone().requires_grad_()
    torch.manual_seed(3)
    found = []
    for _ in range(2):
        v.grad = None
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        out.sum().backward()
        kept = out.detach().numpy()[0, 0] * n * (1 - p)  # the values are the unit vectors: this shows the weights
        assert np.allclose(kept, np.round(kept), atol=1e-4)
        assert abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / kept.size) ** 0.5
        np.testing.assert_allclose(v.grad.numpy()[0, 0, :, 0][:250], kept.sum(0) / (n * (1 - p)), rtol=1e-4)
        found.append(kept)
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("cold_limit", [0, recorder.cold_limit])
def test_a_weight_is_at_most_one_however_large_the_scores(causal, cold_limit, monkeypatch):
    """Scores of 1e8 are rounded by more than the logarithm of their sum: the weights recomputed from it must not grow beyond 1."""
    monkeypatch.setattr(recorder, "cold_limit", cold_limit)
    start_afresh()
    rng = np.random.default_rng(0)
    q, k, v = (torch.tensor((rng.normal(size=(1, 2, 70, 16)) * size).astype(np.float32), requires_grad=True) for size in (1e4, 1e4, 1))
    F.scaled_dot_product_attention(q, k, v, is_causal=causal).sum().backward()
    assert v.grad.abs().max().item() <= 70


def test_rows_are_asked_for_some_lines_at_a_time():
    """As many rows as there is room for wait in a queue; of a row that has been begun all lines are asked for."""
    module = Module()
    ahead.define(module)
    f = Function("void @attention(ptr %memory, ptr %left)", module)
    queue = ahead.Queue(f)
    numbers = itertools.count()

    def write_down():
        first, end = (f.let(f"ptrtoint ptr {f.load(queue.place, k, 'ptr')} to i64") for k in (0, 1))
        f.set(f.at("%left", next(numbers)), f.sub(end, first))

    for how, rows, size in (("ask", 3, 256), ("ask_to_write", 2, 20), ("ask", 0, 256), ("ask", -5, 256)):
        f.do(f"call void @{how}(ptr {queue.place}, ptr %memory, i64 256, i64 {rows}, i64 {size})")
        write_down()
    for lines in (9, 1, 12):
        f.do(f"call void @ask_some(ptr {queue.place}, i64 {lines})")
        write_down()
    f.do(f"call void @ask(ptr {queue.place}, ptr %memory, i64 256, i64 100000, i64 256)")
    write_down()
    queue.empty(f)
    write_down()
    address = jit.compile_ir(f.finish() + module.text(), ["attention"], "queue of rows")["attention"]
    memory, left = np.zeros(64, np.float32), np.full(next(numbers), -1)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)(memory.ctypes.data, left.ctypes.data)
    entry = 16
    assert list(left[:7] // entry) == [3, 5, 5, 5, 2, 1, 0]
    assert 0 < left[7] < 100000 and not left[8]
