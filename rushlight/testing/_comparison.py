"""``torch.testing``: assertions about tensors, for tests."""
from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..compile.dtypes import DType, complex128, float64
from ..tensor import Tensor
from ..tensor.creation import as_tensor

__all__ = ["assert_allclose", "assert_close"]

_TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7),
               "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7)}  # (relative, absolute); other dtypes have to be equal
_WIDE = {float: float64, complex: complex128}  # Python's numbers are as exact as that


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None, atol: float | None = None,
                 equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True, check_layout: bool = True,
                 check_stride: bool = False, msg: str | Callable[[str], str] | None = None) -> None:
    """Assert that ``|actual - expected| <= atol + rtol * |expected|`` everywhere; of nested sequences and mappings, part by part.

    Args:
        rtol, atol: tolerances, both or none; by default those of the dtype.
        equal_nan: whether NaN is close to NaN.
        check_dtype, check_stride: whether dtypes, strides must be the same.
        msg: the error's message, or what makes it from the one that would be given.

    Raises:
        AssertionError: they are not close, or differ in shape, dtype, length, keys.
        TypeError: values that cannot be compared. ValueError: one tolerance without the other.

    Example:
        >>> assert_close(torch.ones(2), torch.ones(2) + 1e-7)
        >>> assert_close([torch.ones(1)], [torch.zeros(1)])
        Traceback (most recent call last):
            ...
        AssertionError: Tensor-likes are not close!
        <BLANKLINE>
        Mismatched elements: 1 / 1 (100.0%)
        Greatest absolute difference: 1.0 at index (0,) (up to 1e-05 allowed)
        Greatest relative difference: inf at index (0,) (up to 1.3e-06 allowed)
        <BLANKLINE>
        The failure occurred for item [0]
    """
    if (rtol is None) is not (atol is None):
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {'rtol' if rtol is None else 'atol'}.")
    compared = _Comparison(None if rtol is None or atol is None else (rtol, atol), equal_nan, check_dtype, check_stride)
    found = compared.difference(actual, expected, "")
    if found is not None:
        raise AssertionError(found if msg is None else msg(found) if callable(msg) else msg)


class _Comparison:
    def __init__(self, tolerances: tuple[float, float] | None, equal_nan: bool, check_dtype: bool, check_stride: bool) -> None:
        self.tolerances, self.equal_nan, self.check_dtype, self.check_stride = tolerances, equal_nan, check_dtype, check_stride

    def difference(self, a: Any, b: Any, at: str) -> str | None:
        """What is wrong, in words; ``at``: where in the containers."""
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found = self._mappings(a, b, at)
        elif isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str) and not isinstance(b, str):
            if len(a) != len(b):
                return _placed(f"The length of the sequences mismatch: {len(a)} != {len(b)}", at)
            found = next((d for k, (x, y) in enumerate(zip(a, b)) if (d := self.difference(x, y, f"{at}[{k}]")) is not None), None)
        elif a is None or b is None:
            found = None if a is b else _placed(f"None mismatch: {a} is not {b}", at)
        else:
            scalars = isinstance(a, numbers.Number) and isinstance(b, numbers.Number)
            if not scalars and not (isinstance(a, (Tensor, np.ndarray)) and isinstance(b, (Tensor, np.ndarray)) and (
                    isinstance(a, type(b)) or isinstance(b, type(a)))):
                raise TypeError(f"No comparison pair was able to handle inputs of type {type(a)} and {type(b)}.")
            left, right = [as_tensor(x, _WIDE.get(type(x)) if scalars else None) for x in (a, b)]
            found = self._tensors(left, right, scalars)
            found = None if found is None else _placed(found, at)
        return found

    def _mappings(self, a: Mapping[Any, Any], b: Mapping[Any, Any], at: str) -> str | None:
        missing, more = sorted(b.keys() - a.keys(), key=str), sorted(a.keys() - b.keys(), key=str)
        if missing or more:
            return _placed(f"The keys of the mappings do not match:\nMissing keys in the actual mapping: {missing}\n"
                           f"Additional keys in the actual mapping: {more}", at)
        return next((d for k in a if (d := self.difference(a[k], b[k], f"{at}[{k!r}]")) is not None), None)

    def _tensors(self, a: Any, b: Any, scalars: bool) -> str | None:
        for name, x, y, checked in (("shape", a.shape, b.shape, True), ("dtype", a.dtype, b.dtype, self.check_dtype and not scalars),
                                    ("stride()", a.stride(), b.stride(), self.check_stride)):
            if checked and x != y:
                return f"The values for attribute '{name}' do not match: {x} != {y}."
        rtol, atol = self.tolerances or _tolerances(a.dtype, b.dtype)
        x, y = _wide(a), _wide(b)
        with np.errstate(all="ignore"):
            apart = np.abs(x - y)
            close = (x == y) | (apart <= atol + rtol * np.abs(y)) & np.isfinite(y)
            if self.equal_nan:
                close |= np.isnan(x) & np.isnan(y)
            if close.all():
                return None
            relative = (apart / np.abs(y)).astype(np.float32 if a.dtype.kind in "bui" and not scalars else np.float64)
        return _told(a, b, close, apart, relative, rtol, atol)


def _wide(t: Any) -> np.ndarray:
    kind = t.dtype.kind
    array: np.ndarray = t.detach()._array()
    return array.astype(np.complex128 if kind == "c" else np.float64 if kind == "f" else np.int64)


def _tolerances(*dtypes: DType) -> tuple[float, float]:
    known = [_TOLERANCES.get(d.name, (0.0, 0.0)) for d in dtypes]
    return max(r for r, _ in known), max(a for _, a in known)


def _placed(text: str, at: str) -> str:
    return f"{text}\n\nThe failure occurred for item {at}" if at else text


def _told(a: Any, b: Any, close: np.ndarray, apart: np.ndarray, relative: np.ndarray, rtol: float, atol: float) -> str:
    how = "close" if rtol or atol else "equal"
    allowed = [f" (up to {t} allowed)" if rtol or atol else "" for t in (atol, rtol)]
    if not a.shape:
        sizes = [f"{'Absolute' if k == 0 else 'Relative'} difference: {_number(v)}{allowed[k]}" for k, v in enumerate((apart, relative))]
        return "\n".join([f"Scalars are not {how}!\n", f"Expected {b.item()} but got {a.item()}.", *sizes])
    n, bad = close.size, int((~close).sum())
    lines = [f"Tensor-likes are not {how}!\n", f"Mismatched elements: {bad} / {n} ({bad / n:.1%})"]
    for name, values, limit in (("absolute", apart, allowed[0]), ("relative", relative, allowed[1])):
        seen = np.where(close, -1.0, values.astype(np.float64))
        at = np.unravel_index(int(np.argmax(seen)), a.shape)
        lines.append(f"Greatest {name} difference: {_number(seen[at] if a.dtype.kind in 'fc' or name == 'relative' else int(seen[at]))} "
                     f"at index {tuple(int(k) for k in at)}{limit}")
    return "\n".join(lines)


def _number(x: Any) -> Any:
    return x.item() if hasattr(x, "item") else x


def assert_allclose(actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None, equal_nan: bool = True,
                    msg: str = "") -> None:
    """The older ``assert_close``, which takes arrays and numbers, and looks neither at dtypes nor at NaN in both."""
    warnings.warn("`torch.testing.assert_allclose()` is deprecated. Use `torch.testing.assert_close()` instead.", FutureWarning,
                  stacklevel=2)
    a, b = (x if isinstance(x, Tensor) else as_tensor(x) for x in (actual, expected))
    if rtol is None and atol is None:
        a, b = (a, b.to(a.dtype)) if a.dtype is not b.dtype else (a, b)
        rtol, atol = _ALL_CLOSE.get(a.dtype.name, (0.0, 0.0))
    assert_close(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=False, msg=msg or None)


_ALL_CLOSE = {"float16": (1e-3, 1e-3), "float32": (1e-4, 1e-5), "float64": (1e-5, 1e-8)}
