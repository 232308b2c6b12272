"""Paths that come once do not stay in the trie.

A graph of new size in every step, tokens routed to experts as they come: such a path is a member of a known family, so its program is
made in no time, and it will hardly be met again. Its nodes would stay all the same, a thousand objects for each step, and what a trie
costs is above all the garbage collector's walks over it. So where many new members come to a large trie, the next one has to come twice
to stay.
Where most new paths went this way lately, the nodes of the next are not even put into the trie: they know what was before them, and
nothing leads to them.

Until then what is new is kept, and Python need not look through it after every few hundred objects (``pace.py``): such a path is ten times
the objects of one that is known.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .met import Met
from .pace import pace

if TYPE_CHECKING:
    from .trace import Trace, TraceNode

__all__ = ["Passing"]

_LARGE = 10_000        # nodes of a trie from which on one is spared: sizes that are few are all there before
_NEW, _RUNS = 32, 512  # so many new members among so many runs are many
_NODES = 16            # added to the trie, at least, by a path that counts
_LATELY = 0xFF         # of the last eight such paths ...
_EXPECTED = 6          # ... so many did not stay
_OFTEN = 8             # paths that added nodes, from which on there is nothing special about the next one
_OBJECTS = 8           # that a new node and what is remembered there are, in those that recording at a known one makes
_PACE = 5_000          # operations at known nodes whose objects are as many as new nodes have between two looks, at most
_REACH = 64            # nodes before, at most, at which a call begins that is looked for


class Passing:
    """What one thread knows of paths that came once. What counts is their order alone.

    Attributes:
        new: when new members came last: numbers of flushes.
        met: paths that came once and did not stay.
        end: the node where a path ends that does not stay.
        nodes: how many the trie had when the last path had run.
        lately: of the last paths that added nodes, which did not stay: a bit for each; grown: how many there were.
        loose: most did not, so that the nodes of this epoch are not put into the trie before it is known that they are to stay, and nobody
            need remember what is made there; ``kept``: they have been since.
    """

    __slots__ = ("new", "met", "end", "nodes", "lately", "grown", "loose", "kept")

    def __init__(self) -> None:
        self.new: deque[int] = deque(maxlen=_NEW)
        self.met = Met()
        self.end: TraceNode | None = None
        self.nodes = self.lately = self.grown = 0
        self.loose = self.kept = False

    def comes(self, tr: Trace, path: Sequence[TraceNode], member: tuple[int, tuple[Any, ...]] | None) -> None:
        """A path with new nodes runs; ``member``: structure and numbers of one whose program a family gave. Those of a loose one that is
        to stay are put into the trie."""
        if member is not None and self._once(tr.nodes, tr.flushes, member):
            self.end = path[-1]
        elif self.loose and not self.kept:
            self.kept = True
            tr.put(path)

    def _once(self, nodes: int, now: int, name: tuple[Any, ...]) -> bool:
        self.new.append(now)
        if nodes < _LARGE or len(self.new) < _NEW or now - self.new[0] > _RUNS:
            return False
        return not self.met.again(name)

    def ended(self, tr: Trace, node: TraceNode) -> None:
        """An epoch that added nodes has ended, at this one."""
        cut, added = self.end is node, tr.nodes - self.nodes
        self.end = None
        if self.loose:
            if not self.kept:
                tr.nodes = self.nodes
            self.kept = False
        elif cut:
            _cut_off(tr, node)
        if added >= _NODES:
            self.lately = (self.lately << 1 | cut) & _LATELY
            self.loose = self.lately.bit_count() >= _EXPECTED
            self.grown += 1
            if self.grown > _OFTEN and _OBJECTS * added > pace.length:
                pace.follow(min(_OBJECTS * added, _PACE))
        self.nodes = tr.nodes


def _cut_off(tr: Trace, node: TraceNode) -> None:
    """Take the nodes from the trie that lead to this one alone. They go at once: nothing in them refers to the nodes behind them."""
    gone = set()
    while not node.edges and not node.programs and node.parent is not None:
        parent = node.parent
        key = next((key for key, child in parent.edges.items() if child is node), None)
        if key is None:
            break  # something remembered led to a part that had been cut off before
        del parent.edges[key]
        tr.nodes -= 1
        gone.add(id(node))
        node.forget()
        node = parent
    # What was remembered before may lead to what is gone.
    before: TraceNode | None = node
    for _ in range(_REACH):
        if before is None:
            break
        before.forget_what_leads_to(gone)
        before = before.parent
