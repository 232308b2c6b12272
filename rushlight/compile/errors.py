"""What can go wrong while a program runs, compiled or interpreted."""
from __future__ import annotations

from typing import Any

__all__ = ["INDEX", "TARGET", "OutOfBounds", "ZeroDivision", "origin"]

INDEX, TARGET = 1, 3  # what a gather reads by: the codes of its run-time errors (see ``nest.ERRORS``)


class OutOfBounds(IndexError, RuntimeError):
    """An index outside its axis.

    PyTorch raises IndexError for indexing, embeddings and labels, RuntimeError for gather and scatter. A program knows
    only that it reads or writes by index, so whoever catches either of the two catches this.
    """


class ZeroDivision(RuntimeError):
    """Integers divided by zero: a RuntimeError in PyTorch."""

    def __init__(self, message: str = "ZeroDivisionError: integer division by zero") -> None:
        super().__init__(message)


def origin(line: Any) -> str:
    """``" (from file:line)"`` for the user's line that recorded an operation, where it is known."""
    if line is None:
        return ""
    return f" (from {':'.join(map(str, line[:2]))})" if isinstance(line, tuple) else f" (from {line})"
