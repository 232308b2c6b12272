"""Planning the step that packs an operand into panels (the kernel is in ``pack.py``)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rushlight.compile.cpu.pack import MAX_TURNED, Pack
from rushlight.compile.dtypes import DType
from rushlight.compile.sizes import numeric

__all__ = ["Packing", "packing"]

#: Bytes that a part writes, at most.
PART_BYTES = 256 << 10


@dataclass(frozen=True)
class Packing:
    """``out[batch][panel][k][column]`` or, with the batch ``beside``, ``out[panel][k][batch][column]``: ``row`` bytes from k to k,
    ``panel_bytes`` from panel to panel, ``batch_strides`` for each batch axis (0 where the operand does not move)."""

    kernel: Pack
    params: list[int]
    parts: int
    nbytes: int
    row: int
    panel_bytes: int
    batch_strides: list[int]


def packing(
    source: DType, target: DType, lanes: int, vectors: int, n: tuple[int, int], k: list[tuple[int, int]],
    batch: list[tuple[int, int]], beside: bool = False,
) -> Packing:  # fmt: skip
    """Packs an operand with the axis ``n``, the axes ``k`` and ``batch``, each (extent, bytes per step); ``beside``: what the batch axes
    count lies side by side in one panel, ``vectors`` of each."""
    columns, n_stride = n
    width = lanes * vectors
    panels, row = -(-columns // width), width * target.itemsize
    depth = math.prod(extent for extent, _ in k)
    strides, inner = [0] * len(batch), row if beside else panels * depth * row
    for i in reversed(range(len(batch))):
        if batch[i][1]:
            strides[i], inner = inner, inner * batch[i][0]
    row = inner if beside else row
    panel_bytes = depth * row
    nbytes = panels * panel_bytes if beside else inner
    steps, step = [], panel_bytes  # of the result, along each axis of k
    for extent, _ in k:
        step //= extent
        steps.append(step)
    axes = [(extent, stride, to) for (extent, stride), to in zip(k, steps, strict=True)]
    kind = "unit" if n_stride == source.itemsize else "any"
    along = next((i for i in reversed(range(len(k))) if k[i][1] == source.itemsize and k[i][0] >= lanes), None)
    if kind == "any" and along is not None and 4 <= lanes <= MAX_TURNED:
        kind = "turn"
        axes.append(axes.pop(along))
    positions = axes[-1][0] if kind == "turn" else depth
    block_k = _block(positions, row, lanes if kind == "turn" else 1)
    parts_k = -(-positions // block_k)
    moving = [(extent, step, to) for (extent, step), to in zip(batch, strides, strict=True) if to]
    kernel = Pack(source, target, lanes, vectors, kind)
    values = {"parts_k": parts_k, "panels": panels, "k": positions, "block_k": block_k, "n": columns, "n_stride": n_stride,
              "batch_dims": len(moving), "k_dims": len(k), "panel_bytes": panel_bytes,
              "outer": depth // positions if positions else 0, "vectors": vectors}  # fmt: skip
    tables = [number for triple in (*moving, *axes) for number in triple]
    parts = parts_k * panels * math.prod(extent for extent, _, _ in moving)
    return Packing(kernel, [values[name] for name in kernel.fields] + tables, parts, nbytes, row, panel_bytes, strides)


@numeric
def _block(positions: int, row: int, shortest: int) -> int:
    """Positions that a part packs, so that the last part has ``shortest`` at least."""
    block = max(1, min(positions, max(64, PART_BYTES // row)))
    while 0 < positions % block < shortest:
        block -= 1
    return block
