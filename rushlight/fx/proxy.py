"""Proxies: what stands for a value while a function is traced, and writes down what is done with it."""
from __future__ import annotations

import dis
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

from ..autograd.overriding import meet
from ..overrides import is_tensor_method_or_property
from ..tensor import Size, Tensor
from ..tensor.types import DType
from .graph import Graph
from .node import Argument, Node, Target, qualified_name

__all__ = ["Attribute", "GraphAppendingTracer", "Proxy", "TraceError", "TracerBase"]


class TraceError(ValueError):
    """The function does something with a proxy that a graph cannot hold."""


class TracerBase:
    """Makes nodes of what is done with proxies."""

    graph: Graph
    record_stack_traces = False

    def create_node(self, kind: str, target: Target, args: tuple, kwargs: dict[str, Any], name: str | None = None,
                    type_expr: Any = None) -> Node:
        """A node of the graph that is being made."""
        return self.graph.create_node(kind, target, args, kwargs, name, type_expr)

    def proxy(self, node: Node) -> Proxy:
        """What stands for the result of a node."""
        return Proxy(node, self)

    def create_proxy(self, kind: str, target: Target, args: tuple, kwargs: dict[str, Any], name: str | None = None,
                     type_expr: Any = None, proxy_factory_fn: Callable[[Node], Proxy] | None = None) -> Proxy:
        """A node with what it uses, and the proxy of its result."""
        own_args, own_kwargs = self.create_arg(args), self.create_arg(kwargs)
        node = self.create_node(kind, target, own_args, own_kwargs, name, type_expr)
        return self.proxy(node) if proxy_factory_fn is None else proxy_factory_fn(node)

    def create_arg(self, a: Any) -> Argument:
        """An argument as a node may have it: nodes for proxies.

        Raises:
            NotImplementedError: neither a constant nor made of such.
        """
        if isinstance(a, Proxy):
            return a.node
        if hasattr(a, "__fx_create_arg__"):
            return a.__fx_create_arg__(self)
        if isinstance(a, tuple):
            made = [self.create_arg(x) for x in a]
            return type(a)(*made) if hasattr(a, "_fields") else Size(made) if type(a) is Size and not any(
                isinstance(x, Node) for x in made) else tuple(made)
        if isinstance(a, list):
            return [self.create_arg(x) for x in a]
        if isinstance(a, dict):
            for k in a:
                if isinstance(k, Proxy):
                    raise RuntimeError(f"Keys for dictionaries used as an argument cannot contain a Node. Got key: {k}")
            return {k: self.create_arg(v) for k, v in a.items()}
        if isinstance(a, range):
            return range(self.create_arg(a.start), self.create_arg(a.stop), self.create_arg(a.step))
        if isinstance(a, slice):
            return slice(self.create_arg(a.start), self.create_arg(a.stop), self.create_arg(a.step))
        if a is None or a is ... or isinstance(a, (int, float, complex, str, DType, type)) or type(a).__name__ in (
                "device", "layout", "memory_format", "Generator") or callable(a):
            return a
        raise NotImplementedError(f"argument of type: {type(a)}")

    def to_bool(self, obj: Proxy) -> bool:
        """Asked where a proxy decides what happens next.

        Raises:
            TraceError: always; a tracer that knows better says otherwise.
        """
        raise TraceError("symbolically traced variables cannot be used as inputs to control flow")

    def iter(self, obj: Proxy) -> Iterator[Proxy]:
        """Asked where a proxy is iterated: known are only assignments to several names.

        Raises:
            TraceError: it is not known how many there are.
        """
        frame: Any = inspect.currentframe()
        frame = frame.f_back.f_back
        at = next((i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti), None)
        if at is not None and at.opname == "UNPACK_SEQUENCE":
            return (operator.getitem(obj, k) for k in range(int(at.argval)))
        raise TraceError("Proxy object cannot be iterated. This can be attempted when the Proxy is used in a loop or as a *args or "
                         "**kwargs function argument. See the torch.fx docs on pytorch.org for a more detailed explanation of "
                         "what types of control flow can be traced, and check out the Proxy docstring for help troubleshooting Proxy "
                         "iteration errors")

    def keys(self, obj: Proxy) -> Any:
        """Asked where a proxy is used as ``**kwargs``."""
        return Attribute(obj, "keys")()


class GraphAppendingTracer(TracerBase):
    """Adds to a graph what is done with proxies of its nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph


class Proxy:
    """Stands for the result of a node: operators, methods and public functions of it become nodes.

    Example:
        >>> graph = rushlight.fx.Graph()
        >>> x = rushlight.fx.Proxy(graph.placeholder("x"))
        >>> torch.relu(x + 1).node.format_node()
        '%relu : [num_users=0] = call_function[target=torch.relu](args = (%add,), kwargs = {})'
    """

    def __init__(self, node: Node, tracer: TracerBase | None = None) -> None:
        self.tracer = GraphAppendingTracer(node.graph) if tracer is None else tracer
        self.node = node
        meet(type(self))

    def __repr__(self) -> str:
        return f"Proxy({self.node.name})"

    def __getattr__(self, k: str) -> Attribute:
        if k.startswith("__") and k.endswith("__"):
            raise AttributeError(k)  # copying, pickling and NumPy ask for such
        return Attribute(self, k)

    def __call__(self, *args: Any, **kwargs: Any) -> Proxy:
        return self.tracer.create_proxy("call_method", "__call__", (self, *args), kwargs)

    def __iter__(self) -> Iterator[Proxy]:
        return self.tracer.iter(self)

    def __bool__(self) -> bool:
        return self.tracer.to_bool(self)

    def keys(self) -> Any:
        """The keys, written down as a call."""
        return self.tracer.keys(self)

    def __len__(self) -> int:
        raise RuntimeError("'len' is not supported in symbolic tracing by default. If you want this call to be recorded, please call "
                           "torch.fx.wrap('len') at module scope")

    @classmethod
    def __torch_function__(cls, orig_method: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tracer = next(a.tracer for a in _each((args, kwargs)) if isinstance(a, Proxy))
        if is_tensor_method_or_property(orig_method):
            return tracer.create_proxy("call_method", "eq" if orig_method is Tensor.__eq__ else orig_method.__name__, args, kwargs)
        if (qualified_name(orig_method).rpartition(".")[0] == "torch.nn.functional" and orig_method.__name__ not in _AS_CALLED
                and "_stacklevel" not in kwargs):
            args, kwargs = _by_name(orig_method, args, kwargs)
        return tracer.create_proxy("call_function", orig_method, args, kwargs, name=tracer.graph._target_to_str(orig_method.__name__))


#: Functions that PyTorch does not write in Python: nodes have their arguments as they were given.
_AS_CALLED = frozenset((
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "bilinear", "celu_", "channel_shuffle", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "cosine_similarity", "elu_", "gelu", "hardshrink", "hardtanh_", "leaky_relu_", "linear",
    "logsigmoid", "native_channel_shuffle", "one_hot", "pad", "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle", "prelu",
    "relu_", "rrelu_", "scaled_dot_product_attention", "selu_", "softplus", "softshrink", "threshold_"))


def _by_name(function: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Arguments as a node of a function of ``nn.functional`` has them: what has a default is named, and is there."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return args, kwargs
    given = {p.name: p.default for p in parameters} | {p.name: a for p, a in zip(parameters, args)} | kwargs
    first = [p.name for p in parameters if p.default is p.empty and p.kind is not p.KEYWORD_ONLY]
    return tuple(given.pop(name) for name in first), given


def _each(a: Any) -> Iterator[Any]:
    if isinstance(a, (tuple, list)):
        for x in a:
            yield from _each(x)
    elif isinstance(a, dict):
        yield from _each(list(a.values()))
    else:
        yield a


class Attribute(Proxy):
    """An attribute of a proxy: a method where it is called, else read."""

    def __init__(self, root: Proxy, attr: str) -> None:
        self.root, self.attr, self.tracer = root, attr, root.tracer
        self._node: Node | None = None
        meet(type(self))

    @property
    def node(self) -> Node:  # type: ignore[override]
        if self._node is None:
            self._node = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {}).node
        return self._node

    def __call__(self, *args: Any, **kwargs: Any) -> Proxy:
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


def _operator(name: str, reflected: bool = False) -> None:
    target = getattr(operator, name)

    def call(self: Proxy, *others: Any) -> Proxy:
        return self.tracer.create_proxy("call_function", target, (*others, self) if reflected else (self, *others), {})
    method = f"__{'r' if reflected else ''}{name.strip('_')}__"
    call.__name__ = method
    setattr(Proxy, method, call)


for _name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "lshift", "rshift", "and_", "or_", "xor", "matmul"):
    _operator(_name)
    _operator(_name, reflected=True)
for _name in ("getitem", "eq", "ne", "lt", "gt", "le", "ge", "pos", "neg", "invert", "abs"):
    _operator(_name)
Proxy.__hash__ = object.__hash__  # type: ignore[method-assign]
