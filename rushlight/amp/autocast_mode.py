"""``autocast``: a region in which operations choose the type they compute in."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from ..autograd.autocast import regions, switch
from ..autograd.handle import Handle
from ..compile.dtypes import DType, bfloat16, float16
from ..record.trace import local
from ..record.warn import warn
from .state import _checked, is_autocast_available

__all__ = ["autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

F = TypeVar("F", bound=Callable[..., Any])


class autocast:
    """Operations inside choose their type: a context manager and a decorator.

    Matrix products, convolutions, ``linear``, attention and ``prelu`` cast floating inputs to ``dtype``; losses, FFTs,
    decompositions of matrices, ``prod``, pooling in three dimensions and some others cast them to float32; ``cat``, ``stack``
    and ``index_copy`` take the widest type of their inputs; the rest computes in the types it gets. These are PyTorch's lists
    for the CPU. float64 and integers are left alone, and so is what happens in place or has ``out=``.

    The casts are recorded and differentiated: gradients of float32 parameters are float32. The backward runs outside of any
    region, in the types of the forward; there is no need to have it inside.

    Args:
        device_type: "cpu". "cuda" is accepted, with a warning, and does nothing.
        dtype: bfloat16 (default on the CPU) or float16.
        enabled: False makes a region without autocast inside another one.
        cache_enabled: keep the casts of parameters until the outermost region ends.

    Raises:
        ValueError: ``device_type`` is not a string. RuntimeError: no such kind of device.

    Source: https://docs.pytorch.org/docs/stable/amp.html

    Example:
        >>> a = rushlight.ones(2, 3)
        >>> with rushlight.autocast("cpu"):
        ...     b = a @ a.T
        ...     loss = rushlight.nn.functional.mse_loss(b, rushlight.zeros(2, 2))
        >>> b.dtype, loss.dtype, (a @ a.T).dtype
        (torch.bfloat16, torch.float32, torch.float32)
    """

    def __init__(self, device_type: str, dtype: DType | None = None, enabled: bool = True, cache_enabled: bool | None = None) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if not is_autocast_available(device_type):
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        state = regions()
        self.device = device_type
        self.fast_dtype = state.default(device_type) if dtype is None else dtype
        self._cache_enabled = state.use_cache if cache_enabled is None else cache_enabled
        if enabled and device_type != "cpu":
            name = "CUDA" if device_type == "cuda" else device_type.upper()
            warn(f"{name} is not available or torch_xla is imported. Disabling autocast." if device_type == "cuda" else
                 f"{name} is not available. Disabling autocast.")
            enabled = False
        elif enabled and self.fast_dtype not in (bfloat16, float16):
            warn("In CPU autocast, but the target dtype is not supported. Disabling autocast.\nCPU Autocast only supports "
                 "dtypes of torch.bfloat16, torch.float16 currently.")
            enabled = False
        self._enabled = enabled
        self._before: list[tuple[bool, DType, bool]] = []

    def __enter__(self) -> autocast:
        state, device = regions(), self.device
        self._before.append((state.enabled.get(device, False), state.default(device), state.use_cache))
        state.enabled[device], state.dtype[device] = self._enabled, self.fast_dtype
        state.use_cache = self._cache_enabled
        state.nesting += 1
        switch(local.trace)
        return self

    def __exit__(self, *error: object) -> None:
        state, device = regions(), self.device
        state.leave()
        state.enabled[device], state.dtype[device], state.use_cache = self._before.pop()
        switch(local.trace)

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise TypeError(f"autocast()(func) requires a callable, but got {type(function).__name__}. Did you mean to use autocast as a "
                            "context manager? For example:\n    with torch.autocast(device_type=...):\n        output = model(input)")

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)
        return call  # type: ignore[return-value]


# -- gradients that users write -----------------------------------------------------------------------------------


def _cast(value: Any, device_type: str, dtype: DType) -> Any:
    """Tensors, also those in containers, in type ``dtype``: those that autocast would cast."""
    if isinstance(value, Handle):
        have = value._value.meta
        wanted = have.dtype.kind == "f" and have.dtype.itemsize < 8 and have.device.type == device_type
        return value.to(dtype) if wanted else value  # type: ignore[attr-defined]
    if isinstance(value, (str, bytes, np.ndarray)):
        return value
    if isinstance(value, Mapping):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, Iterable):
        made = (_cast(v, device_type, dtype) for v in value)
        return type(value)(made) if isinstance(value, (list, tuple)) else made  # type: ignore[call-arg]
    return value


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: DType | None = None) -> Any:
    """Decorates ``forward`` of an ``autograd.Function``: with ``cast_inputs``, a forward inside of a region gets its floating
    tensors in that type and runs without autocast; else it runs in the state it is called in, which ``custom_bwd`` restores."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def call(*args: Any, **kwargs: Any) -> Any:
        ctx, state = args[0], regions()
        active = state.enabled.get(_checked(device_type, "custom_fwd"), False)
        ctx._dtype, ctx._fwd_used_autocast = state.default(device_type), active and cast_inputs is None
        if cast_inputs is None or not active:
            return fwd(*args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast(args[1:], device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs))
    return call


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """Decorates ``backward`` of an ``autograd.Function``: it runs in the autocast state of the forward (see ``custom_fwd``)."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def call(*args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, enabled=args[0]._fwd_used_autocast, dtype=args[0]._dtype):
            return bwd(*args, **kwargs)
    return call
