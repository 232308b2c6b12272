"""Triangular systems: substitution in blocks, only one triangle read, and what a zero on the diagonal gives."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import rushlight

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("n, columns, lead", [(1, 1, ()), (5, 4, (2,)), (16, 3, ()), (17, 1, (2, 3)), (50, 4, (2,)), (0, 3, ()),
                                              (3, 0, ())])
def test_solves_what_the_named_triangle_holds(n, columns, lead):
    rng = np.random.default_rng(0)
    for upper, left, unit, kind in itertools.product((False, True), (False, True), (False, True), ("float64", "complex128")):
        a = rng.standard_normal((*lead[-1:], n, n)).astype(kind) / 3 / max(n, 1) + 2 * np.eye(n)
        if kind == "complex128":
            a = a + 0.1j * rng.standard_normal(a.shape)
        b = rng.standard_normal((*lead, n, columns) if left else (*lead, columns, n)).astype(kind)
        x = rushlight.linalg.solve_triangular(rushlight.tensor(a), rushlight.tensor(b), upper=upper, left=left, unitriangular=unit).numpy()
        read = np.triu(a) if upper else np.tril(a)
        if unit:
            read = np.triu(a, 1) + np.eye(n) if upper else np.tril(a, -1) + np.eye(n)
        np.testing.assert_allclose(read @ x if left else x @ read, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("upper, left, unit", list(itertools.product((False, True), repeat=3)))
def test_gradients(upper, left, unit):
    rng = np.random.default_rng(1)
    a = rushlight.tensor(rng.standard_normal((2, 3, 3)) / 4 + 2 * np.eye(3), requires_grad=True)
    b = rushlight.tensor(rng.standard_normal((2, 3, 2) if left else (2, 2, 3)), requires_grad=True)
    solved = lambda a, b: rushlight.linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unit)  # noqa: E731
    assert rushlight.autograd.gradcheck(solved, (a, b))
    assert rushlight.autograd.gradgradcheck(solved, (a, b))


def test_a_zero_on_the_diagonal_divides():
    a = rushlight.tensor([[1.0, 0, 0], [2, 0, 0], [3, 4, 5]])
    b = rushlight.tensor([[1.0, 2], [3, 4], [5, 0]])
    below = rushlight.linalg.solve_triangular(a, b, upper=False)
    np.testing.assert_array_equal(below.numpy(), [[1, 2], [INF, NAN], [-INF, NAN]])
    above = rushlight.linalg.solve_triangular(a.T, b, upper=True)
    np.testing.assert_array_equal(above.numpy(), [[INF, -INF], [-INF, INF], [1, 0]])
    np.testing.assert_array_equal(rushlight.triangular_solve(b, a, upper=False).solution.numpy(), below.numpy())
    np.testing.assert_array_equal(rushlight.triangular_solve(b, a, upper=False, transpose=True).solution.numpy(), above.numpy())
