"""Products with Jacobians and Hessians of functions: ``autograd.functional``."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import engine
from .arguments import (
    HESSIAN,
    as_tuple,
    call,
    check_outputs,
    check_vector,
    detached,
    filled,
    gradients,
    prepared,
    unpacked,
)
from .modes import enable_grad

__all__ = ["vjp", "jvp", "jacobian", "hessian", "vhp", "hvp"]


def _independent(k: int) -> str:
    return f"The output of the user-provided function is independent of input {k}. This is not allowed in strict mode."


def _output_independent(at: int, k: int) -> str:
    return f"Output {at} of the user-provided function is independent of input {k}. This is not allowed in strict mode."


def _hessian_independent(k: int) -> str:
    return HESSIAN.format(k)


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(outputs, vᵀ J): the product of a vector with the Jacobian.

    Args:
        func: takes tensors, returns a tensor or a tuple of tensors. inputs: a tensor or a tuple of tensors.
        v: like the outputs; may be left out for a single number. create_graph: the results can be differentiated.
        strict: raise RuntimeError where an output does not depend on an input (else its gradient is zeros).
    """
    with enable_grad():
        many, items = as_tuple(inputs, "inputs", "vjp")
        items = prepared(items, create_graph)
        out_many, outputs = call(func, items, "vjp")
        check_outputs(outputs, strict)
        vector = check_vector(v, outputs, out_many, "vjp", "the user-provided function returns")
    grads = gradients(outputs, items, vector, create_graph=create_graph)
    result = filled(grads, items, strict, _independent)
    return detached(unpacked(outputs, out_many), create_graph), detached(unpacked(result, many), create_graph)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(outputs, J v): the product of the Jacobian with a vector like the inputs, by differentiating ``vjp`` (twice backward)."""
    with enable_grad():
        many, items = as_tuple(inputs, "inputs", "jvp")
        items = prepared(items, create_graph)
        vector = check_vector(v, items, many, "jvp", "the input to the user-provided function is")
        out_many, outputs = call(func, items, "jvp")
        check_outputs(outputs, strict)
        seeds = tuple(engine.Rules.zeros(y._value.meta).requires_grad_(True) for y in outputs)  # the product is linear in them
        products = filled(gradients(outputs, items, seeds, create_graph=True), items, strict, _independent)
    grads = gradients(products, seeds, vector, create_graph=create_graph)
    result = filled(grads, outputs, False, _independent)
    return detached(unpacked(outputs, out_many), create_graph), detached(unpacked(result, out_many), create_graph)


def _one_hot(n: int, k: int, like: Any) -> Any:
    """A gradient that picks one element out; it enters as data, so that every element runs the same program."""
    meta = like._value.meta
    return engine.Rules.from_numpy(np.eye(1, n, k, dtype=meta.dtype.numpy).reshape(meta.shape))


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:
    """The Jacobian: for each output and each input a tensor of shape (*output shape, *input shape).

    Returns a tensor, a tuple (over several inputs or outputs) or a tuple of tuples (over outputs, then inputs).

    Args:
        vectorize: accepted; rows are computed one after another. strategy: "reverse-mode", or "forward-mode" with ``vectorize``
            (the same numbers, computed in reverse).
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs '
                             'than inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode".')
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError("Computing Jacobian using forward-AD or forward-over-reverse Hessian is only implemented for "
                                  "`vectorize=True`.")
    if strict and vectorize:
        raise RuntimeError("torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. Please "
                           "either set `strict=False` or `vectorize=False`.")
    with enable_grad():
        many, items = as_tuple(inputs, "inputs", "jacobian")
        items = prepared(items, create_graph)
        out_many, outputs = call(func, items, "jacobian")
        check_outputs(outputs, strict)
        made = []
        for at, y in enumerate(outputs):
            rows = []
            n = y.numel()
            for k in range(n):
                row = gradients([y], items, [_one_hot(n, k, y)], create_graph=create_graph)
                rows.append(filled(row, items, strict, functools.partial(_output_independent, at)))
            made.append(tuple(_stacked([r[j] for r in rows], y, x) for j, x in enumerate(items)))
    result = tuple(unpacked(row, many) for row in made)
    return detached(unpacked(result, out_many), create_graph)


def _stacked(rows: list[Any], output: Any, item: Any) -> Any:
    shape = (*output.shape, *item.shape)
    if not rows:
        return item.new_zeros(shape)
    return engine.Rules.stack(rows).reshape(shape)


def _single(outputs: tuple[Any, ...], out_many: bool, name: str) -> None:
    if out_many:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The Hessian of a function that returns one number: a tensor, or for several inputs a tuple of tuples.

    Raises:
        RuntimeError: the function returns anything else.
    """
    many, items = as_tuple(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def number(*args: Any) -> Any:
        out_many, outputs = call(func, args, "hessian")
        _single(outputs, out_many, "hessian")
        check_outputs(outputs, strict)
        return outputs[0].reshape(())

    def slopes(*args: Any) -> Any:
        rows = jacobian(number, args, create_graph=True)
        if strict:
            check_outputs(rows, True, jacobian=True)
        return rows

    result = jacobian(slopes, items, create_graph=create_graph, strict=strict, vectorize=vectorize, strategy=outer_jacobian_strategy)
    return unpacked([unpacked(row, many) for row in result], many)


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(output, vᵀ H): the product of a vector with the Hessian of a function that returns one number."""
    with enable_grad():
        many, items = as_tuple(inputs, "inputs", "vhp")
        items = prepared(items, create_graph)
        vector = check_vector(v, items, many, "vhp", "the input to the user-provided function is")
        out_many, outputs = call(func, items, "vhp")
        check_outputs(outputs, strict)
        _single(outputs, out_many, "vhp")
        found = gradients(outputs, items, create_graph=True)
        check_outputs([g for g in found if g is not None], strict, jacobian=True)
        slopes = filled(found, items, strict, _independent)
    result = filled(gradients(slopes, items, vector, create_graph=create_graph), items, strict, _hessian_independent)
    return detached(outputs[0], create_graph), detached(unpacked(result, many), create_graph)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(output, H v): the product of the Hessian with a vector, by differentiating ``vhp`` with respect to its vector."""
    with enable_grad():
        many, items = as_tuple(inputs, "inputs", "hvp")
        items = prepared(items, create_graph)
        vector = check_vector(v, items, many, "hvp", "the input to the user-provided function is")
        out_many, outputs = call(func, items, "hvp")
        check_outputs(outputs, strict)
        _single(outputs, out_many, "hvp")
        found = gradients(outputs, items, create_graph=True)
        check_outputs([g for g in found if g is not None], strict, jacobian=True)
        slopes = filled(found, items, strict, _independent)
        seeds = tuple(engine.Rules.zeros(g._value.meta).requires_grad_(True) for g in slopes)
        products = filled(gradients(slopes, items, seeds, create_graph=True), items, strict, _hessian_independent)
    result = filled(gradients(products, seeds, vector, create_graph=create_graph), items, False, _independent)
    return detached(outputs[0], create_graph), detached(unpacked(result, many), create_graph)
