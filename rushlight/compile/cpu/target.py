"""Facts about the processor that kernels are generated for.

A :class:`CPU` is what a renderer needs to choose vector widths and tile sizes, and what LLVM needs to choose
instructions. ``current()`` is the one to render for; it is the host unless a test (``with using("avx2"): ...``) or the
environment (``RUSHLIGHT_CPU=avx2``) asks for less.

llvmlite is imported by the first question that needs it, never by ``import rushlight``.

Example::

    cpu = target.current()
    lanes = cpu.vector_bytes // 4          # 16 floats on AVX-512, 8 on AVX2, 4 on NEON and SSE
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import marshal
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rushlight.compile import cache
from rushlight.compile.cpu import amx
from rushlight.compile.flags import flags

__all__ = ["CPU", "current", "host", "named", "using", "initialize_llvm"]


@dataclass(frozen=True)
class CPU:
    """A processor as the code generator sees it.

    ``name`` and ``features`` are LLVM's (``"znver5"``, ``"+avx2,-sse4a"``); sizes are in bytes, ``l2`` is per core,
    ``l3`` is what the cores share (0: none).
    """

    name: str
    features: str
    triple: str
    vector_bytes: int
    vector_registers: int
    fma: bool
    bf16_dot: bool
    l1d: int
    l2: int
    l3: int
    key: str = field(init=False)
    """What decides the machine code: part of the disk cache's key."""
    amx: bool = False
    """Whether there are tile registers that multiply bfloat16, and the operating system lets this process use them."""
    l1d_ways: int = 8
    """How many cache lines the first level holds whose addresses differ by multiples of ``l1d / l1d_ways``."""
    tables: bool = True
    """Whether mathematical functions may look numbers up in registers."""
    full_loads: int = 2
    """How many loads of a full vector, or broadcasts to one, there are in a cycle. Where it is one, as on Ice Lake servers (measured),
    the multiply-adds of a cycle, two, must share it."""
    slow_l3: bool = False
    """Whether the cores share their third-level cache over a mesh that keeps them waiting (Emerald Rapids, measured; Sapphire Rapids)."""
    wide_tiles: bool = False
    """Whether tiles of products have rows of four vectors though loads are not scarce. They load 10 operands for 24 multiply-adds, not 14,
    and read A half as often as tiles of two vectors, whose 12 rows all wait for it where it comes from the third level."""

    @property
    def far_panels(self) -> bool:
        """Whether reading a panel of an operand that is not in the second-level cache takes as long as half a tile of products."""
        return self.full_loads == 1

    @property
    def lasting_ways(self) -> int:
        """How many lines of one place of the first-level cache stay there while other lines pass by. Of AMD's (Zen 5) one way less than
        there are: rows that fill all of them are worth copying; on Intel (Granite Rapids) that costs 7 to 13 %."""
        return self.l1d_ways - self.name.startswith("znver")

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.triple}/{self.name}/{self.features}" + ("" if self.tables else "/no tables"))


#: How LLVM's names of processors whose third-level cache is slow begin; Ice Lake's is told by its loads (``CPU.far_panels``).
_SLOW_L3 = ("sapphirerapids", "emeraldrapids")

#: level name -> (machine, LLVM cpu, vector bytes, registers, fma)
_LEVELS = {
    "avx512": ("x86_64", "x86-64-v4", 64, 32, True),
    "avx2": ("x86_64", "x86-64-v3", 32, 16, True),
    "sse": ("x86_64", "x86-64-v2", 16, 16, False),
    "neon": ("aarch64", "generic", 16, 32, True),
}


@functools.cache
def initialize_llvm() -> None:
    """Load llvmlite and register the host's code generator, once per process."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def machine() -> str:
    """``"x86_64"``, ``"aarch64"`` or whatever else the operating system says."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@functools.cache
def host() -> CPU:
    """The processor this process runs on."""
    name, features, triple, flagged = _facts()
    arch = machine()
    if arch == "x86_64":
        level = "avx512" if {"avx512f", "avx512vl"} <= flagged else "avx2"
        if not {"avx2", "fma"} <= flagged:
            level = "sse"
        width, registers, fma = _LEVELS[level][2:]
        # Some Intel models ask LLVM for 256-bit registers although they have 512; our renderers choose the width.
        features = ",".join(filter(None, [features, "-prefer-256-bit"]))
    else:
        width, registers, fma = 16, 32, True
    l1d, l2, l3 = _cache_sizes()
    bf16 = bool(flagged & {"avx512bf16", "bf16"})
    tiles = width == 64 and {"amx-tile", "amx-bf16"} <= flagged and amx.granted()
    loads = 1 if name.startswith("icelake") and width == 64 else 2
    return CPU(name, features, triple, width, registers, fma, bf16, l1d, l2, l3, tiles, _l1d_ways(),
               full_loads=loads, slow_l3=name.startswith(_SLOW_L3), wide_tiles=width == 64)  # fmt: skip


def _facts() -> tuple[str, str, str, frozenset[str]]:
    """What LLVM calls the processor, its features and the system, and the features that it has. Loading LLVM only to ask would be half
    of what starting a small program takes, so the answer is cached under what the system says."""
    said = _system_says()
    known = None if said is None else cache.get(cache.key("processor", said, _llvmlite_version()))
    if known is None:
        import llvmlite.binding as llvm

        initialize_llvm()
        features = llvm.get_host_cpu_features()
        flagged = sorted(feature for feature, there in features.items() if there)
        known = marshal.dumps((llvm.get_host_cpu_name(), features.flatten(), llvm.get_process_triple(), flagged), 2)
        if said is not None:
            cache.put(cache.key("processor", said, _llvmlite_version()), known)
    name, text, triple, flagged = marshal.loads(known)
    return name, text, triple, frozenset(flagged)


def _llvmlite_version() -> str:
    import llvmlite

    return str(llvmlite.__version__)


_CHANGING = ("cpu MHz", "bogomips", "BogoMIPS", "processor", "physical id", "core id", "apicid", "initial apicid")


def _system_says(path: str = "/proc/cpuinfo") -> str | None:
    """Linux's description of the first processor; None where there is none."""
    if not os.path.isfile(path):
        return None
    with open(path) as file:
        lines = itertools.takewhile(str.strip, itertools.islice(file, 100))
        said = [line for line in lines if line.partition("\t")[0].partition(":")[0].strip() not in _CHANGING]
    return f"{platform.machine()} {''.join(said)}" if said else None


def named(level: str) -> CPU:
    """The CPU of an instruction-set level: ``"avx512"``, ``"avx2"``, ``"sse"`` or ``"neon"``, with the host's caches.

    Raises:
        ValueError: unknown level, or a level of another architecture than the host's (its code could not be linked).
    """
    if level not in _LEVELS:
        raise ValueError(f"unknown CPU level {level!r}: expected one of {', '.join(_LEVELS)}")
    arch, name, width, registers, fma = _LEVELS[level]
    if arch != machine():
        raise ValueError(f"CPU level {level!r} belongs to {arch}, this machine is {machine()}")
    like = host()
    return CPU(name, "", like.triple, width, registers, fma, False, like.l1d, like.l2, like.l3,
               l1d_ways=like.l1d_ways, wide_tiles=width == 64)  # fmt: skip


_chosen: CPU | None = None


def current() -> CPU:
    """The CPU to generate code for: the host, or what ``RUSHLIGHT_CPU`` or :func:`using` says."""
    global _chosen
    if _chosen is None:
        level = os.environ.get("RUSHLIGHT_CPU", "")
        _chosen = named(level) if level else host()
    return _chosen if flags.tables else _without_tables(_chosen)


@functools.cache
def _without_tables(cpu: CPU) -> CPU:
    return replace(cpu, tables=False)


@contextlib.contextmanager
def using(cpu: CPU | str) -> Iterator[CPU]:
    """Generate code for ``cpu`` (a :class:`CPU` or a level name) inside the ``with`` block: for tests."""
    global _chosen
    before, _chosen = _chosen, named(cpu) if isinstance(cpu, str) else cpu
    try:
        yield _chosen
    finally:
        _chosen = before


def _cache_sizes() -> tuple[int, int, int]:
    """(L1 data, L2, L3) in bytes; what cannot be found out gets a value that is right for most machines."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 0}
    found = _sysctl_cache_sizes() if sys.platform == "darwin" else _sysfs_cache_sizes()
    sizes.update(found)
    return sizes[1], sizes[2], sizes[3]


_SYSFS = "/sys/devices/system/cpu/cpu0/cache"


def _sysfs_caches(root: str, fact: str) -> dict[int, str]:
    """What Linux says of the caches that hold data: level -> the text of ``fact``."""
    found: dict[int, str] = {}
    if not os.path.isdir(root):
        return found
    for entry in sorted(os.listdir(root)):
        facts = []
        for name in ("level", "type", fact):
            path = os.path.join(root, entry, name)
            if os.path.isfile(path):
                with open(path) as file:
                    facts.append(file.read().strip())
        if len(facts) == 3 and facts[1] != "Instruction":
            found[int(facts[0])] = facts[2]
    return found


def _sysfs_cache_sizes(root: str = _SYSFS) -> dict[int, int]:
    found: dict[int, int] = {}
    for level, text in _sysfs_caches(root, "size").items():
        number = text.rstrip("KMG")
        if number.isdigit():
            found[level] = int(number) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0)
    return found


def _l1d_ways(root: str = _SYSFS) -> int:
    """Associativity of the first-level data cache; 8 where nobody says."""
    ways = _sysfs_caches(root, "ways_of_associativity").get(1, "")
    return int(ways) if ways.isdigit() and int(ways) else 8


def _sysctl_cache_sizes() -> dict[int, int]:
    """macOS: Apple's fast cores report under ``hw.perflevel0``, Intel Macs under plain ``hw``."""
    import subprocess

    names = {
        "hw.perflevel0.l1dcachesize": 1,
        "hw.perflevel0.l2cachesize": 2,
        "hw.l1dcachesize": 1,
        "hw.l2cachesize": 2,
        "hw.l3cachesize": 3,
    }
    found: dict[int, int] = {}
    for name, level in names.items():
        answer = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)
        if answer.stdout.strip().isdigit():
            found.setdefault(level, int(answer.stdout))
    return found
