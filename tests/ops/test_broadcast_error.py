"""The message about shapes that do not broadcast."""
from __future__ import annotations

import pytest

import rushlight

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn")


@pytest.mark.parametrize(("a", "b"), [((8, 64, 64), (65, 63)), ((3, 4), (5, 4)), ((2, 3, 1), (1, 4, 5)), ((2,), (3,))])
def test_it_names_the_dimension_that_pytorch_names(a, b):
    messages = []
    for m in (torch, rushlight):
        with pytest.raises(RuntimeError) as e:
            m.zeros(a) + m.zeros(b)
        messages.append(str(e.value))
    assert messages[0] in messages[1]
