"""Pieces of memory copied one behind the other by one call: Python needs half a microsecond for each, which for a batch of remembered
states is more than the step that is computed from it."""
from __future__ import annotations

import ctypes
import functools
from array import array
from collections.abc import Callable, Sequence

from . import jit

__all__ = ["join"]


def _copy(name: str, kind: str, size: int, begin: tuple[str, str], end: str, then: str) -> str:
    """Blocks that copy elements of a ``kind``, of so many bytes, from a place in a piece to another, and go on to the block ``then``.
    ``begin``: the place, and the block before."""
    first, before = begin
    return f"""
{name}:
  %{name}_k = phi i64 [ {first}, %{before} ], [ %{name}_next, %{name}_one ]
  %{name}_more = icmp ult i64 %{name}_k, {end}
  br i1 %{name}_more, label %{name}_one, label %{then}
{name}_one:
  %{name}_from = getelementptr i8, ptr %from, i64 %{name}_k
  %{name}_to = getelementptr i8, ptr %at, i64 %{name}_k
  %{name}_value = load {kind}, ptr %{name}_from, align 1
  store {kind} %{name}_value, ptr %{name}_to, align 1
  %{name}_next = add i64 %{name}_k, {size}
  br label %{name}"""


# Whole vectors, then words, then bytes. "no-builtins": the loops are to stay, and not to become calls of a library.
_IR = f"""
define void @rl_join(ptr %to, ptr %places, ptr %sizes, i64 %count) "no-builtins" {{
entry:
  br label %piece
piece:
  %k = phi i64 [ 0, %entry ], [ %k1, %next ]
  %at = phi ptr [ %to, %entry ], [ %behind, %next ]
  %more = icmp ult i64 %k, %count
  br i1 %more, label %begin, label %out
begin:
  %place_at = getelementptr i64, ptr %places, i64 %k
  %from = load ptr, ptr %place_at
  %size_at = getelementptr i64, ptr %sizes, i64 %k
  %size = load i64, ptr %size_at
  %vectors = and i64 %size, -64
  %words = and i64 %size, -8
  br label %vector
{_copy("vector", "<8 x i64>", 64, ("0", "begin"), "%vectors", "word")}
{_copy("word", "i64", 8, ("%vectors", "vector"), "%words", "byte")}
{_copy("byte", "i8", 1, ("%words", "word"), "%size", "next")}
next:
  %behind = getelementptr i8, ptr %at, i64 %size
  %k1 = add i64 %k, 1
  br label %piece
out:
  ret void
}}
"""


@functools.cache
def _native() -> Callable[[int, int, int, int], None]:
    addresses = jit.functions("join 2", lambda: _IR, ("rl_join",))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(addresses["rl_join"])


def join(to: int, places: Sequence[int], sizes: Sequence[int]) -> None:
    """Copy ``sizes[k]`` bytes from each address ``places[k]`` to ``to``, each behind the one before. Nothing overlaps."""
    where, how_many = array("q", places), array("q", sizes)
    _native()(to, where.buffer_info()[0], how_many.buffer_info()[0], len(where))
