"""The caching allocator: alignment, reuse, bounds, views, threads, fork."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.compile.cpu import alloc

SIZES = st.one_of(st.integers(0, 300), st.integers(0, 100_000), st.integers(0, 5_000_000))


@given(st.integers(0, 1 << 40))
def test_size_classes_fit_closely(nbytes):
    size = alloc.size_class(nbytes)
    assert size >= max(nbytes, 1) and size % 64 == 0
    assert size <= max(nbytes * 1.25, nbytes + 64)
    assert alloc.size_class(size) == size


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SIZES, st.booleans()), max_size=30))
def test_blocks_are_aligned_and_never_overlap(requests):
    live: list[tuple[int, alloc.Block]] = []
    for number, (nbytes, drop) in enumerate(requests):
        block = alloc.allocate(nbytes)
        assert block.nbytes == nbytes and block.ptr % 64 == 0 and block.ptr != 0
        block.array()[:] = number % 251
        live.append((number % 251, block))
        if drop:
            live.pop(0)
    assert all((block.array() == fill).all() for fill, block in live)
    spans = sorted((b.ptr, b.ptr + b.nbytes) for _, b in live)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize("nbytes", [1, 64, 5000, 65536, 65537, 1 << 20, 5 << 20])
def test_freed_memory_is_used_again(nbytes):
    alloc.empty_cache()  # else a free block of a near size might serve the first request
    first = alloc.allocate(nbytes)
    ptr = first.ptr
    del first
    before = alloc.stats()
    again = alloc.allocate(nbytes)
    assert again.ptr == ptr
    assert alloc.stats().system_allocations == before.system_allocations
    assert alloc.stats().live - before.live == alloc.size_class(nbytes)


def test_a_repeated_step_asks_the_system_for_nothing():
    def step() -> None:
        held = [alloc.allocate(n) for n in (10, 3000, 70_000, 2_000_000, 70_000, 12_000_000)]
        held += [alloc.allocate(n) for n in (2_000_000, 400_000)]
        del held

    step()
    before = alloc.stats()
    for _ in range(50):
        step()
    after = alloc.stats()
    assert after.system_allocations == before.system_allocations
    assert (after.live, after.reserved) == (before.live, before.reserved)


def test_sizes_that_never_repeat_do_not_grow_the_process():
    alloc.empty_cache()
    alloc.allocate(32 << 20)  # sets the high-water mark
    rng = np.random.default_rng(0)
    for nbytes in rng.integers(1 << 20, 32 << 20, 300):
        block = alloc.allocate(int(nbytes))
        del block
        figures = alloc.stats()
        assert figures.live + alloc._state.cached <= alloc._state.high + alloc._state.slack


def test_a_near_size_serves_instead_of_the_system():
    alloc.empty_cache()
    block = alloc.allocate(1_250_000)
    ptr = block.ptr
    del block
    before = alloc.stats()
    smaller = alloc.allocate(1_000_000)
    assert smaller.ptr == ptr and smaller.nbytes == 1_000_000
    assert alloc.stats().system_allocations == before.system_allocations
    del smaller
    assert alloc.allocate(1_250_000).ptr == ptr, "the block went back to the list of its own size"


def test_empty_cache_gives_large_blocks_back():
    block = alloc.allocate(40 << 20)
    held = alloc.stats()
    del block
    assert alloc.stats().reserved == held.reserved
    alloc.empty_cache()
    after = alloc.stats()
    assert after.reserved <= held.reserved - (40 << 20) and after.live <= held.live - (40 << 20)


def test_peak():
    alloc.reset_peak()
    start = alloc.stats().live
    a, b = alloc.allocate(1 << 20), alloc.allocate(2 << 20)
    del a
    c = alloc.allocate(1 << 20)
    del b, c
    assert alloc.stats().peak - start == 3 << 20
    alloc.reset_peak()
    assert alloc.stats().peak == alloc.stats().live


def test_an_array_keeps_its_block_alive():
    block = alloc.allocate(4000)
    gone = weakref.ref(block)
    array = block.array(np.float32, (10, 100))
    view = array[2:5].T
    del block, array
    gc.collect()
    assert gone() is not None
    del view
    assert gone() is None


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float16, np.complex64, ml_dtypes.bfloat16])
def test_arrays_of_any_dtype_shape_and_strides(dtype):
    size = np.dtype(dtype).itemsize
    block = alloc.allocate(24 * size)
    flat = block.array(dtype)
    flat[:] = np.arange(24) % 2
    assert flat.shape == (24,) and flat.ctypes.data == block.ptr
    grid = block.array(dtype, (3, 4), (8 * size, 2 * size), size)
    np.testing.assert_array_equal(grid, flat.reshape(3, 4, 2)[:, :, 1])
    grid[1, 1] = 0
    assert flat[11] == 0
    assert block.array(dtype, ()).shape == ()


def test_an_array_cannot_reach_outside():
    block = alloc.allocate(100)
    with pytest.raises(TypeError, match="too small"):
        block.array(np.float32, (26,))
    with pytest.raises(ValueError):
        block.array(np.float32, (5, 5), (40, 4))


def test_empty_blocks():
    block = alloc.allocate(0)
    assert block.ptr and block.array(np.float32, (0, 3)).shape == (0, 3)


def test_wrapped_memory_belongs_to_numpy():
    array = np.arange(6.0)
    gone = weakref.ref(array)
    before = alloc.stats()
    block = alloc.wrap(array[2:])
    assert block.ptr == array.ctypes.data + 16 and block.nbytes == 32
    block.array(np.float64)[0] = -1.0
    assert array[2] == -1.0
    del array
    assert gone() is not None
    np.testing.assert_array_equal(block.array(np.float64), [-1, 3, 4, 5])
    del block
    assert gone() is None and alloc.stats() == before


def test_refusals():
    with pytest.raises(ValueError, match="cannot allocate -1 bytes"):
        alloc.allocate(-1)
    before = alloc.stats()
    with pytest.raises(MemoryError, match="cannot allocate"):
        alloc.allocate(1 << 60)
    assert alloc.stats().live == before.live


def test_threads():
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        held: list[tuple[int, np.ndarray]] = []
        for nbytes in rng.choice([64, 1000, 70_000, 300_000], 600):
            array = alloc.allocate(int(nbytes)).array()
            array[:] = seed
            held.append((seed, array))
            if len(held) > 5:
                value, oldest = held.pop(0)
                if not (oldest == value).all():
                    wrong.append(seed)

    before = alloc.stats().live
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert alloc.stats().live == before


def test_a_cycle_of_blocks_is_collected():
    before = alloc.stats().live

    class Node:
        pass

    node = Node()
    node.me, node.block = node, alloc.allocate(1 << 20)
    del node
    gc.collect()
    assert alloc.stats().live == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of any fork beside threads
def test_a_forked_child_has_copies():
    block = alloc.allocate(100_000)
    block.array()[:] = 7
    child = os.fork()
    if not child:
        good = (block.array() == 7).all()
        block.array()[:] = 9
        other = alloc.allocate(100_000)
        os._exit(0 if good and other.ptr != block.ptr else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (block.array() == 7).all()


@pytest.mark.parametrize("nbytes", [0, 1, 1000, 70_000, 3 << 20])
def test_zeros_are_zero_in_memory_that_was_used_before(nbytes):
    for _ in range(3):
        block = alloc.allocate_zeroed(nbytes)
        assert block.nbytes == nbytes and block.ptr % 64 == 0 and not block.array().any()
        block.array()[:] = 255
        del block


def test_zeros_from_the_system_are_counted_and_given_back():
    alloc.empty_cache()
    before = alloc.stats()
    block = alloc.allocate_zeroed(5 << 20)
    during = alloc.stats()
    assert during.live - before.live == alloc.size_class(5 << 20) and during.system_allocations == before.system_allocations + 1
    del block
    assert alloc.stats().live == before.live
