"""Lines of steps that make what a recorded operation gives: a value, a tensor, a graph node (``steps.py``, ``several.py``).

Objects are made without calling their ``__init__``, slot by slot: a call would cost as much as everything else that recording does.
"""
from __future__ import annotations

from collections.abc import Mapping

from .handle import INFERENCE

__all__ = ["node_lines", "tensor_lines", "value_lines", "writes_of"]


def writes_of(grad: bool | None, is_view: bool = False) -> int:
    """How often a tensor was written when it is made in a grad mode; a view is written as often as its storage."""
    return INFERENCE if grad is None and not is_view else 0


def value_lines(name: str, meta: str, slot: str, is_view: bool = False, spare: str = "spare") -> list[str]:
    """A value (or view), made of one that serves again if there is any, is in the trace."""
    kind, more = ("View", "_place") if is_view else ("Value", "origin")
    return [f"if {spare}: {name} = {spare}.pop()", "else:", f"  {name} = {kind}()",
            f"  {name}.buffer = {name}.home = {name}.overwritten = {name}.{more} = None",
            f"{name}.meta = {meta}", f"{name}.epoch = epoch", f"{name}.slot = {slot}", f"values.append({name})"]


def tensor_lines(name: str, value: str, edge: str, grad: bool | None, is_view: bool = False) -> list[str]:
    """A tensor has this value and edge. ``grad``: the grad mode; ``is_view``: the value is its alias."""
    alias = [f"{name}._alias = {value}", f"{name}._grad"] if is_view else [f"{name}._grad = {name}._alias"]
    return [f"{name} = next(blanks)", f"{name}._value = {value}", f"{name}._writes = {writes_of(grad, is_view)}", *alias[:-1],
            f"{alias[-1]} = {name}._more = None", f"{name}._edge = {edge}"]


def node_lines(name: str, kind: str, node: str, metas: str, filled: Mapping[str, str]) -> list[str]:
    """A graph node of this class has these edges and keeps this."""
    return [f"{name} = {kind}()", f"{name}.node = {node}", f"{name}.epoch = epoch", f"{name}.state = {metas}",
            *[f"{name}.{slot} = {value}" for slot, value in filled.items()]]
