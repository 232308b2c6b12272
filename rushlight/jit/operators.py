"""What the operators of TorchScript mean: names that tensors have, too, and those of numbers, lists and texts."""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import rushlight as torch

from ..nn import recurrent_functions, rootnames, toplevel
from ..record.warn import warn
from ..tensor import FUNCTIONS

__all__ = ["operation"]

_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64, None,
           torch.complex64, torch.complex128, torch.bool, None, None, None, torch.bfloat16)


def _dtype(code: Any) -> Any:
    return _DTYPES[code] if type(code) is int else code


def _code(x: Any) -> int:
    return _DTYPES.index(x.dtype)


def _numeric(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """An operation of tensors that numbers and lists have as well."""
    of_tensors = getattr(torch, name, None)

    def call(*args: Any, **kwargs: Any) -> Any:
        if of_tensors is not None and any(isinstance(a, torch.Tensor) for a in args):
            if name in ("add", "sub") and len(args) == 3:
                return of_tensors(*args[:2], alpha=args[2])
            return of_tensors(*args, **kwargs)
        return plain(*args)
    return call


def _to(x: Any, *args: Any, **kwargs: Any) -> Any:
    like = next((a for a in args if isinstance(a, torch.Tensor)), None)
    code = kwargs.get("dtype", next((a for a in args if type(a) is int), None))
    d = like.dtype if like is not None else x.dtype if code is None else _dtype(code)
    return x.to(d, copy=bool(kwargs.get("copy", False)))


def _slice(x: Any, *args: Any) -> Any:
    if isinstance(x, (list, str)):
        return x[slice(*args)]
    given = dict(zip(("dim", "start", "stop", "step"), args))
    dim, stop = given.get("dim", 0) % x.dim(), given.get("stop")
    key: list[Any] = [slice(None)] * dim
    key.append(slice(given.get("start"), None if stop is None or stop >= 1 << 62 else stop, given.get("step")))
    return x[tuple(key)]


def _item(x: Any, key: Any) -> Any:
    if isinstance(x, (list, tuple, dict, str, torch.Size)):
        return x[key]
    raise RuntimeError(f"TorchScript takes elements of lists, tuples and dictionaries, not of {type(x).__name__}")


def _set_item(x: Any, key: Any, value: Any) -> Any:
    x[key] = value
    return x


def _key(places: Any) -> tuple[Any, ...]:
    """The key of an index by tensors; None leaves a dimension as it is."""
    return tuple([slice(None) if place is None else place for place in places])


def _put(x: Any, places: Any, values: Any, accumulate: bool = False) -> Any:
    if accumulate:
        whole = torch.arange(x.numel()).reshape(x.shape)[_key(places)]
        x.view(-1).index_put_((whole,), values.expand(whole.shape), accumulate=True)
    else:
        x[_key(places)] = values
    return x


def _raise(message: Any, kind: Any = None) -> None:
    import builtins

    found = getattr(builtins, str(kind).removeprefix("builtins."), None) if str(kind).startswith("builtins.") else None
    if found is not None and isinstance(found, type) and issubclass(found, Exception):
        raise found(message)
    raise torch.jit.Error(f"The following operation failed in the TorchScript interpreter.\n{message}")


def _convolution(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any,
                 groups: int, *switches: Any) -> Any:
    return torch.convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)


#: Functions that make tensors -> how many arguments of their own they have at most, if not one.
_OWN = {"full": 2, "full_like": 2, "arange": 9, "eye": 2, "linspace": 3, "tril_indices": 3, "triu_indices": 3, "new_zeros": 2,
        "new_ones": 2, "new_empty": 2, "new_full": 3}


def _created(name: str) -> Callable[..., Any]:
    """A function that makes tensors: (its own arguments, dtype, layout, device, pinned)."""
    make, own = getattr(torch, name, None) or getattr(torch.Tensor, name), _OWN.get(name, 1)

    def call(*args: Any, dtype: Any = None, **where: Any) -> Any:
        if name == "arange":
            numbers = [a for a in args[:3] if a is not None]
            rest = args[len(numbers):]
            if len(args) == 5:  # (end, dtype, layout, device, pinned)
                numbers, rest = [args[0]], args[1:]
            elif len(args) == 6:
                numbers, rest = list(args[:2]), args[2:]
            return make(*numbers, dtype=_dtype(rest[0] if rest else dtype))
        code = args[own] if len(args) > own else dtype
        return make(*args[:own], **({} if code is None else {"dtype": _dtype(code)}))
    return call


def _with_dtype(name: str, position: int) -> Callable[..., Any]:
    """A function whose argument at a position is a dtype, by number."""
    of = getattr(torch, name)

    def call(*args: Any, dtype: Any = None) -> Any:
        dtype = args[position] if len(args) > position else dtype
        return of(*args[:position], **({} if dtype is None else {"dtype": _dtype(dtype)}))
    return call


def _resized(mode: str, n: int) -> Callable[..., Any]:
    """Interpolation of ``n`` dimensions: (image, size or None, [corners,] factors), or with one factor or None for each dimension."""
    def call(x: Any, size: Any, *rest: Any) -> Any:
        corners = rest[0] if mode != "nearest" else None
        factors = rest[1 if mode != "nearest" else 0:]
        factor = factors[0] if len(factors) == 1 and size is None else None
        return torch.nn.functional.interpolate(x, size, factor, mode, corners)
    return call


def _size(x: Any, dim: int | None = None) -> Any:
    return list(x.shape) if dim is None else x.shape[dim]


_TABLE: dict[str, Any] = {
    **{f"builtins.{f.__name__}": f for f in (range, bool, int, float, str, list)},
    **{f"aten.{name}": _numeric(name, plain) for name, plain in (
        ("add", operator.add), ("sub", operator.sub), ("mul", operator.mul), ("div", operator.truediv), ("floordiv", operator.floordiv),
        ("remainder", operator.mod), ("pow", operator.pow), ("eq", operator.eq), ("ne", operator.ne), ("lt", operator.lt),
        ("le", operator.le), ("gt", operator.gt), ("ge", operator.ge), ("neg", operator.neg), ("abs", abs), ("any", any), ("all", all),
        ("floor", lambda x: x // 1),
        ("ceil", lambda x: -(-x // 1)), ("sqrt", lambda x: x ** 0.5))},
    "aten.__not__": operator.not_, "aten.__is__": operator.is_, "aten.__isnot__": operator.is_not, "aten.__getitem__": _item,
    "aten.__contains__": lambda x, item: item in x, "aten.__and__": operator.and_, "aten.__or__": operator.or_,
    "aten.__xor__": operator.xor, "aten.__lshift__": operator.lshift, "aten.__rshift__": operator.rshift,
    "aten.index": lambda x, places: x[_key(places)], "aten.index_put_": _put, "aten.index_put": lambda x, *args: _put(x.clone(), *args),
    "aten.im2col": torch.nn.functional.unfold, "aten.col2im": torch.nn.functional.fold,
    "aten.__range_length": lambda low, high, step: len(range(low, high, step)),
    "aten.__derive_index": lambda index, start, step: start + index * step,
    "aten.len": len, "aten.append": lambda x, item: x.append(item) or x, "aten.extend": lambda x, items: x.extend(items),
    "aten.insert": lambda x, at, item: x.insert(at, item), "aten._set_item": _set_item, "aten.keys": lambda x: list(x.keys()),
    "aten.values": lambda x: list(x.values()), "aten.items": lambda x: list(x.items()), "aten.dict": dict, "aten.list": list,
    "aten.format": lambda text, *args: _formatted(text, args), "aten.str": str, "aten.size": _size, "aten.dim": lambda x: x.dim(),
    "aten.item": lambda x: x.item(), "aten.to": _to, "aten.slice": _slice, "aten.Int": int, "aten.Float": float, "aten.Bool": bool,
    "aten.IntImplicit": lambda x: x.item(), "aten.FloatImplicit": lambda x: x.item(), "aten.ScalarImplicit": lambda x: x.item(),
    "aten.tensor": lambda x, dtype=None, device=None, requires_grad=False: torch.tensor(x, dtype=_dtype(dtype)),  # type: ignore[operator]
    "aten.type_as": lambda x, other: x.to(other.dtype), "aten._convolution": _convolution, "aten.warn": lambda text, level=2: warn(text),
    **{f"aten.{name}": _created(name) for name in (
        "zeros", "ones", "empty", "rand", "randn", "full", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like",
        "randn_like", "arange", "eye", "linspace", "tril_indices", "triu_indices", "randperm", "new_zeros", "new_ones", "new_empty",
        "new_full")},
    **{f"aten.upsample_{mode}{n}d": _resized(mode, n) for mode, n in (
        ("nearest", 1), ("nearest", 2), ("nearest", 3), ("linear", 1), ("bilinear", 2), ("trilinear", 3), ("bicubic", 2))},
    **{f"aten.{name}": _with_dtype(name, at) for name, at in (("softmax", 2), ("log_softmax", 2), ("cumsum", 2), ("cumprod", 2))},
    "prim.RaiseException": _raise, "prim.NumToTensor": torch.tensor, "prim.dtype": _code, "prim.device": lambda x: x.device,
    "aten.device": torch.device, "prim.unchecked_unwrap_optional": lambda x: x,
    "prim.min": min, "prim.max": max, "prim.is_cuda": lambda x: False,
    "prim.is_nested": lambda x: False, "prim.requires_grad": lambda x: x.requires_grad, "prim.is_sparse": lambda x: False,
    "prim.is_quantized": lambda x: False, "aten.is_autocast_enabled": lambda: False, "aten.is_autocast_cpu_enabled": lambda: False,
    "aten.is_grad_enabled": torch.is_grad_enabled, "prim.layout": lambda x: 0, "prim.type": lambda device: device.type,
    "prim.TupleIndex": operator.getitem, "prim.data": lambda x: x.detach(), "prim.abs": abs,
}


def _formatted(text: str, args: tuple) -> str:
    """``{}`` replaced in order, and nothing else that ``str.format`` knows."""
    parts = text.split("{}")
    return parts[0] + "".join([str(a) + part for a, part in zip(args, parts[1:])])


def operation(name: str) -> Callable[..., Any]:
    """What an operator is called for.

    Raises:
        NotImplementedError, when it is called: it is not known.
    """
    found = _TABLE.get(name)
    if found is not None:
        return found  # type: ignore[no-any-return]
    own = name.rpartition(".")[2]
    room, _, inner = own.partition("_")
    if name.startswith("aten.") and room in ("linalg", "special", "fft"):
        f = getattr(getattr(torch, room), inner, None)
        if callable(f):
            return f  # type: ignore[no-any-return]
    if name.startswith("aten.") and own[:2] != "__":
        for place in (FUNCTIONS, toplevel, rootnames, recurrent_functions, torch.Tensor, torch.nn.functional):
            f = place.get(own) if isinstance(place, dict) else getattr(place, own, None)
            if callable(f):
                return f  # type: ignore[no-any-return]

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"the TorchScript operator {name} is not there")
    return missing
