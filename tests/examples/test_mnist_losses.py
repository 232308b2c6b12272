"""With the same seed and ``match_pytorch(True)`` the example trains as it does under PyTorch."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import rushlight

from .mnist_losses import first_losses

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data" / "mnist"
PYTORCH = json.loads((HERE / "mnist_losses.json").read_text())

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"real MNIST is not at {DATA}")


@pytest.fixture
def pytorchs_dropout() -> Iterator[None]:
    rushlight.random.match_pytorch(True)
    yield
    rushlight.random.match_pytorch(False)


@pytest.mark.usefixtures("pytorchs_dropout")
@pytest.mark.parametrize("seed", ["1", "3"])
def test_first_losses_in_float64_equal_pytorchs(seed: str) -> None:
    expected = PYTORCH[seed]["float64"]
    found = first_losses(str(DATA), int(seed), dtype="float64")
    assert found["labels"] == expected["labels"]
    assert found["parameters"] == expected["parameters"]
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-9)


@pytest.mark.usefixtures("pytorchs_dropout")
@pytest.mark.parametrize("seed", ["1", "3"])
def test_first_losses_in_float32_equal_pytorchs_while_its_two_precisions_agree(seed: str) -> None:
    single, double = (np.array(PYTORCH[seed][dtype]["losses"]) for dtype in ("float32", "float64"))
    steps = int(np.argmax(abs(single / double - 1) > 1e-5))
    assert steps > 60
    found = first_losses(str(DATA), int(seed), steps)
    assert found["labels"] == PYTORCH[seed]["float32"]["labels"]
    assert found["parameters"] == PYTORCH[seed]["float32"]["parameters"]
    ways = [single, np.array(PYTORCH[seed]["float32 without oneDNN"]["losses"])]
    nearest = min(ways, key=lambda losses: abs(found["losses"] / losses[:steps] - 1).max())
    np.testing.assert_allclose(found["losses"], nearest[:steps], rtol=1e-3)
