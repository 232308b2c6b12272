"""Derivatives as functions of functions: ``grad``, ``vjp``, ``jvp``, ``jacrev``, ``jacfwd``, ``hessian``."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import engine
from ..autograd.arguments import gradients
from ..autograd.handle import Handle
from ..autograd.levels import Level
from ..autograd.modes import enable_grad
from ..autograd.trees import flatten

__all__ = ["grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize", "vjp"]


def _chosen(args: Sequence[Any], argnums: int | tuple[int, ...]) -> list[int]:
    chosen = []
    for k in argnums if isinstance(argnums, tuple) else (argnums,):
        if not isinstance(k, int):
            raise RuntimeError(f"argnum must be int, got: {type(k)}")
        if not -len(args) <= k < len(args):
            raise RuntimeError(f"Got argnum={k}, but only {len(args)} positional inputs")
        chosen.append(k % len(args))
    if len(set(chosen)) != len(chosen):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    if not chosen:
        raise RuntimeError("argnums must be non-empty")
    return chosen


def _enter_chosen(level: Level, args: Sequence[Any], argnums: int | tuple[int, ...]
                  ) -> tuple[list[Any], list[Any], Callable[[list[Any]], Any]]:
    """(arguments, the tensors to differentiate by, how to build a result of their structure)."""
    chosen, args = _chosen(args, argnums), list(args)
    inputs: list[Any] = []
    for k in chosen:
        args[k], made = level.enter(args[k])
        inputs.extend(made)
    _, rebuild = flatten(tuple(args[k] for k in chosen) if isinstance(argnums, tuple) else args[chosen[0]])
    return args, inputs, rebuild


def _with_aux(result: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{name}(f)(*args): output of function f should be a tuple: (output, aux) if has_aux is True")
    return result


def grad_and_value(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns (gradient, value) of a function whose result is one number; with ``has_aux``, of one that returns
    (number, anything): (gradient, (value, anything)).

    Args:
        argnums: which arguments to differentiate by; each may be a nested structure of tensors.
    """
    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        level = Level()
        entered, inputs, rebuild = _enter_chosen(level, args, argnums)
        with enable_grad():
            value, aux = _with_aux(func(*entered, **kwargs), has_aux, "grad_and_value")
            if not isinstance(value, Handle):
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got {type(value)}")
            if value.ndim != 0:  # type: ignore[attr-defined]
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with "
                                   f"{value.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?")  # type: ignore[attr-defined]
            slopes = rebuild(level.differentiate([value], inputs))
        given = (level.leave(value), level.leave(aux)) if has_aux else level.leave(value)
        return level.leave(slopes), given
    return call


def grad(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of ``func``; with ``has_aux``, (gradient, aux).

    Example:
        >>> grad(grad(torch.sin))(torch.tensor(1.0))  # -sin(1)
        tensor(-0.8415)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        slopes, value = both(*args, **kwargs)
        return (slopes, value[1]) if has_aux else slopes
    return call


def _outputs(tree: Any, name: str) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    leaves, rebuild = flatten(tree)
    for t in leaves:
        if not isinstance(t, Handle):
            raise RuntimeError(f"{name}: Expected f to return Tensors, got {type(t)}")
    return leaves, rebuild


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """(output, vjp_fn) or (output, vjp_fn, aux): ``vjp_fn(cotangent)`` is a tuple of the products with the Jacobian, one for each
    of ``primals``."""
    level = Level()
    entered = [level.enter(p) for p in primals]
    with enable_grad():
        result, aux = _with_aux(func(*[tree for tree, _ in entered]), has_aux, "vjp")
    outputs, rebuild = _outputs(result, "vjp(f, *primals)")
    inputs = [x for _, made in entered for x in made]
    _, shape = flatten(tuple(tree for tree, _ in entered))

    def vjp_fn(*cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given, _ = flatten(cotangents[0] if len(cotangents) == 1 else cotangents)
        if len(given) != len(outputs):
            raise RuntimeError(f"Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function: "
                               f"{len(given)} tensors for {len(outputs)} outputs")
        for k, (g, y) in enumerate(zip(given, outputs)):
            if g._value.meta.shape != y._value.meta.shape:
                raise RuntimeError(f"Mismatch in shape: grad_output[{k}] has a shape of {g.size()} and output[{k}] has a shape of "
                                   f"{y.size()}.")
        later = Level()
        later.own = level.own
        found = gradients(outputs, inputs, given, create_graph=later.reaches_out([*outputs, *given]))
        return later.leave(shape([engine.Rules.zeros(x._value.meta) if g is None else g for g, x in zip(found, inputs)]))

    shown = rebuild([level.leave(y) for y in outputs])
    return (shown, vjp_fn, level.leave(aux)) if has_aux else (shown, vjp_fn)


def _pushforward(level: Level, func: Callable[..., Any], primals: Sequence[Any], has_aux: bool) -> tuple[Any, Any, Callable[..., Any]]:
    """(output, aux, tangents -> tangent of the output): the derivative of ``vjp`` by its cotangent, to which it is linear."""
    entered = [level.enter(p) for p in primals]
    inputs = [x for _, made in entered for x in made]
    with enable_grad():
        result, aux = _with_aux(func(*[tree for tree, _ in entered]), has_aux, "jvp")
        outputs, rebuild = _outputs(result, "jvp(f, primals, tangents)")
        seeds = [engine.Rules.zeros(y._value.meta).requires_grad_(True) for y in outputs]
        level.own.update(id(s) for s in seeds)
        products = [(p, k) for k, p in enumerate(gradients(outputs, inputs, seeds, create_graph=True)) if p is not None]

    def push(tangents: Any) -> Any:
        given, _ = flatten(tangents)
        if len(given) != len(inputs):
            raise RuntimeError(f"jvp(f, primals, tangents): Expected primals and tangents to have the same python structure: "
                               f"{len(inputs)} and {len(given)} tensors")
        pushed = level.differentiate([p for p, _ in products], seeds, [given[k] for _, k in products])
        return rebuild([level.leave(t) for t in pushed])

    return rebuild([level.leave(y) for y in outputs]), level.leave(aux), push


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """(output, product of the Jacobian with ``tangents``), or with ``has_aux`` (output, product, aux)."""
    if not isinstance(primals, tuple):
        raise RuntimeError(f"jvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be valid to call f(*primals).")  # noqa: F541
    out, aux, push = _pushforward(Level(), func, primals, has_aux)
    return (out, push(tangents), aux) if has_aux else (out, push(tangents))


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(output, jvp_fn): ``jvp_fn(*tangents)`` is the derivative of ``func`` at ``primals`` along ``tangents``."""
    out, _, push = _pushforward(Level(), func, primals, False)
    return out, lambda *tangents: push(tangents)


def jacrev(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False, chunk_size: int | None = None,
           _preallocate_and_copy: bool = False) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``func``: for each output tensor, for each input tensor, a tensor of shape
    (*output shape, *input shape), in the structures of outputs and inputs."""
    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        level = Level()
        entered, inputs, shape = _enter_chosen(level, args, argnums)
        with enable_grad():
            result, aux = _with_aux(func(*entered, **kwargs), has_aux, "jacrev")
            outputs, rebuild = _outputs(result, "jacrev(f)(*args)")
            blocks = [level.leave(shape(_rows(level, y, inputs))) for y in outputs]
        return (rebuild(blocks), level.leave(aux)) if has_aux else rebuild(blocks)
    return call


def _rows(level: Level, y: Any, inputs: Sequence[Any]) -> list[Any]:
    meta = y._value.meta
    rows = []
    for k in range(meta.numel):
        seed = engine.Rules.from_numpy(np.eye(1, meta.numel, k, dtype=meta.dtype.numpy).reshape(meta.shape))
        rows.append(level.differentiate([y], inputs, [seed]))
    if not rows:
        return [x.new_zeros((*meta.shape, *x.shape)) for x in inputs]
    return [engine.Rules.stack([r[j] for r in rows]).reshape((*meta.shape, *x.shape)) for j, x in enumerate(inputs)]


def jacfwd(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False, *,
           randomness: str = "error") -> Callable[..., Any]:
    """The same Jacobian as ``jacrev``'s, which computes it."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the Hessian of ``func``: the Jacobian of its Jacobian."""
    return jacfwd(jacrev(func, argnums), argnums)
