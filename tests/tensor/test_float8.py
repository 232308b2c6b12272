"""Floating numbers of one byte: stored, moved, converted; nothing is computed with them."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch

NAMES = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("name", NAMES)
def test_conversions_are_pytorchs(name):
    theirs = pytest.importorskip("torch")
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    numbers = np.concatenate([upper, upper | 0x8001, upper | 0x8000]).view(np.float32)
    x, y = torch.tensor(numbers), theirs.tensor(numbers)
    d, e = getattr(torch, name), getattr(theirs, name)
    for _ in range(2):  # interpreted, and compiled
        assert (x.to(d).view(torch.uint8).numpy() == y.to(e).view(theirs.uint8).numpy()).all()
    x, y = torch.arange(256).to(torch.uint8), theirs.arange(256).to(theirs.uint8)
    np.testing.assert_array_equal(x.view(d).float().numpy(), y.view(e).float().numpy())
    ours, info = torch.finfo(d), theirs.finfo(e)
    assert (ours.max, ours.min, ours.tiny, ours.bits, ours.resolution) == (info.max, info.min, info.tiny, info.bits, info.resolution)
    assert (d.is_floating_point, d.is_signed, d.itemsize, repr(d)) == (e.is_floating_point, e.is_signed, e.itemsize, repr(e))


def test_they_are_stored_and_moved():
    x = torch.tensor([[1.5, -500.0], [0.1, 3e-3]])
    f = x.to(torch.float8_e4m3fn)
    for _ in range(3):
        assert repr(f) == ("tensor([[ 1.5000e+00, -4.4800e+02],\n        [ 1.0156e-01,  3.9062e-03]], dtype=torch.float8_e4m3fn)")
        assert f.t().contiguous().float().equal(f.float().t()) and torch.cat([f, f]).shape == (4, 2)
        assert f[[1, 0]].float().equal(f.float()[[1, 0]]) and torch.where(x > 0, f, f.t()).dtype is f.dtype
        assert (f == f).all() and f[0, 1].item() == -448 and f.tolist()[0] == [1.5, -448.0]
        g = torch.zeros(2, 2, dtype=f.dtype)
        g[0] = 3.0
        g[1].copy_(x[0])
        assert g.float().tolist() == [[3.0, 3.0], [1.5, -448.0]]
    assert f.type() == "torch.Float8_e4m3fnTensor" and f.element_size() == 1 and torch.full((2,), 1.5, dtype=f.dtype).tolist() == [1.5, 1.5]
    assert torch.can_cast(f.dtype, torch.float32) and f.is_floating_point()


def test_nothing_is_computed_with_them():
    f = torch.ones(2, 2).to(torch.float8_e5m2)
    for call in (lambda: f + f, lambda: f * 2, lambda: -f, lambda: f.sum(), lambda: f.max(), lambda: f @ f, lambda: f.relu()):
        with pytest.raises(NotImplementedError, match="not implemented for 'Float8_e5m2'"):
            call()
    with pytest.raises(RuntimeError, match="Promotion for Float8 Types is not supported, attempted to promote Float8_e5m2 and Float"):
        f + torch.ones(2, 2)
    with pytest.raises(TypeError, match="unsupported ScalarType Float8_e5m2"):
        f.numpy()


def test_half_precision_complex_numbers_have_a_name_alone():
    d = torch.complex32
    assert torch.chalf is d and d.is_complex and not d.is_floating_point and d.itemsize == 4 and repr(d) == "torch.complex32"
    with pytest.raises(NotImplementedError, match="not implemented for 'ComplexHalf'"):
        torch.zeros(2, dtype=d).to(torch.complex64)
    with pytest.raises(NotImplementedError, match="not implemented"):
        torch.zeros(2, dtype=d) + 1


def test_they_are_saved(tmp_path):
    from rushlight.io import safetensors

    f = torch.tensor([1.5, -3.0]).to(torch.float8_e5m2)
    torch.save({"f": f}, tmp_path / "f.pt")
    assert torch.load(tmp_path / "f.pt")["f"].view(torch.uint8).equal(f.view(torch.uint8))
    safetensors.save_file({"f": f}, tmp_path / "f.safetensors")
    again = safetensors.load_file(tmp_path / "f.safetensors")["f"]
    assert again.dtype is f.dtype and again.view(torch.uint8).equal(f.view(torch.uint8))
