"""Values over one domain that share a kernel."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight
from rushlight.record.settings import settings


def test_what_is_read_at_another_place_is_not_computed_in_the_same_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last sum reads the first row of ``d`` in every row: a kernel for all three stored that row's products for ``c``, too."""
    monkeypatch.setattr(settings, "cold_limit", 0)
    a, b = np.random.default_rng(0).standard_normal((2, 4, 4)).astype(np.float32)
    x, y = rushlight.tensor(a), rushlight.tensor(b)
    c = x * y
    d = x * c
    e = d[:1] * 1.0 + x
    for made, wanted in ((e, (a * a * b)[:1] + a), (c, a * b), (d, a * a * b)):
        np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-5, atol=1e-6)
