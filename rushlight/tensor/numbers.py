"""Closeness, equality, membership, integers, exponents, and complex numbers."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd.autocast import full_precision
from ..autograd.handle import Handle
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import arithmetic as ar
from ..ops import complexes as cx
from ..ops import counting
from ..ops.ordering import comparable
from ..ops.pointwise import broadcast_shapes
from ..ops.promotion import default_dtype
from ..ops.views import as_complex, as_real
from .creation import from_array, from_owned
from .registry import METHODS, public

__all__: list[str] = []

_sgn = ar.sign.named("SgnBackward0")


def _need(name: str, **operands: Any) -> None:
    """Raise TypeError unless all operands are tensors."""
    for k, (key, x) in enumerate(operands.items(), 1):
        if not isinstance(x, Handle):
            raise TypeError(f"{name}(): argument '{key}' (position {k}) must be Tensor, not {type(x).__name__}")


# -- comparison of tensors ----------------------------------------------------------------------------------------


@public(out=False)
def isclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
    """Whether ``|input - other| <= atol + rtol |other|``, elementwise."""
    _need("isclose", input=input, other=other)
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype} did not match {other.dtype}")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"{'rtol' if rtol < 0 else 'atol'} must be greater than or equal to zero, but got {rtol if rtol < 0 else atol}")
    close = input == other
    if input.dtype.kind == "b" or rtol == 0 and atol == 0 and not equal_nan:
        return close
    if equal_nan and input.dtype.kind in "fc":
        close = close | (input.isnan() & other.isnan())
    if input.dtype.kind == "f":
        allowed = (other * rtol).abs() + atol
        gap = (input - other).abs()
        return close | (gap.isfinite() & (gap <= allowed))
    wide = (input.to(dt.float64), other.to(dt.float64)) if input.dtype.kind != "c" else (input, other)
    gap = (wide[0] - wide[1]).abs()
    return close | (gap.isfinite() & (gap <= wide[1].abs() * rtol + atol))


@public(out=False)
def allclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@public(out=False)
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and elements."""
    if not isinstance(other, Handle):
        raise TypeError(f"equal(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")
    if input.is_meta or other.is_meta:  # type: ignore[attr-defined]
        raise NotImplementedError("equal(): tensors of the device 'meta' have no content that could be compared")
    return input.shape == other.shape and bool((input == other).all())


@public(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether each element is one of ``test_elements``."""
    for x in (elements, test_elements):
        kind = x.dtype.kind if isinstance(x, Handle) else np.asarray(x).dtype.kind
        if kind in "bc":
            raise RuntimeError(f"Unsupported input type encountered for isin(): {'Bool' if kind == 'b' else 'complex numbers'}")
    a, b = (comparable(x.detach()._array()) if isinstance(x, Handle) else np.asarray(x)  # type: ignore[attr-defined]
            for x in (elements, test_elements))
    return from_array(np.asarray(np.isin(a, b, assume_unique=assume_unique and a.ndim == 1, invert=invert)))


# -- integers and exponents ---------------------------------------------------------------------------------------


@public(inplace=True)
def gcd(input: Any, other: Any) -> Any:
    """The greatest common divisor."""
    _need("gcd", input=input, other=other)
    return counting.gcd(input, other)


@public(inplace=True)
def lcm(input: Any, other: Any) -> Any:
    """The least common multiple."""
    _need("lcm", input=input, other=other)
    return counting.lcm(input, other)


@public()
def frexp(input: Any) -> Any:
    """(mantissa in [0.5, 1), exponent): ``input = mantissa * 2 ** exponent``."""
    from .return_types import named

    if input.dtype.kind != "f":
        raise RuntimeError(f"torch.frexp() only supports floating-point dtypes: got {input.dtype}")
    return named("frexp", "mantissa", "exponent")(counting.frexp(input))


@public(inplace=True, composite=True)
@titled("LdexpBackward0")
def ldexp(input: Any, other: Any) -> Any:
    """``input * 2 ** other``."""
    if isinstance(other, Handle) and input.dtype.kind in "fb" and other.dtype.kind == "b":
        raise NotImplementedError('"ldexp" not implemented for \'Bool\'')
    exact = input.dtype if input.dtype.kind == "f" and isinstance(other, Handle) and other.dtype.kind in "ui" else default_dtype()
    two = from_array(np.array(2.0, (exact.compute if exact.itemsize < 4 else exact).numpy))
    made = input * two.pow(other)
    return made if exact.itemsize >= 4 else made.to(exact)


@public(inplace=True)
def float_power(input: Any, exponent: Any) -> Any:
    """Powers in double precision."""
    def complexity(x: Any) -> bool:
        return x.dtype.kind == "c" if isinstance(x, Handle) else isinstance(x, complex)
    d = dt.complex128 if complexity(input) or complexity(exponent) else dt.float64
    base = input.to(d) if isinstance(input, Handle) else input
    return base ** (exponent.to(d) if isinstance(exponent, Handle) else float(exponent) if d is dt.float64 else exponent)


def _in_double(self: Any, exponent: Any) -> Any:
    if self.dtype not in (dt.float64, dt.complex128):
        raise RuntimeError(f"the base given to float_power_ has dtype {self.dtype} but the operation's result requires dtype Double")
    return self.pow_(exponent)


METHODS["float_power_"] = _in_double


# -- complex numbers ----------------------------------------------------------------------------------------------


def _parts(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    _need(name, input=a, other=b)
    if any(x.dtype.kind != "f" or x.dtype is dt.bfloat16 for x in (a, b)):
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {a.dtype} and {b.dtype}")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"Expected object of scalar type {a.dtype.name} but got scalar type {b.dtype.name} for second argument")
    shape = broadcast_shapes([a.shape, b.shape], name)
    return a.expand(shape), b.expand(shape)


@public(method=False, name="complex")
def complex_(real: Any, imag: Any) -> Any:
    """Complex numbers of their real and imaginary parts."""
    return cx.compose(*_parts("complex", real, imag))


@public(method=False)
@full_precision
@titled("PolarBackward0")
def polar(abs: Any, angle: Any) -> Any:
    """Complex numbers of their absolute values and angles."""
    r, t = _parts("polar", abs, angle)
    return cx.compose(r * t.cos(), r * t.sin())


@public(out=False)
def view_as_real(input: Any) -> Any:
    """Real and imaginary parts as a new last dimension of length 2, in the same memory.

    Raises:
        RuntimeError: ``input`` is not complex.
    """
    if input.dtype.kind != "c":
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return as_real(input)


@public(out=False)
@full_precision
def view_as_complex(input: Any) -> Any:
    """The complex numbers whose parts are the last dimension, in the same memory.

    Raises:
        RuntimeError: ``input`` is of no dtype that complex numbers have parts of; its last dimension is not of length 2 and stride 1;
            another stride, or where it begins in memory, is odd.
    """
    if input.dtype is not dt.float32 and input.dtype is not dt.float64:
        raise RuntimeError("view_as_complex is only supported for float and double tensors, but got a tensor of scalar type: "
                           f"{input.dtype.name}")
    if not input.shape:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if input.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if input.storage_offset() % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return as_complex(input)


@public(out=False)
def real(input: Any) -> Any:
    """The real part of a complex tensor, in the same memory; a real tensor itself."""
    return as_real(input).select(-1, 0) if input.dtype.kind == "c" else input


@public(out=False)
def imag(input: Any) -> Any:
    """The imaginary part of a complex tensor, in the same memory.

    Raises:
        RuntimeError: ``input`` is not complex.
    """
    if input.dtype.kind != "c":
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return as_real(input).select(-1, 1)


@public(out=False)
def conj(input: Any) -> Any:
    """The complex conjugate."""
    return cx.conj(input) if input.dtype.kind == "c" else input


@public(inplace=True)
def conj_physical(input: Any) -> Any:
    """The complex conjugate, in memory of its own."""
    return cx.conj(input) if input.dtype.kind == "c" else input


@public(out=False)
def resolve_conj(input: Any) -> Any:
    """``input``: conjugates are always computed."""
    return input


@public(out=False)
def resolve_neg(input: Any) -> Any:
    """``input``: negatives are always computed."""
    return input


@public()
@titled("AngleBackward0")
def angle(input: Any) -> Any:
    """The angle of complex numbers; of real ones 0 or pi."""
    if input.dtype.kind == "c":
        return imag(input).atan2(real(input))
    if input.dtype.kind != "f":
        return (input < 0).to(default_dtype()) * 3.141592653589793
    made = (input < 0).to(input.dtype) * 3.141592653589793 + ar.fill(input, 0.0)
    return ar.where(input.isnan(), ar.fill(input, math.nan), made)


@public(inplace=True)
def sgn(input: Any) -> Any:
    """The sign; of complex numbers the number of length 1 in their direction."""
    return cx.sgn(input) if input.dtype.kind == "c" else _sgn(input)


@public(out=False)
def isreal(input: Any) -> Any:
    """Whether the imaginary part is zero."""
    if input.dtype.kind == "c":
        return imag(input) == 0
    return from_owned(np.ones(tuple(input.shape), bool))


METHODS["real"] = property(real, lambda self, values: real(self).copy_(values))  # type: ignore[assignment]
METHODS["imag"] = property(imag, lambda self, values: imag(self).copy_(values))  # type: ignore[assignment]
