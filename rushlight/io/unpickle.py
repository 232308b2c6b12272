"""A pickle machine that runs nothing but what it is told to trust.

Python's own unpickler, even with a filtered `find_class`, lets a file set attributes on the classes and functions that
the filter lets through. This machine interprets the opcodes itself: a global is looked up in a table, only values of
that table can be called, and only known kinds of objects can be given a state.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any, BinaryIO

HIGHEST_PROTOCOL = 5
_LIMIT = 1 << 31  # one string, bytes object or integer of a checkpoint's pickle is never this long


class Callable_:
    """A table entry: a function that a file may call (REDUCE), and what may be created of it (NEWOBJ)."""

    __slots__ = ("call", "new")

    def __init__(self, call: Callable[..., Any] | None, new: Callable[..., Any] | None = None) -> None:
        self.call = call
        self.new = new


class RestrictedUnpickler:
    """Read one pickle from `stream`.

    Args:
        stream: where `read(n)` and `readline()` give bytes; left right behind the pickle.
        find_global: `(module, name)` to a value, usually a `Callable_` or a plain constant such as a dtype; raises
            `UnpicklingError` for what is not trusted.
        persistent_load: from a persistent id (a tuple) to the object, a storage.
        set_state: `(object, state)` for the BUILD opcode, for kinds that are not handled here. Returns the object that
            takes the place of the first; raises `UnpicklingError` for a kind that takes no state.
        encoding: how Python 2's 8-bit strings are decoded; "bytes" leaves them as bytes.
        callable_of: from what `find_global` gave to a `Callable_`, where that was an object that may be called or be data (a
            function that is somebody's attribute).

    Raises:
        UnpicklingError: an opcode or a global is not trusted, or the bytes are not a pickle.
        EOFError: the stream ends inside the pickle.
    """

    def __init__(
        self,
        stream: BinaryIO,
        find_global: Callable[[str, str], Any],
        persistent_load: Callable[[Any], Any],
        set_state: Callable[[Any, Any], Any],
        encoding: str = "ascii",
        callable_of: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._callable_of = callable_of
        self._stream = stream
        self._find_global = find_global
        self._persistent_load = persistent_load
        self._set_state = set_state
        self._encoding = encoding
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object that the pickle describes."""
        while True:
            code = self._stream.read(1)
            if not code:
                raise EOFError("Ran out of input")
            if code == b".":
                return self._pop()
            handler = _OPCODES.get(code[0])
            if handler is None:
                raise UnpicklingError(f"Unsupported operand {code[0]}")
            try:
                handler(self)
            except (struct.error, LookupError, TypeError, ValueError, OverflowError, AttributeError) as e:
                raise UnpicklingError(f"the pickle is damaged: {type(e).__name__}: {e}") from e

    # -- reading --------------------------------------------------------------------------------------------------

    def _read(self, count: int) -> bytes:
        if not 0 <= count < _LIMIT:
            raise UnpicklingError(f"the pickle is damaged: an item of {count} bytes")
        data = self._stream.read(count)
        if len(data) != count:
            raise EOFError("Ran out of input")
        return data

    def _number(self, code: str) -> Any:
        return struct.unpack("<" + code, self._read(struct.calcsize("<" + code)))[0]

    def _line(self) -> str:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError("Ran out of input")
        return line[:-1].decode("utf-8")

    def _push_text8(self, data: bytes) -> None:
        self._stack.append(data if self._encoding == "bytes" else data.decode(self._encoding))

    # -- the stack ------------------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        if not self._stack:
            raise UnpicklingError("the pickle is damaged: stack underflow")
        return self._stack.pop()

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise UnpicklingError("the pickle is damaged: no mark on the stack")
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise UnpicklingError("the pickle is damaged: stack underflow")
        items = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._stack.append(items)

    def _top(self, *kinds: type) -> Any:
        top = self._stack[-1]
        if not isinstance(top, kinds):
            raise UnpicklingError(f"Can only fill {' or '.join(k.__name__ for k in kinds)}, got {type(top).__name__}")
        return top

    # -- building -------------------------------------------------------------------------------------------------

    def _append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        items = self._pop_mark()
        self._top(list).extend(items)

    def _add_items(self) -> None:
        items = self._pop_mark()
        self._top(set).update(items)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._top(dict)[key] = value

    def _set_items(self) -> None:
        items = self._pop_mark()
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key] = value

    def _dict(self) -> None:
        items = self._pop_mark()
        self._stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _global(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise UnpicklingError("the pickle is damaged: a global without a name")
        self._stack.append(self._find_global(module, name))

    def _reduce(self) -> None:
        args, function = self._pop(), self._callable_of(self._pop())
        if not isinstance(function, Callable_) or function.call is None:
            raise UnpicklingError(f"Trying to call {_name(function)}, which is not a trusted function")
        if type(args) is not tuple:
            raise UnpicklingError("the pickle is damaged: arguments that are not a tuple")
        self._stack.append(function.call(*args))

    def _new_object(self, with_keywords: bool = False) -> None:
        keywords = self._pop() if with_keywords else {}
        args, kind = self._pop(), self._callable_of(self._pop())
        if not isinstance(kind, Callable_) or kind.new is None:
            raise UnpicklingError(f"Trying to create an object of {_name(kind)}, which is not a trusted class")
        self._stack.append(kind.new(*args, **keywords))

    def _build(self) -> None:
        state = self._pop()
        target = self._pop()
        if type(target) is OrderedDict:
            if not isinstance(state, dict):
                raise UnpicklingError("the pickle is damaged: the state of an OrderedDict is not a dict")
            target.__dict__.update(state)
            self._stack.append(target)
        else:
            self._stack.append(self._set_state(target, state))

    def _persistent(self) -> None:
        self._stack.append(self._persistent_load(self._pop()))

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _protocol(self) -> None:
        version = self._read(1)[0]
        if version > HIGHEST_PROTOCOL:
            raise UnpicklingError(f"unsupported pickle protocol: {version}")

    def _integer(self) -> None:
        text = self._line()
        self._stack.append({"00": False, "01": True}[text] if text in ("00", "01") else int(text))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)


def _name(value: Any) -> str:
    value = getattr(value, "kind", None) or getattr(value, "call", None) or value
    return getattr(value, "__qualname__", None) or type(value).__name__


Machine = RestrictedUnpickler


def _push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    def handler(m: Machine) -> None:
        m._stack.append(make(m))

    return handler


def _drop(take: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    def handler(m: Machine) -> None:
        take(m)

    return handler


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


_OPCODES: Mapping[int, Callable[[Machine], None]] = {
    # structure of the stream
    0x80: Machine._protocol,  # PROTO
    0x95: _drop(lambda m: m._read(8)),  # FRAME: a hint about buffering
    ord("("): Machine._mark,
    ord("0"): _drop(Machine._pop),  # POP
    ord("1"): _drop(Machine._pop_mark),  # POP_MARK
    ord("2"): _push(lambda m: m._stack[-1]),  # DUP
    # constants
    ord("N"): _push(lambda m: None),
    0x88: _push(lambda m: True),  # NEWTRUE
    0x89: _push(lambda m: False),  # NEWFALSE
    ord("I"): Machine._integer,  # INT
    ord("L"): _push(lambda m: int(m._line().rstrip("L"))),  # LONG
    ord("F"): _push(lambda m: float(m._line())),  # FLOAT
    ord("J"): _push(lambda m: m._number("i")),  # BININT
    ord("K"): _push(lambda m: m._read(1)[0]),  # BININT1
    ord("M"): _push(lambda m: m._number("H")),  # BININT2
    0x8A: _push(lambda m: _signed(m._read(m._read(1)[0]))),  # LONG1
    0x8B: _push(lambda m: _signed(m._read(m._number("i")))),  # LONG4
    ord("G"): _push(lambda m: struct.unpack(">d", m._read(8))[0]),  # BINFLOAT
    # text and bytes
    ord("X"): _push(lambda m: m._read(m._number("I")).decode("utf-8", "surrogatepass")),  # BINUNICODE
    0x8C: _push(lambda m: m._read(m._read(1)[0]).decode("utf-8", "surrogatepass")),  # SHORT_BINUNICODE
    0x8D: _push(lambda m: m._read(m._number("Q")).decode("utf-8", "surrogatepass")),  # BINUNICODE8
    ord("V"): _push(lambda m: m._line().encode("latin-1").decode("raw-unicode-escape")),  # UNICODE
    ord("T"): lambda m: m._push_text8(m._read(m._number("i"))),  # BINSTRING
    ord("U"): lambda m: m._push_text8(m._read(m._read(1)[0])),  # SHORT_BINSTRING
    ord("B"): _push(lambda m: m._read(m._number("I"))),  # BINBYTES
    ord("C"): _push(lambda m: m._read(m._read(1)[0])),  # SHORT_BINBYTES
    0x8E: _push(lambda m: m._read(m._number("Q"))),  # BINBYTES8
    0x96: _push(lambda m: bytearray(m._read(m._number("Q")))),  # BYTEARRAY8
    # containers
    ord(")"): _push(lambda m: ()),
    0x85: lambda m: m._tuple(1),
    0x86: lambda m: m._tuple(2),
    0x87: lambda m: m._tuple(3),
    ord("t"): lambda m: _push_items(m, tuple),
    ord("]"): _push(lambda m: []),
    ord("l"): lambda m: _push_items(m, list),
    ord("a"): Machine._append,
    ord("e"): Machine._appends,
    ord("}"): _push(lambda m: {}),
    ord("d"): Machine._dict,
    ord("s"): Machine._set_item,
    ord("u"): Machine._set_items,
    0x8F: _push(lambda m: set()),  # EMPTY_SET
    0x90: Machine._add_items,
    0x91: lambda m: _push_items(m, frozenset),
    # the memo
    ord("q"): lambda m: m._put(m._read(1)[0]),  # BINPUT
    ord("r"): lambda m: m._put(m._number("I")),  # LONG_BINPUT
    ord("p"): lambda m: m._put(int(m._line())),  # PUT
    0x94: lambda m: m._put(len(m._memo)),  # MEMOIZE
    ord("h"): lambda m: m._get(m._read(1)[0]),  # BINGET
    ord("j"): lambda m: m._get(m._number("I")),  # LONG_BINGET
    ord("g"): lambda m: m._get(int(m._line())),  # GET
    # objects
    ord("c"): lambda m: m._global(m._line(), m._line()),  # GLOBAL
    0x93: Machine._stack_global,
    ord("R"): Machine._reduce,
    0x81: Machine._new_object,  # NEWOBJ
    0x92: lambda m: m._new_object(with_keywords=True),  # NEWOBJ_EX
    ord("b"): Machine._build,
    ord("Q"): Machine._persistent,  # BINPERSID
}


def _push_items(machine: Machine, kind: Callable[[list[Any]], Any]) -> None:
    items = machine._pop_mark()
    machine._stack.append(kind(items))
