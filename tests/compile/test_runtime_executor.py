"""The executor and the thread pool, with small kernels written by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from rushlight.compile.cpu import executor, jit, pool
from rushlight.compile.cpu.pool_ir import executor_ir

# Part p writes out[p] = scale * sum(in[16 p : 16 p + 16]); params = (table index of in, table index of out, scale).
SUM_IR = """
define void @sum16(ptr %table, ptr %params, i64 %begin, i64 %end) {
entry:
  %in_index = load i64, ptr %params
  %p1 = getelementptr i64, ptr %params, i64 1
  %out_index = load i64, ptr %p1
  %p2 = getelementptr i64, ptr %params, i64 2
  %scale = load i64, ptr %p2
  %in_at = getelementptr ptr, ptr %table, i64 %in_index
  %in = load ptr, ptr %in_at
  %out_at = getelementptr ptr, ptr %table, i64 %out_index
  %out = load ptr, ptr %out_at
  %any = icmp slt i64 %begin, %end
  br i1 %any, label %part, label %done
part:
  %p = phi i64 [ %begin, %entry ], [ %next, %part_end ]
  %base = mul i64 %p, 16
  br label %loop
loop:
  %i = phi i64 [ 0, %part ], [ %i1, %loop ]
  %acc = phi i64 [ 0, %part ], [ %acc1, %loop ]
  %at = add i64 %base, %i
  %x_at = getelementptr i64, ptr %in, i64 %at
  %x = load i64, ptr %x_at
  %acc1 = add i64 %acc, %x
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, 16
  br i1 %more, label %loop, label %part_end
part_end:
  %scaled = mul i64 %acc1, %scale
  %y_at = getelementptr i64, ptr %out, i64 %p
  store i64 %scaled, ptr %y_at
  %next = add i64 %p, 1
  %rest = icmp slt i64 %next, %end
  br i1 %rest, label %part, label %done
done:
  ret void
}
"""

# Raises (code 7, index p, bound params[0]) for every part p >= params[0].
CHECK_IR = (
    executor.RAISE_IR
    + """
define void @check(ptr %table, ptr %params, i64 %begin, i64 %end) {
entry:
  %bound = load i64, ptr %params
  br label %loop
loop:
  %p = phi i64 [ %begin, %entry ], [ %next, %good ]
  %more = icmp slt i64 %p, %end
  br i1 %more, label %test, label %done
test:
  %bad = icmp sge i64 %p, %bound
  br i1 %bad, label %raise, label %good
raise:
  call void @rl_raise(ptr %table, i64 7, i64 %p, i64 %bound)
  br label %good
good:
  %next = add i64 %p, 1
  br label %loop
done:
  ret void
}
"""
)


# Every call leaves its end at its begin: out[begin] = end; params = (table index of out).
CALLS_IR = """
define void @calls(ptr %table, ptr %params, i64 %begin, i64 %end) {
  %index = load i64, ptr %params
  %out_at = getelementptr ptr, ptr %table, i64 %index
  %out = load ptr, ptr %out_at
  %at = getelementptr i64, ptr %out, i64 %begin
  store i64 %end, ptr %at
  ret void
}
"""


@pytest.fixture(autouse=True)
def restore_threads():
    before = pool.get_num_threads()
    yield
    pool.set_num_threads(before)


def sum_kernel() -> int:
    return jit.kernel("test sum16", lambda: SUM_IR, "sum16")


def check_kernel() -> int:
    return jit.kernel("test check", lambda: CHECK_IR, "check")


class Chain:
    """A program of ``depth`` instructions: each sums groups of 16 of the array before it, times ``scale``."""

    def __init__(self, depth: int, scale: int, grain: int = 0, seed: int = 0) -> None:
        self.errors = np.zeros(8, np.int64)
        first = np.random.default_rng(seed).integers(-100, 100, 16**depth)
        self.arrays = [first] + [np.full(16 ** (depth - 1 - i), -1, np.int64) for i in range(depth)]
        self.scale = scale
        self.table = np.array([self.errors.ctypes.data, *(a.ctypes.data for a in self.arrays)], np.int64)
        self.params = [np.array([i + 1, i + 2, scale], np.int64) for i in range(depth)]
        address = sum_kernel()
        self.code = executor.Instructions(
            [(address, p.ctypes.data, len(out), grain) for p, out in zip(self.params, self.arrays[1:], strict=True)]
        )

    def run(self, run=executor.run):
        return run(self.code.pointer, len(self.code), self.table.ctypes.data)

    def clear(self) -> None:
        for array in self.arrays[1:]:
            array.fill(-1)

    def check(self) -> None:
        for before, after in zip(self.arrays, self.arrays[1:], strict=False):
            np.testing.assert_array_equal(after, before.reshape(-1, 16).sum(1) * self.scale)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("grain", [0, 1, 100, -1])
def test_each_instruction_sees_the_results_of_the_one_before(threads, grain):
    pool.set_num_threads(threads)
    chain = Chain(4, 3, grain)
    for _ in range(20):
        chain.clear()
        assert chain.run() is None
        chain.check()


def test_run_held_gives_the_same():
    chain = Chain(3, 2)
    assert chain.run(executor.run_held) is None
    chain.check()


def test_an_empty_program_does_nothing():
    errors = np.zeros(8, np.int64)
    table = np.array([errors.ctypes.data], np.int64)
    assert executor.run(0, 0, table.ctypes.data) is None


def test_every_part_is_done_once_whatever_their_number():
    pool.set_num_threads(3)
    errors, address = np.zeros(8, np.int64), sum_kernel()
    for parts in [0, 1, 2, 3, 7, 11, 12, 13, 100, 1001]:
        data, out = np.arange(16 * parts + 1), np.full(parts + 1, -5, np.int64)
        table = np.array([errors.ctypes.data, data.ctypes.data, out.ctypes.data], np.int64)
        params = np.array([1, 2, 1], np.int64)
        code = executor.Instructions([(address, params.ctypes.data, parts, 0)])
        assert executor.run(code.pointer, 1, table.ctypes.data) is None
        np.testing.assert_array_equal(out[:-1], data[:-1].reshape(parts, 16).sum(1))
        assert out[-1] == -5


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("parts", [2, 7, 8, 9, 11, 33, 35, 63, 1001])
@pytest.mark.parametrize("grain", [0, 1, 5])
def test_chunks_are_even(threads, parts, grain):
    """33 parts in chunks of 5 would leave one of two threads 20 of them."""
    pool.set_num_threads(threads)
    errors, ends = np.zeros(8, np.int64), np.zeros(parts + 1, np.int64)
    table, params = np.array([errors.ctypes.data, ends.ctypes.data], np.int64), np.array([1], np.int64)
    code = executor.Instructions([(jit.kernel("test calls", lambda: CALLS_IR, "calls"), params.ctypes.data, parts, grain)])
    assert executor.run(code.pointer, 1, table.ctypes.data) is None
    begins = np.flatnonzero(ends)
    lengths = ends[begins] - begins
    np.testing.assert_array_equal(begins, np.cumsum([0, *lengths[:-1]]))
    assert lengths.sum() == parts and lengths.max() - lengths.min() <= 1
    assert len(lengths) == max(1, min(4 * threads, parts // max(grain, 1)))


# Part p of waves of params[1] writes out[p] = 1 + the sum of the wave before.
WAVES_IR = """
define void @waves(ptr %table, ptr %params, i64 %begin, i64 %end) {
entry:
  %index = load i64, ptr %params
  %out_at = getelementptr ptr, ptr %table, i64 %index
  %out = load ptr, ptr %out_at
  %wave_at = getelementptr i64, ptr %params, i64 1
  %wave = load i64, ptr %wave_at
  br label %loop
loop:
  %p = phi i64 [ %begin, %entry ], [ %next, %store ]
  %number = udiv i64 %p, %wave
  %start = mul i64 %number, %wave
  %before = sub i64 %start, %wave
  %from = call i64 @llvm.smax.i64(i64 %before, i64 0)
  br label %sum
sum:
  %i = phi i64 [ %from, %loop ], [ %i1, %more ]
  %total = phi i64 [ 1, %loop ], [ %total1, %more ]
  %inside = icmp slt i64 %i, %start
  br i1 %inside, label %more, label %store
more:
  %at = getelementptr i64, ptr %out, i64 %i
  %x = load i64, ptr %at
  %total1 = add i64 %total, %x
  %i1 = add i64 %i, 1
  br label %sum
store:
  %to = getelementptr i64, ptr %out, i64 %p
  store i64 %total, ptr %to
  %next = add i64 %p, 1
  %rest = icmp slt i64 %next, %end
  br i1 %rest, label %loop, label %done
done:
  ret void
}
declare i64 @llvm.smax.i64(i64, i64)
"""


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("wave, parts", [(2, 40), (7, 70), (3, 31), (40, 40), (1, 5), (50, 40)])
def test_a_wave_begins_when_the_one_before_is_complete(threads, wave, parts):
    pool.set_num_threads(threads)
    errors, params = np.zeros(8, np.int64), np.array([1, wave], np.int64)
    want: list[int] = []
    for p in range(parts):
        start = p // wave * wave
        want.append(1 + sum(want[max(start - wave, 0):start]) & (1 << 64) - 1)
    for _ in range(50):
        out = np.full(parts, -1, np.int64)
        table = np.array([errors.ctypes.data, out.ctypes.data], np.int64)
        code = executor.Instructions([(jit.kernel("test waves", lambda: WAVES_IR, "waves"), params.ctypes.data, parts, -wave)])
        assert executor.run(code.pointer, 1, table.ctypes.data) is None
        np.testing.assert_array_equal(out.view(np.uint64), np.array(want, np.uint64))


@pytest.mark.parametrize("threads", [1, 2])
def test_many_programs_in_a_row_with_and_without_pauses(threads):
    pool.set_num_threads(threads)
    chains = [Chain(3, scale, seed=scale) for scale in range(1, 6)]
    for round_number in range(300):
        chain = chains[round_number % 5]
        chain.clear()
        assert chain.run() is None
        chain.check()
        if round_number % 50 == 0:
            time.sleep(0.002)  # long enough for the workers to fall asleep


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("parts, bound", [(1, 0), (1000, 999), (1000, 10)])
def test_an_error_stops_the_program_and_the_next_one_runs(threads, parts, bound):
    pool.set_num_threads(threads)
    chain = Chain(2, 1)
    params = np.array([bound], np.int64)
    rows = [tuple(row) for row in chain.code.array]
    rows.insert(1, (check_kernel(), params.ctypes.data, parts, 0))
    code = executor.Instructions(rows)
    error = executor.run(code.pointer, len(code), chain.table.ctypes.data)
    assert error is not None
    assert (error.code, error.bound, error.instruction) == (7, bound, 1)
    assert bound <= error.index < parts
    assert chain.arrays[2][0] == -1, "the instruction after the failed one must not run"
    assert not chain.errors.any(), "the block is cleared for the next run"
    assert chain.run() is None
    chain.check()


def test_two_python_threads_at_once():
    pool.set_num_threads(2)
    failures = []

    def work(seed: int) -> None:
        chain = Chain(3, seed + 1, seed=seed)
        try:
            for _ in range(200):
                chain.clear()
                assert chain.run() is None
                chain.check()
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_changing_the_number_of_threads_while_programs_run():
    stop = threading.Event()
    failures = []

    def work() -> None:
        chain = Chain(3, 1)
        try:
            while not stop.is_set():
                chain.clear()
                assert chain.run() is None
                chain.check()
        except AssertionError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    for n in [1, 2, 3, 1, 4, 2] * 3:
        pool.set_num_threads(n)
        assert pool.get_num_threads() == n
        time.sleep(0.002)
    stop.set()
    thread.join()
    assert not failures


def test_workers_leave_when_the_number_of_threads_changes():
    pool.set_num_threads(4)
    Chain(2, 1).run()
    assert sum(t.name.startswith("rushlight-") for t in threading.enumerate()) == 3
    pool.set_num_threads(1)
    assert sum(t.name.startswith("rushlight-") for t in threading.enumerate()) == 0


@pytest.mark.parametrize("bad, error", [(0, RuntimeError), (-1, RuntimeError), (1.5, TypeError), ("2", TypeError)])
def test_set_num_threads_refuses(bad, error):
    with pytest.raises(error, match="set_num_threads expects"):
        pool.set_num_threads(bad)


def run_python(program: str, **environ: str) -> str:
    """Run a program in a fresh interpreter (with this process's disk cache); returns what it printed."""
    prelude = f"import sys\nsys.path[:0] = {[os.path.dirname(__file__), os.getcwd()]!r}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + textwrap.dedent(program)],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environ},
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()


def test_a_forked_child_starts_its_own_workers():
    program = """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)   # Python 3.12 warns of any fork beside threads
        from rushlight.compile.cpu import pool
        from test_runtime_executor import Chain
        pool.set_num_threads(2)
        chain = Chain(3, 2)
        chain.run()
        for generation in range(2):      # a child, and a child of the child
            child = os.fork()
            if child:
                _, status = os.waitpid(child, 0)
                chain.clear()
                chain.run()
                chain.check()
                os._exit(os.waitstatus_to_exitcode(status))
            chain.clear()
            assert chain.run() is None
            chain.check()
            assert pool.ready().threads == 2 and all(w.is_alive() for w in pool.ready()._workers)
    """
    run_python(program)


def test_a_fork_while_another_thread_runs_programs():
    program = """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)   # Python 3.12 warns of any fork beside threads
        from rushlight.compile.cpu import pool
        from test_runtime_executor import Chain
        pool.set_num_threads(3)
        stop = threading.Event()
        def work():
            busy = Chain(3, 1)
            while not stop.is_set():
                busy.run()
        thread = threading.Thread(target=work)
        thread.start()
        chain = Chain(3, 2)
        for _ in range(10):
            child = os.fork()
            if not child:
                chain.run()
                chain.check()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        thread.join()
    """
    run_python(program)


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit(0)", "time.sleep(0.01)"])
def test_the_interpreter_exits_cleanly_with_workers_awake_or_asleep(ending):
    program = f"""
import time
from rushlight.compile.cpu import pool
from test_runtime_executor import Chain
pool.set_num_threads(3)
chain = Chain(3, 2)
chain.run()
chain.check()
print("done")
{ending}
"""
    assert run_python(program) == "done"


def test_a_program_can_run_in_an_exit_handler():
    program = """
        import atexit
        from test_runtime_executor import Chain
        def late():
            chain.clear(); chain.run(); chain.check(); print("late")
        chain = Chain(3, 2)
        chain.run()
        atexit.register(late)
    """
    assert run_python(program) == "late"


@pytest.mark.parametrize(
    "environ, expected",
    [({"RUSHLIGHT_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"), ({"OMP_NUM_THREADS": "5,2"}, "5")],
)
def test_environment_variables_set_the_number_of_threads(environ, expected):
    program = "from rushlight.compile.cpu import pool; print(pool.get_num_threads())"
    assert run_python(program, **{"RUSHLIGHT_NUM_THREADS": "", **environ}) == expected


def test_a_container_quota_bounds_the_default(tmp_path):
    for text, expected in [("max 100000", 1 << 20), ("150000 100000", 2), ("50000 100000", 1)]:
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert pool._quota(str(tmp_path / "cpu.max")) == expected
    assert pool._quota(str(tmp_path / "absent")) == 1 << 20


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin"])
def test_the_executor_compiles_for_other_machines(triple):
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(reloc="pic", codemodel="small")
    except RuntimeError as error:
        pytest.skip(f"this llvmlite cannot generate code for {triple}: {error}")
    module = llvm.parse_assembly(
        executor_ir("x86_64" if triple.startswith("x86") else "aarch64"), llvm.create_context()
    )
    module.verify()
    module.triple, module.data_layout = triple, str(machine.target_data)
    text = machine.emit_assembly(module)
    assert ("pause" if triple.startswith("x86") else "isb") in text
    assert "rl_execute" in text and "pthread_cond_wait" in text


def test_the_executor_compiles_without_a_pause_instruction():
    jit.compile_object(executor_ir("riscv64"))


def test_importing_the_runtime_does_not_load_llvm():
    program = """
        import sys
        from rushlight.compile.cpu import alloc, executor, jit, pool
        alloc.allocate(100)
        pool.get_num_threads()
        print("llvmlite" in sys.modules)
    """
    assert run_python(program) == "False"


def test_idle_workers_use_no_processor_time():
    pool.set_num_threads(3)
    chain = Chain(3, 2)
    for _ in range(20):  # short pauses: the workers come to expect more work soon
        chain.run()
        time.sleep(0.0003)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1, "two spinning workers would have used 0.3 s or more"
    chain.clear()
    chain.run()
    chain.check()


# -- the queue of launched programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("staffed", [False, True])
def test_launched_programs_run_in_order(threads, staffed):
    """Also where there is no worker: who waits runs them."""
    pool.set_num_threads(threads)
    team, code = pool.Pool(threads), pool.native()
    try:
        if staffed:
            team.staff()
        first, second = Chain(3, 3), Chain(3, 2)
        second.arrays[0][:256] = -7
        second.table[1] = first.table[2]  # takes what the first one computes, in a program of one instruction
        numbers = []
        for _ in range(50):
            first.clear()
            numbers.append(code.launch(team.pointer, first.code.pointer, len(first.code), first.table.ctypes.data))
            numbers.append(code.launch(team.pointer, second.code.pointer, 1, second.table.ctypes.data))
            if numbers[-1] % 6:
                time.sleep(0.0002)
            code.wait(team.pointer, numbers[-1])
            first.check()
            np.testing.assert_array_equal(second.arrays[1][:16], first.arrays[1].reshape(-1, 16).sum(1) * 2)
        assert numbers == list(range(1, 101))
    finally:
        team.stop()


def test_a_failed_program_halts_the_queue():
    team, code = pool.ready(), pool.native()
    errors, params, words = np.zeros(8, np.int64), np.array([5], np.int64), pool.WORDS
    table = np.array([errors.ctypes.data], np.int64)
    bad = executor.Instructions([(check_kernel(), params.ctypes.data, 10, -1)])
    good = Chain(2, 3)
    numbers = [code.launch(team.pointer, bad.pointer, 1, table.ctypes.data),
               code.launch(team.pointer, good.code.pointer, 2, good.table.ctypes.data)]
    code.wait(team.pointer, numbers[1])
    results = [team.words[words["QUEUE"] + (n - 1) % 4 * 4 + 3] for n in numbers]
    assert results == [1, -1] and team.words[words["HALTED"]] == 1
    assert executor.take_error(table.ctypes.data).index == 5 and not errors.any()
    team.words[words["HALTED"]] = 0
    number = code.launch(team.pointer, good.code.pointer, 2, good.table.ctypes.data)
    code.wait(team.pointer, number)
    good.check()
