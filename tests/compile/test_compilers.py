"""Kernels compiled in the background: announced, asked for, failed, forked and left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings

import pytest
from test_runtime_cache import call, directory, make_ir  # noqa: F401  (a fixture)

from rushlight.compile.cpu import compilers, jit


def counted(name: str, factor: int, made: list[str]):
    def make() -> str:
        made.append(name)
        return make_ir(name, factor)

    return f"background {name}", make, name


def test_what_was_announced_is_made_once(directory):  # noqa: F811
    made: list[str] = []
    requests = [counted(f"f{n}", n, made) for n in range(2, 7)]
    jit.begin(requests[:3])
    jit.begin(requests[:3])
    assert len(made) == 3 and jit.counters.compiled == 0
    assert [call(a, 10) for a in jit.kernels(requests)] == [20, 30, 40, 50, 60]
    assert len(made) == 5 and jit.counters.compiled == 5 and len(list(directory.iterdir())) == 5
    jit.begin(requests)
    assert len(made) == 5


def test_announced_kernels_come_from_the_disk(directory, monkeypatch):  # noqa: F811
    made: list[str] = []
    jit.kernels([counted("f", 3, made)])
    monkeypatch.setattr(jit, "_addresses", {})
    jit.begin([counted("f", 3, made)])
    assert made == ["f"] and (jit.counters.compiled, jit.counters.loaded) == (1, 1)


def test_a_batch_delivers_at_its_end(directory):  # noqa: F811
    got: list[int] = []
    jit.deliver([counted("a", 2, [])], got.extend)
    assert len(got) == 1
    with jit.batch():
        jit.deliver([counted("b", 3, []), counted("c", 4, [])], got.extend)
        jit.deliver([counted("a", 2, [])], got.extend)
        assert len(got) == 1
    assert [call(a, 10) for a in got] == [20, 30, 40, 20]


def test_a_batch_that_fails_delivers_nothing(directory):  # noqa: F811
    got: list[int] = []
    with pytest.raises(ZeroDivisionError), jit.batch():
        jit.deliver([counted("b", 3, [])], got.extend)
        raise ZeroDivisionError
    assert got == []
    jit.deliver([counted("b", 3, [])], got.extend)
    assert [call(a, 10) for a in got] == [30]


def test_an_error_shows_where_the_kernel_is_wanted(directory):  # noqa: F811
    bad = ("bad in the background", lambda: "define void @f() {\n  ret i32 %x\n}", "f")
    jit.begin([bad])
    assert call(jit.kernel(*counted("good", 3, [])), 10) == 30
    for _ in range(2):
        with pytest.raises(jit.CompileError, match="LLVM refused"):
            jit.kernel(*bad)


def test_jobs_that_are_waited_for_go_first():
    gate, order = threading.Event(), []
    blockers = [compilers.submit(lambda: bytes(gate.wait(60))) for _ in range(os.cpu_count() or 1)]
    jobs = [compilers.submit(lambda n=n: order.append(n) or b"", ahead=True) for n in range(3)]
    jobs[2].hurry()
    jobs.append(compilers.submit(lambda: order.append(3) or b""))
    gate.set()
    for job in (*blockers, *jobs):
        job.result()
    assert sorted(order) == [0, 1, 2, 3] and set(order[:2]) == {2, 3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_for_the_compilers_and_its_child_has_its_own(directory):  # noqa: F811
    requests = [counted(f"g{n}", n, []) for n in range(2, 30)]
    jit.begin(requests)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
        child = os.fork()
    if child == 0:
        right = [call(a, 10) for a in jit.kernels([*requests, counted("child", 7, [])])]
        os._exit(0 if right == [*range(20, 300, 10), 70] else 1)
    assert [call(a, 10) for a in jit.kernels(requests)] == [*range(20, 300, 10)]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_process_ends_quietly_with_kernels_announced(tmp_path):
    program = """
from rushlight.compile.cpu import jit
text = "define i64 @f(i64 %x) {\\n" + "".join(f"  %y{n} = mul i64 {'%x' if n == 0 else f'%y{n - 1}'}, {n + 3}\\n" for n in range(2000))
jit.begin([(f"end {n}", lambda: text + "  ret i64 %y1999\\n}", "f") for n in range(200)])
print("said goodbye")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "RUSHLIGHT_CACHE_DIR": str(tmp_path)})  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "said goodbye\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_forked_beside_threads_that_draw_and_compile_do_not_wait_for_them(tmp_path):
    """What a thread holds while it loads the compiler, compiles, or draws random numbers is not locked in a child."""
    program = """
import os, signal, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)   # Python 3.12 warns of any fork beside threads
import rushlight as torch

def work(seed, times):
    for n in range(times):
        x = torch.rand(3 + n % 5, 40 + seed, requires_grad=True)
        (x.sin() * (n + 0.5) + x).sum().backward()
        assert x.grad.isfinite().all().item()

threads = [threading.Thread(target=work, args=(k, 12)) for k in range(3)]
for t in threads:
    t.start()
children = []
for k in range(8):
    child = os.fork()
    if not child:
        signal.alarm(60)   # a child that hangs is killed, which its status tells
        work(10 + k, 2)
        os._exit(0)
    children.append(child)
    time.sleep(0.05)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
for t in threads:
    t.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "RUSHLIGHT_CACHE_DIR": str(tmp_path), "RUSHLIGHT_COLD_LIMIT": "0"})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
