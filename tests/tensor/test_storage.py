"""What programs ask a storage, and a device as a context, against PyTorch."""
from __future__ import annotations

import pytest

import rushlight

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
BOTH = (torch, rushlight)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("make", [lambda t: t.arange(6.0), lambda t: t.arange(6.0)[2:], lambda t: t.arange(6).view(2, 3).t(),
                                  lambda t: t.tensor([1, 0], dtype=t.uint8)])
def test_a_storage_counts_elements(make):
    seen = []
    for t in BOTH:
        x = make(t)
        s, raw = x.storage(), x.untyped_storage()
        seen.append([len(s), s.size(), s.nbytes(), s.element_size(), str(s.dtype), s[1], s.tolist(), len(raw), raw.size(), raw.nbytes(),
                     s.untyped().nbytes(), s.data_ptr() == raw.data_ptr(), str(s.device)])
        with pytest.raises(RuntimeError, match="slices are only supported"):
            s[:1]
    assert seen[0] == seen[1]


def test_a_device_is_a_context():
    for t in BOTH:
        with t.device("cpu") as device:
            assert t.ones(2).device == device == t.device("cpu")
        with t.device("meta") as device:
            assert t.ones(2).device == device == t.device("meta")
        assert t.ones(2).device == t.device("cpu")
    with pytest.raises(RuntimeError, match="CUDA"), rushlight.device("cuda"):
        pass
    with pytest.raises(RuntimeError, match="'mps' is not available"):
        rushlight.ones(2, device="mps")
