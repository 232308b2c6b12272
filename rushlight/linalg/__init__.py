"""Linear algebra: ``rushlight.linalg``, laid out as ``torch.linalg``."""
from __future__ import annotations

from ..ops.solving import LinAlgError
from ..tensor.matrices import LINALG

globals().update(LINALG)

__all__ = ["LinAlgError"]
__all__.extend(sorted(LINALG))
