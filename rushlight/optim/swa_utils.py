"""Averages of a model's parameters along training: stochastic weight averaging and exponential moving averages.

Example:
    >>> model = rushlight.nn.Linear(2, 1)
    >>> averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    >>> averaged.update_parameters(model)
    >>> averaged.n_averaged.item()
    1
"""
from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ..autograd.modes import no_grad
from ..nn.modules.batchnorm import _BatchNorm
from ..nn.modules.module import Module
from ..tensor import FUNCTIONS
from .lr_scheduler.base import LRScheduler, per_group
from .optimizer import Optimizer

__all__ = ["AveragedModel", "update_bn", "SWALR", "get_ema_multi_avg_fn", "get_swa_multi_avg_fn", "get_ema_avg_fn", "get_swa_avg_fn"]

Averages = Callable[[Any, Any, Any], Any]


def _checked(decay: float) -> float:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")
    return decay


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """An update of lists of parameters in place: decay · average + (1 - decay) · parameter."""
    _checked(decay)

    @no_grad()
    def ema_update(ema_param_list: Iterable[Any], current_param_list: Iterable[Any], _: Any) -> None:
        for average, current in zip(ema_param_list, current_param_list):
            _towards(average, current, 1 - decay)
    return ema_update


def get_swa_multi_avg_fn() -> Averages:
    """An update of lists of parameters in place: the mean of all that were given so far."""
    @no_grad()
    def swa_update(averaged_param_list: Iterable[Any], current_param_list: Iterable[Any], num_averaged: Any) -> None:
        for average, current in zip(averaged_param_list, current_param_list):
            _towards(average, current, 1 / (num_averaged + 1))
    return swa_update


def _towards(average: Any, current: Any, share: Any) -> None:
    if average.is_floating_point() or average.is_complex():
        average.copy_(FUNCTIONS["lerp"](average, current, share))
    else:
        average.copy_(average * (1 - share) + current * share)


def get_ema_avg_fn(decay: float = 0.999) -> Averages:
    """The new average of one parameter: decay · average + (1 - decay) · parameter."""
    _checked(decay)

    @no_grad()
    def ema_update(ema_param: Any, current_param: Any, num_averaged: Any) -> Any:
        return decay * ema_param + (1 - decay) * current_param
    return ema_update


def get_swa_avg_fn() -> Averages:
    """The new average of one parameter: the mean of all that were given so far."""
    @no_grad()
    def swa_update(averaged_param: Any, current_param: Any, num_averaged: Any) -> Any:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)
    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's; called, it is the averaged model.

    Args:
        model: is copied; ``update_parameters(model)`` takes its present parameters in.
        device: where the copy lies.
        avg_fn: (average, parameter, number of averages so far) -> new average; by default the mean of all.
        multi_avg_fn: the same for lists of parameters, in place.
        use_buffers: average buffers, too, rather than copy them.
    """

    n_averaged: Any

    def __init__(self, model: Module, device: Any = None, avg_fn: Averages | None = None, multi_avg_fn: Averages | None = None,
                 use_buffers: bool = False) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", FUNCTIONS["tensor"](0, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the present parameters of ``model`` into the averages; the first time they are the averages."""
        averages, currents = ([p.detach() for p in (itertools.chain(m.parameters(), m.buffers()) if self.use_buffers else m.parameters())]
                              for m in (self.module, model))
        if not self.n_averaged.item():
            for average, current in zip(averages, currents):
                average.copy_(current)
        elif self.avg_fn is None:
            (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, currents, self.n_averaged)
        else:
            for average, current in zip(averages, currents):
                average.copy_(self.avg_fn(average, current, self.n_averaged))
        if not self.use_buffers:
            for average, current in zip(self.module.buffers(), model.buffers()):
                average.detach().copy_(current.detach())
        self.n_averaged += 1


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of a model's batch norms anew, as means over one pass through ``loader``.

    Args:
        loader: batches: inputs, or lists and tuples that begin with them.
    """
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        module.reset_running_stats()
        module.momentum = None  # the mean over all batches
    for batch in loader:
        if isinstance(batch, (list, tuple)):
            batch = batch[0]
        if device is not None:
            batch = batch.to(device)
        model(batch)
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Move the rates to ``swa_lr`` within ``anneal_epochs`` epochs, and stay there.

    Args:
        swa_lr: for all groups, or one for each.
        anneal_strategy: "cos" or "linear".

    Raises:
        ValueError: an unknown strategy, or a negative number of epochs.
    """

    def __init__(self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: Literal["cos", "linear"] = "cos",
                 last_epoch: int = -1) -> None:
        for rate, group in zip(per_group(optimizer, "swa_lr", swa_lr), optimizer.param_groups):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How much of ``swa_lr`` a rate has after a number of steps."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list:
        self._warn_outside_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, swa_lr = group["lr"], group["swa_lr"]
            initial = swa_lr if before == 1 else (lr - before * swa_lr) / (1 - before)
            rates.append(swa_lr * now + initial * (1 - now))
        return rates
