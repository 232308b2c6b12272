"""Convolution, the gradient of its input, which is also the transposed convolution, and that of its weight.

Each is a contraction over windows of one operand; where there are few output channels, in a form of ``few_channels.py``.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..compile.dtypes import DType
from ..compile.graph import ContractSpec, Graph, Node, View, Window
from ..compile.sizes import largest
from ..record.meta import Meta, meta_of
from . import few_channels
from .contraction import biased, conjugates, other_operand, sum_type, word
from .layouts import Rule, suggested
from .structured import Structured

__all__ = ["convolution", "conv_input_grad", "conv_weight_grad"]

Shape = tuple[int, ...]

# attrs: (stride, padding, dilation, groups), a tuple entry for each spatial dimension. Input (N, C, *spatial), weight
# (O, C / groups, *kernel), both with a batch dimension.


def conv_out_size(n: int, k: int, stride: int, padding: int, dilation: int) -> int:
    return (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1


def _same_bias(metas: Sequence[Meta]) -> None:
    if len(metas) > 2 and metas[2].dtype is not metas[0].dtype:
        raise RuntimeError(f"Input type ({word(metas[0].dtype)}) and bias type ({word(metas[2].dtype)}) should be the same")


def _conv_meta(metas: Sequence[Meta], stride: Shape, padding: Shape, dilation: Shape, groups: int) -> Meta:
    x, w = metas[0], metas[1]
    nd = len(stride)
    if x.dtype is not w.dtype:
        raise RuntimeError(f"Input type ({word(x.dtype)}) and weight type ({word(w.dtype)}) should be the same")
    _same_bias(metas)
    if len(w.shape) != nd + 2 or len(x.shape) != nd + 2:
        raise RuntimeError(f"Expected {nd + 1}D (unbatched) or {nd + 2}D (batched) input to conv{nd}d, but got input of size: "
                           f"{list(x.shape)}, weight {list(w.shape)}")
    if groups < 1 or x.shape[1] != w.shape[1] * groups:
        raise RuntimeError(f"Given groups={groups}, weight of size {list(w.shape)}, expected input{list(x.shape)} to have "
                           f"{w.shape[1] * groups} channels, but got {x.shape[1]} channels instead")
    if w.shape[0] % groups:
        raise RuntimeError(f"expected weight to be at least {groups} at dimension 0 and divisible by groups, but got weight of "
                           f"size {list(w.shape)}")
    if any(s <= 0 for s in stride):
        raise RuntimeError("non-positive stride is not supported")
    if any(p < 0 for p in padding):
        raise RuntimeError("negative padding is not supported")
    _not_empty(x, w)
    if len(metas) > 2 and metas[2].shape != w.shape[:1]:
        raise RuntimeError(f"Given weight of size {list(w.shape)}, expected bias to be 1-dimensional with {w.shape[0]} elements, "
                           f"but got bias of size {list(metas[2].shape)} instead")
    out = []
    for n, k, s, p, d in zip(x.shape[2:], w.shape[2:], stride, padding, dilation):
        if n + 2 * p < d * (k - 1) + 1:
            padded = " x ".join(str(a + 2 * b) for a, b in zip(x.shape[2:], padding))
            raise RuntimeError(f"Calculated padded input size per channel: ({padded}). Kernel size: "
                               f"({' x '.join(map(str, w.shape[2:]))}). Kernel size can't be greater than actual input size")
        out.append(conv_out_size(n, k, s, p, d))
    _some_positions(x)
    return meta_of((x.shape[0], w.shape[0], *out), x.dtype, x.device)


def _not_empty(x: Meta, w: Meta) -> None:
    """A weight without filters or positions has nothing to say, whatever the input is."""
    if not w.shape[0]:
        raise RuntimeError(f"expected weight to be at least 1 at dimension 0, but got weight of size {list(w.shape)} for input "
                           f"{list(x.shape)}")
    if 0 in w.shape[2:]:
        raise RuntimeError(f"kernel size should be greater than zero, but got {' x '.join(map(str, w.shape[2:]))}")


def _some_positions(x: Meta) -> None:
    if 0 in x.shape[2:] and x.shape[0] and x.shape[1]:
        raise RuntimeError(f"Only zero batch or zero channel inputs are supported, but got input shape: {list(x.shape)}")


_OUT, _KERNEL = "xyz", "uvw"  # letters of output positions and kernel positions


def _windows(attrs: tuple) -> tuple[Window, ...]:
    stride, padding, dilation, _ = attrs
    return tuple(Window(_OUT[d], _KERNEL[d], stride[d], dilation[d], padding[d]) for d in range(len(stride)))


def _named(groups: int, each: int, letter: str) -> tuple[str, ...]:
    """The letters of a dimension of groups × each channels: a depthwise convolution knows groups only."""
    return (letter,) if groups == 1 else ("g",) if each == 1 else ("g", letter)


def _split(g: Graph, x: Node, groups: int) -> Node:
    """(N, C, ...) as (N, groups, C / groups, ...), where its dimension has two letters: a view, so that x lies as it likes."""
    each, rank = x.shape[1] // groups, len(x.shape)
    if groups == 1 or each == 1:
        return x
    matrix = [[0] * (rank + 1) for _ in range(rank)]
    for d in range(rank):
        matrix[d][d if d == 0 else d + 1] = 1
    matrix[1][1] = each
    shape = (x.shape[0], groups, each, *x.shape[2:])
    return g.view(x, View(shape, (0,) * rank, tuple(map(tuple, matrix))))


def _windowed(g: Graph, x: Node, attrs: tuple) -> tuple[Node, tuple[Window, ...]]:
    """The input split into groups, and its windows; what is split is padded before."""
    windows, groups = _windows(attrs), attrs[3]
    if groups == 1 or x.shape[1] == groups:
        return x, windows
    x = g.pad(x, (0, 0, *attrs[1]), (0, 0, *attrs[1]))
    return _split(g, x, groups), tuple(replace(w, padding=0) for w in windows)


def _filter(g: Graph, w: Node, groups: int) -> tuple[Node, tuple[str, ...]]:
    """The weight with the letters of its channels apart."""
    letters = _named(groups, w.shape[0] // groups, "o")
    inner = groups == 1 or w.shape[1] != 1
    shape = [groups] * (groups > 1) + [w.shape[0] // groups] * ("o" in letters) + [w.shape[1]] * inner
    return g.reshape(w, (*shape, *w.shape[2:])), (*letters, *("c",) * inner)


def _contracted(
    g: Graph, a: Node, b: Node, dims: tuple[tuple, tuple, tuple], sizes: dict[str, int], shape: Shape, dtype: DType | None = None
) -> Node:
    """The contraction with ``dims`` of a, b and the result; ``sizes`` may know more letters than there are."""
    used = {x for d in (*dims[0], *dims[1]) for x in ((d.output, d.kernel) if isinstance(d, Window) else (d,))}
    known = tuple(sorted((k, v) for k, v in sizes.items() if k in used))
    return g.reshape(g.contract(a, b, ContractSpec(*dims, known), dtype), shape)


def _conv_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, w = inputs[0], inputs[1]
    groups, nd = attrs[3], len(attrs[0])
    space, kernel = tuple(_OUT[:nd]), tuple(_KERNEL[:nd])
    shape = outs[0].shape
    each, made = w.shape[1], w.shape[0] // groups
    if max(attrs[0]) == 1 and few_channels.pays(each, made, w.shape[2:], groups):
        few = few_channels.convolved(g, x, w, shape[2:], attrs[1], attrs[2], sum_type(inputs))
        if few is not None:
            return _with_bias(g, few, inputs, nd)
    sizes = {"n": shape[0], "g": groups, "c": each, "o": made, **dict(zip(space, shape[2:])), **dict(zip(kernel, w.shape[2:]))}
    w, letters = _filter(g, w, groups)
    x, windows = _windowed(g, x, attrs)
    dims = (("n", *_named(groups, each, "c"), *windows), (*letters, *kernel), ("n", *_named(groups, made, "o"), *space))
    y = _contracted(g, x, w, dims, sizes, shape, sum_type(inputs))
    return _with_bias(g, y, inputs, nd)


def _with_bias(g: Graph, y: Node, inputs: Sequence[Node], nd: int) -> Node:
    """Channels of ``nd`` spatial dimensions with the third input, if there is one."""
    return biased(g, y, g.reshape(inputs[2], (inputs[2].size, *(1,) * nd)), inputs[0].dtype) if len(inputs) > 2 else y


def _conv_grad(ctx: Any, g: Any) -> Sequence[Any]:
    x, w = conjugates(ctx.inputs[:2])
    given = [conv_input_grad(g, w, attrs=(ctx.metas[0].shape[2:], *ctx.attrs)) if ctx.needs[0] else None,
             conv_weight_grad(x, g, attrs=(ctx.metas[1].shape[2:], *ctx.attrs)) if ctx.needs[1] else None]
    if len(ctx.metas) > 2:
        given.append(g.sum((0, *range(2, len(g.shape)))) if ctx.needs[2] else None)
    return given


def _lays(images: Rule) -> Rule:
    """Of lines the weight alone is asked."""
    lines = suggested(1, lines=True)
    return lambda metas, outs, attrs: (lines if len(metas[0].shape) == 3 else images)(metas, outs, attrs)


convolution = Structured("convolution", meta=_conv_meta, lower=_conv_lower, grad=_conv_grad, saves=other_operand, autocast="low",
                         lays=_lays(suggested(0, 1)))


# The gradient of the input, which is also the transposed convolution: inputs (grad of output or x, weight, [bias]), attrs
# (spatial size of the result, *attrs of the convolution).


def _input_grad_meta(metas: Sequence[Meta], size: Shape, *attrs: Any) -> Meta:
    x, w = metas[:2]
    groups, channels = attrs[3], w.shape[1] * attrs[3]
    if x.dtype is not w.dtype:
        raise RuntimeError(f"Input type ({word(x.dtype)}) and weight type ({word(w.dtype)}) should be the same")
    _same_bias(metas)
    if x.shape[1] != w.shape[0] or x.shape[1] % groups:
        raise RuntimeError(f"Given transposed=1, weight of size {list(w.shape)}, expected input{list(x.shape)} to have {w.shape[0]} "
                           f"channels (a multiple of groups={groups}), but got {x.shape[1]} channels instead")
    if len(metas) > 2 and metas[2].shape != (channels,):
        raise RuntimeError(f"Given transposed=1, weight of size {list(w.shape)}, expected bias to be 1-dimensional with {channels} "
                           f"elements, but got bias of size {list(metas[2].shape)} instead")
    if any(n < 0 for n in size):
        raise RuntimeError(f"Given input size per channel: {list(x.shape[2:])}. Calculated output size per channel: {list(size)}. "
                           "Output size is too small")
    return meta_of((x.shape[0], channels, *size), x.dtype, x.device)


def _input_grad_lower(graph: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    """For each phase of the strides, a dense convolution of the gradient with the filter taps that reach that phase.

    With stride s, result position s q + r gets contributions from the filter positions u with (r + padding - dilation u)
    divisible by s, at gradient position (s q + r + padding - dilation u) / s: nothing is multiplied by a zero, and the phases
    interleave to the result. Stride 1 is one phase. Where the gradient has one position (the filter was as long as the input), each
    tap of the filter belongs to one position of the result (``_Spread``), and there is no window.
    """
    g, w = inputs[:2]
    size, stride, padding, dilation, groups = attrs
    shape = outs[0].shape
    if 0 in g.shape or 0 in w.shape or 0 in size:
        return _with_bias(graph, graph.const(0, sum_type(inputs), shape), inputs, len(size))
    if few_channels.pays(w.shape[0], w.shape[1], w.shape[2:], groups):
        few = few_channels.transposed(graph, g, w, size, stride, padding, dilation, sum_type(inputs))
        if few is not None:
            return _with_bias(graph, few, inputs, len(size))
    phases: list[Sequence[_Phase | _Spread]] = []
    for m, n, s, p, d, k in zip(g.shape[2:], size, stride, padding, dilation, w.shape[2:]):
        phases.append([_Spread(n, p, min(k - p, n))] if m == 1 and d == 1 and p < k > 1 else
                      [_phase(r, n, s, p, d, k) for r in range(min(s, n))])
    spread = [type(ps[0]) is _Spread for ps in phases]
    # One padded gradient serves all phases, as windows that begin inside it.
    low = [max(0, *(p.padding for p in ps)) for ps in phases]
    high = [0 if alone else largest(0, _room(*rest), *(p.last + 1 - m for p in ps)) for alone, ps, m, *rest in zip(
        spread, phases, g.shape[2:], stride, padding, dilation, w.shape[2:])]
    padded = graph.pad(g, (0, 0, *low), (0, 0, *high))
    parts, views = [], []
    for chosen in itertools.product(*phases):
        count = (*shape[:2], *(p.count for p in chosen))
        if all(p.taps for p in chosen):
            part = _phase_product(graph, padded, w, chosen, low, groups, count, sum_type(inputs))
        else:
            part = graph.const(0, sum_type(inputs), count)
        parts.append(_with_bias(graph, part, inputs, len(size)))
        steps = (1, 1, *(1 if alone else s for alone, s in zip(spread, stride)))
        matrix = tuple(tuple(steps[d] if j == d else 0 for j in range(len(shape))) for d in range(len(shape)))
        views.append(View(count, (0, 0, *(p.first for p in chosen)), matrix))
    return graph.weave(parts, views, shape)


def _room(stride: int, padding: int, dilation: int, kernel: int) -> int:
    """How far beyond the gradient's last position the windows of the phases may reach, for some size of the result: then the next
    size, where the last window ends elsewhere, is no other graph. No room where windows do not overlap, which are read in place."""
    return -(-(dilation * (kernel - 1) - padding) // stride) if 1 < stride < kernel else 0


@dataclass(frozen=True)
class _Phase:
    """The positions ``first, first + stride, ...`` (``count`` of them) of one dimension, and the window that they see:
    filter taps ``start, start + step, ...`` (``taps`` of them; they are read backwards)."""

    first: int
    count: int
    start: int
    step: int
    taps: int
    dilation: int
    padding: int

    @property
    def last(self) -> int:
        """The last position of the gradient that a window reaches."""
        return self.count - 1 + self.dilation * (self.taps - 1) - self.padding if self.taps else -1


@dataclass(frozen=True)
class _Spread:
    """All ``count`` positions of a dimension in which the gradient has one: the filter taps from ``start`` on, of which there are
    ``taps``, belong to the first positions, and no tap to the others."""

    count: int
    start: int
    taps: int
    first: int = 0
    padding: int = 0


def _phase(r: int, size: int, stride: int, padding: int, dilation: int, kernel: int) -> _Phase:
    common = math.gcd(stride, dilation)
    start = next((u for u in range(min(kernel, stride)) if (r + padding - dilation * u) % stride == 0), kernel)
    step, apart = stride // common, dilation // common
    taps = max(0, -(-(kernel - start) // step))
    first = (r + padding - dilation * start) // stride  # of the gradient, for the first tap and q = 0
    return _Phase(r, -(-(size - r) // stride), start, step, taps, apart, apart * (taps - 1) - first if taps else 0)


def _phase_product(graph: Graph, g: Node, w: Node, phases: Sequence[_Phase | _Spread], low: Sequence[int], groups: int, shape: Shape,
                   dtype: DType) -> Node:
    nd = len(phases)
    taps = tuple(p.taps for p in phases)
    space = tuple(_OUT[:nd])
    # A tap of the filter is a position of the result where the gradient has none to choose from.
    kernel = tuple(_OUT[d] if type(p) is _Spread else _KERNEL[d] for d, p in enumerate(phases))
    count = (*shape[:2], *(p.taps if type(p) is _Spread else n for p, n in zip(phases, shape[2:])))
    made, each = w.shape[0] // groups, w.shape[1]
    sizes = {"n": g.shape[0], "g": groups, "c": each, "o": made, **dict(zip(space, count[2:])), **dict(zip(kernel, taps))}
    w, letters = _filter(graph, w, groups)
    lead = len(letters)
    starts = (*(0,) * lead, *[p.start if isinstance(p, _Spread) else p.start + p.step * (p.taps - 1) for p in phases])
    turned = graph.slice(w, starts, (*w.shape[:lead], *taps), (*(1,) * lead, *[1 if isinstance(p, _Spread) else -p.step for p in phases]))
    windows = tuple(Window(_OUT[d], _KERNEL[d], 1, p.dilation, p.padding - low[d]) for d, p in enumerate(phases) if isinstance(p, _Phase))
    dims = (("n", *_named(groups, made, "o"), *windows), (*letters, *kernel), ("n", *_named(groups, each, "c"), *space))
    g = graph.reshape(g, (*g.shape[:2], *(n for n, p in zip(g.shape[2:], phases) if type(p) is not _Spread)))
    y = _contracted(graph, _split(graph, g, groups), turned, dims, sizes, count, dtype)
    return graph.pad(y, (0,) * len(shape), tuple(n - m for n, m in zip(shape, count)))


def _convolved(x: Any, w: Any, attrs: tuple, shape: Shape) -> Any:
    """The convolution, without windows that only an output padding of a stride or more made room for."""
    y = convolution(x, w, attrs=attrs)
    for d, n in enumerate(shape):
        if d > 1 and y.shape[d] != n:
            y = y.narrow(d, 0, n)
    return y


def _input_grad_grad(ctx: Any, gg: Any) -> Sequence[Any]:
    g, w = conjugates(ctx.inputs[:2])
    attrs = ctx.attrs[1:]
    given = [_convolved(gg, w, attrs, ctx.metas[0].shape) if ctx.needs[0] else None,
             conv_weight_grad(gg, g, attrs=(ctx.metas[1].shape[2:], *attrs)) if ctx.needs[1] else None]
    if len(ctx.metas) > 2:
        given.append(gg.sum((0, *range(2, len(gg.shape)))) if ctx.needs[2] else None)
    return given


conv_input_grad = Structured("conv_transpose", meta=_input_grad_meta, lower=_input_grad_lower, grad=_input_grad_grad,
                             saves=other_operand, grad_name="ConvolutionBackward0", autocast="low",
                             lays=_lays(suggested(0, 1, volumes=False)))


# The gradient of the weight: inputs (x, grad of output), attrs (kernel size, *attrs of the convolution).


def _weight_grad_meta(metas: Sequence[Meta], kernel: Shape, *attrs: Any) -> Meta:
    x, g = metas
    return meta_of((g.shape[1], x.shape[1] // attrs[3], *kernel), x.dtype, x.device)


def _weight_grad_lower(graph: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, g = inputs
    kernel_size, *rest = attrs
    groups, nd = rest[3], len(rest[0])
    space, kernel = tuple(_OUT[:nd]), tuple(_KERNEL[:nd])
    each, made = x.shape[1] // groups, g.shape[1] // groups
    if max(rest[0]) == 1 and few_channels.pays(each, made, kernel_size, groups):
        few = few_channels.weight_gradient(graph, x, g, kernel_size, rest[1], rest[2])
        if few is not None:
            return few
    sizes = {"n": x.shape[0], "g": groups, "c": each, "o": made, **dict(zip(space, g.shape[2:])), **dict(zip(kernel, kernel_size))}
    result = (*_named(groups, made, "o"), *(("c",) if groups == 1 or each != 1 else ()), *kernel)
    x, windows = _windowed(graph, x, tuple(rest))
    dims = (("n", *_named(groups, each, "c"), *windows), ("n", *_named(groups, made, "o"), *space), result)
    return _contracted(graph, x, _split(graph, g, groups), dims, sizes, outs[0].shape)


def _weight_grad_grad(ctx: Any, gg: Any) -> Sequence[Any]:
    x, g = conjugates(ctx.inputs)
    attrs = ctx.attrs[1:]
    return (conv_input_grad(g, gg, attrs=(ctx.metas[0].shape[2:], *attrs)) if ctx.needs[0] else None,
            _convolved(x, gg, attrs, ctx.metas[1].shape) if ctx.needs[1] else None)


conv_weight_grad = Structured("conv_weight_grad", meta=_weight_grad_meta, lower=_weight_grad_lower, grad=_weight_grad_grad,
                              saves=other_operand, grad_name="ConvolutionBackwardBackward0")
