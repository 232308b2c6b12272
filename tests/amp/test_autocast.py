"""Autocast against PyTorch's: which type each operation chooses, values, gradients, nesting, and what recording costs."""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rushlight
from rushlight.record import local
from rushlight.record.flush import flush
from rushlight.record.paths import path_to
from rushlight.tools.profiler import counters

torch = pytest.importorskip("torch")

#: name -> (function of the namespace and tensors, shapes)
CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    # to the narrow type
    "matmul": (lambda t, a, b: t.matmul(a, b), ((5, 6), (6, 4))),
    "operator": (lambda t, a, b: a @ b, ((5, 6), (6, 4))),
    "matmul of vectors": (lambda t, a, b: t.matmul(a, b), ((6,), (6,))),
    "matmul with a vector": (lambda t, a, b: a @ b, ((3, 5, 6), (6,))),
    "mm": (lambda t, a, b: t.mm(a, b), ((5, 6), (6, 4))),
    "bmm": (lambda t, a, b: t.bmm(a, b), ((2, 5, 6), (2, 6, 4))),
    "addmm": (lambda t, c, a, b: t.addmm(c, a, b), ((5, 4), (5, 6), (6, 4))),
    "baddbmm": (lambda t, c, a, b: t.baddbmm(c, a, b, beta=0.5), ((2, 5, 4), (2, 5, 6), (2, 6, 4))),
    "addbmm": (lambda t, c, a, b: t.addbmm(c, a, b), ((5, 4), (2, 5, 6), (2, 6, 4))),
    "einsum": (lambda t, a, b: t.einsum("bij,bjk->bik", a, b), ((2, 5, 6), (2, 6, 4))),
    "tensordot": (lambda t, a, b: t.tensordot(a, b, dims=1), ((5, 6), (6, 4))),
    "linear": (lambda t, x, w, b: t.nn.functional.linear(x, w, b), ((3, 6), (4, 6), (4,))),
    "linear without bias": (lambda t, x, w: t.nn.functional.linear(x, w), ((2, 3, 6), (4, 6))),
    "conv1d": (lambda t, x, w, b: t.nn.functional.conv1d(x, w, b), ((2, 3, 9), (4, 3, 3), (4,))),
    "conv2d": (lambda t, x, w, b: t.nn.functional.conv2d(x, w, b, padding=1), ((2, 3, 6, 6), (4, 3, 3, 3), (4,))),
    "conv2d same": (lambda t, x, w: t.nn.functional.conv2d(x, w, padding="same"), ((2, 3, 6, 6), (4, 3, 3, 3))),
    "conv3d": (lambda t, x, w: t.nn.functional.conv3d(x, w), ((2, 3, 4, 4, 4), (4, 3, 2, 2, 2))),
    "conv_transpose1d": (lambda t, x, w: t.nn.functional.conv_transpose1d(x, w), ((2, 3, 9), (3, 4, 3))),
    "conv_transpose2d": (lambda t, x, w, b: t.nn.functional.conv_transpose2d(x, w, b, stride=2), ((2, 3, 5, 5), (3, 4, 3, 3), (4,))),
    "conv_tbc": (lambda t, x, w, b: t.conv_tbc(x, w, b), ((7, 2, 3), (3, 3, 4), (4,))),
    "prelu": (lambda t, x, w: t.nn.functional.prelu(x, w), ((3, 4), (1,))),
    "attention": (lambda t, q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v), ((2, 2, 5, 8),) * 3),
    "causal attention": (lambda t, q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True), ((2, 2, 5, 8),) * 3),
    "masked attention": (lambda t, q, k, v, m: t.nn.functional.scaled_dot_product_attention(q, k, v, m), ((2, 5, 8),) * 3 + ((5, 5),)),
    # to float32
    "mse_loss": (lambda t, x, y: t.nn.functional.mse_loss(x, y), ((3, 4),) * 2),
    "l1_loss": (lambda t, x, y: t.nn.functional.l1_loss(x, y, reduction="none"), ((3, 4),) * 2),
    "smooth_l1_loss": (lambda t, x, y: t.nn.functional.smooth_l1_loss(x, y), ((3, 4),) * 2),
    "huber_loss": (lambda t, x, y: t.nn.functional.huber_loss(x, y), ((3, 4),) * 2),
    "binary_cross_entropy": (lambda t, x, y: t.nn.functional.binary_cross_entropy(x.sigmoid(), y.sigmoid()), ((3, 4),) * 2),
    "binary_cross_entropy_with_logits": (lambda t, x, y: t.nn.functional.binary_cross_entropy_with_logits(x, y.sigmoid()), ((3, 4),) * 2),
    "cross_entropy": (lambda t, x: t.nn.functional.cross_entropy(x, t.arange(3)), ((3, 4),)),
    "cross_entropy of probabilities": (lambda t, x, y: t.nn.functional.cross_entropy(x, y.softmax(1)), ((3, 4),) * 2),
    "nll_loss": (lambda t, x: t.nn.functional.nll_loss(x.log_softmax(1), t.arange(3)), ((3, 4),)),
    "kl_div": (lambda t, x, y: t.nn.functional.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"), ((3, 4),) * 2),
    "soft_margin_loss": (lambda t, x, y: t.nn.functional.soft_margin_loss(x, y.sign()), ((3, 4),) * 2),
    "poisson_nll_loss": (lambda t, x, y: t.nn.functional.poisson_nll_loss(x, y.abs()), ((3, 4),) * 2),
    "hinge_embedding_loss": (lambda t, x, y: t.nn.functional.hinge_embedding_loss(x, y.sign()), ((3, 4),) * 2),
    "margin_ranking_loss": (lambda t, x, y, z: t.nn.functional.margin_ranking_loss(x, y, z.sign().detach()), ((4,),) * 3),
    "cosine_embedding_loss": (lambda t, x, y, z: t.nn.functional.cosine_embedding_loss(x, y, z.sign()), ((3, 4), (3, 4), (3,))),
    "triplet_margin_loss": (lambda t, x, y, z: t.nn.functional.triplet_margin_loss(x, y, z), ((3, 4),) * 3),
    "multi_margin_loss": (lambda t, x: t.nn.functional.multi_margin_loss(x, t.arange(3)), ((3, 4),)),
    "cdist": (lambda t, x, y: t.cdist(x, y), ((3, 4), (5, 4))),
    "prod": (lambda t, x: t.prod(x), ((3, 4),)),
    "prod of a dimension": (lambda t, x: x.prod(1), ((3, 4),)),
    "quantile": (lambda t, x: t.quantile(x, 0.3), ((9,),)),
    "nanquantile": (lambda t, x: t.nanquantile(x, 0.3), ((9,),)),
    "trace": (lambda t, x: t.trace(x), ((4, 4),)),
    "polar": (lambda t, x, y: t.view_as_real(t.polar(x.abs(), y)), ((3,), (3,))),
    "view_as_complex": (lambda t, x: t.view_as_real(t.view_as_complex(x) * 1), ((3, 2),)),
    "fft": (lambda t, x: t.view_as_real(t.fft.fft(x)), ((8,),)),
    "rfft2": (lambda t, x: t.view_as_real(t.fft.rfft2(x)), ((4, 8),)),
    "irfftn": (lambda t, x: t.fft.irfftn(x), ((4, 8),)),
    "stft": (lambda t, x: t.view_as_real(t.stft(x, 8, window=t.hann_window(8), return_complex=True)), ((32,),)),
    "inv": (lambda t, x: t.linalg.inv(x + 5 * t.eye(4)), ((4, 4),)),
    "solve": (lambda t, x, y: t.linalg.solve(x + 5 * t.eye(4), y), ((4, 4), (4, 2))),
    "svdvals": (lambda t, x: t.linalg.svdvals(x), ((4, 3),)),
    "cholesky": (lambda t, x: t.linalg.cholesky((x.float() @ x.float().T).float() + 5 * t.eye(4)), ((4, 4),)),
    "eigvalsh": (lambda t, x: t.linalg.eigvalsh(x), ((4, 4),)),
    "qr": (lambda t, x: t.linalg.qr(x)[1].abs(), ((4, 4),)),
    "matrix_rank": (lambda t, x: t.linalg.matrix_rank(x), ((4, 4),)),
    "grid_sample": (lambda t, x, g: t.nn.functional.grid_sample(x, g, align_corners=False), ((2, 3, 4, 4), (2, 5, 5, 2))),
    "avg_pool3d": (lambda t, x: t.nn.functional.avg_pool3d(x, 2), ((1, 2, 4, 4, 4),)),
    "max_pool3d": (lambda t, x: t.nn.functional.max_pool3d(x, 2), ((1, 2, 4, 4, 4),)),
    "adaptive_avg_pool3d": (lambda t, x: t.nn.functional.adaptive_avg_pool3d(x, 2), ((1, 2, 4, 4, 4),)),
    "reflection_pad1d": (lambda t, x: t.nn.functional.pad(x, (1, 1), mode="reflect"), ((1, 2, 4),)),
    "reflection_pad2d": (lambda t, x: t.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), ((1, 2, 4, 4),)),
    "replication_pad2d": (lambda t, x: t.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), ((1, 2, 4, 4),)),
    # left alone
    "add": (lambda t, x, y: x + y, ((3, 4),) * 2),
    "mul": (lambda t, x, y: x * y, ((3, 4),) * 2),
    "sum": (lambda t, x: x.sum(), ((3, 4),)),
    "exp": (lambda t, x: x.exp(), ((3, 4),)),
    "softmax": (lambda t, x: x.softmax(1), ((3, 4),)),
    "log_softmax": (lambda t, x: x.log_softmax(1), ((3, 4),)),
    "layer_norm": (lambda t, x: t.nn.functional.layer_norm(x, (4,)), ((3, 4),)),
    "batch_norm": (lambda t, x: t.nn.functional.batch_norm(x, None, None, training=True), ((6, 4),)),
    "gelu": (lambda t, x: t.nn.functional.gelu(x), ((3, 4),)),
    "cosine_similarity": (lambda t, x, y: t.nn.functional.cosine_similarity(x, y), ((3, 4),) * 2),
    "mean": (lambda t, x: x.mean(), ((3, 4),)),
    "max_pool2d": (lambda t, x: t.nn.functional.max_pool2d(x, 2), ((1, 2, 4, 4),)),
    "avg_pool2d": (lambda t, x: t.nn.functional.avg_pool2d(x, 2), ((1, 2, 4, 4),)),
    "circular pad": (lambda t, x: t.nn.functional.pad(x, (1, 1), mode="circular"), ((1, 2, 4),)),
    "constant pad": (lambda t, x: t.nn.functional.pad(x, (1, 1)), ((1, 2, 4),)),
    "mv": (lambda t, a, b: t.mv(a, b), ((5, 6), (6,))),
    "dot": (lambda t, a, b: t.dot(a, b), ((6,), (6,))),
    "outer": (lambda t, a, b: t.outer(a, b), ((6,), (5,))),
    # the widest type
    "cat": (lambda t, x, y: t.cat([x, y]), ((3, 4),) * 2),
    "stack": (lambda t, x, y: t.stack([x, y]), ((3, 4),) * 2),
    "index_copy": (lambda t, x, y: t.index_copy(x, 0, t.tensor([2, 0]), y), ((3, 4), (2, 4))),
}
#: Mixed inputs that PyTorch refuses also under autocast (the operation is not on its lists), or in one order only.
DTYPES = {"float32": ("float32",), "bfloat16": ("bfloat16",), "mixed": ("bfloat16", "float32"), "float64": ("float64",),
          "float16": ("float16",)}


def given(shapes, dtypes, ns):
    r = np.random.default_rng(0)
    return [ns.tensor(r.standard_normal(s), dtype=getattr(ns, dtypes[k % len(dtypes)]), requires_grad=True) for k, s in enumerate(shapes)]


def outcome(function, shapes, dtypes, ns, low):
    """(result or None where the call is refused, gradients)."""
    tensors = given(shapes, dtypes, ns)
    try:
        with ns.autocast("cpu", dtype=getattr(ns, low)):
            y = function(ns, *tensors)
    except (RuntimeError, NotImplementedError, ValueError):
        return None, None
    if not y.is_floating_point():
        return y, None
    y.sum().backward()
    return y, [t.grad for t in tensors]


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_operations_choose_the_types_that_pytorch_chooses(name, dtypes):
    function, shapes = CASES[name]
    want, want_grads = outcome(function, shapes, DTYPES[dtypes], torch, "bfloat16")
    if want is None:
        pytest.skip("PyTorch refuses this")
    got, grads = outcome(function, shapes, DTYPES[dtypes], rushlight, "bfloat16")
    assert got is not None
    assert str(got.dtype) == str(want.dtype)
    assert tuple(got.shape) == tuple(want.shape)
    narrow = "bfloat16" in (*DTYPES[dtypes], str(want.dtype).split(".")[1]) or dtypes == "float16"
    np.testing.assert_allclose(got.detach().double().numpy(), want.detach().double().numpy(), *((3e-2, 6e-2) if narrow else (1e-4, 1e-5)))
    for g, w in zip(grads or (), want_grads or (), strict=True):
        assert (g is None) == (w is None)
        if g is not None:
            assert str(g.dtype) == str(w.dtype)
            np.testing.assert_allclose(g.double().numpy(), w.double().numpy(), *((5e-2, 8e-2) if narrow else (1e-4, 1e-5)))


def test_float16_regions():
    a = rushlight.ones(3, 3)
    with rushlight.autocast("cpu", dtype=rushlight.float16):
        assert (a @ a).dtype is rushlight.float16


def test_nesting_as_in_pytorch():
    def run(t):
        a = t.ones(3, 3)
        seen = [(a @ a).dtype]
        with t.autocast("cpu"):
            seen.append((a @ a).dtype)
            with t.autocast("cpu", enabled=False):
                seen.append((a @ a).dtype)
                with t.autocast("cpu", dtype=t.float16):
                    seen.append((a @ a).dtype)
                    seen.append(t.get_autocast_dtype("cpu"))
                seen.append((a @ a).dtype)
            seen.append((a @ a).dtype)
            seen.append(t.is_autocast_enabled("cpu"))
        seen += [(a @ a).dtype, t.is_autocast_enabled("cpu"), t.get_autocast_dtype("cpu"), t.get_autocast_dtype("cuda")]
        return [str(s) for s in seen]
    assert run(rushlight) == run(torch)


def test_one_region_object_can_be_entered_again_inside_itself():
    region, a = rushlight.autocast("cpu"), rushlight.ones(2, 2)
    with region, region:
        assert (a @ a).dtype is rushlight.bfloat16
    assert (a @ a).dtype is rushlight.float32


def test_decorator():
    @rushlight.autocast("cpu", dtype=rushlight.bfloat16)
    def forward(x):
        """Doc."""
        return x @ x

    assert forward.__name__ == "forward" and forward.__doc__ == "Doc."
    assert forward(rushlight.ones(2, 2)).dtype is rushlight.bfloat16
    assert not rushlight.is_autocast_enabled("cpu")
    with pytest.raises(TypeError, match="requires a callable"):
        rushlight.autocast("cpu")(3)


def test_an_exception_leaves_the_region():
    with pytest.raises(ZeroDivisionError), rushlight.autocast("cpu"):
        raise ZeroDivisionError
    assert not rushlight.is_autocast_enabled("cpu")
    assert (rushlight.ones(2, 2) @ rushlight.ones(2, 2)).dtype is rushlight.float32


def test_setters():
    a = rushlight.ones(2, 2)
    rushlight.set_autocast_enabled("cpu", True)
    rushlight.set_autocast_dtype("cpu", rushlight.float16)
    try:
        assert (a @ a).dtype is rushlight.float16
    finally:
        rushlight.set_autocast_enabled("cpu", False)
        rushlight.set_autocast_dtype("cpu", rushlight.bfloat16)
    assert (a @ a).dtype is rushlight.float32


def test_arguments():
    with pytest.raises(ValueError, match="of type `str`"):
        rushlight.autocast(rushlight.device("cpu"))
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'abacus'"):
        rushlight.autocast("abacus")
    with pytest.warns(UserWarning, match="target dtype is not supported"):
        region = rushlight.autocast("cpu", dtype=rushlight.float64)
    with region:
        assert not rushlight.is_autocast_enabled("cpu")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        region = rushlight.autocast("cuda")
    with region:
        assert (rushlight.ones(2, 2) @ rushlight.ones(2, 2)).dtype is rushlight.float32


def test_older_names():
    with pytest.warns(FutureWarning, match="torch.cpu.amp.autocast"):
        region = rushlight.cpu.amp.autocast()
    with region:
        assert (rushlight.ones(2, 2) @ rushlight.ones(2, 2)).dtype is rushlight.bfloat16
    from rushlight.cuda.amp import GradScaler, autocast
    with pytest.warns(UserWarning, match="CUDA is not available"):
        with pytest.warns(FutureWarning, match="torch.cuda.amp.autocast"):
            autocast()
    with pytest.warns(UserWarning, match="CUDA is not available"), pytest.warns(FutureWarning, match="torch.cuda.amp.GradScaler"):
        assert not GradScaler().is_enabled()


def test_another_thread_has_a_state_of_its_own():
    seen = []
    with rushlight.autocast("cpu"):
        thread = threading.Thread(target=lambda: seen.append((rushlight.ones(2, 2) @ rushlight.ones(2, 2)).dtype))
        thread.start()
        thread.join()
    assert seen == [rushlight.float32]


def test_parameters_are_cast_once_and_cast_again_after_a_write():
    w = rushlight.nn.Parameter(rushlight.ones(3, 3))
    x = rushlight.ones(3, 3)
    flush()
    with rushlight.autocast("cpu"):
        y = (x @ w) + (x @ w)
        names = [n.op.name for n in path_to(local.trace.node) if n.op is not None]
        assert names.count("to") == 3  # the weight once, x, which wants no gradient, at each use
        with rushlight.no_grad():
            w.mul_(2)
        assert (x @ w)[0, 0].item() == 6
        with rushlight.no_grad():  # a cast without gradient is another one
            assert not (x @ w).requires_grad
        assert (x @ w).requires_grad
    y.float().sum().backward()
    assert w.grad.dtype is rushlight.float32 and w.grad[0, 0].item() == 6
    assert not local.trace.regions.cache


def test_cache_can_be_off():
    w, x = rushlight.nn.Parameter(rushlight.ones(3, 3)), rushlight.ones(3, 3)
    flush()
    with rushlight.autocast("cpu", cache_enabled=False):
        _ = (x @ w) + (x @ w)
        names = [n.op.name for n in path_to(local.trace.node) if n.op is not None]
    assert names.count("to") == 4


def mlp(t):
    return t.nn.Sequential(t.nn.Linear(6, 16), t.nn.GELU(), t.nn.LayerNorm(16), t.nn.Linear(16, 4))


def test_a_training_step_against_pytorch_builds_once():
    theirs, ours = mlp(torch), mlp(rushlight)
    ours.load_state_dict({k: rushlight.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    r = np.random.default_rng(0)
    x, y = r.standard_normal((32, 6), np.float32), r.integers(0, 4, 32)
    losses = []
    for t, model in ((torch, theirs), (rushlight, ours)):
        optimizer = t.optim.SGD(model.parameters(), lr=0.3)
        losses.append([])
        for step in range(12):
            before = counters()
            optimizer.zero_grad()
            with t.autocast("cpu", dtype=t.bfloat16):
                loss = t.nn.functional.cross_entropy(model(t.tensor(x)), t.tensor(y))
            loss.backward()
            assert all(p.grad.dtype is t.float32 for p in model.parameters())
            optimizer.step()
            losses[-1].append(loss.item())
            if t is rushlight and step > 3:
                spent = counters() - before
                assert spent.programs_built == spent.kernels_compiled == spent.cold_runs == 0
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)


def test_flush_inside_a_region():
    a = rushlight.ones(3, 3)
    with rushlight.autocast("cpu"):
        for _ in range(5):
            before = counters()
            b = a @ a
            assert b[0, 0].item() == 3 and b.dtype is rushlight.bfloat16
        assert (counters() - before).programs_built == 0
    assert (a @ a).dtype is rushlight.float32


def test_regions_without_content_leave_no_trace():
    flush()
    start, nodes = local.trace.node, local.trace.nodes
    for _ in range(100):
        with rushlight.autocast("cpu"):
            pass
    assert local.trace.node is start and local.trace.nodes <= nodes + 1
    a = rushlight.ones(2, 2) + 1
    depth = local.trace.node.depth
    for _ in range(100):
        with rushlight.autocast("cpu"):
            pass
    assert local.trace.node.depth <= depth + 1 and (a @ a).dtype is rushlight.float32


def test_paths_inside_and_outside_are_not_shared():
    a, b = rushlight.ones(2, 2), rushlight.ones(2, 2)
    for _ in range(3):
        assert (a @ b).dtype is rushlight.float32
        flush()
        with rushlight.autocast("cpu"):
            assert (a @ b).dtype is rushlight.bfloat16
        flush()
        c = a + b
        with rushlight.autocast("cpu"):
            assert (c @ b).dtype is rushlight.bfloat16
        assert (c @ b).dtype is rushlight.float32


def test_backward_inside_a_region_gives_the_same():
    def gradient(t, inside):
        w = t.nn.Parameter(t.linspace(-1, 1, 12).reshape(3, 4))
        x = t.linspace(0, 1, 8).reshape(2, 4)
        for _ in range(3):
            w.grad = None
            with t.autocast("cpu"):
                loss = (t.nn.functional.linear(x, w).float() ** 2).mean()
                if inside:
                    loss.backward()
            if not inside:
                loss.backward()
        return w.grad
    inside, outside = gradient(rushlight, True), gradient(rushlight, False)
    assert inside.dtype is outside.dtype is rushlight.float32
    np.testing.assert_array_equal(inside.numpy(), outside.numpy())
    np.testing.assert_allclose(inside.numpy(), gradient(torch, True).numpy(), rtol=2e-2, atol=2e-2)


def test_checkpoint_computes_again_in_the_types_of_the_forward():
    from rushlight.utils.checkpoint import checkpoint

    layer, x = rushlight.nn.Linear(4, 4), rushlight.ones(2, 4, requires_grad=True)
    types = []

    def run(x):
        y = layer(x)
        types.append(y.dtype)
        return y
    with rushlight.autocast("cpu"):
        y = checkpoint(run, x, use_reentrant=False)
    y.float().sum().backward()
    assert types == [rushlight.bfloat16] * 2
    assert layer.weight.grad.dtype is rushlight.float32


@pytest.mark.parametrize("cast_inputs", [None, "float32"])
def test_custom_functions(cast_inputs):
    def run(t):
        seen = []

        class Product(t.autograd.Function):
            @staticmethod
            @t.amp.custom_fwd(device_type="cpu", cast_inputs=cast_inputs and getattr(t, cast_inputs))
            def forward(ctx, a, b):
                ctx.save_for_backward(a, b)
                y = a @ b
                seen.append(str(y.dtype))
                return y

            @staticmethod
            @t.amp.custom_bwd(device_type="cpu")
            def backward(ctx, g):
                a, b = ctx.saved_tensors
                da, db = g @ b.T, a.T @ g
                seen.extend([str(g.dtype), str(da.dtype)])
                return da, db
        a, b = t.ones(2, 3, requires_grad=True), t.ones(3, 2, requires_grad=True)
        with t.autocast("cpu"):
            y = Product.apply(a, b)
        y.float().sum().backward()
        return [*seen, str(a.grad.dtype), a.grad.tolist()]
    assert run(rushlight) == run(torch)


def test_a_function_without_decorators_sees_the_region_that_backward_is_called_in():
    class Product(rushlight.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a.to(rushlight.bfloat16), b)
            return a @ b

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            return (g.float() @ b.T), a.T @ g.float()  # mixed: only autocast lets this pass
    a, b = rushlight.ones(2, 3, requires_grad=True), rushlight.ones(3, 2, requires_grad=True)
    with rushlight.autocast("cpu"):
        Product.apply(a, b).float().sum().backward()
    assert a.grad.tolist() == [[2.0] * 3] * 2


def test_layers():
    """Attention, recurrent and convolutional layers run, with gradients in float32, and choose PyTorch's result types."""
    def run(t):
        t.manual_seed(0)
        out = []
        layers = [(t.nn.MultiheadAttention(8, 2), ((3, 2, 8),) * 3), (t.nn.LSTM(4, 8), ((5, 2, 4),)), (t.nn.GRU(4, 8), ((5, 2, 4),)),
                  (t.nn.Conv2d(3, 4, 3), ((1, 3, 6, 6),)), (t.nn.ConvTranspose2d(3, 4, 3), ((1, 3, 6, 6),)),
                  (t.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), ((3, 2, 8),))]
        for layer, shapes in layers:
            r = np.random.default_rng(0)
            with t.autocast("cpu"):
                y = layer(*[t.tensor(r.standard_normal(s, np.float32)) for s in shapes])
            y = y[0] if isinstance(y, tuple) else y
            y.float().sum().backward()
            assert all(p.grad.dtype is t.float32 for p in layer.parameters() if p.grad is not None)
            out.append((type(layer).__name__, str(y.dtype), y.float().detach().numpy()))
        return out
    for (name, dtype, value), (_, want, expected) in zip(run(rushlight), run(torch), strict=True):
        assert dtype == want, name
        np.testing.assert_allclose(value, expected, rtol=5e-2, atol=5e-2, err_msg=name)


def test_recording_outside_of_a_region_looks_at_nothing_new():
    """Zero cost: what is found in the trie is taken without asking for autocast, in the same number of bytecodes."""
    import dis

    from rushlight.autograd.apply import apply

    text = list(dis.get_instructions(apply))
    asks = [k for k, i in enumerate(text) if i.argval == "low"]
    misses = [k for k, i in enumerate(text) if i.argval == "get"]  # the look-up in the trie, and then those of its miss
    assert asks and all(k > misses[0] for k in asks)
    a, b = rushlight.ones(2, 2), rushlight.ones(2, 2)
    for _ in range(3):
        nodes = local.trace.nodes
        (a @ b).sum().item()
    assert local.trace.nodes == nodes  # everything was found
