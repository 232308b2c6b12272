"""Attention on the tile unit (AMX): where it is taken, that it is right for all sizes, and what it does without."""
from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushlight.compile import dtypes as dt
from rushlight.compile.attention import Attention, AttentionBackward
from rushlight.compile.cpu import attention, attention_unit_plan, target
from rushlight.compile.cpu.native import Operand
from rushlight.compile.flags import flags
from rushlight.compile.placed import Output
from tests.compile.test_attention import SETTINGS, Case

HOST = target.host()
on_unit = pytest.mark.skipif(not HOST.amx, reason="no tile unit here")
DTYPES = [dt.float32, dt.bfloat16]
IDS = [d.name for d in DTYPES]


@contextlib.contextmanager
def whatever_it_gains():
    """float32 takes the tile unit, too."""
    with pytest.MonkeyPatch.context() as patch, flags.using(plans=0):
        patch.setattr(attention_unit_plan, "gains", lambda backward, causal, sizes: True)
        yield


@pytest.fixture
def everywhere():
    with whatever_it_gains():
        yield


def steps_of(sizes, dtype=dt.float32, backward=False, causal=False):
    b, h, g, length, source, e, v = sizes
    shapes = [(b, h, length, e), (b, g, source, e), (b, g, source, v)]
    kind = AttentionBackward if backward else Attention
    results = [(b, length, h, e), (b, source, g, e), (b, source, g, v)] if backward else [(b, length, h, v), (b, h, 2, length)]
    types = [dtype] * 3 if backward else [dtype, dtype.compute]
    shapes += [(b, h, length, v)] * 2 + [(b, h, 2, length)] if backward else []
    outputs = tuple(output(shape, i, backward) for i, shape in enumerate(results))
    call = kind(tuple(zip(results, types)), outputs, sizes, 0.1, causal, False)
    operands = [Operand(s, tuple(np.cumprod((1, *s[:0:-1]))[::-1].tolist()), dtype) for s in shapes]
    return attention.plan(call, operands, [True] * len(results)).steps


def dots(*args, **named):
    """How many products of squares, and of pairs in vectors, the IR of a plan's kernels has; and the plan's steps."""
    steps = steps_of(*args, **named)
    text = "".join(step.kernel[1]() for step in steps)
    return text.count("call void @llvm.x86.tdpbf16ps"), text.count("call <16 x float> @llvm.x86.avx512bf16.dpbf16ps"), len(steps)


def output(shape, i, backward):
    """As ``compile/attention.py`` places it: heads inside."""
    if i and not backward:
        return Output.alone(shape, i)
    b, length, h, e = shape
    return Output((b, h, length, e), i, 0, (length * h * e, e, h * e, 1))


@on_unit
@pytest.mark.parametrize("dtype", DTYPES, ids=IDS)
@pytest.mark.parametrize("backward", [False, True])
def test_products_are_made_on_the_tile_unit(dtype, backward):
    for sizes in ((8, 4, 4, 512, 512, 64, 64), (2, 8, 4, 256, 300, 96, 128), (1, 1, 1, 2000, 2000, 40, 72)):
        tiles, vectors, _ = dots(sizes, dtype, backward)
        assert tiles > 0 and vectors == 0
    with target.using(dataclasses.replace(HOST, amx=False)):
        assert dots((8, 4, 4, 512, 512, 64, 64), dtype, backward)[0] == 0
    with flags.using(tiles=0):
        assert (dots((8, 4, 4, 512, 512, 64, 64), dtype, backward)[0] == 0) == (dtype is dt.float32)


@pytest.mark.parametrize("dtype", [dt.float32, dt.float64, dt.bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("causal", [False, True])
def test_rows_that_are_read_next_are_asked_for(dtype, causal):
    """Queries; gradients and results besides, and whole rows of keys and values where blocks read them, not squares."""
    if dtype is dt.bfloat16 and not HOST.bf16_dot:
        pytest.skip("no products of bfloat16 here")
    sizes = (8, 3, 3, 197, 197, 64, 64)
    squares = dtype is dt.bfloat16 and HOST.amx
    for backward, reads in ((False, 1), (True, 3)):
        with flags.using(tiles=0):
            text = steps_of(sizes, dtype, backward, causal)[-1].kernel[1]()
        keys = 0 if squares else 2 * (2 if causal else 3)
        assert text.count("call void @ask(") == reads + keys
        assert text.count("call void @ask_to_write(") == (3 if backward and dtype is not dt.bfloat16 else int(backward))


@on_unit
@pytest.mark.parametrize("dtype", DTYPES, ids=IDS)
def test_few_keys_stay_on_vectors(dtype):
    assert dots((64, 8, 8, 8, 8, 16, 16), dtype)[0] == dots((64, 8, 8, 8, 8, 16, 16), dtype, True)[0] == 0


@on_unit
@pytest.mark.parametrize("dtype", DTYPES, ids=IDS)
def test_a_part_takes_its_own_head_apart_where_there_are_many(everywhere, dtype):
    assert dots((8, 3, 3, 197, 197, 64, 64), dtype)[2] == dots((8, 3, 3, 197, 197, 64, 64), dtype, True)[2] == 1
    assert dots((1, 2, 2, 400, 400, 64, 64), dtype)[2] == 2                # keys and values are taken apart by a step of their own,
    assert dots((1, 2, 2, 400, 400, 64, 64), dtype, True)[2] == 3          # and gradients of keys are added up
    assert dots((1, 16, 16, 8000, 8000, 64, 64), dtype, True)[2] == 2      # more than a core's cache holds


ORDERS = st.permutations((0, 1, 2, 3))


@on_unit
@SETTINGS
@given(st.data())
def test_sizes_layouts_and_masks(data):
    draw = data.draw
    g = draw(st.integers(1, 2))
    sizes = (draw(st.integers(1, 9)), g * draw(st.integers(1, 2)), g, draw(st.integers(1, 110)), draw(st.integers(17, 210)),
             draw(st.integers(1, 100)), draw(st.integers(1, 100)))
    b, h, _, length, source, *_ = sizes
    mask = draw(st.sampled_from([None, None, (source,), (1, 1, length, 1), (b, 1, 1, source), (length, source), (b, h, length, source)]))
    case = Case(sizes, causal=mask is None and draw(st.booleans()), mask=mask, orders=[draw(ORDERS) for _ in range(4)],
                dtype=draw(st.sampled_from(DTYPES)), drop=draw(st.sampled_from([0.0, 0.0, 0.4])), seed=draw(st.integers(0, 99)), scale=0.1)
    with whatever_it_gains():
        case.check()


@on_unit
@pytest.mark.parametrize("dtype", DTYPES, ids=IDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 32, 17, 32, 32), (2, 8, 8, 33, 65, 64, 64), (8, 3, 3, 197, 197, 64, 64),
                                   (2, 8, 4, 128, 130, 128, 96), (1, 2, 2, 300, 310, 64, 64)])
@pytest.mark.parametrize("causal", [False, True])
def test_the_same_bits_from_any_number_of_threads(everywhere, dtype, sizes, causal):
    case = Case(sizes, causal=causal, dtype=dtype, orders=((0, 2, 1, 3),) * 4, scale=0.1)
    case.check()
    case.check_threads()


@on_unit
def test_float32_stays_on_vectors_where_taking_apart_costs_more():
    for sizes, causal in (((16, 4, 4, 64, 64, 64, 64), False), ((16, 4, 4, 128, 128, 64, 64), True), ((8, 8, 8, 16, 256, 64, 64), False)):
        assert dots(sizes, dt.float32, causal=causal)[0] == dots(sizes, dt.float32, True, causal)[0] == 0


@on_unit
def test_float32_is_as_exact_as_on_vectors():
    errors = []
    for tiles in (0, 1):
        with flags.using(tiles=tiles, plans=0):
            assert (dots((1, 4, 4, 512, 512, 64, 64))[0] > 0) == bool(tiles)
            case = Case((1, 4, 4, 512, 512, 64, 64), scale=0.125)
            errors.append([np.sqrt(np.square(a - b).mean()) for a, b in zip(case.run()[1], case.want, strict=True)])
    assert all(unit < 1.1 * vectors for vectors, unit in zip(*errors, strict=True)), errors


@on_unit
def test_infinities_and_numbers_that_are_none_do_what_they_do_in_float32(everywhere):
    """In a value, in a query (whose row they fill), and scores too large for float32."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(1, 16, 50, 40)).astype(np.float32) for _ in range(4)]
    q, k, v, grad = arrays
    v[0, 0, 7, 3], v[0, 0, 9, 4] = np.inf, np.nan
    v[0, 1, 7, 3] = 3.4e38
    q[0, 2, 5, 6] = np.nan
    q[0, 3, 4, 5], k[0, 3, 4, 5] = 3e38, -30
    grad[0, 4, 8, 2], grad[0, 5, 8, 2] = np.inf, np.float32(np.nan)
    found = []
    for tiles in (0, 1):
        with flags.using(tiles=tiles, plans=0), np.errstate(all="ignore"):
            case = Case((1, 16, 16, 50, 50, 40, 40), scale=0.1)
            case.arrays = [np.ascontiguousarray(x) for x in arrays]
            found.append(case.run()[1])
    for vectors, unit in zip(*found, strict=True):
        assert np.array_equal(np.isnan(vectors), np.isnan(unit)) and np.array_equal(np.isinf(vectors), np.isinf(unit))
        assert np.isnan(unit).any()
        for head, want in zip(unit[0], vectors[0], strict=True):
            fine = np.isfinite(want)
            assert not fine.any() or np.abs(head[fine] - want[fine]).max() <= 2e-5 * np.abs(want[fine]).max()


@pytest.mark.skipif(not (HOST.bf16_dot and HOST.vector_bytes == 64), reason="no dot product of pairs here")
@pytest.mark.parametrize("causal", [False, True])
def test_without_the_tile_unit_pairs_are_multiplied_in_vectors(causal):
    with target.using(dataclasses.replace(HOST, amx=False)):
        tiles, vectors, _ = dots((2, 4, 2, 45, 78, 20, 36), dt.bfloat16, causal=causal)
        assert tiles == 0 and vectors > 0
        Case((2, 4, 2, 45, 78, 20, 36), causal=causal, orders=((0, 2, 1, 3),) * 4, dtype=dt.bfloat16).check()
        Case((1, 2, 2, 33, 130, 64, 16), mask=(33, 130), dtype=dt.bfloat16).check()
        Case((1, 2, 1, 40, 50, 16, 18), causal=causal, drop=0.25, dtype=dt.bfloat16).check()
