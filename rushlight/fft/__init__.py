"""Discrete Fourier transforms: ``rushlight.fft``, laid out as ``torch.fft``."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd.autocast import full_precision
from ..autograd.overriding import asking
from ..autograd.titles import titled
from ..ops import fourier
from ..ops.promotion import default_dtype
from ..ops.structured import no_dims, wrap_dim, wrap_dims
from ..tensor.creation import check_device, convert, finish, from_owned
from ..tensor.out import with_out

__all__ = ["fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft",
           "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn"]

if TYPE_CHECKING:  # defined below from one table
    def __getattr__(name: str) -> Any: ...

_FLIPPED = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def _norm(norm: str | None) -> str:
    norm = "backward" if norm is None else norm
    if norm not in _FLIPPED:
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    return norm


def _floating(x: Any, name: str) -> Any:
    if x.dtype.itemsize == 2 and x.dtype.kind == "f":
        raise RuntimeError(f"{name}: Unsupported dtype {x.dtype}")
    return x if x.dtype.kind in "fc" else x.to(default_dtype())


def _complex(x: Any, name: str) -> Any:
    x = _floating(x, name)
    return x if x.dtype.kind == "c" else x.to(x.dtype.to_complex())


def _resized(x: Any, d: int, n: int | None) -> Any:
    """Cut or filled with zeros to length n along a dimension."""
    if n is None or n == x.shape[d]:
        return x
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    if n < x.shape[d]:
        return x.narrow(d, 0, n)
    return x.cat_with(x.new_zeros(tuple(n - m if k == d else m for k, m in enumerate(x.shape))), d)


def _plan(x: Any, s: Any, dim: Any, least: int = 0) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """(dimensions, lengths) as the functions for several dimensions take them."""
    rank = len(x.shape)
    if isinstance(s, int):
        s = (s,)
    if dim is not None and not no_dims(dim) and not rank:
        first = dim[0] if hasattr(dim, "__iter__") else dim
        raise IndexError(f"Dimension specified as {first} but tensor has no dimensions")
    if dim is None:
        dims = tuple(range(rank)) if s is None else tuple(range(rank - len(s), rank))
        if s is not None and len(s) > rank:
            raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {rank} dimensions.")
    else:
        dims = wrap_dims(tuple(dim) if hasattr(dim, "__iter__") else (dim,), rank) if not no_dims(dim) else ()
    if s is not None and len(s) != len(dims):
        raise RuntimeError("When given, dim and shape arguments must have the same length")
    if len(dims) < least:
        raise RuntimeError("at least one dimension must be transformed")
    return dims, tuple(None if n == -1 else n for n in s) if s is not None else (None,) * len(dims)


def _checked(x: Any, dims: tuple[int, ...]) -> Any:
    for d in dims:
        if x.shape[d] < 1:
            raise RuntimeError(f"Invalid number of data points ({x.shape[d]}) specified")
    return x


def _forward(x: Any, dims: tuple[int, ...], sizes: tuple[int | None, ...], norm: str, forward: bool, name: str) -> Any:
    x = _complex(x, name)
    for d, n in zip(dims, sizes):
        x = _resized(x, d, n)
    return fourier.c2c(_checked(x, dims), attrs=(dims, norm, forward)) if dims else x


def _halved(x: Any, dims: tuple[int, ...], sizes: tuple[int | None, ...], norm: str, name: str) -> Any:
    if x.dtype.kind == "c":
        raise RuntimeError(f"{name} expects a real input tensor, but got {x.dtype}")
    x = _floating(x, name)
    for d, n in zip(dims, sizes):
        x = _resized(x, d, n)
    return fourier.r2c(_checked(x, dims), attrs=(dims, norm))


def _doubled(x: Any, dims: tuple[int, ...], sizes: tuple[int | None, ...], norm: str, name: str) -> Any:
    x = _complex(x, name)
    last = 2 * (x.shape[dims[-1]] - 1) if sizes[-1] is None else sizes[-1]
    if last < 1:
        raise RuntimeError(f"Invalid number of data points ({last}) specified")
    for d, n in zip(dims[:-1], sizes[:-1]):
        x = _resized(x, d, n)
    x = _resized(x, dims[-1], last // 2 + 1)
    return fourier.c2r(_checked(x, dims), attrs=(dims, norm, last))


# The three kinds: (transform, whether the spectrum is conjugated, whether the norm is that of the other direction).


def _fft(x: Any, d: Any, s: Any, n: str, name: str) -> Any:
    return _forward(x, d, s, n, True, name)


def _ifft(x: Any, d: Any, s: Any, n: str, name: str) -> Any:
    return _forward(x, d, s, n, False, name)


def _hfft(x: Any, d: Any, s: Any, n: str, name: str) -> Any:
    """A Hermitian signal has a real spectrum: the inverse real transform of the conjugate."""
    return _doubled(_complex(x, name).conj(), d, s, _FLIPPED[n], name)


def _ihfft(x: Any, d: Any, s: Any, n: str, name: str) -> Any:
    for k, size in zip(d[:-1], s[:-1]):
        x = _resized(x, k, size)
    half = _halved(x, d[-1:], s[-1:], _FLIPPED[n], name).conj()
    return _forward(half, d[:-1], (None,) * (len(d) - 1), n, False, name)


_KINDS: dict[str, tuple[Callable[..., Any], str]] = {
    "fft": (_fft, "The discrete Fourier transform"), "ifft": (_ifft, "The inverse discrete Fourier transform"),
    "rfft": (_halved, "The half of the transform of a real input that is not redundant"),
    "irfft": (_doubled, "The real inverse of ``rfft``"), "hfft": (_hfft, "The real transform of a Hermitian signal"),
    "ihfft": (_ihfft, "The inverse of ``hfft``")}


def _whole_of_half(kind: str) -> Callable[..., str | None]:
    real = "FftR2CBackward0" if kind == "fft" else "ConjBackward0"
    return lambda input, *_, **__: None if input.dtype.kind == "c" else real


def _define(kind: str) -> None:
    transform, text = _KINDS[kind]

    def one(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
        if not input.shape:
            raise IndexError("Dimension specified as -1 but tensor has no dimensions")
        return transform(input, (wrap_dim(dim, len(input.shape)),), (n,), _norm(norm), kind)

    def two(input: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
        return transform(input, *_plan(input, s, dim, 1), _norm(norm), kind + "2")

    def many(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
        return transform(input, *_plan(input, s, dim, 0 if kind in ("fft", "ifft") else 1), _norm(norm), kind + "n")
    for suffix, define, what in (("", one, "along one dimension"), ("2", two, "along two dimensions"),
                                 ("n", many, "along several dimensions")):
        define.__name__ = kind + suffix
        define.__doc__ = f"{text}, {what}."
        if not suffix and kind in ("fft", "ifft"):  # of real numbers PyTorch makes the other half from one half
            define = titled(_whole_of_half(kind))(define)
        globals()[kind + suffix] = asking(with_out(full_precision(define), "fft_" + kind + suffix))


for _kind in _KINDS:
    _define(_kind)


def _frequencies(count: Callable[[int], np.ndarray]) -> Callable[..., Any]:
    def call(n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        check_device(device)
        kind = dtype or default_dtype()
        return finish(from_owned(convert(count(n) / (n * d), kind).copy()), requires_grad)
    return call


fftfreq = with_out(_frequencies(lambda n: np.fft.fftfreq(n) * n), "fft_fftfreq")
rfftfreq = with_out(_frequencies(lambda n: np.arange(n // 2 + 1, dtype=np.float64)), "fft_rfftfreq")


def fftshift(input: Any, dim: Any = None) -> Any:
    """Frequency zero moved to the middle of ``dim``."""
    dims = wrap_dims(dim, len(input.shape))
    return input.roll(tuple(input.shape[d] // 2 for d in dims), dims) if dims else input.clone()


def ifftshift(input: Any, dim: Any = None) -> Any:
    """The inverse of ``fftshift``."""
    dims = wrap_dims(dim, len(input.shape))
    return input.roll(tuple((input.shape[d] + 1) // 2 for d in dims), dims) if dims else input.clone()
