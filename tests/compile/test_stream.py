"""Results that go past the caches: the same bits at any address, never over what is read, only where arrays are large."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from nests import native  # noqa: E402

from rushlight.compile import build as build_module  # noqa: E402
from rushlight.compile import dtypes as dt  # noqa: E402
from rushlight.compile import emit_nest  # noqa: E402
from rushlight.compile.build import build  # noqa: E402
from rushlight.compile.cpu import alloc, jit, target  # noqa: E402
from rushlight.compile.cpu.render import kernel_for, render  # noqa: E402
from rushlight.compile.cpu.widths import lanes_of  # noqa: E402
from rushlight.compile.expr import e, input_  # noqa: E402
from rushlight.compile.graph import Graph  # noqa: E402
from rushlight.compile.nest import Accumulate, Accumulator, Axis, Load, Loop, LoopNest, Operand, Store  # noqa: E402
from rushlight.compile.reference.nest import interpret_nest  # noqa: E402

LEVELS = [level for level in (("avx512", "avx2", "sse") if target.machine() == "x86_64" else ("neon",))
          if target.named(level).vector_bytes <= target.host().vector_bytes]
DTYPES = (dt.float32, dt.float64, dt.float16, dt.int8, dt.bool_)


def doubled(d, flat, stream=True):
    """out = x + x, as one range or as rows."""
    x = input_(0, d)
    value = x | x if d.kind == "b" else x + x
    body = (Load(0, 0), Store(1, value))
    if flat:
        return LoopNest((Axis(),), (Operand(d, (1,)), Operand(d, (1,), True)), (0,), body, True, stream)
    return LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (None, 1), True)), (0,), (Loop(1, body, True),), False, stream)


@pytest.mark.parametrize("level", LEVELS)
@given(st.sampled_from(DTYPES), st.booleans(), st.integers(0, 70), st.integers(1, 600), st.integers(1, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_same_bits_at_any_address_and_in_place(level, d, flat, shift, length, rows, in_place):
    if target.named(level).vector_bytes < 64 and d.itemsize < 2:
        return
    rng = np.random.default_rng(length)
    rows = 1 if flat else rows
    block = [alloc.allocate(d.itemsize * (length * rows + 200)).array(d.numpy) for _ in range(2)]
    first, second = (b[shift * k: shift * k + length * rows] for k, b in enumerate(block))
    first[:] = rng.integers(0, 2, length * rows)
    for b in block[1:]:
        b[:] = 1
    before = [b.copy() for b in block]
    sizes = [length] if flat else [rows, length, length, length]
    expected = [first.copy(), second.copy()]
    interpret_nest(doubled(d, flat), expected, sizes)
    with target.using(level):
        cuts = range(-(-length * rows // 64) + 1)
        assert native(doubled(d, flat), [first, first if in_place else second], sizes, 64, cuts) is None
    assert (first if in_place else second).tobytes() == expected[1].tobytes()
    # Nothing beside the result has changed.
    whole, start = (block[0], 0) if in_place else (block[1], shift)
    was = before[0] if in_place else before[1]
    assert whole[:start].tobytes() == was[:start].tobytes()
    assert whole[start + length * rows:].tobytes() == was[start + length * rows:].tobytes()


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_stores_are_marked_and_ordered_before_what_comes_after(level, flat):
    cpu = target.named(level)
    text = render(doubled(dt.float32, flat), cpu)
    assert text.count("!nontemporal !0") == 1 and "!0 = !{i32 1}" in text
    if target.machine() == "x86_64":
        assembly = jit.assembly(text, cpu=cpu)
        assert "movnt" in assembly and assembly.count("sfence") == 1
    plain = render(doubled(dt.float32, flat, stream=False), cpu)
    assert "nontemporal" not in plain and "fence" not in plain


def test_what_is_read_combined_or_scattered_stays_in_the_caches():
    d = dt.float32
    body = (Load(0, 0), Store(1, input_(0, d), combine="add"))
    nest = LoopNest((Axis(),), (Operand(d, (1,)), Operand(d, (1,), True)), (0,), body, True, True)
    assert "nontemporal" not in render(nest)
    body = (Load(0, 0), Store(0, input_(0, d) + input_(0, d)))
    assert "nontemporal" not in render(LoopNest((Axis(),), (Operand(d, (1,), True),), (0,), body, True, True))
    nest = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (None, 3), True)), (0,), (
        Loop(1, (Load(0, 0), Store(1, input_(0, d))), True),), False, True)
    assert "nontemporal" not in render(nest)


def test_only_kernels_that_no_cache_holds_stream(monkeypatch):
    monkeypatch.setattr(emit_nest, "_SHARED_CACHE", 1 << 16)
    limit = 3 * min(target.current().l3 or 8 << 20, 1 << 16) // 2
    assert emit_nest._fills_caches(limit + 2) and not emit_nest._fills_caches(limit)
    for n, wanted in ((limit // 8 - 64, False), (limit // 8 + 64, True)):
        seen = []
        monkeypatch.setattr(build_module, "kernel_for", lambda nest, seen=seen: seen.append(nest) or kernel_for(nest))
        g = Graph()
        x = g.leaf((n,), dt.float32)
        g.results = [g.map(lambda e, x: e.max(2 * x + 1, 0), x)]
        program = build(g, {})
        assert {nest.stream for nest in seen} == {wanted}
        a = np.linspace(-3, 3, n, dtype=np.float32)
        out = alloc.allocate(4 * n)
        program.run([a.ctypes.data], [out.ptr])
        np.testing.assert_array_equal(out.array(np.float32), np.maximum(2 * a + 1, 0))
    # The array takes over the memory of what it is computed from: read, so in a cache.
    g = Graph()
    x = g.leaf((limit,), dt.float32)
    g.results = [g.map(lambda e, x: e.max(2 * x + 1, 0), x)]
    a = np.linspace(-3, 3, limit, dtype=np.float32)
    both = alloc.allocate(4 * limit)
    both.array(np.float32)[:] = a
    build(g, {0: 0}).run([both.ptr], [both.ptr])
    np.testing.assert_array_equal(both.array(np.float32), np.maximum(2 * a + 1, 0))


def turned(d):
    """(v, u) to (u, v)"""
    body = (Load(0, 0), Store(1, input_(0, d)))
    return LoopNest((Axis(), Axis()), (Operand(d, (1, None)), Operand(d, (None, 1), True)), (0,), (Loop(1, body, True),), False, True)


@pytest.mark.parametrize(("u", "v", "shift"), [(64, 48, 0), (64, 48, 3), (40, 50, 0), (5, 7, 0), (33, 160, 0), (17, 64, 16)])
@pytest.mark.parametrize("d", [dt.float32, dt.float64, dt.int16], ids=lambda d: d.name)
def test_transposed_tiles_go_past_the_caches_where_their_rows_are_whole_lines(d, u, v, shift):
    block = [alloc.allocate(d.itemsize * (u * v + 64)).array(d.numpy) for _ in range(2)]
    x, out = block[0][: u * v], block[1][shift : shift + u * v]
    x[:] = np.random.default_rng(u).integers(0, 100, u * v)
    block[1][:] = 1
    native(turned(d), [x, out], [u, v, u, v], 1, range(u + 1))
    np.testing.assert_array_equal(out.reshape(u, v), x.reshape(v, u).T)
    assert (block[1][:shift] == 1).all() and (block[1][shift + u * v :] == 1).all()


@pytest.mark.skipif(target.host().vector_bytes < 64, reason="tiles of whole lines need the longest vectors")
def test_transposed_tiles_have_a_form_past_the_caches():
    assert "nontemporal" in render(turned(dt.float32)) and "gather" not in render(turned(dt.float32))


@pytest.mark.parametrize("level", LEVELS)
def test_lines_are_asked_for_ahead_only_where_the_next_vector_lies_behind_this_one(level):
    cpu, d = target.named(level), dt.float32
    for flat in (True, False):
        text = render(doubled(d, flat, stream=False), cpu)
        lanes = lanes_of(doubled(d, flat), Loop(0 if flat else 1, (Load(0, 0), Store(1, input_(0, d) + input_(0, d))), True), cpu)[0]
        assert text.count("call void @llvm.prefetch") == max(1, lanes * 4 // 64)
        if target.machine() == "x86_64":  # of the first-level cache; of the second where the caches do not hold what is moved
            assert "prefetcht0" in jit.assembly(text, cpu=cpu) and "prefetcht1" not in jit.assembly(text, cpu=cpu)
            beyond = jit.assembly(render(doubled(d, flat, stream=True), cpu), cpu=cpu)
            assert "prefetcht1" in beyond and "prefetcht0" not in beyond
    # The sums of columns: what is loaded next lies a row further on.
    columns = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (0, 1), True)), (), (
        Loop(1, (Accumulator(1, d, "add"), Loop(0, (Load(0, 0), Accumulate(1, input_(0, d)))), Store(1, input_(1, d))), True),))
    assert "call void @llvm.prefetch" not in render(columns, cpu)


@pytest.mark.parametrize("level", LEVELS)
def test_lines_are_asked_for_once_and_not_behind_what_all_rows_read(level):
    """Rows less their largest number, times weights: the second loop finds the row in the caches, and the weights, too."""
    cpu, d = target.named(level), dt.float32
    first = Loop(1, (Load(1, 0), Accumulate(0, input_(1, d))), True)
    second = Loop(1, (Load(2, 0), Load(3, 1), Store(2, (input_(2, d) - input_(0, d)) * input_(3, d))), True)
    operands = Operand(d, (None, 1)), Operand(d, (0, 1)), Operand(d, (None, 1), True)
    nest = LoopNest((Axis(), Axis()), operands, (0,), (Accumulator(0, d, "max"), first, second))
    assert render(nest, cpu).count("call void @llvm.prefetch") == max(1, lanes_of(nest, first, cpu)[0] * 4 // 64)
    # As a range of their own, weights are asked for like everything else.
    flat = LoopNest((Axis(),), (Operand(d, (1,)), Operand(d, (1,)), Operand(d, (1,), True)), (0,),
                    (Load(0, 0), Load(1, 1), Store(2, input_(0, d) * input_(1, d))), True)
    lanes = lanes_of(flat, Loop(0, flat.body, True), cpu)[0]
    assert render(flat, cpu).count("call void @llvm.prefetch") == 2 * max(1, lanes * 4 // 64)


@pytest.mark.parametrize("level", LEVELS)
def test_the_second_loop_over_a_long_row_asks_for_the_next_row(level):
    """A cross entropy: the largest number of a row, then the sum of exponentials; of what rows are stored to, nothing more is asked."""
    cpu, d = target.named(level), dt.float32
    first = Loop(1, (Load(1, 0), Accumulate(0, input_(1, d))), True)
    second = Loop(1, (Load(3, 0), Accumulate(2, e.exp(input_(3, d) - input_(0, d)))), True)
    third = Loop(1, (Load(4, 0), Store(1, input_(4, d) / input_(2, d))), True)
    start = Accumulator(0, d, "max"), first, Accumulator(2, d, "add"), second
    sums = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (None, 0), True)), (0,), (*start, Store(1, input_(2, d))))
    rows = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (None, 1), True)), (0,), (*start, third))
    lines = [max(1, lanes_of(sums, x, cpu)[0] * 4 // 64) for x in (first, second)]
    assert render(sums, cpu).count("call void @llvm.prefetch") == sum(lines)
    assert render(rows, cpu).count("call void @llvm.prefetch") == lines[0]
    for n in (100, 4096, 5001):  # short and long: what is computed stays what it was
        x = np.random.default_rng(n).normal(size=(3, n)).astype(np.float32)
        out = np.zeros((3, 1), np.float32)
        with target.using(level):
            native(sums, [x.reshape(-1), out.reshape(-1)], [3, n, n, 1], 1, range(4))
        np.testing.assert_allclose(out[:, 0], np.exp(x - x.max(1, keepdims=True)).sum(1), rtol=1e-5)
