"""Every differentiable function against finite differences, first and second derivatives.

A row is an expression over the tensors of ``INPUTS``; those it names are its inputs. The functions of the namespace that no row
uses have to be named in ``WITHOUT_GRADIENT``: a new function cannot be forgotten.
"""
from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rushlight as t
import rushlight.nn.functional as F
from rushlight.autograd import gradcheck, gradgradcheck
from rushlight.autograd.gradcheck import GradcheckError
from rushlight.record.settings import settings as recorder

_RNG = np.random.RandomState(3)


def _apart(*shape):
    """Numbers that are far from each other and from the integers and zero, so that no step of a difference crosses a kink."""
    n = int(np.prod(shape))
    return (_RNG.permutation(n) - n / 2 + 0.37).reshape(shape) * (4.3 / n)


INPUTS = {
    "x": _apart(2, 3), "y": _apart(2, 3), "p": np.abs(_apart(2, 3)) + 0.3, "q": np.abs(_apart(2, 3)) + 0.4, "u": _apart(2, 3) * 0.4,
    "h": _apart(3, 2), "s": _apart(3, 3), "v": _apart(3), "w": _apart(3), "n": np.array(0.7), "b": _apart(2, 3, 2), "d": _apart(2, 2, 3),
    "l": _apart(1, 2, 6), "i": _apart(1, 2, 4, 4), "c": _apart(1, 1, 3, 3, 3), "k1": _apart(2, 2, 3), "k2": _apart(2, 2, 2, 2),
    "k3": _apart(1, 1, 2, 2, 2), "g2": _apart(1, 3, 3, 2) * 0.4, "z": _apart(3) + 1j * _apart(3)[::-1], "f": _apart(4, 2),
}
CONSTANTS = {
    "t": t, "F": F, "tuple": tuple,
    "IX": t.tensor([[0, 1, 0], [1, 0, 0]]), "I1": t.tensor([2, 0]), "Y": t.tensor([2, 0]),
    "MASK": t.tensor([[True, False, True], [False, True, True]]),
    **{name: t.tensor(values, dtype=t.float64) for name, values in {
        "TARGET": [[1, -1, -1], [-1, 1, 1]], "SIGN": [1, -1], "W2": [0.7, 1.9], "W3": [0.4, 1.1, 0.8],
        "PROB": [[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]]}.items()},
    "EYE": t.eye(3, dtype=t.float64), "LU": t.linalg.lu_factor(t.tensor(_apart(3, 3)) + 5 * t.eye(3, dtype=t.float64)),
}

UNARY = {
    "x": """abs absolute neg negative positive sin cos tan sinh cosh tanh asinh arcsinh atan arctan exp exp2 expm1 erf erfc sigmoid square
        ceil floor round trunc fix frac sign sgn sinc relu selu celu hardshrink i0 deg2rad rad2deg nan_to_num real conj conj_physical
        resolve_conj resolve_neg clone ravel t adjoint t_copy view_copy alias_copy expand_copy""",
    "p": "log log10 log1p log2 sqrt rsqrt reciprocal lgamma digamma",
    "u": "asin arcsin acos arccos atanh arctanh erfinv",
}
NOT_CALLED_PLAINLY = {"view_copy": "t.view_copy(x, (3, 2))", "expand_copy": "t.expand_copy(v, (2, 3))", "acosh": "t.acosh(p + 1)",
                      "arccosh": "t.arccosh(p + 1)", "logit": "t.logit(u * 0.4 + 0.5)"}

ROWS = [f"t.{name}({over})" for over, names in UNARY.items() for name in names.split() if name not in NOT_CALLED_PLAINLY]
ROWS += [*NOT_CALLED_PLAINLY.values()]
ROWS += """
t.add(x, y, alpha=2.5); t.add(x, 2); t.sub(x, v); t.subtract(x, n); t.rsub(x, y); t.mul(x, v); t.multiply(x, y); t.div(x, p)
t.divide(x, q); t.true_divide(v, p); t.div(x, p, rounding_mode='floor') + x; t.floor_divide(x, p) + x; t.fmod(x, q); t.remainder(x, q)
t.pow(p, y); t.pow(p, 2.5); t.pow(2.0, x); t.pow(x, 3); t.float_power(p, 1.5); t.maximum(x, y); t.minimum(x, v); t.fmax(x, y)
t.fmin(x, y); t.atan2(x, p); t.arctan2(y, x); t.hypot(x, y); t.copysign(p, x); t.xlogy(x, p); t.logaddexp(x, y); t.logaddexp2(x, y)
t.ldexp(x, IX); t.lerp(x, y, 0.3); t.lerp(x, y, p); t.addcmul(x, y, p, value=0.5); t.addcdiv(x, y, p, value=0.5); t.where(MASK, x, y)
t.where(x > y, x * 2, v); t.heaviside(x, y) + x; t.clamp(x, -0.5, 0.9); t.clamp(x, min=y); t.clip(x, -1, 1); t.clamp_min(x, 0.1)
t.clamp_max(x, y); t.threshold(x, 0.2, 1.0); t.prelu(x, v); t.prelu(i, v[:2]); t.mvlgamma(p + 2, 2); t.polygamma(1, p); t.abs(z)
t.angle(z); t.real(z); t.imag(z); t.conj(z) * 2; t.exp(z); t.sin(z) * t.cos(z); z * z / (z + 3); t.view_as_real(z)
t.view_as_real_copy(z); t.view_as_complex_copy(t.view_as_real(z))
t.view_as_complex(h); t.complex(x, y); t.polar(p, x); t.sgn(z); t.log(z); t.sqrt(z); t.vdot(z, z * 2)
t.matmul(z.reshape(1, 3), z.reshape(3, 1)); t.sum(z); t.mean(z); t.prod(z); t.tanh(z); t.reciprocal(z); t.pow(z, 2)
t.linalg.vector_norm(z); t.sum(x); t.sum(b, (0, 2), keepdim=True); t.mean(x, 1); t.nansum(x, 0); t.nanmean(x); t.prod(x); t.prod(x, 1)
t.prod(x * IX, 1); t.amax(x, 1); t.amin(x); t.aminmax(x, dim=0); t.max(x); t.min(x, 1); t.max(x, 0); t.max(x, y); t.std(x)
t.var(x, 1); t.var(x, 1, correction=0); t.std_mean(x, 0); t.var_mean(x, (0, 1)); t.norm(x); t.norm(x, 1, 1); t.norm(x, 3)
t.norm(x, float('inf')); t.dist(x, y); t.dist(x, y, 3); t.logsumexp(x, 1); t.softmax(x, 1); t.log_softmax(x, 0); t.cumsum(x, 1)
t.cumprod(x, 1); t.cumprod(x * IX, 1); t.cummax(x, 1); t.cummin(x, 0); t.logcumsumexp(x, 1); t.median(x); t.median(x, 1)
t.nanmedian(x); t.kthvalue(x, 2); t.mode(x); t.sort(x, 1); t.msort(x); t.topk(x, 2); t.quantile(x, 0.4); t.nanquantile(x, 0.4, 1)
t.renorm(x, 2, 0, 1.0); t.trapezoid(x); t.trapz(x, dx=2.0); t.cumulative_trapezoid(x); t.diff(x); t.gradient(s); t.cov(x)
t.corrcoef(x); t.trace(s); t.count_nonzero(x) * x; t.matmul(x, h); t.matmul(v, w); t.matmul(d, h); t.matmul(b, v[:2]); x @ v
t.mm(x, h); t.mv(x, v); t.dot(v, w); t.bmm(b, d); t.addmm(s, h, x, beta=0.5, alpha=2); t.addmv(v, s, w); t.addr(s, v, w)
t.addmm(s, h, x); t.addbmm(s, b, d); t.baddbmm(s, b, d); t.outer(v, w); t.ger(v, w); t.inner(x, y); t.vdot(v, w)
t.tensordot(b, d, ([1], [2]))
t.einsum('ij,jk->ki', x, h); t.einsum('bij,bjk->', b, d); t.kron(x, h); t.chain_matmul(x, h, y); t.cross(x, y); t.cdist(x, y + 5)
t.block_diag(x, h); t.cartesian_prod(v, w); t.combinations(v); t.vander(v); t.reshape(x, (3, 2)); x.view(6); t.flatten(b, 1)
t.unflatten(b, 0, (1, 2)); t.permute(b, (2, 0, 1)); t.permute_copy(b, (2, 0, 1)); t.transpose(b, 0, 2); t.transpose_copy(x, 0, 1)
t.movedim(b, 0, 2); t.moveaxis(b, 0, 1); t.swapaxes(x, 0, 1); t.swapdims(x, 0, 1); t.squeeze(x[None]); t.squeeze_copy(x[None])
t.unsqueeze(x, 1); t.unsqueeze_copy(x, 0); x.expand(2, 2, 3); t.broadcast_to(v, (2, 3)); t.broadcast_tensors(x, v); x.T; x.mT
x.expand_as(b.mT); t.narrow(x, 1, 0, 2); t.narrow_copy(x, 1, 1, 2); t.slice_copy(x, 1, 0, 3, 2)
t.norm_except_dim(x, 2, 0); t.native_dropout(x, 0.5, False)[0]; t.select(x, 0, 1); t.select_copy(x, 0, 1); t.unbind(x)
t.unbind_copy(x); t.split(x, 2, 1); t.split_copy(x, 2, 1); t.split_with_sizes(x, [1, 2], 1); t.split_with_sizes_copy(x, [1, 2], 1)
t.chunk(x, 2, 1); t.unsafe_chunk(x, 2, 1); t.unsafe_split(x, 2, 1); t.unsafe_split_with_sizes(x, [1, 2], 1); t.tensor_split(x, 2, 1)
t.hsplit(x, 3); t.vsplit(x, 2); t.dsplit(b, 2); t.diagonal(s); t.diagonal_copy(s); t.diag(v); t.diag(s); t.diag_embed(x)
t.diagflat(v); t.tril(s); t.triu(s); t.flip(x, (0, 1)); t.fliplr(x); t.flipud(x); t.roll(x, 1, 1); t.rot90(x); x.unfold(1, 2, 1)
t.unfold_copy(x, 1, 2, 1); t.as_strided(x, (2, 2), (1, 2)); t.as_strided_copy(x, (2, 2), (1, 2)); t.cat([x, y]); t.concat([x, y], 1)
t.concatenate([x, y]); t.stack([x, y], 1); t.hstack([x, y]); t.vstack([x, v]); t.row_stack([x, v]); t.dstack([x, y])
t.column_stack([v, w]); t.atleast_1d(n); t.atleast_2d(v); t.atleast_3d(x); t.tile(x, (2, 1)); x.repeat(2, 1)
t.repeat_interleave(x, 2, 1); t.meshgrid(v, w, indexing='ij'); t.as_strided_scatter(x, h[:2, :2], (2, 2), (1, 2))
t.diagonal_scatter(s, v); t.select_scatter(x, v, 0, 1); t.slice_scatter(x, h[:2], 1, 0, 2); x[0]; x[:, 1:]; x[..., None]; x[IX[:, 0]]
x[MASK]; x[I1[1:], IX[0, :2]]; x[:, I1]; b[:, I1]; b[0, :, I1[1:]]; t.gather(x, 1, IX); t.take(x, IX); t.take_along_dim(x, IX, 1)
t.index_select(x, 1, I1); t.masked_select(x, MASK); t.masked_fill(x, MASK, 2.0); t.masked_fill(x, MASK, n)
t.masked_scatter(x, MASK, y); t.scatter(x, 1, IX[:, :2], y[:, :2]); t.scatter_add(x, 1, IX, y); t.scatter_reduce(x, 1, IX, y, 'sum')
t.scatter_reduce(x, 1, IX, y, 'mean'); t.scatter_reduce(x, 1, IX, y, 'amax'); t.scatter_reduce(x, 1, IX, y, 'prod')
t.index_add(x, 1, I1, h[:2]); t.index_copy(x, 1, I1, h[:2]); t.index_fill(x, 1, I1, 2.0); t.index_put(x, (IX[:, 0],), y)
t.index_put(x, (IX[:, 0],), y, True); t.put(x, I1, v[:2]); t.index_reduce(x, 1, I1, h[:2], 'mean'); t.fill(x, n); x.type_as(y) * 2
x.to(t.float64) * 3; x.contiguous(); x.clone().mul_(y); x.clone().fill_(2.0) * y; x.sum_to_size(1, 3); F.relu6(x); F.elu(x, 1.3)
F.celu(x, 0.7); F.gelu(x); F.gelu(x, approximate='tanh'); F.silu(x); F.mish(x); F.hardswish(x); F.hardsigmoid(x); F.hardtanh(x)
F.leaky_relu(x, 0.2); F.logsigmoid(x); F.softplus(x); F.softplus(x, 2, 0.5); F.softshrink(x, 0.3); F.softsign(x); F.tanhshrink(x)
F.glu(i); F.softmin(x, 1); F.rrelu(x, 0.2, 0.2); F.sigmoid(x); F.tanh(x); F.relu(x); F.selu(x); F.hardshrink(x, 0.3)
F.threshold(x, 0.2, 0.5); F.prelu(x, v[:1]); F.softmax(x, 0); F.log_softmax(x, 1); F.linear(x, s, v); F.linear(x, h.T)
F.bilinear(x, y, b.reshape(1, 3, 4)[:, :, :3], n.reshape(1)); F.conv1d(l, k1, v[:2]); F.conv1d(l, k1, stride=2, padding=1)
F.conv2d(i, k2, v[:2], stride=2, padding=1); F.conv2d(i, k2, dilation=2); F.conv2d(i, k2[:, :1], groups=2)
F.conv2d(i, k2, padding='same'); F.conv3d(c, k3, v[:1]); F.conv_transpose1d(l, k1, stride=2)
F.conv_transpose2d(i, k2, v[:2], stride=2, output_padding=1); F.conv_transpose3d(c, k3, padding=1); F.unfold(i, 2)
F.fold(F.unfold(i, 2), (4, 4), 2); F.max_pool1d(l, 2); F.max_pool2d(i, 2); F.max_pool2d(i, 3, 1, 1); F.max_pool3d(c, 2)
F.avg_pool1d(l, 2); F.avg_pool2d(i, 3, 2, 1); F.avg_pool2d(i, 2, ceil_mode=True, count_include_pad=False); F.avg_pool3d(c, 2)
F.lp_pool1d(l.abs(), 2, 2); F.lp_pool2d(i.abs(), 2, 2); F.adaptive_avg_pool1d(l, 4); F.adaptive_avg_pool2d(i, (3, 2))
F.adaptive_avg_pool3d(c, 2); F.adaptive_max_pool1d(l, 4); F.adaptive_max_pool2d(i, 3); F.adaptive_max_pool3d(c, 2)
F.max_unpool2d(*F.max_pool2d(i, 2, return_indices=True), 2); F.lp_pool3d(c.abs(), 2, 2)
F.batch_norm(i, None, None, v[:2], w[:2], training=True); F.batch_norm(f, None, None, training=True)
F.batch_norm(i, W2, W2, v[:2], w[:2]); F.layer_norm(x, (3,), v, w); F.layer_norm(b, (3, 2)); F.group_norm(i, 2, v[:2], w[:2])
F.instance_norm(i); F.rms_norm(x, (3,), v); F.local_response_norm(i, 2); F.normalize(x, dim=1); F.embedding(I1, s); F.embedding(IX, s)
F.embedding_bag(IX, s, mode='sum'); F.embedding_bag(IX, s, mode='mean'); F.pixel_shuffle(i.reshape(1, 4, 2, 4), 2)
F.pixel_unshuffle(i, 2); F.channel_shuffle(i, 2); F.pad(x, (1, 1)); F.pad(i, (1, 2, 0, 1), mode='reflect')
F.pad(i, (1, 1, 1, 1), mode='replicate'); F.pad(i, (1, 1, 1, 1), mode='circular'); F.pad(x, (-1, 1), value=2.0)
F.interpolate(i, scale_factor=2, mode='nearest'); F.interpolate(i, size=(3, 5), mode='bilinear')
F.interpolate(l, size=4, mode='linear', align_corners=True); F.interpolate(i, size=(3, 3), mode='bicubic')
F.interpolate(i, size=2, mode='area'); F.grid_sample(i, g2, align_corners=False)
F.affine_grid(x[None], (1, 1, 2, 2), align_corners=False); F.cosine_similarity(x, y); F.pairwise_distance(x, y); F.pdist(h * 3)
F.mse_loss(x, y); F.mse_loss(x, y, reduction='none'); F.l1_loss(x, y, reduction='sum'); F.smooth_l1_loss(x, y)
F.huber_loss(x, y, delta=0.5); F.cross_entropy(x, Y); F.cross_entropy(x, Y, W3, label_smoothing=0.1); F.cross_entropy(x, PROB)
F.cross_entropy(x, Y, ignore_index=0, reduction='sum'); F.nll_loss(x, Y); F.nll_loss(x, Y, reduction='none')
F.binary_cross_entropy(x.sigmoid(), PROB); F.binary_cross_entropy_with_logits(x, PROB, pos_weight=W3)
F.kl_div(x, PROB, reduction='batchmean'); F.kl_div(x, y, reduction='sum', log_target=True); F.poisson_nll_loss(x, PROB)
F.gaussian_nll_loss(x, y, p); F.hinge_embedding_loss(x, TARGET); F.soft_margin_loss(x, TARGET); F.margin_ranking_loss(x, y, TARGET)
F.cosine_embedding_loss(x, y, SIGN); F.triplet_margin_loss(x, y, p); F.multi_margin_loss(x, Y); F.multilabel_margin_loss(x, IX)
F.multilabel_soft_margin_loss(x, PROB); F.scaled_dot_product_attention(b.mT, d, d * 2); F.dropout(x, 0.0)
F.ctc_loss(t.log_softmax(b.mT.reshape(4, 1, 3), 2), t.tensor([[1, 2]]), t.tensor([4]), t.tensor([2])); t.det(s)
t.logdet(s @ s.mT + EYE); t.slogdet(s)[1]; t.inverse(s + 3 * EYE); t.linalg.solve(s + 3 * EYE, h); t.cholesky(s @ s.mT + EYE)
t.linalg.cholesky(s @ s.mT + EYE); t.linalg.eigvalsh(s + s.mT); t.linalg.svdvals(s); t.qr(s + 3 * EYE); t.svd(s)[1]; t.pinverse(h)
t.cholesky_solve(h, (s @ s.mT + EYE).tril() + EYE); t.cholesky_inverse(s.tril() * 0.2 + EYE); t.lu_solve(h, *LU)
t.triangular_solve(h, s * 0.2 + EYE, upper=False)[0]; t.orgqr(h, v[:2] * 0.1); t.matrix_power(s, 3); t.matrix_exp(s * 0.3)
t.linalg.vector_norm(x, 3, 1); t.linalg.matrix_norm(s); t.linalg.multi_dot([x, h, y]); t.linalg.qr(s + 3 * EYE); t.linalg.pinv(h)
t.special.entr(p); t.special.ndtr(x); t.special.log_ndtr(x); t.special.i1(x); t.special.i0e(x); t.special.erfcx(x)
t.special.xlog1py(x, p)
""".strip().replace("\n", "; ").split("; ")

# Second derivatives that PyTorch does not have either, or that are not defined.
FIRST_ONLY = {"F.ctc_loss", "F.interpolate(i, size=(3, 3)", "F.grid_sample"}

# Second derivatives that are wrong; this table only ever shrinks.
WRONG = {"t.digamma(p)": "zero"}

WITHOUT_GRADIENT = set("""
all allclose any arange argmax argmin argsort argwhere as_tensor asarray bernoulli bincount binomial bitwise_and bitwise_left_shift
bitwise_not bitwise_or bitwise_right_shift bitwise_xor broadcast_shapes bucketize can_cast count_nonzero empty detach empty_like
empty_permuted empty_strided eq equal eye frexp from_dlpack from_numpy frombuffer full full_like gcd ge get_default_device get_default_dtype
get_device greater greater_equal gt histc histogram histogramdd is_complex is_conj is_floating_point is_inference is_neg is_nonzero
is_same_size is_signed is_storage is_tensor isclose isfinite isin isinf isnan isneginf isposinf isreal lcm le less less_equal linspace
logical_and logical_not logical_or logical_xor logspace lt multinomial ne nextafter nonzero nonzero_static normal not_equal numel ones
ones_like poisson promote_types rand rand_like randint randint_like randn randn_like randperm range result_type scalar_tensor
searchsorted set_default_device set_default_dtype set_default_tensor_type signbit tensor tril_indices triu_indices typename unique
unique_consecutive unravel_index zeros zeros_like is_set_to complex32 autocast_increment_nesting hash_tensor
are_deterministic_algorithms_enabled igamma igammac geqrf lu_unpack ormqr pca_lowrank svd_lowrank
""".split())  # the last ones: PyTorch has no gradient either, or only a random one


@pytest.fixture(autouse=True, scope="module")
def _interpreted():
    """The gradients' formulas are under test here, not the compiler: nothing of this runs often enough to be compiled."""
    before, recorder.eager = recorder.eager, True
    yield
    recorder.eager = before


def _case(row):
    code = compile(row, row, "eval")
    names = [n for n in INPUTS if re.search(rf"(?<![\w.'\"]){n}(?![\w'\"(=])", row)]

    def function(*args):
        out = eval(code, {**CONSTANTS, **dict(zip(names, args))})
        many = out if isinstance(out, (tuple, list)) else [out]
        many = tuple(y for y in many if y.dtype in (t.float64, t.complex128))
        return many if len(many) != 1 else many[0]

    return function, tuple(t.tensor(INPUTS[n].copy(), requires_grad=True) for n in names)


@pytest.mark.parametrize("row", ROWS)
def test_first_derivative(row):
    function, inputs = _case(row)
    assert gradcheck(function, inputs, check_grad_dtypes=True)


@pytest.mark.parametrize("row", [pytest.param(r, marks=pytest.mark.xfail(strict=True, reason=WRONG[r])) if r in WRONG else r
                                 for r in ROWS if not r.startswith(tuple(FIRST_ONLY))])
def test_second_derivative(row):
    function, inputs = _case(row)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize(("runs", "steady"), [(7, True), (1000, False)])
def test_last_bits_may_change_while_the_interpreter_serves(runs, steady):
    """A long path may run in it several times before it is compiled. What changes for ever is not reentrant."""
    seen = []

    class Twice(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            seen.append(g)
            return g * (2 + 1e-12 * min(len(seen), runs))

    x = t.tensor([1.0, 2.0], dtype=t.float64, requires_grad=True)
    if steady:
        assert gradcheck(Twice.apply, (x,))
    else:
        with pytest.raises(GradcheckError, match="not reentrant"):
            gradcheck(Twice.apply, (x,))


def test_no_function_is_forgotten():
    used = set(re.findall(r"\b(?:t|F)\.(\w+)\(", " ".join(ROWS)))
    rows_of_other_tests = {"numel"}
    public = {n for n in t._tensor.FUNCTIONS if not n.endswith("_")}
    assert sorted(public - used - WITHOUT_GRADIENT - rows_of_other_tests) == []


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_broadcasting_and_reductions_of_any_shape(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    other = tuple(data.draw(st.sampled_from([n, 1])) for n in shape)[data.draw(st.integers(0, len(shape) - 1)):]
    dims = tuple(data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True)))
    keep = data.draw(st.booleans())
    r = np.random.RandomState(data.draw(st.integers(0, 99)))
    a, b = (t.tensor(r.rand(*s) + 0.5, requires_grad=True) for s in (shape, other))
    assert gradcheck(lambda a, b: (a * b / (a + b)).sum(dims, keepdim=keep), (a, b))
    assert gradgradcheck(lambda a, b: (a * b / (a + b)).sum(dims, keepdim=keep), (a, b))
