"""Optimizer: parameter groups, state, and the frame of a step."""
from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from ..autograd.handle import Handle, make
from ..autograd.hooks import RemovableHandle, add
from ..autograd.modes import enable_grad
from ..ops.update import Update
from ..record.flush import batch_boundary, flush_trace
from ..record.meta import meta_of
from ..record.trace import local
from ..record.value import allocate, allocate_zeroed, new_value, value_from_array
from ..record.warn import warn
from .prepared import Prepared, is_constant

__all__ = ["Optimizer", "ParamsT", "required", "register_optimizer_step_pre_hook", "register_optimizer_step_post_hook"]

ParamsT: TypeAlias = Iterable[Any] | Iterable[dict[str, Any]] | Iterable[tuple[str, Any]]  # what an optimizer takes as ``params``
required = object()

_global_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_post_hooks: OrderedDict[int, Callable] = OrderedDict()


class Optimizer:
    """Base of all optimizers.

    A subclass says how one parameter begins (``new_state``) and which update the options of a group ask for (``update_for``); the
    update itself is an ``ops.update.Update``, written for one parameter. Where one update for all parameters of a group is not
    enough, it says what to do with a group (``update_group``).

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts with ``"params"`` and options of their own (parameter groups).
        defaults: options of groups that do not set them.

    Attributes:
        param_groups: list of dicts; options may be changed between steps.
        state: parameter -> dict of its state.
    """

    state: defaultdict[Any, dict[str, Any]]
    param_groups: list[dict[str, Any]]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        self._pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._post_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._state_hooks: dict[str, OrderedDict[int, Callable]] = defaultdict(OrderedDict)
        self._vectors: dict[int, tuple[tuple[float, ...], Any]] = {}
        self._prepared: dict[int, Prepared] = {}  # by the identity of the group
        if isinstance(params, Handle):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            f"{_type_name(params)}")
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(dict(group) if isinstance(group, dict) else group)
        batch_boundary()  # what made the parameters would be part of the first step: another program than that of all others

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    # -- groups ------------------------------------------------------------------------------------------------------
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own.

        Raises:
            TypeError: not tensors. ValueError: not leaves, or in another group already.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, Handle):
            params = [params]
        elif isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets will "
                            "change between runs. Please use a list instead.")
        params = list(params)
        named = [isinstance(p, tuple) for p in params]
        if any(named):
            if not all(named):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            param_group["param_names"] = [n for n, _ in params]
            params = [p for _, p in params]
        param_group["params"] = params
        for p in params:
            if not isinstance(p, Handle):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not (p.is_leaf or p.retains_grad):  # type: ignore[attr-defined]
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        if len({id(p) for p in params}) != len(params):

            warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause an error; see "
                 "github.com/pytorch/pytorch/issues/40967 for more information")
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if known & {id(p) for p in params}:
            raise ValueError("some parameters appear in more than one parameter group")
        if self.param_groups and ("param_names" in param_group) != ("param_names" in self.param_groups[0]):
            raise ValueError("all optimizer param groups should be with/without names. cannot add param group "
                             f"{'with' if any(named) else 'without'} names to the optimizer")
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or set them to zero)."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p._grad = None
                elif p._grad is not None:
                    p._grad = p._grad.detach()
                    p._grad.zero_()

    # -- a step ------------------------------------------------------------------------------------------------------
    def new_state(self, p: Any, group: dict[str, Any]) -> dict[str, Any]:
        """The state of a parameter before its first update, in the order in which the update takes it."""
        return {}

    def update_for(self, group: dict[str, Any]) -> tuple[Update, Sequence[str], Sequence[Any], dict[str, Any]]:
        """The update of parameters that have states, the names of these in the order in which it takes them, its hyper-parameters
        and flags. It follows from the options of the group alone."""
        raise NotImplementedError(f"{type(self).__name__} says neither update_for nor step")

    def update_group(self, group: dict[str, Any], params: Sequence[Any]) -> None:
        """Update the parameters of a group that have gradients; of those that have states as ``update_for`` says, if it does."""
        update, names, numbers, flags = self.update_for(group)
        update(self.hyper(update, group, numbers), self.rows(group, params, names), **flags)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns what ``closure`` (if given) returns."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        known = len(self.state)
        tr = local.trace
        mode, tr.grad_enabled = tr.grad_enabled, tr.grad_enabled and False
        try:
            for group in self.param_groups:
                ready = self._prepared.get(id(group))
                if ready is not None and ready.fits(group) and ready.update_again(self.state):
                    continue
                params = [p for p in group["params"] if p._grad is not None]
                if params:
                    self.update_group(group, params)
                    self._prepare(group)
        finally:
            tr.grad_enabled = mode
        try:
            flush_trace(tr, len(self.state) > known)
        except BaseException:
            for p in list(self.state)[known:]:  # a state that was to begin with a step that failed (a wrong label, say)
                del self.state[p]
            raise
        return loss

    def _prepare(self, group: dict[str, Any]) -> None:
        """Work out what the steps of a group need whose options stay what they are: those that come for the second time."""
        known = self._prepared.get(id(group))
        if known is None or not known.fits(group):
            self._prepared[id(group)] = Prepared(group)
        elif known.update is None and type(self).update_for is not Optimizer.update_for and is_constant(group):
            update, names, numbers, flags = self.update_for(group)
            known.begin(update, names, self.hyper(update, group, numbers), flags)

    def hyper(self, update: Update, group: dict[str, Any], values: Sequence[Any]) -> Any:
        """The hyper-parameters as the vector an update takes; made anew only where a number has changed."""
        numbers = tuple(map(float, values))
        known = self._vectors.get(id(group))
        if known is None or known[0] != numbers:
            known = self._vectors[id(group)] = (numbers, make(value_from_array(np.array(numbers, np.float64))))
        return known[1]

    def rows(self, group: dict[str, Any], params: Sequence[Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
        """(parameter, gradient, *states) for each, states made where a parameter has none."""
        if not names:
            return [(p, p._grad) for p in params]
        rows = []
        state = self.state
        for p in params:
            s = state[p]
            if not s:
                s.update(self.new_state(p, group))
            rows.append((p, p._grad, *[s[n] for n in names]))
        return rows

    # -- state ---------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: state}, "param_groups": [...]}`` with parameters numbered in order."""
        for hook in self._state_hooks["state_dict_pre"].values():
            hook(self)
        number: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            packed = {k: v for k, v in group.items() if k != "params"}
            for p in group["params"]:
                number.setdefault(id(p), len(number))
            packed["params"] = [number[id(p)] for p in group["params"]]
            groups.append(packed)
        state = {(number[id(k)] if isinstance(k, Handle) else k): v for k, v in self.state.items()}
        made: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._state_hooks["state_dict_post"].values():
            changed = hook(self, made)
            if changed is not None:
                made = changed
        return made

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state.

        Raises:
            ValueError: the groups have other numbers of parameters.
        """
        state_dict = dict(state_dict)
        for hook in self._state_hooks["load_pre"].values():
            changed = hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        groups, saved = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(groups, saved)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's group")
        by_number = dict(zip(chain.from_iterable(g["params"] for g in saved), chain.from_iterable(g["params"] for g in groups)))
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for k, v in state_dict["state"].items():
            p = by_number.get(k)
            state[k if p is None else p] = v if p is None else {n: _taken_over(n, x, p) for n, x in v.items()}
        for group, new in zip(groups, saved):
            new["params"] = group["params"]
            if "param_names" in group and "param_names" not in new:
                new["param_names"] = group["param_names"]
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._state_hooks["load_post"].values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._vectors, self._prepared = {}, {}
        for name in ("_pre_hooks", "_post_hooks"):
            self.__dict__.setdefault(name, OrderedDict())
        self.__dict__.setdefault("_state_hooks", defaultdict(OrderedDict))

    # -- hooks ---------------------------------------------------------------------------------------------------------
    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(optimizer, args, kwargs) -> None or (args, kwargs)`` before each step; ``args[0]`` is the optimizer."""
        return add(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(optimizer, args, kwargs)`` after each step."""
        return add(self._post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        return add(self._state_hooks["state_dict_pre"], hook)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        return add(self._state_hooks["state_dict_post"], hook)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        return add(self._state_hooks["load_pre"], hook)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        return add(self._state_hooks["load_post"], hook)

    def __repr__(self) -> str:
        text = type(self).__name__ + " ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            for key in sorted(group):
                if key != "params":
                    text += f"    {key}: {group[key]}\n"
        return text + ")"


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """``hook(optimizer, args, kwargs) -> None or (args, kwargs)`` before each step of every optimizer."""
    return add(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """``hook(optimizer, args, kwargs)`` after each step of every optimizer."""
    return add(_global_post_hooks, hook)


def _with_hooks(step: Callable) -> Callable:
    @functools.wraps(step)
    def call(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        # An optimizer around another one, which has not called the base's __init__, has no hooks.
        own = self.__dict__
        pre_hooks, post_hooks = own.get("_pre_hooks"), own.get("_post_hooks")
        if not (pre_hooks or post_hooks or _global_pre_hooks or _global_post_hooks):
            return step(self, *args, **kwargs) if args or kwargs else step(self)
        args = (self, *args)
        for hook in (*_global_pre_hooks.values(), *(pre_hooks or {}).values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
                args, kwargs = changed
        out = step(*args, **kwargs)
        for hook in (*(post_hooks or {}).values(), *_global_post_hooks.values()):
            hook(self, args, kwargs)
        return out
    return call


Optimizer.step = _with_hooks(Optimizer.step)  # type: ignore[method-assign]


def _type_name(t: Any) -> str:
    return t.type() if hasattr(t, "type") else type(t).__name__


def _taken_over(name: str, value: Any, p: Any) -> Any:
    """State tensors are copied, those like the parameter in its dtype."""
    if isinstance(value, Handle):
        copied = value.detach().clone()  # type: ignore[attr-defined]
        return copied if name == "step" or not p.is_floating_point() or not copied.is_floating_point() else copied.to(p.dtype)
    if isinstance(value, dict):
        return {k: _taken_over(k, v, p) for k, v in value.items()}
    return deepcopy(value)


def zeros_like(p: Any) -> Any:
    """A state tensor of zeros."""
    return full_like(p, 0)


def full_like(p: Any, number: float, shape: Sequence[int] | None = None) -> Any:
    """A state tensor of one number. It is there at once, not recorded: so the first step runs the program of all others."""
    like = p._value.meta
    meta = like.own if shape is None else meta_of(tuple(shape), like.dtype)
    v = new_value(meta)
    if number:
        v.buffer = allocate(meta.nbytes or 1)
        v.buffer.array(meta.dtype.numpy, meta.memory).fill(number)
    else:
        v.buffer = allocate_zeroed(meta.nbytes or 1)
    return make(v)


def step_count() -> Any:
    """The count of steps as PyTorch keeps it: a float32 scalar."""
    return make(value_from_array(np.zeros((), np.float32)))
