"""``torch.functional``: the file of PyTorch's in which some functions of its namespace are written."""
from __future__ import annotations

from typing import Any

import rushlight

_NAMES = frozenset((
    "atleast_1d atleast_2d atleast_3d block_diag broadcast_shapes broadcast_tensors cartesian_prod cdist "
    "chain_matmul einsum istft lu meshgrid norm pca_lowrank split stft svd_lowrank tensordot unique "
    "unique_consecutive unravel_index ").split())


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(rushlight, name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
