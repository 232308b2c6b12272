"""Modules whose parameters get their shapes from the first input.

Example:
    >>> layer = LazyConv2d(8, 3)
    >>> layer(rushlight.zeros(1, 3, 5, 5)).shape
    torch.Size([1, 8, 3, 3])
    >>> type(layer).__name__, layer.in_channels
    ('Conv2d', 3)
"""
from __future__ import annotations

from typing import Any

from ...autograd.overriding import disabled
from ...tensor import Tensor
from ...tensor.creation import empty
from ...tensor.subclassing import of_class
from ..parameter import Parameter
from .batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _NormBase
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .linear import Linear

__all__ = ["UninitializedParameter", "UninitializedBuffer", "LazyLinear", "LazyConv1d", "LazyConv2d", "LazyConv3d",
           "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d",
           "LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyInstanceNorm3d"]


class _Uninitialized(Tensor):
    """A tensor whose shape is not known yet."""

    __slots__ = ()
    __torch_function__ = disabled
    cls_to_become: Any

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become a tensor of this shape, of undefined content."""
        self.data = empty(tuple(shape), device=device, dtype=dtype or self.dtype)
        self.__class__ = self.cls_to_become

    @property
    def shape(self) -> Any:
        raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                           "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call `forward` to "
                           "initialize the parameters before accessing their attributes.")

    def __repr__(self, *, tensor_contents: str | None = None) -> str:  # type: ignore[override]
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):  # type: ignore[misc]
    """A parameter of a lazy module before its first input: ``materialize(shape)`` makes it an ordinary one."""

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        return Parameter.__new__(cls, empty((0,), device=device, dtype=dtype), requires_grad)


class UninitializedBuffer(_Uninitialized):
    """A buffer of a lazy module before its first input."""

    __slots__ = ()
    cls_to_become = Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> Any:
        made = of_class(empty((0,), device=device, dtype=dtype, requires_grad=requires_grad), cls)
        made.persistent, made._is_buffer = persistent, True
        return made


class LazyModuleMixin:
    """Makes a module lazy: before the first call ``initialize_parameters(*args)`` gives parameters their shapes, and then the module
    becomes an instance of ``cls_to_become``."""

    cls_to_become: Any = None

    def _start_lazy(self, **tensors: Any) -> None:
        """Replace parameters and buffers by uninitialised ones and wait for the first input."""
        for name, value in tensors.items():
            if isinstance(value, Parameter):
                self.register_parameter(name, value)  # type: ignore[attr-defined]
            else:
                self._buffers[name] = value  # type: ignore[attr-defined]
        object.__setattr__(self, "_initialize_hook",
                           self.register_forward_pre_hook(_initialize, with_kwargs=True))  # type: ignore[attr-defined]

    def has_uninitialized_params(self) -> bool:
        """Whether a shape is still unknown."""
        return any(isinstance(t, _Uninitialized) for t in (*self._parameters.values(), *self._buffers.values()))  # type: ignore[attr-defined]

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give uninitialised parameters the shapes that fit the input.

        Raises:
            NotImplementedError: the subclass does not define it.
        """
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """A checkpoint gives the shapes, too."""
        for own in (self._parameters, self._buffers):  # type: ignore[attr-defined]
            for name, value in own.items():
                given = state_dict.get(prefix + name)
                if isinstance(value, _Uninitialized) and given is not None and not isinstance(given, _Uninitialized):
                    value.materialize(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]


def _initialize(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise RuntimeError(f"module {module._get_name()} has not been fully initialized")
    module.__dict__.pop("_initialize_hook").remove()
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become


class LazyLinear(LazyModuleMixin, Linear):
    """``Linear`` whose ``in_features`` is the length of the first input's last dimension."""

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, bias, device, dtype)
        self.out_features = out_features
        new = {name: UninitializedParameter(device=device, dtype=dtype) for name in ("weight", "bias")[:1 + bool(bias)]}
        self._start_lazy(**new)

    def reset_parameters(self) -> None:
        if self.in_features and not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, input: Any) -> None:  # type: ignore[override]
        if self.has_uninitialized_params():
            self.in_features = input.shape[-1]
            self.weight.materialize((self.out_features, self.in_features))
            if self.bias is not None:
                self.bias.materialize((self.out_features,))
            self.reset_parameters()
        if self.in_features == 0:
            self.in_features = self.weight.shape[-1]


class _LazyConv(LazyModuleMixin):
    """A convolution whose ``in_channels`` is that of the first input."""

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(0, 0, kernel_size, *args, **kwargs)  # type: ignore[call-arg]
        self.out_channels = out_channels
        dtype = self.weight.dtype  # type: ignore[attr-defined]
        new = {name: UninitializedParameter(dtype=dtype) for name in ("weight", "bias") if getattr(self, name) is not None}
        self._start_lazy(**new)

    def reset_parameters(self) -> None:
        if self.in_channels and not self.has_uninitialized_params():  # type: ignore[has-type]
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        if self.has_uninitialized_params():
            n = len(self.kernel_size)  # type: ignore[attr-defined]
            if input.dim() not in (n + 1, n + 2):
                raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, but got input of "
                                   f"size: {input.shape}")
            self.in_channels = input.shape[1] if input.dim() == n + 2 else input.shape[0]
            if self.in_channels % self.groups:  # type: ignore[attr-defined]
                raise ValueError("in_channels must be divisible by groups")
            first, second = self.out_channels, self.in_channels
            if self.transposed:  # type: ignore[attr-defined]
                first, second = second, first
            self.weight.materialize((first, second // self.groups, *self.kernel_size))  # type: ignore[attr-defined]
            if self.bias is not None:  # type: ignore[attr-defined]
                self.bias.materialize((self.out_channels,))  # type: ignore[attr-defined]
            self.reset_parameters()


class _LazyNorm(LazyModuleMixin):
    """A normalisation whose ``num_features`` is the number of channels of the first input."""

    _alone: int | None = None  # number of dimensions of an input without batch dimension

    def __init__(self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
                 device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)  # type: ignore[call-arg]
        new: dict[str, Any] = {name: UninitializedParameter(device=device, dtype=dtype) for name in ("weight", "bias")
                               if getattr(self, name) is not None}
        if track_running_stats:
            new |= {name: UninitializedBuffer(device=device, dtype=dtype) for name in ("running_mean", "running_var")}
        self._start_lazy(**new)

    def reset_parameters(self) -> None:
        if self.num_features and not self.has_uninitialized_params():  # type: ignore[has-type]
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any) -> None:  # type: ignore[override]
        if self.has_uninitialized_params():
            self.num_features = input.shape[0 if input.dim() == self._alone else 1]
            for t in (*self._parameters.values(), *self._buffers.values()):  # type: ignore[attr-defined]
                if isinstance(t, _Uninitialized):
                    t.materialize((self.num_features,))
            self.reset_parameters()


def _define(kind: type, base: type, alone: int | None = None) -> type:
    doc = f"``{base.__name__}`` that takes its number of channels from the first input."
    body: dict[str, Any] = {"__doc__": doc, "cls_to_become": base, "__module__": __name__}
    if issubclass(base, _NormBase):
        body["_alone"] = alone
    return type("Lazy" + base.__name__, (kind, base), body)


LazyConv1d, LazyConv2d, LazyConv3d = (_define(_LazyConv, c) for c in (Conv1d, Conv2d, Conv3d))
LazyConvTranspose1d, LazyConvTranspose2d, LazyConvTranspose3d = (
    _define(_LazyConv, c) for c in (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d))
LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d = (_define(_LazyNorm, c) for c in (BatchNorm1d, BatchNorm2d, BatchNorm3d))
LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d = (
    _define(_LazyNorm, c, n + 2) for n, c in enumerate((InstanceNorm1d, InstanceNorm2d, InstanceNorm3d)))
