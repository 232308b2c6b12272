"""Planning the gradient of a 3×3 filter by Winograd's F(3×3, 4×4); its kernels are in ``winograd_grad_ir.py``.

The contraction of such a gradient has the window's axes in its result and sums over images and positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.contraction import Contraction, Dim
from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.contract_epilogue import EpilogueOperand
from rushlight.compile.cpu.contract_step import Operand, Plan, Step
from rushlight.compile.cpu.winograd_grad_ir import Gradient
from rushlight.compile.cpu.winograd_ir import GEOMETRY, PLANES, TAPS, Gather
from rushlight.compile.cpu.winograd_product import CHUNK, VECTORS, Outer, panel_vectors
from rushlight.compile.cpu.winograd_tiles import TILE
from rushlight.compile.expr import cast, input_

__all__ = ["plan"]

MOST_PARTS, WANTED_PARTS = 16, 8
#: Cycles that a vector of channels takes to be transformed: of a tile (inputs or gradients), of a filter's sums.
TILE_CYCLES, RESULT_CYCLES = 250, 400
#: Winograd's way has to be better by this much in the estimate.
GAIN = 0.8


@dataclass(frozen=True)
class _Shape:
    """``image`` (or one), ``y`` and ``x`` of the reduction; the channels and filters; for each output (C, then the extras) the
    steps along filters, the window's two axes and channels, in elements."""

    image: Dim
    y: Dim
    x: Dim
    channels: int
    filters: int
    steps: tuple[tuple[int, int, int, int], ...]


def plan(c: Contraction, cpu: target.CPU | None = None) -> Plan | None:
    cpu = cpu or target.current()
    found = _gradient(c)
    lanes = cpu.vector_bytes // 4
    if found is None or found.channels % lanes or found.filters % lanes or not _pays(found, lanes):
        return None
    return _planned(c, found, cpu, lanes)


def _gradient(c: Contraction) -> _Shape | None:
    if any(d.name != "float32" for d in (c.a, c.b, c.accumulate)) or c.batch or c.sums or len(c.n) != 1 or c.n[0].b != 1:
        return None
    if len(c.k) not in (2, 3) or len(c.m) not in (2, 3):
        return None
    along = [tuple(d.c if i < 0 else steps[i] for i in range(-1, len(c.extras)))
             for d, steps in ((d, [x.strides[k] for x in c.extras]) for k, d in enumerate((*c.m, *c.n)))]
    inner = next((i for i, d in enumerate(c.m) if d.a == 1), None)
    if inner is None:
        return None
    window = [(d, along[i]) for i, d in enumerate(c.m) if i != inner]
    channels, steps = c.m[inner].extent, along[inner]
    if len(window) == 1:  # the window's last axis and the channels are one, where they lie one after the other everywhere
        if channels % TAPS:
            return None
        channels //= TAPS
        window.append((Dim(TAPS, channels), tuple(s * channels for s in steps)))
    (u, u_steps), (v, v_steps) = sorted(window, key=lambda w: -w[0].a)
    ys, xs = ([d for d in c.k if d.a == w.a and w.extent == TAPS] for w in (u, v))
    if len(ys) != 1 or len(xs) != 1 or ys[0] is xs[0]:
        return None
    rest = [d for d in c.k if d is not ys[0] and d is not xs[0]]
    outputs = tuple(zip(along[-1], u_steps, v_steps, steps, strict=True))
    return _Shape(rest[0] if rest else Dim(1), ys[0], xs[0], channels, c.n[0].extent, outputs)


def _tiles(s: _Shape) -> tuple[int, int, int]:
    down, across = -(-s.y.extent // TILE), -(-s.x.extent // TILE)
    return s.image.extent * down * across, down, across


def _pays(s: _Shape, lanes: int) -> bool:
    tiles, width = _tiles(s)[0], lanes * VECTORS
    down, across = -(-s.filters // CHUNK), -(-s.channels // CHUNK)
    pairs = s.filters * -(-s.channels // width) * width / (2 * lanes)
    plain = s.image.extent * s.y.extent * s.x.extent * TAPS * TAPS * pairs
    moved = tiles * TILE_CYCLES * (down * s.channels + across * s.filters) + s.filters * s.channels * RESULT_CYCLES
    return 1.15 * PLANES * tiles * pairs + moved / lanes < GAIN * plain


def _planned(c: Contraction, s: _Shape, cpu: target.CPU, lanes: int) -> Plan:
    tiles, down, across = _tiles(s)
    groups_n, groups_c = -(-s.filters // CHUNK), -(-s.channels // CHUNK)
    pairs = groups_n * groups_c
    m_plane = (CHUNK * CHUNK + 16) * 4
    block, blocks = _block(tiles, PLANES * m_plane, cpu)
    splits = max(1, min(blocks, WANTED_PARTS // pairs))
    per_split = -(-blocks // splits)
    splits = -(-blocks // per_split)
    whole = pairs > WANTED_PARTS // 2  # never split: which kernels there are does not depend on the batch size
    each = -(-pairs // MOST_PARTS) if whole else 1
    slots = -(-pairs // each) * splits
    plane = (block * CHUNK + 16) * 4  # planes an odd number of cache lines apart do not meet in the same set
    listed = PLANES * (m_plane + 2 * plane)
    slot = listed + 8 * max(2 * TILE * TILE * block, TAPS * TAPS * CHUNK * (1 + len(c.extras)))

    types = [(c.c, True), *((x.dtype, x.written) for x in c.extras)]
    strides = [tuple(d.itemsize * t for t in steps) for (d, _), steps in zip(types, s.steps, strict=True)]
    outputs = tuple(EpilogueOperand(d, "unit" if t[3] == d.itemsize else "zero" if t[3] == 0 else "any", written)
                    for (d, written), t in zip(types, strides, strict=True))
    stores = c.stores or (cast(input_(0, c.accumulate), c.c),)
    fence = {"x86_64": "v", "aarch64": "w"}.get(cpu.triple.split("-")[0].replace("arm64", "aarch64"), "")
    outer = Outer(lanes, panel_vectors(s.channels, lanes, cpu, CHUNK), cpu.vector_registers, cpu.fma, fence)
    called: dict[str, Gather | Outer] = {"inputs": Gather(lanes, cpu.fma), "gradients": Gather(lanes, cpu.fma, inputs=False),
                                         "outer": outer}

    values = {"inputs": 0, "gradients": 0, "outer": 0, "each": each, "blocks": blocks, "per_split": per_split,
              "block": block, "tiles": tiles, "v": PLANES * m_plane, "w": PLANES * (m_plane + plane), "w_plane": plane,
              "v_plane": plane, "pairs": pairs, "across": groups_c, "splits": splits, "channels": s.channels, "filters": s.filters,
              "slot": slot, "list": listed, "m_plane": m_plane}  # fmt: skip
    for name, operand in (("x", 0), ("g", 1)):
        image, y, x = (4 * (d.b if operand else d.a) for d in (s.image, s.y, s.x))
        geometry = (down, across, s.y.extent, s.x.extent, plane, block * CHUNK * 4, image, y, x)
        values.update((f"{name}_{key}", value) for key, value in zip(GEOMETRY, geometry, strict=True))
    for i, line in enumerate(strides):
        values.update((f"{d}{i}", step) for d, step in zip("nyxc", line, strict=True))

    extras: list[Operand] = [("extra", i) for i in range(len(c.extras))]
    place: Operand = ("scratch", 0)
    if whole:
        kernels = [(Gradient("whole", lanes, cpu.fma, outputs, stores), ["a", "b", place, "c", *extras], slots)]
    else:
        kernels = [(Gradient("partial", lanes, cpu.fma), ["a", "b", place], slots),
                   (Gradient("finish", lanes, cpu.fma, outputs, stores), [place, "c", *extras], pairs * CHUNK)]
    steps = [Step((k.key, k.ir, "gradient"), [(name, 0) for name in names], [values[x] for x in k.fields], parts)
             for k, names, parts in kernels]
    fields = kernels[0][0].fields

    def tell(addresses: list[int]) -> None:
        for name, address in zip(called, addresses, strict=False):
            steps[0].params[fields.index(name)] = address

    jit.deliver([*((k.key, k.ir, "outer" if name == "outer" else "gather") for name, k in called.items()),
                 *(step.kernel for step in steps)], tell)
    flops = 2 * s.image.extent * s.y.extent * s.x.extent * TAPS * TAPS * s.channels * s.filters
    return Plan(steps, [slots * slot], flops)


def _block(tiles: int, sums: int, cpu: target.CPU) -> tuple[int, int]:
    """Tiles of a block, whose transforms lie in the second-level cache beside the sums, and blocks: nearly equal ones."""
    most = max(16, min(64, (cpu.l2 * 3 // 4 - sums) // (2 * PLANES * CHUNK * 4)))
    blocks = -(-tiles // most)
    blocks += blocks % 2 if blocks > 2 else 0
    block = -(-tiles // blocks)
    return block, -(-tiles // block)
