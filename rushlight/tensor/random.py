"""Random tensors. Numbers come from the host stream, at once, and equal PyTorch's for the same seed and calls."""
from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from ctypes import memmove
from typing import Any

import numpy as np

from ..autograd.apply import Restrided, value_of
from ..autograd.handle import Handle, make
from ..autograd.titles import entitle_written, now, titled
from ..autograd.writing import at_rest, written_over
from ..compile import dtypes as dt
from ..compile.cpu.alloc import wrap
from ..compile.dtypes import DType
from ..ops.pointwise import broadcast_shapes
from ..ops.promotion import default_dtype
from ..record.draws import address_of, integer_range
from ..record.flush import ready
from ..record.meta import CPU, meta_of
from ..record.op import backward_name
from ..record.random import Mt19937Stream
from ..record.value import Value, allocate, looks, new_value
from .creation import beside, check_device, finish, from_owned, no_memory
from .generator import Generator, stream_of
from .layouts import laid_out
from .registry import CONVENIENCES, METHODS, assign, public
from .size import size_argument, size_given

_NATIVE = (dt.float32, dt.float64)  # what is drawn straight into a tensor's memory


def _fresh(shape: tuple[int, ...], d: DType) -> Value:
    """A value with memory that is to be filled."""
    v = new_value(meta_of(shape, d))
    if shape and min(shape) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    v.buffer = allocate(v.meta.nbytes or 1)
    return v


def _uniforms(stream: Mt19937Stream, shape: tuple[int, ...], low: float, high: float, d: DType) -> Any:
    if d in _NATIVE:
        v = _fresh(shape, d)
        stream.fill_uniform(v.buffer.ptr, v.meta.numel, low, high, d.numpy)  # type: ignore[union-attr]
        return make(v)
    return _made(_filled(lambda n, t: stream.uniform(n, low, high, t), shape, d))


def _normals(stream: Mt19937Stream, shape: tuple[int, ...], mean: Any, std: float, d: DType, contiguous: bool = True) -> Any:
    if d in _NATIVE:
        v = _fresh(shape, d)
        stream.fill_normal(v.buffer.ptr, v.meta.numel, float(mean), std, d.numpy, contiguous)  # type: ignore[union-attr]
        return make(v)
    return _made(_normal_array(stream, shape, mean, std, d, contiguous))


def _normal_array(stream: Mt19937Stream, shape: tuple[int, ...], mean: Any, std: float, d: DType, contiguous: bool = True) -> np.ndarray:
    if d.kind == "c":  # the variance is shared by the two parts
        return _filled(lambda n, t: stream.normal(n, 0.0, std / math.sqrt(2), t, contiguous=contiguous), shape, d) + d.numpy.type(mean)
    return _filled(lambda n, t: stream.normal(n, float(mean), std, t, contiguous=contiguous), shape, d)


def _filled(draw: Callable[[int, Any], np.ndarray], shape: tuple[int, ...], d: DType) -> np.ndarray:
    """An array drawn flat; a complex one gets its real and imaginary parts in turn."""
    if shape and min(shape) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    n = math.prod(shape)
    if d.kind == "c":
        return np.ascontiguousarray(draw(2 * n, d.to_real().numpy)).view(d.numpy).reshape(shape)
    return draw(n, d.numpy).reshape(shape)


def _made(array: np.ndarray, requires_grad: bool = False) -> Any:
    return finish(from_owned(array), requires_grad)


# -- new tensors --------------------------------------------------------------------------------------------------


@public(method=False, recorded=False)
def rand(*shape: Any, size: Any = None, generator: Generator | None = None, names: Any = None, dtype: DType | None = None,
         layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Uniform numbers in [0, 1) of the given size."""
    wanted = size_given("rand", shape, size)
    if check_device(device) is not CPU:
        return no_memory(wanted, dtype, requires_grad)
    stream = stream_of(generator)
    return finish(_uniforms(stream, wanted, 0.0, 1.0, dtype or default_dtype()), requires_grad)


@public(method=False, recorded=False)
def randn(*shape: Any, size: Any = None, generator: Generator | None = None, names: Any = None, dtype: DType | None = None,
          layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Standard normal numbers of the given size."""
    wanted = size_given("randn", shape, size)
    if check_device(device) is not CPU:
        return no_memory(wanted, dtype, requires_grad)
    return finish(_normals(stream_of(generator), wanted, 0.0, 1.0, dtype or default_dtype()), requires_grad)


@public(method=False, recorded=False)
def randint(*args: Any, low: int | None = None, high: int | None = None, size: Any = None, generator: Generator | None = None,
            dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
            pin_memory: bool = False) -> Any:
    """``randint(low=0, high, size)``: integers in [low, high).

    Raises:
        RuntimeError: an empty range, or bounds that the dtype cannot hold.
    """
    given = list(args)
    if size is None:
        if not given:
            raise TypeError("randint() missing 1 required positional argument: 'size'")
        size = given.pop()
    if len(given) == 2:
        low, high = given
    elif given and high is None:
        high = given[0]
    elif given:
        low = given[0]
    if high is None:
        raise TypeError("randint() missing 1 required positional argument: 'high'")
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"randint(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    for bound in (low, high):
        if isinstance(bound, float):
            raise TypeError("randint(): arguments 'low' and 'high' must be int, not float")
    low, high, d = int(low or 0), int(high), dtype or dt.int64
    stream, wanted = stream_of(generator), size_argument((size,))
    if check_device(device) is not CPU:
        return no_memory(wanted, d, requires_grad)
    if d is dt.int64:
        low, high = integer_range(low, high, d.numpy)
        v = _fresh(wanted, d)
        stream.fill_integers(v.buffer.ptr, v.meta.numel, low, high)  # type: ignore[union-attr]
        return finish(make(v), requires_grad)
    return _made(_filled(lambda n, t: stream.randint(low, high, n, t), wanted, d), requires_grad)


@public(method=False, recorded=False)
def randperm(n: int, *, generator: Generator | None = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A random permutation of 0 ... n - 1."""
    if check_device(device) is not CPU:
        return no_memory((operator.index(n),), dtype or dt.int64, requires_grad)
    stream = stream_of(generator)
    if dtype is None or dtype is dt.int64:
        v = _fresh((operator.index(n),), dt.int64)
        stream.fill_permutation(v.buffer.ptr, n)  # type: ignore[union-attr]
        return finish(make(v), requires_grad)
    return _made(stream.randperm(n).astype(dtype.numpy), requires_grad)


@public(method=False, out=False, recorded=False)
def rand_like(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
              memory_format: Any = None, generator: Generator | None = None) -> Any:
    """``rand`` with the shape and dtype of ``input``."""
    return laid_out(input, memory_format, requires_grad, lambda shape: rand(
        shape, dtype=dtype or input.dtype, device=beside(input, device), generator=generator))


@public(method=False, out=False, recorded=False)
def randn_like(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
               memory_format: Any = None, generator: Generator | None = None) -> Any:
    """``randn`` with the shape and dtype of ``input``."""
    if check_device(beside(input, device)) is not CPU:
        return laid_out(input, memory_format, requires_grad, lambda shape: no_memory(shape, dtype or input.dtype))
    whole = tuple(input.shape)  # where a vector is asked for instead, it is to lie in another order, and is drawn as in PyTorch
    return laid_out(input, memory_format, requires_grad, lambda shape: _normals(
        stream_of(generator), shape, 0.0, 1.0, dtype or input.dtype, contiguous=shape == whole))


@public(method=False, out=False, recorded=False)
def randint_like(input: Any, *args: Any, low: int | None = None, high: int | None = None, dtype: DType | None = None,
                 layout: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None,
                 generator: Generator | None = None) -> Any:
    """``randint_like(input, low=0, high)``: ``randint`` with the shape and dtype of ``input``."""
    return laid_out(input, memory_format, requires_grad, lambda shape: randint(
        *args, shape, low=low, high=high, dtype=dtype or input.dtype, device=beside(input, device), generator=generator))


@public(method=False, recorded=False)
@titled(lambda mean=0.0, std=1.0, *_, **__:
        f"NormalBackward{1 if not isinstance(std, Handle) else 2 if not isinstance(mean, Handle) else 3}")
def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: DType | None = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Normal numbers with the given means and standard deviations: tensors, or two numbers and a size.

    Raises:
        RuntimeError: a negative standard deviation.
    """
    stream = stream_of(generator)
    if not isinstance(mean, Handle) and not isinstance(std, Handle):
        if size is None:
            raise TypeError("normal() received an invalid combination of arguments: two numbers need a size")
        if check_device(device) is not CPU:
            return no_memory(size_argument((size,)), dtype, requires_grad)
        return finish(_normals(stream, size_argument((() if size is None else size,)), mean, std, dtype or default_dtype()),
                      requires_grad)
    like = mean if isinstance(mean, Handle) else std
    if like._value.meta.device is not CPU:
        return no_memory(broadcast_shapes([t.shape for t in (mean, std) if isinstance(t, Handle)], "normal"), like.dtype)
    if isinstance(std, Handle) and std.dtype.kind == "c":
        raise RuntimeError("normal expects standard deviation to be non-complex")
    if isinstance(std, Handle) and std.numel() and bool((std < 0).any()):  # type: ignore[attr-defined, operator]
        raise RuntimeError("normal expects all elements of std >= 0.0")
    if not isinstance(std, Handle):
        return _normals(stream, tuple(like.shape), 0.0, std, like.dtype) + mean
    shape = like.shape
    if isinstance(mean, Handle):
        shape = broadcast_shapes([mean.shape, std.shape], "normal")
    return _normals(stream, tuple(shape), 0.0, 1.0, like.dtype) * std.detach() + mean  # type: ignore[attr-defined]


# -- samples of given probabilities -------------------------------------------------------------------------------


def _instead(title: str) -> Any:
    """``(input, drawn)`` -> the numbers drawn, in the graph of the probabilities, which get the gradient zero."""
    return Restrided.overwrite.named(title)


def _content(input: Any) -> Any:
    """Memory with the content of a tensor, row by row; it begins at ``ptr``."""
    v = value_of(input)
    if v.origin is not None:  # a view
        return wrap(np.ascontiguousarray(input.detach()._array()))
    looks.count += 1
    return ready(v)


@public(method=False, recorded=False)
def bernoulli(input: Any, p: float | None = None, *, generator: Generator | None = None) -> Any:
    """Ones with the probabilities in ``input`` (or all with probability ``p``), else zeros, in the dtype of ``input``.

    Raises:
        RuntimeError: a probability outside [0, 1].
    """
    if not isinstance(input, Handle):
        raise TypeError(f"bernoulli(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    stream, d, shape = stream_of(generator), input.dtype, tuple(input.shape)
    if input._value.meta.device is not CPU:  # type: ignore[attr-defined]
        return no_memory(shape, d)
    if p is None and d in _NATIVE:
        v, chances = _fresh(shape, d), _content(input)
        stream.fill_trials("bernoulli", v.buffer.ptr, v.meta.numel, chances.ptr, d.numpy)  # type: ignore[union-attr]
        drawn = make(v)
    else:
        trials = stream.bernoulli(input.numel(), input.detach()._array() if p is None else float(p))
        drawn = _made(trials.reshape(shape).astype(d.numpy))
    return drawn if input._edge is None else _instead("BernoulliBackward0" if p is None else "BernoulliBackward2")(input, drawn)


METHODS["bernoulli"] = bernoulli


@public(method=True, recorded=False)
def multinomial(input: Any, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Any:
    """``num_samples`` category numbers drawn by the weights in each row of ``input``."""
    stream, meta = stream_of(generator), value_of(input).meta
    if meta.device is not CPU:
        return no_memory((*meta.shape[:-1], num_samples), dt.int64)
    if num_samples == 1 and meta.dtype in _NATIVE and len(meta.shape) in (1, 2) and meta.numel:
        v, weights = _fresh((*meta.shape[:-1], 1), dt.int64), _content(input)
        stream.race(v.buffer.ptr, v.meta.numel, weights.ptr, meta.shape[-1], meta.dtype.numpy)  # type: ignore[union-attr]
        return make(v)
    return _made(stream.multinomial(np.ascontiguousarray(input._array()), num_samples, replacement))


@public(method=False)
def poisson(input: Any, generator: Generator | None = None) -> Any:
    """Poisson numbers with the rates in ``input``.

    Raises:
        RuntimeError: a rate that is negative or NaN.
    """
    if value_of(input).meta.device is not CPU:
        return no_memory(input.shape, input.dtype)
    made = _made(stream_of(generator).poissons(input.detach()._array()).astype(input.dtype.numpy))
    return made if input._edge is None else _instead("PoissonBackward0")(input, made)


@public(method=False, out=False)
def binomial(count: Any, prob: Any, generator: Generator | None = None) -> Any:
    """How many of ``count`` trials succeed with probability ``prob``."""
    stream = stream_of(generator)
    trials, chances = np.broadcast_arrays(count.detach()._array(), prob.detach()._array())
    drawn = [int((stream.uniform(int(n), dtype=np.float64) < p).sum()) for n, p in
             zip(trials.reshape(-1).tolist(), chances.reshape(-1).tolist())]
    return _made(np.array(drawn, np.float64).reshape(trials.shape).astype(count.dtype.numpy))


# -- in place -----------------------------------------------------------------------------------------------------


def _recorded(self: Any, drawn: Any, name: str, overload: int = 0) -> Any:
    begun = now()
    assign(self, drawn, name)
    entitle_written(self, backward_name(name, overload), begun)
    return self


def _outer_first(self: Any) -> list[int] | None:
    """The dimensions of a tensor in the order in which its elements lie in memory, the largest step first, which is the order in which
    PyTorch draws them. None for the usual order."""
    if self.is_contiguous():
        return None
    steps = self.stride()
    return sorted(range(len(steps)), key=lambda k: -steps[k])


def _in_place(drawn: Any, order: list[int] | None) -> Any:
    """What was drawn for the dimensions in that order, with the dimensions in theirs."""
    return drawn if order is None else drawn.permute([order.index(k) for k in range(len(order))])


def _write(self: Any, array: np.ndarray, name: str, overload: int = 0) -> Any:
    """``array``, of the dtype of ``self``, becomes its content."""
    memory = at_rest(self)
    if memory is None:
        order, shape = _outer_first(self), tuple(self.shape)
        drawn = _made(array.reshape(shape if order is None else [shape[k] for k in order]))
        return _recorded(self, _in_place(drawn, order), name, overload)
    memmove(memory.ptr, address_of(array), array.nbytes)
    return written_over(self)


def _over(self: Any, fill: Callable[..., None], name: str, *numbers: float) -> Any:
    """``fill(address, n, *numbers, dtype)`` makes the content of ``self``, of float32 or float64."""
    d = self.dtype
    memory = at_rest(self)
    if memory is None:
        order, shape = _outer_first(self), tuple(self.shape)
        v = _fresh(shape if order is None else tuple(shape[k] for k in order), d)
        fill(v.buffer.ptr, v.meta.numel, *numbers, d.numpy)  # type: ignore[union-attr]
        return _recorded(self, _in_place(make(v), order), name)
    fill(memory.ptr, self._value.meta.numel, *numbers, d.numpy)
    return written_over(self)


def _uniform(self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None, **bounds: float) -> Any:
    """Fill with uniform numbers in [from, to)."""
    low, high, stream = float(bounds.pop("from", from_)), float(to), stream_of(generator)
    if self.dtype in _NATIVE:
        return _over(self, stream.fill_uniform, "uniform_", low, high)
    return _write(self, _filled(lambda n, t: stream.uniform(n, low, high, t), tuple(self.shape), self.dtype), "uniform_")


def _normal(self: Any, mean: Any = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Any:
    """Fill with normal numbers."""
    std, stream, contiguous = float(std), stream_of(generator), self.is_contiguous()
    if self.dtype in _NATIVE:
        return _over(self, functools.partial(stream.fill_normal, contiguous=contiguous), "normal_", float(mean), std)
    return _write(self, _normal_array(stream, tuple(self.shape), mean, std, self.dtype, contiguous), "normal_")


def _random(self: Any, from_: int = 0, to: int | None = None, *, generator: Generator | None = None, **bounds: int) -> Any:
    """Fill with integers: in [from, to), in [0, to) if given one number, else over the range of the dtype."""
    stream, n, t = stream_of(generator), self.numel(), self.dtype.numpy
    start = bounds.pop("from", None)
    low = from_ if start is None else start
    if to is None and start is None and low == 0:
        return _write(self, stream.random(n, t), "random_", 2)
    overload = int(to is None and start is None)
    if overload:
        low, to = 0, low
    if to is None:
        if low == -(1 << 63):
            return _write(self, stream.random_from_lowest(n), "random_")
        to = (1 << 63 if self.dtype.kind == "f" else 2 if self.dtype.kind == "b" else int(np.iinfo(t).max) + 1)
    return _write(self, stream.randint(low, to, n, t), "random_", overload)


def _bernoulli(self: Any, p: Any = 0.5, *, generator: Generator | None = None) -> Any:
    """Fill with ones of probability ``p`` (a number or a tensor), else zeros."""
    chances = p
    if isinstance(p, Handle):
        order = _outer_first(self)
        chances = np.broadcast_to(p.detach()._array(), tuple(self.shape))  # type: ignore[attr-defined]
        chances = np.ascontiguousarray(chances if order is None else chances.transpose(order))
    return _write(self, stream_of(generator).bernoulli(self.numel(), chances).astype(self.dtype.numpy), "bernoulli_",
                  1 if isinstance(p, Handle) else 2)


def _drawn(name: str, first: float, second: float | None = None, names: tuple[str, ...] = ()) -> Any:
    """``self.name_(first, second)`` for the distributions with one or two numbers."""
    def call(self: Any, a: float = first, b: float | None = second, *, generator: Generator | None = None, **named: float) -> Any:
        for key, value in named.items():
            if key not in names:
                raise TypeError(f"{name}_() got an unexpected keyword argument '{key}'")
            a, b = (value, b) if key == names[0] else (a, value)
        stream = stream_of(generator)
        numbers = (float(a),) if second is None else (float(a), float(b))  # type: ignore[arg-type]
        fill = getattr(stream, "fill_" + name, None)
        if fill is not None and self.dtype in _NATIVE:
            return _over(self, fill, name + "_", *numbers)
        return _write(self, getattr(stream, name)(self.numel(), *numbers, dtype=self.dtype.numpy), name + "_")
    call.__name__ = name + "_"
    call.__doc__ = f"Fill with numbers of the {name} distribution."
    return call


def _publish(name: str, fill: Any) -> None:
    @functools.wraps(fill)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._value.meta.device is not CPU:  # there is nothing to fill
            return assign(self, no_memory(self.shape, self.dtype), name)
        return fill(self, *args, **kwargs)
    METHODS[name] = call
    CONVENIENCES.add(name)


for _name, _fill in (
        ("uniform_", _uniform), ("normal_", _normal), ("random_", _random), ("bernoulli_", _bernoulli),
        ("exponential_", _drawn("exponential", 1.0, names=("lambd",))), ("geometric_", _drawn("geometric", 0.5, names=("p",))),
        ("cauchy_", _drawn("cauchy", 0.0, 1.0, ("median", "sigma"))), ("log_normal_", _drawn("log_normal", 1.0, 2.0, ("mean", "std")))):
    _publish(_name, _fill)
METHODS["multinomial"] = multinomial
