"""Running combinations of slices by an associative function, in a depth of twice the logarithm of their number."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rushlight
from rushlight.func import vmap
from rushlight.utils._pytree import tree_flatten, tree_unflatten

__all__ = ["associative_scan"]


def associative_scan(combine_fn: Callable[[Any, Any], Any], xs: Any, dim: int, reverse: bool = False,
                     combine_mode: str = "pointwise") -> Any:
    """What ``combine_fn`` makes of the slices so far, for each slice along ``dim``.

    Args:
        combine_fn: an associative function of two slices (or two trees of slices, built like ``xs``) that returns one.
        xs: a tensor, or a tree of tensors that are equally long along ``dim``.
        dim: along which dimension.
        reverse: whether to begin with the last slice.
        combine_mode: ``"generic"``. (``"pointwise"``, for functions of elements, is for GPUs in PyTorch, too.)

    Returns:
        As ``xs``.

    Raises:
        ValueError: no function; no slices, or not equally many; another mode. IndexError: no such dimension.

    Example:
        >>> from rushlight._higher_order_ops import associative_scan
        >>> associative_scan(lambda x, y: x * y, torch.tensor([1, 2, 3, 4]), 0, combine_mode="generic")
        tensor([ 1,  2,  6, 24])
    """
    if not callable(combine_fn):
        raise ValueError(f"Combine_fn must be a callable, but got {combine_fn}")
    if combine_mode not in ("pointwise", "generic"):
        raise ValueError(f"Combine_mode must either 'pointwise' or 'generic', but got {combine_mode}")
    leaves, spec = tree_flatten(xs)
    if not leaves or not all(isinstance(x, rushlight.Tensor) for x in leaves):
        raise ValueError(f"Expected at least 1 xs leaf, all of them tensors, but got {leaves}")
    if combine_mode == "pointwise":
        raise ValueError("For combine_mode='pointwise', all input tensors need to be on CUDA or XPU")
    n = leaves[0].dim()
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    moved = [x.movedim(dim, 0) for x in leaves]
    if not len(moved[0]) or any(len(x) != len(moved[0]) for x in moved):
        raise ValueError("All xs leaves must at least have 'dim' number of dimensions and scan dimension > 0, all of them the same")
    together = vmap(lambda a, b: tree_flatten(combine_fn(tree_unflatten(a, spec), tree_unflatten(b, spec)))[0])

    def scan(elements: list[Any]) -> list[Any]:
        length = len(elements[0])
        if length < 2:
            return elements
        pairs = together([x[0:length - 1:2] for x in elements], [x[1::2] for x in elements])
        odd = scan(pairs)  # the results at 1, 3, 5, ...
        if length > 2:
            even = together([x[:(length - 1) // 2] for x in odd], [x[2::2] for x in elements])
            even = [rushlight.cat([x[:1], rest]) for x, rest in zip(elements, even)]
        else:
            even = [x[:1] for x in elements]
        return [_alternating(a, b) for a, b in zip(even, odd)]

    results = scan([x.flip(0) for x in moved] if reverse else moved)
    return tree_unflatten([(x.flip(0) if reverse else x).movedim(0, dim) for x in results], spec)


def _alternating(even: Any, odd: Any) -> Any:
    """Slices of two tensors in turn; the first may have one more."""
    n = len(odd)
    both = rushlight.stack([even[:n], odd], 1).flatten(0, 1)
    return both if len(even) == n else rushlight.cat([both, even[n:]])
