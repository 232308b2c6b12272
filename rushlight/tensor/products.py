"""Matrix products and einsum of two tensors."""
from __future__ import annotations

from typing import Any

from ..autograd.apply import value_of
from ..autograd.autocast import narrowed
from ..autograd.handle import Handle
from ..autograd.titles import titled
from ..ops.contraction import added, einsum2, einsum2_as_is
from ..ops.layouts import rows
from ..ops.pointwise import broadcast_shapes
from ..record.op import backward_name
from .registry import FUNCTIONS, METHODS, public
from .scalars import scale_first

__all__: list[str] = []

_bmm = einsum2.named("BmmBackward0")


def _check_numbers(name: str, x: Any) -> None:
    if x.dtype.kind == "b":
        raise NotImplementedError(f'"{name}" not implemented for bool tensors')


@public()
def matmul(input: Any, other: Any) -> Any:
    """Matrix product of the last two dimensions, batched and broadcast over the others; vectors are rows or columns.

    Raises:
        RuntimeError: the inner sizes differ, the dtypes differ, or an operand is a number.
    """
    a, b = value_of(input).meta.shape, value_of(other).meta.shape
    _check_numbers("matmul", input)
    if not a or not b:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {len(a)}D and {len(b)}D")
    if len(a) > 1 and len(b) > 1:
        if a[-1] != b[-2]:
            _mismatch(a, b)
    elif a[-1] != b[-2 if len(b) > 1 else -1]:
        if len(a) == len(b) == 1:
            raise RuntimeError(f"inconsistent tensor size, expected tensor [{a[0]}] and src [{b[0]}] to have the same number of "
                               f"elements, but got {a[0]} and {b[0]} elements respectively")
        raise RuntimeError(f"size mismatch, got input ({a[0]}), mat {list(a)}, vec {list(b)}")
    rows = "y" if len(a) > 1 else ""
    columns = "x" if len(b) > 1 else ""
    lead_a, lead_b = a[:-2], b[:-2]
    if not lead_b:  # a matrix (or vector) on the right serves every batch
        lead = "abcdefgh"[:len(lead_a)] if len(lead_a) <= 8 else _letters(len(lead_a))
        return einsum2(input, other, attrs=(lead + rows + "z", "z" + columns, lead + rows + columns))
    batch = broadcast_shapes([lead_a, lead_b], "matmul")
    letters = _letters(len(batch))
    x, in_a = _batched(input, lead_a, batch, letters)
    y, in_b = _batched(other, lead_b, batch, letters)
    out = "".join(c for c in letters)
    missing = [k for k, c in enumerate(letters) if c not in in_a and c not in in_b]
    kept = "".join(c for c in out if c in in_a or c in in_b)
    made = einsum2(x, y, attrs=(in_a + rows + "z", in_b + "z" + columns, kept + rows + columns))
    for k in missing:  # length 1 in both
        made = made.unsqueeze(k)
    return made


def _letters(n: int) -> str:
    return "".join(chr(ord("A") + i) for i in range(n))


def _batched(t: Any, lead: tuple[int, ...], batch: tuple[int, ...], letters: str) -> tuple[Any, str]:
    """Without the batch dimensions along which it is broadcast: (tensor, its batch letters)."""
    at = len(batch) - len(lead)
    one = tuple(d for d, n in enumerate(lead) if n == 1)
    return (t.squeeze(one) if one else t), "".join(letters[at + d] for d, n in enumerate(lead) if n != 1)


def _mismatch(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if len(a) == 2 and len(b) == 2:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a[0]}x{a[1]} and {b[0]}x{b[1]})")
    raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{a[0]}, {a[-1]}] but got: [{b[0]}, {b[-2]}]: "
                       f"matmul of {list(a)} and {list(b)}")


@public()
def mm(input: Any, mat2: Any) -> Any:
    """Product of two matrices."""
    if len(input.shape) != 2 or len(mat2.shape) != 2:
        which, t = ("self", input) if len(input.shape) != 2 else ("mat2", mat2)
        raise RuntimeError(f"{which} must be a matrix, got {list(t.shape)}")
    return matmul(input, mat2)


@public()
def bmm(input: Any, mat2: Any) -> Any:
    """Product of two batches of matrices, without broadcasting."""
    a, b = input.shape, mat2.shape
    if len(a) != 3 or len(b) != 3:
        raise RuntimeError(f"batch1 must be a 3D tensor: got {list(a)} and {list(b)}")
    if a[0] != b[0] or a[2] != b[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{a[0]}, {a[2]}] but got: [{b[0]}, {b[1]}].")
    return _bmm(input, mat2, attrs=("byz", "bzx", "byx"))


@public()
def mv(input: Any, vec: Any) -> Any:
    """Matrix times vector."""
    if len(input.shape) != 2 or len(vec.shape) != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {len(vec.shape)}, {len(input.shape)}, {len(vec.shape)}")
    if input.shape[1] != vec.shape[0]:
        return matmul(input, vec)  # says what does not fit
    return einsum2_as_is(input, vec, attrs=("yz", "z", "y"))


@public()
def dot(input: Any, tensor: Any) -> Any:
    """Inner product of two vectors."""
    if len(input.shape) != 1 or len(tensor.shape) != 1:
        raise RuntimeError(f"1D tensors expected, but got {len(input.shape)}D and {len(tensor.shape)}D tensors")
    _check_numbers("dot", input)
    if input.dtype is not tensor.dtype:
        raise RuntimeError(f"dot : expected both vectors to have same dtype, but found {input.dtype.name} and {tensor.dtype.name}")
    if input.shape != tensor.shape:
        return matmul(input, tensor)  # says what does not fit
    return einsum2_as_is(input, tensor, attrs=("z", "z", ""))


@public(aliases=("ger",))
def outer(input: Any, vec2: Any) -> Any:
    """Outer product of two vectors."""
    if len(input.shape) != 1 or len(vec2.shape) != 1:
        raise RuntimeError(f"outer: Expected 1-D argument self, but got {len(input.shape)}-D")
    return input.unsqueeze(1) * vec2


def _scales_first(name: str, *given: Any) -> tuple[Any, ...]:
    """(input, a, b, beta, alpha) of a call in the order of old programs: ``f(beta, input, alpha, a, b)``, as a method
    ``input.f(beta, alpha, a, b)``; without ``alpha`` it is 1.

    Raises:
        TypeError: no such call.
    """
    tensors = [x for x in given if isinstance(x, Handle)]
    scales = [x for x in given if not isinstance(x, Handle)]
    if len(tensors) != 3 or not 1 <= len(scales) <= 2 or not isinstance(given[-1], Handle) or not isinstance(given[-2], Handle):
        raise TypeError(f"{name}() received an invalid combination of arguments: ({', '.join(type(x).__name__ for x in given)})")
    scale_first(name, scales[0], *tensors)
    return *tensors, scales[0], scales[1] if len(scales) == 2 else 1


def _is_one(letters: tuple[str, str, str], input: Any, a: Any, b: Any) -> bool:
    """Whether a product with these letters and what is added to it are one operation: they fit, and nothing has to be cast."""
    if not input.dtype is a.dtype is b.dtype or input.dtype.kind not in "fc":
        return False
    x, y, added_to = a.shape, b.shape, input.shape
    if not len(x) == len(y) == len(letters[0]) or x[-1] != y[-2] or x[:-2] != y[:-2]:
        return False
    made = (*x[:-1], y[-1])
    return len(added_to) <= len(made) and all(n in (1, m) for n, m in zip(reversed(added_to), reversed(made)))


def _scaled_sum(name: str, product: Any, letters: tuple[str, str, str] | None = None) -> Any:
    """``letters``: of the product, where autocast casts the operands, as PyTorch does, and it is one operation with what is added."""
    def call(input: Any, a: Any, b: Any, *old: Any, beta: Any = 1, alpha: Any = 1) -> Any:
        if old:
            input, a, b, beta, alpha = _scales_first(name, input, a, b, *old)
        if letters and (cast := narrowed(input, a, b)) is not None:
            input, a, b = cast
        if letters and beta == 1 and alpha == 1 and _is_one(letters, input, a, b):
            return added(a, b, input, attrs=letters)
        made, d = product(a, b), input.dtype
        if made.dtype is not d:
            raise RuntimeError(f"{name}(): self and mat2 must have the same dtype, but got {d} and {made.dtype}")
        if d.kind in "ui":  # fractions of integers are cut off
            alpha, beta = int(alpha), int(beta)
        if alpha != 1:
            made = made * alpha
        if beta == 0:
            return made.expand(broadcast_shapes([input.shape, made.shape], name))
        made = made + (input if beta == 1 else input * beta)
        return made if d.kind != "b" else made.to(d)
    call.__name__ = name
    call.__doc__ = f"``beta * input + alpha * product`` with the product of ``{name[3:]}``."
    return public(inplace=True, composite=True)(titled(backward_name(name))(call))


addmm, addmv, addbmm_product, addr = (_scaled_sum(*of) for of in (
    ("addmm", mm, ("yz", "zx", "yx")), ("addmv", mv), ("baddbmm", bmm, ("byz", "bzx", "byx")), ("addr", outer)))


@public(inplace=True, composite=True)
@titled("AddbmmBackward0")
def addbmm(input: Any, batch1: Any, batch2: Any, *old: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    """``beta * input + alpha * sum of the batch's products``."""
    if old:
        input, batch1, batch2, beta, alpha = _scales_first("addbmm", input, batch1, batch2, *old)
    if (cast := narrowed(input, batch1, batch2)) is not None:
        input, batch1, batch2 = cast
    if input.dtype.kind in "ui":
        alpha, beta = int(alpha), int(beta)
    made = bmm(batch1, batch2).sum(0, dtype=batch1.dtype) * alpha
    return made if beta == 0 else rows(input * beta + made)


_addbmm_ = METHODS["addbmm_"]


def _grown(self: Any, batch1: Any, batch2: Any, *rest: Any, **scales: Any) -> Any:
    """``addbmm_``, which alone of its kind makes the tensor as large as the result."""
    shape = (batch1.shape[1], batch2.shape[2]) if not rest and len(batch1.shape) == len(batch2.shape) == 3 else tuple(self.shape)
    if tuple(self.shape) == shape:
        return _addbmm_(self, batch1, batch2, *rest, **scales)
    made = addbmm(self.clone(), batch1, batch2, **scales)
    self.set_(made)
    self._edge = made._edge
    return self


METHODS["addbmm_"] = FUNCTIONS["addbmm_"] = _grown
