"""``torch.fx.experimental.proxy_tensor``: tracing by tensors that record what is done with them; here ``fx.symbolic_trace`` does it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["get_proxy_mode", "make_fx"]


def get_proxy_mode() -> None:
    """The tracing that is going on: none of this kind."""


def make_fx(f: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Raises NotImplementedError: functions are traced with proxies, by ``torch.fx.symbolic_trace``."""
    raise NotImplementedError("make_fx: functions are not traced into operators; torch.fx.symbolic_trace makes a graph of calls of public "
                              "functions")
