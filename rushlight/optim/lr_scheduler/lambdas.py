"""Schedules given by a function of the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..optimizer import Optimizer
from .base import LRScheduler

__all__ = ["LambdaLR", "MultiplicativeLR"]

Rule = Callable[[int], float]


class _ByFunction(LRScheduler):
    """Holds one function per group. Functions are not saved; of callable objects the attributes are."""

    lr_lambdas: list[Rule]

    def __init__(self, optimizer: Optimizer, lr_lambda: Rule | Sequence[Rule], last_epoch: int = -1) -> None:
        count = len(optimizer.param_groups)
        if isinstance(lr_lambda, (list, tuple)):
            if len(lr_lambda) != count:
                raise ValueError(f"Expected {count} lr_lambdas, one for each parameter group, but got {len(lr_lambda)}")
            self.lr_lambdas = list(lr_lambda)
        else:
            self.lr_lambdas = [lr_lambda] * count  # type: ignore[list-item]
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        state = {key: value for key, value in super().state_dict().items() if key != "lr_lambdas"}
        state["lr_lambdas"] = [
            None if not hasattr(rule, "__dict__") or hasattr(rule, "__code__") else dict(rule.__dict__)
            for rule in self.lr_lambdas
        ]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        for rule, saved in zip(self.lr_lambdas, state.pop("lr_lambdas")):
            if saved is not None:
                rule.__dict__.update(saved)
        super().load_state_dict(state)


class LambdaLR(_ByFunction):
    """The initial rate times ``lr_lambda(epoch)``.

    Args:
        lr_lambda: a function of the epoch, or one for each group.

    Example::

        LambdaLR(optimizer, lambda epoch: 0.95**epoch)
    """

    def get_lr(self) -> list:
        self._warn_outside_step()
        return [base * rule(self.last_epoch) for rule, base in zip(self.lr_lambdas, self.base_lrs)]


class MultiplicativeLR(_ByFunction):
    """The present rate times ``lr_lambda(epoch)``.

    Args:
        lr_lambda: a function of the epoch, or one for each group.

    Example::

        MultiplicativeLR(optimizer, lambda epoch: 0.95)
    """

    def get_lr(self) -> list:
        self._warn_outside_step()
        if self._is_initial:
            return self._current_lrs()
        rules = zip(self.lr_lambdas, self.optimizer.param_groups)
        return [group["lr"] * rule(self.last_epoch) for rule, group in rules]
