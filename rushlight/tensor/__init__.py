"""Tensors: the class, its functions and methods, dtypes, devices, printing."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..autograd.engine import Rules
from ..autograd.quick import quick as _quick
from ..ops import arithmetic as _ar
from ..ops.basic import filled as _filled
from ..ops.basic import sum_to as _sum_to
from ..record.meta import CPU as _CPU
from . import (  # noqa: F401
    activation,
    assigning,
    buffers,
    casting,
    copies,
    creation,
    diagonals,
    dlpack,
    each,
    einsum,
    extremes,
    gamma,
    indefinite,
    indexing,
    layouts,
    matrices,
    numbers,
    pointwise,
    products,
    random,
    rearrange,
    reduce,  # each publishes its functions
    scans,
    scattering,
    sequences,
    sets,
    shape,
    spectra,
    statistics,
    types,
)
from .operators import complete
from .registry import CONVENIENCES, FUNCTIONS, METHODS
from .registry import with_python_types as _with_python_types
from .size import Size
from .subclassing import asking_first as _asking_first
from .tensor import Tensor

__all__ = ["FUNCTIONS", "Size", "Tensor"]

if TYPE_CHECKING:  # the functions that this module publishes below
    def __getattr__(name: str) -> Any: ...


def _to_meta(grad: Any, meta: Any) -> Any:
    """A gradient summed to the shape of what it is the gradient of, in its dtype."""
    return _sum_to(grad, attrs=(meta.shape, meta.dtype))


@_quick
def _sum(a: Any, b: Any) -> Any:
    return _ar.add(a, b, 1)


complete(METHODS)
Rules.add = _sum
Rules.reduce_to = _to_meta
Rules.zeros = lambda meta: _filled(meta.shape, (0, "i"), meta.dtype) if meta.device is _CPU else (
    creation.no_memory(meta.shape, meta.dtype))
Rules.ones = lambda meta: _filled(meta.shape, (1, "i"), meta.dtype) if meta.device is _CPU else (
    creation.no_memory(meta.shape, meta.dtype))
Rules.stack = shape.stack
Rules.from_numpy = creation.from_numpy
Rules.find_nan = lambda t: bool(t.isnan().any())

for _name, _function in FUNCTIONS.items():
    FUNCTIONS[_name] = _function = _with_python_types(_function)
    if _name not in CONVENIENCES:
        FUNCTIONS[_name] = _function = _quick(_function, numpy_names=True)
        _function.__name__ = _function.__qualname__ = _name
    elif _name.endswith("_like"):
        FUNCTIONS[_name] = _function = _asking_first(_function)
    globals()[_name] = _function
__all__ += list(FUNCTIONS)
