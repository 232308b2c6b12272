"""Python numbers that keep changing become inputs of programs: nothing is built any more, and everything means what it meant."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.autograd import writing
from rushlight.ops import pointwise
from rushlight.record import counters, flush, local
from rushlight.record.flush import start_afresh
from rushlight.record.value import array_of, scalar_value
from rushlight.tensor import assigning


@pytest.fixture(autouse=True)
def nothing_pending():
    start_afresh()


def counts():
    return counters.programs_built, counters.cold_runs, local.trace.nodes


def settles(step, warm=12, more=12):
    """The results of repeated steps, the later of which build and record nothing new."""
    results = [step(k) for k in range(warm)]
    before = counts()
    results += [step(k) for k in range(warm, warm + more)]
    assert counts() == before
    return results


def array(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


READS = {
    "select": lambda x, i: x[i], "from the end": lambda x, i: x[i - 40], "column": lambda x, i: x[:, i % 6],
    "slice": lambda x, i: x[i:i + 3], "steps": lambda x, i: x[i:i + 5:2], "in a tuple": lambda x, i: x[i:i + 2, 1:],
    "two": lambda x, i: x[i, (i * 7) % 6], "of a view": lambda x, i: x.T[i % 6], "and more": lambda x, i: x[i][None][0, 2:4],
    "none": lambda x, i: x[i, None], "array index": lambda x, i: x[np.int64(i)], "iterated": lambda x, i: x[i][i % 6],
    "nothing": lambda x, i: x[i:i], "of the last": lambda x, i: x[..., i % 4:i % 4 + 2],
    "narrow": lambda x, i: x.narrow(0, i, 4) if torch.is_tensor(x) else x[i:i + 4],
    "method": lambda x, i: x.select(0, i) if torch.is_tensor(x) else x[i]}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("grad", [False, True])
def test_reading_at_changing_places(name, grad):
    read, data = READS[name], array(40, 6)

    def step(k):
        i = (k * 7) % 31
        x = torch.tensor(data, requires_grad=grad)
        out, expected = read(x * 2.0, i), read(data * 2, i)
        assert tuple(out.shape) == expected.shape and out.is_contiguous() == expected.flags.c_contiguous
        if grad:
            (out * out).sum().backward()
            want = np.zeros(240, np.float32)
            hit = np.asarray(read(np.arange(240).reshape(40, 6), i)).reshape(-1)
            want[hit] = 8 * data.reshape(-1)[hit]
            np.testing.assert_allclose(x.grad.numpy().reshape(-1), want, rtol=1e-5)
        np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-6)
    settles(step)


def test_a_parameter_read_at_changing_places():
    w = torch.tensor(array(40, 6), requires_grad=True)

    def step(k):
        w.grad = None
        (w[k % 40].exp() * w[k % 37:k % 37 + 3]).sum().backward()
        return w.grad.numpy().copy()
    got = settles(step)
    for k, g in enumerate(got):
        e = np.exp(w.detach().numpy()[k % 40])
        want = np.zeros((40, 6), np.float32)
        want[k % 37:k % 37 + 3] += e
        want[k % 40] += e * w.detach().numpy()[k % 37:k % 37 + 3].sum(0)
        np.testing.assert_allclose(g, want, rtol=1e-4)


def test_second_derivatives_of_reads_and_writes():
    def f(x, k):
        y = x * x
        z = torch.zeros(8, 3, dtype=torch.float64)
        z[k % 8] = y[(k * 3) % 5] * y[k % 3:k % 3 + 2].sum(0)
        return (z * z).sum()
    x = torch.tensor(array(5, 3).astype(np.float64), requires_grad=True)
    for k in range(8):
        assert torch.autograd.gradcheck(lambda x, k=k: f(x, k), x)
        assert torch.autograd.gradgradcheck(lambda x, k=k: f(x, k), x)


def test_actions_picked_in_one_trace():
    """Paths that differ in many places: no place sees many numbers, the line does."""
    rng, w = np.random.default_rng(3), torch.tensor(array(4, 3), requires_grad=True)
    x = torch.tensor(array(12, 4))

    def step(k):
        p = torch.log_softmax(x @ w, dim=-1)
        loss, actions, returns = torch.zeros(()), rng.integers(0, 3, 12).tolist(), rng.normal(size=12).tolist()
        for t in range(12):
            loss = loss - p[t, actions[t]] * returns[t]
        w.grad = None
        loss.backward()
        log = p.detach().numpy()
        assert loss.item() == pytest.approx(-sum(log[t, a] * r for t, (a, r) in enumerate(zip(actions, returns))), rel=1e-4, abs=1e-5)
        onehot = np.eye(3)[actions] * np.array(returns)[:, None]
        want = -x.numpy().T @ (onehot - np.exp(log) * np.array(returns)[:, None])
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-3, atol=1e-4)
    settles(step, warm=20)


def test_writing_at_changing_places():
    def step(k):
        buf, plain = torch.zeros(20, 3) + 1.0, np.ones((20, 3), np.float32)
        x = torch.ones(3)
        for j in range(4):
            i = (k * 5 + j * 3) % 18
            buf[i] = x * float(j)
            plain[i] = j
            buf[i:i + 2, 1] += 1.0
            plain[i:i + 2, 1] += 1.0
        np.testing.assert_array_equal(buf.numpy(), plain)
    settles(step, warm=16)


def test_gradients_of_writes_at_changing_places():
    x = torch.tensor(array(3), requires_grad=True)

    def step(k):
        buf = torch.zeros(10, 3)
        for j in range(3):
            buf[(k + 4 * j) % 10] = x * float(j + 1)
        x.grad = None
        (buf * torch.arange(30.0).view(10, 3)).sum().backward()
        want = sum((j + 1) * np.arange(30.0).reshape(10, 3)[(k + 4 * j) % 10] for j in range(3))
        np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-6)
    settles(step, warm=16)


def test_what_is_read_at_a_changing_place_is_a_view():
    for k in range(10):
        y = torch.zeros(20, 3) + float(k)
        row, column = y[k], y[:, k % 3]
        assert row._is_view() and row._base is y and column.stride() == (3,) and not column.is_contiguous()
        assert row.storage_offset() == 3 * k and column.storage_offset() == k % 3
        y.add_(1.0)
        assert row.tolist() == [k + 1.0] * 3
        row.mul_(2.0)
        assert y[k].tolist() == [2 * k + 2.0] * 3 and column[k].item() == 2 * k + 2
        flush()


def test_places_out_of_range_are_refused_at_the_call():
    for k in range(10):
        y = torch.zeros(20, 3) + 1.0
        assert y[k].sum().item() == 3
        for wrong in (20, -21, 20 + k):
            with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for dimension 0 with size 20"):
                y[wrong]
        with pytest.raises(IndexError, match="out of bounds for dimension 1 with size 3"):
            y[k, 3]
        assert y[k:k + 30].shape == (20 - k, 3) and y[-k - 1:].shape == (k + 1, 3)
        flush()


def test_a_loop_over_places_on_one_path_keeps_its_constants():
    x = torch.tensor(array(30, 4))

    def step(k):
        h, y = torch.zeros(4), x * 1.0
        for t in range(30):
            h = torch.tanh(h + y[t])
        node, names = local.trace.node, set()
        while node.parent is not None:
            names.add(node.op and node.op.name)
            node = node.parent
        assert "select" in names and "cut_at" not in names
        return h.sum().item()
    settles(step, warm=4)


def test_numbers_that_change():
    rng = np.random.default_rng(5)

    def step(k):
        x = torch.ones(3) * 1.5
        a, b, c = rng.normal(size=3).tolist()
        y = (x * a + b - c) / (a + 3)
        np.testing.assert_allclose(y.numpy(), np.full(3, (1.5 * a + b - c) / (a + 3)), rtol=1e-5)
    settles(step, warm=20)


def test_a_number_is_no_other_number():
    """What a changing number is told by: its value must not be taken for one that the function derives from it."""
    for k in range(12):
        x = torch.ones(2) * 3.0
        exponent = [2.0, 3.0, 0.5, 1.0, 1.5, -1.0][k % 6]
        np.testing.assert_allclose((x ** exponent).numpy(), np.full(2, 3.0 ** exponent), rtol=1e-6)
        y = torch.ones(2) * 3.0
        np.testing.assert_allclose((exponent / y).numpy(), np.full(2, exponent / 3), rtol=1e-6)
        np.testing.assert_allclose((exponent - y).numpy(), np.full(2, exponent - 3), rtol=1e-6)
        z = torch.arange(2) + 1
        assert (z * exponent).dtype == torch.float32 and (z * int(exponent)).dtype == torch.int64


FILLS = {
    "full": lambda x, v: torch.full((3, 2), v, dtype=x.dtype), "full_like": lambda x, v: torch.full_like(x, v),
    "new_full": lambda x, v: x.new_full((4,), v), "fill_": lambda x, v: x.clone().fill_(v), "empty": lambda x, v: torch.full((0, 2), v),
}


@pytest.mark.parametrize("name", FILLS)
def test_tensors_of_a_number_that_changes(name):
    """The time that a diffusion model is told, or the word that was drawn last."""
    x = torch.zeros(5, dtype=torch.long)

    def step(k):
        y = FILLS[name](x, 3 * k - 7) * 2
        np.testing.assert_array_equal(y.numpy(), np.full(y.shape, 2 * (3 * k - 7)))
    settles(step)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32", "float64", "bool", "complex64"])
def test_numbers_that_fill_are_rounded_as_constants_are(dtype):
    whole = dtype.startswith(("u", "i"))
    low, high = {"uint8": (0, 255), "int8": (-128, 127), "int32": (-2**31, 2**31 - 1)}.get(dtype, (-2**63, 2**63 - 1))
    numbers = [0, 1, low, high, 7, 9, 11.75, -3.5 if low else 3.5, 100] if whole else \
        [0.1, 1 / 3, 1e-3, -0.0, 5, float("inf"), float("nan"), 2049.000001, 1e4 + 1 / 3]

    def fill(v):
        return torch.full((2,), v, dtype=getattr(torch, dtype))
    for v in numbers:
        start_afresh()  # then it is a constant
        expected = fill(v).tolist()
        for other in numbers[:6]:
            fill(other).tolist()
        np.testing.assert_array_equal(fill(v).tolist(), expected)
        np.testing.assert_array_equal(np.signbit(np.real(fill(v).tolist())), np.signbit(np.real(expected)))


def test_a_position_serves_again_when_nobody_refers_to_it():
    first = scalar_value(7)
    assert scalar_value(7) is not first  # one in each place of a trace
    del first
    address = id(scalar_value(7))
    assert id(scalar_value(7)) == address != id(scalar_value(8))
    for number in (7, 7.0, True, 0, 0.0, -1, 1 << 40):
        v = scalar_value(number)
        kind = np.float64 if isinstance(number, float) else np.int64
        assert v.meta.shape == () and array_of(v) == number and array_of(v).dtype == kind


def test_the_same_positions_come_several_times_in_one_path():
    x = torch.arange(40.0).reshape(20, 2).requires_grad_()
    rng = np.random.default_rng(0)
    for _ in range(12):
        places = rng.integers(0, 20, 6).tolist() * 2
        y = x * 1.0
        total = sum(k * y[i].sum() for k, i in enumerate(places))
        x.grad = None
        total.backward()
        wanted = np.zeros((20, 2))
        np.add.at(wanted, places, np.arange(12)[:, None])
        np.testing.assert_allclose(x.grad.numpy(), wanted)
        assert total.item() == pytest.approx((wanted * x.detach().numpy()).sum(), rel=1e-5)


@pytest.mark.parametrize("operation", ["x * k", "k + x", "x / (k + 2)", "k - x", "x.mul_(k)", "whole * k"])
def test_integers_that_change_are_remembered(operation):
    """A running mean divides by 1, 2, 3, ...: no call of these is made in full."""
    x, whole, here = torch.ones(3) * 2.0, torch.arange(3), compile(operation, "<operation>", "eval")

    def step(k):
        y = eval(here, {"x": x.clone(), "k": k, "whole": whole})
        want = eval(operation.replace("x.mul_(k)", "x * k"), {"x": np.full(3, 2.0), "k": k, "whole": np.arange(3)})
        np.testing.assert_allclose(y.numpy(), want, rtol=1e-6)
        assert y.dtype == (torch.int64 if "whole" in operation else torch.float32)
    for k in range(3, 40):
        step(k)
    made, full = [], pointwise.Pointwise.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pointwise.Pointwise, "__call__", lambda self, *args, **more: made.append(self.name) or full(self, *args, **more))
        for k in (50, -7, 1, 0, 1 << 40):
            step(k)
    assert made == []
    with pytest.raises(OverflowError):
        step(1 << 70)


def test_places_that_change_are_remembered():
    """A write at another place each time of what has not been computed yet: no such call is made in full."""
    def step(k):
        buf, plain = torch.zeros(400, 200) + 1.0, np.ones((400, 200), np.float32)
        for j in range(3):
            i = (k * 5 + j * 3) % 390
            buf[i] = torch.ones(200) * float(j)
            plain[i] = j
        np.testing.assert_array_equal(buf.numpy(), plain)
    for k in range(20):
        step(k)
    made, full = [], writing.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assigning, "write", lambda *args: made.append(args[2]) or full(*args))
        for k in (30, 47, 51):
            step(k)
    assert made == []
