"""Memory that is handed to another library and back stays where it is."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rushlight
from rushlight.utils import dlpack


@given(shape=st.lists(st.integers(0, 4), max_size=3), dtype=st.sampled_from(["float32", "float64", "int64", "uint8", "bool", "complex64"]),
       turned=st.booleans(), capsule=st.booleans())
def test_a_tensor_of_another_librarys_memory_is_that_memory(shape, dtype, turned, capsule):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    array = array.T if turned else array
    tensor = rushlight.from_dlpack(array.__dlpack__() if capsule else array)
    assert tensor.shape == array.shape and tensor.numpy().dtype == array.dtype
    assert (tensor.numpy() == array).all()
    tensor.fill_(1)
    assert (array == 1).all()


def test_numpy_takes_a_tensors_memory():
    tensor = rushlight.arange(6.0).reshape(2, 3).t()
    array = np.from_dlpack(tensor)
    tensor[0, 1] = 9.0
    assert array.strides == (4, 12) and array[0, 1] == 9.0
    assert tensor.__dlpack_device__() == (dlpack.DLDeviceType.kDLCPU, 0) == (1, 0)
    copy = rushlight.from_dlpack(tensor, copy=True)
    copy.zero_()
    assert array[0, 1] == 9.0


def test_pytorch_and_rushlight_share_memory():
    torch = pytest.importorskip("torch")
    theirs = torch.zeros(3)
    ours = rushlight.from_dlpack(theirs)
    ours[1] = 5.0
    assert theirs.tolist() == ours.tolist() == [0.0, 5.0, 0.0]
    back = torch.from_dlpack(ours)
    back[0] = 2.0
    assert ours.tolist() == theirs.tolist() == [2.0, 5.0, 0.0]


def test_what_cannot_be_handed_over():
    with pytest.raises(BufferError, match="require gradient"):
        rushlight.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="bfloat16"):
        dlpack.to_dlpack(rushlight.ones(2, dtype=rushlight.bfloat16))
    with pytest.raises(RuntimeError, match="invalid capsule"):
        rushlight.from_dlpack(3)
    capsule = dlpack.to_dlpack(rushlight.ones(2))
    rushlight.from_dlpack(capsule)
    with pytest.raises(RuntimeError, match="once"):
        rushlight.from_dlpack(capsule)
    fixed = np.ones(2)
    fixed.flags.writeable = False
    with pytest.raises(BufferError):
        rushlight.from_dlpack(fixed)
    with pytest.raises(BufferError, match="cuda"):
        rushlight.from_dlpack(np.ones(2), device="cuda")
