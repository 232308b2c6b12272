"""Handle: what a tensor is to the recorder and to autograd. ``tensor.Tensor`` derives from it and adds the user's API.

Views and in-place writes: tensors that share memory share a ``Storage``, which holds the present value of the whole
memory and a version. Values are immutable: a write through one tensor puts a new value into the storage and raises the
version; a tensor that sees an old version on its next read takes its value from the storage again.
"""
from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator
from itertools import repeat, starmap
from sys import getrefcount
from typing import TYPE_CHECKING, Any, NamedTuple

from ..compile.dtypes import DType
from ..record.meta import Meta, contiguous_strides, meta_of
from ..record.op import Op
from ..record.trace import TraceNode, local
from ..record.value import SPARE, DerivedValue, Epoch, Value

__all__ = ["Handle", "Storage", "Alias", "INFERENCE", "LEAF", "How", "UNSAVED", "UNWRITTEN", "View", "base_of", "check_normal", "derived",
           "enter_inference", "is_inference", "is_pending", "lying", "make", "new_alias", "new_view", "of_pairs", "of_parts", "part_at",
           "plain", "renew", "set_tensor_class", "storage_of", "TYPE_NAMES", "type_name", "watched_writes", "whole_of"]


TYPE_NAMES = {"float32": "FloatTensor", "float64": "DoubleTensor", "float16": "HalfTensor", "bfloat16": "BFloat16Tensor",
              "uint8": "ByteTensor", "int8": "CharTensor", "int16": "ShortTensor", "int32": "IntTensor", "int64": "LongTensor",
              "bool": "BoolTensor", "complex64": "ComplexFloatTensor", "complex128": "ComplexDoubleTensor"}


def type_name(d: DType, is_meta: bool = False) -> str:
    """How tensors of a dtype have always been called: ``torch.FloatTensor``, without memory ``torch.meta.FloatTensor``."""
    return ("torch.meta." if is_meta else "torch.") + TYPE_NAMES.get(d.name, f"{d.name.capitalize()}Tensor")


class _Leaf:
    """Marks the edge of a leaf that requires grad: graph nodes then point to the tensor itself."""

    def __repr__(self) -> str:
        return "LEAF"


LEAF = _Leaf()


#: ``_writes`` of a tensor that was made in inference mode, and ``version`` of its storage: it has no versions, whoever writes there.
INFERENCE = -1 << 62
_inferring = 0  # how many threads are in inference mode
was_inferring = False  # whether one ever was: else nobody needs to look
_counting = threading.Lock()


def enter_inference(more: int) -> None:
    """A thread enters inference mode (1) or leaves it (-1)."""
    global _inferring, was_inferring
    with _counting:
        was_inferring = True
        _inferring += more


def is_inference(t: Any) -> bool:
    """Whether the memory of a tensor was made in inference mode."""
    alias = t._alias
    return (t._writes if alias is None else alias.storage.version) < 0  # type: ignore[no-any-return]


def check_normal(tensors: Iterable[Any], problem: str) -> None:
    """Raise RuntimeError if a tensor was made in inference mode; called where ``was_inferring``."""
    if any(map(is_inference, tensors)):
        raise RuntimeError(problem)


UNSAVED = ("Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation tracked by "
           "autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` "
           "instead of `torch.inference_mode()`.")
UNWRITTEN = ("Inplace update to inference tensor outside InferenceMode is not allowed. You can make a clone to get a normal tensor before "
             "doing inplace update.")


class Storage:
    """Memory shared by several tensors: the value of the tensor it began with, and how often it was written: each write
    adds 1 to ``version``, one through ``x.data`` adds ``UNWATCHED_WRITE``."""

    __slots__ = ("value", "version", "__weakref__")  # made by ``storage_of``
    value: Value
    version: int


class How(NamedTuple):
    """What made a view: what a recorded view's trie node tells too. Where the place of a view is known from its beginning, nothing needs
    the attributes, which are empty then, and ``op`` is None unless it tells that there are other views of its kind."""

    op: Op | None
    attrs: tuple
    meta: Meta


def lying(v: Value) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides of the content of a storage: as its meta says, but row-major where its tensor stands for a view that was saved."""
    m = v.meta
    return m.shape, m.rows if m.order is None or v.origin is not None else m.strides  # type: ignore[return-value]


class Alias:
    """How a tensor lies in a storage.

    ``parent`` is the alias it was made from (None: it is the whole storage), ``how`` has the view operation, its attributes and
    the meta of the result; strides and offset are worked out only when somebody asks. ``base`` is the tensor whose gradient
    history a write through this one changes.
    """

    __slots__ = ("storage", "version", "base", "parent", "how", "_place")  # made by ``new_alias``
    storage: Storage
    version: int
    base: Any
    parent: Any  # an Alias or a View
    how: How | TraceNode
    _place: tuple | None

    def place(self: Any) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """(shape, strides, offset) in elements of the storage."""
        if self._place is None:
            chain: list[Any] = [self]
            while chain[-1].parent is not None and chain[-1].parent._place is None:
                chain.append(chain[-1].parent)
            for alias in reversed(chain):
                if alias.parent is None:
                    alias._place = (*lying(alias.storage.value), 0)
                else:
                    alias._place = alias.how.op.place(*alias.parent.place(), alias.how.attrs)
        return self._place  # type: ignore[no-any-return]


class DataAlias(Alias):
    """How ``x.data`` lies in a storage: a write through it, or through a view of it, is not held against what saved the content.
    ``begun`` is the version that the storage had."""

    __slots__ = ("begun",)
    begun: int


#: Stands for the writing operation where the write was through ``x.data``.
UNWATCHED = object()
UNWATCHED_WRITE = 1 << 32  # counted apart in the upper half of a version: one number to compare, and no other slot to fill


def _data_alias(alias: Any) -> Any:
    """The alias of ``x.data`` that this one is, or a view of; else None."""
    while alias is not None and type(alias) is not DataAlias:
        alias = alias.parent
    return alias


def is_unwatched(alias: Any) -> bool:
    """Whether ``alias`` is that of ``x.data`` or of a view of it."""
    return _data_alias(alias) is not None


def watched_writes(alias: Any) -> int:
    """How often the memory was written, as a tensor with this alias counts: all writes but those through ``x.data``, which has a count
    of its own that begins at 0."""
    version, data = alias.storage.version, _data_alias(alias)
    return version % UNWATCHED_WRITE if data is None else version // UNWATCHED_WRITE - data.begun // UNWATCHED_WRITE


def new_alias(storage: Storage, base: Any, parent: Any, how: How | TraceNode, place: tuple | None = None,
              kind: type[Alias] = Alias) -> Alias:
    alias: Any = kind()
    alias.storage, alias.version = storage, storage.version
    if kind is DataAlias:
        alias.begun = storage.version
    alias.base, alias.parent, alias.how = base, parent, how
    alias._place = place
    return alias  # type: ignore[no-any-return]


def base_of(alias: Any) -> Any:
    """The tensor whose gradient history a write through a view changes: its ``base``, or where that has become a view since (it was
    reshaped in place), what it was. None: the view keeps no history."""
    base = alias.base
    while base is not None and base._alias is not None and base._alias.base is not None and base._alias.storage is alias.storage:
        base = alias.base = base._alias.base
    return base


Place = tuple[tuple[int, ...], tuple[int, ...], int]


def of_parts(place: Place) -> Place:
    """Where the parts of complex numbers lie, counted in real ones: along a last dimension."""
    shape, strides, offset = place
    return (*shape, 2), (*[2 * s for s in strides], 1), 2 * offset


def of_pairs(place: Place) -> Place:
    """Where complex numbers lie whose parts lie at ``place``, along the last dimension, counted in complex ones."""
    shape, strides, offset = place
    return shape[:-1], tuple([s // 2 for s in strides[:-1]]), offset // 2


def within(base: Any, place: Place, dtype: DType) -> Place:
    """A place in a storage, in elements of ``dtype``, as a place in the content of ``base``, which may be a part of that storage, or lie
    across it: a tensor that was cut from its own base (``x.t().detach()``) is the base of its views.

    Raises:
        RuntimeError: elements of ``base`` share memory, or leave gaps between them.
    """
    alias = base._alias
    if alias is None or alias.parent is None:
        return place
    known, kind = alias.place(), base._value.meta.dtype
    if kind is dtype:
        return _within(known, place)
    return _within(of_parts(known), place) if kind.kind == "c" else of_pairs(_within(known, of_parts(place)))


def _within(known: Place, place: Place) -> Place:
    shape, strides, offset = known
    rows = contiguous_strides(shape)
    dims = sorted([d for d in range(len(shape)) if shape[d] != 1], key=lambda d: -strides[d])
    dense = 1
    for d in reversed(dims):
        if strides[d] != dense:
            raise RuntimeError("a write with gradients through a view of a tensor that is a part of other memory, with gaps between its "
                               "elements: clone that tensor before views of it are made.")
        dense *= shape[d]

    def moved(step: int) -> int:
        sign, rest, found = (-1, -step, 0) if step < 0 else (1, step, 0)
        for d in dims:
            found += rest // strides[d] * rows[d]
            rest %= strides[d]
        return sign * found
    return place[0], tuple(map(moved, place[1])), moved(place[2] - offset)


class View(DerivedValue):
    """The first value of a view and its alias in one object: two would cost as much again as all the rest of recording a view.

    When the storage has been written, the tensor needs another value and gets an ``Alias`` (``renew``); this one stays the value
    that it was.
    """

    __slots__ = ("storage", "version", "base", "parent", "how", "_place")  # made by ``new_view``
    storage: Any
    version: int
    base: Any
    parent: Any
    how: Any
    _place: Any
    place = Alias.place
    alias = property(lambda self: self)

    def let_go(self, wholes: list[Any]) -> bool:
        parent = self.parent
        self.origin = self.storage = self.base = self.parent = self._place = None
        if type(parent) is Alias and parent.parent is None and getrefcount(parent) == 2:  # the name and the argument
            storage = parent.storage
            if getrefcount(storage) == 3 and len(wholes) < SPARE:  # the same, and the alias
                if parent.how.meta.strides is not None:  # where it lies depended on whose whole it was
                    parent._place = None
                storage.value = None  # type: ignore[assignment]
                wholes.append(parent)
        return self.home is None and self.overwritten is None


class _Again(DerivedValue):
    """A later value of a view."""

    __slots__ = ("alias",)

    def let_go(self, wholes: list[Any]) -> bool:
        self.origin = self.alias = None
        return False


def new_view(t: Handle, meta: Meta, how: How | TraceNode, grad: bool | None, place: Place | None = None, epoch: Epoch | None = None,
             slot: int = -1, spare: Any = None) -> Any:
    """A tensor that shares the memory of ``t``; ``grad``: in grad mode. ``place``: where it lies in the storage, if that is known.
    ``spare``: a view that is to serve again."""
    parent = t._alias or storage_of(t)
    v: Any = spare
    if v is None:
        v = View()
        v.buffer = v.home = v.overwritten = None
    v.meta, v.epoch, v.slot = meta, epoch, slot
    v.storage = storage = parent.storage
    v.origin, v.version = storage.value, storage.version
    v.base = None if not grad else t if parent.base is None else parent.base
    v.parent, v.how, v._place = parent, how, place
    out = next(blanks)
    out._value = v
    out._alias = v
    out._writes = 0
    out._edge = out._grad = out._more = None
    return out


def part_at(alias: Any, meta: Meta, how: How, base: Any, place: Place) -> Any:
    """A tensor over a part of ready memory, which nobody records: as ``new_view``, made of what is known. ``alias``: of what it is a part
    of; ``base``: as ``Alias`` has it."""
    v: Any = View()
    v.buffer = v.home = v.overwritten = v.epoch = None
    v.slot = -1
    v.meta = meta
    v.storage = storage = alias.storage
    v.origin = storage.value
    v.version = storage.version
    v.base = base
    v.parent = alias
    v.how = how
    v._place = place
    out = next(blanks)
    out._value = out._alias = v
    out._writes = 0
    out._edge = out._grad = out._more = None
    return out


class Handle:
    """Slots of a tensor.

    ``_value``: present value; ``_edge``: None (no gradient), LEAF, a graph node, or (node, result number); ``_grad``: the
    accumulated gradient of a leaf; ``_alias``: None while no other tensor shares its memory; ``_writes``: in-place writes
    while ``_alias`` is None, or ``INFERENCE``; ``_more``: hooks and other rare things.
    """

    __slots__ = ("_value", "_edge", "_grad", "_alias", "_writes", "_more", "__weakref__", "__dict__")
    _value: Value
    _edge: Any
    _grad: Any
    _alias: Any  # an Alias, a View or None
    _writes: int
    _more: dict[str, Any] | None

    if TYPE_CHECKING:  # methods that the tensor room attaches
        def __getattr__(self, name: str) -> Any: ...

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.meta.shape

    @property
    def dtype(self) -> DType:
        return self._value.meta.dtype


plain: type = Handle  #: The class that results have.
#: Empty tensors of the class that results have. ``next`` of them is a quarter quicker than to call ``object.__new__`` with it.
blanks: Iterator[Any] = starmap(object.__new__, repeat((Handle,)))


def set_tensor_class(cls: type) -> None:
    """The tensor room hands in the class that results have."""
    global plain, blanks
    plain, blanks = cls, starmap(object.__new__, repeat((cls,)))


def make(value: Value, edge: Any = None) -> Any:
    """A new tensor."""
    t = next(blanks)
    t._value = value
    t._edge = edge
    t._grad = None
    t._alias = None
    t._writes = INFERENCE if _inferring and local.trace.inference else 0
    t._more = None
    return t


@functools.lru_cache(4096)
def whole_of(meta: Meta) -> How:
    """How that which is made of nothing else is."""
    return How(None, (), meta)


def is_pending(t: Handle) -> bool:
    """Whether what fills a tensor's memory is recorded and has not run."""
    alias = t._alias
    return (t._value if alias is None else alias.storage.value).buffer is None


def storage_of(t: Handle) -> Alias:
    """The alias of a tensor; the first call gives it a storage."""
    alias = t._alias
    if alias is None:
        # Written out: most views are the first one of a result.
        value = t._value
        spare = local.trace.spare_wholes
        if spare:
            alias = t._alias = spare.pop()
            storage = alias.storage
            if alias.how.meta is not value.meta:
                alias.how, alias._place = whole_of(value.meta), None
        else:
            storage = Storage()
            alias = t._alias = Alias()
            alias.storage = storage
            alias.base = alias.parent = alias._place = None
            alias.how = whole_of(value.meta)
        storage.value = value
        storage.version = alias.version = t._writes
    return alias


def derived(alias: Any, meta: Meta | None = None, epoch: Epoch | None = None, slot: int = -1) -> Value:
    """A value of a view, taken from the present value of its storage; without ``meta`` to be recorded when it is next needed."""
    if meta is None:
        shape, strides, _ = alias.place()
        known = alias.how.meta
        meta = meta_of(shape, known.dtype, known.device, strides)
    v: Any = _Again()
    v.meta, v.epoch, v.slot = meta, epoch, slot
    v.buffer = v.home = v.overwritten = None
    v.origin, v.alias = alias.storage.value, alias
    return v


def renew(t: Handle) -> Alias:
    """The storage of a view has another value, and the view another one soon: returns the alias that it then has."""
    alias: Any = t._alias
    if type(alias) is View:
        whole: Any = alias.parent  # not what the view was made of: that holds the storage's value of that time
        while whole.parent is not None:
            whole = whole.parent
        data = _data_alias(alias)
        kind, old = Alias if data is None else DataAlias, alias
        alias = t._alias = new_alias(old.storage, old.base, whole, old.how, old.place(), kind)
        if data is not None:
            alias.begun = data.begun
    alias.version = alias.storage.version
    return alias  # type: ignore[no-any-return]
