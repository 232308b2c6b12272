"""Numbers become half precision by way of float32, wherever that happens: beside a number half way between two others it matters."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight
from rushlight.record.settings import settings

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

NEAR = {"bfloat16": [0.23193358820865584, 0.23193359375 - 1e-9, 1 + 2**-8 + 2**-40, 1 + 2**-8 - 2**-40, 1 + 3 * 2**-8 - 2**-40],
        "float16": [1 + 2**-11 - 2**-40, 1 + 2**-11 + 2**-40, 1 + 3 * 2**-11 - 2**-40]}


@pytest.mark.parametrize("limit", [0, 10**9])
@pytest.mark.parametrize("dtype", NEAR)
def test_half_precision_is_rounded_by_way_of_float32(dtype, limit, monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", limit)
    seen = []
    for t in (torch, rushlight):
        half, numbers = getattr(t, dtype), NEAR[dtype]
        wide = t.tensor(numbers, dtype=t.float64)
        parts = t.zeros(3, dtype=half)
        parts[1] = numbers[0]
        whole = t.tensor([2**24 + 1, 2**40 + 2**33 - 1, 4097, 257])
        seen.append([wide.to(half), (wide * 1.0).to(half), wide.float().to(half), t.zeros(len(numbers), dtype=half).copy_(wide), parts,
                     t.tensor(numbers, dtype=half), t.tensor(numbers[0], dtype=half), t.full((2,), numbers[0], dtype=half),
                     t.zeros(2, dtype=half).fill_(numbers[0]), t.from_numpy(np.array(numbers)).to(half), whole.to(half),
                     t.zeros(2, dtype=half) + numbers[0]])
    for k, (want, got) in enumerate(zip(*seen, strict=True)):
        np.testing.assert_array_equal(got.float().numpy(), want.float().numpy(), err_msg=str(k))
