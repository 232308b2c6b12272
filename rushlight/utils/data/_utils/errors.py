"""Carrying an exception from a worker process to the loop that waits for its batch."""

from __future__ import annotations

import pickle
import sys
import traceback
from typing import NoReturn

__all__ = ["ExceptionWrapper"]


class _LiteralMessage(str):
    """KeyError prints the repr of its argument; this keeps the line breaks of a traceback readable."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ExceptionWrapper:
    """The exception being handled, as text and class: tracebacks and many exceptions cannot be pickled.

    Args:
        where: names the place in the message, for instance ``"in DataLoader worker process 0"``.
    """

    def __init__(self, where: str = "in background") -> None:
        kind, value, trace = sys.exc_info()
        assert kind is not None, "ExceptionWrapper is made while an exception is handled"
        self.text = "".join(traceback.format_exception(kind, value, trace))
        self.name = kind.__name__
        self.where = where
        try:
            pickle.dumps(kind)
        except Exception:  # a class made inside a function has no name that the parent could look up
            kind = RuntimeError
        self.exc_type = kind

    def reraise(self) -> NoReturn:
        """Raise an exception of the original class, with the worker's traceback in its message.

        Classes that cannot be made from one message become a RuntimeError that says so.
        """
        message = f"Caught {self.name} {self.where}.\nOriginal {self.text}"
        if issubclass(self.exc_type, KeyError):
            message = _LiteralMessage(message)
        if getattr(self.exc_type, "message", None) is not None:
            raise self.exc_type(message=message)  # type: ignore[call-arg]
        try:
            exception = self.exc_type(message)
        except Exception:  # its __init__ wants something else
            raise RuntimeError(message) from None
        try:
            raise exception
        finally:
            del exception  # or it and this frame would keep each other, and with them the workers, until the next gc
