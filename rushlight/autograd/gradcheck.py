"""Gradients against finite differences: ``gradcheck`` and ``gradgradcheck``."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..record.warn import warn
from . import engine
from .handle import Handle
from .modes import enable_grad, no_grad

__all__ = ["gradcheck", "gradgradcheck", "GradcheckError"]


class GradcheckError(RuntimeError):
    """A gradient does not agree with finite differences."""


_COLD_RUNS = 10  # a long path runs in the interpreter so often, at most, before it is compiled (record/patience.py)


def _tuple(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, Handle) or not isinstance(x, (tuple, list)) else tuple(x)


def _array(t: Any) -> np.ndarray:
    """The values as a flat array of real numbers; a complex number counts as two."""
    a = np.array(t.detach()._array()).reshape(-1)
    return a.view(a.real.dtype) if a.dtype.kind == "c" else a.astype(np.float64)


def _differentiable(outputs: Sequence[Any]) -> list[Any]:
    return [y for y in outputs if isinstance(y, Handle) and y._edge is not None]


def _checked_inputs(inputs: Sequence[Any]) -> list[int]:
    """Positions of the inputs that require grad."""
    wanted = []
    for k, t in enumerate(inputs):
        if not isinstance(t, Handle) or t._edge is None:
            continue
        meta = t._value.meta
        if meta.dtype.name not in ("float64", "complex128"):
            warn(f"Input #{k} requires gradient and is not a double precision floating point or complex. This check will likely "
                 "fail if all the inputs are not of double precision floating point or complex. ")
        if any(s == 0 and n > 1 for s, n in zip(meta.strides or (), meta.shape)):
            raise RuntimeError(f"The {k}th input has a dimension with stride 0. gradcheck only supports inputs that are non-overlapping to "
                               "be able to compute the numerical gradients correctly. You should call .contiguous on the input before "
                               "passing it to gradcheck.")
        wanted.append(k)
        t.retain_grad()
    if not wanted:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True.")
    return wanted


def _numerical(func: Callable[..., Any], inputs: Sequence[Any], k: int, eps: float, count: int,
               select: Callable[[Any], list[Any]]) -> list[np.ndarray]:
    """For each output the Jacobian (elements of input k, elements of the output), by central differences.

    The input itself is changed and put back, as a function may reach it in other ways than through its arguments.
    """
    x = inputs[k].detach()
    here = np.array(x._array())
    parts: list[list[np.ndarray]] = [[] for _ in range(count)]

    def at(flat: np.ndarray) -> list[np.ndarray]:
        with no_grad():
            x.copy_(engine.Rules.from_numpy(flat.view(here.dtype).reshape(here.shape)))
        return [_array(y) for y in select(func(*inputs))]

    flat = np.ascontiguousarray(here).reshape(-1)
    real = flat.view(flat.real.dtype) if here.dtype.kind == "c" else flat
    try:
        for j in range(real.size):
            up, down = real.copy(), real.copy()
            up[j] += eps
            down[j] -= eps
            for part, a, b in zip(parts, at(up), at(down), strict=True):
                part.append((a - b) / (2 * eps))
    finally:
        with no_grad():
            x.copy_(engine.Rules.from_numpy(here))
    return [np.stack(part) if part else np.zeros((0, 0)) for part in parts]


def _analytical(y: Any, inputs: Sequence[Any], check_dtypes: bool) -> list[np.ndarray]:
    """For each input the Jacobian of the output y, like ``_numerical``: one backward for each element of y."""
    meta = y._value.meta
    width = 2 if meta.dtype.is_complex else 1
    rows: list[list[np.ndarray]] = [[] for _ in inputs]
    for j in range(meta.numel * width):
        seed = np.zeros(meta.numel, meta.dtype.numpy)
        seed[j // width] = 1j if j % width else 1
        found = engine.run([y], [engine.Rules.from_numpy(seed.reshape(meta.shape))], retain_graph=True, create_graph=False, inputs=inputs,
                           accumulate=False)
        for k, x in enumerate(inputs):
            g = found.get(k)
            if g is None:
                rows[k].append(np.zeros(x._value.meta.numel * (2 if x.is_complex() else 1)))
                continue
            if g._value.meta.shape != x._value.meta.shape:
                raise GradcheckError("Analytical gradient has incorrect size")
            if check_dtypes and g._value.meta.dtype is not x._value.meta.dtype:
                raise GradcheckError("Analytical gradient has incorrect type")
            rows[k].append(_array(g))
    return [np.stack(r, 1) if r else np.zeros((x._value.meta.numel, 0)) for r, x in zip(rows, inputs)]


def _shown(a: np.ndarray) -> str:
    return str(engine.Rules.from_numpy(np.array(a, np.float64)))


def _check(func: Callable[..., Any], inputs: tuple[Any, ...], eps: float, atol: float, rtol: float, nondet_tol: float,
           check_grad_dtypes: bool) -> None:
    wanted = _checked_inputs(inputs)
    with enable_grad():
        everything = _tuple(func(*inputs))
        outputs = _differentiable(everything)
        xs = [inputs[k] for k in wanted]
        if not outputs:
            floating = [i for i, y in enumerate(everything) if isinstance(y, Handle) and y._value.meta.dtype.kind in "fc"]
            for k in wanted:
                steps = _numerical(func, inputs, k, eps, len(floating), lambda out: [_tuple(out)[i] for i in floating])
                if any(np.abs(a).max(initial=0) > 0 for a in steps):
                    raise GradcheckError("Numerical gradient for function expected to be zero")
            return
        numerical = [_numerical(func, inputs, k, eps, len(outputs), lambda out: _differentiable(_tuple(out))) for k in wanted]
        outputs = _differentiable(_tuple(func(*inputs)))  # anew: the inputs were written over in between
        for i, y in enumerate(outputs):
            analytical = _analytical(y, xs, check_grad_dtypes)
            again, first = _analytical(y, xs, False), analytical
            for _ in range(_COLD_RUNS):
                if all(np.array_equal(a, b) for a, b in zip(again, first)):
                    break
                # One of them may have been the interpreter's and the other compiled, whose last bits differ: what counts is the next two.
                again, first = _analytical(y, xs, False), again
            for at, k in enumerate(wanted):
                a, n = analytical[at], numerical[at][i]
                if a.size and not np.allclose(a, n, rtol=rtol, atol=atol):
                    raise GradcheckError(f"Jacobian mismatch for output {i} with respect to input {k},\nnumerical:{_shown(n)}\n"
                                         f"analytical:{_shown(a)}\n")
                if a.size and not np.abs(first[at] - again[at]).max() <= nondet_tol:
                    raise GradcheckError("Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                                         f"gives different values, although analytical gradient matches numerical gradient.The tolerance "
                                         f"for nondeterminism was {nondet_tol}.")


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
              check_batched_grad: bool = False, check_batched_forward_grad: bool = False, check_forward_ad: bool = False,
              check_backward_ad: bool = True, fast_mode: bool = False, masked: bool | None = None) -> bool:
    """Compare the gradients of a function with central differences of step ``eps``, element by element.

    Every output is differentiated by itself, so undefined gradients of the others are part of the check; batched gradients are a
    loop over single ones, and ``fast_mode`` checks the whole Jacobian too.

    Args:
        func: takes ``inputs``, returns a tensor or a tuple of tensors.
        inputs: tensors, double precision where they require grad (others give a warning).

    Returns:
        True; with ``raise_exception=False``, False where they disagree.

    Raises:
        GradcheckError: they disagree; the message shows both Jacobians. ValueError: no input requires grad.
        NotImplementedError: forward mode is asked for.
    """
    if check_forward_ad:
        raise NotImplementedError("gradcheck: forward mode automatic differentiation is not supported")
    try:
        if check_backward_ad:
            _check(func, _tuple(inputs), eps, atol, rtol, nondet_tol, check_grad_dtypes)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _random_like(y: Any, rng: np.random.RandomState, strided: bool) -> Any:
    meta = y._value.meta
    shape = meta.shape if not strided or not meta.shape else (*meta.shape, 2)
    a = rng.randn(*shape)
    if meta.dtype.is_complex:
        a = a + 1j * rng.randn(*shape)
    t = engine.Rules.from_numpy(np.array(a, meta.dtype.numpy)).requires_grad_(True)
    if shape != meta.shape:
        t = t[..., 0].detach().requires_grad_(True)
    return t


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
                  rtol: float = 1e-3, gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True, nondet_tol: float = 0.0,
                  check_undefined_grad: bool = True, check_grad_dtypes: bool = False, check_batched_grad: bool = False,
                  check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True, fast_mode: bool = False, masked: bool = False) -> bool:
    """Compare second derivatives with central differences of the first, with respect to the inputs and ``grad_outputs`` (random, if
    left out). See ``gradcheck``."""
    items = _tuple(inputs)
    with enable_grad():
        outputs = _differentiable(_tuple(func(*items)))
    if grad_outputs is None:
        rng = np.random.RandomState(0)
        seeds: tuple[Any, ...] = tuple(_random_like(y, rng, gen_non_contig_grad_outputs) for y in outputs)
    else:
        seeds = _tuple(grad_outputs)
    count = len(seeds)

    def slopes(*args: Any) -> tuple[Any, ...]:
        xs = args[:-count] if count else args
        ys = _differentiable(_tuple(func(*xs)))
        wanted = [x for x in xs if isinstance(x, Handle) and x._edge is not None]
        found = engine.run(ys, list(args[len(xs):]), retain_graph=True, create_graph=True, inputs=wanted, accumulate=False)
        return tuple(found[k] for k in sorted(found))

    return gradcheck(slopes, (*items, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, nondet_tol=nondet_tol,
                     check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes, check_batched_grad=check_batched_grad,
                     check_forward_ad=check_fwd_over_rev, check_backward_ad=check_rev_over_rev, fast_mode=fast_mode, masked=masked)
