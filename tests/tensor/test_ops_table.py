"""A table of calls, each run in PyTorch and here: results, their dtypes, and gradients.

A row is (call, inputs). An input is a shape (normal numbers), ``P(shape)`` (positive), ``I(shape, low, high)`` (integers),
``S(shape)`` (symmetric positive definite), or a NumPy array. Tolerances are per dtype, in one place.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")

TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2, "complex64": 5e-5, "complex128": 1e-9}


class P(NamedTuple):
    shape: tuple[int, ...]


class S(NamedTuple):
    shape: tuple[int, ...]


class I(NamedTuple):  # noqa: E742
    shape: tuple[int, ...]
    low: int
    high: int


NAN = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 2.0]])
TIES = np.array([[2.0, 1.0, 2.0, 0.0], [3.0, 3.0, 3.0, 1.0]])

ROWS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    # order statistics
    "max_all": (lambda t, x: t.max(x), [(3, 4)]),
    "max_all_ties": (lambda t, x: t.max(x), [TIES]),
    "max_dim": (lambda t, x: t.max(x, 1), [(3, 4)]),
    "min_keepdim": (lambda t, x: x.min(dim=0, keepdim=True), [(3, 4)]),
    "max_two": (lambda t, x, y: t.max(x, y), [(3, 4), (4,)]),
    "aminmax": (lambda t, x: t.aminmax(x, dim=0), [(3, 4)]),
    "median": (lambda t, x: t.median(x), [(3, 4)]),
    "median_dim": (lambda t, x: x.median(0), [(4, 3)]),
    "median_nan": (lambda t, x: x.median(1).values, [NAN]),
    "nanmedian": (lambda t, x: t.nanmedian(x, 1), [NAN]),
    "kthvalue": (lambda t, x: x.kthvalue(2, 1), [(3, 5)]),
    "mode": (lambda t, x: x.mode(1).values, [TIES]),
    "sort": (lambda t, x: t.sort(x, 0, descending=True), [(5, 3)]),
    "sort_stable": (lambda t, x: t.sort(x, dim=1, stable=True, descending=True), [TIES]),
    "argsort": (lambda t, x: x.argsort(-1), [(3, 5)]),
    "topk": (lambda t, x: x.topk(2, 1, largest=False), [(3, 5)]),
    "cummax": (lambda t, x: t.cummax(x, 1), [TIES]),
    "cummin": (lambda t, x: x.cummin(0), [(5, 3)]),
    "quantile": (lambda t, x: t.quantile(x, 0.3, dim=1, keepdim=True), [(3, 5)]),
    "nanquantile": (lambda t, x: t.nanquantile(x, 0.5, dim=1), [NAN]),
    # scans
    "cumsum": (lambda t, x: x.cumsum(1), [(3, 4)]),
    "cumprod": (lambda t, x: x.cumprod(0), [(4, 3)]),
    "cumprod_zero": (lambda t, x: x.cumprod(1), [np.array([[2.0, 0.0, 3.0, 0.0, 5.0]])]),
    "logcumsumexp": (lambda t, x: x.logcumsumexp(1), [(3, 4)]),
    "diff": (lambda t, x: t.diff(x, 2, 1), [(3, 5)]),
    "trapezoid": (lambda t, y, x: t.trapezoid(y, x), [(3, 5), (5,)]),
    "gradient": (lambda t, x: t.gradient(x, dim=1, edge_order=2)[0], [(3, 5)]),
    # statistics
    "nansum": (lambda t, x: x.nansum(1), [NAN]),
    "nanmean": (lambda t, x: x.nanmean(), [NAN]),
    "count_nonzero": (lambda t, x: t.count_nonzero(x, 1), [TIES]),
    "cov": (lambda t, x: t.cov(x), [(3, 6)]),
    "corrcoef": (lambda t, x: t.corrcoef(x), [(3, 6)]),
    "norm": (lambda t, x: x.norm(dim=1), [(3, 4)]),
    "norm_p": (lambda t, x: t.norm(x, 3.5), [(3, 4)]),
    "norm_inf": (lambda t, x: t.norm(x, float("inf"), 1), [(3, 4)]),
    "norm_zero": (lambda t, x: x.norm(), [np.zeros(3)]),
    "dist": (lambda t, x, y: t.dist(x, y, 1), [(3, 4), (4,)]),
    "cdist": (lambda t, x, y: t.cdist(x, y), [(2, 3, 4), (5, 4)]),
    "renorm": (lambda t, x: x.renorm(2, 0, 0.5), [(3, 4)]),
    # einsum and products
    "einsum_chain": (lambda t, a, b, c: t.einsum("ij,jk,kl->il", a, b, c), [(2, 3), (3, 4), (4, 5)]),
    "einsum_ellipsis": (lambda t, a, b: t.einsum("...ij,...jk", a, b), [(5, 1, 2, 3), (4, 3, 2)]),
    "einsum_diagonal": (lambda t, a: t.einsum("bii->bi", a), [(2, 3, 3)]),
    "einsum_trace": (lambda t, a: t.einsum("ii", a), [(3, 3)]),
    "einsum_lists": (lambda t, a, b: t.einsum(a, [0, 1], b, [1, 2], [2, 0]), [(2, 3), (3, 4)]),
    "tensordot": (lambda t, a, b: t.tensordot(a, b, ([1, 2], [0, 1])), [(2, 3, 4), (3, 4, 5)]),
    "kron": (lambda t, a, b: t.kron(a, b), [(2, 3), (3, 2)]),
    "cross": (lambda t, a, b: t.linalg.cross(a, b), [(4, 3), (1, 3)]),
    "inner": (lambda t, a, b: t.inner(a, b), [(2, 3), (4, 3)]),
    "chain_matmul": (lambda t, a, b, c: t.linalg.multi_dot([a, b, c]), [(2, 5), (5, 3), (3,)]),
    # triangles and diagonals
    "tril": (lambda t, x: x.tril(-1), [(3, 4)]),
    "triu": (lambda t, x: x.triu(1), [(2, 3, 4)]),
    "diag_embed": (lambda t, x: t.diag_embed(x, 1, 0, 2), [(2, 3)]),
    "diagonal_scatter": (lambda t, x, y: t.diagonal_scatter(x, y, 1), [(3, 3), (2,)]),
    "select_scatter": (lambda t, x, y: x.select_scatter(y, 1, -1), [(3, 3), (3,)]),
    "block_diag": (lambda t, x, y: t.block_diag(x, y), [(2, 3), (4,)]),
    "vander": (lambda t, x: t.vander(x.detach(), 4), [(3,)]),
    "linalg_vander": (lambda t, x: t.linalg.vander(x, N=4), [(2, 3)]),
    "tril_indices": (lambda t: t.tril_indices(3, 4, 1), []),
    # rearranging
    "roll": (lambda t, x: x.roll((1, -2), (0, 1)), [(3, 5)]),
    "rot90": (lambda t, x: x.rot90(3, (0, 2)), [(2, 3, 4)]),
    "repeat_interleave": (lambda t, x: x.repeat_interleave(t.tensor([1, 0, 2]), 0), [(3, 2)]),
    "hstack": (lambda t, x, y: t.hstack([x, y]), [(3, 2), (3, 1)]),
    "dstack": (lambda t, x, y: t.dstack([x, y]), [(3,), (3,)]),
    "tensor_split": (lambda t, x: t.tensor_split(x, (1, 3), 1), [(2, 5)]),
    "meshgrid": (lambda t, x, y: t.meshgrid(x, y, indexing="xy"), [(2,), (3,)]),
    "cartesian_prod": (lambda t, x, y: t.cartesian_prod(x, y), [(2,), (3,)]),
    "combinations": (lambda t, x: t.combinations(x, 2), [(4,)]),
    # gather, scatter
    "scatter_sum": (lambda t, x, s, i: x.scatter_reduce(0, i, s, "sum"), [(3, 2), (4, 2), I((4, 2), 0, 3)]),
    "scatter_prod": (lambda t, x, s, i: x.scatter_reduce(0, i, s, "prod"), [(3, 2), (4, 2), I((4, 2), 0, 3)]),
    "scatter_amax": (lambda t, x, s, i: x.scatter_reduce(0, i, s, "amax", include_self=False), [(3, 2), (4, 2), I((4, 2), 0, 3)]),
    "scatter_mean": (lambda t, x, s, i: x.scatter_reduce(0, i, s, "mean"), [(3, 2), (4, 2), I((4, 2), 0, 3)]),
    "index_reduce": (lambda t, x, s, i: x.index_reduce(0, i, s, "amin"), [(3, 2), (4, 2), I((4,), 0, 3)]),
    "take": (lambda t, x, i: x.take(i), [(3, 2), I((2, 2), -6, 6)]),
    "put": (lambda t, x, s, i: t.clone(x).put_(i, s, True), [(3, 2), (3,), I((3,), 0, 6)]),
    # numbers
    "frexp": (lambda t, x: t.frexp(x), [(3, 4)]),
    "ldexp": (lambda t, x, y: t.ldexp(x, y), [(3,), I((3,), -3, 4)]),
    "float_power": (lambda t, x: t.float_power(x, 2), [(3,)]),
    "gcd": (lambda t, x, y: t.gcd(x, y), [I((5,), -20, 20), I((5,), -20, 20)]),
    "lcm": (lambda t, x, y: t.lcm(x, y), [I((5,), -20, 20), I((5,), -20, 20)]),
    "isclose": (lambda t, x: t.isclose(x, x + 1e-9, equal_nan=True), [NAN]),
    "isin": (lambda t, x: t.isin(x, t.tensor([1, 3])), [I((5,), 0, 5)]),
    "polar": (lambda t, r, a: t.polar(r, a), [P((3,)), (3,)]),
    "angle": (lambda t, x: x.angle(), [(4,)]),
    # sets and histograms
    "unique": (lambda t, x: t.unique(x, return_inverse=True, return_counts=True), [I((4, 5), 0, 6)]),
    "unique_dim": (lambda t, x: t.unique(x, dim=0, return_counts=True), [I((6, 2), 0, 2)]),
    "unique_consecutive": (lambda t, x: t.unique_consecutive(x, return_inverse=True, return_counts=True), [I((9,), 0, 2)]),
    "bincount": (lambda t, x: t.bincount(x, minlength=7), [I((9,), 0, 5)]),
    "histc": (lambda t, x: t.histc(x, 5, -2, 2), [(30,)]),
    "histogram": (lambda t, x: t.histogram(x.detach(), 4, range=(-1.0, 1.0), density=True), [(30,)]),
    "searchsorted": (lambda t, x: t.searchsorted(t.tensor([0.0, 0.5, 1.0], dtype=x.dtype), x, right=True), [(3, 4)]),
    "bucketize": (lambda t, x: t.bucketize(x, t.tensor([0, 2, 4])), [I((6,), 0, 6)]),
    # linear algebra
    "det": (lambda t, x: t.linalg.det(x), [(2, 3, 3)]),
    "det_singular": (lambda t, x: t.det(x), [np.array([[1.0, 2.0], [2.0, 4.0]])]),
    "slogdet": (lambda t, x: t.linalg.slogdet(x), [(3, 3)]),
    "inv": (lambda t, x: t.linalg.inv(x), [S((2, 3, 3))]),
    "solve": (lambda t, a, b: t.linalg.solve(a, b), [S((2, 3, 3)), (3, 2)]),
    "solve_triangular": (lambda t, a, b: t.linalg.solve_triangular(a, b, upper=True), [S((3, 3)), (3, 2)]),
    "cholesky": (lambda t, x: t.linalg.cholesky(x @ x.mT), [S((3, 3))]),
    "qr_tall": (lambda t, x: t.linalg.qr(x).R.abs(), [(5, 3)]),
    "qr_wide": (lambda t, x: t.linalg.qr(x).R.abs(), [(3, 5)]),
    "svdvals": (lambda t, x: t.linalg.svdvals(x), [(4, 3)]),
    "svd": (lambda t, x: (lambda u, s, v: (u * s) @ v)(*t.linalg.svd(x, full_matrices=False)), [(4, 3)]),
    "eigvalsh": (lambda t, x: t.linalg.eigvalsh(x + x.mT), [(3, 3)]),
    "pinv": (lambda t, x: t.linalg.pinv(x), [(4, 3)]),
    "lu": (lambda t, x: t.linalg.lu(x), [(4, 3)]),
    "lstsq": (lambda t, a, b: t.linalg.lstsq(a, b).solution, [(5, 3), (5, 2)]),
    "matrix_exp": (lambda t, x: t.linalg.matrix_exp(x), [(3, 3)]),
    "matrix_power": (lambda t, x: t.linalg.matrix_power(x, -3), [S((3, 3))]),
    "matrix_norm": (lambda t, x: t.linalg.matrix_norm(x, "nuc"), [(2, 4, 3)]),
    "cond": (lambda t, x: t.linalg.cond(x.detach(), "fro"), [S((3, 3))]),
    # transforms and special functions
    "fft": (lambda t, x: t.fft.fft(x, 7).abs(), [(2, 5)]),
    "rfft2": (lambda t, x: t.view_as_real(t.fft.rfft2(x, norm="ortho")), [(4, 6)]),
    "irfft": (lambda t, x: t.fft.irfft(t.fft.rfft(x) * 2, 6), [(2, 5)]),
    "polygamma": (lambda t, x: t.polygamma(2, x), [P((5,))]),
    "mvlgamma": (lambda t, x: t.mvlgamma(x + 2, 3), [P((5,))]),
    "xlog1py": (lambda t, x, y: t.special.xlog1py(x, y), [(3,), P((3,))]),
    "ndtr": (lambda t, x: t.special.ndtr(x), [(5,)]),
    "log_ndtr": (lambda t, x: t.special.log_ndtr(x * 5), [(5,)]),
    "entr": (lambda t, x: t.special.entr(x), [P((5,))]),
    "chebyshev": (lambda t, x, n: t.special.chebyshev_polynomial_u(x, n).detach(), [(5,), I((5,), 0, 5)]),
    "hann": (lambda t: t.signal.windows.hann(7, sym=False), []),
    "masked_var": (lambda t, x: t.masked.var(x, 1, mask=x > 0), [(3, 8)]),
}


def made(spec: Any, rng: np.random.Generator) -> np.ndarray:
    if isinstance(spec, np.ndarray):
        return spec
    if isinstance(spec, I):
        return rng.integers(spec.low, spec.high, spec.shape)
    if isinstance(spec, P):
        return rng.uniform(0.1, 3, spec.shape)
    if isinstance(spec, S):
        a = rng.normal(size=spec.shape)
        return a @ np.swapaxes(a, -1, -2) + 2 * np.eye(spec.shape[-1])
    return rng.normal(size=spec)


def flat(result: Any) -> list[Any]:
    return [y for x in result for y in flat(x)] if isinstance(result, (tuple, list)) else [result]


def equal(got: Any, want: Any, tolerance: float) -> None:
    assert str(got.dtype) == str(want.dtype)
    assert tuple(got.shape) == tuple(want.shape)
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:index_reduce")  # PyTorch's
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ROWS)
def test_results_and_gradients_equal_pytorchs(name: str, dtype: str) -> None:
    call, specs = ROWS[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    arrays = [made(s, rng) for s in specs]
    arrays = [a if a.dtype.kind == "i" else a.astype(dtype) for a in arrays]
    found: list[list[Any]] = []
    inputs: list[list[Any]] = []
    for t in (torch, rushlight):
        leaves = [t.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        inputs.append([x for x in leaves if x.requires_grad])
        results = flat(call(t, *leaves))
        found.append(results)
        weighted = [(r.abs() * t.tensor(np.cos(np.arange(r.numel())).reshape(tuple(r.shape)), dtype=getattr(t, dtype))).sum()
                    for r in results if r.requires_grad]
        if weighted:
            total = weighted[0]
            for w in weighted[1:]:
                total = total + w
            total.backward()
    want, got = found
    assert len(want) == len(got)
    tolerance = TOLERANCE[dtype] * (20 if dtype == "float32" else 1)
    for g, w in zip(got, want):
        equal(g, w, max(tolerance, TOLERANCE.get(str(w.dtype)[6:], 0.0)))
        assert g.requires_grad == w.requires_grad
    for g, w in zip(inputs[1], inputs[0]):
        zero = np.zeros(tuple(w.shape))
        np.testing.assert_allclose(zero if g.grad is None else g.grad.numpy(), zero if w.grad is None else w.grad.numpy(),
                                   rtol=tolerance * 10, atol=tolerance * 10)


@pytest.mark.parametrize("call, error", [
    (lambda t: t.einsum("ij,jk", t.ones(2, 3), t.ones(4, 2)), RuntimeError),
    (lambda t: t.einsum("ij", t.ones(2)), RuntimeError),
    (lambda t: t.linalg.inv(t.ones(2, 3)), RuntimeError),
    (lambda t: t.linalg.inv(t.zeros(2, 2)).sum().item(), RuntimeError),
    (lambda t: t.linalg.cholesky(-t.eye(2)).sum().item(), RuntimeError),
    (lambda t: t.topk(t.ones(3), 4), RuntimeError),
    (lambda t: t.kthvalue(t.ones(3), 0), RuntimeError),
    (lambda t: t.quantile(t.ones(3), 1.5), RuntimeError),
    (lambda t: t.repeat_interleave(t.ones(3), t.tensor([1, 2])), RuntimeError),
    (lambda t: t.bincount(t.tensor([-1])), RuntimeError),
    (lambda t: t.gcd(t.ones(2), t.ones(2)), NotImplementedError),
    (lambda t: t.isclose(t.ones(2), t.ones(2, dtype=t.float64)), RuntimeError),
    (lambda t: t.max(t.ones(0)), RuntimeError),
    (lambda t: t.max(t.ones(2, 0), 1), IndexError),
    (lambda t: t.cov(t.ones(2, 2, 2)), RuntimeError),
    (lambda t: t.broadcast_shapes((2,), (3,)), RuntimeError),
    (lambda t: t.fft.fft(t.ones(2), 0), RuntimeError),
    (lambda t: t.add(t.ones(2), 1, out=t.ones(1).expand(2)), RuntimeError),
    (lambda t: t.set_default_dtype(t.int32), TypeError),
])
def test_misuse_raises_what_pytorch_raises(call: Callable[[Any], Any], error: type[Exception]) -> None:
    for t in (torch, rushlight):
        with pytest.raises(error):
            call(t)


@pytest.mark.parametrize("name", ROWS)
def test_compiled_results_equal_interpreted_ones(name: str) -> None:
    """The second time a path is walked its program is compiled."""
    call, specs = ROWS[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    arrays = [made(s, rng) for s in specs]
    inputs = [rushlight.tensor(a if a.dtype.kind == "i" else a.astype(np.float32)) for a in arrays]
    first, second = ([r.numpy().copy() for r in flat(call(rushlight, *inputs))] for _ in range(2))
    for a, b in zip(first, second):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_named_results_print_as_pytorchs() -> None:
    data = [[3.0, 1.0], [2.0, 4.0]]
    assert repr(rushlight.tensor(data).max(1)) == repr(torch.tensor(data).max(1))
    values, indices = rushlight.tensor(data).sort()
    assert rushlight.tensor(data).sort().values.tolist() == values.tolist()
    assert indices.tolist() == [[1, 0], [0, 1]]


def test_in_place_forms_keep_what_their_gradients_read() -> None:
    for t in (torch, rushlight):
        x = t.tensor([1.5, 2.5], requires_grad=True)
        y = (x * 1).logit_(1e-3)
        y = (y * 0 + 4).mvlgamma_(2)
        y.sum().backward()
        assert x.grad.tolist() == [0.0, 0.0]


def test_filling_in_place_stops_the_gradient() -> None:
    x = rushlight.ones(3, requires_grad=True)
    y = x * 2
    y[1:].zero_()
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0]


def test_complex_gradients_conjugate() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)) for _ in range(2))
    grads = []
    for t in (torch, rushlight):
        x, y = (t.tensor(v, requires_grad=True) for v in (a, b))
        z = (x @ y * (2 + 1j)).exp() / y + x.cumprod(0)
        z.abs().sum().backward()
        grads.append([x.grad.numpy(), y.grad.numpy()])
    for g, w in zip(grads[1], grads[0]):
        np.testing.assert_allclose(g, w, rtol=1e-8)


@pytest.mark.parametrize("none", [[], ()])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", [
    "sum", "mean", "amax", "amin", "std", "var", "norm", "nansum", "nanmean", "count_nonzero", "any", "all", "squeeze",
    "linalg.vector_norm", "fft.fftn", "fft.rfftn",
])  # fmt: skip
def test_no_dimensions_in_a_list_or_a_tuple(name: str, keepdim: bool, none: Any) -> None:
    """For sums all dimensions are meant, for truth values none, and a list and a tuple mean the same."""
    if keepdim and name in ("count_nonzero", "squeeze", "fft.fftn", "fft.rfftn"):
        return
    results = []
    for m in (torch, rushlight):
        f = m
        for part in name.split("."):
            f = getattr(f, part)
        x = m.tensor([[1.0, 2.0, -4.0]])
        try:
            results.append(f(x, dim=none, keepdim=True) if keepdim else f(x, dim=none))
        except Exception as e:
            results.append(type(e))
    if isinstance(results[0], type):
        assert results[1] is results[0]
    else:
        assert tuple(results[1].shape) == tuple(results[0].shape)
        np.testing.assert_allclose(results[1].numpy(), results[0].numpy(), rtol=1e-6)
