"""Calling a module that has hooks, and hooks on all modules.

``Module.__call__`` comes here only where some hook is registered, so that a plain call stays quick.
"""
from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from ...autograd.function import Function
from ...autograd.handle import Handle
from ...autograd.hooks import RemovableHandle
from ...record.warn import warn

__all__ = ["Hooked", "call_with_hooks", "everywhere", "register_module_backward_hook", "register_module_buffer_registration_hook",
           "register_module_forward_hook", "register_module_forward_pre_hook", "register_module_full_backward_hook",
           "register_module_full_backward_pre_hook", "register_module_module_registration_hook",
           "register_module_parameter_registration_hook"]


CALLED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")  # hooks that run with calls of a module


class Hooks(OrderedDict[int, Callable]):
    """Hooks that run with calls of one module or of all. Once there is one, calls look for hooks."""

    def __setitem__(self, number: int, hook: Callable) -> None:
        everywhere.any = True
        super().__setitem__(number, hook)


class Everywhere:
    """Hooks that run for every module. ``any``: whether some module, or all, ever had a hook that runs with calls."""

    def __init__(self) -> None:
        self.any = False
        self.forward_pre, self.forward = Hooks(), Hooks()
        self.always: set[int] = set()
        self.with_kwargs: set[int] = set()
        self.backward_pre, self.backward = Hooks(), Hooks()
        self.on_parameter: OrderedDict[int, Callable] = OrderedDict()
        self.on_buffer: OrderedDict[int, Callable] = OrderedDict()
        self.on_module: OrderedDict[int, Callable] = OrderedDict()


everywhere = Everywhere()


def add_to(hooks: OrderedDict[int, Callable], hook: Callable, *, prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, args) -> None or args`` before the forward of every module."""
    return add_to(everywhere.forward_pre, hook)


def register_module_forward_hook(hook: Callable, *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """``hook(module, args, output) -> None or output`` after the forward of every module."""
    handle = add_to(everywhere.forward, hook)
    if with_kwargs:
        everywhere.with_kwargs.add(handle.id)
    if always_call:
        everywhere.always.add(handle.id)
    return handle


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, grad_output) -> None or grad_output`` for every module."""
    return add_to(everywhere.backward_pre, hook)


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, grad_input, grad_output) -> None or grad_input`` for every module."""
    return add_to(everywhere.backward, hook)


register_module_backward_hook = register_module_full_backward_hook


def register_module_parameter_registration_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, name, parameter) -> None or parameter`` when any module registers a parameter."""
    return add_to(everywhere.on_parameter, hook)


def register_module_buffer_registration_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, name, buffer) -> None or buffer`` when any module registers a buffer."""
    return add_to(everywhere.on_buffer, hook)


def register_module_module_registration_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, name, submodule) -> None or submodule`` when any module registers a child."""
    return add_to(everywhere.on_module, hook)


# -- a call -------------------------------------------------------------------------------------------------------


def has_hooks(module: Any) -> bool:
    """Whether hooks run with calls of a module.

    Raises:
        AttributeError: its class does not call ``super().__init__()``.
    """
    own = module.__dict__
    try:  # written out: once any module has had a hook, this runs for every layer
        if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]:
            return True
    except KeyError as error:
        raise AttributeError(f"'{type(module).__name__}' object has no attribute {error}") from None
    hooks = everywhere
    return bool(hooks.forward_pre or hooks.forward or hooks.backward_pre or hooks.backward)


def call_with_hooks(module: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run pre-hooks, forward, hooks; put the boundaries in place whose gradients the backward hooks see."""
    called: set[int] = set()
    try:
        return _call(module, args, kwargs, called)
    except Exception:
        # Hooks that are to run in any case do so even though the forward failed; their own errors must not hide its error.
        for number, hook in [*everywhere.forward.items(), *module._forward_hooks.items()]:
            if number in called or number not in everywhere.always and number not in module._forward_hooks_always_called:
                continue
            try:
                _run_forward_hook(module, number, hook, args, kwargs, None)
            except Exception as error:
                warn(f"forward hook with ``always_call=True`` raised an exception that was silenced as another error was "
                     f"raised in forward: {error}")
        raise


def _call(module: Any, args: tuple, kwargs: dict[str, Any], called: set[int]) -> Any:
    for number, hook in [*everywhere.forward_pre.items(), *module._forward_pre_hooks.items()]:
        if number in module._forward_pre_hooks_with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    full = module._is_full_backward_hook is not False
    backward = [*everywhere.backward.values(), *(module._backward_hooks.values() if full else ())]
    backward_pre = [*everywhere.backward_pre.values(), *module._backward_pre_hooks.values()]
    watch = _Watch(module, backward, backward_pre) if backward or backward_pre else None
    if watch is not None:
        args = watch.around_inputs(args)
    result = module.forward(*args, **kwargs)
    for number, hook in [*everywhere.forward.items(), *module._forward_hooks.items()]:
        called.add(number)
        changed = _run_forward_hook(module, number, hook, args, kwargs, result)
        if changed is not None:
            result = changed
    if watch is not None:
        result = watch.around_outputs(result)
    if not full and module._backward_hooks:
        _watch_last(module, args, result)
    return result


def _watch_last(module: Any, args: tuple, result: Any) -> None:
    """Let the module's regular backward hooks, of the deprecated kind, see the gradients of the operation that made its result. Warns
    where that is not what made the result from the module's inputs alone."""
    while not isinstance(result, Handle):
        if not isinstance(result, (tuple, list, dict)) or not result:
            return
        result = next(iter(result.values())) if isinstance(result, dict) else result[0]
    node = result.grad_fn
    if node is None:
        return
    for hook in module._backward_hooks.values():
        node.register_hook(functools.partial(hook, module))
    if {a.grad_fn for a in args if isinstance(a, Handle)} - {None} != {n for n, _ in node.next_functions}:
        warn("Using a non-full backward hook when the forward contains multiple autograd Nodes is deprecated and will be removed in "
             "future versions. This hook will be missing some grad_input. Please use register_full_backward_hook to get the documented "
             "behavior.", FutureWarning)


def _run_forward_hook(module: Any, number: int, hook: Callable, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
    if number in module._forward_hooks_with_kwargs or number in everywhere.with_kwargs:
        return hook(module, args, kwargs, result)
    return hook(module, args, result)


class BackwardHookFunction(Function):
    """Passes tensors through, and their gradients through a function."""

    @staticmethod
    def forward(ctx: Any, on_grads: Callable, *tensors: Any) -> Any:
        ctx.set_materialize_grads(False)
        ctx.on_grads = on_grads
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, *ctx.on_grads(grads))


class _Watch:
    """The backward hooks of one call of a module."""

    def __init__(self, module: Any, hooks: Sequence[Callable], pre_hooks: Sequence[Callable]) -> None:
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_outputs: tuple | None = None
        self.input_at: list[int] | None = None
        self.inputs = 0
        self.outputs = 0
        self.output_at: list[int] = []

    def _through(self, args: Sequence[Any], on_grads: Callable) -> tuple[tuple, list[int] | None]:
        at = [k for k, a in enumerate(args) if isinstance(a, Handle)]
        if not any(args[k]._edge is not None for k in at):
            return tuple(args), None
        made = BackwardHookFunction.apply(on_grads, *[args[k] for k in at])
        new = list(args)
        for k, t in zip(at, made):
            new[k] = t
        return tuple(new), at

    def around_inputs(self, args: tuple) -> tuple:
        new, self.input_at = self._through(args, self._on_input_grads)
        self.inputs = len(args)
        return new

    def _on_input_grads(self, grads: tuple) -> tuple:
        given: list[Any] = [None] * self.inputs
        for k, g in zip(self.input_at or (), grads):
            given[k] = g
        changed = self._run_hooks(tuple(given))
        return tuple(changed[k] for k in self.input_at or ())

    def _run_hooks(self, grad_inputs: tuple) -> tuple:
        if self.grad_outputs is None:
            raise RuntimeError(f"Module backward hook for grad_input of {type(self.module).__name__} is called before the grad_output one. "
                               "This happens because the gradient in your nn.Module flows to the Module's input without passing through "
                               "the Module's output.")
        result = grad_inputs
        for hook in self.hooks:
            changed = hook(self.module, result, self.grad_outputs)
            if changed is None:
                continue
            changed = changed if isinstance(changed, tuple) else (changed,)
            if len(changed) != len(result):
                raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(changed)}, "
                                   f"but expected {len(result)}")
            result = changed
        self.grad_outputs = None
        return result

    def around_outputs(self, result: Any) -> Any:
        if isinstance(result, (tuple, list)):
            many = result
        elif isinstance(result, Handle):
            many = (result,)
        elif isinstance(result, dict):
            many = tuple(result.values())
        else:
            return result
        new, at = self._through(many, self._on_output_grads)
        self.output_at, self.outputs = at or [], len(many)
        if isinstance(result, Handle):
            return new[0]
        if isinstance(result, dict):
            return type(result)(zip(result, new))
        return type(result)(new) if not hasattr(result, "_fields") else type(result)(*new)

    def _on_output_grads(self, grads: tuple) -> tuple:
        given: list[Any] = [None] * self.outputs
        for k, g in zip(self.output_at, grads):
            given[k] = g
        outs = tuple(given)
        for hook in self.pre_hooks:
            changed = hook(self.module, outs)
            if changed is None:
                continue
            changed = changed if isinstance(changed, tuple) else (changed,)
            if len(changed) != len(outs):
                raise RuntimeError(f"Backward pre hook returned an invalid number of grad_output, got {len(changed)}, "
                                   f"but expected {len(outs)}")
            outs = changed
        self.grad_outputs = outs
        if self.input_at is None and self.hooks:  # no input requires a gradient: this is the last to be heard of the module
            self._run_hooks((None,) * self.inputs)
        return tuple(outs[k] for k in self.output_at)


# -- registration --------------------------------------------------------------------------------------------------


class _Handle(RemovableHandle):
    """Takes a forward hook out, and the notes about how it is to be called."""

    def __init__(self, hooks: OrderedDict, *notes: OrderedDict) -> None:
        super().__init__(hooks)
        self.target, self.notes = hooks, notes

    def put(self, hook: Callable, prepend: bool, notes: tuple[OrderedDict, ...]) -> _Handle:
        self.target[self.id] = hook
        for note in notes:
            note[self.id] = True
        if prepend:
            self.target.move_to_end(self.id, last=False)
        return self

    def remove(self) -> None:
        super().remove()
        for note in self.notes:
            note.pop(self.id, None)


class Hooked:
    """The methods of ``Module`` that register hooks."""

    _is_full_backward_hook: bool | None = None  # what kind the backward hooks are of
    _forward_hooks: OrderedDict
    _forward_hooks_with_kwargs: OrderedDict
    _forward_hooks_always_called: OrderedDict
    _forward_pre_hooks: OrderedDict
    _forward_pre_hooks_with_kwargs: OrderedDict
    _backward_hooks: OrderedDict
    _backward_pre_hooks: OrderedDict

    def register_forward_pre_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """``hook(module, args) -> None or args`` before forward; with kwargs ``hook(module, args, kwargs) -> None or both``."""
        handle = _Handle(self._forward_pre_hooks, self._forward_pre_hooks_with_kwargs)
        return handle.put(hook, prepend, (self._forward_pre_hooks_with_kwargs,) if with_kwargs else ())

    def register_forward_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """``hook(module, args, output) -> None or output`` after forward; with kwargs ``hook(module, args, kwargs, output)``.

        With ``always_call`` it runs also where forward raised.
        """
        handle = _Handle(self._forward_hooks, self._forward_hooks_with_kwargs, self._forward_hooks_always_called)
        return handle.put(hook, prepend, (*((self._forward_hooks_with_kwargs,) if with_kwargs else ()),
                                          *((self._forward_hooks_always_called,) if always_call else ())))

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """``hook(module, grad_input, grad_output) -> None or grad_input`` when the gradients of the inputs are known."""
        self._one_kind_of_backward_hooks(True)
        return add_to(self._backward_hooks, hook, prepend=prepend)

    def register_backward_hook(self, hook: Callable) -> RemovableHandle:
        """The deprecated kind: ``hook(module, grad_input, grad_output)`` sees the gradients of what the last operation of ``forward``
        read, which for a layer are those of its input, weight and bias. Use ``register_full_backward_hook``."""
        self._one_kind_of_backward_hooks(False)
        return add_to(self._backward_hooks, hook)

    def _one_kind_of_backward_hooks(self, full: bool) -> None:
        if self._backward_hooks and self._is_full_backward_hook is not full:
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on a single Module. Please use only one of "
                               "them.")
        self._is_full_backward_hook = full

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """``hook(module, grad_output) -> None or grad_output`` when the gradients of the outputs are known."""
        return add_to(self._backward_pre_hooks, hook, prepend=prepend)
