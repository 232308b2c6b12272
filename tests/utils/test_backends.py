"""Switches of libraries that are not here: programs import, set and read them."""
from __future__ import annotations

import importlib

import pytest

import rushlight
from rushlight.nn.attention import SDPBackend, sdpa_kernel


def test_a_backend_can_be_imported_by_its_path():
    import rushlight.backends.cudnn as cudnn
    from rushlight.backends.cuda import matmul, sdp_kernel

    assert cudnn is rushlight.backends.cudnn and not cudnn.is_available() and cudnn.version() is None
    before = cudnn.benchmark
    with cudnn.flags(benchmark=not before):
        assert cudnn.benchmark is not before
    assert cudnn.benchmark is before
    assert matmul is rushlight.backends.cuda.matmul and sdp_kernel
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("rushlight.backends.nothing")


def test_a_choice_of_attention_is_kept_inside_its_block_and_changes_no_value():
    cuda = rushlight.backends.cuda
    enabled = lambda: (cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cuda.mem_efficient_sdp_enabled(),  # noqa: E731
                       cuda.cudnn_sdp_enabled())
    q = rushlight.randn(1, 2, 4, 8)
    attend = lambda: rushlight.nn.functional.scaled_dot_product_attention(q, q, q)  # noqa: E731
    plain = attend().numpy()
    for backends, want in ((SDPBackend.MATH, (False, True, False, False)),
                           ([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION], (True, False, True, False))):
        with sdpa_kernel(backends):
            assert enabled() == want
            assert abs(attend().numpy() - plain).max() < 1e-6
        assert enabled() == (True,) * 4
    with cuda.sdp_kernel(enable_flash=False):
        assert enabled() == (False, True, True, True)
    cuda.enable_math_sdp(False)
    assert enabled() == (True, False, True, True)
    cuda.enable_math_sdp(True)
    with pytest.raises(AssertionError, match="instance of SDPBackend"), sdpa_kernel("math"):
        pass


def test_names_of_compilers_change_nothing():
    torch = rushlight
    function = lambda x: x + 1  # noqa: E731
    assert torch.compiler.compile is torch.compile and torch.compile(function) is function
    assert torch.compiler.allow_in_graph(function) is function and torch.compiler.disable(function, reason="none") is function
    assert torch.compile(fullgraph=True, mode="max-autotune")(function) is function
    assert not torch.compiler.is_dynamo_compiling() and torch.compiler.list_backends() == []
    with torch.compiler.set_stance("force_eager"):
        assert function(1) == 2


def test_a_program_can_import_onnx_and_hears_that_it_cannot_export():
    import rushlight.onnx as onnx

    assert onnx is rushlight.onnx and not onnx.is_in_onnx_export()
    with pytest.raises(NotImplementedError, match=r"torch\.save"):
        onnx.export(rushlight.nn.Linear(1, 1), rushlight.ones(1, 1), "model.onnx")


@pytest.mark.parametrize("name", ["current_stream", "default_stream", "get_rng_state", "mem_get_info", "init", "synchronize"])
def test_what_asks_for_a_gpu_hears_that_there_is_none(name):
    with pytest.raises(AssertionError, match="CUDA"):
        getattr(rushlight.cuda, name)()


def test_a_full_gpu_can_be_caught_by_either_name():
    assert rushlight.cuda.OutOfMemoryError is rushlight.OutOfMemoryError and issubclass(rushlight.OutOfMemoryError, RuntimeError)
    with pytest.raises(ZeroDivisionError):
        try:
            1 / 0  # noqa: B018
        except rushlight.cuda.OutOfMemoryError:  # is looked up only when something else was raised
            pass
    assert rushlight.cuda.reset_peak_memory_stats() is None


def test_switches_of_the_compiler_are_modules_that_keep_what_is_set(monkeypatch):
    import rushlight._dynamo.config as dynamo
    import rushlight._inductor.config as inductor

    assert rushlight._inductor.config is inductor and rushlight._dynamo.config is dynamo
    monkeypatch.setattr(inductor, "coordinate_descent_tuning", True)
    monkeypatch.setattr(inductor.triton, "cudagraphs", True)
    monkeypatch.setattr(dynamo, "cache_size_limit", 64)
    assert rushlight._inductor.config.coordinate_descent_tuning and dynamo.cache_size_limit == 64
    assert rushlight._inductor.list_mode_options("max-autotune")["max_autotune"] and "freezing" in rushlight._inductor.list_options()
    with pytest.raises(KeyError):
        rushlight._inductor.list_mode_options("fast")


def test_no_device_has_a_generator_of_its_own():
    from rushlight.utils.checkpoint import get_device_states, set_device_states

    set_device_states(*get_device_states(rushlight.ones(2), [rushlight.ones(1)]))
    with pytest.raises(RuntimeError, match="there are no GPUs"):
        set_device_states([0], [rushlight.get_rng_state()])
