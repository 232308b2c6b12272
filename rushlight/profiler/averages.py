"""The events of a profile as ``torch.profiler`` gives them: one by one, grouped, and as a table."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os.path import basename
from typing import Any, NamedTuple

from .collect import Collector, Range, Slice

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg", "Interval", "events_of", "format_bytes", "format_time"]


class Interval(NamedTuple):
    """Microseconds since the profile began."""

    start: float
    end: float

    def elapsed_us(self) -> float:
        return self.end - self.start


class _Times:
    """What events and their averages have in common. All times are in microseconds."""

    count: int
    cpu_time_total: float
    self_cpu_time_total: float

    @property
    def cpu_time(self) -> float:
        """The average of a call."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def cpu_time_str(self) -> str:
        return format_time(self.cpu_time)

    @property
    def cpu_time_total_str(self) -> str:
        return format_time(self.cpu_time_total)

    @property
    def self_cpu_time_total_str(self) -> str:
        return format_time(self.self_cpu_time_total)

    # There is no other device.
    device_time = device_time_total = self_device_time_total = 0.0
    device_memory_usage = self_device_memory_usage = 0
    device_time_str = device_time_total_str = self_device_time_total_str = "0.000us"


@dataclass(eq=False)
class FunctionEvent(_Times):
    """One range or one kernel.

    Attributes:
        name, key: the range's name; of a kernel: the recorded operations that it computes, ``"linear+relu"``.
        kernel: which kernel, ``"contract 64x128 -> 1"``; empty for a range.
        time_range: when, in microseconds since the profile began.
        cpu_children, cpu_parent: the events whose time counts as this one's too, and the other way round.
        cpu_time_total, self_cpu_time_total: microseconds, with and without children.
        input_shapes: of the first recorded operation. stack: the user's lines, ``"train.py(12)"``, the main one first.
        flops, nbytes: floating-point operations, and bytes read and written.
    """

    id: int
    name: str
    thread: int
    time_range: Interval
    kernel: str = ""
    is_user_annotation: bool = False
    input_shapes: list[list[int]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    flops: int = 0
    nbytes: int = 0
    self_cpu_time_total: float = 0.0
    cpu_time_total: float = 0.0
    self_cpu_memory_usage: int = 0
    cpu_memory_usage: int = 0
    cpu_parent: FunctionEvent | None = field(default=None, repr=False)
    cpu_children: list[FunctionEvent] = field(default_factory=list, repr=False)
    count: int = 1
    is_async: bool = False

    @property
    def key(self) -> str:
        return self.name


@dataclass(eq=False)
class FunctionEventAvg(_Times):
    """All events of one key. Times, ``flops``, ``nbytes`` and memory are sums; ``cpu_time`` is the average."""

    key: str = ""
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    input_shapes: list[list[int]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    flops: int = 0
    nbytes: int = 0
    cpu_memory_usage: int = 0
    self_cpu_memory_usage: int = 0
    is_user_annotation: bool = False
    is_async: bool = False
    kernels: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.key

    def add(self, other: FunctionEvent | FunctionEventAvg) -> FunctionEventAvg:
        """Add an event or another average to this one."""
        if not self.count:
            self.key = self.key or other.key
            self.is_user_annotation = other.is_user_annotation
        self.count += other.count
        for name in ("cpu_time_total", "self_cpu_time_total", "flops", "nbytes", "cpu_memory_usage", "self_cpu_memory_usage"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        named = other.kernels if isinstance(other, FunctionEventAvg) else [other.kernel] if other.kernel else []
        self.kernels += [k for k in named if k not in self.kernels]
        return self


def events_of(collector: Collector) -> EventList:
    """Ranges and kernels with their parents, in the order in which they began."""
    begin = collector.start_time
    made: dict[Range | Slice, FunctionEvent] = {}
    inside: defaultdict[Range | None, float] = defaultdict(float)  # range -> microseconds in it that count elsewhere
    for r in collector.ranges:
        end = collector.end_time if r.end is None else r.end
        time = Interval((r.start - begin) * 1e6, (end - begin) * 1e6)
        made[r] = FunctionEvent(0, r.name, r.thread, time, is_user_annotation=True)
        inside[r.parent] += time.elapsed_us()
    live, before = collector.live, None  # before: the kernel's slice that came last
    for s in collector.slices:
        if s.kind == "flush" and collector.memory:  # what was allocated and let go since the last one
            if s.within is not None:
                made[s.within].self_cpu_memory_usage += s.live - live
            live = s.live
        if s.kind not in ("kernel", "host", "cold", "build"):
            continue
        start, length = (s.start - begin) * 1e6, s.seconds * 1e6
        inside[s.within] += length
        kernel, _, step = s.name.partition(" step ")
        if step and step != "0" and before is not None and (before.thread, before.lines) == (s.thread, s.lines):
            _extend(made[before], start, length, s)  # packing operands and multiplying them is one call
            continue
        before = s if s.kind == "kernel" else None
        kernel = kernel if s.kind != "build" else ""
        name = "+".join(s.operations) if s.kind == "kernel" and s.operations else kernel or "compile"
        made[s] = FunctionEvent(0, name, s.thread, Interval(start, start + length), kernel, False,
                                [list(shape) for shape in s.shapes], [f"{basename(f)}({n})" for f, n in s.lines], s.flops, s.nbytes,
                                length)
    for source, event in made.items():
        parent = source.parent if isinstance(source, Range) else source.owner
        if parent in made:
            event.cpu_parent = made[parent]
            made[parent].cpu_children.append(event)
        if isinstance(source, Range):
            event.self_cpu_time_total = max(0.0, event.time_range.elapsed_us() - inside[source])
    for event in made.values():
        up: FunctionEvent | None = event
        while up is not None:  # every ancestor's total has this event's own time
            up.cpu_time_total += event.self_cpu_time_total
            up.cpu_memory_usage += event.self_cpu_memory_usage
            up = up.cpu_parent
    ordered = sorted(made.values(), key=lambda e: e.time_range.start)
    for number, event in enumerate(ordered):
        event.id = number
    return EventList(ordered)


def _extend(event: FunctionEvent, start: float, length: float, s: Slice) -> None:
    """A further step of the kernel that ``event`` is about."""
    event.time_range = Interval(event.time_range.start, start + length)
    event.self_cpu_time_total += length
    event.flops += s.flops
    event.nbytes += s.nbytes


class EventList(list):  # type: ignore[type-arg]
    """A list of events, or of averages."""

    with_flops = profile_memory = False

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all events, none counted twice."""
        return sum(e.self_cpu_time_total for e in self)

    def total_average(self) -> FunctionEventAvg:
        """The average over all events."""
        total = FunctionEventAvg("Total")
        for e in self:
            total.add(e)
        total.key = "Total"
        return total

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0,
                     group_by_overload_name: bool = False) -> EventList:
        """Events of the same name as one; with ``group_by_input_shape`` those of the same shapes, with ``group_by_stack_n`` those
        of the same (at most so many) lines of the program.

        Returns:
            An ``EventList`` of ``FunctionEventAvg``.
        """
        found: dict[Any, FunctionEventAvg] = {}
        for e in self:
            shapes = e.input_shapes if group_by_input_shape else []
            stack = e.stack[:group_by_stack_n]
            key = (e.key, str(shapes), tuple(stack), e.is_user_annotation)
            if key not in found:
                found[key] = FunctionEventAvg(e.key, input_shapes=shapes, stack=stack)
            found[key].add(e)
        made = EventList(found.values())
        made.with_flops, made.profile_memory = self.with_flops, self.profile_memory
        return made

    def table(self, sort_by: str | None = None, row_limit: int = 100, max_src_column_width: int = 75, max_name_column_width: int = 55,
              max_shapes_column_width: int = 80, header: str | None = None, top_level_events_only: bool = False,
              time_unit: str | None = None) -> str:
        """The events as text.

        Args:
            sort_by: an attribute, the largest first: ``"cpu_time_total"``, ``"self_cpu_time_total"``, ``"count"``, ``"flops"``, ...
            row_limit: -1 for all.
            top_level_events_only: without those that have a parent.
            time_unit: "s", "ms" or "us"; each time's own, if not given.

        Raises:
            AttributeError: there is no such attribute.
        """
        rows = [e for e in self if not (top_level_events_only and getattr(e, "cpu_parent", None) is not None)]
        if sort_by is not None:
            rows.sort(key=lambda e: getattr(e, sort_by), reverse=True)
        shown = rows if row_limit < 0 else rows[:row_limit]
        return _table(self, shown, header, time_unit, max_name_column_width, max_shapes_column_width, max_src_column_width)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self)) + "]"


def _table(every: EventList, rows: Sequence[Any], header: str | None, unit: str | None, name_width: int, shapes_width: int,
           stack_width: int) -> str:
    total = every.self_cpu_time_total
    scale = _flops_scale(rows) if any(e.flops for e in rows) else None
    shapes, stacks = any(e.input_shapes for e in rows), any(e.stack for e in rows)
    names = ["Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"]
    names += ["CPU Mem", "Self CPU Mem"] if every.profile_memory else []
    names += ["# of Calls", *(["Input Shapes"] if shapes else []), *(["Source Location"] if stacks else [])]
    names += [f"Total {scale[0]}FLOPs"] if scale else []
    table = []
    for e in rows:
        cells = [_cut(e.key, name_width), _share(e.self_cpu_time_total, total), format_time(e.self_cpu_time_total, unit),
                 _share(e.cpu_time_total, total), format_time(e.cpu_time_total, unit), format_time(e.cpu_time, unit)]
        if every.profile_memory:
            cells += [format_bytes(e.cpu_memory_usage), format_bytes(e.self_cpu_memory_usage)]
        cells.append(str(e.count))
        if shapes:
            cells.append(_cut(str(e.input_shapes), shapes_width))
        if stacks:
            cells.append(_cut(e.stack[0] if e.stack else "", stack_width))
        if scale:
            cells.append(f"{e.flops / scale[1]:.3f}" if e.flops else "--")
        table.append(cells)
    widths = [max(12, *(len(row[k]) for row in [names, *table])) for k in range(len(names))]
    rule = "  ".join("-" * w for w in widths)

    def line(cells: Iterable[str]) -> str:
        return "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths)).rstrip()

    out = [rule, line(names), rule]
    if header is not None:
        out = ["=" * len(rule), header, *out]
    out += [line(row) for row in table]
    # Further lines of the program stand below the first.
    if stacks:
        at = names.index("Source Location")
        deeper = []
        for text, e in zip(out[-len(rows):], rows):
            deeper.append(text)
            deeper += [line([""] * at + [_cut(place, stack_width)] + [""] * (len(names) - at - 1)) for place in e.stack[1:]]
        out[-len(rows):] = deeper
    return "\n".join([*out, rule, f"Self CPU time total: {format_time(total, unit)}", ""])


def _flops_scale(rows: Sequence[Any]) -> tuple[str, float]:
    """The unit in which the largest figure has at most three digits before the point."""
    largest = max(e.flops for e in rows)
    return next(((name, size) for name, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)) if largest >= size), ("", 1.0))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[:width - 3] + "..."


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%}" if whole else "0.00%"


def format_time(microseconds: float, unit: str | None = None) -> str:
    """``"1.234ms"``: in the unit that fits, or in the one given.

    >>> format_time(1234.5), format_time(1234.5, "us")
    ('1.234ms', '1234.500us')
    """
    sizes = {"s": 1e6, "ms": 1e3, "us": 1.0}
    if unit is None:
        unit = next((name for name, size in sizes.items() if microseconds >= size), "us")
    return f"{microseconds / sizes[unit]:.3f}{unit}"


def format_bytes(n: int) -> str:
    """``"1.50 KB"``.

    >>> format_bytes(1536), format_bytes(-3)
    ('1.50 KB', '-3 B')
    """
    for name, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if abs(n) >= size:
            return f"{n / size:.2f} {name}"
    return f"{n} B"
