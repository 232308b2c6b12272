"""The step of a parameter group whose options have not changed since the last one."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from ..autograd.writing import apply_over
from ..ops.basic import update_view
from ..ops.update import Update

__all__ = ["Prepared", "is_constant"]


class Prepared:
    """What an optimizer works out from the options of a group: which update, with which hyper-parameters and flags."""

    __slots__ = ("group", "params", "options", "update", "states", "hyper", "attrs", "width")

    def __init__(self, group: dict[str, Any]) -> None:
        self.group, self.params, self.options = group, group["params"], [*group.values()]
        self.update: Update | None = None

    def begin(self, update: Update, names: Sequence[str], hyper: Any, flags: Mapping[str, Any]) -> None:
        """``names``: of the states that the update takes; ``hyper``: the hyper-parameters as a vector."""
        get: Any = itemgetter(*names) if names else None
        self.states: Callable[[Any], tuple[Any, ...]] | None = get if len(names) != 1 else lambda own: (get(own),)
        self.hyper, self.attrs, self.width = hyper, (0, tuple(sorted(flags.items()))), 1 + len(names)
        self.update = update

    def fits(self, group: dict[str, Any]) -> bool:
        """Whether the options of a group are what they were."""
        return group is self.group and group["params"] is self.params and [*group.values()] == self.options

    def update_again(self, state: Mapping[Any, Any]) -> bool:
        """Update the parameters that have gradients. False, and nothing is done, if the state of one has not begun."""
        update = self.update
        if update is None:
            return False
        tensors, targets, states = [self.hyper], [], self.states
        if states is None:
            for p in self.params:
                grad = p._grad
                if grad is not None:
                    tensors += (p, grad)
                    targets.append(p)
        else:
            try:
                for p in self.params:
                    grad = p._grad
                    if grad is not None:
                        own = states(state[p])
                        if own[0] is None:
                            return False
                        tensors += (p, grad, *own)
                        targets += (p, *own)
            except KeyError:
                return False
        if targets:
            count = len(targets) // self.width
            if count != self.attrs[0]:
                self.attrs = (count, self.attrs[1])
            apply_over(update, self.attrs, tensors, targets, update_view)
        return True


def is_constant(group: Mapping[str, Any]) -> bool:
    """Whether an option of a group that is the same object has the same content: no tensor, no list."""
    return all(_is_plain(option) for name, option in group.items() if name not in ("params", "param_names"))


def _is_plain(option: Any) -> bool:
    return all(map(_is_plain, option)) if type(option) is tuple else option is None or isinstance(option, (bool, int, float, str))
