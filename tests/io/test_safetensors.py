"""The safetensors format, against bytes put together by hand from its specification."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rushlight
from rushlight.io import safetensors
from rushlight.io.safetensors import SafetensorError, load_file, save_file


def file_of(entries, data=b""):
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_reads_a_file_written_by_hand(tmp_path):
    path = tmp_path / "a.safetensors"
    numbers = np.array([1.5, -2.0], np.float32)
    path.write_bytes(file_of({"x": entry(), "__metadata__": {"by": "hand"}}, numbers.tobytes()))
    tensors = load_file(path)
    assert list(tensors) == ["x"]
    assert tensors["x"].tolist() == [1.5, -2.0]
    assert tensors["x"].dtype == rushlight.float32
    assert safetensors.load_metadata(path) == {"by": "hand"}


def test_writes_what_the_specification_says(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"b": rushlight.arange(3), "a": rushlight.ones(2, 2).T}, path, {"k": "v"})
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert data[8:9] == b"{"
    assert header["__metadata__"] == {"k": "v"}
    for name, array in (("b", np.arange(3)), ("a", np.ones((2, 2), np.float32))):
        begin, end = header[name]["data_offsets"]
        assert header[name]["shape"] == list(array.shape)
        assert data[8 + length + begin : 8 + length + end] == array.tobytes()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64",
                                   "float16", "bfloat16", "float32", "float64", "complex64"])  # fmt: skip
def test_every_dtype(tmp_path, dtype):
    tensor = rushlight.arange(1, 7).reshape(2, 3).to(getattr(rushlight, dtype))
    save_file({"t": tensor, "none": tensor[:0], "scalar": tensor[1, 1].clone()}, tmp_path / "x")
    back = load_file(tmp_path / "x")
    assert back["t"].dtype == tensor.dtype
    assert back["t"].tolist() == tensor.tolist()
    assert tuple(back["none"].shape) == (0, 3)
    assert back["scalar"].tolist() == tensor[1, 1].tolist()


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(st.sampled_from([np.float32, np.int16, np.bool_]), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
def test_round_trip_in_memory(array):
    back = safetensors.load(safetensors.save({"x": rushlight.from_numpy(array.copy())}))["x"].numpy()
    assert back.dtype == array.dtype
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")


GOOD = b"\0" * 8
DAMAGED = {
    "HeaderTooSmall": b"\x01\x02",
    "HeaderTooLarge": struct.pack("<Q", 1 << 40) + b"{}",
    "InvalidHeaderLength": struct.pack("<Q", 50) + b"{}",
    "InvalidHeader: Expecting": struct.pack("<Q", 2) + b"{]",
    "not a JSON object": file_of([1]),
    "occurs twice": struct.pack("<Q", 15) + b'{"a":1,"a":2}  ',
    "__metadata__ does not map": file_of({"__metadata__": {"a": 1}}),
    "lacks dtype": file_of({"x": {"dtype": "F32"}}),
    "natural number": file_of({"x": entry(shape=(-2,))}, GOOD),
    "has dtype 'F7'": file_of({"x": entry("F7")}, GOOD),
    "TensorInvalidInfo": file_of({"x": entry(offsets=(0, 4))}, GOOD),
    "InvalidOffset": file_of({"x": entry(), "y": entry(offsets=(4, 12))}, GOOD),
    "begins at 8, 0 expected": file_of({"x": entry(offsets=(8, 16))}, GOOD + GOOD),
    "MetadataIncompleteBuffer": file_of({"x": entry()}, GOOD[:-1]),
    "16 found": file_of({"x": entry()}, GOOD + GOOD),
}


@pytest.mark.parametrize("message", DAMAGED)
def test_damaged_files_say_what_is_wrong(tmp_path, message):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(DAMAGED[message])
    with pytest.raises(SafetensorError, match=message) as error:
        load_file(path)
    assert "damaged.safetensors" in str(error.value)


def test_wrong_arguments(tmp_path):
    tensor = rushlight.ones(4)
    with pytest.raises(RuntimeError, match="'a' and 'b' share memory"):
        save_file({"a": tensor, "b": tensor[:2]}, tmp_path / "x")
    with pytest.raises(ValueError, match="'a' is list"):
        save_file({"a": [1]}, tmp_path / "x")
    with pytest.raises(ValueError, match="text to text"):
        save_file({"a": tensor}, tmp_path / "x", {"k": 1})
    with pytest.raises(ValueError, match="complex128"):
        save_file({"a": tensor.to(rushlight.complex128)}, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
