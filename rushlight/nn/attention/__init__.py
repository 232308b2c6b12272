"""``torch.nn.attention``: which implementations of attention a program allows. There is one, so a choice changes nothing."""
from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...backends import cuda

__all__ = ["SDPBackend", "sdpa_kernel"]


class SDPBackend(enum.IntEnum):
    """PyTorch's implementations of ``scaled_dot_product_attention``."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextmanager
def sdpa_kernel(backends: SDPBackend | Sequence[SDPBackend], set_priority: bool = False) -> Iterator[None]:
    """Inside the ``with`` block the switches of ``backends.cuda`` allow these implementations alone.

    Raises:
        AssertionError: something else than an ``SDPBackend`` or a list of them.
    """
    assert isinstance(backends, (list, SDPBackend)), "Backend must be an instance of SDPBackend or a list of SDPBackend instances"
    chosen = [backends] if isinstance(backends, SDPBackend) else backends
    with cuda.sdp_kernel(SDPBackend.FLASH_ATTENTION in chosen, SDPBackend.MATH in chosen, SDPBackend.EFFICIENT_ATTENTION in chosen,
                         SDPBackend.CUDNN_ATTENTION in chosen):
        yield
