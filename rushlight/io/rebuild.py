"""From a file's words to tensors: the rebuild functions of PyTorch's format, for the restricted and the full reader."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np

from rushlight.compile.dtypes import DType
from rushlight.io.storages import DTYPE_OF_STORAGE, UNTYPED, LoadedStorage, dtype_named
from rushlight.io.trusted import PLAIN_GLOBALS, is_declared, plain_state, refused, torch_name, user_global
from rushlight.io.unpickle import Callable_, RestrictedUnpickler
from rushlight.nn.parameter import Parameter
from rushlight.record import Device as device
from rushlight.tensor import Size, Tensor, from_numpy
from rushlight.tensor.pickling import rebuild_meta


class StorageKind:
    """A storage class as a file names it: what persistent ids begin with."""

    def __init__(self, dtype: DType | None) -> None:
        self.dtype = dtype


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: DType, requires_grad: bool) -> Tensor:
    if not isinstance(storage, LoadedStorage):
        raise UnpicklingError(f"a tensor is made of a storage, not of {type(storage).__name__}")
    result = storage.tensor(offset, tuple(size), tuple(stride), dtype, from_numpy)
    return result.requires_grad_() if requires_grad else result


def rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    """`torch._utils._rebuild_tensor_v2`: the dtype is the storage's. (Hooks are never saved; the entry is empty.)"""
    dtype = storage.dtype if isinstance(storage, LoadedStorage) else None
    if dtype is None:
        raise UnpicklingError("a tensor of a storage without a dtype")
    return _tensor(storage, offset, size, stride, dtype, bool(requires_grad))


def rebuild_tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> Tensor:
    """`torch._utils._rebuild_tensor_v3`: the storage is untyped."""
    if not isinstance(dtype, DType):
        raise UnpicklingError("a tensor whose dtype is not a dtype")
    return _tensor(storage, offset, size, stride, dtype, bool(requires_grad))


def rebuild_described(dtype: Any, size: Any, stride: Any, requires_grad: Any) -> Tensor:
    """`torch._utils._rebuild_meta_tensor_no_storage`: a tensor of the device "meta"."""
    if not isinstance(dtype, DType) or len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in (*size, *stride)):
        raise UnpicklingError(f"a tensor of size {size} and stride {stride} is damaged")
    return rebuild_meta(Tensor, dtype, tuple(size), tuple(stride), bool(requires_grad), {})


def rebuild_parameter(data: Any, requires_grad: Any, hooks: Any = None) -> Parameter:
    """`torch._utils._rebuild_parameter`."""
    if not isinstance(data, Tensor):
        raise UnpicklingError(f"a parameter is made of a tensor, not of {type(data).__name__}")
    return Parameter(data, bool(requires_grad))


def rebuild_parameter_with_state(data: Any, requires_grad: Any, hooks: Any, state: Any) -> Parameter:
    """`torch._utils._rebuild_parameter_with_state`: a parameter that carries attributes."""
    return _with_attributes(rebuild_parameter(data, requires_grad), state)


def rebuild_from_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: a tensor or parameter that carries attributes."""
    call = function.call if isinstance(function, Callable_) else function
    if call not in (rebuild_described, rebuild_tensor, rebuild_tensor_of_dtype, rebuild_parameter, rebuild_parameter_with_state):
        raise UnpicklingError("a tensor that is not made by a rebuild function")
    return _with_attributes(call(*args), state)


def _with_attributes(tensor: Any, state: Any) -> Any:
    attributes = state[0] if isinstance(state, tuple) and state else state
    for name, value in (attributes or {}).items():
        if not isinstance(name, str) or hasattr(type(tensor), name):
            raise UnpicklingError(f"a tensor with an attribute {name!r}, which would hide a method")
        setattr(tensor, name, value)
    return tensor


def _size(items: Any = ()) -> Size:
    if not isinstance(items, (list, tuple)):
        raise UnpicklingError("a torch.Size is made of a tuple")
    return Size(items)


def _new_parameter(*args: Any) -> Any:
    raise UnpicklingError("a Parameter is made by _rebuild_parameter")


_TENSOR_GLOBALS: dict[str, Any] = {
    "torch._utils._rebuild_tensor": Callable_(rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": Callable_(rebuild_tensor),
    "torch._utils._rebuild_tensor_v3": Callable_(rebuild_tensor_of_dtype),
    "torch._utils._rebuild_meta_tensor_no_storage": Callable_(rebuild_described),
    "torch._utils._rebuild_parameter": Callable_(rebuild_parameter),
    "torch._utils._rebuild_parameter_with_state": Callable_(rebuild_parameter_with_state),
    "torch._tensor._rebuild_from_type_v2": Callable_(rebuild_from_type),
    "torch.nn.parameter.Parameter": Callable_(None, _new_parameter),
    "torch.Tensor": Callable_(None),
    "torch.Size": Callable_(_size),
    "torch.device": Callable_(device),
    "torch.storage.UntypedStorage": StorageKind(None),
    "torch.UntypedStorage": StorageKind(None),
    **{f"torch.{name}": StorageKind(dtype_named(dtype)) for name, dtype in DTYPE_OF_STORAGE.items()},
}


def tensor_global(full_name: str) -> Any | None:
    """What a name of PyTorch's format stands for: a rebuild function, a storage class or a dtype."""
    found = _TENSOR_GLOBALS.get(full_name)
    if found is None and full_name.startswith("torch."):
        found = dtype_named(full_name.removeprefix("torch."))
    return found


def _trusted_global(module: str, name: str) -> Any:
    full_name = f"{module}.{name}"
    found = tensor_global(full_name)
    if found is None:
        found = PLAIN_GLOBALS.get(full_name)
    if found is None:
        users = user_global(full_name)
        if users is None:
            raise refused(module, name)
        found = users
    return found


def _users_callable(value: Any) -> Any:
    """What the user has declared safe, as something that a file may call."""
    if isinstance(value, Callable_) or not is_declared(value):
        return value
    return Callable_(value, getattr(value, "__new__", None) and (lambda *a, **k: value.__new__(value, *a, **k)))


def _set_state(target: Any, state: Any) -> Any:
    """BUILD in the restricted reader: our own kinds, and objects of classes that the user declared safe."""
    kind = type(target)
    if user_global(f"{kind.__module__}.{kind.__qualname__}") is not kind:
        return plain_state(target, state)
    setter = getattr(target, "__setstate__", None)
    if setter is not None:
        setter(state)
        return target
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        target.__dict__.update(state)
    for name, value in (slots or {}).items():
        setattr(target, name, value)
    return target


def read_restricted(stream: BinaryIO, persistent_load: Callable[[Any], Any], encoding: str = "utf-8") -> Any:
    """One pickle, running nothing but what the tables hold."""
    return RestrictedUnpickler(stream, _trusted_global, persistent_load, _set_state, encoding, _users_callable).load()


class _FullUnpickler(pickle.Unpickler):
    """Python's unpickler: it imports and calls whatever the file asks for. Names of PyTorch are found here."""

    def __init__(self, stream: BinaryIO, persistent_load: Callable[[Any], Any], encoding: str) -> None:
        super().__init__(stream, encoding=encoding)
        self._load_storage = persistent_load

    def persistent_load(self, pid: Any) -> Any:
        return self._load_storage(pid)

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        found = tensor_global(full_name)
        if isinstance(found, Callable_):
            found = {"torch.Tensor": Tensor, "torch.nn.parameter.Parameter": Parameter}.get(full_name, found.call)
        if found is not None:
            return found
        if full_name == torch_name(full_name) and module.split(".")[0] == "torch":
            return _ours("rushlight" + module.removeprefix("torch"), name)
        return super().find_class(module, name)


def _ours(module: str, name: str) -> Any:
    """The class of this package that goes by PyTorch's path, in that module or exported from one above it."""
    folder = module
    while folder:
        try:
            found: Any = importlib.import_module(folder)
            for part in name.split("."):
                found = getattr(found, part)
            return found
        except (ImportError, AttributeError):
            folder = folder.rpartition(".")[0]
    raise AttributeError(f"the file needs torch{module.removeprefix('rushlight')}.{name}, which this package has not")


def read_full(stream: BinaryIO, persistent_load: Callable[[Any], Any], encoding: str = "utf-8") -> Any:
    """One pickle, running whatever it contains."""
    return _FullUnpickler(stream, persistent_load, encoding).load()


def storage_of(kind: Any, data: np.ndarray, where: Any) -> LoadedStorage:
    """A storage of the class that a persistent id names."""
    if not isinstance(kind, StorageKind):
        known = ", ".join((UNTYPED, *DTYPE_OF_STORAGE))
        raise UnpicklingError(f"a storage of an unknown class: one of {known} expected")
    return LoadedStorage(data, kind.dtype, where)
