"""Nested containers of tensors: lists, tuples (named ones too) and dicts, as functions take and return them."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["flatten", "map_leaves", "spread"]


def _parts(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]] | None:
    """(children, how to build the container from new children), or None for a leaf."""
    if isinstance(tree, dict):
        keys, kind = list(tree), type(tree)
        return [tree[k] for k in keys], lambda children: kind(zip(keys, children))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return list(tree), lambda children: type(tree)(*children)
    if type(tree) in (list, tuple):
        return list(tree), type(tree)
    return None


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """(leaves, rebuild): ``rebuild(new_leaves)`` is the same structure around other leaves.

    Example:
        >>> leaves, rebuild = flatten({"a": 1, "b": (2, 3)})
        >>> rebuild([x * 10 for x in leaves])
        {'a': 10, 'b': (20, 30)}
    """
    found = _parts(tree)
    if found is None:
        return [tree], lambda leaves: leaves[0]
    children, build = found
    flat = [flatten(child) for child in children]

    def rebuild(leaves: list[Any]) -> Any:
        at, made = 0, []
        for part, inner in flat:
            made.append(inner(leaves[at:at + len(part)]))
            at += len(part)
        return build(made)

    return [leaf for part, _ in flat for leaf in part], rebuild


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    leaves, rebuild = flatten(tree)
    return rebuild([function(leaf) for leaf in leaves])


def spread(prefix: Any, tree: Any) -> list[Any]:
    """One value for each leaf of ``tree`` from a structure that may stop earlier: a value stands for all leaves below it.

    Raises:
        ValueError: the structures differ.
    """
    outer, inner = _parts(prefix), _parts(tree)
    if outer is None:
        return [prefix] * len(flatten(tree)[0])
    if inner is None or len(outer[0]) != len(inner[0]) or isinstance(prefix, dict) != isinstance(tree, dict):
        raise ValueError(f"{prefix} does not have the structure of the values it is given for")
    children = [tree[k] for k in prefix] if isinstance(prefix, dict) else inner[0]
    return [value for p, t in zip(outer[0], children) for value in spread(p, t)]
