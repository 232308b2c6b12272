"""``torch.utils._pytree``: nested containers, their leaves in order, and functions of each leaf.

Containers are lists, tuples, named tuples, dicts, ordered and default dicts, and deques, of exactly these classes, and objects of classes
that somebody has registered; anything else, None too, is a leaf.
"""
from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["GetAttrKey", "LeafSpec", "MappingKey", "NodeDef", "SequenceKey", "TreeSpec", "keystr", "register_pytree_node",
           "tree_all", "tree_any", "tree_flatten",
           "tree_flatten_with_path", "tree_leaves", "tree_leaves_with_path", "tree_map", "tree_map_only", "tree_map_with_path",
           "tree_structure", "tree_unflatten"]

PyTree = Any


@dataclass(frozen=True)
class TreeSpec:
    """A structure without its leaves: ``type`` is the container's class (``namedtuple`` for named tuples, None for a leaf), ``context``
    what else it is made from."""

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
Context = Any


def LeafSpec() -> TreeSpec:  # noqa: N802  # a class in PyTorch
    """The structure of a single leaf."""
    return _LEAF


class NodeDef(NamedTuple):
    """How containers of a class are taken apart and made."""

    type: Any
    flatten_fn: Callable[[Any], tuple[Iterable[Any], Any]]
    unflatten_fn: Callable[[Iterable[Any], Any], Any]
    flatten_with_keys_fn: Callable[[Any], tuple[list[tuple[Any, Any]], Any]] | None = None


@dataclass(frozen=True)
class SequenceKey:
    """A place in a list or tuple."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"

    def get(self, sequence: Any) -> Any:
        """What lies there."""
        return sequence[self.idx]


@dataclass(frozen=True)
class MappingKey:
    """A place in a dict."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"

    def get(self, mapping: Any) -> Any:
        """What lies there."""
        return mapping[self.key]


@dataclass(frozen=True)
class GetAttrKey:
    """A field of a named tuple or an object."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"

    def get(self, obj: Any) -> Any:
        """What lies there."""
        return getattr(obj, self.name)


def _numbered(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    return [(SequenceKey(i), x) for i, x in enumerate(values)]


def _list_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d), None


def _list_flatten_with_keys(d: Any) -> tuple[list[tuple[Any, Any]], Any]:
    return _numbered(d), None


def _dict_flatten(d: dict[Any, Any]) -> tuple[list[Any], Any]:
    return list(d.values()), list(d)


def _dict_flatten_with_keys(d: dict[Any, Any]) -> tuple[list[tuple[Any, Any]], Any]:
    return [(MappingKey(k), x) for k, x in d.items()], list(d)


def _dict_unflatten(values: Iterable[Any], context: Any) -> dict[Any, Any]:
    return dict(zip(context, values))


def _defaultdict_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d.values()), [d.default_factory, list(d)]


def _defaultdict_flatten_with_keys(d: Any) -> tuple[list[tuple[Any, Any]], Any]:
    return [(MappingKey(k), x) for k, x in d.items()], [d.default_factory, list(d)]


def _deque_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d), d.maxlen


def _deque_flatten_with_keys(d: Any) -> tuple[list[tuple[Any, Any]], Any]:
    return _numbered(d), d.maxlen


def _namedtuple_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d), type(d)


def _namedtuple_flatten_with_keys(d: Any) -> tuple[list[tuple[Any, Any]], Any]:
    return [(GetAttrKey(name), x) for name, x in zip(type(d)._fields, d)], type(d)


#: The classes of containers; named tuples are found by ``namedtuple``, whatever their class.
SUPPORTED_NODES: dict[Any, NodeDef] = {node.type: node for node in (
    NodeDef(list, _list_flatten, lambda values, context: list(values), _list_flatten_with_keys),
    NodeDef(tuple, _list_flatten, lambda values, context: tuple(values), _list_flatten_with_keys),
    NodeDef(dict, _dict_flatten, _dict_unflatten, _dict_flatten_with_keys),
    NodeDef(OrderedDict, _dict_flatten, lambda values, context: OrderedDict(zip(context, values)), _dict_flatten_with_keys),
    NodeDef(defaultdict, _defaultdict_flatten, lambda values, context: defaultdict(context[0], zip(context[1], values)),
            _defaultdict_flatten_with_keys),
    NodeDef(deque, _deque_flatten, lambda values, context: deque(values, maxlen=context), _deque_flatten_with_keys),
    NodeDef(namedtuple, _namedtuple_flatten, lambda values, context: context(*values), _namedtuple_flatten_with_keys))}

_DICTS = (dict, OrderedDict, defaultdict)


def register_pytree_node(cls: type, flatten_fn: Callable[[Any], tuple[Iterable[Any], Any]],
                         unflatten_fn: Callable[[Iterable[Any], Any], Any], *, serialized_type_name: str | None = None,
                         to_dumpable_context: Callable[[Any], Any] | None = None,
                         from_dumpable_context: Callable[[Any], Any] | None = None,
                         flatten_with_keys_fn: Callable[[Any], tuple[list[tuple[Any, Any]], Any]] | None = None) -> None:
    """From here on, objects of exactly this class are containers.

    Args:
        cls: the class.
        flatten_fn: ``object -> (children, context)``; contexts of equal structures are equal.
        unflatten_fn: ``(children, context) -> object``.
        serialized_type_name, to_dumpable_context, from_dumpable_context: for structures written to files, which there are none of here.
        flatten_with_keys_fn: ``object -> (list of (key, child), context)``, for functions that are told the path to each leaf.

    Raises:
        ValueError: it is a container already.

    Example:
        >>> class Pair:
        ...     def __init__(self, a, b):
        ...         self.a, self.b = a, b
        >>> register_pytree_node(Pair, lambda p: ([p.a, p.b], None), lambda xs, _: Pair(*xs))
        >>> tree_map(lambda x: x + 1, [Pair(1, (2,))])[0].b
        (3,)
    """
    if cls in SUPPORTED_NODES:
        raise ValueError(f"{cls} is already registered as pytree node.")
    SUPPORTED_NODES[cls] = NodeDef(cls, flatten_fn, unflatten_fn, flatten_with_keys_fn)


_register_pytree_node = register_pytree_node  # the older name


def _get_node_type(tree: Any) -> Any:
    """The class under which a container is known: ``namedtuple`` for named tuples."""
    kind = type(tree)
    if kind not in SUPPORTED_NODES and issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return namedtuple
    return kind


def _parts(tree: PyTree) -> tuple[list[Any], Any, Any] | None:
    """(children, class, context) of a container; None for a leaf."""
    kind = _get_node_type(tree)
    node = SUPPORTED_NODES.get(kind)
    if node is None:
        return None
    children, context = node.flatten_fn(tree)
    return list(children), kind, context


def _made(spec: TreeSpec, children: list[Any]) -> PyTree:
    return SUPPORTED_NODES[spec.type].unflatten_fn(children, spec.context)


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
    if parts is None or parts[1] is not spec.type and not (parts[1] in _DICTS and spec.type in _DICTS):
        raise ValueError(f"Node type mismatch; expected {spec.type!r}, but got {type(tree)!r}.")
    children = parts[0]
    if spec.type in _DICTS:
        keys = spec.context[1] if spec.type is defaultdict else spec.context
        missing, extra = set(keys) - set(tree), set(tree) - set(keys)
        if missing or extra:
            raise ValueError("Node keys mismatch" + (f"; missing key(s): {missing}" if missing else "") +
                             (f"; extra key(s): {extra}" if extra else "") + ".")
        children = [tree[k] for k in keys]
    elif parts[2] != spec.context and spec.type is not deque:
        raise ValueError(f"Node context mismatch for custom node type {spec.type!r}.")
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


def tree_flatten_with_path(tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> tuple[list[tuple[tuple[Any, ...], Any]],
                                                                                                    TreeSpec]:
    """As ``tree_flatten``, each leaf with the keys that lead to it.

    Raises:
        ValueError: a registered class does not tell its keys.

    Example:
        >>> tree_flatten_with_path({"a": [1]})[0]
        [((MappingKey(key='a'), SequenceKey(idx=0)), 1)]
    """
    found: list[tuple[tuple[Any, ...], Any]] = []

    def walk(path: tuple[Any, ...], tree: PyTree) -> None:
        node = None if is_leaf is not None and is_leaf(tree) else SUPPORTED_NODES.get(_get_node_type(tree))
        if node is None:
            found.append((path, tree))
            return
        if node.flatten_with_keys_fn is None:
            raise ValueError(f"Did not find a flatten_with_keys_fn for type: {node.type}. Please pass a flatten_with_keys_fn argument to "
                             "register_pytree_node.")
        for key, child in node.flatten_with_keys_fn(tree)[0]:
            walk((*path, key), child)

    walk((), tree)
    return found, tree_structure(tree, is_leaf)


def tree_leaves_with_path(tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> list[tuple[tuple[Any, ...], Any]]:
    """The leaves, each with the keys that lead to it."""
    return tree_flatten_with_path(tree, is_leaf)[0]


def tree_map_with_path(func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> PyTree:
    """As ``tree_map``; ``func`` is told the keys that lead to the leaf, first."""
    found, spec = tree_flatten_with_path(tree, is_leaf)
    others = [_along(spec, other) for other in rests]
    return tree_unflatten([func(path, leaf, *xs) for (path, leaf), *xs in zip(found, *others)], spec)


def keystr(kp: tuple[Any, ...]) -> str:
    """Keys as Python writes them behind a name: ``['a'][0]``."""
    return "".join(map(str, kp))
