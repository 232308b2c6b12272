"""Fusion: what grouping decides, as the later stages read it."""
from __future__ import annotations

from dataclasses import dataclass, field

from .graph import Node, View
from .group import Group, Groups

__all__ = ["Fusion"]


@dataclass
class Fusion:
    """The outcome: groups, where each stored value is computed, and which values share another's memory."""

    groups: Groups
    home: dict[Node, Group] = field(default_factory=dict)
    alias: dict[Node, Node] = field(default_factory=dict)      # reshape -> the value whose memory it is
    window: dict[Node, View] = field(default_factory=dict)     # an aliased value that is only a part of the other's memory
    order: dict[Node, tuple[int, ...]] = field(default_factory=dict)  # physical order of dimensions, outermost first
    readers: dict[Node, list[Group]] = field(default_factory=dict)  # stored value -> groups that load it

    def stored(self, node: Node) -> bool:
        return node.kind == "leaf" or node in self.home or node in self.alias

    def origin(self, node: Node) -> Node:
        while node in self.alias:
            node = self.alias[node]
        return node
