"""Steps whose structure is another one each time: their calls run one by one.

A loop whose number of turns changes (an episode of a game, a recurrent cell called by hand, sentence by sentence), a network that follows
a tree or that chance leads through its layers: each step brings a path of its own. None of these would be worth a program, and each
would be recorded, lowered and interpreted for itself. So where one long path after the other begins alike and goes on otherwise,
recording stops for a flush after what they have in common, and from there on each call of a function, and each gradient rule, runs by
itself. There are few different ones, whatever the structure: they are found at the root of a trie of their own, and so are their
programs (``Trace.alone``).

What comes again as a whole is left whole: fused, and without results that nobody asks for. Where the same calls keep coming in the same
order, they are recorded as one path again.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trace import TraceNode

__all__ = ["APART", "Unsettled"]

APART = "apart"  # why recording stops at a node: the calls behind it run by themselves

START = 16       # nodes whose lines paths have in common that begin alike
_STRANGERS = 5   # so many new long paths that begin alike ...
_RUNS = 8        # ... among so many long paths that ran, new ones that begin otherwise not counted
_LATELY = 32     # new long paths that are remembered
_ENDS = 4096     # ends of beginnings that are known
_WHOLES = 16     # paths of which each call ran by itself, of which ...
_KINDS = 4       # ... no more different ones are a loop that repeats itself


class Unsettled:
    """What one thread knows of its long paths. What counts is their order alone, so that each run of a program does the same at the same
    places.

    Attributes:
        runs: how many long paths have run.
        strangers: (number of the run, how it began, its structure, where that ends) of long paths that were new.
        alike: beginnings that too many had; ``starts``: where that which paths have in common that begin so ends.
        trail: which calls have run by themselves since the path began, as a hash; ``wholes``: likewise of the last paths.
    """

    __slots__ = ("runs", "strangers", "alike", "starts", "trail", "wholes")

    def __init__(self) -> None:
        self.runs = 0
        self.strangers: deque[tuple[int, Any, int, TraceNode]] = deque(maxlen=_LATELY)
        self.alike: set[Any] = set()
        self.starts: deque[TraceNode] = deque(maxlen=_ENDS)
        self.trail = 0
        self.wholes: deque[int] = deque(maxlen=_WHOLES)

    def stranger(self, path: Sequence[TraceNode], structure: int) -> int:
        """A long path, with these nodes, runs for the first time, and none of its kind is known. Those that differ in sizes alone have
        one ``structure``, and count once: images of many sizes are no reason to take the step of a network apart. How many there have been
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
        """What a path has in common with others ends here."""
        self.starts.append(node)
        node.stop = APART
        _forget(node)

    def begins(self, node: TraceNode) -> bool:
        """Whether a path that begins so ends with this operation, which is recorded for the first time, to go on call by call."""
        if node.depth >= START and _is_start(node) and _beginning(node) in self.alike:
            self.starts.append(node)
            return True
        return False

    def ended(self) -> None:
        """A path has ended whose calls ran by themselves."""
        self.wholes.append(self.trail)
        if len(self.wholes) == _WHOLES and len(set(self.wholes)) <= _KINDS:
            for node in self.starts:
                node.stop = False
                _forget(node)
            for known in (self.starts, self.alike, self.wholes, self.strangers):
                known.clear()


def _up(node: TraceNode | None) -> Iterator[TraceNode]:
    """The operations of a path, from this one back to the first."""
    while node is not None:
        if node.op is not None:
            yield node
        node = node.parent


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
