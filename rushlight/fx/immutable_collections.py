"""Lists and dictionaries that are arguments of nodes: a change goes by assignment to ``node.args``, which then knows of it."""
from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["immutable_dict", "immutable_list"]


def _refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError(f"'{type(self).__name__}' object does not support mutation. If you are attempting to modify the kwargs or args of a "
                    "torch.fx.Node object, instead create a new copy of it and assign the copy to the node: new_args = ...; "
                    "node.args = new_args")


class immutable_list(list):
    """A list that does not change."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple:
        return immutable_list, (tuple(self),)

    append = clear = extend = insert = pop = remove = reverse = sort = _refuse
    __delitem__ = __setitem__ = __iadd__ = __imul__ = _refuse


class immutable_dict(dict):
    """A dictionary that does not change."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple:
        return immutable_dict, (dict(self),)

    clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]
    __delitem__ = __setitem__ = __ior__ = _refuse  # type: ignore[assignment]
