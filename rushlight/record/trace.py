"""The recorder: a trie of past traces.

Recording an operation is one dictionary look-up at the present node of the trie: ``edges[(op, attrs, slots...)]``. All
that could be computed about the operation (shapes, dtypes, the user's source line) was stored on the node it leads to
when it was first recorded. A node also holds the programs that flushes at this point have built.

Slots number the values of a trace in order: leaves and results alike.
"""
from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Sequence
from types import FrameType
from typing import Any

from .met import Met
from .meta import CPU, Device, Meta
from .op import Op
from .passing import Passing
from .patience import Patience
from .settings import settings
from .unsettled import APART, Unsettled
from .value import Value, new_epoch

__all__ = ["NOTHING", "NO_COPY", "SWEEP", "Call", "Known", "TraceNode", "Trace", "forget_results", "here", "local", "traces", "user_frame",
           "user_line"]

_PACKAGE = __name__.split(".", 1)[0] + "."
#: Of nodes that hold nothing yet, as most do for good: never written to.
NOTHING: dict[Any, Any] = {}
NO_COPY: tuple[Any, int] = (None, -1)
_inside: dict[str, bool] = {}                              # names of modules -> whether they belong to this package
SWEEP = 1 << 28  # bytes that a path touches between two looks at what of it is garbage
_lines: dict[tuple[str, int], tuple[str, int]] = {}        # one tuple for each line
_MOST_LINES = 100_000


class Call:
    """A call that was made: ``step(trace, then, facts, *arguments)`` makes it again at a point of a trace from where it leads to the
    node ``then`` (or nodes), or returns None if this is another call. Points with equal calls share one object."""

    __slots__ = ("function", "step", "facts", "__weakref__")

    def __init__(self, function: Any, step: Any, facts: tuple) -> None:
        self.function, self.step, self.facts = function, step, facts


class Known(dict[Any, list[tuple[Call, Any]]]):
    """The calls of one function at one node and where they lead, by the meta of the first tensor (a cache that grows has another one in
    each step); ``failures``: how many since the last of them could not be remembered."""

    __slots__ = ("failures",)

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0


NO_CALL = Call(None, None, ())


def _link(parent: TraceNode, key: tuple[Any, ...], node: TraceNode) -> None:
    if parent.edges is NOTHING:
        parent.edges = {}
    parent.edges.setdefault(key, node)


class _Latest:
    """What every call looks at: a base class, so that it lies at the head of a node, in one line of the processor's cache. Nodes of
    a long history (each length of a sequence has its own) are far apart in memory, and everything else about a call is shared."""

    __slots__ = ("last", "then")
    last: Call
    then: Any


class TraceNode(_Latest):
    """One recorded operation (or leaf) after one particular history.

    Attributes:
        edges: next operations.
        op, attrs, inputs: what was recorded; ``inputs`` are slots. A leaf has ``op`` None.
        metas: of the results; ``meta`` is the first of them.
        slot: number of the first result; ``depth``: nodes from the root.
        calls: public functions -> their calls that were made here before; ``last`` is the latest of these, and ``then`` the node, or
            the nodes in order, that it leads to. See ``autograd/quick.py``.
        programs: (live slots, memory taken over) -> program or how often it was seen; see ``flush``.
        saves: which inputs the gradient keeps, for each set of inputs that wants a gradient; rules: what remembers the gradient rule's
            calls, likewise (``autograd/rules.py``).
        line: (file, line) of the user's code that recorded it first.
        bytes: of all results up to here; ``touched``: those of leaves besides. stop: recording stops here for a flush. sweep: another
            ``SWEEP`` bytes have been touched, so that it may be time for one (``autograd/garbage.py``).
    """

    __slots__ = ("edges", "calls", "parent", "op", "attrs", "inputs", "metas", "meta", "slot", "depth", "bytes", "touched", "sweeps",
                 "programs", "saves", "rules", "line", "scalars", "used", "stop", "sweep", "backward", "again", "over", "shares")

    depth: int
    bytes: int
    touched: int
    sweeps: int
    op: Any    # an Op; None for a leaf
    meta: Any  # a Meta; None for the root

    def __init__(self, parent: TraceNode | None, op: Op | None, attrs: tuple, inputs: tuple[int, ...],
                 metas: tuple[Meta, ...], slot: int) -> None:
        self.edges: dict[tuple, TraceNode] = NOTHING
        self.calls: dict[Any, Known] | None = None
        self.last, self.then = NO_CALL, None
        self.parent, self.op, self.attrs, self.inputs, self.metas, self.slot = parent, op, attrs, inputs, metas, slot
        self.meta = metas[0] if metas else None
        self.depth = parent.depth + 1 if parent is not None else 0
        own = metas[0].nbytes if len(metas) == 1 else sum([m.nbytes for m in metas])
        before, touched, sweeps = (0, 0, 0) if parent is None else (parent.bytes, parent.touched, parent.sweeps)
        self.bytes = before + (own if op else 0)
        self.touched = touched + own
        self.sweeps = sweeps if op is None else self.touched // SWEEP
        self.sweep = self.sweeps > sweeps
        self.programs: dict[tuple, Any] = NOTHING
        self.saves: dict[int, tuple] = NOTHING
        self.rules: dict[int, Any] = NOTHING
        self.scalars: dict[tuple, tuple] = NOTHING  # calls with numbers -> the numbers seen
        self.line: tuple[str, int] | None = None
        self.used = 0
        self.again: Any = None  # the last run that ended here; see record/again.py
        self.backward: Any = None  # the walk of a backward that began here; see autograd/replay.py
        self.over: Any = None  # writes in place that began here; see autograd/over_steps.py
        self.shares: Any = None  # what its graph nodes do in a walk whose rules run one by one; see autograd/shares.py
        # Recording stops here for a flush: always at the same points of a path, so that programs repeat.
        self.stop: bool | str = op is not None and (self.depth >= settings.max_ops or self.bytes >= settings.max_bytes)

    def forget_latest(self) -> None:
        self.last, self.then = NO_CALL, None

    def forget(self) -> None:
        """Forget the calls, writes and backwards that begin here."""
        self.calls = self.backward = self.over = None
        self.forget_latest()

    def forget_what_leads_to(self, gone: set[int]) -> None:
        """Forget the calls that end at one of these nodes, told by identity, and writes and backwards, which may."""
        self.backward = self.over = None
        self.forget_latest()
        for known in self.calls.values() if self.calls is not None else ():
            for calls in known.values():
                calls[:] = [c for c in calls if id(c[1][-1] if type(c[1]) is tuple else c[1]) not in gone]

    @property
    def orders(self) -> tuple[tuple[int, ...] | None, ...]:
        """In which order the results fill memory if they are kept, None for row-major. (A view has no memory, but a remembered call may
        have made a value of its own where a view was recorded.)"""
        return tuple([m.order for m in self.metas])

    @property
    def is_mark(self) -> bool:
        return self.op is None and not self.metas and self.parent is not None


def user_frame(skip: int = 1) -> FrameType | None:
    """The innermost caller outside this package; so many are known to be inside. (What looks at a frame makes an object of it.)"""
    frame: FrameType | None = sys._getframe(skip)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        inside = _inside.get(name)
        if inside is None:
            inside = _inside[name] = name.startswith(_PACKAGE)
        if not inside:
            break
        frame = frame.f_back
    return frame


def user_line(skip: int = 1) -> tuple[str, int] | None:
    """File and line of the innermost caller outside this package, beyond so many that are known to be inside."""
    frame = user_frame(skip + 1)
    if frame is None:
        return None
    if len(_lines) > _MOST_LINES:
        _lines.clear()
    line = frame.f_code.co_filename, frame.f_lineno
    return _lines.setdefault(line, line)


class Trace:
    """The path being recorded; one for each thread.

    Attributes:
        node: where in the trie recording stands; ``root`` is shared by nothing: each thread has its own trie. ``lone``: the root for calls
            that run by themselves.
        alone: each call runs by itself (``unsettled.py``). within: but for those that another one makes, or a backward, at present.
        values: every value of this epoch by slot (this list and outside holders are what liveness counts).
        spare, spare_views: values of former epochs that were never needed; the next results (views) are made of them, because new
            objects cost more, most of all by the collections of garbage that they bring about. spare_wholes: the same of what tensors
            got when the first view was made of them (``autograd/handle.py::storage_of``).
        epoch: identity of the present stretch of recording.
        grad_enabled, inference: the grad mode of this thread; in inference mode ``grad_enabled`` is None.
        anomaly: whether graph nodes are to keep where they were made; packing: the user's hooks for what they save
            (``autograd/saved.py``); watching: one of these two.
        modes: what is asked about every call of a public function, innermost last (``autograd/overriding.py``).
        mapping: how many ``vmap`` are calling their function: what it records is meant for other numbers than those that are there.
        copied: the last value that entered as a copy of memory that NumPy can write, and the slot of that copy.
        drawn: the last leaf whose content was drawn at random for one operation; what takes the next one of those that are drawn
            already, and what draws one where there is none (an IndexError).
        exported: an operation of this epoch reads memory that NumPy can write, so that everything runs at once.
        full: this one, or ``watching``, or tensors are made elsewhere than usual: no call may be made from memory. ``slow``: it is so for
            reasons that outlive a flush.
        device: where tensors are made for which nobody names a device; ``devices``: where they were before, innermost last.
        whole: a call is being made that is to be remembered as a whole: the calls within it are not.
        varying: (operation or "positions", the user's line) -> how often another Python number came there; see ``autograd/varying.py``.
        low: the narrow type that operations choose while autocast is on, else None; ``regions`` is the state behind it
            (``autograd/autocast.py``).
        here: the user's line while that is known to be the same (a backward); known: calls that may be made anywhere
            (``autograd/anew.py``); bare: likewise, gradient rules (``autograd/bare.py``),
            and ``rules_met``: which were run there.
        limit: up to this depth nothing that is recorded now stops for a flush because the budget is used up: a backward is one stretch.
        room: as many nodes may there be before the least recently used go, if that is more than the usual number.
        patience: which long paths wait to be compiled; ``unsettled``: which are run call by call, because no other one like them comes;
            ``passing``: which do not stay.
    """

    __slots__ = ("root", "node", "values", "spare", "spare_views", "spare_wholes", "epoch", "grad_enabled", "inference", "lock",
                 "flushes", "nodes", "anomaly", "packing", "watching", "slow", "device", "devices", "modes", "mapping", "copied",
                 "drawn", "exported", "full", "whole", "varying", "windows", "low", "regions", "limit", "room", "patience",
                 "unsettled", "passing", "here", "known", "bare", "rules_met", "lone", "alone", "within", "__weakref__")

    def __init__(self) -> None:
        self.root = TraceNode(None, None, (), (), (), 0)
        self.node = self.root
        self.values: list[Value] = []
        self.spare: list[Value] = []
        self.spare_views: list[Value] = []
        self.spare_wholes: list[Any] = []
        self.epoch = new_epoch(self)
        self.grad_enabled: bool | None = True
        self.inference = False
        self.lock = threading.RLock()
        self.flushes = 0
        self.nodes = 0
        self.anomaly = self.watching = self.slow = False
        self.device = CPU
        self.devices: list[Device] = []
        self.modes: tuple[Any, ...] = ()
        self.mapping = 0
        self.packing: tuple[tuple[Any, Any], ...] = ()
        self.low: Any = None
        self.regions: Any = None
        self.windows: set[int] = set()  # identities of the buffers that this epoch reads through windows
        self.copied: tuple[Any, int] = NO_COPY
        self.drawn: tuple[Any, Any, Any] = (None, None, None)
        self.exported = False
        self.full = self.whole = False
        self.varying: dict[tuple, int] = {}
        self.limit = self.room = 0
        self.patience = Patience()
        self.unsettled = Unsettled()
        self.lone = TraceNode(None, None, (), (), (), 0)
        self.alone = self.within = False
        self.passing = Passing()
        self.here: tuple[str, int] | None = None
        self.known: dict[tuple, Any] = {}
        self.bare: dict[tuple, Any] = {}
        self.rules_met = Met()

    def read_at_once(self) -> None:
        """Memory that others can write has entered: what is recorded in this epoch has to run before they do."""
        self.exported = self.full = True

    def set_anomaly(self, mode: bool) -> None:
        self.anomaly = mode
        self._watch()

    def set_packing(self, hooks: tuple[tuple[Any, Any], ...]) -> None:
        self.packing = hooks
        self._watch()

    def _watch(self) -> None:
        self.watching = self.anomaly or bool(self.packing)
        self.slow = self.watching or self.device is not CPU or bool(self.modes)
        self.full = self.slow or self.exported

    def set_device(self, device: Device) -> None:
        self.device = device
        self._watch()

    def enter_device(self, device: Device) -> None:
        self.devices.append(self.device)
        self.set_device(device)

    def leave_device(self) -> None:
        self.set_device(self.devices.pop())

    def set_modes(self, modes: tuple[Any, ...]) -> None:
        self.modes = modes
        self._watch()

    def branch(self, low: Any) -> None:
        """Autocast begins, ends or changes its type: what is recorded from here on has branches of its own, which begin
        with a mark, a node without results."""
        self.low = low
        if self.values:
            node = self.node
            while node.is_mark:  # nothing was recorded since the last one
                node = node.parent  # type: ignore[assignment]
            self.node = self.marked(node)
        else:
            self.node = self.beginning()

    def marked(self, node: TraceNode) -> TraceNode:
        """The mark of the present type after ``node``."""
        key = ("autocast", self.low)
        found = node.edges.get(key)
        if found is None:
            found = TraceNode(node, None, (), (), (), len(self.values))
            _link(node, key, found)
            self.nodes += 1
        return found

    def beginning(self) -> TraceNode:
        """Where an epoch begins."""
        root = self.lone if self.alone else self.root
        return root if self.low is None else self.marked(root)

    def end_path(self) -> None:
        """A path ends here whose calls ran by themselves, all of them."""
        self.alone = False
        self.unsettled.ended()
        self.node = self.beginning()

    def extend(self, key: tuple, op: Op | None, attrs: tuple, inputs: tuple[int, ...], metas: tuple[Meta, ...]) -> TraceNode:
        """Add a node that was never recorded here before."""
        return self.grow(self.node, key, op, attrs, inputs, metas, len(self.values))

    def grow(self, parent: TraceNode, key: tuple, op: Op | None, attrs: tuple, inputs: tuple[int, ...], metas: tuple[Meta, ...],
             slot: int) -> TraceNode:
        """Add a node behind ``parent``, whose first result will be in this slot."""
        node = TraceNode(parent, op, attrs, inputs, metas, slot)
        if op is not None:
            # What runs by itself is nobody's in particular, and fails where it is called.
            node.line = None if self.alone else self.here or user_line(4)
            node.stop = node.stop and node.depth >= self.limit
            if self.unsettled.alike and not self.alone and self.unsettled.begins(node):
                node.stop = APART
        if not self.passing.loose or self.passing.kept:
            _link(parent, key, node)
        self.nodes += 1
        return node

    def put(self, path: Sequence[TraceNode]) -> None:
        """Put the nodes of a path into the trie that are not there."""
        for node in path:
            if not node.is_mark:
                key: tuple[Any, ...] = ("leaf", node.meta) if node.op is None else (node.op, node.attrs, *node.inputs)
                _link(node.parent, key, node)  # type: ignore[arg-type]

    def add_leaf(self, v: Value) -> int:
        """Let a ready value enter; returns its slot."""
        key = ("leaf", v.meta)
        node = self.node.edges.get(key)
        if node is None:
            node = self.extend(key, None, (), (), (v.meta,))
        self.node = node
        values = self.values
        v.epoch, v.slot = self.epoch, len(values)
        values.append(v)
        return v.slot

    def record(self, key: tuple) -> TraceNode:
        """Move along the edge of an operation, key ``(op, attrs, *slots)``; the caller appends the results to ``values``."""
        node = self.node.edges.get(key)
        if node is None:
            values = self.values
            slots = key[2:]
            metas, saves = result_of(key[0], key[1], [values[s].meta for s in slots])
            node = self.grow(self.node, key, key[0], key[1], slots, metas, len(values))
            node.saves = saves
        self.node = node
        return node


_results: dict[tuple[Any, ...], tuple[tuple[Meta, ...], dict[int, tuple]]] = {}
_met = Met()
_MOST_RESULTS = 8192


def result_of(op: Op, attrs: tuple, given: Sequence[Meta]) -> tuple[tuple[Meta, ...], dict[int, tuple]]:
    """The metas of an operation's results, and what its gradient keeps as far as that is known (``TraceNode.saves``): the same wherever it
    is recorded on such values."""
    name = (op, attrs, *given)
    found = _results.get(name)
    if found is None:
        metas: Any = op.meta(given, attrs)
        if op.lays is not None:
            for m in given:
                if m.strides is not None:
                    metas = op.lays(given, metas, attrs)
                    break
        found = metas if type(metas) is tuple else (metas,), {}
        if _met.again(name):
            if len(_results) >= _MOST_RESULTS:
                _results.clear()
            _results[name] = found
    return found


def forget_results() -> None:
    """Something changed that they follow from."""
    _results.clear()
    _met.clear()


traces: weakref.WeakSet[Trace] = weakref.WeakSet()  # of all threads


class _Local(threading.local):
    def __init__(self) -> None:
        self.trace = here.trace = Trace()
        traces.add(self.trace)


#: ``here.trace`` is ``local.trace`` in threads that have asked for that before; an AttributeError elsewhere. An instance of the class
#: itself, as this one is, is read in four fifths of the time, which every call of a public function pays.
here: Any = threading.local()
local = _Local()
