"""What all schedules share: the count of steps, the initial rates, the state that is saved."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rushlight.record.warn import warn
from rushlight.tensor import Tensor

from ..optimizer import Optimizer

__all__ = ["LRScheduler", "check_optimizer", "copied", "per_group", "write"]


class LRScheduler:
    """Base of the schedules: a subclass defines ``get_lr()``, the rates of the groups at ``self.last_epoch``.

    Args:
        optimizer: whose ``param_groups`` are changed.
        last_epoch: the number of the last epoch that was done; -1 begins, anything else resumes and needs
            ``initial_lr`` in every group.

    Raises:
        TypeError: ``optimizer`` is not an Optimizer.
        KeyError: a group lacks ``initial_lr`` when resuming.
    """

    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = check_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    f"last_epoch >= 0 (last_epoch={last_epoch}): load the optimizer's state first"
                )
        self.base_lrs: list = [copied(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._last_lr: list = []
        _watch_steps(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        with _flag(self, "_is_initial"):
            self.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list:
        """The rates of the groups as the last step left them."""
        return self._last_lr

    def get_lr(self) -> list:
        """The rates of the groups at ``self.last_epoch``; for :meth:`step`, others ask :meth:`get_last_lr`."""
        raise NotImplementedError(f"{type(self).__name__} should implement get_lr")

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch and set its rates.

        Args:
            epoch: the number of the epoch; deprecated.
        """
        if self._step_count == 1:
            self._check_order()
        self._step_count += 1
        if epoch is not None:
            warn(
       "The epoch parameter in `scheduler.step()` is deprecated: call `scheduler.step()` without it.",
       UserWarning)
        self._update_lr(epoch)

    def _check_order(self) -> None:
        """Warn if this is the first step of the user and the optimizer has not made one."""
        if not hasattr(self.optimizer.step, "_watched"):
            warn(
       "Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. "
       "Make sure that `optimizer.step()` is called before `lr_scheduler.step()`.",
       UserWarning)
        elif not getattr(self.optimizer, "_opt_called", False):
            warn(
       "Detected call of `lr_scheduler.step()` before `optimizer.step()`. Call them in the opposite order: "
       "`optimizer.step()` before `lr_scheduler.step()`, or the first value of the schedule is skipped.",
       UserWarning)

    def _update_lr(self, epoch: int | None = None) -> None:
        with _flag(self, "_get_lr_called_within_step"):
            if epoch is None:
                self.last_epoch += 1
                values = self.get_lr()
            else:
                self.last_epoch = epoch
                closed_form = getattr(self, "_get_closed_form_lr", self.get_lr)
                values = closed_form()
        for group, value in zip(self.optimizer.param_groups, values):
            write(group, "lr", value)
        self._last_lr = self._current_lrs()

    def _current_lrs(self) -> list:
        return [copied(group["lr"]) for group in self.optimizer.param_groups]

    def _warn_outside_step(self) -> None:
        if not self._get_lr_called_within_step:
            warn(
       "To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
       UserWarning)


def check_optimizer(optimizer: Any) -> Optimizer:
    """``optimizer``, or a TypeError if it is none."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer


def copied(value: Any) -> Any:
    """A rate that later writes do not change."""
    return value.clone() if isinstance(value, Tensor) else value  # type: ignore[attr-defined]


def write(group: dict, name: str, value: Any) -> None:
    """Set ``group[name]``; a tensor there is written in place, as the optimizer may hold it."""
    if isinstance(group[name], Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


def per_group(optimizer: Optimizer, name: str, value: Any) -> list:
    """``value``, or its elements, one for each parameter group.

    Raises:
        ValueError: it is a list or tuple of another length.
    """
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups: got {len(value)} for {count} groups"
        )
    return [copied(element) for element in value]


@contextmanager
def _flag(scheduler: LRScheduler, name: str) -> Iterator[None]:
    setattr(scheduler, name, True)
    try:
        yield
    finally:
        setattr(scheduler, name, False)


def _watch_steps(optimizer: Optimizer) -> None:
    """Have ``optimizer`` remember that its ``step`` was called."""
    if hasattr(optimizer.step, "_watched"):
        return
    step = type(optimizer).step if "step" not in optimizer.__dict__ else None
    plain = optimizer.__dict__.get("step")
    owner = weakref.ref(optimizer)  # a strong reference would make a cycle of the optimizer and its own step

    @functools.wraps(optimizer.step)
    def watched(*args: Any, **kwargs: Any) -> Any:
        self: Any = owner()
        self._opt_called = True
        return step(self, *args, **kwargs) if step is not None else plain(*args, **kwargs)  # type: ignore[misc]

    watched._watched = True  # type: ignore[attr-defined]
    optimizer.step = watched  # type: ignore[method-assign]
