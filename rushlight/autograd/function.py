"""``autograd.Function``: operations whose gradient the user writes."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..record.meta import Meta
from ..record.trace import local
from . import handle
from .apply import alias_of, value_of
from .autocast import resumed
from .handle import LEAF, UNWATCHED, Handle, make, type_name
from .modes import no_grad
from .node import Node, edge_of, leaf_like
from .packed import pack

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class FunctionCtx:
    """``ctx`` of ``forward`` and ``backward``; any attribute may be set on it."""

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._packed: tuple[Any, ...] | None = None  # where hooks keep what was saved
        self._dirty: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Any, ...] = ()
        self._materialize = True
        self._freed = False
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep inputs or outputs for ``backward`` (others may be set as attributes, but escape the in-place check)."""
        for k, t in enumerate(tensors):
            if t is not None and not isinstance(t, Handle):
                raise TypeError(f"save_for_backward can only save variables, but argument {k} is of type {type(t).__name__}")
        self._saved = tuple((t, None) for t in tensors)

    save_for_forward = save_for_backward

    def seal(self) -> None:
        """Note what the saved tensors are now, at the end of ``forward``, which may have written to them after it saved them."""
        self._saved = tuple((t, None if t is None else value_of(t)) for t, _ in self._saved)
        if handle.was_inferring:
            handle.check_normal([t for t, _ in self._saved if t is not None], handle.UNSAVED)

    def pack(self) -> None:
        """Let the user's hooks keep what was saved; of the tensors, their place in the graph is left."""
        self._packed = tuple(None if t is None else pack(t, value) for t, value in self._saved)
        self._saved = tuple((t if t is None or t._edge is LEAF else _Place(t._edge), None) for t, _ in self._saved)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        if self._freed:
            raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after they have "
                               "already been freed). Specify retain_graph=True if you need to backward through the graph a second time.")
        if self._packed is not None:
            return tuple(t if p is None else leaf_like(t, p.value()) if t._edge is LEAF else make(p.value(), t._edge)
                         for (t, _), p in zip(self._saved, self._packed))
        for _, value in self._saved:
            if value is not None and value.overwritten is not None and value.overwritten[1] is not UNWATCHED:
                raise RuntimeError("one of the variables needed for gradient computation has been modified by an inplace operation: "
                                   f"[{type_name(value.meta.dtype)} {list(value.meta.shape)}] was modified by {value.overwritten[0]}")
        return tuple(t for t, _ in self._saved)

    def mark_dirty(self, *tensors: Any) -> None:
        """Tell that inputs were changed in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Tell that outputs have no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether absent gradients reach ``backward`` as zeros (True) or None."""
        self._materialize = value


class _Place:
    """Where the gradient of a saved tensor goes."""

    __slots__ = ("_edge",)

    def __init__(self, edge: Any) -> None:
        self._edge = edge


@functools.cache
def _shown_class(name: str) -> Any:
    return type(name, (FunctionNode,), {"__slots__": (), "__module__": __name__, "__doc__": FunctionNode.__doc__})


class FunctionNode(Node):
    """The graph node of one call of a ``Function``."""

    __slots__ = ("cls", "ctx", "edges", "metas", "in_metas_of", "results", "born", "rare")

    def __init__(self, cls: type[Function], ctx: FunctionCtx, edges: tuple, metas: Sequence[Meta], in_metas: Sequence[Meta | None]) -> None:
        self.cls, self.ctx, self.edges, self.metas, self.in_metas_of = cls, ctx, edges, tuple(metas), tuple(in_metas)
        self.rare = None
        self.results = len(self.metas)
        tr = local.trace
        self.born = (tr.epoch.number, len(tr.values))

    def name(self) -> str:
        return self.cls.__name__ + "Backward"

    def __getattr__(self, name: str) -> Any:
        """``saved_tensors``, ``needs_input_grad`` and whatever ``forward`` set: PyTorch's node is the context itself."""
        if name in FunctionNode.__slots__ or name in Node.__slots__:
            raise AttributeError(name)  # not filled yet
        try:
            return getattr(self.ctx, name)
        except AttributeError:
            raise AttributeError(f"'{self.name()}' object has no attribute '{name}'") from None

    def shown(self) -> Any:
        if type(self) is FunctionNode:
            self.__class__ = _shown_class(self.name())
        return self

    def out_metas(self) -> Sequence[Meta]:
        return self.metas

    def backward(self, grads: Sequence[Any]) -> Sequence[Any]:
        from .engine import Rules

        ctx = self.ctx
        if ctx._materialize:
            grads = [Rules.zeros(m) if g is None else g for g, m in zip(grads, self.metas, strict=True)]
        tr = local.trace
        if tr.regions is not None and tr.regions.paused:  # the backward runs inside of an autocast region
            with resumed(tr):
                given = self.cls.backward(ctx, *grads)
        else:
            given = self.cls.backward(ctx, *grads)
        many = list(given) if isinstance(given, (tuple, list)) else [given]
        while len(many) > len(self.edges) and many[-1] is None:
            many.pop()
        if len(many) != len(self.edges):
            raise RuntimeError(f"function {self.name()} returned an incorrect number of gradients (expected {len(self.edges)}, got "
                               f"{len(many)})")
        out = []
        for k, (g, meta) in enumerate(zip(many, self.in_metas_of, strict=True)):
            if g is not None and meta is not None and self.edges[k] is not None:
                if not isinstance(g, Handle):
                    raise TypeError(f"function {self.name()}: expected a Tensor or None as gradient {k}, got {type(g).__name__}")
                if g._value.meta.plain is not meta.plain:
                    g = self._fitted(g, meta, k)
            out.append(g)
        return out

    def _fitted(self, g: Any, meta: Meta, k: int) -> Any:
        from .engine import Rules

        have = g._value.meta.shape
        lead = len(have) - len(meta.shape)
        if lead < 0 or any(b not in (1, a) for a, b in zip(have[lead:], meta.shape)):
            raise RuntimeError(f"Function {self.name()} returned an invalid gradient at index {k} - got {list(have)} but expected shape "
                               f"compatible with {list(meta.shape)}")
        return Rules.reduce_to(g, meta)

    def release(self) -> None:
        if self.ctx._saved:
            self.ctx._freed = True
            self.ctx._saved = ()


class Function:
    """A differentiable operation in Python.

    Example:
        >>> class Cube(Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x ** 3
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return grad * 3 * x ** 2
        >>> x = rushlight.tensor(2.0, requires_grad=True)
        >>> Cube.apply(x).backward()
        >>> x.grad
        tensor(12.)
    """

    generate_vmap_rule = False

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """``forward(ctx, *inputs)``, or ``forward(*inputs)`` together with ``setup_context(ctx, inputs, output)``."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gradients of the inputs from those of the outputs, None for inputs without one."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to use it with "
                                  "backward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward`` outside the graph and put one node for it into the graph."""
        ctx = FunctionCtx()
        tensors = [isinstance(a, Handle) for a in args]
        ctx.needs_input_grad = tuple(t and a._edge is not None for t, a in zip(tensors, args))
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                out = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, out)
            else:
                out = cls.forward(ctx, *args, **kwargs)
        if not local.trace.grad_enabled or not any(ctx.needs_input_grad):
            return out
        if ctx._saved:
            ctx.seal()
        single = not isinstance(out, (tuple, list))
        outs = [out] if single else list(out)
        inputs = {id(a): a for a in args if isinstance(a, Handle)}
        dirty = {id(t) for t in ctx._dirty}
        fixed = {id(t) for t in ctx._non_differentiable}
        shown = [t for t in outs if isinstance(t, Handle)]
        edges = tuple(edge_of(a) if need else None for a, need in zip(args, ctx.needs_input_grad))
        node = FunctionNode(cls, ctx, edges, [t._value.meta.plain for t in shown],
                            [a._value.meta if isinstance(a, Handle) else None for a in args])
        results, k = [], 0
        for t in outs:
            if not isinstance(t, Handle):
                results.append(t)
                continue
            if id(t) in inputs and id(t) not in dirty:
                t = alias_of(t)  # an input returned as it is becomes a tensor of its own, which must not be written
                t._more = {"passed_by": f"Output {k} of {cls.__name__}"}
            if id(t) not in fixed and t._value.meta.dtype.kind in "fc":
                if t._edge is LEAF and id(t) in dirty:
                    raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
                t._edge = node if len(shown) == 1 else (node, k)
            k += 1
            results.append(t)
        if local.trace.packing:
            ctx.pack()
        return results[0] if single else type(out)(results)


def once_differentiable(backward: Callable) -> Callable:
    """Marks a ``backward`` that must not be differentiated again; its results carry no graph."""
    def call(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            return backward(ctx, *grads)
    return call
