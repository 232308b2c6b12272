"""Titles: the names of the gradient nodes of functions that record several operations where PyTorch has one.

``addmv`` is a product and a sum; its result's ``grad_fn`` is the node of the sum, and is called ``AddmvBackward0``. A title belongs to
the graph node, not to the operation: the sum that somebody writes out is the same operation at the same place of the trie, and
is called ``AddBackward0``. It is the node's class (``node.titled_class``), which the quick way makes at once (``steps.py``), so a
title costs nothing there.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ..record.trace import local
from .handle import Handle
from .node import GradNode, titled_class

__all__ = ["called", "entitle", "entitle_written", "now", "titled"]

F = TypeVar("F", bound=Callable[..., Any])


def titled(title: str | Callable[..., str | None] | None = None, in_place: str | None = None) -> Callable[[F], F]:
    """The graph nodes of what a function returns are called ``title``, where it made them itself.

    Args:
        title: ``AddmmBackward0``, or a function of the call's arguments that gives it (None: the operation's own name); None if only
            the in-place method has one.
        in_place: the title after the method ``name_``, where that has another.
    """
    def wrap(define: F) -> F:
        call: Any = define
        if title is not None:
            @functools.wraps(define)
            def call(*args: Any, **kwargs: Any) -> Any:
                if not local.trace.grad_enabled:
                    return define(*args, **kwargs)
                begun = now()
                made = define(*args, **kwargs)
                for t in (made if isinstance(made, (tuple, list)) else (made,)):
                    if isinstance(t, Handle):
                        entitle(t, called(title, args, kwargs), begun)
                return made
        call.in_place_title = in_place or title
        return call  # type: ignore[no-any-return]
    return wrap


def called(title: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The title of a call with these arguments."""
    return title if title is None or type(title) is str else title(*args, **kwargs)


def now() -> tuple[int, int]:
    """The present moment as ``Node.born`` counts it."""
    tr = local.trace
    return tr.epoch.number, len(tr.values)


def entitle(t: Handle, title: str | None, begun: tuple[int, int] = (0, 0)) -> None:
    """Call the graph node of a tensor ``title``, if it was made after ``begun``: what a function returns may be its argument."""
    if title is None:
        return
    edge = t._edge
    node = edge[0] if type(edge) is tuple else edge
    if isinstance(node, GradNode) and node.born >= begun:
        node.__class__ = titled_class(node.form, title)


def entitle_written(t: Handle, title: str | None, begun: tuple[int, int] = (0, 0)) -> None:
    """``entitle`` for a tensor that was written in place: the node of a view, which is a part of what was written, is that of a view."""
    if t._alias is None or t._alias.base is None:
        entitle(t, title, begun)
