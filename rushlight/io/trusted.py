"""What a checkpoint may contain: the globals that `load(weights_only=True)` lets through, and nothing else."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pickle import UnpicklingError
from typing import Any

import numpy as np

from rushlight.io.unpickle import Callable_

_user_globals: dict[str, Any] = {}


def add_safe_globals(safe_globals: Sequence[Any]) -> None:
    """Let files that are read with `weights_only=True` create objects of these classes and call these functions.

    Each entry is a class or function, or a pair `(object, "full.name")` for one that files know under another name.

    Example:
        >>> class Settings: ...
        >>> add_safe_globals([Settings])
    """
    for entry in safe_globals:
        _user_globals[_safe_name(entry)] = entry


def get_safe_globals() -> list[Any]:
    """The entries that were given to `add_safe_globals`."""
    return list(_user_globals.values())


def clear_safe_globals() -> None:
    """Forget every entry that was given to `add_safe_globals`."""
    _user_globals.clear()


@contextlib.contextmanager
def safe_globals(safe_globals: Sequence[Any]) -> Iterator[None]:
    """`add_safe_globals` for the length of a `with` block.

    Example:
        >>> from fractions import Fraction
        >>> with safe_globals([Fraction]):
        ...     pass
    """
    before = dict(_user_globals)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _user_globals.clear()
        _user_globals.update(before)


def _safe_name(entry: Any) -> str:
    if isinstance(entry, tuple):
        if len(entry) != 2 or not isinstance(entry[1], str):
            raise ValueError(f"expected (object, 'full.name'), got {entry!r}")
        return torch_name(entry[1])
    return torch_name(f"{entry.__module__}.{entry.__qualname__}")


def torch_name(name: str) -> str:
    """The name under which files know one of our classes: `rushlight.nn.X` is written as `torch.nn.X` by PyTorch."""
    return "torch" + name.removeprefix("rushlight") if name.startswith("rushlight.") else name


def user_global(full_name: str) -> Any | None:
    """The object that the user has declared safe under this name."""
    entry = _user_globals.get(torch_name(full_name))
    if entry is None:
        return None
    return entry[0] if isinstance(entry, tuple) else entry


def is_declared(value: Any) -> bool:
    """Whether the user has declared this very object safe."""
    return any((entry[0] if isinstance(entry, tuple) else entry) is value for entry in _user_globals.values())


def refused(module: str, name: str) -> UnpicklingError:
    """The error for a global that is not in the table."""
    return UnpicklingError(
        "Weights only load failed. The file asks for something that is not plain data, and nothing of it was run.\n"
        f"\tUnsupported global: GLOBAL {module}.{name} was not an allowed global by default.\n"
        f"\tIf you trust the object, allow it with `torch.serialization.add_safe_globals([{name}])` or "
        f"`torch.serialization.safe_globals([{name}])`.\n"
        "\tIf you trust the file, `torch.load(..., weights_only=False)` reads it, and runs whatever code it contains."
    )


def _encode(text: Any, encoding: Any) -> bytes:
    """How pickle protocol 2 writes bytes objects: as latin-1 text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnpicklingError(f"_codecs.encode with encoding {encoding!r} is not trusted")
    return text.encode("latin-1")


def _counter(items: Any = ()) -> Counter[Any]:
    if not isinstance(items, dict) and items != ():
        raise UnpicklingError("a Counter is made of a dict")
    return Counter(items)


def _defaultdict(factory: Any = None, *rest: Any) -> defaultdict[Any, Any]:
    if factory is not None and not isinstance(factory, _Factory):
        raise UnpicklingError("a defaultdict of a factory that is not a plain container or number")
    return defaultdict(factory.kind if factory else None, *rest)


class _Factory(Callable_):
    """A built-in type: a file may name it as the factory of a defaultdict, and make an empty one, but not a filled one,
    which could be of any size."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        super().__init__(lambda: kind())
        self.kind = kind


def _collected(kind: Callable[[Any], Any]) -> Callable_:
    """A set, of a list that the pickle already holds: never of something that expands while it is read."""

    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple)):
            raise UnpicklingError(f"a {kind} is made of a list")
        return kind(items)

    return Callable_(make)


def _bytearray(data: Any = b"", encoding: str = "latin-1") -> bytearray:
    if not isinstance(data, (bytes, str)):
        raise UnpicklingError("a bytearray is made of bytes")
    return bytearray(data) if isinstance(data, bytes) else bytearray(_encode(data, encoding))


# -- NumPy: numbers and arrays of numbers -----------------------------------------------------------------------------

_PLAIN_KINDS = "biufcSU?"
_DTYPE_TEXT = re.compile(r"[<>=|]?[biufcSU]\d{1,6}|\?")


def _numpy_dtype(description: Any, align: bool = False, copy: bool = True) -> np.dtype[Any]:
    if not isinstance(description, str) or not _DTYPE_TEXT.fullmatch(description):
        raise UnpicklingError(f"the NumPy dtype {description!r} is not trusted")
    return _plain(np.dtype(description, align=False, copy=True))


def _plain(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, np.dtype) or dtype.kind not in _PLAIN_KINDS:
        raise UnpicklingError(f"a NumPy object of dtype {dtype!r} is not plain data")
    return dtype


def set_dtype_state(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """Byte order and, for text, length; fields and metadata are not plain data."""
    if not (isinstance(state, tuple) and len(state) in (8, 9) and all(part is None for part in state[2:5])):
        raise UnpicklingError("the state of a NumPy dtype is not plain data")
    version, order, size, alignment, flags = state[0], state[1], *state[5:8]
    if order not in ("<", ">", "=", "|") or not all(type(n) is int for n in (version, size, alignment, flags)):
        raise UnpicklingError("the state of a NumPy dtype is damaged")
    if dtype.kind in "SU":
        if not 0 <= size < 1 << 20:
            raise UnpicklingError("the state of a NumPy dtype is damaged")
        result = np.dtype(f"{order}{dtype.kind}{size // (4 if dtype.kind == 'U' else 1)}")
        dtype.__setstate__(result.__reduce__()[2])  # type: ignore[attr-defined]
    elif (size, alignment) != (-1, -1):
        raise UnpicklingError("the state of a NumPy dtype is damaged")
    else:
        dtype.__setstate__((3, order, None, None, None, -1, -1, 0))  # type: ignore[attr-defined]
    return dtype


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    dtype = _plain(dtype)
    if not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise UnpicklingError(f"a NumPy scalar of dtype {dtype} is damaged")
    return np.frombuffer(data, dtype)[0] if dtype.itemsize else dtype.type()


def _numpy_reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if getattr(kind, "call", None) is not None or getattr(kind, "new", None) is not _new_array:
        raise UnpicklingError("a NumPy array of a subclass is not plain data")
    return np.ndarray((0,), np.uint8)


def _new_array(*args: Any) -> np.ndarray:
    raise UnpicklingError("numpy.ndarray is not called by any NumPy pickle")


def set_array_state(array: np.ndarray, state: Any) -> np.ndarray:
    """Shape, dtype and bytes of an array, checked against each other before NumPy sees them."""
    if not (isinstance(state, tuple) and len(state) == 5):
        raise UnpicklingError("the state of a NumPy array is damaged")
    version, shape, dtype, fortran, data = state
    dtype = _plain(dtype)
    if isinstance(data, str):  # Python 2 wrote the bytes as text
        data = data.encode("latin-1")
    well_formed = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and isinstance(data, bytes)
    count = 1
    for n in shape if well_formed else ():
        count *= n
    if not well_formed or count * dtype.itemsize != len(data):
        raise UnpicklingError(f"a NumPy array of shape {shape} and dtype {dtype} is damaged")
    array.__setstate__((1, shape, dtype, bool(fortran), data))  # type: ignore[arg-type]  # the stub is wrong
    return array


def _numpy_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Protocol 5's form of an array."""
    array = np.ndarray((0,), np.uint8)
    return set_array_state(array, (1, shape, dtype, order == "F", bytes(data)))


def _numpy_table() -> dict[str, Any]:
    table: dict[str, Any] = {"numpy.dtype": Callable_(_numpy_dtype), "numpy.ndarray": Callable_(None, _new_array)}
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray.scalar"] = Callable_(_numpy_scalar)
        table[f"{core}.multiarray._reconstruct"] = Callable_(_numpy_reconstruct)
        table[f"{core}.numeric._frombuffer"] = Callable_(_numpy_from_buffer)
    return table


PLAIN_GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": Callable_(OrderedDict, OrderedDict),
    "collections.Counter": Callable_(_counter),
    "collections.defaultdict": Callable_(_defaultdict),
    "_codecs.encode": Callable_(_encode),
    **_numpy_table(),
}
for _module in ("builtins", "__builtin__"):
    PLAIN_GLOBALS[f"{_module}.set"] = _collected(set)
    PLAIN_GLOBALS[f"{_module}.frozenset"] = _collected(frozenset)
    PLAIN_GLOBALS[f"{_module}.bytearray"] = Callable_(_bytearray)
    PLAIN_GLOBALS[f"{_module}.complex"] = Callable_(complex)
    PLAIN_GLOBALS[f"{_module}.slice"] = Callable_(slice)
    for _kind in (int, float, bool, str, bytes, list, dict, tuple):
        PLAIN_GLOBALS[f"{_module}.{_kind.__name__}"] = _Factory(_kind)


def plain_state(target: Any, state: Any) -> Any:
    """Give a state to an object of `PLAIN_GLOBALS`."""
    if type(target) is np.ndarray:
        return set_array_state(target, state)
    if isinstance(target, np.dtype):
        return set_dtype_state(target, state)
    raise UnpicklingError(f"an object of {type(target).__name__} takes no state")
