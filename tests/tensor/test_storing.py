"""What is written to ready memory by the host means what recording the write would, and runs nothing."""
from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import rushlight as torch
from rushlight.record import counters, flush

DTYPES = (np.float32, np.float64, np.int64, np.int32, np.bool_, np.float16)


@pytest.fixture(autouse=True)
def nothing_pending():
    flush()


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), st.sampled_from(DTYPES),
       st.sampled_from(["ready", "pending", "view", "turned", "itself", "number", "single"]), st.booleans())
def test_parts_are_written_as_numpy_writes_them(data, shape, dtype, kind, fresh):
    plain = np.zeros(shape, dtype)
    x = torch.zeros(shape, dtype=torch.tensor(plain).dtype)
    if not fresh:
        x = torch.tensor(plain.copy())
    other = x.view(-1)  # sees what is written
    for k in range(3):
        key = tuple([data.draw(st.one_of(st.integers(-n, n - 1), st.slices(n).filter(lambda s: s.step is None or s.step > 0)))
                     for n in shape[:data.draw(st.integers(0, len(shape)))]])
        place = plain[key] if key else plain[...]
        values = (np.arange(place.size).reshape(place.shape) + k).astype(dtype)
        if kind == "number":
            value, values = (True, True) if dtype is np.bool_ else (k + 1, k + 1)
        elif kind == "single":
            value = torch.tensor(values.reshape(-1)[:1].sum(), dtype=x.dtype)
            values = np.asarray(value)
        elif kind == "itself":
            value = x[key] if key else x[...]
            values = place.copy()
        elif kind == "turned":
            value = torch.tensor(np.array(values.T, order="C")).permute(tuple(reversed(range(values.ndim))))
        elif kind == "view":
            value = torch.tensor(np.stack([values, values]))[1]
        else:
            value = torch.tensor(values)
            flush()
            if kind == "pending":
                value = value.clone()
        plain[key] = values
        x[key] = value
        if kind not in ("number", "single", "itself"):
            assert np.array_equal(value.numpy(), values)  # what was written from is what it was
        assert np.array_equal(x.numpy(), plain) and np.array_equal(other.numpy(), plain.reshape(-1))


@pytest.mark.parametrize("given", [torch.tensor([3]), torch.tensor(3), torch.tensor([[True]]), torch.tensor([2.5], dtype=torch.float64),
                                   np.float32(1.5), np.int64(7), torch.tensor([1e300], dtype=torch.float64), torch.tensor([1, 2, 3, 4]),
                                   torch.tensor([[0.1, 1e300, 2.0, -4.0]], dtype=torch.float64), torch.tensor([[[1.5, 2.5, -3.5, 4.0]]])],
                         ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_what_is_written_is_converted_as_recorded_writes_are(given, dtype):
    """The same write into what is pending is recorded."""
    n = given.numel() if isinstance(given, torch.Tensor) else 1
    key = 1 if n > 1 else (1, 2)
    ready, pending = torch.zeros(3, 4).to(dtype), torch.zeros(300, 400).to(dtype)
    flush()
    pending = pending + pending
    ready[key] = given
    pending[(1, slice(4)) if n > 1 else key] = given
    assert ready.tolist() == pending[:3, :4].tolist()


def test_a_batch_is_padded_without_recording_a_write():
    sentences = [torch.arange(n) + 1 for n in (3, 5, 2)]
    flush()
    before = counters.programs_run
    batch, mask = torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 6)
    for k, sentence in enumerate(sentences):
        batch[k, :len(sentence)] = sentence
        mask[k, len(sentence):] = float("-inf")
    flush()
    assert counters.programs_run == before
    assert batch.tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5], [1, 2, 0, 0, 0]]
    assert torch.isinf(mask).sum(1).tolist() == [3, 1, 4]


def test_what_is_pending_sees_the_content_of_its_time():
    x, row = torch.zeros(3, 2), torch.ones(2)
    flush()
    twice = x * 2
    x[0] = row
    assert twice.tolist() == [[0.0] * 2] * 3 and x.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    thrice = row * 3
    row[:] = 5.0
    x[1] = thrice
    assert x.tolist() == [[1.0, 1.0], [3.0, 3.0], [0.0, 0.0]]


def test_gradients_flow_through_what_is_written():
    w, x, row = torch.ones(2, requires_grad=True), torch.zeros(3, 2), torch.ones(2)
    flush()
    x[0] = row
    x[1] = w * 3
    x[2] = w
    x.sum().backward()
    assert w.grad.tolist() == [4.0, 4.0]


def test_writes_count_and_saved_tensors_are_guarded():
    x, w, row = torch.tensor([[1.0, 2.0]]), torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([5.0, 6.0])
    loss = (x * w).sum()
    assert loss.item() == 11.0
    before = x._version
    x[0] = row
    assert x._version == before + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("value", [torch.ones(3), torch.ones(2, 2), 1.0])
def test_leaves_that_want_gradients_are_not_written(value):
    w = torch.zeros(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError):
        w[0] = value
    assert w.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_value_of_another_shape_is_refused_or_spread():
    x = torch.zeros(2, 3)
    x[:, 0] = torch.ones(1)
    x[1] = torch.tensor([[4.0, 5.0, 6.0]])
    assert x.tolist() == [[1.0, 0.0, 0.0], [4.0, 5.0, 6.0]]
    with pytest.raises(RuntimeError, match="shape mismatch: value tensor of shape"):
        x[0] = torch.ones(2)


@pytest.mark.parametrize("other", [lambda x: x.data, lambda x: x.view(-1), lambda x: x.detach(), lambda x: x[1]],
                         ids=["data", "view", "detach", "row"])
def test_tensors_that_share_a_constant_see_what_is_written_through_another_one(other):
    """The constant becomes memory where it is written to, and whoever held it as a constant has the new content, from the first time on."""
    def step():
        x = torch.zeros(2, 3)
        y = other(x)
        y[..., -1] = 2.0
        return x * 300, x, y

    wanted = [t.tolist() for t in step()]
    assert sum(map(sum, wanted[0])) == 300 * sum(map(sum, wanted[1])) != 0
    for _ in range(4):
        assert [t.tolist() for t in step()] == wanted


def test_a_constant_that_backward_needs_may_not_be_written_to():
    w = torch.ones(3, requires_grad=True)
    for _ in range(4):
        c = torch.zeros(3)
        loss = (w * c).sum()
        c[0] = 1.0
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
