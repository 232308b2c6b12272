"""Long paths that never come again are cut into pieces that do.

A loop whose number of turns changes (an episode of a game, backpropagated through each of its moves; a recurrent cell called by
hand, sentence by sentence) brings a path of its own for each number. None of these would be worth a program, and each would be
recorded, lowered and interpreted for itself. So where one long path after the other begins alike and goes on otherwise, recording
stops for a flush after what they have in common, and from there on after each short piece. In a loop the pieces repeat: they are
found in the trie, and so are their programs, whatever the number of turns.

A piece ends where the same place of the loop's body is reached, so that few different pieces arise: at the operation whose name and
results come first in the alphabet, of all that the piece has. What comes again as a whole is left whole: fused, and without results
that nobody asks for.

A loop's pieces soon come again. Where there is no loop (a network that follows a tree, or that chance leads through its layers) the
shorter they are the sooner they do. So while many of them are new, they become shorter. Where the same pieces keep coming in the same
order, there is nothing to be cut any more.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .patience import LONG

if TYPE_CHECKING:
    from .trace import TraceNode

__all__ = ["PIECE", "Pieces"]

START = 16       # nodes whose lines paths have in common that begin alike
PIECE = 32       # nodes of a piece at least, at first
_LEAST = 8       # ... and in the end
_AT_MOST = 8     # times as many at most
_STRANGERS = 5   # so many new long paths that begin alike ...
_RUNS = 8        # ... among so many long paths that ran, new ones that begin otherwise not counted
_LATELY = 32     # new long paths that are remembered
_WINDOW = 128    # pieces of which ...
_NEW = 16        # ... so many are many new ones
_ENDS = 4096     # ends of pieces that are known
_WHOLES = 16     # paths that were cut of which ...
_KINDS = 4       # ... no more different ones are a loop that repeats itself


class Pieces:
    """What one thread knows of its long paths. What counts is their order alone, so that each run of a program cuts at the same places.

    Attributes:
        runs: how many long paths have run.
        inside: whether this epoch begins where a piece ended; ``began``: likewise of the epoch that is being run.
        strangers: (number of the run, how it began, its structure, where that ends) of long paths that were new.
        alike: beginnings that too many had; ``starts``: where the first piece of paths that begin so ends.
        trail: which pieces the path has had so far that is being run, as a hash; ``wholes``: likewise of the last paths.
        size: nodes of a piece at least; ``ends``: where pieces end.
        passed, new: pieces since it was looked how many of them are new, and these.
        last, least: the node that was looked at last, and which operation of its piece comes first in the alphabet.
        torn: how many backwards in a row, which began inside, were cut.
    """

    __slots__ = ("runs", "inside", "began", "strangers", "alike", "starts", "trail", "wholes", "size", "ends", "passed", "new", "last",
                 "least", "torn")

    def __init__(self) -> None:
        self.runs = 0
        self.inside = self.began = False
        self.torn = 0
        self.strangers: deque[tuple[int, Any, int, TraceNode]] = deque(maxlen=_LATELY)
        self.alike: set[Any] = set()
        self.starts: deque[TraceNode] = deque(maxlen=_ENDS)
        self.trail = 0
        self.wholes: deque[int] = deque(maxlen=_WHOLES)
        self.size = PIECE
        self.ends: deque[TraceNode] = deque(maxlen=_ENDS)
        self.passed = self.new = 0
        self.last: TraceNode | None = None
        self.least: Any = ()

    def flushed(self, node: TraceNode, limit: int) -> None:
        """An epoch ends at this node. ``limit``: operations after which it would end anyway."""
        self.began, self.inside = self.inside, node.stop and node.depth < limit
        if node.depth >= LONG:
            self.runs += 1
        if self.inside or self.began:
            self._follow(node)
        if self.began:
            self.passed += 1
            if self.passed == _WINDOW:
                if self.new >= _NEW and self.size > _LEAST:
                    self._shorten()
                self.passed = self.new = 0

    def stranger(self, path: Sequence[TraceNode], structure: int) -> int:
        """A long path, with these nodes, runs for the first time, and none of its kind is known. Those that differ in sizes alone have
        one ``structure``, and count once: images of many sizes are no reason to cut the step of a network. How many there have been
        lately that begin alike."""
        start = next((node for node in path[START - 1:] if node.op is not None), None)
        if start is None:
            return 0
        beginning = _beginning(start)
        self.strangers.append((self.runs, beginning, structure, start))
        kinds, starts, others = set(), [], 0
        for run, one, kind, node in reversed(self.strangers):
            if self.runs - run - others >= _RUNS:
                break
            if one == beginning:
                kinds.add(kind)
                starts.append(node)
            else:
                others += 1
        if beginning in self.alike:  # it began in a part of the trie that is older
            self._start(start)
        elif len(kinds) >= _STRANGERS:
            self.alike.add(beginning)
            for node in starts:  # several, where they begin alike and are not the same
                self._start(node)
        return len(kinds)

    def _start(self, node: TraceNode) -> None:
        """The first piece of a path that begins like others ends here."""
        self.starts.append(node)
        _stop(node)

    def _follow(self, end: TraceNode) -> None:
        """A piece has come, which ends here."""
        self.trail = hash((self.trail if self.began else 0, end.depth, end.op and end.op.name, end.metas))
        if self.inside:
            return
        self.wholes.append(self.trail)
        if len(self.wholes) == _WHOLES and len(set(self.wholes)) <= _KINDS:
            for node in (*self.starts, *self.ends):
                node.stop = False
                _forget(node)
            for known in (self.starts, self.ends, self.alike, self.wholes, self.strangers):
                known.clear()
            self.size = PIECE

    def cuts(self, node: TraceNode) -> bool:
        """Whether a piece is to end with this operation, which is recorded for the first time."""
        if not self.inside:
            return node.depth >= START and _is_start(node) and _beginning(node) in self.alike
        if node.depth < self.size:
            return False
        if self.last is not node.parent:
            self.least = _name(node)
            for before in _up(node.parent):
                self._look(_name(before))
        self.last = node
        if not self._ends_at(node):
            return False
        self.ends.append(node)
        return True

    def _ends_at(self, node: TraceNode) -> bool:
        """Whether the piece ends with this operation, which is looked at after those before it."""
        name = _name(node)
        self._look(name)
        return node.depth >= self.size and (name == self.least or node.depth >= self.size * _AT_MOST)

    def _look(self, name: tuple[str, Any]) -> None:
        least = self.least
        if name[0] < least[0] or name[0] == least[0] and name[1] is not least[1] and str(name[1]) < str(least[1]):
            self.least = name

    def _shorten(self) -> None:
        """Let pieces be half as long, those that are known as well."""
        self.size //= 2
        ends, self.ends, self.last = self.ends, deque(maxlen=_ENDS), None
        for end in ends:
            path = list(_up(end))[::-1]
            self.least = _name(path[0])
            at = next((node for node in path if self._ends_at(node)), end)
            if not at.stop:
                _stop(at)
            self.ends.append(at)


def _up(node: TraceNode | None) -> Iterator[TraceNode]:
    """The operations of a path, from this one back to the first."""
    while node is not None:
        if node.op is not None:
            yield node
        node = node.parent


def _name(node: TraceNode) -> tuple[str, Any]:
    return node.op.name, node.metas


def _stop(node: TraceNode) -> None:
    """Let recording stop here."""
    node.stop = True
    _forget(node)


def _forget(node: TraceNode) -> None:
    """Forget what was remembered up to here: it may lead past this node, or expect a flush."""
    before: TraceNode | None = node
    while before is not None:
        before.forget()
        before = before.parent


def _is_start(node: TraceNode) -> bool:
    """Whether no operation before this one is the first beyond ``START`` nodes."""
    before: Any = node.parent
    while before.depth >= START and before.op is None:
        before = before.parent
    return before.depth < START  # type: ignore[no-any-return]


def _beginning(node: TraceNode) -> frozenset[Any]:
    """The user's lines of the operations up to this one. Sizes may differ, how many values enter, and the order, as where a tree is
    followed."""
    return frozenset([one.line for one in _up(node)])
