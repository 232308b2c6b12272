"""Pieces of memory copied one behind the other by one call: Python needs half a microsecond for each, which for a batch of remembered
states is more than the step that is computed from it."""
from __future__ import annotations

import ctypes
import functools
from array import array
from collections.abc import Callable, Sequence

from . import jit

__all__ = ["join"]

# Whole vectors, then words, then bytes. "no-builtins": the loops are to stay, and not to become calls of a library.
_IR = """
define void @rl_join(ptr %to, ptr %places, ptr %sizes, i64 %count) "no-builtins" {
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
vector:
  %v = phi i64 [ 0, %begin ], [ %v1, %one_vector ]
  %is_vector = icmp ult i64 %v, %vectors
  br i1 %is_vector, label %one_vector, label %word
one_vector:
  %v_from = getelementptr i8, ptr %from, i64 %v
  %v_to = getelementptr i8, ptr %at, i64 %v
  %v_value = load <8 x i64>, ptr %v_from, align 1
  store <8 x i64> %v_value, ptr %v_to, align 1
  %v1 = add i64 %v, 64
  br label %vector
word:
  %w = phi i64 [ %vectors, %vector ], [ %w1, %one_word ]
  %is_word = icmp ult i64 %w, %words
  br i1 %is_word, label %one_word, label %byte
one_word:
  %w_from = getelementptr i8, ptr %from, i64 %w
  %w_to = getelementptr i8, ptr %at, i64 %w
  %w_value = load i64, ptr %w_from, align 1
  store i64 %w_value, ptr %w_to, align 1
  %w1 = add i64 %w, 8
  br label %word
byte:
  %b = phi i64 [ %words, %word ], [ %b1, %one_byte ]
  %is_byte = icmp ult i64 %b, %size
  br i1 %is_byte, label %one_byte, label %next
one_byte:
  %b_from = getelementptr i8, ptr %from, i64 %b
  %b_to = getelementptr i8, ptr %at, i64 %b
  %b_value = load i8, ptr %b_from
  store i8 %b_value, ptr %b_to
  %b1 = add i64 %b, 1
  br label %byte
next:
  %behind = getelementptr i8, ptr %at, i64 %size
  %k1 = add i64 %k, 1
  br label %piece
out:
  ret void
}
"""


@functools.cache
def _native() -> Callable[[int, int, int, int], None]:
    addresses = jit.functions("join 1", lambda: _IR, ("rl_join",))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(addresses["rl_join"])


def join(to: int, places: Sequence[int], sizes: Sequence[int]) -> None:
    """Copy ``sizes[k]`` bytes from each address ``places[k]`` to ``to``, each behind the one before. Nothing overlaps."""
    where, how_many = array("q", places), array("q", sizes)
    _native()(to, where.buffer_info()[0], how_many.buffer_info()[0], len(where))
