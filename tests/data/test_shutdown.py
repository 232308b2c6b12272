"""How workers end when the program does not end well: each case is a program of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks processes up in /proc")

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, sys, time
from rushlight.utils.data import DataLoader
{setup}
class Slow:
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        time.sleep({seconds})
        return index

def main():
    iterator = iter(DataLoader(Slow(), num_workers=2, persistent_workers={persistent}))
    print(*[process.pid for process in iterator._workers], flush=True)
{body}

if __name__ == "__main__":
    main()
"""


def start(body, setup="", seconds=0.01, persistent=False):
    """Run a program up to the point where its workers are started; returns it and the numbers of its workers."""
    lines = "\n".join("    " + line for line in body.splitlines())
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=lines, setup=setup, seconds=seconds, persistent=persistent)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = [int(word) for word in program.stdout.readline().split()]
    if len(workers) != 2:
        program.kill()
        raise AssertionError(program.stderr.read())
    return program, workers


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def assert_gone(workers, seconds=20):
    deadline = time.monotonic() + seconds
    while any(running(pid) for pid in workers):
        assert time.monotonic() < deadline, f"workers {workers} still run"
        time.sleep(0.05)


def finish(program):
    out, errors = program.communicate(timeout=30)
    return program.returncode, out, errors


@pytest.mark.parametrize("persistent", [False, True])
def test_interrupt_from_the_keyboard(persistent):
    body = "for batch in iterator:\n    print('ready', flush=True)"
    program, workers = start(body, persistent=persistent)
    assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGINT)  # the terminal sends it to the whole group
    code, _, errors = finish(program)
    assert code == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1 and errors.count("Traceback") == 1, errors
    assert_gone(workers)


def test_an_interrupted_loop_can_be_followed_by_another():
    body = (
        "try:\n    for batch in iterator:\n        os.killpg(0, 2)\nexcept KeyboardInterrupt:\n    pass\n"
        "del iterator\n"
        "print(len([b for b, _ in zip(DataLoader(range(5), num_workers=2), range(5))]), flush=True)"
    )
    program, workers = start(body)
    code, out, errors = finish(program)
    assert (code, out, errors) == (0, "5\n", "")
    assert_gone(workers)


@pytest.mark.parametrize("persistent", [False, True])
def test_exception_in_the_loop(persistent):
    program, workers = start("for batch in iterator:\n    raise ValueError('in the body')", persistent=persistent)
    code, _, errors = finish(program)
    assert code == 1 and errors.count("Traceback") == 1 and "ValueError: in the body" in errors, errors
    assert_gone(workers)


def test_exit_in_the_loop():
    program, workers = start("for batch in iterator:\n    sys.exit(7)")
    assert finish(program) == (7, "", "")
    assert_gone(workers)


def test_killed_program_leaves_no_worker():
    program, workers = start("time.sleep(60)", seconds=30)  # the workers are in the middle of a long sample
    program.kill()
    program.communicate(timeout=20)
    assert_gone(workers)


def test_killed_program_with_other_children_leaves_no_worker():
    body = "other = os.fork()\nif not other:\n    time.sleep(30)\nprint(other, flush=True)\ntime.sleep(60)"
    program, workers = start(body, seconds=30)
    other = int(program.stdout.readline())
    program.kill()
    try:
        assert_gone(workers)
    finally:
        os.kill(other, signal.SIGKILL)
        program.communicate(timeout=20)


def test_nothing_is_left_in_shared_memory():
    shared = Path("/dev/shm")
    before = set(os.listdir(shared)) if shared.is_dir() else set()
    setup = "import numpy as np"
    body = (
        "del iterator\nfor batch in DataLoader([np.zeros(100_000)] * 20, num_workers=2):\n    os.kill(os.getpid(), 9)"
    )
    program, workers = start(body, setup)
    assert finish(program)[0] == -signal.SIGKILL
    assert_gone(workers)
    mine = set(os.listdir(shared)) - before if shared.is_dir() else set()
    assert not [name for name in mine if "rushlight" in name]
