"""The restricted pickle machine: plain data comes back, and nothing in the file runs or changes anything."""

import io
import os
import pickle
from collections import Counter, OrderedDict, defaultdict
from pickle import UnpicklingError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.io.rebuild import read_restricted
from rushlight.io.trusted import PLAIN_GLOBALS


def no_storage(identity):
    raise UnpicklingError("no storages here")


def read(data, encoding="utf-8"):
    return read_restricted(io.BytesIO(data), no_storage, encoding)


NUMBERS = st.integers() | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False)
SCALARS = NUMBERS | st.none() | st.booleans() | st.text() | st.binary()
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.sets(st.integers())
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(PLAIN, st.integers(2, 5))
def test_plain_data_comes_back(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1, b=[2]),
        Counter("abca"),
        defaultdict(list, {"x": [1]}),
        frozenset({1, 2}),
        bytearray(b"xyz"),
        slice(1, 5, 2),
        2**100,
        -(2**70),
        {"nested": [(1, 2), {"deep": None}]},
    ],
    ids=lambda v: type(v).__name__,
)
def test_containers(value, protocol):
    back = read(pickle.dumps(value, protocol))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.float64(3.5), np.int8(-3), np.bool_(True), np.str_("né"), np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([], np.float32), np.array(["ab", "c"]),
        np.array([1, 2], ">i4"), np.array(5, np.uint16), np.array([True, False]), np.array([1 + 2j], np.complex64),
    ],
    ids=lambda v: f"{v.dtype}{v.shape}",
)  # fmt: skip
def test_numpy(value, protocol):
    back = read(pickle.dumps(value, protocol))
    assert back.dtype == pickle.loads(pickle.dumps(value)).dtype  # NumPy turns arrays to the machine's byte order
    assert np.array_equal(back, value)


def test_shared_and_recursive_references_stay_shared():
    shared = [1]
    recursive = []
    recursive.append(recursive)
    first, second, loop = read(pickle.dumps([shared, shared, recursive]))
    assert first is second
    assert loop[0] is loop


class Runs:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("touch {marker}",), "system"),
        (exec, ("open({marker!r}, 'w')",), "exec"),
        (open, ("{marker}", "w"), "open"),
        (getattr, (dict, "fromkeys"), "getattr"),
        (__import__, ("os",), "__import__"),
        (np.load, ("{marker}",), "load"),
    ],
)
def test_functions_are_refused_by_name(tmp_path, function, args, name):
    marker = tmp_path / "marker"
    args = tuple(a.format(marker=str(marker)) if isinstance(a, str) else a for a in args)
    with pytest.raises(UnpicklingError, match=rf"GLOBAL \S*{name} was not an allowed global"):
        read(pickle.dumps(Runs(function, *args)))
    assert not marker.exists()


def attribute_attack(target):
    """GLOBAL target, then BUILD with (None, {"injected": 1}): what the standard unpickler turns into setattr."""
    module, name = target.rsplit(".", 1)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"N}X\x08\x00\x00\x00injectedK\x01s\x86b."


@pytest.mark.parametrize(
    "target",
    ["collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.nn.parameter.Parameter", "torch.float32"],
)
def test_classes_and_functions_take_no_attributes(target):
    with pytest.raises(UnpicklingError, match="takes no state"):
        read(attribute_attack(target))


@pytest.mark.parametrize(
    "name", sorted(name for name, entry in PLAIN_GLOBALS.items() if name.startswith("builtins.") and "set" not in name)
)
def test_builtin_types_cannot_be_made_huge(name):
    module, kind = name.rsplit(".", 1)
    data = b"\x80\x02c" + f"{module}\n{kind}\n".encode() + b"\x8a\x08" + (10**15).to_bytes(8, "little") + b"\x85R."
    if kind in ("complex", "slice"):
        assert read(data) in (complex(10**15), slice(10**15))
    else:
        with pytest.raises(UnpicklingError):
            read(data)


@pytest.mark.parametrize(
    "array",
    [np.array([{}], object), np.zeros(2, [("a", int)]), np.array(["2020"], "M8[Y]")],
    ids=["object", "record", "date"],
)
def test_arrays_of_other_than_plain_data_are_refused(array):
    with pytest.raises(UnpicklingError):
        read(pickle.dumps(array))


def test_array_with_a_wrong_length_is_refused():
    data = pickle.dumps(np.arange(4, dtype=np.uint8), 2)
    damaged = data.replace(b"K\x04\x85", b"K\x7f\x85", 1)
    assert damaged != data
    with pytest.raises(UnpicklingError, match="damaged"):
        read(damaged)


@pytest.mark.parametrize("text", ["O8", "M8[s]", "V4", "i4,f8", "a5", "f8x", "U99999999", "object"])
def test_other_dtypes_are_refused(text):
    data = b"\x80\x02cnumpy\ndtype\nX" + len(text).to_bytes(4, "little") + text.encode() + b"\x89\x88\x87R."
    with pytest.raises(UnpicklingError, match="not trusted"):
        read(data)


SAMPLE = pickle.dumps({"a": [1, 2.5, "text", (None, True)], "b": np.arange(3), "c": OrderedDict(x=1), "d": {1, 2}}, 2)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), st.integers(0, len(SAMPLE)))
def test_damaged_pickles_give_an_exception_or_data(position, byte, cut):
    damaged = bytearray(SAMPLE)
    damaged[position] = byte
    for data in (bytes(damaged), SAMPLE[:cut] + SAMPLE[cut + 1 :], SAMPLE[:cut]):
        try:
            read(data)
        except (UnpicklingError, EOFError):
            pass
