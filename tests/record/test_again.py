"""Runs that come again are found by reference counts, and their small results lie where those of the run before lay: never where
somebody still looks."""
from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import rushlight as torch
from rushlight.compile.cpu import alloc, flight
from rushlight.record import again, counters, flush
from rushlight.record.flush import start_afresh
from rushlight.tools.profiler import profile


@pytest.fixture(autouse=True)
def nothing_pending():
    start_afresh()
    flight.failed.clear()  # after a launch that failed no run takes the short way, for the rest of the process


@pytest.fixture
def alone(monkeypatch):
    """Of each run that was looked for by reference counts, whether its own code ran it."""
    found = []
    run_alone = again.Again.run_alone
    monkeypatch.setattr(again.Again, "run_alone", lambda *args: (found.append(run_alone(*args)), found[-1])[1])
    return found


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_run_that_comes_again_runs_by_code_of_its_own(alone):
    x = torch.tensor(array(4))
    for _ in range(10):
        y = x * 2 + 1
        flush()
        np.testing.assert_allclose(y.numpy(), array(4) * 2 + 1, rtol=1e-6)
    assert alone[-1] and alone.count(True) >= 5


def test_a_run_whose_views_keep_values_alive_runs_by_code_of_its_own_too(alone):
    """References do not tell there what is alive; once each value was looked at, the rest is the same."""
    x = torch.tensor(array(4))
    for _ in range(10):
        y = x * 2
        v = y.view(2, 2)
        z = v + 1
        flush()
        np.testing.assert_allclose(z.numpy(), array(2, 2) * 2 + 1, rtol=1e-6)
        np.testing.assert_allclose(v.numpy(), array(2, 2) * 2, rtol=1e-6)
    assert alone[-1] and alone.count(True) >= 5


@pytest.mark.parametrize("keep", [
    lambda y: y, lambda y: y.detach(), lambda y: y[1:], lambda y: y.view(2, 2), lambda y: y.numpy(), lambda y: y.numpy()[1:],
    lambda y: memoryview(y.numpy())])
def test_what_is_kept_of_a_result_is_not_written_again(keep, alone):
    x, kept, want = torch.tensor(array(4)), [], []
    for k in range(16):
        y = torch.exp(x) * torch.tensor(array(4, seed=k))
        flush()
        if k % 3 != 1:
            kept.append(keep(y))
            want.append(np.exp(array(4)) * array(4, seed=k))
    assert alone[-1]
    for got, y in zip(kept, want, strict=True):
        got = got.numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
        np.testing.assert_allclose(got.ravel(), y[-got.size:], rtol=1e-5)


def test_one_more_value_that_is_held_is_computed():
    x, held = torch.tensor(array(4)), []
    for k in range(12):
        a = x * 2
        b = a + 1
        if k in (7, 9, 10):
            held.append(a)
        a = None
        flush()
        np.testing.assert_allclose(b.numpy(), array(4) * 2 + 1, rtol=1e-6)
    for a in held:
        np.testing.assert_array_equal(a.numpy(), array(4) * 2)


def test_a_view_that_is_held_instead_of_its_whole():
    x, held = torch.tensor(array(2, 3)), []
    for k in range(14):
        a = x * 2
        b = a.t()
        c = a.exp()
        if k in (7, 8, 11):
            held.append(b)
        a = b = None
        flush()
        np.testing.assert_allclose(c.numpy(), np.exp(array(2, 3) * 2), rtol=1e-5)
    for b in held:
        np.testing.assert_array_equal(b.numpy(), array(2, 3).T * 2)


@pytest.mark.parametrize("grad", [(True, True), (True, False), (False, True)])
def test_what_a_view_was_made_of_is_held(grad):
    """A view keeps the tensor that it was made of: as many references lead to its value whether the user has the tensor, too."""
    held = []
    for k in range(14):
        x, keep = torch.tensor(array(2, 3, seed=k)), k in (7, 8, 11)
        with torch.set_grad_enabled(grad[keep]):
            a = x * 2
            c = a.view(3, 2).exp()
        if keep:
            held.append((k, a))
        a = None
        flush()
        np.testing.assert_allclose(c.numpy().ravel(), np.exp(array(2, 3, seed=k) * 2).ravel(), rtol=1e-5)
    for k, a in held:
        np.testing.assert_array_equal(a.numpy(), array(2, 3, seed=k) * 2)


@pytest.mark.parametrize("seed", range(4))
def test_other_tensors_are_held_each_time(seed):
    random, held = np.random.default_rng(seed), []
    for k in range(150):
        x = torch.tensor(array(2, 3, seed=k), requires_grad=seed % 2 == 1)
        with torch.set_grad_enabled(bool(random.integers(4))):
            a = x * 2
            b = a.view(3, 2)
            with torch.set_grad_enabled(bool(random.integers(4))):
                c = b.t()
            d = c.exp()
        want = array(2, 3, seed=k) * 2
        turned = want.reshape(3, 2).T
        some = [(a, want), (b, want.reshape(3, 2)), (c, turned), (d, np.exp(turned))]
        held += [pair for pair in some if random.integers(3)]
        del a, b, c, d, some
        flush()
    for t, want in held:
        np.testing.assert_allclose(t.detach().numpy(), want, rtol=1e-5)


def test_a_gradient_that_a_hook_keeps_where_the_walk_was_replayed():
    """The replay has no value for a gradient in the middle; a walk has, and the hook keeps it."""
    w, kept, want = torch.tensor(array(3), requires_grad=True), [], []
    for k in range(14):
        w.grad = None
        h = w * 2
        if k in (8, 9, 12):
            h.register_hook(lambda g: kept.append(g))
            want.append(np.cos(2 * array(3)))
        torch.sin(h).sum().backward()
        h = None
        flush()
        np.testing.assert_allclose(w.grad.numpy(), 2 * np.cos(2 * array(3)), rtol=1e-5)
    for g, expected in zip(kept, want, strict=True):
        np.testing.assert_allclose(g.numpy(), expected, rtol=1e-5)


def test_memory_that_is_written_and_not_read_and_content_that_is_still_needed(alone):
    p, olds = torch.zeros(4), []
    for k in range(14):
        x = torch.tensor(array(4, seed=k))
        if k in (8, 10):
            olds.append((p * 1, p.numpy().copy()))
        p.copy_(x * 3)
        if k % 2:
            p.mul_(2.0)
        flush()
        np.testing.assert_allclose(p.numpy(), array(4, seed=k) * (6 if k % 2 else 3), rtol=1e-6)
    for old, want in olds:
        np.testing.assert_array_equal(old.numpy(), want)


def test_a_step_that_reads_a_part_of_what_it_updates():
    """The part is read from the memory that the new value takes over."""
    data = torch.nn.Parameter(torch.tensor(array(6, 2)))
    optimizer = torch.optim.SGD([data], lr=0.5)
    want = array(6, 2)
    for k in range(12):
        optimizer.zero_grad()
        part = data.detach()[k % 3:k % 3 + 2]
        loss = (data * 2).sum() + part.sum()
        loss.backward()
        optimizer.step()
        expected = want.sum() * 2 + want[k % 3:k % 3 + 2].sum()
        want = want - 1.0
        np.testing.assert_allclose(loss.item(), expected, rtol=1e-4)
        np.testing.assert_allclose(data.detach().numpy(), want, rtol=1e-5, atol=1e-5)


def test_values_written_in_place_serve_again_as_new_ones():
    x = torch.tensor(array(4), requires_grad=True)
    for k in range(12):
        x.grad = None
        h = x * 2
        if k % 2:
            h.add_(1.0)
        (h.exp() * 3).sum().backward()
        scratch = torch.zeros(4)
        scratch.add_(x.detach())
        h = scratch = None
        flush()
        np.testing.assert_allclose(x.grad.numpy(), 6 * np.exp(2 * array(4) + k % 2), rtol=1e-5)


def test_a_loop_takes_no_more_memory_and_gives_back_what_it_had():
    start_afresh()
    gc.collect()
    x = torch.tensor(array(8))
    lives = []
    for _ in range(40):
        y = (x * 2 + 1).sum()
        flush()
        lives.append(alloc.stats().live)
    assert len(set(lives[20:])) == 1
    del y
    built = counters.programs_built
    start_afresh()
    gc.collect()
    assert alloc.stats().live <= lives[0] and counters.programs_built == built


def test_an_error_in_a_run_that_came_again():
    table, seen = torch.tensor(array(5, 2)), []
    for k in range(14):
        index = torch.tensor([0, 9 if k in (8, 11) else 4])
        y = torch.nn.functional.embedding(index, table) * 2
        if k in (8, 11):
            with pytest.raises(IndexError, match="out of"):
                y.numpy()
            seen.append(k)
        else:
            np.testing.assert_array_equal(y.numpy(), array(5, 2)[[0, 4]] * 2)
    assert seen == [8, 11]


def test_the_same_values_over_other_memory():
    """As many references, but the result takes memory over or does not."""
    x = ready = torch.tensor(array(4))
    for k in range(16):
        y = x * 2
        if k % 5 == 3:
            ready.copy_(y)
            y = None
            flush()
            np.testing.assert_array_equal(ready.numpy(), array(4) * 2)
            ready.copy_(torch.tensor(array(4)))
        flush()
        if y is not None:
            np.testing.assert_array_equal(y.numpy(), array(4) * 2)


def test_a_value_that_a_graph_keeps_in_one_round_and_a_tensor_in_the_next():
    """References to the last value are as many whether the user has its graph, which saved the value before, or has cut it."""
    for k in range(24):
        x = torch.tensor(array(4, seed=k), requires_grad=True)
        a = x * 2
        b = a.exp() if k % 3 else a.sin()
        c = b.view(2, 2).sum()
        kept = (a if k % 4 == 1 else b) if k % 2 else c.detach() if k % 4 else c
        del a, b, c
        flush()
        torch.exp(torch.ones(4) * k) + 1  # what is recycled is made of others
        flush()
        want = 2 * array(4, seed=k)
        if not (k % 4 == 1):
            want = np.exp(want) if k % 3 else np.sin(want)
        np.testing.assert_allclose(kept.detach().numpy(), want if k % 2 else want.sum(), rtol=1e-5)
        if not k % 4:
            kept.backward()
            want = 2 * array(4, seed=k)
            np.testing.assert_allclose(x.grad.numpy(), 2 * (np.exp(want) if k % 3 else np.cos(want)), rtol=1e-5)


def test_a_program_finds_its_table_as_it_left_it_or_writes_it_anew():
    """The addresses of a run stay in the program's table: other memory, another thread's arena, and a run that is watched come between."""
    xs = [torch.tensor(array(5, 3, seed=k)) for k in range(3)]
    w = torch.tensor(array(3, 4, seed=9))

    def run(k):
        got = (torch.softmax(xs[k] @ w, 1) * 2).numpy().copy()
        flush()
        e = np.exp(array(5, 3, seed=k) @ array(3, 4, seed=9))
        np.testing.assert_allclose(got, 2 * e / e.sum(1, keepdims=True), rtol=1e-4)

    def in_thread():
        thread = threading.Thread(target=lambda: failures.extend(run_all((0, 0, 1, 0))))
        thread.start()
        thread.join()

    def run_all(order):
        try:
            for k in order:
                run(k)
        except AssertionError as error:
            return [error]
        return []

    failures = []
    for _ in range(4):
        failures += run_all((0, 0, 0, 1, 1, 2, 0, 0))
    in_thread()
    failures += run_all((0, 0, 1))
    with profile():
        failures += run_all((2, 2, 0))
    failures += run_all((0, 0, 2, 2))
    assert not failures
