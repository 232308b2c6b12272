"""Ready parametrizations: weight norm, spectral norm, orthogonal matrices."""
from __future__ import annotations

from typing import Any

from ...autograd.modes import no_grad
from ...tensor import FUNCTIONS, Tensor
from ...tensor.creation import eye
from ...tensor.kinds import finfo
from ...tensor.matrices import LINALG
from .. import functional as F
from ..modules.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..modules.module import Module
from . import parametrize

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def _tensor_of(module: Module, name: str) -> Any:
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return weight


# -- weight norm --------------------------------------------------------------------------------------------------------


def _norm_except(v: Any, dim: int) -> Any:
    """The norm over all dimensions but one (-1: over all), which stay with length 1; over all it is a number."""
    if dim == -1:
        return v.norm()
    return v.norm(dim=[d for d in range(v.ndim) if d != dim], keepdim=True) if v.ndim > 1 else v.abs()


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        return weight_v * (weight_g / _norm_except(weight_v, self.dim))

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        return _norm_except(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Length and direction of a weight as parameters of their own: weight = g · v / |v|, ``parametrizations.weight.original0`` and
    ``original1``.

    Args:
        dim: each index of this dimension has a length of its own; None: one length for all.
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state: dict, prefix: str, *_: Any) -> None:
        """Checkpoints of the former weight norm have ``weight_g`` and ``weight_v``."""
        old = [f"{prefix}{name}_{part}" for part in "gv"]
        if all(key in state for key in old):
            for i, key in enumerate(old):
                state[f"{prefix}parametrizations.{name}.original{i}"] = state.pop(key)

    module._register_load_state_dict_pre_hook(rename)
    return module


# -- spectral norm ------------------------------------------------------------------------------------------------------


class _SpectralNorm(Module):
    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        ndim = weight.ndim
        if not -ndim <= dim < ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim = dim if dim >= 0 else dim + ndim
        self.eps = eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._matrix(weight.detach())
            h, w = matrix.shape
            u, v = matrix.new_empty(h).normal_(0, 1), matrix.new_empty(w).normal_(0, 1)
            self.register_buffer("_u", F.normalize(u, dim=0, eps=self.eps))
            self.register_buffer("_v", F.normalize(v, dim=0, eps=self.eps))
            self._power_method(matrix, 15)

    def _matrix(self, weight: Any) -> Any:
        if self.dim != 0:
            weight = weight.permute(self.dim, *(d for d in range(weight.ndim) if d != self.dim))
        return weight.flatten(1)

    @no_grad()
    def _power_method(self, matrix: Any, n: int) -> None:
        """Left and right singular vectors of the largest singular value come nearer with each step."""
        u, v = self._u, self._v
        for _ in range(n):
            u = F.normalize(FUNCTIONS["mv"](matrix, v), dim=0, eps=self.eps)
            v = F.normalize(FUNCTIONS["mv"](matrix.mH, u), dim=0, eps=self.eps)
        self._u.copy_(u)
        self._v.copy_(v)

    def forward(self, weight: Any) -> Any:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._power_method(matrix.detach(), self.n_power_iterations)
        # Copies: the next forward changes the buffers, perhaps before this one's backward.
        u, v = self._u.clone(), self._v.clone()
        return weight / FUNCTIONS["vdot"](u, FUNCTIONS["mv"](matrix, v))

    def right_inverse(self, value: Any) -> Any:
        return value


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> Module:
    """Divide a weight by its largest singular value, which a power iteration follows: ``n_power_iterations`` steps in each forward
    of training.

    Args:
        dim: the rows of the matrix that the weight is seen as; by default that of the output channels.
    """
    weight = _tensor_of(module, name)
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    parametrize.register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
    return module


# -- orthogonal matrices ------------------------------------------------------------------------------------------------


def _is_orthogonal(q: Any) -> bool:
    n, k = q.shape[-2:]
    difference = q.mH @ q - eye(k, dtype=q.dtype)
    return bool((difference.abs() <= 10.0 * n * finfo(q.dtype).eps).all())


def _nearest_frame(a: Any) -> Any:
    """The orthogonal factor of a QR decomposition whose R has a positive diagonal."""
    x, tau = FUNCTIONS["geqrf"](a)
    return LINALG["householder_product"](x, tau) * x.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


class _Orthogonal(Module):
    """(..., n, k) with orthonormal columns (rows, where n < k) from any matrix of that shape."""

    base: Any

    def __init__(self, weight: Any, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Any) -> Any:
        n, k = x.shape[-2:]
        turned = n < k
        if turned:
            x, n, k = x.mT, k, n
        if self.orthogonal_map == "householder":
            a = x.tril(diagonal=-1)
            tau = 2.0 / (1.0 + (a * a).sum(dim=-2))
            q = LINALG["householder_product"](a, tau)
            q = q * x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
        else:
            x = x.tril()
            if n != k:
                x = FUNCTIONS["cat"]([x, x.new_zeros(n, n - k).expand(*x.shape[:-2], -1, -1)], dim=-1)
            a = x - x.mH  # skew-Hermitian
            if self.orthogonal_map == "matrix_exp":
                q = FUNCTIONS["matrix_exp"](a)
            else:
                one = eye(n, dtype=a.dtype)
                q = LINALG["solve"](one - a * 0.5, one + a * 0.5)
            q = q[..., :k] if n != k else q
        if hasattr(self, "base"):
            q = self.base @ q
        return q.mT if turned else q

    @no_grad()
    def right_inverse(self, q: Any) -> Any:
        if q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {q.shape}.")
        given = q
        n, k = q.shape[-2:]
        turned = n < k
        if turned:
            q, n, k = q.mT, k, n
        if not hasattr(self, "base"):
            if self.orthogonal_map != "householder":
                raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                                          "use_trivialization=False.")
            a, tau = FUNCTIONS["geqrf"](q)
            signs = a.diagonal(dim1=-2, dim2=-1).sign()
            signs = FUNCTIONS["where"](tau == 0.0, -signs, signs)
            a = a.clone()
            a.diagonal(dim1=-2, dim2=-1).copy_(signs)
            return a.mT if turned else a
        if n == k:
            q = q.clone() if _is_orthogonal(q) else _nearest_frame(q)
        else:
            filled = FUNCTIONS["randn"](*q.shape[:-2], n, n - k, dtype=q.dtype)
            q = _nearest_frame(FUNCTIONS["cat"]([q, filled], dim=-1))
        self.base = q
        # Minus one: each of the maps takes it to the identity, so that the value is the base itself.
        minus = FUNCTIONS["zeros_like"](given)
        minus.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
        return minus


def orthogonal(module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True) -> Module:
    """Keep a matrix (or a batch of them) orthogonal: its columns, or its rows where these are fewer, are orthonormal.

    Args:
        orthogonal_map: "matrix_exp", "cayley" or "householder"; by default the first for square or complex matrices, else the last.
        use_trivialization: the map is taken around a base that the value is set to, so that any value can be assigned.

    Raises:
        ValueError: no such tensor, fewer than two dimensions, an unknown map.
    """
    weight = _tensor_of(module, name)
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] or weight.is_complex() else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError(f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}')
    made = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    parametrize.register_parametrization(module, name, made, unsafe=True)
    return module
