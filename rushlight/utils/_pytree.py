"""``torch.utils._pytree``: nested containers, their leaves in order, and functions of each leaf.

Containers are lists, tuples, named tuples, dicts, ordered and default dicts, and deques, of exactly these classes; anything else,
None too, is a leaf.
"""
from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["TreeSpec", "tree_all", "tree_any", "tree_flatten", "tree_leaves", "tree_map", "tree_map_only", "tree_structure",
           "tree_unflatten"]

PyTree = Any


@dataclass(frozen=True)
class TreeSpec:
    """A structure without its leaves: ``type`` is the container's class (None for a leaf), ``context`` what else it is made from."""

    type: Any
    context: Any
    children_specs: tuple[TreeSpec, ...]

    @property
    def num_leaves(self) -> int:
        """How many leaves there are in the whole structure."""
        return 1 if self.type is None else sum(s.num_leaves for s in self.children_specs)

    def is_leaf(self) -> bool:
        """Whether it is a single leaf."""
        return self.type is None

    def unflatten(self, leaves: Iterable[Any]) -> PyTree:
        """As ``tree_unflatten(leaves, self)``."""
        return tree_unflatten(leaves, self)


_LEAF = TreeSpec(None, None, ())


def _parts(tree: PyTree) -> tuple[list[Any], Any, Any] | None:
    """(children, class, context) of a container; None for a leaf."""
    kind = type(tree)
    if kind in (list, tuple):
        return list(tree), kind, None
    if kind in (dict, OrderedDict):
        return list(tree.values()), kind, tuple(tree)
    if kind is defaultdict:
        return list(tree.values()), kind, (tree.default_factory, tuple(tree))
    if kind is deque:
        return list(tree), kind, tree.maxlen
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return list(tree), kind, None
    return None


def _made(spec: TreeSpec, children: list[Any]) -> PyTree:
    kind, context = spec.type, spec.context
    if kind in (dict, OrderedDict):
        return kind(zip(context, children))
    if kind is defaultdict:
        return defaultdict(context[0], zip(context[1], children))
    if kind is deque:
        return deque(children, context)
    return kind(children) if kind in (list, tuple) else kind(*children)


def tree_flatten(tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """(leaves from left to right, structure). Where ``is_leaf`` says so, a container counts as one leaf.

    Example:
        >>> leaves, spec = tree_flatten({"a": 1, "b": (2, [3])})
        >>> leaves, spec.unflatten("xyz")
        ([1, 2, 3], {'a': 'x', 'b': ('y', ['z'])})
    """
    parts = None if is_leaf is not None and is_leaf(tree) else _parts(tree)
    if parts is None:
        return [tree], _LEAF
    children, kind, context = parts
    flat = [tree_flatten(child, is_leaf) for child in children]
    return [x for leaves, _ in flat for x in leaves], TreeSpec(kind, context, tuple(spec for _, spec in flat))


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> PyTree:
    """The structure with other leaves.

    Raises:
        TypeError: no ``TreeSpec``. ValueError: more or fewer leaves than it has.
    """
    if not isinstance(treespec, TreeSpec):
        raise TypeError(f"Expected `treespec` to be an instance of PyTreeSpec but got item of type {type(treespec)}.")
    given = list(leaves)
    if len(given) != treespec.num_leaves:
        raise ValueError(f"treespec.unflatten(leaves): `leaves` has length {len(given)} but the spec refers to a pytree that holds "
                         f"{treespec.num_leaves} items ({treespec}).")
    rest = iter(given)

    def build(spec: TreeSpec) -> PyTree:
        return next(rest) if spec.type is None else _made(spec, [build(s) for s in spec.children_specs])

    return build(treespec)


def tree_leaves(tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> list[Any]:
    """The leaves from left to right."""
    return tree_flatten(tree, is_leaf)[0]


def tree_structure(tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> TreeSpec:
    """The structure."""
    return tree_flatten(tree, is_leaf)[1]


def _along(spec: TreeSpec, tree: PyTree) -> list[Any]:
    """What another tree has in the places of a structure's leaves."""
    if spec.type is None:
        return [tree]
    parts = _parts(tree)
    dicts = (dict, OrderedDict, defaultdict)
    if parts is None or parts[1] is not spec.type and not (parts[1] in dicts and spec.type in dicts):
        raise ValueError(f"Node type mismatch; expected {spec.type!r}, but got {type(tree)!r}.")
    children = parts[0]
    if spec.type in dicts:
        keys = spec.context[1] if spec.type is defaultdict else spec.context
        missing, extra = set(keys) - set(tree), set(tree) - set(keys)
        if missing or extra:
            raise ValueError("Node keys mismatch" + (f"; missing key(s): {missing}" if missing else "") +
                             (f"; extra key(s): {extra}" if extra else "") + ".")
        children = [tree[k] for k in keys]
    if len(children) != len(spec.children_specs):
        raise ValueError(f"Node arity mismatch; expected {len(spec.children_specs)}, but got {len(children)}.")
    return [x for s, child in zip(spec.children_specs, children) for x in _along(s, child)]


def tree_map(func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> PyTree:
    """The tree with ``func(leaf, ...)`` for each leaf; the other arguments are what ``rests`` have in its place.

    Raises:
        ValueError: one of ``rests`` is built otherwise.

    Example:
        >>> tree_map(lambda x, y: x + y, {"a": 1, "b": [2]}, {"a": 10, "b": [20]})
        {'a': 11, 'b': [22]}
    """
    leaves, spec = tree_flatten(tree, is_leaf)
    return tree_unflatten([func(*xs) for xs in zip(leaves, *[_along(spec, other) for other in rests])], spec)


def tree_map_only(type_or_types_or_pred: Any, func: Callable[[Any], Any], tree: PyTree,
                  is_leaf: Callable[[PyTree], bool] | None = None) -> PyTree:
    """As ``tree_map`` for leaves of these types (or for which the predicate holds); all others stay."""
    kinds = type_or_types_or_pred
    chosen = kinds if callable(kinds) and not isinstance(kinds, type) else lambda x: isinstance(x, kinds)
    return tree_map(lambda x: func(x) if chosen(x) else x, tree, is_leaf=is_leaf)


def tree_all(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> bool:
    """Whether it holds for all leaves."""
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> bool:
    """Whether it holds for some leaf."""
    return any(map(pred, tree_leaves(tree, is_leaf)))
