"""The roofline: which kernels are bound by arithmetic, which by memory, and how far each is from its roof. One SVG file.

Both axes are logarithmic: operations for each byte that must be read or written, and operations a second. No kernel can be
above the peak of multiply-adds; one whose data lie in memory can hardly be above the slanted roof, which is the copy bandwidth, and one
whose data lie in a cache not above the dashed one. All three are measured (``compile/cpu/peaks.py``). The area of a dot is
the kernel's share of the time. A kernel that hardly computes anything lies at an edge, hollow, and does not squeeze the others.

The picture follows the reader's light or dark preference, and needs nothing but the standard library.
"""
from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ..compile.cpu.peaks import Peaks

__all__ = ["Box", "Picture", "draw", "write"]

_WIDTH, _HEIGHT = 1000, 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 28, 66, 74
_LABELS = 14         # kernels that get a label, if each takes a hundredth of the time
_LEAST = 0.001       # the share of the time from which a kernel is drawn
_SMALL = 11          # font sizes
_CHARACTER = 0.62    # the width of a character, in ems: on the safe side for the usual fonts
_LARGEST = 26.0      # the radius of a kernel that takes all the time
_DEPTH = 1e4         # how far below the peak, and left of the ridge, the picture reaches at most
_TRIALS = 8          # how often placing the labels is tried

_STYLE = """
text { font-family: system-ui, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; fill: #1f2430; }
.back { fill: #ffffff; } .grid { stroke: #e3e6ec; stroke-width: 1; } .fine { stroke: #f1f3f6; stroke-width: 1; }
.frame { fill: none; stroke: #b9c0cc; } .roof { fill: none; stroke: #3b4252; stroke-width: 2; }
.cached { fill: none; stroke: #8a93a5; stroke-width: 1.3; stroke-dasharray: 5 4; } .under { fill: #3b4252; fill-opacity: 0.045; }
.contract { fill: #2f6fde; } .reduce { fill: #d9822b; } .pointwise { fill: #1f9d74; } .other { fill: #8b5cc7; }
.dot { fill-opacity: 0.72; stroke: #ffffff; stroke-width: 1.2; } .leader { stroke: #8a93a5; stroke-width: 0.9; }
.beyond { fill-opacity: 0; stroke: #5b6475; }
.quiet { fill: #5b6475; } .strong { font-weight: 600; }
@media (prefers-color-scheme: dark) {
text { fill: #e6e9ef; } .back { fill: #14171f; } .grid { stroke: #2b303c; } .fine { stroke: #1f2430; } .frame { stroke: #4a5263; }
.roof { stroke: #d5dae3; } .cached { stroke: #7d8798; } .under { fill: #d5dae3; }
.contract { fill: #6ea2ff; } .reduce { fill: #f0a758; } .pointwise { fill: #4fc99d; } .other { fill: #b794f0; }
.dot { stroke: #14171f; } .beyond { stroke: #a3acbb; } .leader { stroke: #7d8798; } .quiet { fill: #a3acbb; }
}
"""


@dataclass(frozen=True)
class Box:
    """A rectangle of the picture."""

    left: float
    top: float
    width: float
    height: float

    def meets(self, other: Box) -> bool:
        return (self.left < other.left + other.width and other.left < self.left + self.width
                and self.top < other.top + other.height and other.top < self.top + self.height)

    def inside(self, other: Box) -> bool:
        return (other.left <= self.left and self.left + self.width <= other.left + other.width
                and other.top <= self.top and self.top + self.height <= other.top + other.height)


@dataclass
class Dot:
    """A kernel. ``share`` is of the time. ``beyond``: it lies at an edge, because its place is not in the picture."""

    row: Any
    share: float
    beyond: bool = False
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.0
    label: Box | None = None

    @property
    def kind(self) -> str:
        first = self.row.kernel.replace("+", " ").split(" ", 1)[0]
        return first if first in ("contract", "reduce", "pointwise") else "other"

    @property
    def texts(self) -> tuple[str, str]:
        """The two lines of the label."""
        name = self.row.operations or self.row.kernel
        name = name if len(name) <= 30 else name[:29] + "…"
        return name, f"{self.row.line} · {self.share:.0%} of time" if self.row.line else f"{self.share:.0%} of time"

    @property
    def disc(self) -> Box:
        return Box(self.x - self.radius, self.y - self.radius, 2 * self.radius, 2 * self.radius)


@dataclass
class Picture:
    """What is drawn: kernels with a place, and labels that do not overlap. ``moved``: kernels that compute nothing, and so
    have no place; ``small``: how many take too little time to be drawn."""

    dots: list[Dot]
    moved: list[Dot]
    small: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    roof_labels: list[Box] = field(default_factory=list)

    def across(self, intensity: float) -> float:
        low, high = self.x_range
        return _LEFT + math.log(intensity / low) / math.log(high / low) * (_WIDTH - _LEFT - _RIGHT)

    def up(self, rate: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - math.log(rate / low) / math.log(high / low) * (_HEIGHT - _TOP - _BOTTOM)


def write(path: str | os.PathLike[str], rows: Sequence[Any], roof: Peaks) -> None:
    """Write the picture of ``rows`` (of ``tools.profiler.Profile``) to a file."""
    Path(path).write_text(draw(rows, roof), encoding="utf-8")


def draw(rows: Sequence[Any], roof: Peaks) -> str:
    """The picture as SVG text."""
    return "\n".join(_svg(arrange(rows, roof), roof)) + "\n"


def arrange(rows: Sequence[Any], roof: Peaks) -> Picture:
    """Give every kernel that computes a place, and the longest ones a label."""
    total = sum(r.seconds for r in rows) or 1.0
    every = [Dot(r, r.seconds / total) for r in rows if r.seconds > 0]
    dots = sorted((d for d in every if d.row.flops and d.row.nbytes and d.share >= _LEAST), key=lambda d: -d.share)
    intensities = [d.row.flops / d.row.nbytes for d in dots]
    rates = [d.row.flops / d.row.seconds for d in dots]
    ridge = roof.flops / roof.copy
    least_intensity, least_rate = ridge / _DEPTH, roof.flops / _DEPTH
    for k, d in enumerate(dots):
        d.beyond = intensities[k] < least_intensity or rates[k] < least_rate
        intensities[k], rates[k] = max(intensities[k], least_intensity), max(rates[k], least_rate)
    picture = Picture(dots, [d for d in every if not (d.row.flops and d.row.nbytes)], sum(d.share < _LEAST for d in every),
                      _span([*intensities, ridge / 8, ridge * 4]), _span([*rates, roof.flops / 30, roof.flops * 1.3]))
    for d, intensity, rate in zip(dots, intensities, rates):
        d.x, d.y = picture.across(intensity), picture.up(rate)
        d.radius = max(3.0, _LARGEST * math.sqrt(d.share))
    picture.roof_labels = [box for _, _, _, _, box in _roof_texts(picture, roof)]
    _place_labels(picture, roof)
    return picture


def _span(values: Iterable[float]) -> tuple[float, float]:
    """From a little below the smallest to a little above the largest."""
    values = list(values)
    return min(values) / 1.6, max(values) * 1.6


def _place_labels(picture: Picture, roof: Peaks) -> None:
    """A place for the label of each of the longest kernels. One label can leave no room for another, so it is tried several times: those
    without a place come first the next time, and other sides of the dots. What tells of most of the time stays.
    """
    occupied = [*picture.roof_labels, *(d.disc for d in picture.dots)]
    for bandwidth in (roof.copy, roof.cached):
        corners = _corners(picture, roof, bandwidth)
        for a, b in zip(corners, corners[1:]):
            occupied += _along(a, b)
    wanted = [d for d in picture.dots[:_LABELS] if d.share >= 0.01]
    order, best, told = list(range(len(wanted))), {}, 0.0
    for turn in range(_TRIALS):
        found = _places([(k, wanted[k]) for k in order], occupied, turn)
        share = sum(wanted[k].share for k in found)
        if share > told:
            best, told = found, share
        without = [k for k in order if k not in found]
        if not without:
            break
        order = without + [k for k in order if k in found]
    for k, box in best.items():
        wanted[k].label = box


def _places(dots: Sequence[tuple[int, Dot]], occupied: Sequence[Box], turn: int) -> dict[int, Box]:
    """The first free place, from near to far, for the label of each (number, dot) that has one. ``turn``: how many sides come last.

    Free is what no dot, no roof, no other label and no line to one lies in.
    """
    frame = Box(_LEFT + 4, _TOP + 4, _WIDTH - _LEFT - _RIGHT - 8, _HEIGHT - _TOP - _BOTTOM - 8)
    taken, found = list(occupied), dict[int, Box]()
    for number, d in dots:
        width = max(_width(text) for text in d.texts) + 4
        height = 2.5 * _SMALL + 3
        for box in _candidates(d, width, height, turn):
            if not box.inside(frame) or any(box.meets(other) for other in taken):
                continue
            line = _along((d.x, d.y), _end(d, box))
            if not any(piece.meets(other) for piece in line for other in found.values()):
                found[number] = box
                taken += [box, *line]
                break
    return found


def _along(a: tuple[float, float], b: tuple[float, float]) -> list[Box]:
    """Small boxes that cover a line."""
    steps = max(1, math.ceil(math.hypot(b[0] - a[0], b[1] - a[1]) / 5))
    return [Box(a[0] + (b[0] - a[0]) * k / steps - 3, a[1] + (b[1] - a[1]) * k / steps - 3, 6, 6) for k in range(steps + 1)]


def _end(d: Dot, box: Box) -> tuple[float, float]:
    """Where the line from a dot meets its label."""
    return min(max(d.x, box.left + 2), box.left + 0.97 * box.width), min(max(d.y, box.top + 2), box.top + box.height - 2)


def _candidates(d: Dot, width: float, height: float, turn: int) -> Iterator[Box]:
    """Boxes around a dot: first right and left of it, then all round, farther and farther; ``turn`` of the first sides come last.
    In every other turn none is straight above or below, where a label takes room on both sides."""
    sides = (0, 8, 15, 1, 14, 2, 7, 9, 6, 10, *(() if turn % 2 else (12, 4, 13, 3, 11, 5)))
    for gap in (4, 12, 24, 40, 60, 84, 112, 144, 180, 220, 260, 300):
        for k in sides[turn:] + sides[:turn]:
            angle = 2 * math.pi * k / 16
            reach = d.radius + gap
            x, y = d.x + reach * math.cos(angle), d.y + reach * math.sin(angle)
            # The box touches the point with the side that faces the dot.
            yield Box(x - width * (1 - math.cos(angle)) / 2, y - height * (1 - math.sin(angle)) / 2, width, height)


def _width(text: str, size: float = _SMALL) -> float:
    return len(text) * size * _CHARACTER


_RoofText = tuple[str, float, float, float, Box]  # (text, x, y, slope in degrees, the box that it takes)


def _roof_texts(picture: Picture, roof: Peaks) -> list[_RoofText]:
    """What is written along the roofs, where no dot covers it if there is such a place."""
    (left, right), low = picture.x_range, picture.y_range[0]
    text = f"float32 multiply-adds: {roof.flops / 1e9:.0f} GFLOP/s"
    last, y = _WIDTH - _RIGHT - 8 - _width(text), picture.up(roof.flops) - 7
    first = min(last, max(_LEFT + 8.0, picture.across(roof.flops / roof.copy)))
    flat = [(text, x, y, 0.0, Box(x, y - _SMALL, _width(text), _SMALL + 4))
            for x in (last + (first - last) * k / 12 for k in range(13))]
    found = [_uncovered(picture, flat)]
    for name, bandwidth, away in (("copy", roof.copy, 15.0), ("copy in cache", roof.cached, -7.0)):
        # Beside the roof, at the part that can be seen: the dashed one is above the other, if it is seen at all.
        ends = max(left, low / bandwidth), min(right, roof.flops / bandwidth)
        if ends[0] < ends[1]:
            text = f"{name}: {bandwidth / 1e9:.0f} GB/s"
            places = [_slanted(picture, text, bandwidth, ends, at, away) for at in (0.3, 0.15, 0.45, 0.05, 0.6, 0.75)]
            found.append(_uncovered(picture, places))
    return found


def _uncovered(picture: Picture, places: Sequence[_RoofText]) -> _RoofText:
    """The first of the places that the fewest dots meet."""
    return min(places, key=lambda place: sum(d.disc.meets(place[-1]) for d in picture.dots))


def _slanted(picture: Picture, text: str, bandwidth: float, ends: tuple[float, float], at: float, away: float) -> _RoofText:
    """A text along a bandwidth's roof, ``at`` of the way between two intensities, ``away`` from it."""
    first, last = ends
    middle = first * (last / first) ** at
    x, y = picture.across(middle), picture.up(middle * bandwidth)
    slope = math.degrees(math.atan2(picture.up(last * bandwidth) - picture.up(first * bandwidth),
                                    picture.across(last) - picture.across(first)))
    turn = math.radians(slope)
    x, y = x - away * math.sin(turn), y + away * math.cos(turn)
    width, height = _width(text) * math.cos(turn) + _SMALL, _width(text) * abs(math.sin(turn)) + _SMALL
    return text, x, y, slope, Box(x - 6, y - height, width + 6, height + 6)


def _ticks(low: float, high: float) -> Iterator[tuple[float, bool]]:
    """1, 2, 5, 10, ...: (value, whether it is a power of ten)."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for first in (1, 2, 5):
            value = first * 10.0 ** power
            if low <= value <= high:
                yield value, first == 1


def _svg(picture: Picture, roof: Peaks) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img">'
    yield "<title>Roofline of a profile</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="back" width="{_WIDTH}" height="{_HEIGHT}"/>'
    yield _text(_LEFT, 30, "Roofline", 17, "strong")
    threads = "one thread" if roof.threads == 1 else f"{roof.threads} threads"
    yield _text(_LEFT, 50, f"each dot is a kernel, its area the share of the time; {threads}", 12, "quiet")
    yield from _legend(picture)
    yield from _axes(picture, right, bottom)
    yield from _roofs(picture, roof)
    for d in picture.dots:
        if d.label is not None:
            yield from _leader(d)
    for d in reversed(picture.dots):  # small ones above large ones would hide; the longest are drawn last
        yield (f'<circle class="dot {d.kind}{" beyond" if d.beyond else ""}" cx="{d.x:.1f}" cy="{d.y:.1f}" r="{d.radius:.1f}">'
               f"<title>{escape(_about(d, roof))}</title></circle>")
    for d in picture.dots:
        if d.label is not None:
            first, second = d.texts
            yield _text(d.label.left + 2, d.label.top + _SMALL, first, _SMALL, "strong")
            yield _text(d.label.left + 2, d.label.top + 2.3 * _SMALL, second, _SMALL, "quiet")
    yield from _notes(picture)
    yield "</svg>"


def _text(x: float, y: float, text: str, size: float, kind: str = "", anchor: str = "start", turn: float = 0.0) -> str:
    rotate = f' transform="rotate({turn:.1f} {x:.1f} {y:.1f})"' if turn else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}'
            f'{"" if anchor == "start" else f" text-anchor={chr(34)}{anchor}{chr(34)}"}{rotate}>{escape(text)}</text>')


def _notes(picture: Picture) -> Iterator[str]:
    notes = []
    share = sum(d.share for d in picture.moved)
    if share >= 0.0005:
        notes.append(f"{share:.1%} of the time in what computes nothing (copies, packing, host functions)")
    if picture.small:
        notes.append(f"kernels below {_LEAST:.1%} of the time")
    if notes:
        yield _text(_LEFT, _HEIGHT - 12, "not shown: " + "; ".join(notes), _SMALL, "quiet")
    if any(d.beyond for d in picture.dots):
        yield _text(_WIDTH - _RIGHT, _HEIGHT - _BOTTOM + 40, "hollow dots lie farther out", _SMALL, "quiet", "end")


def _legend(picture: Picture) -> Iterator[str]:
    kinds = [k for k in ("contract", "reduce", "pointwise", "other") if any(d.kind == k for d in picture.dots)]
    names = {"contract": "products and convolutions", "reduce": "reductions", "pointwise": "pointwise", "other": "others"}
    x = _WIDTH - _RIGHT - sum(_width(names[k], 12) + 30 for k in kinds)
    for k in kinds:
        yield f'<circle class="dot {k}" cx="{x + 8:.1f}" cy="46" r="6"/>'
        yield _text(x + 19, 50, names[k], 12)
        x += _width(names[k], 12) + 30


def _axes(picture: Picture, right: float, bottom: float) -> Iterator[str]:
    for value, main in _ticks(*picture.x_range):
        x = picture.across(value)
        yield f'<line class="{"grid" if main else "fine"}" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>'
        yield _text(x, bottom + 18, f"{value:g}", _SMALL, "" if main else "quiet", "middle")
    for value, main in _ticks(picture.y_range[0] / 1e9, picture.y_range[1] / 1e9):
        y = picture.up(value * 1e9)
        yield f'<line class="{"grid" if main else "fine"}" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 8, y + 4, f"{value:g}", _SMALL, "" if main else "quiet", "end")
    yield f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" height="{bottom - _TOP}"/>'
    yield _text((_LEFT + right) / 2, bottom + 40, "operations for each byte read or written (FLOP/byte)", 12, "", "middle")
    yield _text(26, (_TOP + bottom) / 2, "operations a second (GFLOP/s)", 12, "", "middle", -90)


def _roofs(picture: Picture, roof: Peaks) -> Iterator[str]:
    points = _corners(picture, roof, roof.copy)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    floor = _HEIGHT - _BOTTOM
    yield f'<polygon class="under" points="{points[0][0]:.1f},{floor} {line} {points[-1][0]:.1f},{floor}"/>'
    cached = _corners(picture, roof, roof.cached)[:2]
    yield '<polyline class="cached" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in cached) + '"/>'
    yield f'<polyline class="roof" points="{line}"/>'
    for text, x, y, slope, _ in _roof_texts(picture, roof):
        yield _text(x, y, text, _SMALL, "quiet", "start", slope)


def _corners(picture: Picture, roof: Peaks, bandwidth: float) -> list[tuple[float, float]]:
    """The roof of a bandwidth and of the peak, from left to right."""
    (left, right), low = picture.x_range, picture.y_range[0]
    start, ridge = max(left, low / bandwidth), roof.flops / bandwidth
    rising = [(start, start * bandwidth), (ridge, roof.flops)] if ridge > start else [(start, roof.flops)]
    return [(picture.across(x), picture.up(y)) for x, y in (*rising, (right, roof.flops))]


def _leader(d: Dot) -> Iterator[str]:
    """A thin line from a dot to its label, where they are apart."""
    assert d.label is not None
    x, y = _end(d, d.label)
    if math.hypot(x - d.x, y - d.y) > d.radius + 9:
        yield f'<line class="leader" x1="{d.x:.1f}" y1="{d.y:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'


def _about(d: Dot, roof: Peaks) -> str:
    r, (arithmetic, memory) = d.row, d.row.shares(roof)
    return "\n".join([r.operations or r.kernel, r.kernel, r.line, f"{r.calls} calls, {r.seconds * 1e3:.3f} ms, {d.share:.1%} of the time",
                      f"{r.flops / r.seconds / 1e9:.1f} GFLOP/s, {arithmetic:.0%} of the peak",
                      f"{r.nbytes / r.seconds / 1e9:.1f} GB/s, {memory:.0%} of the copy bandwidth"])
