"""Matrices that have no inverse, solution or factor, against PyTorch: the error at the call, or the place of it."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")
pytest.importorskip("torch.linalg")
BOTH = (torch, rushlight)

INDEFINITE, SINGULAR, GOOD = [[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]], [[2.0, 0.5], [0.5, 1.0]]
NAN = [[1.0, float("nan")], [float("nan"), 1.0]]

FAILING = {
    "cholesky": (INDEFINITE, lambda m, a: m.linalg.cholesky(a)), "cholesky, upper": (INDEFINITE, lambda m, a: m.linalg.cholesky(a,
      upper=True)),
    "cholesky of a batch": ([GOOD, INDEFINITE], lambda m, a: m.linalg.cholesky(a)),
    "cholesky_ex": ([GOOD, INDEFINITE], lambda m, a: m.linalg.cholesky_ex(a, check_errors=True)),
    "inv": (SINGULAR, lambda m, a: m.linalg.inv(a)), "inverse": (SINGULAR, lambda m, a: a.inverse()),
    "inv of a batch": ([[GOOD, GOOD], [SINGULAR, GOOD]], lambda m, a: m.linalg.inv(a)),
    "inv_ex": (SINGULAR, lambda m, a: m.linalg.inv_ex(a, check_errors=True)), "power": (SINGULAR, lambda m, a: m.linalg.matrix_power(a,
      -1)),
    "solve": (SINGULAR, lambda m, a: m.linalg.solve(a, m.ones(2, 1))), "solve a vector": (SINGULAR, lambda m, a: m.linalg.solve(a,
      m.ones(2))),
    "solve a batch": ([GOOD, SINGULAR], lambda m, a: m.linalg.solve(a, m.ones(2, 1))),
    "solve from the right": (SINGULAR, lambda m, a: m.linalg.solve(a, m.ones(1, 2), left=False)),
    "solve_ex": (SINGULAR, lambda m, a: m.linalg.solve_ex(a, m.ones(2, 1), check_errors=True)),
    "lu_factor": ([GOOD, SINGULAR], lambda m, a: m.linalg.lu_factor(a)),
    "lu_factor_ex": (SINGULAR, lambda m, a: m.linalg.lu_factor_ex(a, check_errors=True)),
}


@pytest.mark.parametrize("name", FAILING)
def test_the_call_raises(name):
    """At the call, where a program catches it to go on with more jitter, not when the result is needed."""
    matrix, call = FAILING[name]
    messages = []
    for m in BOTH:
        with pytest.raises(RuntimeError) as e:
            call(m, m.tensor(matrix))
        assert isinstance(e.value, m.linalg.LinAlgError) == (not name.startswith("lu"))
        messages.append(str(e.value))
    assert messages[1] == messages[0]


def test_a_program_that_adds_jitter_until_it_works():
    def tries(m):
        a = m.ones(3, 3)
        for k in range(8):
            try:
                return k, m.linalg.cholesky(a + 10.0 ** (k - 8) * m.eye(3))
            except m.linalg.LinAlgError:
                continue
    (want, p), (got, r) = tries(torch), tries(rushlight)
    assert got == want > 0
    np.testing.assert_allclose(r.numpy(), p.numpy(), atol=1e-3)


PLACES = {
    "cholesky_ex": lambda m, a: m.linalg.cholesky_ex(a), "inv_ex": lambda m, a: m.linalg.inv_ex(a),
    "solve_ex": lambda m, a: m.linalg.solve_ex(a, m.ones(2, 1)), "lu_factor_ex": lambda m, a: m.linalg.lu_factor_ex(a),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("batch", [GOOD, [GOOD, SINGULAR], [INDEFINITE, GOOD, SINGULAR], [[[0.0, 0.0], [0.0, 0.0]], GOOD]], ids=str)
def test_places_of_failure(name, batch):
    """The good ones of a batch keep their results, and gradients."""
    found = []
    for m in BOTH:
        a = m.tensor(batch, requires_grad=True)
        result = PLACES[name](m, a)
        info = result.info.numpy()
        assert info.dtype == np.int32
        good = info == 0
        if good.any():
            result[0][m.from_numpy(np.asarray(good))].sum().backward()
            found.append((info, result[0].detach().numpy()[good], a.grad.numpy()[good]))
        else:
            found.append((info,))
    assert len(found[0]) == len(found[1])
    for want, got in zip(*found):
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)


def test_a_nan_is_no_positive_definite_matrix():
    for m in BOTH:
        assert m.linalg.cholesky_ex(m.tensor(NAN)).info.item() > 0
        with pytest.raises(m.linalg.LinAlgError):
            m.linalg.cholesky(m.tensor([GOOD, NAN]))


def test_no_matrices_at_all():
    for m in BOTH:
        assert m.linalg.inv(m.zeros(0, 3, 3)).shape == (0, 3, 3) and m.linalg.cholesky_ex(m.zeros(0, 3, 3)).info.shape == (0,)
        assert m.linalg.lu_factor_ex(m.zeros(2, 0, 3)).info.tolist() == [0, 0]
