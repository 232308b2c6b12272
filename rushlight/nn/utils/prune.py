"""Pruning: masks over parameters, chosen by size or at random.

A pruned parameter ``name`` becomes ``name_orig``, with a buffer ``name_mask`` beside it; ``name`` is their product, made anew before
each forward. A second pruning of the same parameter chooses among what the first one left.
"""
from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar

from ...tensor.registry import FUNCTIONS
from ..modules.module import Module
from .convert_parameters import parameters_to_vector

__all__ = ["BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "PruningContainer", "RandomStructured",
           "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity", "is_pruned", "l1_unstructured", "ln_structured",
           "random_structured", "random_unstructured", "remove"]

M = TypeVar("M", bound=Module)


class BasePruningMethod(ABC):
    """A way to choose what is pruned; itself the hook that multiplies parameter and mask before each forward.

    A method of one's own has ``PRUNING_TYPE`` ("unstructured", "structured" with an attribute ``dim``, or "global") and
    ``compute_mask``; ``MyMethod.apply(module, name, ...)`` prunes, and gives further arguments to ``MyMethod(...)``.
    """

    _tensor_name: str
    PRUNING_TYPE: str

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask over ``t``, where ``default_mask`` says what is still there."""

    def apply_mask(self, module: Module) -> Any:
        """The original parameter times its mask."""
        name = getattr(self, "_tensor_name", None)
        assert name is not None, f"Module {module} has to be pruned"
        weight = getattr(module, name + "_orig")
        return getattr(module, name + "_mask").to(dtype=weight.dtype) * weight

    @classmethod
    def apply(cls, module: M, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any) -> BasePruningMethod:
        """Prune ``module.name``. ``args`` and ``kwargs`` are those of the method; the hook that does it from now on is returned."""
        earlier = [(key, hook) for key, hook in module._forward_pre_hooks.items()
                   if isinstance(hook, BasePruningMethod) and hook._tensor_name == name]
        assert len(earlier) <= 1, f"{len(earlier)} pruning hooks on {name}: a PruningContainer holds several methods"
        method: BasePruningMethod = cls(*args, **kwargs)
        method._tensor_name = name
        original = getattr(module, name)
        if importance_scores is None:
            importance_scores = original
        else:
            assert importance_scores.shape == original.shape, \
                f"importance_scores should have the same shape as parameter {name} of {module}"
        if earlier:
            key, before = earlier[0]
            container = PruningContainer(before) if not isinstance(before, PruningContainer) else before
            container.add_pruning_method(method)
            mask = container.compute_mask(importance_scores, getattr(module, name + "_mask"))
            del module._forward_pre_hooks[key]
            module._buffers[name + "_mask"] = mask
            method = container
        else:
            mask = method.compute_mask(importance_scores, FUNCTIONS["ones_like"](original))
            module.register_parameter(name + "_orig", module._parameters.pop(name))
            module.register_buffer(name + "_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """``t`` times the mask that the method chooses for it."""
        if importance_scores is None:
            importance_scores = t
        else:
            assert importance_scores.shape == t.shape, "importance_scores should have the same shape as tensor t"
        default = default_mask if default_mask is not None else FUNCTIONS["ones_like"](t)
        return t * self.compute_mask(importance_scores, default_mask=default)

    def remove(self, module: Module) -> None:
        """Make the pruned values the parameter again."""
        name = getattr(self, "_tensor_name", None)
        assert name is not None, f"Module {module} has to be pruned before pruning can be removed"
        weight = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        parameter: Any = module._parameters.pop(name + "_orig")
        parameter.data = weight.data
        del module._buffers[name + "_mask"]
        setattr(module, name, parameter)


class PruningContainer(BasePruningMethod):
    """Methods that prune one parameter after each other, each among what the others have left."""

    def __init__(self, *args: Any) -> None:
        self._pruning_methods: tuple[Any, ...] = ()
        if len(args) == 1 and not isinstance(args[0], Iterable):
            self._tensor_name = args[0]._tensor_name
        for method in args[0] if len(args) == 1 and isinstance(args[0], Iterable) else args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """Append a method for the same parameter.

        Raises:
            TypeError: no pruning method.
            ValueError: one for another parameter.
        """
        if not isinstance(method, BasePruningMethod) and method is not None:
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method is not None and hasattr(self, "_tensor_name") and self._tensor_name != method._tensor_name:
            raise ValueError("Can only add pruning methods acting on the parameter named "
                             f"'{self._tensor_name}' to PruningContainer {self}. Found '{method._tensor_name}'")
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Any:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: Any) -> Any:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask so far, and in what it leaves, that of the method added last."""
        method = self._pruning_methods[-1]
        mask = default_mask.clone().to(dtype=t.dtype)
        kind = method.PRUNING_TYPE
        if kind == "unstructured":
            left: Any = mask == 1
        elif kind == "structured":
            if not hasattr(method, "dim"):
                raise AttributeError("Pruning methods of PRUNING_TYPE \"structured\" need to have the attribute `dim` defined.")
            dim = method.dim % t.dim()
            left = [slice(None)] * t.dim()
            left[dim] = mask.sum(dim=[d for d in range(t.dim()) if d != dim]) != 0
            left = tuple(left)
        elif kind == "global":
            left = (slice(None),) * t.dim()
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {kind}")
        mask[left] = method.compute_mask(t[left], default_mask=mask[left]).to(dtype=mask.dtype)
        return mask


# -- how much ---------------------------------------------------------------------------------------------------------


def _check_amount(amount: Any) -> None:
    if not isinstance(amount, numbers.Real):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    most = math.inf if isinstance(amount, numbers.Integral) else 1.0
    if not 0.0 <= float(amount) <= most:
        raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")


def _number(amount: Any, size: int) -> int:
    """How many of ``size``: a number of them, or a share.

    Raises:
        ValueError: more than there are.
    """
    if not isinstance(amount, numbers.Integral):
        return round(amount * size)
    if int(amount) > size:
        raise ValueError(f"amount={amount} should be smaller than the number of parameters to prune={size}")
    return int(amount)


def _check_dim(t: Any, dim: int) -> None:
    if t.dim() <= 1:
        raise ValueError("Structured pruning can only be applied to multidimensional tensors. "
                         f"Found tensor of shape {t.shape} with {t.dim()} dims")
    if dim >= t.dim():
        raise IndexError(f"Invalid index {dim} for tensor of size {t.shape}")


def _mask_of_slices(t: Any, dim: int, chosen: Any) -> Any:
    mask = FUNCTIONS["zeros_like"](t)
    where: list[Any] = [slice(None)] * t.dim()
    where[dim] = chosen
    mask[tuple(where)] = 1
    return mask


# -- the methods ------------------------------------------------------------------------------------------------------


class Identity(BasePruningMethod):
    """Nothing is pruned: for a parameter that is to look like the pruned ones."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        return default_mask


class _Unstructured(BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: Any) -> None:
        _check_amount(amount)
        self.amount = amount

    def _pruned(self, t: Any, n: int) -> Any:
        raise NotImplementedError

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        n = _number(self.amount, t.nelement())
        mask = default_mask.clone()
        if n != 0:
            mask.view(-1)[self._pruned(t, n)] = 0
        return mask


class RandomUnstructured(_Unstructured):
    """``amount`` elements (a number or a share), at random."""

    def _pruned(self, t: Any, n: int) -> Any:
        return FUNCTIONS["rand_like"](t).view(-1).topk(n).indices


class L1Unstructured(_Unstructured):
    """The ``amount`` elements (a number or a share) nearest to zero."""

    def _pruned(self, t: Any, n: int) -> Any:
        return t.abs().view(-1).topk(n, largest=False).indices


class _Structured(BasePruningMethod):
    """Whole slices along ``dim``."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1) -> None:
        _check_amount(amount)
        self.amount, self.dim = amount, dim

    def _kept(self, t: Any, n: int) -> Any:
        """An index of all slices but the ``n`` that are pruned."""
        raise NotImplementedError

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        _check_dim(t, self.dim)
        n = _number(self.amount, t.shape[self.dim])
        if n == 0:
            return default_mask
        mask = _mask_of_slices(t, self.dim, self._kept(t, n))
        return mask * default_mask.to(dtype=mask.dtype)


class RandomStructured(_Structured):
    """``amount`` slices (a number or a share) along ``dim``, at random."""

    def _kept(self, t: Any, n: int) -> Any:
        drawn = FUNCTIONS["rand"](t.shape[self.dim])
        return drawn > drawn.kthvalue(n).values


class LnStructured(_Structured):
    """The ``amount`` slices (a number or a share) along ``dim`` with the smallest ``n``-norms."""

    def __init__(self, amount: Any, n: Any, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def _kept(self, t: Any, n: int) -> Any:
        others = [d for d in range(t.dim()) if d != self.dim % t.dim()]
        norms = FUNCTIONS["norm"](t, p=self.n, dim=others)
        return norms.topk(t.shape[self.dim] - n, largest=True).indices


class CustomFromMask(BasePruningMethod):
    """A mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        assert default_mask.shape == self.mask.shape
        return default_mask * self.mask.to(dtype=default_mask.dtype)


# -- functions --------------------------------------------------------------------------------------------------------


def identity(module: M, name: str) -> M:
    """Store ``module.name`` as pruned parameters are stored; no element is pruned."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: M, name: str, amount: Any) -> M:
    """Prune ``amount`` elements (a number or a share) of ``module.name`` at random."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: M, name: str, amount: Any, importance_scores: Any = None) -> M:
    """Prune the ``amount`` elements (a number or a share) of ``module.name`` nearest to zero.

    >>> layer = l1_unstructured(nn.Linear(4, 2), "weight", amount=0.25)
    >>> int((layer.weight == 0).sum())
    2
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: M, name: str, amount: Any, dim: int) -> M:
    """Prune ``amount`` slices (a number or a share) of ``module.name`` along ``dim`` at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: M, name: str, amount: Any, n: Any, dim: int, importance_scores: Any = None) -> M:
    """Prune the ``amount`` slices (a number or a share) of ``module.name`` along ``dim`` with the smallest ``n``-norms."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: M, name: str, mask: Any) -> M:
    """Prune ``module.name`` where ``mask`` is zero."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters: Any, pruning_method: Any, importance_scores: Any = None, **kwargs: Any) -> None:
    """Prune among the elements of all ``parameters``, pairs (module, name), at once.

    Args:
        importance_scores: {(module, name): scores} where not the parameter itself decides.
        kwargs: the arguments of ``pruning_method``, as ``amount=0.2``.

    Raises:
        TypeError: no pairs, or a method that is not unstructured.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    pairs = list(parameters)
    scores = importance_scores if importance_scores is not None else {}
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    ranked = parameters_to_vector([scores.get((module, name), getattr(module, name)) for module, name in pairs])
    there = parameters_to_vector([getattr(module, name + "_mask", FUNCTIONS["ones_like"](getattr(module, name)))
                                  for module, name in pairs])
    container = PruningContainer()
    container._tensor_name = "temp"
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError('Only "unstructured" PRUNING_TYPE supported for '
                        f"the `pruning_method`. Found method {pruning_method} of type {method.PRUNING_TYPE}")
    container.add_pruning_method(method)
    mask = container.compute_mask(ranked, there)
    start = 0
    for module, name in pairs:
        parameter = getattr(module, name)
        custom_from_mask(module, name, mask=mask[start:start + parameter.numel()].view_as(parameter))
        start += parameter.numel()


def remove(module: M, name: str) -> M:
    """Make the pruned values of ``module.name`` the parameter again. They can then become other than zero.

    Raises:
        ValueError: the parameter is not pruned.
    """
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")


def is_pruned(module: Module) -> bool:
    """Whether a parameter of the module or of one inside it is pruned."""
    return any(isinstance(hook, BasePruningMethod) for m in module.modules() for hook in m._forward_pre_hooks.values())
