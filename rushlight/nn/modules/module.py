"""Module: the base class of layers and models."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ...autograd.handle import Handle
from ...record.trace import here, local
from ...tensor.kinds import typename
from ..parameter import Buffer, Parameter
from . import named
from .hooks import (  # the hooks of all modules are found here, as in PyTorch
    CALLED,
    Hooked,
    Hooks,
    call_with_hooks,
    everywhere,
    has_hooks,
    register_module_backward_hook,  # noqa: F401
    register_module_forward_hook,  # noqa: F401
    register_module_forward_pre_hook,  # noqa: F401
    register_module_full_backward_hook,  # noqa: F401
    register_module_full_backward_pre_hook,  # noqa: F401
)
from .layers import NOTHING, call_layer, layer_of, layers
from .named import KINDS, hold
from .state import EXTRA as _EXTRA_STATE_KEY_SUFFIX  # noqa: F401
from .state import IncompatibleKeys as _IncompatibleKeys  # noqa: F401
from .whole import Whole

__all__ = ["Module"]

T = TypeVar("T", bound="Module")
T_destination = TypeVar("T_destination", bound=dict)

_HOOK_DICTS = ("_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
               "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks",
               "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


class Module(Hooked, Whole):
    """A piece of a model: parameters, buffers and other modules by name, and a ``forward``.

    Assigning a ``Parameter``, a ``Buffer`` or a ``Module`` to an attribute registers it.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fc = nn.Linear(4, 2)
        ...     def forward(self, x):      # (N, 4) -> (N, 2)
        ...         return self.fc(x).relu()
    """

    dump_patches = False
    training: bool
    call_super_init = False
    T_destination = T_destination
    _compiled_call_impl = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and (args or kwargs):
            if kwargs:
                raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'")
            raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given")
        own = self.__dict__
        own["training"] = True
        hold(self, "_parameters", {})
        hold(self, "_buffers", {})
        own["_non_persistent_buffers_set"] = set()
        for name in _HOOK_DICTS:
            own[name] = Hooks() if name in CALLED else OrderedDict()
        hold(self, "_modules", {})
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a call of the module computes; subclasses define it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, x: Any = NOTHING, /, *args: Any, **kwargs: Any) -> Any:
        # This runs for every layer: whether this module has hooks is looked at where any module ever had one. The first argument by itself
        # is quicker than a tuple of it.
        if everywhere.any and has_hooks(self):
            return call_with_hooks(self, () if x is NOTHING else (x, *args), kwargs)
        own, kind = self.__dict__, type(self)
        try:
            trace = here.trace
        except AttributeError:
            trace = local.trace
        node = trace.node
        last = node.last
        if last.function is kind:  # written out, as in functions: such a layer was called here before
            step = last.step  # not called as a method: the interpreter is quicker at slots
            out = step(trace, node.then, last.facts, x, args, kwargs, own, kind)
            if out is not None:
                return out
        try:
            layer = layers[kind]
        except KeyError:
            layer = layer_of(kind)
        if layer is not None:
            return call_layer(layer, self, x, args, kwargs)
        if "_forward_hooks" not in own:
            has_hooks(self)  # says what is missing
        if x is NOTHING:
            return self.forward(**kwargs)
        if kwargs or args:
            return self.forward(x, *args, **kwargs)
        return self.forward(x)  # the same, quicker: nothing to unpack

    _call_impl = _wrapped_call_impl = __call__

    # -- attributes ------------------------------------------------------------------------------------------------
    def __getattr__(self, name: str) -> Any:
        # What is held by name is in ``__dict__`` as well (``named.py``), but for what was put into dictionaries of other kinds.
        own = self.__dict__
        for kind in KINDS:
            held = own.get(kind)
            if held is not None and name in held:
                return held[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        parameters = own.get("_parameters")
        if isinstance(value, Parameter):
            if parameters is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif parameters is not None and name in parameters:
            if value is not None:
                raise TypeError(f"cannot assign '{typename(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if own.get("_modules") is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, "_modules")
            for hook in everywhere.on_module.values():
                value = _replaced(value, hook(self, name, value))
            own["_modules"][name] = value
        elif "_modules" in own and name in own["_modules"]:
            if value is not None:
                raise TypeError(f"cannot assign '{typename(value)}' as child module '{name}' (torch.nn.Module or None expected)")
            own["_modules"][name] = value
        elif isinstance(value, Handle) and isinstance(value, Buffer) or "_buffers" in own and name in own["_buffers"]:
            if value is not None and not isinstance(value, Handle) and not hasattr(value, "__torch_function__"):
                raise TypeError(f"cannot assign '{typename(value)}' as buffer '{name}' (torch.nn.Buffer, torch.Tensor or None expected)")
            if own.get("_buffers") is None:
                raise AttributeError("cannot assign buffers before Module.__init__() call")
            if isinstance(value, Handle) and isinstance(value, Buffer) and name not in own["_buffers"]:
                self._forget(name, "_buffers")
                self.register_buffer(name, value, value.persistent)
            else:
                for hook in everywhere.on_buffer.values():
                    value = _replaced(value, hook(self, name, value))
                own["_buffers"][name] = value
        elif name in KINDS:
            hold(self, name, value)
        else:
            object.__setattr__(self, name, Hooks(value) if name in CALLED else value)
            if name == "__class__":  # its attributes may be found in another way
                for kind in KINDS:
                    hold(self, kind, own[kind])

    def _forget(self, name: str, keep: str) -> None:
        """A name belongs to one kind of attribute."""
        own = self.__dict__
        own.pop(name, None)
        for kind in KINDS:
            if kind != keep and kind in own:
                own[kind].pop(name, None)
        own["_non_persistent_buffers_set"].discard(name)

    def __delattr__(self, name: str) -> None:
        if name in self._parameters:
            del self._parameters[name]
        elif name in self._buffers:
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        elif name in self._modules:
            del self._modules[name]
        else:
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers}
        return sorted(n for n in names if not n[:1].isdigit())

    def __getstate__(self) -> dict[str, Any]:
        own = self.__dict__
        named = {name: value for kind in KINDS for name, value in own.get(kind, {}).items()}
        return {name: value for name, value in own.items() if name not in named or named[name] is not value}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = self.__dict__
        own.update(state)
        for name in _HOOK_DICTS:
            hooks = own.setdefault(name, OrderedDict())
            if name in CALLED and type(hooks) is not Hooks:
                own[name] = Hooks(hooks)
        own.setdefault("_non_persistent_buffers_set", set())
        for kind in KINDS:
            if kind in own:
                hold(self, kind, own[kind])

    # -- registration ----------------------------------------------------------------------------------------------
    def _check_name(self, name: Any, what: str, taken: dict[str, Any]) -> None:
        if what != "module" and "_" + what + "s" not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {typename(name)}")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain ".", got: {name}' if what == "module" else f'{what} name can\'t contain "."')
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')
        if name not in taken and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Keep a tensor that is state but no parameter (running statistics, a mask); not saved unless ``persistent``.

        Raises:
            KeyError: the name is taken or has a dot. TypeError: neither a tensor nor None.
        """
        self._check_name(name, "buffer", self.__dict__.get("_buffers", {}))
        if tensor is not None and not isinstance(tensor, Handle):
            raise TypeError(f"cannot assign '{typename(tensor)}' object to buffer '{name}' (torch Tensor or None required)")
        for hook in everywhere.on_buffer.values():
            tensor = _replaced(tensor, hook(self, name, tensor))
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def register_parameter(self, name: str, param: Any) -> None:
        """Add a parameter (None: a place that holds none).

        Raises:
            KeyError: the name is taken or has a dot. TypeError: no Parameter. ValueError: it was computed.
        """
        self._check_name(name, "parameter", self.__dict__.get("_parameters", {}))
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{typename(param)}' object to parameter '{name}' (torch.nn.Parameter or None required)")
            if param.grad_fn is not None:
                raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. To "
                                 f"express '{name}' as a function of another Tensor, compute the value in the forward() method.")
            for hook in everywhere.on_parameter.values():
                param = _replaced(param, hook(self, name, param))
        self._parameters[name] = param

    def add_module(self, name: str, module: Any) -> None:
        """Add a child under a name.

        Raises:
            KeyError: the name is taken, empty or has a dot. TypeError: no Module.
        """
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name(name, "module", self._modules)
        for hook in everywhere.on_module.values():
            module = _replaced(module, hook(self, name, module))
        self._modules[name] = module

    register_module = add_module

    # -- look-up ---------------------------------------------------------------------------------------------------
    def get_submodule(self, target: str) -> Module:
        """The module under a dotted path ("" is this one).

        Raises:
            AttributeError: there is none.
        """
        found: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(found, name):
                raise AttributeError(f"{type(found).__name__} has no attribute `{name}`")
            found = getattr(found, name)
            if not isinstance(found, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module under a dotted path; with ``strict`` one must be there already."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        path, _, name = target.rpartition(".")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{type(parent).__name__} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def _find(self, target: str, kind: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in getattr(module, kind):
            raise AttributeError(f"`{name}` is not {what}")
        return getattr(module, name)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter under a dotted path."""
        return self._find(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Any:
        """The buffer under a dotted path."""
        return self._find(target, "_buffers", "a buffer")

    # -- walks -----------------------------------------------------------------------------------------------------
    def named_modules(self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(dotted path, module) of this module and all below it, parents first; each module once unless told otherwise."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    def _named_members(self, members: Callable[[Module], Any], prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in members(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield path + ("." if path else "") + name, value

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter), each parameter once unless told otherwise."""
        return self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """(dotted name, buffer), each buffer once unless told otherwise."""
        return self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, of the modules below too."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """All buffers, of the modules below too."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (m for _, m in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The direct children."""
        return (m for _, m in self.named_children())

    # -- printing --------------------------------------------------------------------------------------------------
    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What is printed between the parentheses besides the children."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        head = extra.split("\n") if extra else []
        children = []
        for name, module in self._modules.items():
            first, *rest = repr(module).split("\n")
            children.append(f"({name}): " + "\n".join([first, *("  " + line for line in rest)]))
        lines = head + children
        if not lines:
            return f"{self._get_name()}()"
        if len(head) == 1 and not children:
            return f"{self._get_name()}({head[0]})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"

    def _replicate_for_data_parallel(self) -> Module:
        """Another module with the very parameters, buffers and children, in dictionaries of its own."""
        state = self.__getstate__()
        made = self.__new__(type(self))
        made.__setstate__({**state, **{kind: dict(state[kind]) for kind in KINDS}})
        return made


def _replaced(value: Any, changed: Any) -> Any:
    return value if changed is None else changed


named.plain = Module.__getattr__
