"""Random tensors. Numbers come from the host stream, at once, and equal PyTorch's for the same seed and calls."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd.apply import Restrided
from ..autograd.handle import Handle
from ..autograd.titles import entitle_written, now, titled
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops.promotion import default_dtype
from ..record.meta import Device
from ..record.op import backward_name
from ..record.random import Mt19937Stream, default_stream
from .creation import check_device, finish, from_array, from_owned
from .registry import METHODS, assign, public
from .shape import size_argument

__all__ = ["Generator", "default_generator", "manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state"]


class Generator:
    """A seeded stream of random numbers, to be passed as ``generator=``.

    Example:
        >>> g = Generator().manual_seed(0)
        >>> rand(2, generator=g)
        tensor([0.4963, 0.7682])
    """

    def __init__(self, device: Any = "cpu") -> None:
        check_device(device)
        self.device = Device("cpu")
        self._stream = Mt19937Stream()

    def manual_seed(self, seed: int) -> Generator:
        """Start over from ``seed``; returns the generator."""
        self._stream.manual_seed(seed)
        return self

    def seed(self) -> int:
        """Start over from a seed that the operating system makes up; returns it."""
        return self._stream.seed()

    def initial_seed(self) -> int:
        """The seed that the stream was last started from."""
        return self._stream.initial_seed()

    def get_state(self) -> Any:
        """The state as a vector of bytes, laid out as PyTorch's."""
        return from_array(self._stream.get_state())

    def set_state(self, new_state: Any) -> Generator:
        """Continue from a state that ``get_state`` gave."""
        if not isinstance(new_state, Handle):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        self._stream.set_state(new_state.detach()._array())  # type: ignore[attr-defined]
        return self

    def clone_state(self) -> Generator:
        """Another generator that continues with the same numbers."""
        other = Generator()
        other._stream = self._stream.clone()
        return other

    def __reduce__(self) -> tuple:
        return _generator_of, (self._stream.get_state(),)


def _generator_of(state: np.ndarray) -> Generator:
    made = Generator()
    made._stream.set_state(state)
    return made


default_generator = Generator()
default_generator._stream = default_stream


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; returns it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """The state of the default generator as a vector of bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """Continue the default generator from a state that ``get_rng_state`` gave."""
    default_generator.set_state(new_state)


def _stream(generator: Generator | None) -> Mt19937Stream:
    if generator is None:
        return default_stream
    if not isinstance(generator, Generator):
        raise TypeError(f"argument 'generator' must be a torch.Generator, not {type(generator).__name__}")
    return generator._stream


def _filled(draw: Callable[[int, Any], np.ndarray], shape: tuple[int, ...], d: DType) -> np.ndarray:
    """An array drawn flat; a complex one gets its real and imaginary parts in turn."""
    if any(n < 0 for n in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    n = math.prod(shape)
    if d.kind == "c":
        return np.ascontiguousarray(draw(2 * n, d.to_real().numpy)).view(d.numpy).reshape(shape)
    return draw(n, d.numpy).reshape(shape)


def _made(array: np.ndarray, requires_grad: bool = False) -> Any:
    return finish(from_owned(array), requires_grad)


def _normals(stream: Mt19937Stream, shape: tuple[int, ...], mean: Any, std: float, d: DType) -> np.ndarray:
    if d.kind == "c":  # the variance is shared by the two parts
        return _filled(lambda n, t: stream.normal(n, 0.0, std / math.sqrt(2), t), shape, d) + d.numpy.type(mean)
    return _filled(lambda n, t: stream.normal(n, float(mean), std, t), shape, d)


# -- new tensors --------------------------------------------------------------------------------------------------


@public(method=False, recorded=False)
def rand(*shape: Any, size: Any = None, generator: Generator | None = None, names: Any = None, dtype: DType | None = None,
         layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Uniform numbers in [0, 1) of the given size."""
    check_device(device)
    stream = _stream(generator)
    wanted = size_argument(shape if size is None else (size,))
    return _made(_filled(lambda n, t: stream.uniform(n, dtype=t), wanted, dtype or default_dtype()), requires_grad)


@public(method=False, recorded=False)
def randn(*shape: Any, size: Any = None, generator: Generator | None = None, names: Any = None, dtype: DType | None = None,
          layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Standard normal numbers of the given size."""
    check_device(device)
    wanted = size_argument(shape if size is None else (size,))
    return _made(_normals(_stream(generator), wanted, 0.0, 1.0, dtype or default_dtype()), requires_grad)


@public(method=False, recorded=False)
def randint(*args: Any, low: int | None = None, high: int | None = None, size: Any = None, generator: Generator | None = None,
            dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
            pin_memory: bool = False) -> Any:
    """``randint(low=0, high, size)``: integers in [low, high).

    Raises:
        RuntimeError: an empty range, or bounds that the dtype cannot hold.
    """
    check_device(device)
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
    low, high = int(low or 0), int(high)
    stream = _stream(generator)
    return _made(_filled(lambda n, t: stream.randint(low, high, n, t), size_argument((size,)), dtype or dt.int64), requires_grad)


@public(method=False, recorded=False)
def randperm(n: int, *, generator: Generator | None = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A random permutation of 0 ... n - 1."""
    check_device(device)
    order = _stream(generator).randperm(n)
    return _made(order if dtype is None else order.astype(dtype.numpy), requires_grad)


@public(method=False, out=False, recorded=False)
def rand_like(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
              memory_format: Any = None, generator: Generator | None = None) -> Any:
    """``rand`` with the shape and dtype of ``input``."""
    return rand(tuple(input.shape), dtype=dtype or input.dtype, device=device, requires_grad=requires_grad, generator=generator)


@public(method=False, out=False, recorded=False)
def randn_like(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
               memory_format: Any = None, generator: Generator | None = None) -> Any:
    """``randn`` with the shape and dtype of ``input``."""
    return randn(tuple(input.shape), dtype=dtype or input.dtype, device=device, requires_grad=requires_grad, generator=generator)


@public(method=False, out=False, recorded=False)
def randint_like(input: Any, *args: Any, low: int | None = None, high: int | None = None, dtype: DType | None = None,
                 layout: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None,
                 generator: Generator | None = None) -> Any:
    """``randint_like(input, low=0, high)``: ``randint`` with the shape and dtype of ``input``."""
    return randint(*args, tuple(input.shape), low=low, high=high, dtype=dtype or input.dtype, device=device,
                   requires_grad=requires_grad, generator=generator)


@public(method=False, recorded=False)
@titled(lambda mean=0.0, std=1.0, *_, **__:
        f"NormalBackward{1 if not isinstance(std, Handle) else 2 if not isinstance(mean, Handle) else 3}")
def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: DType | None = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Normal numbers with the given means and standard deviations: tensors, or two numbers and a size.

    Raises:
        RuntimeError: a negative standard deviation.
    """
    stream = _stream(generator)
    if not isinstance(mean, Handle) and not isinstance(std, Handle):
        check_device(device)
        return _made(_normals(stream, size_argument((() if size is None else size,)), mean, std, dtype or default_dtype()),
                     requires_grad)
    like = mean if isinstance(mean, Handle) else std
    if isinstance(std, Handle) and std.dtype.kind == "c":
        raise RuntimeError("normal expects standard deviation to be non-complex")
    if isinstance(std, Handle) and std.numel() and bool((std < 0).any()):  # type: ignore[attr-defined, operator]
        raise RuntimeError("normal expects all elements of std >= 0.0")
    if not isinstance(std, Handle):
        return _made(_normals(stream, tuple(like.shape), 0.0, std, like.dtype)) + mean
    shape = like.shape
    if isinstance(mean, Handle):
        from ..ops.pointwise import broadcast_shapes

        shape = broadcast_shapes([mean.shape, std.shape], "normal")
    return _made(_normals(stream, tuple(shape), 0.0, 1.0, like.dtype)) * std.detach() + mean  # type: ignore[attr-defined]


# -- samples of given probabilities -------------------------------------------------------------------------------


def _instead(title: str) -> Any:
    """``(input, drawn)`` -> the numbers drawn, in the graph of the probabilities, which get the gradient zero."""
    return Restrided.overwrite.named(title)


@public(method=False)
def bernoulli(input: Any, p: float | None = None, *, generator: Generator | None = None) -> Any:
    """Ones with the probabilities in ``input`` (or all with probability ``p``), else zeros, in the dtype of ``input``.

    Raises:
        RuntimeError: a probability outside [0, 1].
    """
    chances: Any = input.detach()._array() if p is None else float(p)
    trials = _stream(generator).bernoulli(input.numel(), chances)
    drawn = _made(trials.reshape(tuple(input.shape)).astype(input.dtype.numpy))
    return drawn if input._edge is None else _instead("BernoulliBackward0" if p is None else "BernoulliBackward2")(input, drawn)


METHODS["bernoulli"] = bernoulli


@public(method=True)
def multinomial(input: Any, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Any:
    """``num_samples`` category numbers drawn by the weights in each row of ``input``."""
    return _made(_stream(generator).multinomial(np.ascontiguousarray(input._array()), num_samples, replacement))


def _poisson(stream: Mt19937Stream, rate: float) -> float:
    """One draw: products of uniforms for small rates, transformed rejection (Hörmann 1993) for larger ones."""
    if rate >= 10:
        slam, loglam = math.sqrt(rate), math.log(rate)
        b = 0.931 + 2.53 * slam
        a = -0.059 + 0.02483 * b
        inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
        vr = 0.9277 - 3.6224 / (b - 2)
        while True:
            u = float(stream.uniform(1, dtype=np.float64)[0]) - 0.5
            v = float(stream.uniform(1, dtype=np.float64)[0])
            us = 0.5 - abs(u)
            k = math.floor((2 * a / us + b) * u + rate + 0.43)
            if us >= 0.07 and v <= vr:
                return k
            if k < 0 or us < 0.013 and v > us:
                continue
            if math.log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b) <= -rate + k * loglam - math.lgamma(k + 1):
                return k
    if rate == 0:
        return 0
    limit, count, product = math.exp(-rate), 0, 1.0
    while True:
        product *= float(stream.uniform(1, dtype=np.float64)[0])
        if product <= limit:
            return count
        count += 1


@public(method=False)
def poisson(input: Any, generator: Generator | None = None) -> Any:
    """Poisson numbers with the rates in ``input``.

    Raises:
        RuntimeError: a negative rate.
    """
    stream = _stream(generator)
    rates = input.detach()._array().astype(np.float64)
    if (rates < 0).any():
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    drawn = np.array([_poisson(stream, r) for r in rates.reshape(-1).tolist()], np.float64)
    made = _made(drawn.reshape(rates.shape).astype(input.dtype.numpy))
    return made if input._edge is None else _instead("PoissonBackward0")(input, made)


@public(method=False, out=False)
def binomial(count: Any, prob: Any, generator: Generator | None = None) -> Any:
    """How many of ``count`` trials succeed with probability ``prob``."""
    stream = _stream(generator)
    trials, chances = np.broadcast_arrays(count.detach()._array(), prob.detach()._array())
    drawn = [int((stream.uniform(int(n), dtype=np.float64) < p).sum()) for n, p in
             zip(trials.reshape(-1).tolist(), chances.reshape(-1).tolist())]
    return _made(np.array(drawn, np.float64).reshape(trials.shape).astype(count.dtype.numpy))


# -- in place -----------------------------------------------------------------------------------------------------


def _write(self: Any, array: np.ndarray, name: str, overload: int = 0) -> Any:
    begun = now()
    assign(self, _made(array.reshape(tuple(self.shape))), name)
    entitle_written(self, backward_name(name, overload), begun)
    return self


def _uniform(self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None, **bounds: float) -> Any:
    """Fill with uniform numbers in [from, to)."""
    low, stream = float(bounds.pop("from", from_)), _stream(generator)
    return _write(self, _filled(lambda n, t: stream.uniform(n, low, float(to), t), tuple(self.shape), self.dtype), "uniform_")


def _normal(self: Any, mean: Any = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Any:
    """Fill with normal numbers."""
    return _write(self, _normals(_stream(generator), tuple(self.shape), mean, float(std), self.dtype), "normal_")


def _random(self: Any, from_: int = 0, to: int | None = None, *, generator: Generator | None = None, **bounds: int) -> Any:
    """Fill with integers: in [from, to), in [0, to) if given one number, else over the range of the dtype."""
    stream, n, t = _stream(generator), self.numel(), self.dtype.numpy
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
        chances = np.ascontiguousarray(np.broadcast_to(p.detach()._array(), tuple(self.shape)))  # type: ignore[attr-defined]
    return _write(self, _stream(generator).bernoulli(self.numel(), chances).astype(self.dtype.numpy), "bernoulli_",
                  1 if isinstance(p, Handle) else 2)


def _drawn(name: str, first: float, second: float | None = None, names: tuple[str, ...] = ()) -> Any:
    """``self.name_(first, second)`` for the distributions with one or two numbers."""
    def call(self: Any, a: float = first, b: float | None = second, *, generator: Generator | None = None, **named: float) -> Any:
        for key, value in named.items():
            if key not in names:
                raise TypeError(f"{name}_() got an unexpected keyword argument '{key}'")
            a, b = (value, b) if key == names[0] else (a, value)
        draw = getattr(_stream(generator), name)
        numbers = (float(a),) if second is None else (float(a), float(b))  # type: ignore[arg-type]
        return _write(self, draw(self.numel(), *numbers, dtype=self.dtype.numpy), name + "_")
    call.__name__ = name + "_"
    call.__doc__ = f"Fill with numbers of the {name} distribution."
    return call


METHODS["uniform_"], METHODS["normal_"], METHODS["random_"], METHODS["bernoulli_"] = _uniform, _normal, _random, _bernoulli
METHODS["exponential_"] = _drawn("exponential", 1.0, names=("lambd",))
METHODS["geometric_"] = _drawn("geometric", 0.5, names=("p",))
METHODS["cauchy_"] = _drawn("cauchy", 0.0, 1.0, ("median", "sigma"))
METHODS["log_normal_"] = _drawn("log_normal", 1.0, 2.0, ("mean", "std"))
METHODS["multinomial"] = multinomial
