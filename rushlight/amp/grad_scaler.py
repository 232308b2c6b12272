"""``GradScaler``: losses are scaled up so that small float16 gradients do not vanish, and gradients are scaled back."""
from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from ..autograd.handle import Handle
from ..autograd.modes import no_grad
from ..compile.dtypes import float16, float32, int32
from ..record.warn import warn
from ..tensor import FUNCTIONS

__all__ = ["GradScaler", "OptState"]


class OptState(Enum):
    """What was done for an optimizer since the last ``update``."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class GradScaler:
    """Dynamic loss scaling.

    ``scale(loss).backward()``, ``step(optimizer)``, ``update()``: the step divides the gradients by the scale and is left out
    if one of them is infinite or NaN; then the scale shrinks by ``backoff_factor``. After ``growth_interval`` steps in a row
    that were not left out it grows by ``growth_factor``.

    Args:
        device: "cpu"; "cuda" (the default, as in PyTorch) is disabled with a warning where there is no GPU.
        enabled: if False, ``scale`` returns its argument, ``step`` is the optimizer's step, and the rest does nothing.

    Raises:
        AssertionError: ``growth_factor`` is not above 1, or ``backoff_factor`` not below 1.

    Source: https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling

    Example:
        >>> w = rushlight.nn.Parameter(rushlight.ones(2))
        >>> optimizer, scaler = rushlight.optim.SGD([w], lr=0.5), rushlight.amp.GradScaler("cpu", init_scale=4.0)
        >>> scaler.scale(w.sum()).backward()
        >>> w.grad
        tensor([4., 4.])
        >>> scaler.step(optimizer)
        >>> w.detach(), scaler.get_scale()
        (tensor([0.5000, 0.5000]), 4.0)
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0 ** 16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000, enabled: bool = True) -> None:
        self._device, self._enabled = device, enabled
        if enabled and device == "cuda":
            warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.")
            self._enabled = False
        if self._enabled:
            if growth_factor <= 1.0:
                raise AssertionError("The growth factor must be > 1.0.")
            if backoff_factor >= 1.0:
                raise AssertionError("The backoff factor must be < 1.0.")
            self._init_scale, self._growth_factor, self._backoff_factor = init_scale, growth_factor, backoff_factor
            self._growth_interval, self._init_growth_tracker = growth_interval, 0
            self._scale: Any = None           # a tensor from the first use on
            self._growth_tracker: Any = None  # steps in a row that were not left out
            self._stages: dict[int, OptState] = {}
            self._found: dict[int, Any] = {}  # by optimizer: 1.0 if a gradient was infinite or NaN

    # -- scaling -------------------------------------------------------------------------------------------------
    def _begin(self) -> Any:
        if self._scale is None:
            self._scale = FUNCTIONS["full"]((), self._init_scale, dtype=float32)
            self._growth_tracker = FUNCTIONS["full"]((), self._init_growth_tracker, dtype=int32)
        return self._scale

    def scale(self, outputs: Any) -> Any:
        """A tensor, or an iterable of tensors, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Handle):
            return outputs * self._begin()  # type: ignore[operator]
        if isinstance(outputs, Iterable):
            made = map(self.scale, outputs)
            return type(outputs)(made) if isinstance(outputs, (list, tuple)) else made  # type: ignore[call-arg]
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _started(self, name: str) -> Any:
        if self._scale is None:
            raise AssertionError(f"Attempted {name} but _scale is None.  This may indicate your script did not use "
                                 "scaler.scale(loss or outputs) earlier in the iteration.")
        return self._scale

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale: before clipping them, say. ``step`` does it otherwise.

        Raises:
            RuntimeError: it was done already since the last ``update``. ValueError: a gradient is float16.
        """
        if not self._enabled:
            return
        scale, own = self._started("unscale_"), id(optimizer)
        stage = self._stages.get(own, OptState.READY)
        if stage is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if stage is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        bad = None
        with no_grad():
            inverse = scale.double().reciprocal().float()
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if p.grad.dtype is float16:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    here = ~p.grad.isfinite().all()
                    bad = here if bad is None else bad | here
                    p.grad.mul_(inverse.to(p.grad.dtype) if p.grad.dtype is not float32 else inverse)
        self._found[own] = None if bad is None else bad.to(float32)
        self._stages[own] = OptState.UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``unscale_`` unless it was done, then ``optimizer.step(*args, **kwargs)`` unless a gradient is infinite or NaN.

        Raises:
            RuntimeError: called twice since the last ``update``, with a closure, or no gradient was found.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._started("step")
        own = id(optimizer)
        if self._stages.get(own) is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if self._stages.get(own, OptState.READY) is OptState.READY:
            self.unscale_(optimizer)
        found = self._found[own]
        if found is None:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        result = None if found.item() else optimizer.step(*args, **kwargs)
        self._stages[own] = OptState.STEPPED
        return result

    def update(self, new_scale: Any = None) -> None:
        """The scale of the next iteration: ``new_scale`` (a number, or a tensor of one), or what the last steps suggest.

        Raises:
            AssertionError: no optimizer was unscaled since the last update.
        """
        if not self._enabled:
            return
        scale = self._started("update")
        if new_scale is not None:
            if isinstance(new_scale, Handle) and (new_scale.numel() != 1 or new_scale.requires_grad):  # type: ignore[attr-defined]
                raise AssertionError("new_scale should be a float or a 1-element torch.cuda.FloatTensor or torch.FloatTensor with "
                                     "requires_grad=False.")
            self._scale = FUNCTIONS["full"]((), float(new_scale), dtype=float32)  # type: ignore[arg-type]
        else:
            found = [f for f in self._found.values() if f is not None]
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.")
            now, steps = scale.item(), int(self._growth_tracker.item()) + 1
            if any(f.item() for f in found):
                now, steps = now * self._backoff_factor, 0
            elif steps >= self._growth_interval:
                grown, steps = now * self._growth_factor, 0
                now = grown if grown < float("inf") and bool(FUNCTIONS["full"]((), grown, dtype=float32).isfinite()) else now
            if now != scale.item():
                self._scale = FUNCTIONS["full"]((), now, dtype=float32)
            self._growth_tracker = FUNCTIONS["full"]((), steps, dtype=int32)
        self._stages, self._found = {}, {}

    # -- what it is made of --------------------------------------------------------------------------------------
    def get_scale(self) -> float:
        """The scale; 1.0 if disabled."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float: return self._growth_factor
    def set_growth_factor(self, new_factor: float) -> None: self._growth_factor = new_factor
    def get_backoff_factor(self) -> float: return self._backoff_factor
    def set_backoff_factor(self, new_factor: float) -> None: self._backoff_factor = new_factor
    def get_growth_interval(self) -> int: return self._growth_interval
    def set_growth_interval(self, new_interval: int) -> None: self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else int(self._growth_tracker.item())

    def is_enabled(self) -> bool:
        """Whether it scales."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors, interval and tracker; empty if disabled."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval, "_growth_tracker": self._get_growth_tracker()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state of another scaler.

        Raises:
            RuntimeError: the state is empty: it is that of a disabled one.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler.")
        self._init_scale = state_dict["scale"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval, self._init_growth_tracker = state_dict["growth_interval"], state_dict["_growth_tracker"]
        if self._scale is not None:
            self._scale = self._growth_tracker = None
            self._begin()

    def __getstate__(self) -> dict[str, Any]:
        if not self._enabled:
            return dict(self.__dict__)
        if self._stages:
            raise AssertionError("A GradScaler instance may only be pickled at the beginning of an iteration, or at the end after "
                                 "scaler.update().")
        state = dict(self.__dict__)
        state["_init_scale"], state["_init_growth_tracker"] = self.get_scale(), self._get_growth_tracker()
        state["_scale"] = state["_growth_tracker"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
