"""Parameters that are functions of other parameters: ``register_parametrization`` puts a module between a tensor and its use.

Example:
    >>> class Symmetric(rushlight.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).mT
    >>> layer = register_parametrization(rushlight.nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.mT).all())
    True
    >>> list(layer.state_dict())
    ['bias', 'parametrizations.weight.original']
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...autograd.modes import no_grad
from ...tensor import Tensor
from ..modules.container import ModuleDict, ModuleList
from ..modules.module import Module
from ..parameter import Parameter

__all__ = ["cached", "ParametrizationList", "register_parametrization", "is_parametrized", "remove_parametrizations",
           "type_before_parametrizations", "transfer_parametrizations_and_params"]

_depth = 0  # of ``cached`` blocks
_cache: dict[tuple[int, str], Any] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Inside the block a parametrized tensor is computed when it is first used, and not again."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _cache.clear()


def _register(module: Module, name: str, tensor: Any) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _put(original: Any, value: Any) -> None:
    """``value`` becomes what ``original`` holds: optimizers know the parameter by its identity, and its size may change."""
    original.data = value.detach()


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in the order in which they are applied, and what they are applied to: ``original``, or
    ``original0``, ``original1``, ... where the first one takes several tensors.

    Args:
        modules: the parametrizations. Where all have ``right_inverse(value)``, the original tensors are what these make of ``original``.
        original: the parameter or buffer.
        unsafe: do not check that shape and dtype stay as they are.

    Raises:
        ValueError: there is no parametrization, ``right_inverse`` gives no tensors, or shape or dtype change.
    """

    original: Tensor
    unsafe: bool

    def __init__(self, modules: Sequence[Module], original: Any, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with no_grad():
            new: Any = original
            for module in reversed(self):  # type: ignore[call-overload]
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        pass  # the original keeps its values
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                             f"Got {type(new).__name__}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if isinstance(new, Tensor):
            if original.dtype != new.dtype:
                raise ValueError("When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                                 f"original.dtype: {original.dtype}\nright_inverse(original).dtype: {new.dtype}")
            if new is not original:
                _put(original, new)
            _register(self, "original", original)
        else:
            for i, part in enumerate(new):
                if not isinstance(part, Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                                     f"Got element {i} of the sequence with type {type(part).__name__}.")
                if isinstance(original, Parameter):
                    part = Parameter(part, original.requires_grad)
                part.requires_grad_(original.requires_grad)
                _register(self, f"original{i}", part)
        if not self.unsafe:
            made = self()
            if not isinstance(made, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(made).__name__}.")
            for what, before, after in (("dtype", dtype, made.dtype), ("shape", shape, made.shape)):
                if before != after:
                    raise ValueError(f"Registering a parametrization may not change the {what} of the tensor, unless `unsafe` flag is "
                                     f"enabled.\nunparametrized {what}: {before}\nparametrized {what}: {after}")

    def right_inverse(self, value: Any) -> None:
        """Set the original tensors so that the parametrized one becomes ``value`` (where the parametrizations can).

        Raises:
            RuntimeError: a parametrization has no ``right_inverse``.
            ValueError: what it gives is of another dtype, or number, than the original tensors are.
        """
        with no_grad():
            for module in reversed(self):  # type: ignore[call-overload]
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                if not isinstance(value, Tensor):
                    raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
                parts, originals = [value], [self.original]
            else:
                if not isinstance(value, Sequence):
                    raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(value)}.")
                if len(value) != self.ntensors:
                    raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence of "
                                     f"length {len(value)}.")
                parts, originals = list(value), [getattr(self, f"original{i}") for i in range(self.ntensors)]
            for i, (part, original) in enumerate(zip(parts, originals)):
                if not isinstance(part, Tensor):
                    raise ValueError(f"`right_inverse` must return a sequence of tensors. Got element {i} of type {type(part).__name__}")
                if part.dtype != original.dtype:
                    raise ValueError(f"The tensor returned by `right_inverse` has dtype {part.dtype} while `original` has dtype "
                                     f"{original.dtype}")
                _put(original, part)

    def forward(self) -> Any:
        if self.is_tensor:
            x = self[0](self.original)
        else:
            x = self[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for k in range(1, len(self)):
            x = self[k](x)
        return x


# -- classes of parametrized modules ----------------------------------------------------------------------------------


def _inject_class(module: Module) -> None:
    """Give a module a class of its own, which the properties of its parametrized tensors are put into."""
    cls = type(module)

    def refuse(self: Any) -> Any:
        raise RuntimeError("Serialization of parametrized modules is only supported through state_dict(). "
                           "See:\nhttps://pytorch.org/tutorials/beginner/saving_loading_models.html"
                           "#saving-loading-a-general-checkpoint-for-inference-and-or-resuming-training")

    def deepcopy(self: Any, memo: dict) -> Any:
        known = memo.get(id(self))
        if known is not None:
            return known
        made = self.__new__(type(self))
        memo[id(self)] = made
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        return made

    names: dict[str, Any] = {"__getstate__": refuse}
    if not hasattr(cls, "__deepcopy__"):
        names["__deepcopy__"] = deepcopy
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), names)


def _inject_property(module: Module, name: str) -> None:
    """Reading ``module.name`` applies the parametrizations, writing it their right inverses."""
    def get(self: Any) -> Any:
        if not _depth:
            return self.parametrizations[name]()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    setattr(type(module), name, property(get, lambda self, value: self.parametrizations[name].right_inverse(value)))


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Have ``module.tensor_name`` be ``parametrization`` of the parameter or buffer that it was; a second one is applied after the first.

    A parametrization may have a method ``right_inverse(value)``: it initialises what is now the parameter, and allows
    ``module.tensor_name = value``. It may return several tensors, which ``forward`` is then called with.

    Args:
        unsafe: the parametrization may change shape or dtype.

    Raises:
        ValueError: there is no such tensor, or the parametrization changes its shape or dtype.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        chain = module.parametrizations[tensor_name]  # type: ignore[index]
        if not unsafe:
            before = getattr(module, tensor_name)
            after = parametrization(before)
            if not isinstance(after, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(after).__name__}.")
            for what in ("dtype", "shape"):
                a, b = getattr(before, what), getattr(after, what)
                if a != b:
                    raise ValueError(f"Registering a parametrization may not change the {what} of the tensor, unless the `unsafe` flag is "
                                     f"enabled.\nmodule.{tensor_name}.{what}: {a}\nparametrization(module.{tensor_name}).{what}: {b}")
            if hasattr(parametrization, "right_inverse"):
                try:
                    back = parametrization.right_inverse(after)
                except NotImplementedError:
                    back = before
                if not isinstance(back, Tensor):
                    raise ValueError(f"parametrization.right_inverse must return a tensor. Got: {type(back).__name__}")
                for what in ("dtype", "shape"):
                    a, b = getattr(before, what), getattr(back, what)
                    if a != b:
                        raise ValueError(f"The tensor returned by parametrization.right_inverse must have the same {what} as "
                                         f"module.{tensor_name} unless the `unsafe` flag is enabled.\nmodule.{tensor_name}.{what}: {a}\n"
                                         f"returned {what}: {b}")
        chain.append(parametrization)
        chain.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        original = getattr(module, tensor_name)
        chain = ParametrizationList([parametrization], original, unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = chain  # type: ignore[index,operator]
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name '{tensor_name}'")
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrized tensors, or one of this name."""
    chains = getattr(module, "parametrizations", None)
    if not isinstance(chains, ModuleDict):
        return False
    return len(chains) > 0 if tensor_name is None else tensor_name in chains


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parametrized tensor a plain parameter or buffer again: with the value that it has now, or the original one.

    Raises:
        ValueError: it is not parametrized, or the original one is several tensors.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain: Any = module.parametrizations[tensor_name]  # type: ignore[index]
    if chain.is_tensor:
        original = chain.original
        if leave_parametrized:
            with no_grad():
                _put(original, getattr(module, tensor_name))
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        original = Parameter(value.detach()) if value.requires_grad else value
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a sequence "
                         "of tensors.")
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]  # type: ignore[operator]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of a module, whatever was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Module, to_module: Module, tensor_name: str | None = None) -> Module:
    """Give ``to_module`` the parametrizations of ``from_module`` (all, or those of one tensor) and the parameters under them.

    Raises:
        RuntimeError: ``to_module`` lacks a tensor of that name, or it is not parametrized in ``from_module``.
    """
    if not is_parametrized(from_module):
        return to_module
    chains: Any = from_module.parametrizations
    if tensor_name is not None and tensor_name not in chains:
        raise RuntimeError(f"{tensor_name} is not parametrized in {type(from_module).__name__}")
    for name in list(chains) if tensor_name is None else [tensor_name]:
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for parametrization in chains[name]:
            register_parametrization(to_module, name, parametrization, unsafe=chains[name].unsafe)
        made: Any = to_module.parametrizations
        for part in (*chains[name]._parameters, *chains[name]._buffers):
            setattr(made[name], part, getattr(chains[name], part))
    return to_module
