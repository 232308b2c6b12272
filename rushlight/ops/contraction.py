"""Contractions: einsum of two tensors, with and without something added, the linear layer. Their gradients are contractions again."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.dtypes import DType
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .complexes import conj
from .grad_names import linear_name, matmul_name
from .structured import Structured

__all__ = ["added", "biased", "conjugates", "einsum2", "einsum2_as_is", "linear", "other_operand", "sum_type", "word"]

Shape = tuple[int, ...]


def _same_dtype(name: str, *metas: Meta) -> None:
    first = metas[0].dtype
    for m in metas[1:]:
        if m.dtype is not first:
            raise RuntimeError(f"{name}: expected m1 and m2 to have the same dtype, but got: {word(first)} != {word(m.dtype)}")


def word(d: Any) -> str:
    """How PyTorch's C++ spells a dtype."""
    return {"float32": "float", "float64": "double", "float16": "c10::Half", "bfloat16": "c10::BFloat16", "int64": "long int",
            "int32": "int", "int16": "short int", "int8": "signed char", "uint8": "unsigned char"}.get(d.name, d.name)


# -- einsum -------------------------------------------------------------------------------------------------------
# attrs: (letters of a, letters of b, letters of the result). Every letter of a result is in an operand, and every letter
# that is in one operand only is in the result.


def _einsum_meta(metas: Sequence[Meta], a: str, b: str, out: str) -> Meta:
    _same_dtype("matmul", *metas)
    sizes = dict(zip(a, metas[0].shape, strict=True))
    for letter, n in zip(b, metas[1].shape, strict=True):
        if sizes.setdefault(letter, n) != n:
            x, y = (" x ".join(map(str, m.shape)) for m in metas)
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({x.replace(' ', '')} and {y.replace(' ', '')}): "
                               f"{sizes[letter]} and {n} differ")
    return meta_of(tuple(sizes[c] for c in out), metas[0].dtype, metas[0].device)


def conjugates(tensors: Sequence[Any]) -> list[Any]:
    """What the gradient of a product multiplies with."""
    return [conj(t) if t is not None and t.dtype.kind == "c" else t for t in tensors]


def _einsum_grad(ctx: Any, g: Any) -> Sequence[Any]:
    a, b, out = ctx.attrs
    x, y = conjugates(ctx.inputs[:2])
    return (einsum2(g, y, attrs=(out, b, a)) if ctx.needs[0] else None,
            einsum2(x, g, attrs=(a, out, b)) if ctx.needs[1] else None)


def _einsum_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    return g.einsum(f"{attrs[0]},{attrs[1]}->{attrs[2]}", inputs[0], inputs[1])


def other_operand(needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
    """A product needs each operand for the gradient of the other."""
    return tuple(k for k in (0, 1) if needs[1 - k]), False


einsum2 = Structured("mm", meta=_einsum_meta, grad=_einsum_grad, saves=other_operand, grad_name=matmul_name, autocast="low",
                     lower=_einsum_lower)
# The same for what PyTorch's autocast leaves alone on a CPU (mv, dot).
einsum2_as_is = Structured("mv", meta=_einsum_meta, grad=_einsum_grad, saves=other_operand, lower=_einsum_lower, grad_name=matmul_name)


# -- something added to an einsum ---------------------------------------------------------------------------------
# attrs: as of an einsum of the first two inputs. The third broadcasts to the result, and has its dtype.


def _added_meta(metas: Sequence[Meta], *letters: str) -> Meta:
    return _einsum_meta(metas[:2], *letters)


def _added_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    y = g.einsum(f"{attrs[0]},{attrs[1]}->{attrs[2]}", inputs[0], inputs[1], sum_type(inputs))
    return biased(g, y, inputs[2], outs[0].dtype)


def _added_grad(ctx: Any, g: Any) -> Sequence[Any]:
    return *_einsum_grad(ctx, g), g.sum_to_size(ctx.metas[2].shape) if ctx.needs[2] else None


class _Added(Structured):
    def shown_order(self, inputs: int) -> Sequence[int]:
        """What is added comes first."""
        return (2, 0, 1) if inputs > 2 else (0, 1)


added = _Added("addmm", meta=_added_meta, lower=_added_lower, grad=_added_grad, saves=other_operand, grad_name="AddmmBackward0",
               autocast="low")


# -- linear -------------------------------------------------------------------------------------------------------


def _linear_meta(metas: Sequence[Meta]) -> Meta:
    x, w = metas[0], metas[1]
    _same_dtype("linear", *metas)
    if len(w.shape) > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {len(w.shape)}D")
    if not x.shape or x.shape[-1] != w.shape[-1]:
        rows = x.numel // max(x.shape[-1], 1) if x.shape else 1
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{x.shape[-1] if x.shape else 1} and "
                           f"{w.shape[-1]}x{w.shape[0]}): linear got input {list(x.shape)}, weight {list(w.shape)}")
    if len(metas) > 2 and metas[2].shape not in ((), w.shape[:-1]):
        raise RuntimeError(f"linear: bias {list(metas[2].shape)} does not fit weight {list(w.shape)}")
    return meta_of((*x.shape[:-1], *w.shape[:-1]), x.dtype, x.device)


def _letters(n: int) -> str:
    return "abcdefghij"[:n] if n <= 10 else "".join(chr(ord("A") + i) for i in range(n))


def _linear_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, w = inputs[0], inputs[1]
    lead = _letters(len(x.shape) - 1)
    rows = "y" if len(w.shape) == 2 else ""
    y = g.einsum(f"{lead}z,{rows}z->{lead}{rows}", x, w, sum_type(inputs))
    return biased(g, y, inputs[2], outs[0].dtype) if len(inputs) > 2 else y


def sum_type(inputs: Sequence[Node]) -> DType:
    """Of a contraction of the first two inputs: not rounded to half precision where a bias follows."""
    return inputs[0].dtype.compute if len(inputs) > 2 else inputs[0].dtype


def biased(g: Graph, y: Node, bias: Node, dtype: DType) -> Node:
    """Sum and bias are rounded together."""
    return g.map(lambda e, a, b: e.cast(a + e.cast(b, a.dtype), dtype), y, bias)


def _linear_grad(ctx: Any, g: Any) -> Sequence[Any]:
    x, w = conjugates(ctx.inputs[:2])
    lead = _letters(len(ctx.metas[0].shape) - 1)
    rows = "y" if len(ctx.metas[1].shape) == 2 else ""
    given = [einsum2(g, w, attrs=(lead + rows, rows + "z", lead + "z")) if ctx.needs[0] else None,
             einsum2(g, x, attrs=(lead + rows, lead + "z", rows + "z")) if ctx.needs[1] else None]
    if len(ctx.metas) > 2:
        given.append(g.sum_to_size(ctx.metas[2].shape) if ctx.needs[2] else None)
    return given


class _Linear(_Added):
    def turned(self, metas: Sequence[Meta]) -> int | None:
        return 1 if len(metas[0].shape) == len(metas[1].shape) == 2 else None


linear = _Linear("linear", meta=_linear_meta, lower=_linear_lower, grad=_linear_grad, saves=other_operand,
                    grad_name=linear_name, autocast="low")
