"""Storages of files, sizes that are given as tensors, running combinations."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch


def test_sizes_may_be_tensors_and_do_no_harm_to_what_is_recorded_later():
    x, two, three = torch.arange(24.0), torch.tensor(2), torch.tensor(3)
    assert x.as_strided((three, two), (three, torch.tensor(1)), two).tolist() == [[2, 3], [5, 6], [8, 9]]
    assert type(x.as_strided((three,), (two,)).shape[0]) is int and type(x.unfold(0, three, two).shape[1]) is int
    assert torch.nn.functional.interpolate(x.view(1, 1, 24), size=three).tolist() == [[[0, 8, 16]]]
    assert x.new_ones(size=(two, 3)).shape == x.new_zeros(size=(2, 3)).shape == x.new_empty(size=(2, 3)).shape == (2, 3)
    with pytest.raises(TypeError):
        x.as_strided((2.5,), (1,))


def test_storages_of_files_and_parts_of_storages(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(32)))
    storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=32)
    part = torch.asarray(storage[8:16], dtype=torch.uint8)
    assert part.tolist() == list(range(8, 16)) and storage.nbytes() == 32 and storage.filename is None and len(storage[30:40]) == 2
    assert part.view(dtype=torch.int32).tolist() == np.arange(8, 16, dtype=np.uint8).view(np.int32).tolist()
    storage[8] = 99
    storage[10:12] = 7
    assert part.tolist()[:4] == [99, 9, 7, 7] and storage[9] == 9 and path.read_bytes() == bytes(range(32))
    shared = torch.UntypedStorage.from_file(str(path), shared=True, nbytes=40)
    shared[39] = 5
    assert shared.filename == str(path)
    del shared
    assert path.read_bytes()[-1] == 5 and len(path.read_bytes()) == 40
    with pytest.raises(RuntimeError, match="unable to map 50 bytes"):
        torch.UntypedStorage.from_file(str(path), nbytes=50)
    with pytest.raises(RuntimeError, match="only a step of 1"):
        storage[0:8:2]
    fresh = torch.UntypedStorage(4)
    assert fresh.nbytes() == 4 and storage.clone()[8] == 99 and storage.untyped() is storage


def test_running_combinations():
    from rushlight._higher_order_ops import associative_scan

    for n in (1, 2, 3, 6, 7):
        x, b = torch.randn(2, n, 3, dtype=torch.float64, requires_grad=True), torch.rand(2, n, 3, dtype=torch.float64)
        _, y = associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (b, x), 1, combine_mode="generic")
        state, states = 0, []
        for k in range(n):
            state = b[:, k] * state + x[:, k]
            states.append(state)
        torch.testing.assert_close(y, torch.stack(states, 1))
        assert torch.autograd.gradcheck(lambda x: associative_scan(torch.mul, x, -2, True, "generic"), x)
    torch.testing.assert_close(associative_scan(torch.add, x, 1, True, "generic"), x.flip(1).cumsum(1).flip(1))
    with pytest.raises(IndexError, match="Dimension out of range"):
        associative_scan(torch.add, x, 5, combine_mode="generic")
    for args in ((1, x, 0), (torch.add, x, 0, False, "other"), (torch.add, x, 0),
                 (torch.add, x[:, :0], 1, False, "generic"), (torch.add, [], 0)):
        with pytest.raises(ValueError):
            associative_scan(*args)
