"""The roofline: every kernel where its numbers say, no two labels over each other, a well-formed picture."""
from __future__ import annotations

import itertools
import math
import random
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rushlight as torch
from rushlight import nn
from rushlight.compile.cpu.peaks import Peaks
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings
from rushlight.tools import profiler, roofline
from rushlight.tools.profiler import Row

ROOF = Peaks(2, 400e9, 80e9, 180e9)
NAMES = ("contract 64x128 -> 1", "reduce+add 64 -> 1", "pointwise 64x10 -> 1", "rnn 35x20 -> 2")


def rows(numbers):
    """Each (kernel, seconds, bytes, FLOPs)."""
    return [Row(NAMES[kind], f"train.py:{k + 10}", 3, seconds, nbytes, flops, f"operation{k}+relu")
            for k, (kind, seconds, nbytes, flops) in enumerate(numbers)]


def texts(svg):
    return [t.text for t in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_dots_lie_where_intensity_and_rate_say_and_their_areas_are_the_shares_of_time():
    picture = roofline.arrange(rows([(0, 0.03, 10**6, 9 * 10**9), (1, 0.06, 10**9, 10**9), (2, 0.01, 10**6, 10**3)]), ROOF)
    assert [d.row.operations for d in picture.dots] == ["operation1+relu", "operation0+relu", "operation2+relu"]
    slow, fast, tiny = picture.dots
    assert slow.share == pytest.approx(0.6) and (slow.radius / fast.radius) ** 2 == pytest.approx(2)
    assert (fast.x, fast.y) == (picture.across(9000), picture.up(3e11)) and (slow.x, slow.y) == (picture.across(1), picture.up(1e9 / 0.06))
    assert tiny.x < slow.x < fast.x and fast.y < slow.y < tiny.y
    # A factor of ten is as long everywhere: both axes are logarithmic.
    assert picture.across(10) - picture.across(1) == pytest.approx(picture.across(1000) - picture.across(100))
    assert picture.up(1e9) - picture.up(1e10) == pytest.approx(picture.up(1e10) - picture.up(1e11))
    # The roofs: on the slanted one at its ridge, on the flat one from there on.
    corners = roofline._corners(picture, ROOF, ROOF.copy)
    assert corners[1] == (picture.across(5), picture.up(400e9)) and corners[2][1] == corners[1][1]


def test_kernels_that_compute_nothing_are_told_below_the_picture():
    svg = roofline.draw(rows([(0, 0.6, 10**9, 10**11), (2, 0.3, 10**9, 0), (2, 0.0999, 0, 0), (1, 0.0001, 10**3, 10**3)]), ROOF)
    root = ElementTree.fromstring(svg)
    assert any("40.0% of the time in what computes nothing" in t and "kernels below 0.1% of the time" in t for t in texts(svg))
    dots = [c for c in root.iter("{http://www.w3.org/2000/svg}circle") if len(c)]  # those of the legend have no title
    assert len(dots) == 1 and "400 GFLOP/s" in "".join(texts(svg))
    about = dots[0][0].text.splitlines()
    assert about[:3] == ["operation0+relu", NAMES[0], "train.py:10"] and "166.7 GFLOP/s, 42% of the peak" in about
    assert "prefers-color-scheme: dark" in svg and texts(svg)[0] == "Roofline"


def test_a_kernel_that_hardly_computes_does_not_squeeze_the_others():
    svg = roofline.draw(rows([(0, 0.6, 10**9, 10**11), (2, 0.3, 24, 1)]), ROOF)
    picture = roofline.arrange(rows([(0, 0.6, 10**9, 10**11), (2, 0.3, 24, 1)]), ROOF)
    assert picture.y_range[1] / picture.y_range[0] < 1e5 and [d.beyond for d in picture.dots] == [False, True]
    assert picture.dots[1].y == picture.up(ROOF.flops / 1e4)
    assert svg.count('pointwise beyond"') == 1 and "hollow dots lie farther out" in texts(svg)
    assert all(roofline._LEFT + roofline._width(t) < roofline._WIDTH for t in texts(svg))
    assert "hollow" not in "".join(texts(roofline.draw(rows([(0, 0.6, 10**9, 10**11)]), ROOF)))


def test_no_dot_covers_what_is_written_at_the_roofs():
    at_the_roof = [(0, 0.2, 10**9, int(intensity * 1e9)) for intensity in (60, 79, 80)]  # 400 GFLOP/s at the right edge
    picture = roofline.arrange(rows(at_the_roof), ROOF)
    assert len(picture.roof_labels) == 3
    assert not any(d.disc.meets(box) for d in picture.dots for box in picture.roof_labels)


def test_the_longest_kernels_have_labels_where_one_label_could_take_the_room_of_another():
    numbers = [(0, 0.215, 10**8, int(10**8 * 90)), (0, 0.207, 10**8, int(10**8 * 91)), (0, 0.16, 10**8, int(10**8 * 66)),
               (1, 0.07, 10**8, 10**8), (0, 0.09, 10**9, 5 * 10**9)]
    roof = Peaks(2, 9e9 / 0.215, 43e8, 168e8)  # the first are at the roof
    assert all(d.label is not None for d in roofline.arrange(rows(numbers), roof).dots)


def test_a_profile_without_kernels_is_a_picture_too():
    assert "not shown" not in "".join(texts(roofline.draw([], ROOF)))


@given(st.integers(1, 40), st.integers(0, 10**6), st.floats(0, 1))
def test_labels_do_not_overlap_each_other_dots_or_the_edge(count, seed, crowd):
    """``crowd``: how close the kernels lie to each other."""
    rng = random.Random(seed)
    numbers = []
    for _ in range(count):
        intensity, rate = (10 ** (middle + (1 - crowd) * rng.uniform(-2, 2)) for middle in (1, 10.5))
        seconds = rng.uniform(0.001, 1) ** 3
        flops = max(1, int(rate * seconds))
        numbers.append((rng.randrange(4), seconds, max(1, int(flops / intensity)), flops))
    picture = roofline.arrange(rows(numbers), ROOF)
    labels = [d.label for d in picture.dots if d.label is not None]
    assert labels
    for a, b in itertools.combinations(labels, 2):
        assert not a.meets(b)
    frame = roofline.Box(roofline._LEFT, roofline._TOP, roofline._WIDTH, roofline._HEIGHT - roofline._TOP - roofline._BOTTOM)
    for label in labels:
        assert label.inside(frame) and not any(label.meets(d.disc) for d in picture.dots) and not any(map(label.meets, picture.roof_labels))
    for d in picture.dots:
        assert frame.inside(frame) and math.isfinite(d.x) and d.disc.top + d.radius > roofline._TOP
    ElementTree.fromstring(roofline.draw(rows(numbers), ROOF))


def test_the_picture_of_a_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", 0)
    start_afresh()
    layer, x = nn.Linear(64, 32), torch.ones(128, 64)
    with profiler.profile() as p:
        y = layer(x).relu()
    assert y.shape == (128, 32)
    p.roofline(tmp_path / "one.svg")
    profiler.roofline(tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "two.svg").read_text()
    found = texts((tmp_path / "one.svg").read_text())
    assert "linear+relu" in found and any(re.fullmatch(r"test_roofline\.py:\d+ · \d+% of time", t) for t in found)
