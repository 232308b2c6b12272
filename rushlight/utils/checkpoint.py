"""Checkpointing: drop what a part of a model saved for its backward, and compute it again when the backward comes."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ..autograd import engine
from ..autograd.autocast import region
from ..autograd.handle import Handle, make
from ..autograd.modes import enable_grad, is_grad_enabled, no_grad
from ..autograd.node import Node, edge_of
from ..autograd.trees import flatten
from ..random import get_rng_state, set_rng_state
from ..record.meta import Meta
from ..record.trace import local
from ..record.warn import warn

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn", "set_checkpoint_early_stop"]


class CheckpointError(RuntimeError):
    """The second run of a checkpointed function was not like the first."""


def noop_context_fn() -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), nullcontext()


@contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Accepted: what a second run records and nobody needs is never computed, whatever is set here."""
    yield


class _Call:
    """The function with its arguments."""

    def __init__(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any], contexts: Callable[[], tuple],
                 keep_random: bool) -> None:
        self.function = function
        self.leaves, self.rebuild = flatten((args, kwargs))
        self.wanted = [k for k, t in enumerate(self.leaves) if isinstance(t, Handle) and t._edge is not None]
        self.first, self.second = contexts()
        self.state = get_rng_state() if keep_random else None
        self.low = local.trace.low

    def run(self, context: AbstractContextManager, tied: bool = False) -> tuple[Any, list[Any]]:
        """(result, the tensors that stand for the arguments with gradients): tied to the caller's, or cut off from them."""
        leaves = list(self.leaves)
        with enable_grad(), context:
            for k in self.wanted:
                leaves[k] = leaves[k].view_as(leaves[k]) if tied else leaves[k].detach().requires_grad_(True)
            args, kwargs = self.rebuild(leaves)
            return self.function(*args, **kwargs), [leaves[k] for k in self.wanted]

    def again(self, tied: bool) -> tuple[Any, list[Any]]:
        """The second run, with the random numbers and the autocast type of the first."""
        if self.state is None:
            with region(self.low):
                return self.run(self.second, tied)
        now = get_rng_state()
        set_rng_state(self.state)
        try:
            with region(self.low):
                return self.run(self.second, tied)
        finally:
            set_rng_state(now)


class CheckpointFunctionBackward(Node):
    """The graph node of a checkpointed call. Its edges are those of the arguments that require grad, then what the function
    reaches in other ways: parameters of modules, tensors of an enclosing function."""

    __slots__ = ("call", "edges", "metas", "places", "results", "check", "born", "rare")

    def __init__(self, call: _Call, edges: tuple, metas: Sequence[Meta], places: Sequence[int], check: bool) -> None:
        self.call: _Call | None = call
        self.edges, self.metas, self.places, self.check = edges, tuple(metas), tuple(places), check
        self.results = len(self.metas)
        self.rare = None
        tr = local.trace
        self.born = (tr.epoch.number, len(tr.values))

    def out_metas(self) -> Sequence[Meta]:
        return self.metas

    def backward(self, grads: Sequence[Any]) -> Sequence[Any]:
        if self.call is None:
            raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after they have "
                               "already been freed). Specify retain_graph=True if you need to backward through the graph a second time.")
        again = is_grad_enabled()  # under create_graph
        result, inputs = self.call.again(tied=again)
        found, _ = flatten(result)
        outputs = [found[k] if k < len(found) and isinstance(found[k], Handle) else None for k in self.places]
        metas = [None if y is None else y._value.meta.plain for y in outputs]
        if self.check and metas != list(self.metas):
            raise CheckpointError("torch.utils.checkpoint: Recomputed values for the following tensors have different metadata than during "
                                  f"the forward pass.\nfirst: {_described(self.metas)}\nagain: {_described(metas)}")
        some = next(t for t in (*inputs, *outputs, *grads) if t is not None)._value  # the walk reads the edges only
        outside = [edge if isinstance(edge, Handle) else make(some, edge) for edge in self.edges[len(inputs):]]
        pairs = [(y, g) for y, g in zip(outputs, grads) if g is not None and y is not None and y._edge is not None]
        given = engine.run([y for y, _ in pairs], [g for _, g in pairs], retain_graph=True, create_graph=again,
                           inputs=[*inputs, *outside], accumulate=False, inner=len(inputs))
        return [given.get(k) for k in range(len(self.edges))]

    def release(self) -> None:
        self.call = None


def _described(metas: Sequence[Meta | None]) -> list[Any]:
    return [None if m is None else (list(m.shape), m.dtype) for m in metas]


def _outside(roots: Sequence[Any], own: Sequence[Any], start: tuple[int, int]) -> list[Any]:
    """The edges that lead from what was recorded since ``start`` to older nodes, and to leaves that are not ``own``."""
    mine = {id(t) for t in own}
    found: dict[Any, Any] = {}
    seen: set[Node] = set()
    todo = list(roots)
    while todo:
        edge = todo.pop()
        if isinstance(edge, Handle):
            if id(edge) not in mine:
                found[id(edge)] = edge
            continue
        node, nr = edge if type(edge) is tuple else (edge, 0)
        if node.born < start:
            found[id(node), nr] = edge
        elif node not in seen:
            seen.add(node)
            todo.extend(e for e in node.edges if e is not None)
    return list(found.values())


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None,
               context_fn: Callable[[], tuple[AbstractContextManager, AbstractContextManager]] = noop_context_fn,
               determinism_check: str = "default", debug: bool = False, early_stop: bool = True, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``, whose backward runs the function once more instead of keeping its intermediate values.

    Args:
        use_reentrant: both settings give the same gradients here; True accepts no keyword arguments and needs an argument that
            requires grad. preserve_rng_state (default True): the second run draws the same random numbers.
        context_fn: two context managers, for the first and for the second run. determinism_check: "none" for no check that the second
            run gives outputs of the same shapes and dtypes.

    Raises:
        CheckpointError (in the backward): it does not.
    """
    if use_reentrant is None:
        warn("torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. Starting in PyTorch 2.9, calling "
             "checkpoint without use_reentrant will raise an exception. use_reentrant=False is recommended, but if you need "
             "to preserve the current default behavior, you can pass use_reentrant=True.")
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn or debug:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ('default', 'none') but got {determinism_check}")
    call = _Call(function, args, kwargs, context_fn, preserve)
    if use_reentrant and not call.wanted and is_grad_enabled():
        warn("None of the inputs have requires_grad=True. Gradients will be None")
    if not is_grad_enabled() or use_reentrant and not call.wanted:
        with no_grad(), call.first:
            return function(*args, **kwargs)

    tr = local.trace
    start = (tr.epoch.number, len(tr.values))
    result, inputs = call.run(call.first)
    leaves, rebuild = flatten(result)
    places = [k for k, t in enumerate(leaves) if isinstance(t, Handle) and t._edge is not None]
    if not places:
        return result
    # What was recorded is only read for where it leads; with the last of its outputs it is gone, and what it saved with it.
    outside = _outside([edge_of(leaves[k]) for k in places], inputs, start)
    edges = tuple(edge_of(call.leaves[k]) for k in call.wanted)
    metas = [leaves[k]._value.meta.plain for k in places]
    node = CheckpointFunctionBackward(call, (*edges, *outside), metas, places, determinism_check != "none")
    for nr, k in enumerate(places):
        leaves[k] = _cut(leaves[k])
        leaves[k]._edge = node if len(places) == 1 else (node, nr)
    return rebuild(leaves)


def _cut(t: Any) -> Any:
    """A tensor of the same value that holds no graph, not even through what it is a view of."""
    with no_grad():
        return make(t._value) if t._alias is None else t.detach().clone()


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any) -> Any:  # noqa: A002
    """Run functions (or a ``Sequential``) one after another, checkpointed in ``segments`` groups but for the last.

    Args:
        segments: number of groups. preserve_rng_state (default True): see ``checkpoint``.
    """
    if use_reentrant is None:
        warn("torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. In version "
             "2.9 we will raise an exception if use_reentrant is not passed. use_reentrant=False is recommended, but if you need "
             "to preserve the current default behavior, you can pass use_reentrant=True.")
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)

    def run_from(begin: int, end: int) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for step in steps[begin:end]:
                x = step(x)
            return x
        return run

    size = len(steps) // segments
    begin = 0
    for _ in range(segments - 1):
        input = checkpoint(run_from(begin, begin + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)  # noqa: A001
        begin += size
    return run_from(begin, len(steps))(input)


def get_device_states(*args: Any) -> tuple[list[int], list[Any]]:
    """(numbers, generator states) of the GPUs that tensors among the arguments are on: none."""
    return [], []


def set_device_states(devices: list[int], states: list[Any], *, device_type: str | None = None) -> None:
    """Set generators of GPUs to the states that ``get_device_states`` told.

    Raises:
        RuntimeError: there are some: no GPU is there.
    """
    if devices or states:
        raise RuntimeError(f"set_device_states: there are no GPUs, asked for the generators of {devices}")
