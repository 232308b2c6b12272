"""The tile unit (AMX) in LLVM IR: eight registers of 16 rows by 64 bytes, and the product of two of them."""

from __future__ import annotations

from rushlight.compile.cpu.irtext import Function, Module

__all__ = ["ROWS", "ROW_BYTES", "configure", "declare", "dot", "load", "release", "store", "zero"]

ROWS = 16
ROW_BYTES = 64


def configure(f: Function) -> None:
    """All eight registers at their full size."""
    config = f.slot("[64 x i8]", align=64)
    f.do(f"store <64 x i8> zeroinitializer, ptr {config}, align 64")
    f.do(f"store i8 1, ptr {config}")
    for tile in range(8):
        f.do(f"store i16 {ROW_BYTES}, ptr {f.at(config, 16 + 2 * tile, 'i8')}, align 2")
        f.do(f"store i8 {ROWS}, ptr {f.at(config, 48 + tile, 'i8')}")
    f.module.declare("void @llvm.x86.ldtilecfg(ptr)")
    f.do(f"call void @llvm.x86.ldtilecfg(ptr {config})")


def release(f: Function) -> None:
    """Nothing to save when the thread is interrupted later."""
    f.module.declare("void @llvm.x86.tilerelease()")
    f.do("call void @llvm.x86.tilerelease()")


def declare(module: Module) -> None:
    for text in ("tileloadd64(i8 immarg, ptr, i64)", "tilestored64(i8 immarg, ptr, i64)", "tilezero(i8 immarg)",
                 "tdpbf16ps(i8 immarg, i8 immarg, i8 immarg)"):  # fmt: skip
        module.declare(f"void @llvm.x86.{text}")


def load(f: Function, register: int, place: str, row: str | int = ROW_BYTES) -> None:
    """Rows that lie ``row`` bytes apart."""
    f.do(f"call void @llvm.x86.tileloadd64(i8 {register}, ptr {place}, i64 {row})")


def store(f: Function, register: int, place: str, row: str | int) -> None:
    f.do(f"call void @llvm.x86.tilestored64(i8 {register}, ptr {place}, i64 {row})")


def zero(f: Function, register: int) -> None:
    f.do(f"call void @llvm.x86.tilezero(i8 {register})")


def dot(f: Function, total: int, a: int, b: int) -> None:
    """Adds the product of pairs of bfloat16: ``total[m][n] += a[m][2 k] b[k][2 n] + a[m][2 k + 1] b[k][2 n + 1]`` over k."""
    f.do(f"call void @llvm.x86.tdpbf16ps(i8 {total}, i8 {a}, i8 {b})")
