"""Write objects as PyTorch pickles them: tensors as calls of its rebuild functions, memory as persistent storages."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

from rushlight.compile.dtypes import DType
from rushlight.io.storages import STORAGE_OF_DTYPE, UNTYPED
from rushlight.nn.parameter import Parameter
from rushlight.record import Device as device
from rushlight.tensor import Size, Tensor


class _Global:
    """A name in a file that need not exist in this process: `torch._utils._rebuild_tensor_v2`."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.module}.{self.name} is a name in a file")


class _StorageReference:
    """Stands for one storage in the pickle; `key` names its record."""

    def __init__(self, kind: _Global, key: str, location: str, elements: int) -> None:
        self.identity = ("storage", kind, key, location, elements)


_REBUILD_TENSOR = _Global("torch._utils", "_rebuild_tensor_v2")
_REBUILD_TENSOR_OF_DTYPE = _Global("torch._utils", "_rebuild_tensor_v3")
_REBUILD_META = _Global("torch._utils", "_rebuild_meta_tensor_no_storage")
_REBUILD_PARAMETER = _Global("torch._utils", "_rebuild_parameter")
_SIZE = _Global("torch", "Size")
_DEVICE = _Global("torch", "device")


# The Python version: the C one insists on importing every global that it writes. (Type stubs know it by half.)
_PythonPickler: Any = pickle._Pickler  # type: ignore[attr-defined]


class CheckpointPickler(_PythonPickler):
    """Pickle one object, gathering the storages it refers to.

    Attributes:
        storages: key to storage, in the order of first use, for the caller to write as records.
    """

    dispatch: dict[Any, Any] = dict(_PythonPickler.dispatch)

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.storages: dict[str, Any] = {}
        self._keys: dict[int, str] = {}
        self._kinds: dict[str, _Global] = {}

    def persistent_id(self, obj: Any) -> Any:
        return obj.identity if isinstance(obj, _StorageReference) else None

    def reducer_override(self, obj: Any) -> Any:
        """How our own kinds of objects are written. (Called for objects without a built-in form.)"""
        if isinstance(obj, Tensor):
            return self._reduce_tensor(obj)
        if isinstance(obj, device):
            return _DEVICE, ((obj.type,) if obj.index is None else (obj.type, obj.index))
        return NotImplemented

    def _reduce_tensor(self, tensor: Tensor) -> Any:
        hooks: OrderedDict[Any, Any] = OrderedDict()
        if isinstance(tensor, Parameter):
            return _REBUILD_PARAMETER, (tensor.detach(), tensor.requires_grad, hooks)
        if tensor.is_meta:
            return _REBUILD_META, (tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), tensor.requires_grad)
        storage = tensor.untyped_storage()
        dtype = tensor.dtype
        window = (tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()), tensor.requires_grad, hooks)
        name = STORAGE_OF_DTYPE.get(dtype.name)
        if name is None:
            reference = self._reference(storage, UNTYPED, storage.nbytes(), tensor.device)
            return _REBUILD_TENSOR_OF_DTYPE, (reference, *window, dtype)
        return _REBUILD_TENSOR, (
            self._reference(storage, name, storage.nbytes() // dtype.itemsize, tensor.device),
            *window,
        )

    def _reference(self, storage: Any, kind: str, elements: int, where: device) -> _StorageReference:
        address = storage._address()
        key = self._keys.get(address) if address and elements else None
        if key is None:
            key = str(len(self.storages))
            self.storages[key] = storage  # also keeps the address from being used again
            self._keys[address] = key
        module = "torch.storage" if kind == UNTYPED else "torch"
        return _StorageReference(self._kind(module, kind), key, str(where), elements)

    def _kind(self, module: str, name: str) -> _Global:
        return self._kinds.setdefault(name, _Global(module, name))

    def _save_global_name(self, obj: _Global) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    def _save_dtype(self, obj: DType) -> None:
        self.save(self._kind("torch", obj.name))  # which is written once, and referred to after that

    def _save_size(self, obj: Size) -> None:
        self.save_reduce(_SIZE, (tuple(obj),), obj=obj)

    dispatch[_Global] = _save_global_name
    dispatch[DType] = _save_dtype
    dispatch[Size] = _save_size


def dumps(obj: Any, protocol: int = 2) -> tuple[bytes, dict[str, Any]]:
    """The pickle of `obj` and the storages that it refers to, by key.

    Raises:
        pickle.PicklingError, AttributeError, TypeError: something in `obj` cannot be pickled.
    """
    if not 0 <= protocol <= pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"pickle protocol must be <= {pickle.HIGHEST_PROTOCOL}, got {protocol}")
    buffer = io.BytesIO()
    pickler = CheckpointPickler(buffer, max(protocol, 2))
    pickler.dump(obj)
    return buffer.getvalue(), pickler.storages
