"""Nested containers, against ``torch.utils._pytree``."""
from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushlight.utils import _pytree as ours

theirs = pytest.importorskip("torch.utils._pytree")

Pair = namedtuple("Pair", "a b")
KEYS = st.text("abc", min_size=1, max_size=2)


def containers(inner):
    some = st.lists(inner, max_size=3)
    maps = st.dictionaries(KEYS, inner, max_size=3)
    return st.one_of(some, some.map(tuple), st.builds(Pair, inner, inner), maps, maps.map(OrderedDict),
                     maps.map(lambda d: defaultdict(int, d)), some.map(lambda x: deque(x, 4)))


LEAVES = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=2), st.sets(st.integers(), max_size=1))
TREES = st.recursive(LEAVES, containers, max_leaves=8)


def equal(a, b):
    return type(a) is type(b) and a == b and (not isinstance(a, deque) or a.maxlen == b.maxlen) and (
        not isinstance(a, (list, tuple, deque)) or all(map(equal, a, b))) and (
        not isinstance(a, dict) or list(a) == list(b) and all(equal(a[k], b[k]) for k in a))


@given(TREES)
def test_trees(tree):
    leaves, spec = ours.tree_flatten(tree)
    want, their_spec = theirs.tree_flatten(tree)
    assert equal(leaves, want) and spec.num_leaves == their_spec.num_leaves == len(leaves) and spec.is_leaf() == their_spec.is_leaf()
    assert equal(spec.unflatten(leaves), tree) and spec == ours.tree_structure(tree)
    numbers = list(range(len(leaves)))
    assert equal(ours.tree_unflatten(numbers, spec), theirs.tree_unflatten(numbers, their_spec))
    assert equal(ours.tree_map(repr, tree), theirs.tree_map(repr, tree))
    assert equal(ours.tree_map_only((int, str), repr, tree), theirs.tree_map_only((int, str), repr, tree))
    one = lambda x: isinstance(x, (list, dict))  # noqa: E731
    assert equal(ours.tree_leaves(tree, one), theirs.tree_leaves(tree, one))
    assert ours.tree_any(bool, tree) == theirs.tree_any(bool, tree) and ours.tree_all(bool, tree) == theirs.tree_all(bool, tree)


@given(TREES, TREES)
def test_two_trees(tree, other):
    for second in (tree, other):
        try:
            want = theirs.tree_map(lambda x, y: (x, y), tree, second)
        except ValueError:
            with pytest.raises(ValueError, match="Node .* mismatch"):
                ours.tree_map(lambda x, y: (x, y), tree, second)
        else:
            assert equal(ours.tree_map(lambda x, y: (x, y), tree, second), want)


def test_what_does_not_fit():
    for t in (ours, theirs):
        spec = t.tree_structure([1, 2])
        with pytest.raises(ValueError, match="has length 1 but the spec refers to a pytree that holds 2 items"):
            t.tree_unflatten([1], spec)
        with pytest.raises(TypeError, match="to be an instance of PyTreeSpec"):
            t.tree_unflatten([1], [1])
