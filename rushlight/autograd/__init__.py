"""Automatic differentiation: the graph's nodes, the backward walk, grad modes, ``Function``, checks."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..record.flush import flush_trace
from ..record.paths import no_collection
from ..record.settings import settings
from ..record.trace import Trace, local
from ..record.value import NO_MEMORY
from . import engine, functional, graph, replay
from .anomaly import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from .apply import value_of
from .autocast import paused
from .engine import Rules
from .function import Function, once_differentiable
from .gradcheck import gradcheck, gradgradcheck
from .handle import Handle
from .modes import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from .variable import Variable

__all__ = ["Function", "Variable", "backward", "detect_anomaly", "enable_grad", "functional", "grad", "gradcheck", "gradgradcheck", "graph",
           "inference_mode", "is_anomaly_enabled", "is_grad_enabled", "is_inference_mode_enabled", "no_grad", "once_differentiable",
           "set_detect_anomaly", "set_grad_enabled"]




def _many(x: Any) -> list[Any]:
    return [x] if x is None or isinstance(x, Handle) else list(x)


def _present(x: Any) -> list[Any]:
    """Tensors, brought up to date: their memory may have been written with what wants a gradient."""
    tensors = _many(x)
    for t in tensors:
        value_of(t)
    return tensors


def _seeds(tensors: Sequence[Any], grads: Any) -> list[Any]:
    """The incoming gradients; ones for scalars.

    Raises:
        RuntimeError: an output is no scalar and has no gradient, or a shape differs.
    """
    given = [None] * len(tensors) if grads is None else _many(grads)
    if len(given) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(given)} gradients")
    seeds = []
    for t, g in zip(tensors, given, strict=True):
        meta = t._value.meta
        if g is None:
            if meta.numel != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            if meta.dtype.kind == "c":
                raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {meta.dtype}")
            g = Rules.ones(meta)
        elif g._value.meta.shape != meta.shape:
            raise RuntimeError(f"Mismatch in shape: grad_output[0] has a shape of {_size(g)} and output[0] has a shape of {_size(t)}.")
        elif g._value.meta.dtype is not meta.dtype:
            g = g.to(meta.dtype)
        seeds.append(g)
    return seeds


def _size(t: Handle) -> str:
    return f"torch.Size({list(t._value.meta.shape)})"


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             grad_variables: Any = None, inputs: Any = None) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of the leaves (or only of ``inputs``)."""
    if (grad_tensors is None and inputs is None and grad_variables is None and not create_graph and isinstance(tensors, Handle)
            and _backward_again(tensors, bool(retain_graph))):
        count_backward(local.trace)
        return
    roots = _present(tensors)
    for k, t in enumerate(roots):
        if t._edge is None:
            raise RuntimeError(f"element {k} of tensors does not require grad and does not have a grad_fn")
    wanted = None if inputs is None else _present(inputs)
    if wanted is not None and not wanted:
        raise RuntimeError("`inputs` argument to `backward` cannot be empty.")
    if wanted is not None:
        for t in wanted:
            if t._edge is None:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
    captured = engine.run(roots, _seeds(roots, grad_tensors if grad_tensors is not None else grad_variables),
                          retain_graph=create_graph if retain_graph is None else retain_graph, create_graph=create_graph,
                          inputs=wanted, accumulate=True)
    for k, g in captured.items():  # tensors that are not leaves
        t = wanted[k]  # type: ignore[index]
        t._grad = g if t._grad is None else Rules.add(t._grad, g)
    count_backward(local.trace)


def count_backward(tr: Trace) -> None:
    """A loop of backwards whose number changes (one for each step of an episode) is cut into pieces of one length: a path of
    each number would be a program of its own."""
    tr.epoch.backwards += 1
    if tr.epoch.backwards >= settings.max_backwards:
        flush_trace(tr, False)


def _backward_again(root: Any, retain_graph: bool) -> bool:
    """The everyday backward, from one scalar to all leaves: recorded by a walk once, then found."""
    tr = local.trace
    if tr.low is not None:
        with paused(tr):
            return _backward_again(root, retain_graph)
    epoch = tr.epoch
    if root._value.meta.numel != 1 or root._alias is not None or tr.full or settings.eager or root._value.buffer is NO_MEMORY:
        return False
    # Each rule runs by itself, or the path will not stay: there is nothing to be remembered.
    if tr.alone or tr.node.backward is None and tr.passing.loose and not tr.node.edges:
        with no_collection():
            engine.run([root], _seeds([root], None), retain_graph=retain_graph, create_graph=False, accumulate=True)
        return True
    found = replay.describe(root, epoch, False) if retain_graph else replay.describe(root, epoch)
    if found is None:
        return False
    if not replay.replay(tr, root, found, retain_graph):
        start, before = tr.node, len(tr.values)
        with no_collection():  # the trie grows by many objects that stay
            engine.run([root], _seeds([root], None), retain_graph=retain_graph, create_graph=False, accumulate=True)
        replay.remember(start, tr, epoch, before, found)
    return True


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
         only_inputs: bool = True, allow_unused: bool | None = None, is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Any, ...]:
    """Gradients of ``outputs`` with respect to ``inputs``, as a tuple; no ``grad`` is touched.

    Raises:
        RuntimeError: an input was not used (unless ``allow_unused`` or ``materialize_grads``), or requires no grad.
    """
    roots, wanted = _present(outputs), _present(inputs)
    if not wanted:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    for k, t in enumerate(roots):
        if t._edge is None:
            raise RuntimeError(f"element {k} of tensors does not require grad and does not have a grad_fn")
    for t in wanted:
        if t._edge is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    if is_grads_batched:
        rows = [grad(outputs, inputs, [g[i] for g in _many(grad_outputs)], True, create_graph, True, allow_unused)
                for i in range(_many(grad_outputs)[0].shape[0])]
        return tuple(None if column[0] is None else Rules.stack(list(column)) for column in zip(*rows))
    captured = engine.run(roots, _seeds(roots, grad_outputs), retain_graph=create_graph if retain_graph is None else retain_graph,
                          create_graph=create_graph, inputs=wanted, accumulate=False)
    given = []
    for k, t in enumerate(wanted):
        g = captured.get(k)
        if g is None:
            if materialize_grads:
                g = Rules.zeros(t._value.meta)
            elif not allow_unused:
                raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True "
                                   "if this is the desired behavior.")
        given.append(g)
    return tuple(given)


def __getattr__(name: str) -> Any:
    if name in ("anomaly_mode", "forward_ad", "grad_mode", "profiler"):  # rarely used, so imported on first use
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
