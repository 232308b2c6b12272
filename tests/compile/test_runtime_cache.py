"""Compiling kernels and the disk cache: cold, warm, damaged, unwritable, bounded."""

from __future__ import annotations

import ctypes
import math
import os
import threading

import pytest

from rushlight.compile import cache
from rushlight.compile.cpu import jit, target

IR = """
define i64 @NAME(i64 %x) {
  %y = mul i64 %x, FACTOR
  ret i64 %y
}
"""


def make_ir(name: str, factor: int) -> str:
    return IR.replace("NAME", name).replace("FACTOR", str(factor))


def call(address: int, x: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(x)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """An empty cache directory, and a process that remembers no kernel."""
    monkeypatch.setenv("RUSHLIGHT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("RUSHLIGHT_CACHE", raising=False)
    forget_memory(monkeypatch)
    return tmp_path / "cache" / "kernels"


def forget_memory(monkeypatch) -> None:
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "counters", jit.Counters())


def test_cold_then_memory_then_disk(directory, monkeypatch):
    made = []

    def make() -> str:
        made.append(1)
        return make_ir("triple", 3)

    assert call(jit.kernel("k", make, "triple"), 5) == 15
    assert (jit.counters.compiled, jit.counters.loaded, len(made)) == (1, 0, 1)
    jit.kernel("k", make, "triple")
    assert (jit.counters.compiled, jit.counters.loaded, len(made)) == (1, 0, 1)
    forget_memory(monkeypatch)
    assert call(jit.kernel("k", make, "triple"), 5) == 15
    assert (jit.counters.compiled, jit.counters.loaded, len(made)) == (0, 1, 1)
    assert jit.counters.compile_seconds == 0 and jit.counters.load_seconds > 0


def test_many_at_once_equal_names_and_repeats(directory, monkeypatch):
    def requests():
        return [(f"k{n}", lambda n=n: make_ir("f", n), "f") for n in [2, 3, 4, 3, 2]]

    for compiled, loaded in [(3, 0), (0, 3)]:
        assert [call(a, 10) for a in jit.kernels(requests())] == [20, 30, 40, 30, 20]
        assert (jit.counters.compiled, jit.counters.loaded) == (compiled, loaded)
        forget_memory(monkeypatch)


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 5000, "cut", "flip", "swap"])
def test_a_damaged_file_is_dropped_and_compiled_again(directory, monkeypatch, damage):
    jit.kernel("k", lambda: make_ir("f", 3), "f")
    (path,) = directory.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "swap":
        data[:8] = b"ELSEWHAT"
    else:
        data = damage
    path.write_bytes(data)
    forget_memory(monkeypatch)
    assert call(jit.kernel("k", lambda: make_ir("f", 3), "f"), 2) == 6
    assert (jit.counters.compiled, jit.counters.loaded) == (1, 0)
    forget_memory(monkeypatch)
    jit.kernel("k", lambda: make_ir("f", 3), "f")
    assert (jit.counters.compiled, jit.counters.loaded) == (0, 1), "the damaged file was replaced"


def test_the_directory_is_private_and_holds_no_leftovers(directory):
    jit.kernel("k", lambda: make_ir("f", 3), "f")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [p.suffix for p in directory.iterdir()] == [".o"]


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path):
    (tmp_path / "open").mkdir()
    os.chmod(tmp_path / "open", 0o777)
    store = cache.DiskCache(tmp_path / "open")
    store.put("a", b"native code")
    assert store.get("a") is None and not list((tmp_path / "open").iterdir())


def test_a_directory_that_cannot_be_made_means_memory_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RUSHLIGHT_CACHE_DIR", str(tmp_path / "file"))
    forget_memory(monkeypatch)
    assert call(jit.kernel("k", lambda: make_ir("f", 3), "f"), 2) == 6
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failed_write_leaves_nothing_and_stops_trying(tmp_path, monkeypatch):
    store = cache.DiskCache(tmp_path / "c")
    store.put("a", b"1")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    store.put("b", b"2")
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["a.o"]
    assert store.get("b") is None
    store.put("c", b"3")
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["a.o"]


def test_switched_off(directory, monkeypatch):
    monkeypatch.setenv("RUSHLIGHT_CACHE", "0")
    for _ in range(2):
        assert call(jit.kernel("k", lambda: make_ir("f", 3), "f"), 2) == 6
        assert jit.counters.compiled == 1
        forget_memory(monkeypatch)
    assert not directory.exists()


def test_least_recently_used_go_first(tmp_path):
    store = cache.DiskCache(tmp_path, limit=10_000)
    for n in range(6):
        store.put(f"{n}", bytes(1000))
        os.utime(tmp_path / f"{n}.o", (1e9 + n, 1e9 + n))
    assert store.get("0") == bytes(1000)  # a use: no longer the oldest
    for n in range(6, 12):
        store.put(f"{n}", bytes(1000))
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 10_000
    kept = {p.stem for p in tmp_path.iterdir()}
    assert "0" in kept and "11" in kept and not {"1", "2"} & kept


def test_leftovers_of_killed_writers_are_deleted(tmp_path):
    tmp_path.chmod(0o700)
    old, young = tmp_path / ".a.1.1.tmp", tmp_path / ".b.1.1.tmp"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    cache.DiskCache(tmp_path).put("c", b"payload")
    assert not old.exists() and young.exists()


def test_several_threads_share_the_cache(tmp_path):
    store = cache.DiskCache(tmp_path / "c", limit=50_000)
    wrong = []

    def work(seed: int) -> None:
        for n in range(60):
            name = f"{(seed * 7 + n) % 40}"
            data = store.get(name)
            if data is None:
                store.put(name, name.encode() * 1000)
            elif data != name.encode() * 1000:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_keys():
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("a") == cache.key("a") and len(cache.key("a")) == 64


def test_the_key_depends_on_the_compilers_source(monkeypatch):
    before = cache.key("a")
    monkeypatch.setattr(cache, "source_hash", lambda: "another compiler")
    assert cache.key("a") != before


def test_size_limit_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHLIGHT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("RUSHLIGHT_CACHE_MB", "3")
    assert cache.default().limit == 3 << 20
    monkeypatch.setenv("RUSHLIGHT_CACHE_MB", "plenty")
    with pytest.raises(ValueError, match="RUSHLIGHT_CACHE_MB"):
        cache.default()


def test_a_refused_kernel_shows_the_line(directory):
    with pytest.raises(jit.CompileError, match=r"(?s)doesn't match.*2 +ret i32 %x"):
        jit.kernel("bad", lambda: "define void @f() {\n  ret i32 %x\n}", "f")
    assert jit.counters.compiled == 0


def test_a_missing_symbol_is_an_error(directory, capfd):
    ir = "declare void @rushlight_no_such()\ndefine void @f() {\n call void @rushlight_no_such()\n ret void\n}"
    with pytest.raises(jit.CompileError, match="cannot link"):
        jit.kernel("bad", lambda: ir, "f")
    assert "rushlight_no_such" in capfd.readouterr().err


@pytest.mark.parametrize(
    "name, kind, arguments, expected",
    [
        ("expf", "float", 1, math.exp(0.75)),
        ("tanh", "double", 1, math.tanh(0.75)),
        ("erff", "float", 1, math.erf(0.75)),
        ("lgamma", "double", 1, math.lgamma(0.75)),
        ("pow", "double", 2, 0.75**0.75),
        ("fmod", "double", 2, 0.0),
    ],
)
def test_libm_functions_resolve(directory, name, kind, arguments, expected):
    declared, passed = ", ".join([kind] * arguments), ", ".join([f"{kind} %x"] * arguments)
    ir = f"""
declare {kind} @{name}({declared})
define {kind} @g({kind} %x) {{
  %y = call {kind} @{name}({passed})
  ret {kind} %y
}}
"""
    number = ctypes.c_float if kind == "float" else ctypes.c_double
    function = ctypes.CFUNCTYPE(number, number)(jit.kernel(f"libm {name}", lambda: ir, "g"))
    assert function(0.75) == pytest.approx(expected, rel=1e-6)


def vector_sum_ir(lanes: int) -> str:
    """Adds two vectors of ``lanes`` floats, multiplies by a constant vector that lives in the object's data."""
    constant = ", ".join(f"float {n}.0" for n in range(lanes))
    return f"""
define void @f(ptr %x, ptr %y) {{
  %a = load <{lanes} x float>, ptr %x, align 4
  %b = fmul <{lanes} x float> %a, <{constant}>
  store <{lanes} x float> %b, ptr %y, align 4
  ret void
}}
"""


@pytest.mark.parametrize("level", ["sse", "avx2", "avx512", "neon"])
def test_code_for_lesser_processors(directory, level):
    arch = target._LEVELS[level][0]
    if arch != target.machine():
        with pytest.raises(ValueError, match="belongs to"):
            target.named(level)
        return
    if target._LEVELS[level][2] > target.host().vector_bytes:
        pytest.skip(f"this processor has no {level}")
    with target.using(level) as cpu:
        assert target.current() is cpu
        address = jit.kernel("vector", lambda: vector_sum_ir(16), "f")
        text = jit.assembly(vector_sum_ir(16))
    assert target.current() is not cpu
    x, y = (ctypes.c_float * 16)(*[2.0] * 16), (ctypes.c_float * 16)()
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)(ctypes.addressof(x), ctypes.addressof(y))
    assert list(y) == [2.0 * n for n in range(16)]
    register = {"sse": "xmm", "avx2": "ymm", "avx512": "zmm", "neon": "v0"}[level]
    wider = {"sse": "ymm", "avx2": "zmm"}.get(level)
    assert register in text and (wider is None or wider not in text)


def test_unknown_level():
    with pytest.raises(ValueError, match="expected one of avx512, avx2, sse, neon"):
        target.named("mmx")


def test_facts_about_the_host():
    cpu = target.host()
    assert cpu.vector_bytes in (16, 32, 64) and cpu.vector_registers in (16, 32)
    assert 8 << 10 <= cpu.l1d <= cpu.l2 and cpu.name in cpu.key


def test_cache_sizes_from_sysfs(tmp_path):
    for index, facts in enumerate([("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2M")]):
        (tmp_path / f"index{index}").mkdir()
        for name, text in zip(("level", "type", "size"), facts, strict=True):
            (tmp_path / f"index{index}" / name).write_text(text + "\n")
    (tmp_path / "uevent").write_text("")
    assert target._sysfs_cache_sizes(str(tmp_path)) == {1: 48 << 10, 2: 2 << 20}
    assert target._sysfs_cache_sizes(str(tmp_path / "absent")) == {}


def test_cache_ways_from_sysfs(tmp_path):
    assert target._l1d_ways(str(tmp_path)) == 8
    for index, facts in enumerate([("1", "Instruction", "16"), ("1", "Data", "12"), ("2", "Unified", "10")]):
        (tmp_path / f"index{index}").mkdir()
        for name, text in zip(("level", "type", "ways_of_associativity"), facts, strict=True):
            (tmp_path / f"index{index}" / name).write_text(text + "\n")
    assert target._l1d_ways(str(tmp_path)) == 12


def test_many_files_are_counted_once_in_an_hour(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_MANY", 3)
    counted = []
    files = cache.DiskCache._files
    monkeypatch.setattr(cache.DiskCache, "_files", lambda self: counted.append(1) or files(self))

    def put(name, size=100, limit=1 << 20):
        store = cache.DiskCache(tmp_path, limit)  # as another process
        store.put(name, b"x" * size)
        return store

    for k in range(3):
        put(f"few{k}")  # two are not many: each process counts
    assert len(counted) == 3
    total = put("more")._total
    assert len(counted) == 3 and total == sum(p.stat().st_size for p in tmp_path.glob("*.o"))
    os.utime(tmp_path / "bytes", (0, 0))  # long ago
    assert put("later")._total == sum(p.stat().st_size for p in tmp_path.glob("*.o")) and len(counted) == 4
    put("large", 1000, 900)  # beyond the limit: the oldest go, whatever was noted
    assert sum(p.stat().st_size for p in tmp_path.glob("*.o")) <= 900
    (tmp_path / "bytes").write_text("no number")
    assert put("last")._total == sum(p.stat().st_size for p in tmp_path.glob("*.o"))
