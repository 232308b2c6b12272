"""What a tensor prints: the text, number formats and line breaks of PyTorch's `repr`.

    >>> import numpy as np
    >>> print(tensor_repr(np.array([[1.0, 2.5], [-3.0, 4.0]], np.float32), "float32", requires_grad=True))
    tensor([[ 1.0000,  2.5000],
            [-3.0000,  4.0000]], requires_grad=True)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np


@dataclass
class PrintOptions:
    """How tensors are printed; `set_printoptions` changes the one instance, `PRINT_OPTS`."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PRINT_OPTS = PrintOptions()

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors print; what is None stays, except `sci_mode`, for which None means "choose by the values".

    Args:
        precision: digits after the point.
        threshold: tensors of more elements than this print only their edges.
        edgeitems: how many entries an edge has.
        linewidth: where lines break.
        profile: "default", "short" or "full": a set of the above, which the other arguments then override.
        sci_mode: scientific notation always (True), never (False), or by the values (None).

    Example::

        >>> set_printoptions(precision=2)
        >>> print(tensor_repr(np.array([1.12345], np.float32), "float32"))
        tensor([1.12])
        >>> set_printoptions(profile="default")
    """
    changes = dict(_PROFILES.get(profile, {})) if profile is not None else {}
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    changes.update({name: value for name, value in given.items() if value is not None})
    for name, value in changes.items():
        setattr(PRINT_OPTS, name, value)
    PRINT_OPTS.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The present options, by name, as `set_printoptions(**options)` takes them."""
    return asdict(PRINT_OPTS)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """`set_printoptions(**options)` for the length of a `with` block."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        for field in fields(PRINT_OPTS):
            setattr(PRINT_OPTS, field.name, before[field.name])


class _NumberFormat:
    """One width and notation for all entries of a tensor (or its real or imaginary parts), chosen by their values."""

    def __init__(self, values: np.ndarray, floating: bool) -> None:
        self.floating = floating
        self.scientific = False
        self.integral = True
        self.width = 1
        if not floating:
            self.width = max([1, *(len(str(value)) for value in values.reshape(-1).tolist())])
            return
        values = values.astype(np.float64).reshape(-1)
        # Zeros and non-finite entries have no say: they fit in any format.
        values = values[np.isfinite(values) & (values != 0)]
        if not values.size:
            return
        self.integral = bool((values == np.ceil(values)).all())
        if PRINT_OPTS.sci_mode is None:
            magnitudes = np.abs(values)
            least, most = magnitudes.min(), magnitudes.max()
            with np.errstate(over="ignore"):
                self.scientific = bool(most / least > 1000.0 or most > 1.0e8 or least < 1.0e-4)
        else:
            self.scientific = PRINT_OPTS.sci_mode
        self.width = max(len(self._bare(value)) for value in values.tolist())

    def _bare(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        if self.scientific:
            return f"{value:.{PRINT_OPTS.precision}e}"
        if self.integral:
            return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"
        return f"{value:.{PRINT_OPTS.precision}f}"

    def text(self, value: Any) -> str:
        return self._bare(value).rjust(self.width)


class _ComplexFormat:
    """Formats of the real and the imaginary parts, side by side."""

    def __init__(self, values: np.ndarray) -> None:
        self.real = _NumberFormat(values.real, True)
        self.imag = _NumberFormat(values.imag, True)
        self.width = self.real.width + self.imag.width + 1  # the j

    def text(self, value: complex) -> str:
        imag = self.imag.text(value.imag).lstrip() + "j"
        return self.real.text(value.real) + (imag if imag[0] in "+-" else "+" + imag)


def _edges(values: np.ndarray) -> np.ndarray:
    """The entries that a summary shows: `edgeitems` at both ends of every dimension longer than twice that."""
    edge = PRINT_OPTS.edgeitems
    for axis, extent in enumerate(values.shape):
        if extent > 2 * edge and edge:
            ends = np.r_[0:edge, extent - edge : extent]
            values = values[(slice(None),) * axis + (ends,)]
    return values if edge or values.ndim < 2 else values[:0]


def _vector_text(values: np.ndarray, indent: int, summarize: bool, number: _NumberFormat | _ComplexFormat) -> str:
    edge = PRINT_OPTS.edgeitems
    if summarize and not edge:
        entries = ["..."]
    elif summarize and len(values) > 2 * edge:
        head, tail = ([number.text(value) for value in part.tolist()] for part in (values[:edge], values[-edge:]))
        entries = [*head, " ...", *tail]
    else:
        entries = [number.text(value) for value in values.tolist()]
    per_line = max(1, (PRINT_OPTS.linewidth - indent) // (number.width + 2))
    lines = [", ".join(entries[start : start + per_line]) for start in range(0, len(entries), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _values_text(values: np.ndarray, indent: int, summarize: bool, number: _NumberFormat | _ComplexFormat) -> str:
    if values.ndim == 0:
        return number.text(values.item())
    if values.ndim == 1:
        return _vector_text(values, indent, summarize, number)
    edge = PRINT_OPTS.edgeitems
    if summarize and len(values) > 2 * edge:
        shown: list[int | None] = [*range(edge), None, *range(len(values) - edge, len(values))]
    else:
        shown = list(range(len(values)))
    parts = ["..." if i is None else _values_text(values[i], indent + 1, summarize, number) for i in shown]
    return "[" + ("," + "\n" * (values.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def contents(values: np.ndarray, dtype_name: str, indent: int) -> str:
    summarize = values.size > PRINT_OPTS.threshold
    shown = _edges(values) if summarize else values
    number: _NumberFormat | _ComplexFormat
    if dtype_name.startswith("complex"):
        number = _ComplexFormat(shown)
    else:
        number = _NumberFormat(shown, "float" in dtype_name)
    return _values_text(values, indent, summarize, number)


def with_suffixes(text: str, suffixes: Sequence[str], indent: int) -> str:
    """`text, suffix, suffix)`, with line breaks before the suffixes that would not fit."""
    # PyTorch counts two columns more than are there (one where the text has several lines); so must we.
    column = len(text) - text.rfind("\n") + 1
    pieces = [text]
    for suffix in suffixes:
        if column + len(suffix) + 2 > PRINT_OPTS.linewidth:
            pieces.append(",\n" + " " * indent + suffix)
            column = indent + len(suffix)
        else:
            pieces.append(", " + suffix)
            column += len(suffix) + 2
    return "".join(pieces) + ")"


def tensor_repr(
    array: np.ndarray | None,
    dtype_name: str,
    *,
    shape: tuple[int, ...] | None = None,
    requires_grad: bool = False,
    grad_fn_name: str | None = None,
    device: str = "cpu",
    default_dtype: str = "float32",
    is_parameter: bool = False,
    class_name: str = "tensor",
) -> str:
    """The text that PyTorch prints for a tensor.

    Args:
        array: the values, any shape; half precisions as themselves (`ml_dtypes`) or widened. None for a tensor
            without values (device "meta"), which then needs `shape`. Only what is shown is converted.
        dtype_name: the tensor's dtype: "float32", "bfloat16", "int64", "bool", …
        shape: the shape where `array` is None.
        requires_grad: adds `requires_grad=True` where there is no `grad_fn_name`.
        grad_fn_name: adds `grad_fn=<MulBackward0>`.
        device: added where it is not the CPU.
        default_dtype: the present default; other dtypes (but int64 and bool) are spelled out.
        is_parameter: puts "Parameter containing:" on a line before.
        class_name: the name of a subclass of Tensor, in place of "tensor".
    """
    prefix = class_name + "("
    suffixes = [] if device.partition(":")[0] == "cpu" else [f"device='{device}'"]
    dtype_suffix = f"dtype=torch.{dtype_name}"
    if array is None:
        if shape is None:
            raise ValueError("tensor_repr needs the shape of a tensor without values")
        suffixes.append(f"size={tuple(shape)}")
        if dtype_name != default_dtype:
            suffixes.append(dtype_suffix)
        inside = "..."
    elif array.size == 0:
        if array.ndim != 1:
            suffixes.append(f"size={tuple(array.shape)}")
        if dtype_name != default_dtype:
            suffixes.append(dtype_suffix)
        inside = "[]"
    else:
        if not PRINT_OPTS.edgeitems:
            suffixes.append(f"size={tuple(array.shape)}")
        default_complex = "complex128" if default_dtype == "float64" else "complex64"
        if dtype_name not in (default_dtype, default_complex, "int64", "bool"):
            suffixes.append(dtype_suffix)
        inside = contents(array, dtype_name, len(prefix))
    if grad_fn_name is not None:
        suffixes.append(f"grad_fn=<{grad_fn_name}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    text = with_suffixes(prefix + inside, suffixes, len(prefix))
    return "Parameter containing:\n" + text if is_parameter else text
