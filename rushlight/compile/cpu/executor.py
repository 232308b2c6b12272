"""Running a program: one foreign call walks its array of instructions.

An instruction is four 64-bit words ``(kernel address, address of its parameters, parts, grain)``. A kernel is
``void kernel(ptr table, ptr params, i64 begin, i64 end)``: ``table`` is the program's array of pointers, ``params``
this instruction's 64-bit parameters, ``[begin, end)`` the range of its *parts* to do. Parts are the unit of
parallelism: what a part computes must not depend on which call, or which thread, does it.

* ``parts <= 1``, or another program has the threads: one call for all parts, on the caller's thread. Kernels do them in order.
* ``grain == 0``: the parts are shared among the threads in about four chunks a thread.
* ``grain > 0``: likewise, but no chunk has fewer than ``grain`` parts.
* ``grain < 0``: the parts come in waves of ``-grain``: each is shared among the threads when the one before is complete.

An instruction begins when the one before it is complete.

**Errors.** ``table[0]`` points to the program's *error block*, eight 64-bit integers, all zero in peace. A kernel that
meets a bad value (an index out of range) calls ``@rl_raise`` from :data:`RAISE_IR` and goes on without touching memory
it must not touch; the program stops after that instruction, and :func:`run` returns the block.

Measured on a 2-core Zen 5: a program of one empty kernel takes 0.36 microseconds from Python, a further instruction 2
nanoseconds, a fork-join 0.15 to 0.35 microseconds.

Example::

    code = Instructions([(address, params_pointer, parts, 0)])
    failed = run(code.pointer, len(code), table_pointer)
    if failed:
        raise IndexError(f"index {failed.index} is out of bounds for size {failed.bound}")
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rushlight.compile.cpu import pool

__all__ = ["RAISE_IR", "RunError", "Instructions", "run", "run_held", "take_error"]

#: To be put into a kernel's module: ``call void @rl_raise(ptr %table, i64 code, i64 index, i64 bound)``. The first
#: error of a program is kept whole, even if several threads meet one at the same time.
RAISE_IR = """
define private void @rl_raise(ptr %table, i64 %code, i64 %index, i64 %bound) noinline cold {
  %block = load ptr, ptr %table
  %swap = cmpxchg ptr %block, i64 0, i64 %code acq_rel monotonic, align 8
  %first = extractvalue { i64, i1 } %swap, 1
  br i1 %first, label %write, label %out
write:
  %index_at = getelementptr i64, ptr %block, i64 1
  %bound_at = getelementptr i64, ptr %block, i64 2
  store i64 %index, ptr %index_at
  store i64 %bound, ptr %bound_at
  br label %out
out:
  ret void
}
"""


@dataclass(frozen=True)
class RunError:
    """The error block of a program that failed; what ``code`` means is between the kernels and the program."""

    code: int
    index: int
    bound: int
    instruction: int
    extra: tuple[int, int, int, int]


class Instructions:
    """An instruction array in memory that native code can walk: rows of ``(kernel, params, parts, grain)``, one after the other or each
    a tuple."""

    __slots__ = ("array", "pointer")

    def __init__(self, rows: Sequence[Any]) -> None:
        self.array = np.array(rows, dtype=np.int64).reshape(-1, 4)
        self.pointer = self.array.ctypes.data

    def __len__(self) -> int:
        return len(self.array)


# A short cut to the native code and the present pool: None until the first program, after a fork, and after
# set_num_threads.
_execute: Callable[[int, int, int, int], int] | None = None
_execute_held: Callable[[int, int, int, int], int] | None = None
_pool_pointer = 0


def run(instructions: int, n: int, table: int) -> RunError | None:
    """Run ``n`` instructions; other Python threads go on meanwhile. Arguments are addresses.

    Returns:
        None, or the error that a kernel reported (the block is cleared).
    """
    execute = _execute
    if execute is None:
        execute = _connect().execute
    if execute(instructions, n, table, _pool_pointer):
        return take_error(table)
    return None


def run_held(instructions: int, n: int, table: int) -> RunError | None:
    """:func:`run` without giving up the GIL: for programs of a few microseconds, not worth waiting to get it back."""
    execute = _execute_held
    if execute is None:
        execute = _connect().execute_held
    if execute(instructions, n, table, _pool_pointer):
        return take_error(table)
    return None


def _connect() -> pool.Native:
    global _execute, _execute_held, _pool_pointer
    code = pool.native()
    _pool_pointer = pool.ready().pointer
    _execute, _execute_held = code.execute, code.execute_held
    return code


def _disconnect() -> None:
    # The pointer stays valid: a thread that is about to call with it runs its program alone.
    global _execute, _execute_held
    _execute = _execute_held = None


pool._on_change.append(_disconnect)


def take_error(table: int) -> RunError:
    """The error that a kernel left in the block of this table, which is cleared."""
    address = ctypes.c_int64.from_address(table).value
    block = (ctypes.c_int64 * 8).from_address(address)
    error = RunError(block[0], block[1], block[2], block[3], (block[4], block[5], block[6], block[7]))
    ctypes.memset(address, 0, 64)
    return error
