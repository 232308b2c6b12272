"""With the same seed and ``match_pytorch(True)`` the example trains as it does under PyTorch."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rushlight

from .mnist_losses import first_losses

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data" / "mnist"


@pytest.mark.skipif(not DATA.exists(), reason=f"real MNIST is not at {DATA}")
@pytest.mark.parametrize(("seed", "steps"), [(3, 100), (1, 70)])
def test_first_losses_equal_pytorchs(seed, steps):
    expected = json.loads((HERE / "mnist_losses.json").read_text())[str(seed)]
    rushlight.random.match_pytorch(True)
    try:
        found = first_losses(str(DATA), seed, steps)
    finally:
        rushlight.random.match_pytorch(False)
    assert found["labels"] == expected["labels"]
    assert found["parameters"] == expected["parameters"]
    np.testing.assert_allclose(found["losses"], expected["losses"][:steps], rtol=1e-3)
