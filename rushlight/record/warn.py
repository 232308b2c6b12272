"""Warnings that name the user's line, however many frames of this package are above it."""
from __future__ import annotations

import sys
import warnings

from .trace import user_frame
from .value import looks

__all__ = ["warn"]


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """As ``warnings.warn``, for the innermost caller outside this package."""
    looks.count += 1  # so that the call is not remembered: it is to warn again
    frame = user_frame()
    if frame is None:
        frame = sys._getframe()
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__", "<unknown>"),
                           frame.f_globals.setdefault("__warningregistry__", {}))
