"""Objects that are linked without LLVM do what they do when LLVM links them."""

from __future__ import annotations

import ctypes
import math
import struct

import pytest

from rushlight.compile.cpu import elf, jit

pytestmark = pytest.mark.skipif(not elf.is_supported(), reason="objects of another system")

# Constants, a table of jumps, a call between functions and two of the C library.
IR = """
declare double @sin(double)
declare ptr @memset(ptr, i32, i64)

define double @twice(double %x) noinline {
  %y = fmul double %x, 2.5
  ret double %y
}

define double @wave(double %x) {
  %a = call double @sin(double %x)
  %b = call double @twice(double %a)
  %c = fadd double %b, 0.125
  ret double %c
}

define i64 @chosen(i64 %x) {
  switch i64 %x, label %other [ i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %d i64 4, label %e ]
a:
  ret i64 17
b:
  %y = mul i64 %x, 3000
  ret i64 %y
c:
  ret i64 -5
d:
  ret i64 99
e:
  ret i64 4096
other:
  ret i64 %x
}

define void @fill(ptr %p, i64 %n) {
  %q = call ptr @memset(ptr %p, i32 7, i64 %n)
  ret void
}
"""
NAMES = ("twice", "wave", "chosen", "fill")


def functions(addresses):
    return (ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(addresses["wave"]),
            ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(addresses["chosen"]),
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(addresses["fill"]))


def test_code_runs_wherever_it_is_loaded():
    code = elf.linked(jit.compile_object(IR))
    assert elf.is_linked(code)
    first, second = elf.load(code), elf.load(code)
    assert set(NAMES) <= first.keys() and not set(first.values()) & set(second.values())
    for addresses in (first, second):
        wave, chosen, fill = functions(addresses)
        assert wave(0.5) == 2.5 * math.sin(0.5) + 0.125
        assert [chosen(k) for k in range(7)] == [17, 3000, -5, 99, 4096, 5, 6]
        memory = ctypes.create_string_buffer(8)
        fill(ctypes.addressof(memory), 5)
        assert memory.raw == b"\7" * 5 + b"\0" * 3


def test_both_linkers_agree(monkeypatch):
    data = jit.compile_object(IR)
    ours = functions(jit.load_object(data, NAMES))
    monkeypatch.setattr(elf, "is_supported", lambda: False)
    theirs = functions(jit.load_object(data, NAMES))
    for k in range(-3, 9):
        assert ours[0](k / 3) == theirs[0](k / 3) and ours[1](k) == theirs[1](k)


def test_what_is_not_there_is_llvms_to_tell():
    data = jit.compile_object("declare void @nowhere_to_be_found()\ndefine void @f() {\n call void @nowhere_to_be_found()\n ret void\n}")
    assert elf.linked(data) is None
    with pytest.raises(jit.CompileError):
        jit.load_object(data, ["f"])
    with pytest.raises(jit.CompileError):
        jit.load_object(jit.compile_object(IR), ["g"])
    with pytest.raises(jit.CompileError):
        jit.load_object(b"nothing", ["g"])


def test_what_is_not_plain_is_left_to_llvm():
    data = jit.compile_object("@counter = global i64 5\ndefine i64 @f() {\n %x = load i64, ptr @counter\n ret i64 %x\n}")
    assert elf.linked(data) is None  # memory that is written
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(jit.load_object(data, ["f"])["f"])() == 5
    whole = jit.compile_object(IR)
    for damaged in (b"", whole[:40], whole[:-40], struct.pack("<4sB", b"\x7fELF", 1) + whole[5:]):
        assert elf.linked(damaged) is None
