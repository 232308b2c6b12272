"""GradNode: one step of the dynamic graph, from the results of an operation to its inputs."""
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from ..record.meta import Meta
from ..record.trace import TraceNode, local
from ..record.value import Value
from .handle import LEAF, UNWATCHED, Handle, make, type_name
from .packed import Packed, unpacked_once

LONG = 32     # inputs from which on code is not written for each number of them
FORMS = 1024  # classes of nodes that are kept: there is one for each set of inputs, and where lists are joined no end of sets

__all__ = ["Node", "GradNode", "AccumulateGrad", "accumulator", "edge_of", "filler", "grad_class", "titled_class"]


def edge_of(t: Handle) -> Any:
    """Where the gradient of a tensor goes: the tensor itself for a leaf, else its node (and result number)."""
    edge = t._edge
    return t if edge is LEAF else edge


def shown_edge(edge: Any) -> tuple[Any, int]:
    """An edge as users see it: (node, result number)."""
    if edge is None:
        return None, 0
    if isinstance(edge, Handle):
        return accumulator(edge), 0
    return (edge[0].shown(), edge[1]) if type(edge) is tuple else (edge.shown(), 0)


class Node:
    """A node of the autograd graph, as ``Tensor.grad_fn`` shows it.

    Attributes:
        edges: for each input None, a leaf tensor, a node, or (node, result number).
    """

    __slots__ = ("__weakref__",)
    edges: tuple
    rare: dict[str, Any] | None  # hooks, pre_hooks, metadata, trace_text: what few nodes have
    born: tuple[int, int]  # when the node was made: (epoch, slot in it), growing with time
    results = 1
    several = False  # whether edges without a number lead to the first of several results

    def name(self) -> str:
        return type(self).__name__

    def shown(self) -> Any:
        """The node as users see it, whose class has the name that PyTorch's has."""
        return self

    @property
    def metadata(self) -> dict[Any, Any]:
        return self._rare("metadata")

    def _rare(self, name: str) -> dict[Any, Any]:
        if self.rare is None:
            self.rare = {}  # type: ignore[misc]  # a slot or a property of the classes below
        return self.rare.setdefault(name, {})

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """((node, result number), ...) for each input; ``(None, 0)`` for inputs without gradient."""
        return tuple([shown_edge(edge) for edge in self.edges])

    def register_hook(self, hook: Callable) -> Any:
        """``hook(grad_inputs, grad_outputs)`` runs after the node; what it returns replaces ``grad_inputs``."""
        from .hooks import add

        return add(self._rare("hooks"), hook)

    def register_prehook(self, hook: Callable) -> Any:
        """``hook(grad_outputs)`` runs before the node; what it returns replaces ``grad_outputs``."""
        from .hooks import add

        return add(self._rare("pre_hooks"), hook)

    def register_tensor_hook(self, hook: Callable, keeps: bool = False) -> Any:
        """Like ``register_prehook``, for hooks of a result: they run before those of the node, last of them what ``keeps`` a gradient."""
        from .hooks import add

        return add(self._rare("keepers" if keeps else "tensor_hooks"), hook)

    def shown_to_hooks(self, given: Sequence[Any], slots: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Gradients of the inputs and of the results as the user's hooks see them."""
        return tuple(given), tuple(slots)

    def taken_from_hook(self, changed: Sequence[Any], given: Sequence[Any]) -> Sequence[Any]:
        """The gradients of the inputs that a hook returned, in our order."""
        return changed

    def out_metas(self) -> Sequence[Meta]:
        raise NotImplementedError

    def backward(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Gradients of the inputs from those of the results (None: zero)."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop saved values: the backward that used them is over."""

    def __repr__(self) -> str:
        return f"<{self.name().rpartition('::')[2]} object at {hex(id(self))}>"


_FREED = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
          "Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify retain_graph=True if "
          "you need to backward through the graph a second time or if you need to access saved tensors after calling backward.")
# PyTorch's names of what a node saved -> which input, or -1 for the result.
_SAVED = {"_saved_result": -1, "_saved_self": 0, "_saved_input": 0, "_saved_mat1": 0, "_saved_other": 1, "_saved_mat2": 1,
          "_saved_weight": 1, "_saved_exponent": 1, "_saved_target": 1}


class _Rare:
    """What a node has for ``state`` that has things which few have."""

    __slots__ = ("metas", "things")

    def __init__(self, metas: tuple[Meta, ...] | None, things: dict[str, Any]) -> None:
        self.metas, self.things = metas, things


class GradNode(Node):
    """The node of a recorded operation; also the ``ctx`` of its gradient rule (``Op.gradient``).

    There is a subclass for each set of inputs that want gradients and of what is kept (``grad_class``), with a slot ``edge0``, ``edge1``,
    ... for each of these inputs, ``kept0``, ... for what is kept of the inputs and ``out0``, ... of the results: tuples would be more
    objects to make, and to be looked at by the garbage collector, for every operation, and each slot to fill is a hundredth of what
    recording costs.
    ``apply.link`` (``filler``) and ``steps`` fill all slots: a class without ``__init__`` is called in half the time.

    Attributes:
        node, epoch: where the operation was recorded.
        state: the metas of the inputs; None when what was kept is dropped; a ``_Rare`` of a node with hooks and the like.
        in_metas, rare: what this tells.
        title: the name of nodes of this class (``titled_class``); None: that of the operation. ``form``: the class without a title.
    """

    __slots__ = ("node", "epoch", "state")
    node: TraceNode
    epoch: Any
    state: Any
    kept: tuple[Value | None, ...]  # of the inputs
    kept_outs: tuple[Value | None, ...]  # of the results
    title: str | None = None
    form: Any
    EDGES: tuple[str, ...]  # names of attributes, one for each input
    KEPT: tuple[str, ...]
    OUTS: tuple[str, ...]  # one for each result
    HELD: tuple[str, ...]  # names of the slots for what is kept, results too; FILLED: with those of edges
    FILLED: tuple[str, ...]

    @property
    def in_metas(self) -> tuple[Meta, ...]:
        state = self.state
        return state.metas if type(state) is _Rare else state  # type: ignore[return-value]

    @property
    def rare(self) -> dict[str, Any] | None:  # type: ignore[override]
        state = self.state
        return state.things if type(state) is _Rare else None

    @rare.setter
    def rare(self, things: Any) -> None:
        self.state = _Rare(self.in_metas, things)

    @property
    def results(self) -> int:  # type: ignore[override]
        return len(self.node.metas)

    @property
    def born(self) -> tuple[int, int]:  # type: ignore[override]
        return self.epoch.number, self.node.slot

    def name(self) -> str:
        name: Any = self.title or self.node.op.grad_name  # type: ignore[union-attr]
        return name if type(name) is str else name(self.node.attrs, self.node.metas, len(self.EDGES))

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        edges = self.edges
        return tuple([shown_edge(edges[k]) for k in self._shown()])

    def _shown(self) -> list[int]:
        """The inputs in the order in which users see them, without those that can have no gradient."""
        order, metas = self.node.op.shown_order(len(self.EDGES)), self.in_metas  # type: ignore[union-attr]
        return [k for k in order if metas is None or metas[k].dtype.kind in "fc"]

    def shown_to_hooks(self, given: Sequence[Any], slots: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        turned = self.node.op.turned(self.in_metas)  # type: ignore[union-attr]
        return (tuple([given[k].t() if k == turned and given[k] is not None else given[k] for k in self._shown()]),
                tuple(slots[:self.node.op.shown_results]))  # type: ignore[union-attr]

    def taken_from_hook(self, changed: Sequence[Any], given: Sequence[Any]) -> Sequence[Any]:
        turned, order, taken = self.node.op.turned(self.in_metas), self._shown(), list(given)  # type: ignore[union-attr]
        if len(changed) != len(order):
            raise RuntimeError(f"hook has returned an incorrect number of values (got {len(changed)}, but expected {len(order)})")
        for k, g in zip(order, changed):
            taken[k] = g.t() if k == turned and g is not None else g
        return taken

    def _saved(self, name: str) -> Any:
        """What was saved for the gradient, under one of PyTorch's names: ``_saved_self``, ``_saved_other``, ``_saved_result``, ..."""
        if self.in_metas is None:
            raise RuntimeError(_FREED)
        place = _SAVED[name]
        if name == "_saved_exponent" and len(self.EDGES) == 1 and self.node.op.name == "pow":  # type: ignore[union-attr]
            return self.attrs[0][1][0]
        kept = self.kept_outs if place < 0 else self.kept
        at = 0 if place < 0 else place
        if at >= len(kept) or kept[at] is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return placed((self.outputs if place < 0 else self.inputs)[at])

    def shown(self) -> Any:
        if self.title is None:
            self.__class__ = titled_class(self.form, self.name())
        return self

    # -- what a gradient rule reads ------------------------------------------------------------------------------
    @property
    def attrs(self) -> tuple:
        return self.node.attrs

    @property
    def metas(self) -> tuple[Meta, ...]:
        return self.in_metas

    def out_metas(self) -> tuple[Meta, ...]:
        return self.node.metas

    @property
    def needs(self) -> tuple[bool, ...]:
        return tuple(edge is not None for edge in self.edges)

    @property
    def inputs(self) -> list[Any]:
        """The saved inputs as tensors that know their own history (for a second derivative)."""
        kept = self.kept
        made = [None if v is None else make(self._checked(v), edge) if not isinstance(edge, Handle) else
                leaf_like(edge, self._checked(v)) for v, edge in zip(kept, self.edges, strict=True)]
        if local.trace.grad_enabled:
            # What this operation itself has overwritten may be saved again by its gradient: as a value that nobody overwrote.
            made = [t.clone() if v is not None and t is not None and _overwritten(v) is not None else t for v, t in zip(kept, made)]
        return made

    @property
    def outputs(self) -> list[Any]:
        return [None if v is None else make(self._checked(v), (self, k) if k else self) for k, v in enumerate(self.kept_outs)]

    def _checked(self, v: Any) -> Value:
        if type(v) is Packed:
            return v.value()
        by = _overwritten(v)
        if by is not None and by[1] is not self and by[1] is not UNWATCHED:
            line = self.node.line
            where = f" (recorded at {line[0]}:{line[1]})" if line else ""
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"[{type_name(v.meta.dtype)} {list(v.meta.shape)}], saved by {self.name()}{where}, was "
                f"modified by {by[0]}. Hint: enable anomaly detection to find the operation that failed to compute its "
                "gradient, with torch.autograd.set_detect_anomaly(True).")
        return v

    def backward(self, grads: Sequence[Any]) -> Sequence[Any]:
        if self.in_metas is None:
            raise RuntimeError(_FREED)
        if self.rare is not None and "packed" in self.rare:
            with unpacked_once(self.rare["packed"]):
                return self.node.op.gradient(self, *grads)  # type: ignore[union-attr]
        return self.node.op.gradient(self, *grads)  # type: ignore[union-attr]

    def release(self) -> None:
        if self.node.op.once or any(getattr(self, name) is not None for name in self.HELD):  # type: ignore[union-attr]
            for name in self.HELD:
                setattr(self, name, None)
            self.use_up()

    def use_up(self) -> None:
        """Tell that what was kept has been dropped."""
        if type(self.state) is _Rare:
            self.state.metas = None
        else:
            self.state = None


def _overwritten(v: Any) -> Any:
    """What wrote over a value that was saved, or over the memory that it is a part of: (name, node); or None."""
    return v.overwritten or (v.origin.overwritten if v.origin is not None else None)


def _saved_as(name: str) -> property:
    return property(lambda self: self._saved(name))


for _name in _SAVED:  # properties, not ``__getattr__``: with that every look at a slot takes twice as long
    setattr(GradNode, _name, _saved_as(_name))


@functools.lru_cache(FORMS)
def grad_class(wants: tuple[bool, ...], keeps: tuple[bool, ...], outs: tuple[bool, ...]) -> type[GradNode]:
    """The class of the nodes of operations of whose inputs these want gradients and those are kept, and of whose results these are."""
    edges, kept, results = [tuple([f"{what}{k}" for k in range(len(mask))]) for what, mask in (
        ("edge", wants), ("kept", keeps), ("out", outs))]

    def together(names: tuple[str, ...]) -> property:
        get: Any = attrgetter(*names) if names else None
        return property(get if len(names) > 1 else lambda node: (get(node),) if names else ())

    held = tuple([name for name, there in zip((*kept, *results), (*keeps, *outs)) if there])
    slots = (*[name for name, there in zip(edges, wants) if there], *held)
    made: Any = type("GradNode", (GradNode,), {
        "__slots__": slots, "__module__": __name__, "__doc__": GradNode.__doc__, "edges": together(edges), "kept": together(kept),
        "kept_outs": together(results), "EDGES": edges, "KEPT": kept, "OUTS": results, "HELD": held, "FILLED": slots,
        "several": len(outs) > 1,
        **({"release": _release(held)} if len(held) <= LONG else {}),
        **dict.fromkeys([name for name in (*edges, *kept, *results) if name not in slots])})
    made.form = made
    return made  # type: ignore[no-any-return]


def _release(held: Sequence[str]) -> Callable[[GradNode], None]:
    """``GradNode.release`` of nodes that keep something in these slots, as straight-line code."""
    slots = [f"node.{name}" for name in held]
    lines = ["def release(node):", f"  if {''.join([f'{slot} is not None or ' for slot in slots])}node.node.op.once:",
             *(["    " + "".join([f"{slot} = " for slot in slots]) + "None"] if slots else []), "    node.use_up()"]
    scope: dict[str, Any] = {"__name__": __name__}
    exec(compile("\n".join(lines), f"<release {len(held)}>", "exec"), scope)
    return scope["release"]  # type: ignore[no-any-return]


@functools.lru_cache(FORMS)
def titled_class(form: Any, title: str) -> Any:
    """The class of nodes of a form whose name is known: recording makes nodes of few classes, and those that somebody looks
    at become ``SumBackward0`` then; those of functions with a title (``titles.py``) have it from the start."""
    return type(title.rpartition("::")[2], (form,), {"__slots__": (), "__module__": __name__, "__doc__": GradNode.__doc__, "title": title})


@functools.lru_cache(FORMS)
def filler(wants: tuple[bool, ...], keep: tuple[bool, ...]) -> Callable[[Any, Sequence[Handle]], None]:
    """``fill(node, tensors)`` sets the edges of the node of an operation on these tensors, and what it keeps of them: straight-line
    code, because looking up names takes as long as all the rest of recording."""
    def fill(node: Any, tensors: Sequence[Handle]) -> None:
        for t, want, k, edge, kept in zip(tensors, wants, keep, node.EDGES, node.KEPT):
            if want:
                setattr(node, edge, edge_of(t))
            if k:
                setattr(node, kept, t._value)

    if len(keep) > LONG:
        return fill
    lines = [f"  {''.join([f't{k}, ' for k in range(len(keep))])} = tensors"] if keep else ["  pass"]
    for k, (want, kept) in enumerate(zip(wants, keep)):
        if want:
            lines += [f"  edge = t{k}._edge", f"  node.edge{k} = t{k} if edge is LEAF else edge"]
        if kept:
            lines.append(f"  node.kept{k} = t{k}._value")
    scope: dict[str, Any] = {"LEAF": LEAF, "__name__": __name__}
    exec(compile("\n".join(["def fill(node, tensors):", *lines]), f"<fill {len(keep)}>", "exec"), scope)
    return scope["fill"]  # type: ignore[no-any-return]


def placed(t: Any) -> Any:
    """A tensor made over a saved value, for a user, who may look into its memory: that of a view is its storage's."""
    value = t._value
    if t._alias is None and value.origin is not None:
        t._alias = value.alias
    return t


def leaf_like(leaf: Handle, value: Value) -> Any:
    """A tensor for the value that a leaf had when it was used, whose gradient goes to that leaf.

    The leaf itself serves if it still has that value.
    """
    if leaf._value is value:
        return leaf
    return make(value, _ToLeaf(leaf))


class _ToLeaf(Node):
    """Passes a gradient on to a leaf."""

    __slots__ = ("edges", "rare")
    born = (-1, 0)  # older than everything: it belongs to the leaf

    def __init__(self, leaf: Handle) -> None:
        self.edges = (leaf,)
        self.rare = None

    def out_metas(self) -> Sequence[Meta]:
        return (self.edges[0]._value.meta,)

    def backward(self, grads: Sequence[Any]) -> Sequence[Any]:
        return grads


class AccumulateGrad:
    """How ``next_functions`` shows a leaf: ``variable`` is the tensor whose ``grad`` is added to."""

    __slots__ = ("variable", "metadata", "__weakref__")
    next_functions: tuple = ()

    def __init__(self, variable: Handle) -> None:
        self.variable = variable
        self.metadata: dict[Any, Any] = {}

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return id(self.variable)

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {hex(id(self.variable))}>"

    def register_hook(self, hook: Callable) -> Any:
        """``hook((), (grad,))`` sees the gradient that arrives: a leaf passes none on."""
        return self.variable.register_hook(lambda grad: hook((), (grad,)) and None)  # type: ignore[attr-defined]

    def register_prehook(self, hook: Callable) -> Any:
        """``hook((grad,))`` may return another gradient, in a tuple."""
        return self.variable.register_hook(lambda grad: (hook((grad,)) or (None,))[0])  # type: ignore[attr-defined]


_accumulators: weakref.WeakValueDictionary[int, AccumulateGrad] = weakref.WeakValueDictionary()


def accumulator(variable: Handle) -> AccumulateGrad:
    """How a leaf is shown: the same object for as long as somebody holds it, so that a walk of a graph meets a parameter once."""
    found = _accumulators.get(id(variable))  # it holds the leaf, whose identity is therefore nobody else's
    if found is None:
        found = _accumulators[id(variable)] = AccumulateGrad(variable)
    return found
