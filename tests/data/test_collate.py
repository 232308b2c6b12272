"""Putting samples together, against PyTorch."""

from collections import OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple

import numpy as np
import pytest
from oracle import assert_same

import rushlight as torch
from rushlight.utils.data import default_collate, default_convert
from rushlight.utils.data._utils.collate import collate, default_collate_fn_map

Point = namedtuple("Point", "x y")


class MyList(list):
    pass


class MyTuple(tuple):
    __slots__ = ()


BATCHES = {
    "ints": lambda t: [1, 2],
    "floats": lambda t: [1.0, 2.0],
    "bools": lambda t: [True, False],
    "int then float": lambda t: [1, 2.5],
    "float then int": lambda t: [1.5, 2],
    "text": lambda t: ["a", "b"],
    "text in a tuple": lambda t: ("ab", "c"),
    "bytes": lambda t: [b"a", b"b"],
    "NumPy text": lambda t: [np.str_("a"), np.str_("b")],
    "tuples": lambda t: [(1, 2), (3, 4)],
    "lists": lambda t: [[1, 2], [3, 4]],
    "mixed columns": lambda t: [[1, "a"], [3, "b"]],
    "dicts": lambda t: [{"a": 1}, {"a": 2}],
    "ordered dicts": lambda t: [OrderedDict(a=1), OrderedDict(a=2)],
    "default dicts": lambda t: [defaultdict(list, a=1), defaultdict(list, a=3)],
    "user dicts": lambda t: [UserDict(a=1), UserDict(a=2)],
    "more keys": lambda t: [{"a": 1}, {"a": 2, "b": 3}],
    "fewer keys": lambda t: [{"a": 1}, {"b": 2}],
    "named tuples": lambda t: [Point(1, 2.0), Point(3, 4.0)],
    "own lists": lambda t: [MyList([1, 2]), MyList([3, 4])],
    "own tuples": lambda t: [MyTuple([1, 2]), MyTuple([3, 4])],
    "deques": lambda t: [deque([1, 2]), deque([3, 4])],
    "user lists": lambda t: [UserList([1, 2]), UserList([3, 4])],
    "ranges": lambda t: [range(3), range(3)],
    "empty lists": lambda t: [[], []],
    "empty tuples": lambda t: [(), ()],
    "nested": lambda t: [{"p": Point(t.ones(2), ["a", 1])}, {"p": Point(t.zeros(2), ["b", 2])}],
    "bytearrays": lambda t: [bytearray(b"ab"), bytearray(b"cd")],
    "tensors": lambda t: [t.tensor([1, 2]), t.tensor([3, 4])],
    "one tensor": lambda t: [t.tensor([1, 2])],
    "float tensors": lambda t: [t.arange(6).reshape(2, 3).float(), t.ones(2, 3)],
    "bfloat16 tensors": lambda t: [t.tensor([1, 2], dtype=t.bfloat16)] * 2,
    "bool tensors": lambda t: [t.tensor([True, False])] * 2,
    "0-d tensors": lambda t: [t.tensor(1), t.tensor(2)],
    "empty tensors": lambda t: [t.zeros(0, 3), t.zeros(0, 3)],
    "transposed tensors": lambda t: [t.arange(6).reshape(2, 3).T, t.arange(6).reshape(3, 2)],
    "expanded tensors": lambda t: [t.tensor([1.0]).expand(3), t.arange(3).float()],
    "promoted tensors": lambda t: [t.tensor([1, 2]), t.tensor([3.0, 4])],
    "ragged tensors": lambda t: [t.tensor([1, 2]), t.tensor([3])],
    "tensor then number": lambda t: [t.tensor(1), 2],
    "images and labels": lambda t: [(t.ones(1, 2, 2), 3), (t.zeros(1, 2, 2), 4)],
    "arrays": lambda t: [np.array([1, 2]), np.array([3, 4])],
    "0-d arrays": lambda t: [np.array(1), np.array(2)],
    "promoted arrays": lambda t: [np.array([1, 2], np.uint8), np.array([3.0, 4.0])],
    "promoted by tensor rules": lambda t: [np.array([1, 2], np.int64), np.array([3.0, 4.0], np.float32)],
    "strided arrays": lambda t: [np.arange(6)[::2], np.arange(6)[::-2].copy()],
    "ragged arrays": lambda t: [np.array([1, 2]), np.array([3])],
    "foreign byte order": lambda t: [np.array([1, 2], ">i4")] * 2,
    "text arrays": lambda t: [np.array(["a"]), np.array(["b"])],
    "object arrays": lambda t: [np.array([None]), np.array([None])],
    "float32 scalars": lambda t: [np.float32(1), np.float32(2)],
    "float64 scalars": lambda t: [np.float64(1), np.float64(2)],
    "float16 scalars": lambda t: [np.float16(1)] * 2,
    "int8 scalars": lambda t: [np.int8(1)] * 2,
    "bool scalars": lambda t: [np.bool_(True), np.bool_(False)],
    "dates": lambda t: [np.datetime64("2020-01-01")] * 2,
    "nothing": lambda t: [],
    "None": lambda t: [None, None],
    "objects": lambda t: [object(), object()],
    "sets": lambda t: [{1, 2}, {3, 4}],
    "complex": lambda t: [1 + 2j, 2j],
    "ragged lists": lambda t: [[1, 2], [3]],
    "list then number": lambda t: [[1], 2],
}


@pytest.mark.parametrize("name", BATCHES)
def test_collate(name):
    assert_same(lambda t: t.utils.data.default_collate(BATCHES[name](t)))


SAMPLES = {
    **{name: BATCHES[name] for name in ("ints", "text", "bytes", "nested", "user lists", "deques", "ranges", "None")},
    "scalar": lambda t: 1.5,
    "array": lambda t: np.arange(3),
    "0-d array": lambda t: np.array(2),
    "scalar array": lambda t: np.float32(1),
    "text array": lambda t: [np.array(["a"]).tolist(), 1],
    "tuple": lambda t: (np.arange(2), "x"),
    "own tuple": lambda t: MyTuple([np.arange(2)]),
    "named tuple": lambda t: Point(np.arange(2), 2),
    "default dict": lambda t: defaultdict(list, a=np.arange(2)),
    "tensor": lambda t: t.arange(3),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_convert(name):
    assert_same(lambda t: t.utils.data.default_convert(SAMPLES[name](t)))


def test_convert_leaves_arrays_without_numbers_alone():
    for array in (np.array(["a"]), np.array([object()])):
        assert default_convert(array) is array


def test_ragged_samples_name_both_shapes():
    with pytest.raises(RuntimeError, match=r"equal size.*\[2, 3\] at entry 0 and \[4\] at entry 1"):
        default_collate([torch.zeros(2, 3), torch.zeros(4)])
    with pytest.raises(RuntimeError, match=r"\[2\] at entry 0 and \[3\] at entry 2"):
        default_collate([np.zeros(2), np.zeros(2), np.zeros(3)])
    with pytest.raises(RuntimeError, match=r"equal size.* 2 at entry 0 and 1 at entry 1"):
        default_collate([[1, 2], [3]])


def test_unsupported_samples_name_the_type():
    with pytest.raises(
        TypeError, match=r"must contain tensors, numpy arrays, numbers, dicts or lists; found .*NoneType"
    ):
        default_collate([(1, None), (2, None)])


def test_default_dict_keeps_its_factory_and_samples_stay_whole():
    sample = defaultdict(list, a=1)
    batch = default_collate([sample, defaultdict(list, a=2)])
    assert batch.default_factory is list
    assert sample == {"a": 1}


def test_gradients_go_through():
    a, b = torch.tensor([1.0], requires_grad=True), torch.tensor([2.0], requires_grad=True)
    (default_collate([a, b]) * torch.tensor([[3.0], [4.0]])).sum().backward()
    assert a.grad.item() == 3 and b.grad.item() == 4


def test_batch_does_not_share_memory_with_samples():
    sample = torch.ones(2)
    batch = default_collate([sample, torch.zeros(2)])
    sample += 1
    assert batch.tolist() == [[1, 1], [0, 0]]


def test_own_types():
    class Celsius:
        def __init__(self, degrees):
            self.degrees = degrees

    def collate_celsius(batch, *, collate_fn_map=None):
        return torch.tensor([c.degrees for c in batch])

    batch = collate(
        [(Celsius(1), 1), (Celsius(2), 2)], collate_fn_map={Celsius: collate_celsius, **default_collate_fn_map}
    )
    assert [column.tolist() for column in batch] == [[1, 2], [1, 2]]
