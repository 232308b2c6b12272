"""Rushlight: a deep-learning framework with PyTorch's programming model and a compiler underneath.

``import rushlight as torch``: the public namespace is laid out as torch's.
"""
from __future__ import annotations

import builtins as _builtins
import math as _math
import sys as _sys
from typing import Any as _Any

from . import autograd, random
from . import tensor as _tensor
from .autograd import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from .autograd.anomaly import is_anomaly_check_nan_enabled, is_anomaly_enabled
from .compile.dtypes import DType as dtype
from .compile.dtypes import (
    bfloat16,
    complex32,
    complex64,
    complex128,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .compile.dtypes import bool_ as bool  # noqa: A004
from .compiler import compile  # noqa: A004
from .ops import Names as _ops_names
from .random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .record import Device as device
from .tensor import Size, Tensor
from .tensor.kinds import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    finfo,
    iinfo,
    layout,
    memory_format,
    preserve_format,
    sparse_bsc,
    sparse_bsr,
    sparse_coo,
    sparse_csc,
    sparse_csr,
    strided,
)
from .tensor.printing import set_printoptions
from .tensor.types import TYPED as _TYPED
from .version import __version__

float, double, half = float32, float64, float16  # noqa: A001
int, long, short = int32, int64, int16  # noqa: A001
cfloat, cdouble, chalf = complex64, complex128, complex32
_device = device
pi, e, inf, nan, newaxis = _math.pi, _math.e, _math.inf, _math.nan, None

torch = _sys.modules[__name__]  # as PyTorch's package has itself among its names

globals().update(_tensor.FUNCTIONS)
globals().update(_TYPED)

# Names that are imported when they are first used, so that ``import rushlight`` stays quick: attribute -> (module, name in it).
_LAZY: dict[str, tuple[str, str | None]] = {
    **{name: (name, None) for name in (
        "accelerator", "amp", "audio", "backends", "compat", "compiler", "cpu", "cuda", "distributed", "distributions", "fft",
        "func", "fx", "hub", "io", "jit", "linalg", "metrics", "multiprocessing",
        "mps", "nn", "onnx", "optim", "overrides", "profiler", "serialization", "signal", "sparse", "special", "storage", "testing", "text",
        "tools", "utils", "version", "vision", "masked", "xpu",
        "functional", "futures", "library", "types", "_C", "_subclasses", "__config__", "_dynamo", "_higher_order_ops", "_inductor",
        "_ops", "_tensor_str",
        "_utils")},
    "classes": ("_ops", "classes"), "Future": ("futures", "Future"),
    "return_types": ("tensor.return_types", None),
    **{name: ("sparse", name) for name in (
        "sparse_compressed_tensor", "sparse_coo_tensor", "sparse_csc_tensor", "sparse_csr_tensor")},
    "spmm": ("sparse", "mm"), "smm": ("sparse", "mm"),
    **{name: ("checks", name) for name in (
        "SymBool", "SymFloat", "SymInt", "sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sum", "_assert_async",
        "_check", "_check_index", "_check_is_size", "_check_not_implemented", "_check_tensor_all", "_check_tensor_all_with",
        "_check_type", "_check_value", "_check_with")},
    "PyTorchFileReader": ("io.reader", "PyTorchFileReader"),
    "TypedStorage": ("storage", "TypedStorage"), "UntypedStorage": ("storage", "UntypedStorage"),
    "ScriptModule": ("jit", "ScriptModule"), "Stream": ("cuda", "Stream"), "Event": ("cuda", "Event"),
    "OutOfMemoryError": ("cuda", "OutOfMemoryError"), "save": ("io", "save"), "load": ("io", "load"),
    "stft": ("signal.spectral", "stft"), "istft": ("signal.spectral", "istft"),
    **{name: ("signal.windows", "torch_" + name) for name in (
        "hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window")},
    **{name: ("nn.toplevel", name) for name in (
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "conv_tbc",
        "rms_norm", "batch_norm", "layer_norm", "group_norm", "instance_norm", "native_batch_norm", "native_layer_norm",
        "native_group_norm", "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "max_pool1d", "max_pool1d_with_indices",
        "max_pool2d", "max_pool3d", "channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle",
        "constant_pad_nd", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "affine_grid_generator")},
    **{name: ("nn.rootnames", name) for name in (
        "alpha_dropout", "alpha_dropout_", "bilinear", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity",
        "ctc_loss", "dropout", "dropout_", "embedding", "embedding_renorm_", "feature_alpha_dropout", "feature_alpha_dropout_",
        "feature_dropout", "feature_dropout_", "hinge_embedding_loss", "kl_div", "margin_ranking_loss", "pairwise_distance", "pdist",
        "poisson_nll_loss", "rrelu", "rrelu_", "triplet_margin_loss")},
    **{name: ("nn.recurrent_functions", name) for name in (
        "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell")},
    "autocast": ("amp", "autocast"), "GradScaler": ("amp", "GradScaler"), "vmap": ("func", "vmap"),
    **{name: ("amp.state", name) for name in (
        "autocast_decrement_nesting", "autocast_increment_nesting", "clear_autocast_cache", "get_autocast_cpu_dtype",
        "get_autocast_dtype", "get_autocast_gpu_dtype", "is_autocast_cache_enabled", "is_autocast_cpu_enabled", "is_autocast_enabled",
        "set_autocast_cache_enabled", "set_autocast_cpu_dtype", "set_autocast_cpu_enabled", "set_autocast_dtype",
        "set_autocast_enabled", "set_autocast_gpu_dtype")},
    "get_num_threads": ("compile.cpu.pool", "get_num_threads"), "set_num_threads": ("compile.cpu.pool", "set_num_threads"),
}


def __getattr__(name: str) -> _Any:
    import importlib

    if name.startswith("_foreach_"):
        from .tensor.foreach import FOREACH

        globals().update(FOREACH)
    if name in globals():
        return globals()[name]
    if name not in _LAZY:
        raise AttributeError(f"module 'rushlight' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    try:
        found = importlib.import_module(f"rushlight.{module}")
    except ModuleNotFoundError as error:
        if error.name != f"rushlight.{module}":
            raise
        raise AttributeError(f"module 'rushlight' has no attribute {name!r}") from None
    value = found if attribute is None else getattr(found, attribute)
    globals()[name] = value
    return value


def _stft(self: _Any, *args: _Any, **kwargs: _Any) -> _Any:
    """The short-time Fourier transform (``rushlight.stft``)."""
    return __getattr__("stft")(self, *args, **kwargs)


def _istft(self: _Any, *args: _Any, **kwargs: _Any) -> _Any:
    """The inverse of the short-time Fourier transform (``rushlight.istft``)."""
    return __getattr__("istft")(self, *args, **kwargs)


def _to_sparse(self: _Any, *args: _Any, **kwargs: _Any) -> _Any:
    """What of the tensor is not zero, as a sparse tensor (``rushlight.sparse.to_sparse``)."""
    return __getattr__("sparse").to_sparse(self, *args, **kwargs)


def _sparse_mask(self: _Any, mask: _Any) -> _Any:
    """The values at the positions of a sparse tensor."""
    return __getattr__("sparse").answers.sparse_mask(self, mask)


def _to_dense(self: _Any, *dtypes: _Any, masked_grad: _Any = None, **options: _Any) -> _Any:
    """The tensor itself, or as another dtype: only sparse ones are not dense."""
    return self.to(*dtypes, **options)


def _sparse_method(name: str) -> _Any:
    """A method that sparse tensors have, and that only makes one of others, or refuses them."""
    def call(self: _Any, *args: _Any, **kwargs: _Any) -> _Any:
        return getattr(__getattr__("sparse").methods, name)(self, *args, **kwargs)
    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``rushlight.sparse``: {name.replace('_', ' ')} of a sparse tensor."
    return call


for _name in ("ccol_indices", "coalesce", "col_indices", "crow_indices", "dense_dim", "indices", "is_coalesced", "row_indices",
              "sparse_dim", "to_sparse_coo", "to_sparse_csc", "to_sparse_csr", "values", "_indices", "_nnz", "_values"):
    setattr(Tensor, _name, _sparse_method(_name))

Tensor.stft, Tensor.istft = _stft, _istft  # type: ignore[attr-defined]
Tensor.to_sparse, Tensor.sparse_mask, Tensor.to_dense = _to_sparse, _sparse_mask, _to_dense  # type: ignore[attr-defined]


def _operators(name: str) -> _Any:
    """The namespace ``torch.ops.<name>`` of operators by their dispatcher's names."""
    return __getattr__("_ops").namespace(name)


_ops_names.of = staticmethod(_operators)  # type: ignore[assignment]
globals()["torch"] = _sys.modules[__name__]  # editors write ``from torch import torch``, which works in PyTorch


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def _assert(condition: _Any, message: str) -> None:
    """``assert condition, message`` as a function."""
    if condition is not True and condition is not False and type(condition) is not Tensor:
        overrides = __getattr__("overrides")
        if overrides.has_torch_function((condition,)):
            overrides.handle_torch_function(_assert, (condition,), condition, message)
            return
    assert condition, message


def get_num_interop_threads() -> _Any:
    """The number of programs that run at once: one for each Python thread that runs any."""
    return 1


def set_num_interop_threads(n: _Any) -> None:
    """Accepted for compatibility.

    Raises:
        RuntimeError: not a positive number.
    """
    if n <= 0:
        raise RuntimeError(f"Expected positive number of threads, got {n}")


_warns_only = False


def use_deterministic_algorithms(mode: _Any, *, warn_only: _Any = False) -> None:
    """Accepted for compatibility: results are the same from run to run, and for any number of threads."""
    global _warns_only
    _warns_only = warn_only


def are_deterministic_algorithms_enabled() -> _Any:
    """True: results are the same from run to run."""
    return True


def is_deterministic_algorithms_warn_only_enabled() -> _Any:
    """The ``warn_only`` that ``use_deterministic_algorithms`` was last told, False at first. Nothing is warned of: results are the same."""
    return _warns_only


def get_deterministic_debug_mode() -> _Any:
    """1 if only warnings were asked for (``use_deterministic_algorithms``), else 2: results are the same from run to run."""
    return 1 if _warns_only else 2


def set_deterministic_debug_mode(debug_mode: _Any) -> None:
    """Accepted for compatibility: "default" or 0, "warn" or 1, "error" or 2.

    Raises:
        RuntimeError: another mode. TypeError: neither a string nor a number.
    """
    if not isinstance(debug_mode, (_builtins.int, str)):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if debug_mode not in ("default", "warn", "error", 0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got {debug_mode}")
    use_deterministic_algorithms(True, warn_only=debug_mode in ("warn", 1))


def get_device_module(device: _Any = None) -> _Any:
    """The module of a kind of devices: ``cpu``, or that which says that there is no such device.

    Raises:
        RuntimeError: there is no module of this name.
    """
    kind = "cpu" if device is None else _device(device).type
    found = getattr(torch, kind, None)
    if found is None:
        raise RuntimeError(f"Device '{device}' does not have a corresponding module registered as 'torch.{kind}'.")
    return found


_matmul_precision = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Remembered for ``get_float32_matmul_precision``; float32 products are computed in float32 with any.

    Raises:
        ValueError: not "highest", "high" or "medium".
    """
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"Invalid float32 matmul precision: {precision!r}")
    global _matmul_precision
    _matmul_precision = precision


def get_float32_matmul_precision() -> str:
    """What was set last, "highest" at first."""
    return _matmul_precision
