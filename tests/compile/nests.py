"""Running one loop nest natively and in the reference interpreter."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from rushlight.compile.cpu.render import kernel_address
from rushlight.compile.nest import LoopNest
from rushlight.compile.reference.nest import interpret_nest

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def native(nest: LoopNest, memory: Sequence[np.ndarray], sizes: Sequence[int], grain: int = 1 << 40,
           cuts: Sequence[int] = (0, 1)) -> tuple[int, int, int] | None:
    """Run the kernel on the parts [cuts[0], cuts[1]), [cuts[1], cuts[2]), ...; returns the error, if any."""
    errors = np.zeros(8, np.int64)
    table = np.array([errors.ctypes.data, *(m.ctypes.data for m in memory)], np.int64)
    params = np.array([n for k in range(len(memory)) for n in (1 + k, 0)] + [grain, *sizes], np.int64)
    kernel = KERNEL(kernel_address(nest))
    for begin, end in zip(cuts, cuts[1:]):
        kernel(table.ctypes.data, params.ctypes.data, begin, end)
    return tuple(int(v) for v in errors[:3]) if errors[0] else None


def check(nest: LoopNest, memory: Sequence[np.ndarray], sizes: Sequence[int], positions: int = 1,
          rtol: float = 0, atol: float = 0) -> list[np.ndarray]:
    """Native in one piece, native in odd pieces (bitwise the same), and the interpreter, all agree."""
    guard = 64  # elements around every operand that must not change
    padded = [np.concatenate([m[:1].repeat(guard), m, m[:1].repeat(guard)]) if m.size else m for m in memory]
    inner = [p[guard:-guard] if p.size else p for p in padded]
    whole, pieces = [[np.array(p) for p in padded] for _ in range(2)]
    view = lambda list_: [p[guard:-guard] if p.size else p for p in list_]
    error = native(nest, view(whole), sizes)
    grain = max(1, -(-positions // 7))
    parts = max(1, -(-positions // grain))
    cuts = sorted({0, parts, *range(0, parts, 3)})
    native(nest, view(pieces), sizes, grain, cuts)
    expected = [np.array(m) for m in inner]
    wanted = interpret_nest(nest, expected, sizes)
    assert (error is None) == (wanted is None)
    if wanted is not None:
        assert error[0] == wanted[0]
    for k, (a, b, e, p) in enumerate(zip(whole, pieces, expected, padded)):
        assert a.tobytes() == b.tobytes(), f"operand {k} depends on the parts"
        if a.size:
            assert a[:guard].tobytes() == p[:guard].tobytes(), f"operand {k}: written before its start"
            assert a[-guard:].tobytes() == p[-guard:].tobytes(), f"operand {k}: written beyond its end"
            a = a[guard:-guard]
        if a.dtype.kind in "biu":
            np.testing.assert_array_equal(a, e, f"operand {k}")
        else:
            np.testing.assert_allclose(a.astype(np.float64), e.astype(np.float64), rtol, atol, err_msg=f"operand {k}")
    return view(whole)
