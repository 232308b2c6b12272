"""Saving and loading the state of modules: ``state_dict`` and ``load_state_dict``."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...autograd.handle import Handle
from ...autograd.hooks import RemovableHandle
from ...autograd.modes import no_grad
from ..parameter import Parameter
from .hooks import add_to

__all__ = ["Stateful", "IncompatibleKeys"]

EXTRA = "_extra_state"


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class IncompatibleKeys(_Keys):
    """What ``load_state_dict(strict=False)`` left out: (missing_keys, unexpected_keys)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return super().__repr__() if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"

    __str__ = __repr__


IncompatibleKeys.__name__ = IncompatibleKeys.__qualname__ = "_IncompatibleKeys"


class Stateful:
    """The part of ``Module`` that gives and takes its state."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: OrderedDict[int, Callable]
    _state_dict_pre_hooks: OrderedDict[int, Callable]
    _load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _load_state_dict_post_hooks: OrderedDict[int, Callable]
    _version: int = 1

    # -- hooks -----------------------------------------------------------------------------------------------------
    def _register_state_dict_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(module, state_dict, prefix, local_metadata) -> None or state_dict``."""
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError("Cannot register the same function as the state dict post hook that was previously registered via "
                               "register_state_dict_post_hook")
        return add_to(self._state_dict_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(module, state_dict, prefix, local_metadata) -> None`` after ``state_dict``; may change it in place."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return add_to(self._state_dict_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(module, prefix, keep_vars) -> None`` before ``state_dict``."""
        return add_to(self._state_dict_pre_hooks, hook)

    def _register_load_state_dict_pre_hook(self, hook: Callable, with_module: bool = False) -> RemovableHandle:
        return add_to(self._load_state_dict_pre_hooks, _PreHook(hook, self if with_module else None))

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`` before loading."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def register_load_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(module, incompatible_keys) -> None`` after loading; may change the lists in place."""
        return add_to(self._load_state_dict_post_hooks, hook)

    # -- giving ----------------------------------------------------------------------------------------------------
    def get_extra_state(self) -> Any:
        """State of the module besides tensors; a class that defines this defines ``set_extra_state``, too."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be called.")

    def set_extra_state(self, state: Any) -> None:
        """Take what ``get_extra_state`` gave."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be called.")

    def _has(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(Stateful, method)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put the module's own parameters and buffers into ``destination``."""
        for name, parameter in self._parameters.items():
            if parameter is not None:
                destination[prefix + name] = parameter if keep_vars else parameter.detach()
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = buffer if keep_vars else buffer.detach()
        if self._has("get_extra_state"):
            destination[prefix + EXTRA] = self.get_extra_state()

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Parameters and persistent buffers by their full names, in an OrderedDict; the tensors share memory with the module's.

        With ``keep_vars`` they are the parameters themselves, else detached.
        """
        if args:
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and prefix == "" else prefix
            keep_vars = args[2] if len(args) > 2 and keep_vars is False else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            changed = hook(self, destination, prefix, local_metadata)
            if getattr(hook, "_from_public_api", False):
                if changed is not None:
                    raise RuntimeError("state_dict post-hook must return None")
            elif changed is not None:
                destination = changed
        return destination

    # -- taking ----------------------------------------------------------------------------------------------------
    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], strict: bool, missing_keys: list[str],
                              unexpected_keys: list[str], error_msgs: list[str]) -> None:
        """Take the module's own parameters and buffers out of ``state_dict``; problems go into the lists."""
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = local_metadata.get("assign_to_params_buffers", False)
        own = {**self._parameters, **{k: b for k, b in self._buffers.items() if k not in self._non_persistent_buffers_set}}
        for name, target in own.items():
            key = prefix + name
            if target is None:
                continue
            if key in state_dict:
                problem = self._load_one(name, key, target, state_dict[key], assign)
                if problem:
                    error_msgs.append(problem)
            elif strict:
                missing_keys.append(key)
        key = prefix + EXTRA
        if self._has("set_extra_state"):
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            elif strict:
                missing_keys.append(key)
        elif strict and key in state_dict:
            unexpected_keys.append(key)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != prefix + EXTRA:
                    first, *more = key[len(prefix):].split(".", 1)
                    if more and first not in self._modules or not more and first not in own:
                        unexpected_keys.append(key)

    def _load_one(self, name: str, key: str, target: Any, given: Any, assign: bool) -> str | None:
        """Copy (or put) one tensor into its place; returns what is wrong with it."""
        if not isinstance(given, Handle):
            return (f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from checkpoint but received '
                    f"{type(given)}")
        if target.ndim == 0 and given.ndim == 1 and given.shape[0] == 1:
            given = given[0]  # type: ignore[index]
        if given.shape != target.shape:
            return (f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, the shape in current model is "
                    f"{target.shape}.")
        try:
            with no_grad():
                if not assign:
                    target.copy_(given)
                    return None
                if isinstance(target, Parameter):
                    given = given.requires_grad_(target.requires_grad) if isinstance(given, Parameter) else \
                        Parameter(given, requires_grad=target.requires_grad)
                setattr(self, name, given)
        except Exception as error:  # told together with the other problems
            action = "swapping" if assign else "copying"
            return (f'While {action} the parameter named "{key}", whose dimensions in the model are {target.size()} and '
                     'whose dimensions in '
                    f"the checkpoint are {given.size()}, an exception occurred : {error.args}.")
        return None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copy tensors of ``state_dict`` into parameters and buffers of the same names; with ``assign`` put them in their place.

        Raises:
            TypeError: not a mapping. RuntimeError: sizes differ or, with ``strict``, names do not match; all are listed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        metadata = getattr(state_dict, "_metadata", None)
        state = OrderedDict(state_dict)
        if metadata is not None:
            state._metadata = metadata  # type: ignore[attr-defined]

        def load(module: Any, part: Any, prefix: str = "") -> None:
            local_metadata = {} if metadata is None else metadata.get(prefix[:-1], {})
            if assign:
                local_metadata["assign_to_params_buffers"] = assign
            module._load_from_state_dict(part, prefix, local_metadata, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    below = prefix + name + "."
                    load(child, {k: v for k, v in part.items() if k.startswith(below)}, below)
            keys = IncompatibleKeys(missing, unexpected)
            for hook in module._load_state_dict_post_hooks.values():
                if hook(module, keys) is not None:
                    raise AssertionError("Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new "
                                         "values, if incompatible_keys need to be modified, it should be done inplace.")

        load(self, state)
        if strict:
            if unexpected:
                names = ", ".join(f'"{k}"' for k in unexpected)
                errors.insert(0, f"Unexpected key(s) in state_dict: {names}. ")
            if missing:
                names = ", ".join(f'"{k}"' for k in missing)
                errors.insert(0, f"Missing key(s) in state_dict: {names}. ")
        if errors:
            text = "\n\t".join(errors)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{text}")
        return IncompatibleKeys(missing, unexpected)


class _PreHook:
    """A hook before loading that is told the module, without keeping it alive."""

    def __init__(self, hook: Callable, module: Any) -> None:
        import weakref

        self.hook = hook
        self.with_module = module is not None
        self.module = None if module is None else weakref.ref(module)

    def __call__(self, *args: Any) -> Any:
        if self.module is None:
            return self.hook(*args)
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return self.hook(module, *args)

    def __getstate__(self) -> dict[str, Any]:
        return {"hook": self.hook, "with_module": self.with_module, "module": None if self.module is None else self.module()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["hook"], state["module"])  # type: ignore[misc]
