"""What planners give: the instructions that compute a contraction or a native call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["KernelRequest", "Operand", "Plan", "Step"]

Operand = str | tuple[str, int]
KernelRequest = tuple[str, Callable[[], str], str]


@dataclass
class Step:
    """One instruction. ``kernel``: a request for ``jit.kernels``. ``operands``: ("a" | "b" | "c" | ("extra", i) |
    ("scratch", j), byte offset) for each pointer pair that the parameters begin with; ``params``: what follows them.
    ``packs``: the step only fills a scratch buffer, its second operand, from its first; nothing else writes there. ``wave``: not 0
    where the parts come in waves of so many, each when the one before is complete."""

    kernel: KernelRequest
    operands: list[tuple[Operand, int]]
    params: list[int]
    parts: int
    packs: bool = False
    wave: int = 0


@dataclass
class Plan:
    """``scratch``: the bytes of each scratch buffer, needed from the first step to the last."""

    steps: list[Step] = field(default_factory=list)
    scratch: list[int] = field(default_factory=list)
    flops: int = 0
