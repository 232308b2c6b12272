"""``torch.ops``: operators by the names of PyTorch's dispatcher, and those that libraries register (``library.py``).

``torch.ops.aten.add.Tensor(x, y)`` is the public function or method of this name; overloads differ in what they are given, which the
function sees itself. A namespace that nobody has registered anything in is empty.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rushlight

from .tensor import FUNCTIONS, Tensor

__all__ = ["OpOverload", "OpOverloadPacket", "namespace"]

#: How overloads of one name are told apart in PyTorch's declarations of operators.
_OVERLOADS = frozenset((
    "default Tensor Scalar int dim dims dim_IntList dim_max dim_min dim_int dim_DimnameList out "
    "correction self other stable stable_out Tensor_Tensor Tensor_Scalar Scalar_Tensor ScalarSelf "
    "ScalarOther Scalar_out Tensor_out Tensor_mode Scalar_mode dtype dtype_layout prev names start "
    "start_step end step bounds low low_generator generator p p_dim src value reduce value_reduce "
    "using_ints sizes vec deterministic bool input data complex float int_out memory_format padding "
    "grad_input Int mode self_int element_size ").split())


class OpOverload:
    """One overload of an operator: callable, and equal to itself alone."""

    def __init__(self, packet: OpOverloadPacket, overload: str) -> None:
        self.overloadpacket, self._overloadname = packet, overload
        self.namespace = packet.namespace
        self.__name__ = f"{packet.__name__}.{overload}"
        self.__module__ = f"torch._ops.{packet.namespace}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.overloadpacket(*args, **kwargs)

    def name(self) -> str:
        """``aten::add.Tensor``; the overload ``default`` has no name of its own."""
        return f"{self.namespace}::{self.overloadpacket.__name__}" + ("" if self._overloadname == "default" else f".{self._overloadname}")

    def __str__(self) -> str:
        return f"{self.namespace}.{self.__name__}"

    def __repr__(self) -> str:
        return f"<OpOverload(op='{self.namespace}.{self.overloadpacket.__name__}', overload='{self._overloadname}')>"


class OpOverloadPacket:
    """An operator with its overloads.

    Args:
        namespace, name: ``aten``, ``add``.
        function: what is called.
        overloads: the names of its overloads; None for those that PyTorch's operators have.
    """

    def __init__(self, namespace: str, name: str, function: Callable[..., Any], overloads: frozenset[str] | None = None) -> None:
        self.namespace, self.__name__, self.function = namespace, name, function
        self._known = overloads
        self.__module__ = f"torch._ops.{namespace}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __getattr__(self, overload: str) -> OpOverload:
        if overload.startswith("__") or overload not in (_OVERLOADS if self._known is None else self._known):
            raise AttributeError(f"The underlying op of '{self}' has no overload name '{overload}'")
        found = OpOverload(self, overload)
        self.__dict__[overload] = found
        return found

    def overloads(self) -> list[str]:
        """The overloads that were asked for, or registered."""
        return sorted(self._known) if self._known is not None else [k for k, v in self.__dict__.items() if isinstance(v, OpOverload)]

    def __str__(self) -> str:
        return f"{self.namespace}.{self.__name__}"

    def __repr__(self) -> str:
        return f"<OpOverloadPacket(op='{self}')>"


class _OpNamespace:
    """The operators of one library."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.__file__ = "torch.ops"

    def __getattr__(self, name: str) -> OpOverloadPacket:
        function = None if name.startswith("__") else _FOUND.get(self.name, _nothing)(name)
        if function is None:
            raise AttributeError(f"'_OpNamespace' '{self.name}' object has no attribute '{name}'")
        packet = OpOverloadPacket(self.name, name, function)
        self.__dict__[name] = packet
        return packet

    def __repr__(self) -> str:
        return f"<module 'torch.ops.{self.name}' from 'torch.ops'>"


def _to_copy(self: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool | None = None,
             non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    if memory_format is None:
        memory_format = rushlight.preserve_format
    return self.to(device=device, dtype=self.dtype if dtype is None else dtype, copy=True, memory_format=memory_format)


def _slice(self: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    return self[(slice(None),) * (dim % self.dim()) + (slice(start, end, step),)]  # type: ignore[no-any-return]


def _index(self: Any, indices: list[Tensor | None]) -> Tensor:
    return self[tuple([slice(None) if i is None else i for i in indices])]  # type: ignore[no-any-return]


def _alias(self: Tensor) -> Tensor:
    return self.view(self.shape)


#: Operators that have other names, or other arguments, in the public namespace.
_OTHERWISE: dict[str, Callable[..., Any]] = {
    "_to_copy": _to_copy, "_unsafe_view": lambda self, size: self.reshape(size), "alias": _alias, "index": _index, "slice": _slice,
    "_pin_memory": lambda self, device=None: self.pin_memory(), "_sparse_addmm": lambda self, mat1, mat2, *, beta=1, alpha=1: (
        rushlight.sparse.addmm(self, mat1, mat2, beta=beta, alpha=alpha)),
    "lift_fresh": lambda self: self,
    "scalar_tensor": lambda s, *, dtype=None, layout=None, device=None, pin_memory=None: FUNCTIONS["tensor"](s, dtype=dtype, device=device),
    "_log_softmax": lambda self, dim, half_to_float=False: self.log_softmax(dim), "_softmax": lambda self, dim, half_to_float=False: (
        self.softmax(dim))}


def _of_aten(name: str) -> Callable[..., Any] | None:
    if name in _OTHERWISE:
        return _OTHERWISE[name]
    first, _, rest = name.partition("_")
    places = [(rushlight, name), (Tensor, name), (rushlight.nn.functional, name)]
    if first in ("linalg", "special", "fft"):
        places = [(getattr(rushlight, first), name if first == "fft" else rest)]
    for place, known in places:
        found = getattr(place, known, None)
        if callable(found) and not isinstance(found, type):
            return found  # type: ignore[no-any-return]
    return None


def _of_torchvision(name: str) -> Callable[..., Any] | None:
    from .vision import ops

    return getattr(ops, name, None)


def _nothing(name: str) -> None:
    return None


_FOUND: dict[str, Callable[[str], Any]] = {"aten": _of_aten, "torchvision": _of_torchvision}
_NAMESPACES: dict[str, _OpNamespace] = {}


def namespace(name: str) -> Any:
    """The namespace ``torch.ops.<name>``.

    Example:
        >>> add = torch.ops.aten.add.Tensor
        >>> add.name(), add(torch.ones(2), torch.ones(2))
        ('aten::add.Tensor', tensor([2., 2.]))
        >>> hasattr(torch.ops.nobodys, "operator")
        False
    """
    if name == "load_library":
        return _load_library
    if name not in _NAMESPACES:
        _NAMESPACES[name] = _OpNamespace(name)
    return _NAMESPACES[name]


class _ClassNamespace:
    """Classes that a compiled library would have registered: none."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise RuntimeError(f"Tried to instantiate class '{self.name}.{attribute}', but it does not exist! Ensure that it is registered via "
                           "torch::class_, which compiled extensions of PyTorch do: these are not loaded here")


class _Classes:
    """``torch.classes``."""

    def __getattr__(self, name: str) -> _ClassNamespace:
        if name.startswith("__"):
            raise AttributeError(name)
        return _ClassNamespace(name)


classes = _Classes()


def _load_library(path: str) -> None:
    raise OSError(f"load_library: {path} is compiled for PyTorch; operators in Python are registered with torch.library")


def register(space: str, name: str, function: Callable[..., Any], overload: str = "default") -> OpOverloadPacket:
    """Make ``function`` the operator ``torch.ops.<space>.<name>``."""
    packet = OpOverloadPacket(space, name, function, frozenset([overload]))
    namespace(space).__dict__[name] = packet
    return packet
