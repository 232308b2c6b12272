"""Contractions in Rushlight and PyTorch in turn: GFLOP/s, share of the measured peak, ratio of the times.

    python -m benchmarks.contractions [--threads 1] [--only conv] [--rounds 7] [--no-torch]

Times are the kernels' alone: operands are ready, the plan is made, B is packed anew every time. Each figure is the
best of several rounds in which the two take turns: what others do on the machine only adds time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rushlight.compile import dtypes as dt
from rushlight.compile.contraction import Contraction, Dim
from rushlight.compile.cpu import executor, jit, pool
from rushlight.compile.cpu.alloc import allocate
from rushlight.compile.cpu.contract import plan
from rushlight.compile.cpu.peaks import peaks

F = dt.float32


@dataclass
class Case:
    """``torch``: makes the function to time, from the operands as NumPy arrays."""

    name: str
    contraction: Contraction
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    torch: Callable[[], Callable[[], object]]


def array(*shape: int, dtype: dt.DType = F) -> np.ndarray:
    out = allocate(dtype.itemsize * int(np.prod(shape)) + 64).array(dtype.numpy, shape)
    out[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    return out


def as_torch(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x) if x.dtype == np.float32 else torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16)


def matmul(m: int, n: int, k: int, kind: str = "nn", dtype: dt.DType = F) -> Case:
    """``kind``: n or t for each operand: whether it is stored as the product reads it, or transposed."""
    a = array(m, k, dtype=dtype) if kind[0] == "n" else array(k, m, dtype=dtype)
    b = array(k, n, dtype=dtype) if kind[1] == "n" else array(n, k, dtype=dtype)
    am, ak = (k, 1) if kind[0] == "n" else (1, m)
    bk, bn = (n, 1) if kind[1] == "n" else (1, k)
    c = Contraction((), (Dim(m, am, 0, n),), (Dim(n, 0, bn, 1),), (Dim(k, ak, bk, 0),), dtype, dtype, dtype, F)

    def peer() -> Callable[[], object]:
        import torch

        x, y = as_torch(a), as_torch(b)
        x, y = x if kind[0] == "n" else x.T, y if kind[1] == "n" else y.T
        out = torch.empty(m, n, dtype=x.dtype)
        return lambda: torch.matmul(x, y, out=out)

    return Case(f"{'' if dtype is F else 'bf16 '}matmul {kind} {m}x{n}x{k}", c, a, b, array(m, n, dtype=dtype), peer)


def batched(batch: int, m: int, n: int, k: int, transposed: bool, dtype: dt.DType = F) -> Case:
    a, b = array(batch, m, k, dtype=dtype), array(batch, n, k, dtype=dtype) if transposed else array(batch, k, n, dtype=dtype)
    bk, bn = (1, k) if transposed else (n, 1)
    batches, rows, columns = Dim(batch, m * k, n * k, m * n), Dim(m, k, 0, n), Dim(n, 0, bn, 1)
    c = Contraction((batches,), (rows,), (columns,), (Dim(k, 1, bk, 0),), dtype, dtype, dtype, F)

    def peer() -> Callable[[], object]:
        import torch

        x, y = as_torch(a), as_torch(b)
        y = y.mT if transposed else y
        out = torch.empty(batch, m, n, dtype=x.dtype)
        return lambda: torch.matmul(x, y, out=out)

    name = f"{'' if dtype is F else 'bf16 '}batched {'nt' if transposed else 'nn'} {batch}x{m}x{n}x{k}"
    return Case(name, c, a, b, array(batch, m, n, dtype=dtype), peer)


def convolution(kind: str, n: int, h: int, ci: int, co: int, padding: int = 1) -> Case:
    """3x3, stride 1, on tensors that are padded already, channels-last; PyTorch gets channels-last tensors too."""
    oh = h + 2 * padding - 2
    x, w, g = array(n, h + 2 * padding, h + 2 * padding, ci), array(3, 3, ci, co), array(n, oh, oh, co)

    def steps(z: np.ndarray) -> list[int]:
        return [s // 4 for s in z.strides]

    def peer() -> Callable[[], object]:
        import torch

        last = torch.channels_last
        inner = x[:, padding : padding + h, padding : padding + h] if padding else x
        tx = torch.from_numpy(np.ascontiguousarray(inner)).permute(0, 3, 1, 2)
        tw = torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))).contiguous(memory_format=last)
        tg = torch.from_numpy(g).permute(0, 3, 1, 2)
        if kind == "forward":
            return lambda: torch.nn.functional.conv2d(tx, tw, padding=padding)
        wanted = [kind == "input", kind == "weight", False]
        return lambda: torch.ops.aten.convolution_backward(
            tg, tx, tw, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, wanted
        )

    sx, sw, sg = steps(x), steps(w), steps(g)
    pixel, tap = list(zip((n, oh, oh), sx, sg)), list(zip((3, 3, ci), sx[1:], sw))
    name = f"conv {kind} {n}x{h}x{h} {ci}->{co}"
    if kind == "forward":
        c = Contraction((), tuple(Dim(z, a, 0, o) for z, a, o in pixel), (Dim(co, 0, 1, 1),),
                        tuple(Dim(z, a, b, 0) for z, a, b in tap), F, F, F, F)  # fmt: skip
        return Case(name, c, x, w, array(n, oh, oh, co), peer)
    if kind == "weight":
        c = Contraction((), tuple(Dim(z, a, 0, o) for z, a, o in tap), (Dim(co, 0, 1, 1),),
                        tuple(Dim(z, a, b, 0) for z, a, b in pixel), F, F, F, F)  # fmt: skip
        return Case(name, c, x, g, array(3, 3, ci, co), peer)
    full = array(n, h + 2, h + 2, co)  # the output's gradient, padded; taps run backwards, as the offsets of w say
    flipped = np.ascontiguousarray(w[::-1, ::-1])
    sf, so = steps(full), steps(array(n, h, h, ci))
    pixel = list(zip((n, h, h), sf, so))
    c = Contraction((), tuple(Dim(z, a, 0, o) for z, a, o in pixel), (Dim(ci, 0, co, 1),),
                    tuple(Dim(z, a, b, 0) for z, a, b in [(3, sf[1], sw[0]), (3, sf[2], sw[1]), (co, 1, 1)]), F, F, F, F)  # fmt: skip
    return Case(name, c, full, flipped, array(n, h, h, ci), peer)


def depthwise(n: int, h: int, channels: int) -> Case:
    """3x3 with a filter for each channel, on a padded channels-last tensor."""
    x, w, y = array(n, h + 2, h + 2, channels), array(3, 3, channels), array(n, h, h, channels)
    sx, sw, sy = ([s // 4 for s in z.strides] for z in (x, w, y))
    c = Contraction((Dim(channels, 1, 1, 1),), tuple(Dim(z, a, 0, o) for z, a, o in zip((n, h, h), sx, sy)), (),
                    tuple(Dim(3, a, b, 0) for a, b in zip(sx[1:3], sw)), F, F, F, F)  # fmt: skip

    def peer() -> Callable[[], object]:
        import torch

        last = torch.channels_last
        tx = torch.from_numpy(np.ascontiguousarray(x[:, 1:-1, 1:-1])).permute(0, 3, 1, 2)
        tw = torch.from_numpy(np.ascontiguousarray(w.transpose(2, 0, 1)))[:, None].contiguous(memory_format=last)
        return lambda: torch.nn.functional.conv2d(tx, tw, padding=1, groups=channels)

    return Case(f"depthwise {n}x{h}x{h} {channels}", c, x, w, y, peer)


def cases() -> Iterator[Case]:
    for kind in ("nn", "nt", "tn", "tt"):
        yield matmul(1024, 1024, 1024, kind)
    for kind in ("nn", "nt", "tn"):
        yield matmul(2048, 1024, 256, kind)
        yield matmul(512, 768, 768, kind)
    for m, n, k in [(128, 512, 784), (128, 256, 512), (128, 10, 256), (64, 128, 9216), (64, 10, 128)]:  # MLP, MNIST CNN
        yield matmul(m, n, k, "nt")
        yield matmul(m, k, n, "nn")
        yield matmul(n, k, m, "tn")
    for m in (1, 4, 8, 16):
        yield matmul(m, 1024, 1024, "nt")
        yield matmul(m, 1024, 1024, "nn")
    yield matmul(64, 1, 30, "nt")
    yield matmul(1024, 1, 1024, "nn")
    yield batched(48, 128, 128, 64, True)
    yield batched(48, 128, 64, 128, False)
    for m, n, k, kind in [(1024, 1024, 1024, "nn"), (1024, 1024, 1024, "nt"), (1024, 1024, 1024, "tn"),  # and those of the GPT
                          (2048, 768, 256, "nt"), (2048, 1024, 256, "nt"), (2048, 256, 1024, "nt"), (2048, 256, 768, "nn"),
                          (1024, 256, 2048, "tn"), (256, 1024, 2048, "tn"), (512, 4096, 512, "nt"), (4096, 512, 8192, "nt")]:
        yield matmul(m, n, k, kind, dt.bfloat16)
    yield batched(64, 128, 128, 64, True, dt.bfloat16)
    yield batched(64, 128, 64, 128, False, dt.bfloat16)
    yield depthwise(8, 32, 128)
    for kind in ("forward", "input", "weight"):
        yield convolution(kind, 64, 28, 1, 32, 0)
        yield convolution(kind, 64, 26, 32, 64, 0)
        yield convolution(kind, 32, 32, 3, 64)
        yield convolution(kind, 32, 32, 64, 64)
        yield convolution(kind, 32, 16, 128, 128)
        yield convolution(kind, 32, 8, 256, 256)
        yield convolution(kind, 32, 4, 512, 512)


def runner(case: Case) -> Callable[[], object]:
    """A function that runs the case's plan as a program would."""
    made = plan(case.contraction)
    blocks = [allocate(max(size, 64)) for size in made.scratch]
    error = np.zeros(8, np.int64)
    places = {"a": 1, "b": 2, "c": 3} | {("scratch", j): 4 + j for j in range(len(blocks))}
    table = np.array([error.ctypes.data, *(x.ctypes.data for x in (case.a, case.b, case.c)), *(b.ptr for b in blocks)], np.int64)
    rows, kept = [], []
    for step in made.steps:
        pairs = [number for name, offset in step.operands for number in (places[name], offset)]
        kept.append(np.array(pairs + step.params, np.int64))
        rows.append((jit.kernel(*step.kernel), kept[-1].ctypes.data, step.parts, 0))
    code = executor.Instructions(rows)
    owners = [case, blocks, error, kept]  # of the memory that the table and the parameters point to

    def go() -> None:
        failed = executor.run(code.pointer, len(code), table.ctypes.data)
        assert failed is None and owners

    return go


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def repeated(function: Callable[[], object], times: int) -> Callable[[], None]:
    def go() -> None:
        for _ in range(times):
            function()

    return go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    pool.set_num_threads(options.threads)
    peak = peaks().flops
    print(f"peak {peak / 1e9:.0f} GFLOP/s on {options.threads} thread(s)")
    print(f"{'contraction':34}{'µs':>9}{'GFLOP/s':>9}{'of peak':>9}{'PyTorch ÷ Rushlight':>21}")
    for case in cases():
        if options.only not in case.name:
            continue
        functions = [runner(case)]
        if not options.no_torch:
            import torch

            torch.set_num_threads(options.threads)
            functions.append(case.torch())
        # Each measurement takes about two milliseconds, so that a disturbed one can be told from the others.
        runs = []
        for function in functions:
            function()
            runs.append(max(1, int(2e-3 / min(timed(function) for _ in range(3)))))
        times = [[], []]
        for _ in range(options.rounds):
            for i, function in enumerate(functions):
                if i == 0 and times[1] and options.threads > 1:
                    time.sleep(0.3)  # PyTorch's idle threads spin that long on the core that our second thread needs
                times[i].append(timed(repeated(function, runs[i])) / runs[i])
        mine = min(times[0])
        rate = 2 * np.prod([float(d.extent) for r in "batch m n k".split() for d in getattr(case.contraction, r)]) / mine
        ratio = f"{min(times[1]) / mine:20.2f}x" if times[1] else ""
        print(f"{case.name:34}{mine * 1e6:9.1f}{rate / 1e9:9.0f}{rate / peak:9.0%}{ratio}")


if __name__ == "__main__":
    main()
