"""Modules as functions of their parameters: ``functional_call``, ``stack_module_state``."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..autograd import engine

__all__ = ["functional_call", "replace_all_batch_norm_modules_", "stack_module_state"]


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Take the running statistics off all batch norms in a module, in place, so that they use those of the batch: what ``vmap`` over
    models needs. Returns the module."""
    for m in root.modules():
        if any(kind.__name__ == "_BatchNorm" for kind in type(m).__mro__):  # of a room that is not below this one
            m.running_mean = m.running_var = m.num_batches_tracked = None  # type: ignore[assignment]
            m.track_running_stats = False
    return root


def functional_call(module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict[str, Any] | None = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """Call a module with other parameters and buffers; the module itself stays as it is.

    Args:
        parameter_and_buffer_dicts: names (as in ``state_dict``) -> tensors, or several such dicts. args: a tuple, or the one argument.
        tie_weights: a tensor given for one of several names of the same parameter stands for all of them.
        strict: raise RuntimeError for a name that is missing or not the module's.
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        given = dict(parameter_and_buffer_dicts)
    else:
        given = {}
        for part in parameter_and_buffer_dicts:
            for name in part:
                if name in given:
                    raise ValueError(f"{name} appeared in multiple dictionaries; behavior of functional call is ambiguous")
            given.update(part)
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with _swapped(module, given, tie_weights, strict):
        return module(*args, **(kwargs or {}))


@contextmanager
def _swapped(module: Any, given: dict[str, Any], tie_weights: bool, strict: bool) -> Iterator[None]:
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for prefix, sub in module.named_modules(remove_duplicate=False):
        for held in (sub._parameters, sub._buffers):
            for key in held:
                places[f"{prefix}.{key}" if prefix else key] = (held, key)
    unknown, missing = [n for n in given if n not in places], [n for n in places if n not in given]
    if tie_weights:
        names = {id(held[key]): n for n, (held, key) in places.items() if n in given and held[key] is not None}
        for n in list(missing):
            held, key = places[n]
            if id(held[key]) in names:
                given[n] = given[names[id(held[key])]]
                missing.remove(n)
    if strict and (unknown or missing):
        text = [f"Unexpected key(s): {', '.join(unknown)}."] if unknown else []
        text += [f"Missing key(s): {', '.join(missing)}."] if missing else []
        raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(text))
    before = []
    try:
        for n, t in given.items():
            if n in places:
                held, key = places[n]
                before.append((held, key, held[key]))
                held[key] = t
        yield
    finally:
        for held, key, t in reversed(before):
            held[key] = t


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, buffers) of several modules of one class, each stacked along a new first dimension."""
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({type(m) for m in models}) != 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    columns = [{n: [dict(named(m))[n] for m in models] for n, _ in named(models[0])}
               for named in (lambda m: list(m.named_parameters()), lambda m: list(m.named_buffers()))]
    parameters = {n: engine.Rules.stack([p.detach() for p in ps]).requires_grad_(ps[0].requires_grad) for n, ps in columns[0].items()}
    return parameters, {n: engine.Rules.stack(bs) for n, bs in columns[1].items()}
