"""``out=``: a function's result written into tensors that the caller gives, by PyTorch's rules of dtypes, shapes and overlap."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import apply, value_of
from ..autograd.handle import TYPE_NAMES, Handle
from ..autograd.quick import explained
from ..autograd.writing import OVERLAP, check_apart, check_overlap, write
from ..ops.basic import cast, clone, update_view
from ..record.meta import CPU
from ..record.trace import local
from ..record.warn import warn

__all__ = ["assign", "check_kinds", "fill_out", "with_out"]

# Functions that take the dtype of ``out`` where none is given, and resize it without a word. (The random ones draw in it.)
_MAKERS = frozenset(("zeros", "ones", "full", "eye", "arange", "range", "linspace", "logspace", "rand", "randn", "randint", "randperm"))
_SUMS = frozenset(("sum", "nansum", "prod", "cumsum", "cumprod"))  # compute in the dtype of ``out``
_SILENT = _MAKERS - {"arange"} | {"normal", "bernoulli", "multinomial", "narrow_copy", "addbmm", "logsigmoid"}

# Functions that convert nothing: ``out`` has the dtype of the result. All others write into whatever can hold it.
_EXACT = frozenset(("""
    abs addbmm addmm addmv alias_copy all amax amin aminmax any argmax argmin as_strided_copy avg_pool2d avg_pool3d
    baddbmm bitwise_not bmm bucketize ceil conj_physical cross cummax cummin diag diagonal_copy diff dot expand_copy
    floor frac frexp gather gelu hardshrink heaviside histc histogram index_add index_copy index_reduce index_select
    inner isin isneginf isposinf kthvalue linalg_cholesky linalg_cholesky_ex linalg_cross linalg_det linalg_eigh
    linalg_eigvalsh linalg_inv linalg_inv_ex linalg_lu linalg_lu_factor linalg_lu_factor_ex linalg_lu_solve
    linalg_matrix_norm linalg_matrix_power linalg_multi_dot linalg_norm linalg_qr linalg_slogdet linalg_solve
    linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_vecdot linalg_vector_norm linear
    log_softmax logcumsumexp logsigmoid lu_solve lu_unpack masked_select matmul max.dim median.dim min.dim mm mode
    msort multinomial mv nan_to_num nanmedian.dim nanquantile narrow_copy neg nonzero norm ormqr permute_copy qr
    quantile renorm round scatter scatter_add scatter_reduce searchsorted sgn sign signbit slice_scatter softmax
    softplus softshrink sort split_with_sizes_copy squeeze_copy svd t_copy take take_along_dim tensordot topk
    transpose_copy triangular_solve tril triu trunc unbind_copy unfold_copy unsqueeze_copy vdot view_copy where""").split())
_PAIRS = frozenset(("max", "min", "median", "nanmedian"))  # with a dimension these give positions, too
_ALSO_BYTES = frozenset(("all", "any"))  # of which bytes were the result before there were booleans

# Functions that may write over a part of what they read; all others refuse.
_OVERLAPPING = frozenset(("""
    alias_copy amax amin as_strided_copy avg_pool2d avg_pool3d bmm cholesky cholesky_inverse cholesky_solve diag diagonal_copy expand_copy
    histc inner linear log_softmax logsigmoid logsumexp lu_solve matmul mean mm mv mvlgamma nanmean nanquantile nansum norm ormqr
    permute_copy prod quantile slice_scatter softmax special_ndtr squeeze_copy std sum t_copy tensordot transpose_copy tril triu unfold_copy
    unsqueeze_copy var view_copy""").split())
_NOT_IN_PLACE = frozenset(("cat", "cross", "gather", "index_select", "kthvalue", "linalg_cross", "take",
                           "take_along_dim"))  # not even over all of it
_JOINS = frozenset(("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "row_stack", "column_stack"))


def with_out(define: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function that takes ``out=``."""
    @functools.wraps(define)
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            return _into(define, name, out, args, kwargs)
        try:
            return define(*args, **kwargs)
        except AttributeError as error:
            bound = inspect.signature(define).bind(*args, **kwargs)
            bound.apply_defaults()
            raise explained(error, define, tuple(bound.arguments.values())) from None
    call.__name__ = name
    return call


def _into(define: Callable[..., Any], name: str, out: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    from ..autograd.modes import no_grad

    many = isinstance(out, (tuple, list))
    targets = out if many else (out,)
    for t in targets:
        if not isinstance(t, Handle):
            raise TypeError(f"{name}(): argument 'out' must be {'tuple of Tensors' if many else 'Tensor'}, not {type(t).__name__}")
    if (name in _MAKERS or name in _SUMS) and kwargs.get("dtype") is None and not many:
        kwargs = {**kwargs, "dtype": out.dtype}
    grad = local.trace.grad_enabled
    with no_grad():
        results = define(*args, **kwargs)
        parts = (results,) if isinstance(results, Handle) else tuple(results)
        if many is isinstance(results, Handle):
            raise TypeError(f"{name}(): argument 'out' must be {'Tensor' if many else 'tuple of Tensors'}, not {type(out).__name__}")
        if len(parts) != len(targets):
            raise TypeError(f"expected tuple of {len(parts)} elements but got {len(targets)}")
        if grad and any(r.dtype.kind in "fc" for r in parts):
            _check_plain(name, *[t for t in (*args, *targets) if isinstance(t, Handle)])
        if name not in _OVERLAPPING and (name == "linalg_cross" or not name.startswith(("linalg_", "fft_"))):
            for t in targets:
                _check_inputs(t, args, name)
        for t, r in zip(targets, parts):
            fill_out(t, r, f"{name}.dim" if name in _PAIRS and many else name)
    return out if not many else type(results)(targets) if hasattr(results, "_fields") or type(results) is not tuple else tuple(targets)


def _check_inputs(target: Handle, args: Sequence[Any], name: str) -> None:
    for a in args:
        if isinstance(a, Handle):
            check_overlap(target, a, whole=name in _NOT_IN_PLACE)
            if a is target and name == "cat":  # not even where there is nothing to read
                raise RuntimeError(OVERLAP)
        elif isinstance(a, (tuple, list)):
            _check_inputs(target, [x for x in a if isinstance(x, Handle)], name)


def _check_plain(name: str, *tensors: Handle) -> None:
    if any(t._edge is not None for t in tensors):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
                           "arguments requires grad.")


def fill_out(target: Any, result: Any, name: str) -> Any:
    """Write a result into ``out``, which is resized if its shape is another.

    Raises:
        RuntimeError: the result's dtype cannot be cast to that of ``out``, or the function casts nothing; one of the two requires
            grad.
    """
    if not isinstance(target, Handle):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(target).__name__}")
    if local.trace.grad_enabled:
        _check_plain(name, target, result)
    meta, made = value_of(target).meta, result._value.meta
    check_apart(target)
    if made.dtype is not meta.dtype:
        _check_dtype(name, made.dtype, meta.dtype)
    if meta.shape != made.shape:
        if meta.numel and name not in _SILENT:
            warn(f"An output with one or more elements was resized since it had shape {list(target.shape)}, which does not "
                 f"match the required output shape {list(result.shape)}. This behavior is deprecated, and in a future "
                 "release outputs will not be resized unless they have zero elements.", UserWarning)
        target.resize_(result.shape)  # type: ignore[attr-defined]
    return assign(target, result, name)


def _check_dtype(name: str, made: Any, wanted: Any) -> None:
    if name in _JOINS and _RANK[made.kind] > _RANK[wanted.kind]:
        raise TypeError(f"torch.cat(): input types can't be cast to the desired output type {_title(wanted.name)}")
    if name in _MAKERS:
        raise RuntimeError(f"dtype {_title(made.name)} does not match dtype of out parameter ({_title(wanted.name)})")
    if name in _EXACT and not (name in _ALSO_BYTES and wanted.name == "uint8"):
        raise RuntimeError(f"{name}(): Expected out tensor to have dtype {made}, but got {wanted} instead")


_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def assign(target: Any, result: Any, name: str) -> Any:
    """``target[...] = result``, for in-place operations and ``out=``.

    Raises:
        RuntimeError: shapes differ, or the dtype would lose its category (float to integer).
    """
    meta, want = result._value.meta, value_of(target).meta
    if meta.shape != want.shape:
        raise RuntimeError(f"output with shape {list(want.shape)} doesn't match the broadcast shape {list(meta.shape)}")
    if meta.dtype is not want.dtype:
        if _RANK[meta.dtype.kind] > _RANK[want.dtype.kind]:
            raise RuntimeError(f"result type {_title(meta.dtype.name)} can't be cast to the desired output type "
                               f"{_title(want.dtype.name)}")
        result = cast(result, attrs=(want.dtype,))
    if result is target:
        return target
    alias = target._alias
    if want.device is CPU and (result._value.epoch is None or result._value.buffer is not None or result._value.origin is not None
                               or result._alias is not None or alias is not None and result._value is alias.storage.value):
        # A value that another tensor holds too keeps its own memory. Recorded only: a clone that ran at once, as one of memory
        # that NumPy sees would, could no longer become the content of the target's memory.
        result = apply(clone, (), (result,), hold=True)
    return write(target, result, name, update_view)


def check_kinds(target: Any, *operands: Any) -> None:
    """RuntimeError if the target's dtype would lose the category of an operand."""
    for x in operands:
        kind = x.dtype.kind if isinstance(x, Handle) else "c" if type(x) is complex else "f" if type(x) is float else "b"
        if _RANK[kind] > _RANK[target.dtype.kind]:
            made = x.dtype.name if isinstance(x, Handle) else "complex64" if kind == "c" else "float32"
            raise RuntimeError(f"result type {_title(made)} can't be cast to the desired output type {_title(target.dtype.name)}")


def _title(name: str) -> str:
    """The dtype's name as PyTorch's messages have it."""
    return TYPE_NAMES[name].removesuffix("Tensor") if name in TYPE_NAMES else name
