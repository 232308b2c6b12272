"""From LLVM IR text to addresses of native functions, through memory and disk.

``kernel(structure_key, make_ir, name)`` is the way in: it looks in memory, then on disk (no IR is made, LLVM only
links), and compiles only if both miss. ``begin`` announces kernels: they are compiled in the background
(``compilers.py``) while the planning goes on. ``deliver`` is for planners that need the addresses of other kernels: inside
a ``batch`` they come at its end, so that everything that a program lacks is compiled together, on all cores.

The renderers emit explicit vectors, unrolled as far as that pays, and hoist what does not move. What is left for LLVM is
:data:`PASSES`; against its whole -O2 that takes a third of the time to optimise, less code to emit, and the kernels
are as fast (ResNet-18, GPT, LSTM and U-Net training steps, compared in alternation).

Measured on a 2-core Xeon: a contraction micro-kernel compiles in 25 to 40 ms, a short loop in 8 ms; loading a kernel from
the disk cache takes 0.1 ms (0.3 ms with JITLink).

Objects are position independent. They are linked by ``elf.py`` where that can, so that a process which compiles nothing
does not load LLVM, else with JITLink; both place an object's code and constants in one piece of memory, and an unknown
symbol is an error. Code is never unloaded.

Example::

    ir = "define void @twice(ptr %table, ptr %params, i64 %begin, i64 %end) { ret void }"
    address = kernel("twice", lambda: ir, "twice")
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rushlight.compile import cache
from rushlight.compile.cpu import compilers, elf, target

__all__ = [
    "Address",
    "CompileError",
    "Counters",
    "assembly",
    "batch",
    "begin",
    "compile_ir",
    "compile_object",
    "counters",
    "deliver",
    "functions",
    "is_address",
    "kernel",
    "kernels",
    "load_object",
]


Request = tuple[str, Callable[[], str], str]  # structure key, maker of the IR, name

#: Passes of LLVM between parsing and code generation. A second ``instruction_combine`` behind ``new_gvn`` would be a twelfth of all
#: compilation, and change no vector instruction in any of a ResNet's kernels.
PASSES = ("always_inliner", "sroa", "instruction_combine", "simplify_cfg", "new_gvn", "simplify_cfg", "aggressive_dce",
          "global_dead_code_eliminate")  # fmt: skip


class CompileError(RuntimeError):
    """LLVM refused a kernel: a bug of a renderer. The message holds LLVM's complaint and the IR around it."""


@dataclass
class Counters:
    """What the compiler did in this process; tests assert that a repeated step changes nothing here."""

    compiled: int = 0
    loaded: int = 0
    compile_seconds: float = 0.0
    load_seconds: float = 0.0


counters = Counters()

_lock = compilers.lock  # held while kernels are obtained
_addresses: dict[tuple[str, str], int] = {}  # (structure key, processor) -> address
_places: set[int] = set()  # all addresses of kernels
_libraries: list[Any] = []  # the resource trackers of all loaded code: kept for ever
_jobs: dict[tuple[str, str], tuple[compilers.Job, str]] = {}  # (structure key, processor) -> (compilation under way, file name)
_numbers = itertools.count()  # a name is taken by a link that fails, too


def compile_object(ir_text: str, *, cpu: target.CPU | None = None) -> bytes:
    """Compile IR text to an object file.

    Raises:
        CompileError: the IR does not parse or does not verify.
    """
    cpu = cpu or target.current()
    return _emit(ir_text, cpu, as_object=True)


def assembly(ir_text: str, *, cpu: target.CPU | None = None) -> str:
    """The assembly text of ``ir_text`` after optimisation, to look at."""
    return _emit(ir_text, cpu or target.current(), as_object=False).decode()


def load_object(data: bytes, names: Sequence[str], label: str = "object") -> dict[str, int]:
    """Link an object file, or what ``elf.py`` has linked, into the process; returns the addresses of its functions ``names``.

    Raises:
        CompileError: a symbol is missing, or ``data`` is not an object file for this machine.
    """
    with _lock:
        code = _linked(data)
        if elf.is_linked(code):
            found = elf.load(code)
            if found.keys() >= set(names):
                return {name: found[name] for name in names}
        import llvmlite.binding as llvm

        target.initialize_llvm()
        builder = llvm.JITLibraryBuilder().add_object_img(data).add_current_process()
        for name in names:
            builder.export_symbol(name)
        try:
            library = builder.link(_linker(), f"{label}.{next(_numbers)}")
        except RuntimeError as error:
            raise CompileError(f"cannot link {label}: {error}") from error
        _libraries.append(library)
        return {name: library[name] for name in names}


def compile_ir(ir_text: str, names: Sequence[str], key: str) -> dict[str, int]:
    """Compile and link IR text, without any cache; returns the addresses of its functions ``names``.

    ``key`` names the code in error messages.
    """
    start = time.perf_counter()
    with _lock:
        addresses = load_object(compile_object(ir_text), names, key)
    counters.compiled += len(addresses)
    counters.compile_seconds += time.perf_counter() - start
    return addresses


def kernel(structure_key: str, make_ir: Callable[[], str], name: str) -> int:
    """The address of the kernel ``name`` with the structure ``structure_key``.

    ``make_ir`` is called only if the kernel is neither in memory nor on disk; it returns IR text that defines ``name``.
    Equal structure keys must mean equal IR.
    """
    found = _addresses.get((structure_key, target.current().key))
    return found if found is not None else kernels([(structure_key, make_ir, name)])[0]


def kernels(requests: Sequence[Request]) -> list[int]:
    """The addresses of several kernels, each ``(structure_key, make_ir, name)``; misses are compiled on all cores."""
    cpu = target.current()
    with _lock:
        missing = {}
        for structure_key, make_ir, name in requests:
            if (structure_key, cpu.key) not in _addresses:
                missing[structure_key] = (make_ir, name)
        if missing:
            _obtain(missing, cpu)
        return [_addresses[structure_key, cpu.key] for structure_key, _, _ in requests]


def begin(requests: Sequence[Request]) -> None:
    """Load the kernels that are on disk, and let the others be compiled in the background until ``kernels`` asks for them."""
    cpu = target.current()
    with _lock:
        for structure_key, make_ir, name in requests:
            if (structure_key, cpu.key) not in _addresses:
                _find(structure_key, make_ir, name, cpu, ahead=True)


class Address(int):
    """Of a kernel that another kernel calls, as one of that one's parameters: a number of this process. ``symbol`` says which kernel:
    its structure key and its name."""

    symbol: tuple[str, str]

    @classmethod
    def of(cls, request: Request, address: int) -> Address:
        made = cls(address)
        made.symbol = request[0], request[2]
        return made


def is_address(number: int) -> bool:
    """Whether a kernel lies there."""
    return number in _places


class _Batch(threading.local):
    def __init__(self) -> None:
        self.waiting: list[tuple[Sequence[Request], Callable[[list[int]], None]]] | None = None


_batch = _Batch()


@contextlib.contextmanager
def batch() -> Iterator[None]:
    """Inside the block ``deliver`` does not wait: all addresses are delivered at its end, so that all are compiled together."""
    outer, _batch.waiting = _batch.waiting, []
    try:
        yield
        for requests, use in _batch.waiting:
            use(_addresses_of(requests))
    finally:
        _batch.waiting = outer


def deliver(requests: Sequence[Request], use: Callable[[list[int]], None]) -> None:
    """Call ``use`` with the addresses of the kernels, which say whose they are: at once, or at the end of the ``batch`` around it."""
    if _batch.waiting is None:
        use(_addresses_of(requests))
    else:
        begin(requests)
        _batch.waiting.append((requests, use))


def _addresses_of(requests: Sequence[Request]) -> list[int]:
    return [Address.of(request, address) for request, address in zip(requests, kernels(requests), strict=True)]


def functions(structure_key: str, make_ir: Callable[[], str], names: Sequence[str]) -> dict[str, int]:
    """The addresses of the functions ``names`` of one module: the runtime's own code, not counted as kernels."""
    cpu = target.current()
    with _lock:
        file_name = _file_name(structure_key, " ".join(names), cpu)
        data = cache.get(file_name)
        if data is None:
            data = _linked(compile_object(make_ir(), cpu=cpu))
            cache.put(file_name, data)
        return load_object(data, names, names[0])


def _file_name(structure_key: str, name: str, cpu: target.CPU) -> str:
    import llvmlite

    return cache.key(structure_key, name, cpu.key, llvmlite.__version__)


def _find(structure_key: str, make_ir: Callable[[], str], name: str, cpu: target.CPU, *, ahead: bool) -> None:
    """Load a kernel from disk, or let a thread compile it."""
    known = _jobs.get((structure_key, cpu.key))
    if known is not None:
        if not ahead:
            known[0].hurry()
        return
    start = time.perf_counter()
    file_name = _file_name(structure_key, name, cpu)
    data = cache.get(file_name)
    if data is None:
        target.initialize_llvm()
        job = compilers.submit(functools.partial(_emit, make_ir(), cpu, as_object=True), ahead=ahead)
        _jobs[structure_key, cpu.key] = job, file_name
        counters.compile_seconds += time.perf_counter() - start
    else:
        _enter(structure_key, name, cpu, data)
        counters.loaded += 1
        counters.load_seconds += time.perf_counter() - start


def _obtain(missing: dict[str, tuple[Callable[[], str], str]], cpu: target.CPU) -> None:
    """Load from disk, or compile and store, every kernel of ``missing``."""
    for structure_key, (make_ir, name) in missing.items():
        _find(structure_key, make_ir, name, cpu, ahead=False)
    fresh = [(structure_key, name) for structure_key, (_, name) in missing.items() if (structure_key, cpu.key) not in _addresses]
    if not fresh:
        return
    start = time.perf_counter()
    for structure_key, name in fresh:
        job, file_name = _jobs[structure_key, cpu.key]
        job.wait()  # an interrupt leaves the job to whoever asks next
        del _jobs[structure_key, cpu.key]
        data = _linked(job.result())
        _enter(structure_key, name, cpu, data)
        cache.put(file_name, data)
        counters.compiled += 1
    counters.compile_seconds += time.perf_counter() - start


def _enter(structure_key: str, name: str, cpu: target.CPU, data: bytes) -> None:
    """Link a kernel, and remember where it is."""
    address = _addresses[structure_key, cpu.key] = load_object(data, [name], name)[name]
    _places.add(address)


def _linked(data: bytes) -> bytes:
    """An object in the form in which it is kept and loaded without LLVM, where there is one."""
    return elf.is_supported() and not elf.is_linked(data) and elf.linked(data) or data


def _emit(ir_text: str, cpu: target.CPU, *, as_object: bool) -> bytes:
    """Parse, verify, optimise and emit, in a context of its own (so that several threads may do it at once)."""
    import llvmlite.binding as llvm
    from llvmlite.binding import ffi

    target.initialize_llvm()
    try:
        module = llvm.parse_assembly(ir_text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise CompileError(_explain(str(error), ir_text)) from error
    module.triple = cpu.triple
    machine = _target_machine(cpu)
    module.data_layout = str(machine.target_data)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    pipeline = llvm.create_new_module_pass_manager()
    for name in PASSES:
        getattr(pipeline, f"add_{name}_pass")()
    _unlocked(ffi.lib.LLVMPY_RunNewModulePassManager)(pipeline, module, passes)
    with ffi.OutputString() as complaint:
        emit = _unlocked(ffi.lib.LLVMPY_TargetMachineEmitToMemory)
        buffer = emit(machine, module, int(as_object), complaint)
        if not buffer:
            raise CompileError(_explain(str(complaint), ir_text))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _unlocked(function: Any) -> Any:
    """llvmlite's function without llvmlite's global lock, where it has one.

    Optimising and emitting touch only one context and one target machine, each thread has its own, and LLVM allows
    that; under the lock the cores would compile one after the other.
    """
    return getattr(function, "_cfn", function)


class _Machines(threading.local):
    """Code generators, one for each processor and thread: making one takes as long as compiling an empty kernel."""

    def __init__(self) -> None:
        self.made: dict[target.CPU, Any] = {}


_machines = _Machines()


def _target_machine(cpu: target.CPU) -> Any:
    """This thread's code generator."""
    made = _machines.made.get(cpu)
    if made is None:
        made = _machines.made[cpu] = _new_machine(cpu)
    return made


def _new_machine(cpu: target.CPU) -> Any:
    import llvmlite.binding as llvm

    factory = llvm.Target.from_triple(cpu.triple)
    return factory.create_target_machine(cpu.name, cpu.features, opt=2, reloc="pic", codemodel="small")


@functools.cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    target.initialize_llvm()
    if sys.platform.startswith("linux"):
        try:
            llvm.load_library_permanently("libm.so.6")
        except RuntimeError:
            # musl has its mathematics in libc, which is there already; a symbol that is really missing fails at link.
            pass
    return llvm.create_lljit_compiler(_new_machine(target.host()), use_jit_link=True)


def _explain(complaint: str, ir_text: str) -> str:
    """LLVM's complaint with the lines of IR around the place that it names (``<string>:12:5: error: ...``)."""
    lines = ir_text.splitlines()
    fields = complaint.split("<string>:", 1)[-1].split(":")
    middle = int(fields[0]) if len(fields) > 1 and fields[0].isdigit() else 1
    first = max(middle - 4, 1)
    shown = "\n".join(f"{number:5} {line}" for number, line in enumerate(lines[first - 1 : middle + 3], first))
    return f"LLVM refused this kernel: {complaint.strip()}\n{shown}"
