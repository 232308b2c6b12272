"""Planning a 3×3 convolution of stride 1 by Winograd's F(4×4, 3×3): a quarter of the multiplications.

``plan(contraction)`` gives the steps that compute it, or None: the contraction is no such convolution, or the plain way is
faster. Forward passes and input gradients have this form, channels last; their kernels are in ``winograd_ir.py``.

Errors of rounding are two to four times a plain convolution's (four where numbers have no mean, ``toomcook.py``), and an infinity
or NaN reaches all results of its 4×4 tile. ``RUSHLIGHT_WINOGRAD=0`` does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushlight.compile.contraction import Contraction, Dim
from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.contract_epilogue import EpilogueOperand
from rushlight.compile.cpu.contract_step import KernelRequest, Operand, Plan, Step
from rushlight.compile.cpu.contract_sums import combined, items_of, lines
from rushlight.compile.cpu.winograd_ir import PLANES, TAPS, Filters, Gather, Inputs, Tiles, Transform
from rushlight.compile.cpu.winograd_product import CHUNK, VECTORS, Product, panel_vectors
from rushlight.compile.cpu.winograd_tiles import TILE
from rushlight.compile.expr import cast, input_

__all__ = ["plan"]

MOST_PARTS = 16
#: Cycles that a vector of channels takes to be transformed: of a tile's inputs, of its results, of a filter (and stored).
INPUT_CYCLES, RESULT_CYCLES, FILTER_CYCLES = 250, 400, 450
PACKING_CYCLES = 200  # of a filter for the plain way
#: Winograd's way has to be better by this much in the estimate.
GAIN = 0.8
#: Tiles of a block whose transforms stay in the second-level cache, and of one whose do not.
BLOCKS, LARGE_BLOCK = (30, 24), 60


@dataclass(frozen=True)
class _Shape:
    """The dimensions of a convolution, found among those of a contraction: ``image`` (None: one image), ``y``, ``x`` of the
    results, ``u``, ``v`` of the filter, the summed ``channels`` and the filters ``n``; ``place``: of image, y, x among m."""

    image: Dim
    y: Dim
    x: Dim
    u: Dim
    v: Dim
    channels: Dim
    n: Dim
    place: tuple[int | None, int, int]


def plan(c: Contraction, cpu: target.CPU | None = None) -> Plan | None:
    cpu = cpu or target.current()
    found = _convolution(c)
    lanes = cpu.vector_bytes // 4
    if found is None or found.channels.extent % lanes or not _pays(found, lanes):
        return None
    return _planned(c, found, cpu, lanes)


def _convolution(c: Contraction) -> _Shape | None:
    if any(d.name != "float32" for d in (c.a, c.b, c.accumulate)) or c.batch or len(c.n) != 1 or len(c.k) != 3:
        return None
    channels = [d for d in c.k if d.a == 1]
    if len(channels) != 1 or len(c.m) not in (2, 3):
        return None
    taps = [d for d in c.k if d is not channels[0]]
    places: list[int | None] = []
    for tap in taps:
        fits = [i for i, d in enumerate(c.m) if d.a == tap.a and i not in places]
        if tap.extent != TAPS or len(fits) != 1:
            return None
        places.append(fits[0])
    rest = [i for i in range(len(c.m)) if i not in places]
    y, x = places
    assert y is not None and x is not None
    image = c.m[rest[0]] if rest else Dim(1)
    return _Shape(image, c.m[y], c.m[x], taps[0], taps[1], channels[0], c.n[0], (rest[0] if rest else None, y, x))


def _tiles(s: _Shape) -> tuple[int, int, int]:
    """All tiles, down and across an image."""
    down, across = -(-s.y.extent // TILE), -(-s.x.extent // TILE)
    return s.image.extent * down * across, down, across


def _pays(s: _Shape, lanes: int) -> bool:
    tiles, k, n = _tiles(s)[0], s.channels.extent, s.n.extent
    pairs = k * -(-n // (lanes * VECTORS)) * lanes * VECTORS / (2 * lanes)  # multiply-adds of vectors, two at a time
    plain = s.image.extent * s.y.extent * s.x.extent * TAPS * TAPS * pairs + k * n * PACKING_CYCLES / lanes
    ours = PLANES * tiles * pairs + (tiles * (k * INPUT_CYCLES + n * RESULT_CYCLES) + k * n * FILTER_CYCLES) / lanes
    return ours < GAIN * plain


def _planned(c: Contraction, s: _Shape, cpu: target.CPU, lanes: int) -> Plan:
    tiles, down, across = _tiles(s)
    vectors = panel_vectors(s.n.extent, lanes, cpu)
    width = lanes * vectors
    panels, chunks = -(-s.n.extent // width), -(-s.channels.extent // CHUNK)
    # So few tiles are one block, larger than others: each panel reads its inputs anew, which are no more than its filters. All panels share
    # them. Filters that are used for one block only are not worth a pass of their own through memory, unless the pass is kept.
    shared = tiles <= width
    own = shared and not c.constant
    block, blocks = (tiles, 1) if shared else _block(tiles, chunks, width, cpu)
    per_part = -(-blocks // MOST_PARTS)
    parts_m = -(-blocks // per_part)
    parts_n = min(panels, MOST_PARTS if shared else max(1, min(8 // parts_m, 4)))
    group = -(-panels // parts_n)
    parts_n = -(-panels // group)
    # Planes an odd number of cache lines apart do not meet in the same set.
    v_chunk = block * CHUNK * 4
    v_plane, m_plane = _odd(chunks * v_chunk), _odd(block * width * 4)
    deep = min(CHUNK, s.channels.extent) if own else s.channels.extent
    u_plane = _odd(deep * width * 4)
    u_panel = PLANES * u_plane
    # The next block's inputs are asked for where they fit into the second-level cache beside the rest.
    ahead = (PLANES + TILE * TILE) * chunks * v_chunk + PLANES * m_plane <= cpu.l2 * 3 // 4
    inputs = PLANES * v_plane
    sums_at = 0 if shared else inputs
    u_at = sums_at + PLANES * m_plane
    listed = u_at + own * u_panel
    slot = listed + _odd(8 * TILE * TILE * block * (1 + len(c.extras) + ahead * chunks))

    types = [(c.c, True), *((x.dtype, x.written) for x in c.extras)]
    strides = [_steps(s, i, c) for i in range(len(types))]
    outputs = tuple(EpilogueOperand(d, "unit" if t[3] == d.itemsize else "zero" if t[3] == 0 else "any", written,
                                    not written and not any(t[:3]))
                    for (d, written), t in zip(types, strides, strict=True))
    stores, sums = c.stores or (cast(input_(0, c.accumulate), c.c),), items_of(c)
    fence = {"x86_64": "v", "aarch64": "w"}.get(cpu.triple.split("-")[0].replace("arm64", "aarch64"), "")
    gather, product = Gather(lanes, cpu.fma), Product(lanes, vectors, cpu.vector_registers, cpu.fma, fence)
    filters, gathered, kernel = Filters(), Inputs(), Tiles(lanes, vectors, cpu.fma, outputs, stores, sums)
    before: list[KernelRequest] = [(filters.key, filters.ir, "filters"), (gathered.key, gathered.ir, "inputs")]
    transform = Transform(lanes, vectors, cpu.fma, s.n.b == 1)

    k, each = s.channels.extent, -(-tiles // MOST_PARTS)
    block_k = max(1, min(k, (64 << 10) // (PLANES * width * 4)))
    parts_k = -(-k // block_k)
    values = {
        "n": s.n.extent, "b_k": 4 * s.channels.b, "b_n": 4 * s.n.b, "b_y": 4 * s.u.b, "b_x": 4 * s.v.b, "u_panel": u_panel,
        "u_plane": u_plane, "parts_k": parts_k, "k": k, "block_k": block_k, "own": int(own), "shared": int(shared),
        "transform": 0, "gather": 0, "product": 0,
        "tiles_y": down, "tiles_x": across, "high": s.y.extent, "wide": s.x.extent, "channels": k, "v_plane": v_plane,
        "v_chunk": v_chunk, "a_n": 4 * s.image.a, "a_y": 4 * s.y.a, "a_x": 4 * s.x.a, "parts_n": parts_n, "panels": panels,
        "group": group, "blocks": blocks, "per_part": per_part, "block": block, "tiles": tiles, "slot": slot, "m": sums_at,
        "u": u_at, "list": listed, "m_plane": m_plane, "deep": deep, "ahead": int(ahead), "each": each,
    }  # fmt: skip
    for i, line in enumerate(strides):
        values.update((f"{d}{i}", step) for d, step in zip("nyxc", line, strict=True))
    extras: list[Operand] = [("extra", i) for i in range(len(c.extras))]
    scratch = [parts_m * parts_n * slot]
    made: list[tuple[Step, Sequence[str]]] = []
    a: Operand = "a"
    b: Operand = "b"
    if not own:
        scratch.append(panels * u_panel)
        u: Operand = ("scratch", len(scratch) - 1)
        made.append((Step(before[0], [(b, 0), (u, 0)], [values[x] for x in filters.fields], parts_k * panels, packs=True), filters.fields))
        b = u
    if shared:
        scratch.append(inputs)
        v: Operand = ("scratch", len(scratch) - 1)
        made.append((Step(before[1], [(a, 0), (v, 0)], [values[x] for x in gathered.fields], -(-tiles // each)), gathered.fields))
        a = v
    names: list[Operand] = [a, b, ("scratch", 0), "c", *extras]
    sum_line = panels * width * 4
    if sums:
        values["sum_line"] = sum_line
        names.append(("scratch", len(scratch)))
    made.append((Step((kernel.key, kernel.ir, "tiles"), [(name, 0) for name in names], [values[x] for x in kernel.fields],
                      parts_m * parts_n), kernel.fields))
    steps = [step for step, _ in made]
    if sums:
        scratch.append(parts_m * lines(sums) * sum_line)
        steps.append(combined(c, lanes, len(scratch) - 1, 1, parts_m, s.n.extent, sum_line))

    def tell(addresses: list[int]) -> None:
        found = dict(zip(("gather", "product", "transform"), addresses, strict=False))
        for step, line in made:
            for name in found.keys() & set(line):
                step.params[list(line).index(name)] = found[name]

    jit.deliver([*((x.key, x.ir, name) for x, name in ((gather, "gather"), (product, "product"), (transform, "transform"))),
                 (kernel.key, kernel.ir, "tiles"), *before,  # whatever the batch size
                 *(step.kernel for step in steps[len(made):])], tell)
    flops = 2 * s.image.extent * s.y.extent * s.x.extent * TAPS * TAPS * s.channels.extent * s.n.extent
    return Plan(steps, scratch, flops)


def _block(tiles: int, chunks: int, width: int, cpu: target.CPU) -> tuple[int, int]:
    """Tiles of a block, and blocks: one, or an even number of nearly equal ones. The products ask for filters ahead, from the third-level
    cache: for so few tiles at a time as that keeps up with, if their inputs and sums stay in the second-level one; else for more."""
    tile = PLANES * 4 * (chunks * CHUNK + width)
    most = next((size for size in BLOCKS if size * tile <= cpu.l2), LARGE_BLOCK)
    blocks = -(-tiles // most)
    if blocks > 1:
        blocks += blocks % 2
    block = -(-tiles // blocks)
    return block, -(-tiles // block)


def _odd(nbytes: int) -> int:
    lines = -(-nbytes // 64)
    return 64 * (lines + 1 - lines % 2)


def _steps(s: _Shape, operand: int, c: Contraction) -> tuple[int, int, int, int]:
    """Bytes per step of an output (0: C, then the extras) along images, y, x and n."""
    if operand == 0:
        size, along = c.c.itemsize, [d.c for d in (*c.m, *c.n)]
    else:
        extra = c.extras[operand - 1]
        size, along = extra.dtype.itemsize, list(extra.strides)
    image, y, x = (0 if i is None else size * along[i] for i in s.place)
    return image, y, x, size * along[-1]
