"""L-BFGS."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..autograd.handle import Handle
from ..autograd.modes import enable_grad, no_grad
from ..record.flush import flush
from ..tensor.shape import cat
from .line_search import Point, strong_wolfe
from .optimizer import Optimizer
from .options import learning_rate

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """Quasi-Newton steps from the last gradients (limited-memory BFGS), with one parameter group.

    ``step`` needs a closure that clears the gradients, computes the loss, calls ``backward`` and returns the loss; it is called
    several times.

    Args:
        lr: step length (with a line search: the first to try). max_iter: iterations per step; max_eval: calls of the closure per
            step, default ``max_iter * 5 // 4``. tolerance_grad: stop where no element of the gradient is larger;
            tolerance_change: stop where neither parameters nor loss change by more. history_size: gradients remembered.
        line_search_fn: None or ``"strong_wolfe"``.

    Source: Liu and Nocedal, https://doi.org/10.1007/BF01589116; https://pytorch.org/docs/stable/generated/torch.optim.LBFGS.html
    """

    def __init__(self, params: Iterable[Any], lr: float = 1, max_iter: int = 20, max_eval: int | None = None, tolerance_grad: float = 1e-7,
                 tolerance_change: float = 1e-9, history_size: int = 100, line_search_fn: str | None = None) -> None:
        learning_rate(lr)
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        super().__init__(params, {"lr": lr, "max_iter": max_iter, "max_eval": max_eval, "tolerance_grad": tolerance_grad,
                                  "tolerance_change": tolerance_change, "history_size": history_size, "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self) -> list[Any]:
        return self.param_groups[0]["params"]

    def _flat_grad(self) -> Any:
        parts = [(p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1)) for p in self._params]
        return cat(parts)

    def _move(self, t: Any, direction: Any) -> None:
        at = 0
        for p in self._params:
            n = p.numel()
            p.add_(direction[at:at + n].view_as(p) * t)
            at += n

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Up to ``max_iter`` iterations; returns the loss before the first."""
        with no_grad():
            return self._step(enable_grad()(closure))

    def _step(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr, tolerance_change = group["lr"], group["tolerance_change"]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        first_loss = closure()
        grad = self._flat_grad()
        largest = grad.abs().max()  # recorded before the loss is read, so that both run as one program; so below
        loss, evaluations, rounds = float(first_loss), 1, 0
        state["func_evals"] += 1
        if float(largest) <= group["tolerance_grad"]:
            return first_loss

        direction: Any = state.get("d")
        t: Any = state.get("t")
        dirs, steps, ro = state.get("old_dirs", []), state.get("old_stps", []), state.get("ro", [])
        scale, before, loss_before = state.get("H_diag"), state.get("prev_flat_grad"), state.get("prev_loss")
        while rounds < group["max_iter"]:
            rounds += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                direction, dirs, steps, ro, scale = grad.neg(), [], [], [], 1
            else:
                y, s = grad.sub(before), direction.mul(t)
                curvature = y.dot(s)
                if float(curvature) > 1e-10:
                    if len(dirs) == group["history_size"]:
                        for remembered in (dirs, steps, ro):
                            remembered.pop(0)
                    dirs.append(y)
                    steps.append(s)
                    ro.append(1.0 / curvature)
                    scale = curvature / y.dot(y)
                if state.get("al") is None:
                    state["al"] = [None] * group["history_size"]
                direction = _descent(grad, dirs, steps, ro, scale, state["al"])
            before, loss_before = grad.clone(), loss

            t = (min(1.0, 1.0 / grad.abs().sum()) if state["n_iter"] == 1 else 1) * lr
            slope = float(grad.dot(direction))
            if slope > -tolerance_change:
                break
            calls = 0
            flat = False
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError("only 'strong_wolfe' is supported")
                first = float(t) if isinstance(t, Handle) else t
                point, calls = self._search(closure, direction, first, Point(0.0, loss, grad, slope), tolerance_change)
                t, loss, grad = point.t, point.f, point.g
                self._move(t, direction)
                flat = float(grad.abs().max()) <= group["tolerance_grad"]
            else:
                self._move(t, direction)
                if rounds != group["max_iter"]:  # nobody would look at the gradient after the last iteration
                    value, grad, calls = closure(), self._flat_grad(), 1
                    largest = grad.abs().max()
                    loss = float(value)
                    flat = float(largest) <= group["tolerance_grad"]
            evaluations += calls
            state["func_evals"] += calls
            if (rounds == group["max_iter"] or evaluations >= group["max_eval"] or flat
                    or float(direction.mul(t).abs().max()) <= tolerance_change or abs(loss - loss_before) < tolerance_change):
                break
        state.update(d=direction, t=t, old_dirs=dirs, old_stps=steps, ro=ro, H_diag=scale, prev_flat_grad=before, prev_loss=loss_before)
        flush()
        return first_loss

    def _search(self, closure: Callable[[], Any], direction: Any, t: float, start: Point, tolerance_change: float) -> tuple[Point, int]:
        here = [p.clone() for p in self._params]

        def back() -> None:
            for p, value in zip(self._params, here, strict=True):
                p.copy_(value)

        def evaluate(t: float) -> Point:
            self._move(t, direction)
            value = closure()
            grad = self._flat_grad()
            slope = grad.dot(direction)
            back()
            return Point(t, float(value), grad, float(slope))

        return strong_wolfe(evaluate, start, t, float(direction.abs().max()), tolerance_change=tolerance_change)


def _descent(grad: Any, dirs: Sequence[Any], steps: Sequence[Any], ro: Sequence[Any], scale: Any, al: list[Any]) -> Any:
    """The inverse Hessian that the history stands for, times the gradient turned round (the two-loop recursion).

    Each turn is flushed by itself: the same small program serves every turn, however long the history is.
    """
    q = grad.neg()
    for i in reversed(range(len(dirs))):
        al[i] = steps[i].dot(q) * ro[i]
        q = q - dirs[i] * al[i]
        flush()
    r = q.mul(scale)
    for i in range(len(dirs)):
        r = r + steps[i] * (al[i] - dirs[i].dot(r) * ro[i])
        flush()
    return r
