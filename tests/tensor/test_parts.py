"""Elements and parts of ready memory are read and written straight away, and mean what recording them would."""
from __future__ import annotations

import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import rushlight as torch
from rushlight.record import counters, flush, local

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
DTYPES = (np.float32, np.float64, np.int64, np.int32, np.bool_, np.float16, np.uint8)


@pytest.fixture(autouse=True)
def nothing_pending():
    flush()


def programs(call):
    """How many programs a call runs."""
    before = counters.programs_run
    call()
    return counters.programs_run - before


def keys(draw, shape, elements):
    """An index of numbers, or of numbers and slices."""
    key = []
    for n in shape[:draw(st.integers(len(shape) if elements else 0, len(shape)))]:
        if n and (elements or draw(st.booleans())):
            key.append(draw(st.integers(-n, n - 1)))
        else:
            key.append(draw(st.slices(n).filter(lambda s: s.step is None or s.step > 0)))
    if not elements and draw(st.booleans()):
        key.insert(draw(st.integers(0, len(key))), ...)
        key = key[:key.index(...) + 1] + key[key.index(...) + 1:][:max(0, len(shape) - key.index(...))]
    return tuple(key) if len(key) != 1 or draw(st.booleans()) else key[0]


def fits(array, key):
    try:
        array[key]
    except IndexError:
        return False
    return True


@given(st.data(), SHAPES, st.sampled_from(DTYPES), st.booleans())
def test_parts_lie_where_numpy_has_them(data, shape, dtype, transposed):
    array = (np.arange(np.prod(shape)) % 100).reshape(shape).astype(dtype)
    x = torch.tensor(array.copy())
    if transposed:
        array, x = array.T, x.permute(*reversed(range(len(shape))))
    flush()
    for _ in range(3):  # a part of a part of a part
        key = keys(data.draw, array.shape, False)
        if not fits(array, key):
            with pytest.raises(IndexError):
                x[key]
            return
        array, x = np.asarray(array[key]), x[key]
        assert tuple(x.shape) == array.shape and np.array_equal(x.numpy(), array)
        if array.size:
            assert x.stride() == tuple(s // array.itemsize for s in array.strides)
            assert x.numpy().__array_interface__["data"][0] - x.untyped_storage().data_ptr() == x.storage_offset() * array.itemsize
        if not array.shape:
            return


@given(st.data(), SHAPES, st.sampled_from(DTYPES))
def test_elements_are_written_where_numpy_writes_them(data, shape, dtype):
    array = np.zeros(shape, dtype)
    x = torch.tensor(array.copy())
    views = [(x, array), (x[0], array[0:1].reshape(array.shape[1:]))]
    for _ in range(6):
        t, a = data.draw(st.sampled_from(views))
        if not a.shape:
            continue
        key = keys(data.draw, a.shape, True)
        number = data.draw(st.sampled_from([True, False] if dtype is np.bool_ else [0, 1, 77] if np.dtype(dtype).kind in "iu"
                                           else [0.0, 1.5, -3, 2.0**40, float("inf"), float("nan")]))
        if dtype is np.float16 and abs(number) > 60000:
            number = 1.0
        a[key] = number
        t[key] = torch.tensor(number, dtype=x.dtype) if data.draw(st.booleans()) else number
        for t, a in views:
            assert np.array_equal(t.numpy(), a, equal_nan=np.dtype(dtype).kind == "f")


def test_a_loop_over_elements_runs_no_program():
    x, y = torch.tensor(np.arange(12.0).reshape(3, 4)), torch.zeros(3, 4, dtype=torch.float64)
    y[0, 0].item()

    def loop():
        for i in range(3):
            for j in range(4):
                y[i, j] = x[i][j].item() + float(x[-1, j])
                y[i][j] = y[i, j]
    assert programs(loop) == 0
    assert np.array_equal(y.numpy(), x.numpy() + x.numpy()[-1])
    with pytest.raises(IndexError, match="index 4 is out of bounds for dimension 1 with size 4"):
        x[0, 4]
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 3"):
        y[3, 0] = 1.0


def test_what_is_pending_sees_the_content_of_its_time():
    x = torch.tensor([1.0, 2.0])
    z = x * 2
    x[0] = 9.0
    assert z.tolist() == [2.0, 4.0] and x.tolist() == [9.0, 2.0]
    z = x[1:] * 2  # reads a part
    x[1] = 7.0
    assert z.tolist() == [4.0] and x.tolist() == [9.0, 7.0]


def test_versions_count_and_saved_tensors_are_guarded():
    x, w = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0], requires_grad=True)
    loss = (x * w).sum()
    assert loss.item() == 11.0
    before = x._version
    x[1] = 5.0
    assert x._version == before + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    part = x[1:]
    part[0] = 6.0
    assert x._version == part._version == before + 2 and x.tolist() == [1.0, 6.0]


def test_leaves_that_want_gradients_are_written_without_grad_mode_only():
    w = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        w[0] = 1.0
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        w[0, 0] = 1.0
    with torch.no_grad():
        w[0, 0] = 5.0
        w[1][0] = 6.0
    assert w.tolist() == [[5.0, 1.0], [6.0, 1.0]] and w[0, 0].grad_fn is not None
    (w[0, 0] * w[1, 0]).backward()
    assert w.grad.tolist() == [[6.0, 0.0], [5.0, 0.0]]
    y = torch.zeros(2)
    y[0] = w[0, 0]  # a gradient goes through
    y[0].backward()
    assert w.grad.tolist() == [[7.0, 0.0], [5.0, 0.0]]


def test_memory_shared_with_numpy_is_written_at_once():
    a = np.zeros(3, np.float32)
    x = torch.from_numpy(a)
    x[1] = 2.0
    assert a.tolist() == [0.0, 2.0, 0.0]
    a[2] = 3.0
    assert x[2].item() == 3.0


def test_packed_weights_are_forgotten():
    layer, x = torch.nn.Linear(64, 64, bias=False), torch.ones(40, 64)
    with torch.no_grad():
        for _ in range(4):
            before = layer(x)[0, 5].item()
        layer.weight[5, 7] = layer.weight[5, 7].item() + 2.0
        assert layer(x)[0, 5].item() == pytest.approx(before + 2.0, abs=1e-4)


def test_numbers_that_do_not_fit_are_refused_as_ever():
    x = torch.zeros(2, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="cannot be converted to type"):
        x[0] = 300
    y = torch.zeros(2, dtype=torch.int32)
    with pytest.raises(RuntimeError, match="cannot be converted to type"):
        y[0] = 1 << 40
    y[0] = 2.7
    assert y.tolist() == [2, 0]


@given(st.data(), SHAPES, st.sampled_from((np.float32, np.float64, np.int64, np.int32, np.bool_)))
def test_a_constant_that_is_written_number_by_number(data, shape, dtype):
    """What read the constant, or a view of it, before keeps what it read; what comes after sees every write."""
    number = data.draw(st.sampled_from([0, 1]))
    x = torch.full(shape, number, dtype=getattr(torch, np.dtype(dtype).name))
    want = np.full(shape, number, dtype)
    view = x.reshape(-1)
    before = x + x if data.draw(st.booleans()) else None
    for k in range(data.draw(st.integers(1, 4))):
        key = tuple(data.draw(st.integers(-n, n - 1)) for n in shape)
        new = bool(k % 2) if dtype is np.bool_ else k + 3
        if data.draw(st.booleans()):
            x[key] = new
            want[key] = new
        else:
            view[-1] = new
            want.reshape(-1)[-1] = new
        after = x + 0 if data.draw(st.booleans()) else None
        if after is not None:
            np.testing.assert_array_equal(after.numpy(), want + 0)
    np.testing.assert_array_equal(x.numpy(), want)
    np.testing.assert_array_equal(view.numpy(), want.reshape(-1))
    if before is not None:
        np.testing.assert_array_equal(before.numpy(), np.full(shape, number, dtype) + np.full(shape, number, dtype))


def test_letters_of_a_word_are_data():
    def one_hot():
        word = torch.zeros(5, 1, 7)
        for i in range(5):
            word[i][0][(3 * i) % 7] = 1
        return word
    weight = torch.ones(7, 2, requires_grad=True)
    assert programs(one_hot) == 0
    for _ in range(3):
        word = one_hot()
        assert word._version == 5 and word.sum().item() == 5
        (word @ weight).sum().backward()
    np.testing.assert_array_equal(weight.grad.numpy()[:, 0], 3 * word.numpy().sum((0, 1)))


def test_a_constant_that_wants_gradients_is_refused_as_before():
    x = torch.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 1.0
    with torch.no_grad():
        x[0] = 1.0
    y = torch.zeros(3)
    y[0] = torch.ones((), requires_grad=True) * 2
    y[1] = 5.0
    y.sum().backward()
    assert x.tolist() == [1, 0, 0] and y.tolist() == [2, 5, 0]


def test_all_positions_of_a_dimension_are_views():
    import torch as theirs

    for make in (lambda t: t.arange(24.0).reshape(2, 3, 4), lambda t: t.arange(24.0).reshape(2, 3, 4).transpose(0, 2),
                 lambda t: t.arange(48.0).reshape(4, 3, 4)[1:3, :, ::2], lambda t: t.arange(6)):
        for dim in range(make(theirs).dim()):
            x, y = make(torch), make(theirs)
            for a, b in zip(x.unbind(dim), y.unbind(dim), strict=True):
                assert a.tolist() == b.tolist() and a.stride() == b.stride() and a.storage_offset() == b.storage_offset()
                assert a._base is not None and a.data_ptr() - x.untyped_storage().data_ptr() == a.storage_offset() * a.element_size()
                a.mul_(2), b.mul_(2)
            assert x.tolist() == y.tolist() and x._version == y._version
    leaf = torch.arange(3.0).requires_grad_()
    sum(k * x for k, x in enumerate(leaf)).backward()
    assert leaf.grad.tolist() == [0.0, 1.0, 2.0]


@given(st.data(), SHAPES, st.booleans(), st.booleans())
def test_pieces_of_ready_memory_are_views_that_record_nothing(data, shape, transposed, tracked):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = whole = torch.tensor(array.copy())
    if transposed:
        array, x = array.T, x.permute(*reversed(range(len(shape))))
    flush()
    dim = data.draw(st.integers(-array.ndim, array.ndim - 1))
    n = array.shape[dim]
    size = data.draw(st.integers(1, n + 1))
    cut = data.draw(st.integers(1, n))
    cuts = np.split(array, range(size, n, size), dim)
    wanted = [(x.split(size, dim), cuts), (torch.split(x, size, dim=dim), cuts),
              (x.chunk(size, dim), np.split(array, range(-(-n // size), n, -(-n // size)), dim)),
              (x.unbind(dim), [a.squeeze(dim) for a in np.split(array, n, dim)])]
    if cut < n:
        wanted.append((x.split([cut, n - cut], dim), np.split(array, [cut], dim)))
    assert programs(flush) == 0
    for pieces, arrays in wanted:
        assert type(pieces) is tuple and len(pieces) == len(arrays)
        for piece, part in zip(pieces, arrays):
            assert piece.stride() == tuple(s // 4 for s in part.strides) or 1 in part.shape
            assert np.array_equal(piece.numpy(), part) and piece._base is whole
    x.mul_(2)
    assert all(np.array_equal(p.numpy(), 2 * a) for pieces, arrays in wanted for p, a in zip(pieces, arrays))
    if tracked:
        with pytest.raises(RuntimeError, match="multiple views"):
            wanted[0][0][0].mul_(torch.ones((), requires_grad=True))


@pytest.mark.parametrize("call, error", [
    (lambda x: x.split(-1), RuntimeError), (lambda x: x.split([1, 2]), RuntimeError), (lambda x: x.split((2.0, 2.0)), TypeError),
    (lambda x: x.chunk(0), RuntimeError), (lambda x: x.chunk(2, 2), IndexError), (lambda x: x.unbind(-3), IndexError),
    (lambda x: x.split_with_sizes(2), TypeError), (lambda x: x[4], IndexError), (lambda x: x[0, 0, 0], IndexError)])
def test_what_does_not_fit_is_refused_also_of_ready_memory(call, error):
    x = torch.zeros(4, 4)
    flush()
    x.split((2, 2))  # equal numbers of another type are no sizes
    for _ in range(2):
        with pytest.raises(error):
            call(x)


def test_what_is_remembered_of_parts_does_not_depend_on_positions():
    x = torch.tensor(np.arange(10_000, dtype=np.float32).reshape(100, 100))
    for i in range(100):
        row, column, stretch = x[i], x[:, i], x[i, i - 100:]
        assert row[0].item() == 100 * i and column[0].item() == i and stretch[0].item() == 101 * i
        assert torch.equal(x[i:i + 1], row.view(1, 100))
    cuts = x._value.meta.cuts
    assert len(cuts.slices) + len(cuts.named) < 110 and x[5]._value.meta is x[95]._value.meta  # x[i, i - 100:] has another bound each time


def test_an_index_that_equals_a_known_one_is_not_that_one():
    x = torch.tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
    assert x[0:2, 1].tolist() == [1.0, 5.0] and x[0:2].tolist() == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    for key in (slice(0.0, 2), slice(0, 2.0), (slice(0, 2.0), 1), (slice(0, 2), 1.0)):
        with pytest.raises((TypeError, IndexError)):
            x[key]
    assert x[range(2), 1].tolist() == [1.0, 5.0] and x[:, True].shape == (3, 1, 4)


VIEWS = {
    "unsqueeze(0)": (lambda x: x.unsqueeze(0), lambda a: a[None]),
    "unsqueeze(-1)": (lambda x: x.unsqueeze(-1), lambda a: a[..., None]),
    "view(1, -1)": (lambda x: x.view(1, -1), lambda a: a.reshape(1, -1)),
    "view((3, 2))": (lambda x: x.view((3, 2)), lambda a: a.reshape(3, 2)),
    "reshape(2, 3)": (lambda x: x.reshape(2, 3), lambda a: a.reshape(2, 3)),
    "[None]": (lambda x: x[None], lambda a: a[None]),
    "[..., None]": (lambda x: x[..., None], lambda a: a[..., None]),
    "a row": (lambda x: x.view(2, 3)[1].unsqueeze(0), lambda a: a[3:][None])}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_what_numpy_shows_record_nothing(name):
    ours, numpys = VIEWS[name]
    array = np.arange(6, dtype=np.float32)
    before = local.trace.node
    for _ in range(4):
        x = torch.from_numpy(array)
        y, b = ours(x), numpys(array)
        array += 1.0  # seen by what is there already
        assert local.trace.node is before and y._base is x and y.shape == b.shape and y.stride() == ours(torch.arange(6.0)).stride()
        assert np.array_equal(y.numpy(), b) and y.data_ptr() == b.__array_interface__["data"][0]
        flush()
        y.zero_()
        assert not array[3:].any()


@pytest.mark.parametrize("call, error", [
    (lambda x: x.unsqueeze(5), IndexError), (lambda x: x.view(4, 2), RuntimeError), (lambda x: x.view(6.0), TypeError),
    (lambda x: x.unsqueeze(0.0), TypeError), (lambda x: x.reshape(-1, 4), RuntimeError)])
def test_views_of_what_numpy_shows_refuse_what_others_do(call, error):
    x = torch.from_numpy(np.arange(6, dtype=np.float32))
    assert x.view(6).shape == (6,) and x.unsqueeze(0).shape == (1, 6)
    for _ in range(2):
        with pytest.raises(error):
            call(x)


def test_views_of_what_numpy_shows_have_a_history_where_it_wants_gradients():
    x = torch.from_numpy(np.arange(6, dtype=np.float32))
    for _ in range(3):
        x.requires_grad_()
        x.grad = None
        y = x.unsqueeze(0)
        assert y.grad_fn.name() == "UnsqueezeBackward0"
        (y * 2.0).sum().backward()
        assert x.grad.tolist() == [2.0] * 6
        x.requires_grad_(False)
        assert x.unsqueeze(0).grad_fn is None


@pytest.mark.parametrize("array", [
    np.zeros(0, np.float32), np.zeros((2, 0)), np.arange(6).reshape(2, 3).T, np.arange(6)[::2], np.zeros(3, np.complex64),
    np.broadcast_to(np.arange(3.0), (2, 3)), np.frombuffer(b"12345678", np.float64)], ids=str)
def test_arrays_lend_the_memory_in_which_they_lie(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only
        x = torch.from_numpy(array)
    assert x.shape == array.shape and (not array.size or x.data_ptr() == array.__array_interface__["data"][0])
    assert np.array_equal(x.numpy(), array)
