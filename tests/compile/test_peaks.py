"""What the machine can do at most: the kernels that measure it do what they say; the figures are measured once."""
from __future__ import annotations

import ctypes

import numpy as np
import pytest

from rushlight.compile.cpu import alloc, executor, jit, peaks, target


@pytest.mark.parametrize("level", ["avx512", "avx2", "sse"] if target.machine() == "x86_64" else ["neon"])
def test_the_copies_copy_and_the_multiply_adds_multiply_and_add(level):
    if target.named(level).vector_bytes > target.host().vector_bytes:
        pytest.skip("a larger processor than this one")
    with target.using(level) as cpu:
        names = ("rl_peak_fma", "rl_peak_copy", "rl_peak_stream")
        kernels = jit.functions(f"test peaks {cpu.key}", peaks._ir, names)
    error = np.zeros(8, np.int64)
    for name in names[1:]:
        a, b = (alloc.allocate(4 << 10) for _ in range(2))
        a.array(np.int64)[:], b.array(np.int64)[:] = np.arange(512), 0
        _run(kernels[name], [error.ctypes.data, a.ptr, b.ptr], [1 << 10, 2], 3)
        assert (b.array(np.int64)[:384] == np.arange(384)).all() and not b.array(np.int64)[384:].any()
    memory = alloc.allocate(4 << 10)
    memory.array(np.float32)[:] = 1
    _run(kernels["rl_peak_fma"], [error.ctypes.data, memory.ptr], [3], 2)
    numbers = peaks._SUMS * cpu.vector_bytes // 4  # of each part
    # 1 -> 2 -> 6 -> 42
    assert (memory.array(np.float32)[: 2 * numbers] == 42).all() and (memory.array(np.float32)[2 * numbers :] == 1).all()


def test_the_sum_of_arrays_is_their_sum():
    name = "rl_test_sum3"
    kernel = jit.functions(f"test {name} {target.current().key}", lambda: peaks._sum_ir(name, 3), (name,))[name]
    error, arrays = np.zeros(8, np.int64), [alloc.allocate(4 << 10) for _ in range(4)]
    for k, a in enumerate(arrays):
        a.array(np.float32)[:] = k + 1
    _run(kernel, [error.ctypes.data, *(a.ptr for a in arrays)], [1 << 10], 3)
    assert (arrays[3].array(np.float32)[:768] == 6).all() and (arrays[3].array(np.float32)[768:] == 4).all()


def _run(kernel, table, params, parts):
    table, params = np.array(table, np.int64), np.array(params, np.int64)
    code = executor.Instructions([(kernel, params.ctypes.data, parts, 0)])
    assert executor.run(code.pointer, 1, table.ctypes.data) is None
    assert ctypes.c_int64.from_address(int(table[0])).value == 0


def test_the_figures_are_measured_once_and_count_as_no_kernel():
    before, memory = (jit.counters.compiled, jit.counters.loaded), alloc.stats()
    found = peaks.peaks(1)
    assert found.threads == 1 and found.flops > 1e8 and found.cached > 1e8 and found.copy > 1e7
    assert peaks.peaks(1) is found
    assert (jit.counters.compiled, jit.counters.loaded) == before and alloc.stats() == memory
    with pytest.raises(ValueError, match="the peaks of 0 threads"):
        peaks.peaks(0)


def test_streams_call_what_is_to_come_before_each_run():
    calls = []
    with peaks.swept() as sweep:
        assert peaks.streams(1, 1, before=lambda: calls.append(sweep())) > 1e7
    assert calls == [None] * 7  # the first run, which does not count, and six

    def refused():
        raise RuntimeError("no run")

    with pytest.raises(RuntimeError, match="no run"):
        peaks.streams(2, 1, before=refused)
