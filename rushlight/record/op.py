"""The declaration of an operation, as far as recording and compiling need to know it.

The kinds of operations (pointwise, reduction, view, ...) are subclasses in ``rushlight/ops``; each operation is one
instance, declared once.
"""
from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ..compile.graph import Graph, Node
    from .meta import Meta

__all__ = ["Op", "backward_name"]


def backward_name(name: str, overload: int | str = 0) -> str:
    """What PyTorch calls the gradient of an operation: ``log1p`` -> ``Log1PBackward0``, ``mean``, 1 -> ``MeanBackward1``."""
    return re.sub(r"(?:^|_|(?<=\d))([a-z])", lambda m: m[1].upper(), name.strip("_")) + f"Backward{overload}"


class Op:
    """An operation on values.

    Attributes (``attrs`` is always the hashable tuple of everything that is not a tensor):
        name: its name, as PyTorch spells it; ``grad_name`` is the name of its gradient node (``AddBackward0``), or a function of
            (attrs, result metas, number of inputs) that gives it; it is called only when somebody looks.
        is_view: the results share memory with input 0 (``ops/views.py``; several of them: ``ops/splits.py``).
        is_one_of_many: a view that a function returns with others of its kind, through which nothing with gradients may be written.
        is_cut: a view that takes a part (slice, select): on a ready tensor nothing is recorded for it, since its position
            tends to change from step to step; the part enters a program as a leaf of its own.
        differentiable: whether a gradient rule exists.
        once: a backward uses its graph nodes up, also where they save no tensor: PyTorch keeps a number there, or a part of the graph.
        is_pointwise: each element of the result follows from the elements at its place.
        is_host: a library computes it: there is a ``reference`` rule and no lowering.
        autocast: what inputs become while autocast is on: "low" (the region's narrow type), "float32", or None (nothing).
        runtime: None, or a method ``attrs -> (op, attrs, numbers) or None``: the operation that takes the Python numbers in
            attrs as further inputs (zero-dimensional tensors), for a place where they keep changing. ``positions``: these
            numbers say where something lies.
        lays: None (results are row-major), or a rule ``(metas of the inputs, of the results, attrs) -> metas of the results`` that tells in
            which order they fill their memory where an input is not row-major (``ops/layouts.py``).
    """

    name: str
    grad_name: str | Callable[[tuple, Sequence[Meta], int], str]
    is_view = False
    is_one_of_many = False
    is_cut = False
    differentiable = True
    once = False
    is_host = False
    is_pointwise = False
    autocast: str | None = None
    runtime: Any = None
    positions = False
    lays: Callable[[Sequence[Meta], Any, tuple], Any] | None = None

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta | tuple[Meta, ...]:
        """Result metas (a tuple for several results). Raises what PyTorch raises for inputs that do not fit."""
        raise NotImplementedError

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        """Build the results from the compiler's primitives."""
        raise NotImplementedError

    def reference(self, inputs: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> Sequence[np.ndarray]:
        """The results with NumPy, for operations that a library computes (LAPACK, sorting, ...): a host call between
        native segments. Operations that lower to primitives need none: the reference interpreter knows the primitives.

        Must return new arrays, never views of its inputs.
        """
        raise NotImplementedError

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool | tuple[int, ...]]:
        """(positions of inputs, whether the results or positions of results) that the gradient reads, if the inputs in
        ``needs`` want one."""
        return tuple(range(len(metas))), True

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        """Gradients of the inputs, given those of the results (None: zero). ``ctx`` is the ``GradNode``:

        ``ctx.inputs[i]`` and ``ctx.outputs[k]`` are tensors (those that ``saved`` names), ``ctx.attrs``, ``ctx.metas``
        (of the inputs), ``ctx.out_metas``, ``ctx.needs[i]`` (give None for the others).
        """
        raise NotImplementedError

    def shown_order(self, inputs: int) -> Sequence[int]:
        """The order of the inputs in which ``next_functions`` shows them: PyTorch's."""
        return range(inputs)

    #: How many results' gradients hooks see; None: of all.
    shown_results: int | None = None

    def turned(self, metas: Sequence[Meta]) -> int | None:
        """The input whose gradient hooks see transposed, as PyTorch's operation reads it."""
        return None

    def apart(self, attrs: tuple, inputs: Sequence[int], results: Sequence[int]) -> Sequence[tuple[tuple, Sequence[int], Sequence[int]]]:
        """What the operation does that can as well be done one by one: attributes, inputs and results of each part, all of them together
        those that are given."""
        return ((attrs, inputs, results),)

    def cost(self, outs: Sequence[Meta]) -> int:
        """Rough number of element operations; decides whether the first run is worth compiling."""
        return max(m.numel for m in outs) if outs else 0

    @functools.cache  # noqa: B019 - operations are declared for good
    def named(self, grad_name: str) -> Any:
        """The same operation under another ``grad_name``, for where one of ours stands for several of PyTorch's: ``x.t()``
        is ``permute`` as ``TBackward0``. It is an operation of its own to the recorder, so that the name costs nothing."""
        made = copy.copy(self)
        made.grad_name = grad_name
        return made

    @functools.cache  # noqa: B019
    def laid(self, rule: Any) -> Any:
        """The same operation with other ``lays``."""
        made = copy.copy(self)
        made.lays = rule
        return made

    def __repr__(self) -> str:
        return f"<op {self.name}>"
