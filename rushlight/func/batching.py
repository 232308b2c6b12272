"""``vmap``: a function mapped over a dimension of its arguments."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import engine
from ..autograd.handle import Handle
from ..autograd.trees import flatten, spread
from ..tensor.generator import stream_of
from .sample import Sample

__all__ = ["vmap"]


def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
         chunk_size: int | None = None) -> Callable[..., Any]:
    """A function that maps ``func`` over a dimension of its arguments. ``func`` is called for one position, and what it recorded is done
    for all at once. Where that cannot be (it looked at a value, wrote in place, drew numbers, called a library), it is called for each
    position, and the results are stacked.

    Args:
        in_dims: the dimension of each argument (None: the same for all calls), an int or a structure like the arguments.
        out_dims: where the dimension goes in each result.
        randomness: "error" (RuntimeError for a random operation), "different" or "same" numbers for all calls.
    """
    name = getattr(func, "__name__", repr(func))
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        what = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>)"
        if not isinstance(in_dims, (int, tuple, list)):
            raise ValueError(f"{what}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure of inputs, got: "
                             f"{type(in_dims)}.")
        if not args:
            raise ValueError(f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a "
                             "function with no inputs. The latter is unsupported.")
        try:
            dims = spread(tuple(in_dims) if isinstance(in_dims, list) else in_dims, args)
        except ValueError:
            raise ValueError(f"{what}: in_dims is not compatible with the structure of `inputs`.") from None
        leaves, rebuild = flatten(args)
        size = _batch_size(what, leaves, dims)
        stream = stream_of(None)
        state, results = stream.get_state(), []
        if size > 1:
            first = Sample(leaves, dims)
            results.append(first.of(func, rebuild, kwargs))
            _check_randomness(randomness, state)
            flat, shape = flatten(results[0])
            found = first.for_all(flat, size) if not _has_drawn(state) else None
            if found is not None:
                return _placed(name, results[0], shape, found, out_dims)
            first.write_back()
        for k in range(len(results), size):
            if randomness == "same":
                stream.set_state(state)
            results.append(func(*rebuild([t if d is None else t.select(d, k) for t, d in zip(leaves, dims)]), **kwargs))
            if k == 0:
                _check_randomness(randomness, state)
        return _stacked(name, results, out_dims)
    return call


def _has_drawn(state: Any) -> bool:
    """Whether numbers were drawn since the default generator had this state."""
    return not np.array_equal(stream_of(None).get_state(), state)


def _check_randomness(randomness: str, state: Any) -> None:
    if randomness == "error" and _has_drawn(state):
        raise RuntimeError("vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                           "'different' randomness flags on vmap or perform the randomness operation out of vmap")


def _batch_size(what: str, leaves: Sequence[Any], dims: Sequence[Any]) -> int:
    sizes = []
    for t, d in zip(leaves, dims, strict=True):
        if d is None:
            continue
        if not isinstance(d, int):
            raise ValueError(f"{what}: Got in_dim={d} for an input but in_dim must be either an integer dimension or None.")
        if not isinstance(t, Handle):
            raise ValueError(f"{what}: Got in_dim={d} for an input but the input is of type {type(t)}. We cannot vmap over non-Tensor "
                             "arguments, please use None as the respective in_dim")
        n = len(t._value.meta.shape)
        if not -n <= d < n:
            raise ValueError(f"{what}: Got in_dim={d} for some input, but that input is a Tensor of dimensionality {n} so expected "
                             f"in_dim to satisfy -{n} <= in_dim < {n}.")
        sizes.append(t._value.meta.shape[d])
    if not sizes:
        raise ValueError(f"{what}: at least one input must be mapped over")
    if len(set(sizes)) > 1:
        raise ValueError(f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} for the mapped "
                         "dimension")
    if sizes[0] == 0:
        raise ValueError(f"{what}: the mapped dimension is empty")
    return sizes[0]


def _stacked(name: str, results: Sequence[Any], out_dims: Any) -> Any:
    flat = [flatten(r)[0] for r in results]
    columns = [[r[j] for r in flat] for j in range(len(flat[0]))]
    return _placed(name, results[0], flatten(results[0])[1], columns, out_dims)


def _placed(name: str, result: Any, rebuild: Callable[[list[Any]], Any], columns: Sequence[Any], out_dims: Any) -> Any:
    """The results where ``out_dims`` says; of each, a list of all samples' or a tensor with the samples along its first dimension."""
    flat, _ = flatten(result)
    try:
        dims = spread(out_dims, result)
    except ValueError:
        raise ValueError(f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of "
                         "`outputs`.") from None
    made = []
    for one, column, d in zip(flat, columns, dims, strict=True):
        if d is None:
            made.append(column[0])
            continue
        for t in column if isinstance(column, list) else (one,):
            if not isinstance(t, Handle):
                raise ValueError(f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(t)}. Did you mean to set out_dims= "
                                 "to None for output?")
        n = len(one._value.meta.shape) + 1
        if not -n <= d < n:
            raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})")
        made.append((engine.Rules.stack(column) if isinstance(column, list) else column).movedim(0, d))
    return rebuild(made)
