"""Adam for gradients of a few rows: moments and parameters change where there is a gradient."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import rushlight as torch

from .optimizer import Optimizer, zeros_like
from .options import learning_rate, momenta, non_negative

__all__ = ["SparseAdam"]


class SparseAdam(Optimizer):
    r"""Adam where only what has a gradient is updated; all else, moments included, stays as it is.

    Args:
        lr: learning rate, above 0; betas: decay of the two moments; eps: added to the denominator, above 0.
        maximize: go up instead of down.

    A gradient is a sparse tensor, or a dense one as embeddings with ``sparse=True`` have it here, of which rows of zeros count as absent.
    PyTorch refuses dense gradients.

    Raises:
        ValueError: a complex or sparse parameter, or an option out of range.

    Example:
        >>> table = nn.Embedding(3, 1, sparse=True)
        >>> _ = nn.init.zeros_(table.weight)
        >>> optimizer = torch.optim.SparseAdam(table.parameters(), lr=0.1)
        >>> table(torch.tensor([1])).sum().backward()
        >>> optimizer.step()
        >>> table.weight.detach().flatten()
        tensor([ 0.0000, -0.1000,  0.0000])

    Source: https://pytorch.org/docs/stable/generated/torch.optim.SparseAdam.html
    """

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 maximize: bool = False) -> None:
        learning_rate(lr)
        non_negative(eps=eps)
        if float(lr) == 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if eps == 0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        momenta(betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})
        for what, refused in (("Sparse", lambda p: p.is_sparse), ("Complex", lambda p: p.is_complex())):
            found = [[k, i] for k, group in enumerate(self.param_groups) for i, p in enumerate(group["params"]) if refused(p)]
            if found:
                raise ValueError(f"{what} params at indices {found}: SparseAdam " + (
                    "requires dense parameter tensors" if what == "Sparse" else "does not support complex parameters"))

    def update_group(self, group: dict[str, Any], params: Sequence[Any]) -> None:
        first, second = group["betas"]
        for p in params:
            state = self.state[p]
            if not state:
                state.update(step=0, exp_avg=zeros_like(p), exp_avg_sq=zeros_like(p))
            state["step"] += 1
            with torch.no_grad():
                grad, there = _parts(p.grad)
                grad = -grad if group["maximize"] else grad
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.copy_(torch.where(there, m + (1 - first) * (grad - m), m))
                v.copy_(torch.where(there, v + (1 - second) * (grad * grad - v), v))
                size = group["lr"] * (1 - second ** state["step"]) ** 0.5 / (1 - first ** state["step"])
                p.copy_(torch.where(there, p - size * (m / (v.sqrt() + group["eps"])), p))


def _parts(grad: Any) -> tuple[Any, Any]:
    """A gradient as a dense tensor, and where it is, of a shape that broadcasts to its own."""
    if not grad.is_sparse:
        rows = grad != 0
        return grad, rows.flatten(1).any(1).reshape(-1, *[1] * (rows.dim() - 1)) if rows.dim() > 1 else rows
    grad = grad.coalesce()
    there = torch.zeros(grad.shape[:grad.sparse_dim()], dtype=torch.bool)
    there[tuple(grad.indices().unbind(0))] = True
    return grad.to_dense(), there.reshape(*there.shape, *[1] * grad.dense_dim())
