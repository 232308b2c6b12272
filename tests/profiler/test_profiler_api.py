"""``rushlight.profiler``: what is in a profile, to which range it belongs, when the schedule measures, and what the trace says."""
from __future__ import annotations

import ctypes
import gzip
import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn, optim
from rushlight.compile.counters import watchers
from rushlight.compile.cpu import alloc
from rushlight.compile.program import arena
from rushlight.profiler import (
    ProfilerAction,
    ProfilerActivity,
    collect,
    profile,
    record_function,
    schedule,
    tensorboard_trace_handler,
)
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings
from rushlight.tools.profiler import counters


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", 0)
    start_afresh()
    yield
    assert not watchers and not collect.active


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted by Linux")
def test_a_timed_run_touches_its_memory_before_the_first_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step that is measured may be the first one of its thread: new pages would be most of its kernels' time."""
    a = torch.tensor(np.ones((512, 512), np.float32))

    def step() -> float:
        return (((a @ a).relu() @ a).relu() @ a).sum().item()

    expected = [step() for _ in range(3)][-1]
    monkeypatch.setattr(arena.space, "block", None)
    monkeypatch.setattr(arena.space, "size", -1)
    alloc.empty_cache()
    faults = []
    watchers.append(lambda event: faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt) if event.kind == "kernel" else None)
    small_pages = 41  # PR_SET_THP_DISABLE
    ctypes.CDLL(None).prctl(small_pages, 1, 0, 0, 0)
    try:
        assert step() == expected
    finally:
        ctypes.CDLL(None).prctl(small_pages, 0, 0, 0, 0)
        watchers.clear()
    assert len(faults) > 3 and faults[-1] - faults[0] < 100  # a megabyte is 256 pages


def training():
    """A step with named parts, and how many kernels it is."""
    torch.manual_seed(0)
    model, criterion = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(32, 12), torch.randint(0, 4, (32,))

    def step():
        with record_function("forward"):
            loss = criterion(model(x), y)
        with record_function("backward"):
            optimizer.zero_grad()
            loss.backward()
        with record_function("optimizer"):
            optimizer.step()
        return loss.item()
    return step


def one(rows, key):
    found = [r for r in rows if r.key == key]
    assert len(found) == 1, (key, [r.key for r in rows])
    return found[0]


def test_kernels_belong_to_the_range_that_recorded_them_and_the_step_stays_the_same_program():
    step = training()
    expected = [step() for _ in range(3)]
    step = training()
    assert step() == expected[0]
    before = counters()
    with profile(record_shapes=True, with_flops=True, with_stack=True) as prof:
        assert [step(), step()] == expected[1:]
    assert (counters() - before).programs_built == 0
    events = prof.events()
    ranges = {e.name: e for e in events if e.is_user_annotation}
    assert set(ranges) == {"forward", "backward", "optimizer"}
    kernels = [e for e in events if e.kernel]
    owner = {e.name: e.cpu_parent.name for e in kernels}
    assert owner["linear+relu"] == "forward" and owner["mm+relu_backward+sum_to_size"] == "backward"
    # All run in the flush of optimizer.step(), long after the forward is over.
    forward, inside = ranges["forward"], [e for e in kernels if e.name == "linear+relu"][-1]
    assert inside.time_range.start > forward.time_range.end and inside in forward.cpu_children
    assert inside.input_shapes == [[32, 12], [16, 12], [16]] and inside.stack[0].startswith(Path(__file__).name + "(")
    assert sum(e.flops for e in kernels if e.name == "linear+relu") >= 2 * 2 * 32 * 12 * 16
    for e in events:
        children = sum(c.cpu_time_total for c in e.cpu_children)
        assert e.cpu_time_total == pytest.approx(e.self_cpu_time_total + children) and e.self_cpu_time_total >= 0
    assert [e.id for e in events] == list(range(len(events)))


def test_averages_group_by_name_shape_and_line():
    layers = [nn.Linear(8, n) for n in (4, 4, 6)]
    x = torch.ones(3, 8)
    with profile(record_shapes=True, with_stack=True) as prof:
        for layer in layers:
            layer(x).sum().item()
        layers[0](x).sum().item()
    assert one(prof.key_averages(), "linear").count == 4
    by_shape = [r for r in prof.key_averages(group_by_input_shape=True) if r.key == "linear"]
    assert sorted((str(r.input_shapes), r.count) for r in by_shape) == [("[[3, 8], [4, 8], [4]]", 3), ("[[3, 8], [6, 8], [6]]", 1)]
    by_line = [r for r in prof.key_averages(group_by_stack_n=1) if r.key == "linear"]
    # A path remembers the line that recorded it first: the last call repeats the first one's.
    assert len({tuple(r.stack) for r in by_line}) == len(by_line) and sum(r.count for r in by_line) == 4
    average = prof.events().total_average()
    assert average.key == "Total" and average.self_cpu_time_total == pytest.approx(prof.events().self_cpu_time_total)
    row = one(prof.key_averages(), "linear")
    assert row.cpu_time == row.cpu_time_total / 4 and row.kernels == ["contract 3x4 -> 1", "contract 3x6 -> 1"]


def test_the_table_has_torchs_form():
    with profile(record_shapes=True, with_flops=True, with_stack=True, profile_memory=True) as prof:
        with record_function("a name that is much longer than the column for names may ever be"):
            nn.Linear(8, 4)(torch.ones(3, 8)).sum().item()
    text = prof.key_averages().table(sort_by="cpu_time_total", row_limit=1, max_name_column_width=20, header="mine")
    bars, header, rule, heads, _, row, _, total = text.splitlines()
    assert header == "mine" and set(bars) == {"="} and set(rule) == {"-", " "}
    assert [h for h in heads.split("  ") if h.strip()] != [] and heads.split()[0] == "Name"
    for name in ("Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg", "CPU Mem", "Self CPU Mem", "# of Calls"):
        assert name in heads
    assert row.split("  ")[0].strip().endswith("...") and total.startswith("Self CPU time total: ")
    every = prof.key_averages(group_by_input_shape=True, group_by_stack_n=2).table()
    assert "Input Shapes" in every and "Source Location" in every and "FLOPs" in every and f"{Path(__file__).name}(" in every
    assert "[[3, 8], [4, 8], [4]]" in every
    with pytest.raises(AttributeError):
        prof.key_averages().table(sort_by="no such column")


def test_the_schedule_says_when_to_measure():
    wanted = schedule(skip_first=1, wait=1, warmup=1, active=2, repeat=2)
    names = [wanted(k).name for k in range(12)]
    assert names == ["NONE", *["NONE", "WARMUP", "RECORD", "RECORD_AND_SAVE"] * 2, "NONE", "NONE", "NONE"]
    assert [schedule(wait=0, warmup=1, active=1)(k) for k in range(4)] == [ProfilerAction.WARMUP, ProfilerAction.RECORD_AND_SAVE] * 2
    assert schedule(skip_first_wait=1, wait=2, warmup=1, active=1)(0) is ProfilerAction.WARMUP
    with pytest.raises(AssertionError, match="active must be > 0"):
        schedule(wait=0, warmup=1, active=0)
    with pytest.warns(UserWarning, match="won't be using warmup"):
        schedule(wait=0, warmup=0, active=1)


def test_steps_of_a_scheduled_profile():
    step, ready = training(), []

    def take(prof):
        ready.append(([e.name for e in prof.events() if e.name.startswith("ProfilerStep")], prof.step_num))
    with profile(activities=[ProfilerActivity.CPU], schedule=schedule(wait=1, warmup=1, active=2, repeat=2), on_trace_ready=take) as prof:
        for k in range(10):
            step()
            assert bool(watchers) == (k < 8 and k % 4 != 0)
            prof.step()
    assert ready == [(["ProfilerStep#2", "ProfilerStep#3"], 4), (["ProfilerStep#6", "ProfilerStep#7"], 8)]
    assert one(prof.key_averages(), "forward").count == 2
    # Each step's time has its ranges in it, and they have its kernels.
    last = one(prof.events(), "ProfilerStep#7")
    assert {c.name for c in last.cpu_children} >= {"forward", "backward", "optimizer"}


def test_a_stretch_that_the_program_leaves_early_is_ready_too():
    ready = []
    with profile(schedule=schedule(wait=0, warmup=1, active=5), on_trace_ready=ready.append) as prof:
        prof.step()
        torch.ones(3).sum().item()
    assert ready == [prof] and len([e for e in prof.events() if e.kernel]) == 1
    with pytest.raises(ValueError, match="mine"), profile(on_trace_ready=ready.append) as broken:
        torch.ones(3).sum().item()
        raise ValueError("mine")
    assert ready == [prof] and len([e for e in broken.events() if e.kernel]) == 1
    with pytest.raises(AssertionError, match="nothing has been measured"):
        profile().events()


def test_what_is_dropped_unread_is_computed_in_order_to_be_measured():
    layer, x = nn.Linear(8, 4), torch.ones(3, 8)
    for inside in (False, True):
        with profile() as prof:
            if inside:
                with record_function("inference"):
                    layer(x)
            else:
                layer(x)
        assert one([e for e in prof.events() if e.kernel], "linear").cpu_parent is (one(prof.events(), "inference") if inside else None)
    with profile() as prof:
        for n in range(2, 5):
            with record_function("inference"):
                layer(torch.ones(n, 8))
    assert one(prof.key_averages(), "linear").count == 3


def test_ranges_decorate_nest_and_survive_errors():
    @record_function("outer")
    def outer():
        with record_function("inner", "epoch 1"):
            raise KeyError("mine")
    outside = record_function("begun before")
    outside.__enter__()
    with profile() as prof:
        with pytest.raises(KeyError):
            outer()
        outside.__exit__(None, None, None)
        x = torch.ones(4).exp()
    ranges = [(e.name, e.cpu_parent and e.cpu_parent.name) for e in prof.events() if e.is_user_annotation]
    assert ranges == [("outer", None), ("inner", "outer")]
    assert x.sum().item() > 0
    outer.__wrapped__  # noqa: B018 - a wrapper in functools' sense


def test_building_programs_is_a_row_and_so_is_what_the_host_does():
    with profile() as prof:
        with record_function("first"):
            np.testing.assert_allclose(torch.linalg.svdvals(torch.eye(3) * 2 + 0.0).numpy(), [2, 2, 2])
    build = one(prof.events(), "compile")
    assert build.cpu_parent.name == "first"
    assert any(e.kernel.startswith("host ") for e in prof.events())


def ns(event, key="ts"):
    """Whole nanoseconds, as viewers read them."""
    whole = round(event[key] * 1e3)
    assert whole >= 0 and event[key] == whole / 1e3 and "e" not in repr(event[key])
    return whole


def check_trace(data):
    """The rules of the trace event format, and Perfetto's: events of known kinds in the order of time, names of all tracks, on each track
    slices that nest or follow each other, and arrows with two ends, each in a slice."""
    assert set(data) >= {"traceEvents", "displayTimeUnit"}
    events = data["traceEvents"]
    for e in events:
        assert e["ph"] in "XMCsf" and isinstance(e["pid"], int) and isinstance(e["tid"], int) and isinstance(e["name"], str)
        assert e["ph"] in "sf" or isinstance(e["args"], dict)
    names = [e for e in events if e["ph"] == "M"]
    assert events[:len(names)] == names and {e["name"] for e in names} == {"process_name", "thread_name", "thread_sort_index"}
    timed = events[len(names):]
    assert [ns(e) for e in timed] == sorted(ns(e) for e in timed)
    slices, tracks = [e for e in timed if e["ph"] == "X"], {}
    for e in slices:
        tracks.setdefault(e["tid"], []).append((ns(e), ns(e) + ns(e, "dur")))
    labels = {e["tid"]: e["args"]["name"] for e in names if e["name"] == "thread_name"}
    assert set(tracks) <= set(labels) and min(labels) > 0 and len(set(labels.values())) == len(labels)
    for track in tracks.values():
        open_ = []
        for start, end in track:  # in the order of the file: the outer one of two that begin together comes first
            while open_ and open_[-1] <= start:
                open_.pop()
            assert not open_ or end <= open_[-1], "two slices of a track overlap"
            open_.append(end)
    begun = {e["id"]: e for e in timed if e["ph"] == "s"}
    ended = {e["id"]: e for e in timed if e["ph"] == "f"}
    assert set(begun) == set(ended) and len(begun) + len(ended) == sum(e["ph"] in "sf" for e in timed)
    for e in [*begun.values(), *ended.values()]:
        assert any(start <= ns(e) <= end for start, end in tracks[e["tid"]]) and ns(begun[e["id"]]) <= ns(ended[e["id"]])
    return slices


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_trace_has_a_slice_for_every_kernel_build_flush_and_range(tmp_path, name):
    step = training()
    with profile(schedule=schedule(wait=0, warmup=1, active=2), profile_memory=True) as prof:
        for _ in range(2):
            step()
            prof.step()
        step()
    prof.add_metadata("note", "mine")
    prof.add_metadata_json("numbers", "[1, 2]")
    prof.export_chrome_trace(tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    data = json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)
    slices = check_trace(data)
    kinds = {kind: [e for e in slices if e["cat"] == kind] for kind in {e["cat"] for e in slices}}
    assert set(kinds) == {"kernel", "record", "flush", "step", "user_annotation"} and data["note"] == "mine" and data["numbers"] == [1, 2]
    assert [e["name"] for e in kinds["step"]] == ["ProfilerStep#1", "ProfilerStep#2"] and len(kinds["user_annotation"]) == 6
    counted = [e for e in data["traceEvents"] if e["ph"] == "C"]
    assert len(kinds["flush"]) == 2 and len(counted) == 3 and counted[0]["ts"] == 0  # at the beginning, and after each flush
    first_steps = [e for e in kinds["kernel"] if not e["name"].endswith(("step 1", "step 2"))]  # packing and multiplying is one event
    assert len(first_steps) == len([e for e in prof.events() if e.kernel]) < len(kinds["kernel"])
    product = next(e for e in kinds["kernel"] if e["args"]["operations"] == ["linear", "relu"] and e["args"]["FLOPs"])
    args = product["args"]
    assert product["name"] == f"linear+relu: {args['kernel']}" and args["range"] == "forward" and args["FLOPs"] >= 2 * 32 * 12 * 16
    file, _, line = args["line"].rpartition(":")
    assert file == __file__ and "criterion(model(x), y)" in Path(file).read_text().splitlines()[int(line) - 1]
    assert args["input shapes"] == "[32, 12], [16, 12], [16]" and list(args)[:4] == ["line", "range", "bytes", "FLOPs"]
    arrows = {(e["id"], e["ph"]): e for e in data["traceEvents"] if e["ph"] in "sf"}
    number = next(n for (n, ph), e in arrows.items() if ph == "f" and e["ts"] == product["ts"])
    forward = next(e for e in slices if e["name"] == "forward")
    assert arrows[number, "s"]["ts"] == forward["ts"] and arrows[number, "s"]["tid"] == forward["tid"] != product["tid"]
    assert len(arrows) == 2 * sum("range" in e["args"] for e in kinds["kernel"])
    seconds = product["dur"] / 1e6
    assert args["GFLOP/s"] == pytest.approx(args["FLOPs"] / seconds / 1e9, rel=0.01)
    assert args["GB/s"] == pytest.approx(args["bytes"] / seconds / 1e9, rel=0.01)
    assert args["share of peak FLOP/s"] == pytest.approx(args["GFLOP/s"] / data["machine"]["peak GFLOP/s"])
    assert args["share of copy bandwidth"] == pytest.approx(args["GB/s"] / data["machine"]["copy GB/s"])


def test_a_trace_of_two_threads_has_tracks_for_both(tmp_path):
    import threading

    def work():
        with record_function("there"):
            torch.ones(5).exp().sum().item()
    with profile() as prof:
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
        with record_function("here"):
            torch.ones(6).exp().sum().item()
    prof.export_chrome_trace(tmp_path / "trace.json")
    data = json.loads((tmp_path / "trace.json").read_text())
    slices = check_trace(data)
    tracks = {e["name"]: e["tid"] for e in slices if e["cat"] == "user_annotation"}
    labels = {e["args"]["name"]: e["tid"] for e in data["traceEvents"] if e["name"] == "thread_name"}
    assert list(labels)[:4] == ["ranges, MainThread", "recorder, MainThread", "kernels, MainThread", "ranges, worker"]
    assert tracks == {"here": labels["ranges, MainThread"], "there": labels["ranges, worker"]}
    first = next(e for e in slices if e["tid"] == labels["recorder, worker"])
    assert first["cat"] == "record" and first["ts"] == next(e["ts"] for e in slices if e["name"] == "there")  # not since the profile began
    assert set(tracks) == {"here", "there"} and tracks["here"] != tracks["there"]
    assert len({e["tid"] for e in slices if e["cat"] == "kernel"}) == 2


def test_traces_in_a_folder_and_stacks_for_flame_graphs(tmp_path):
    step = training()
    ready = tensorboard_trace_handler(str(tmp_path / "log"), "me")
    with profile(schedule=schedule(wait=0, warmup=1, active=1), on_trace_ready=ready) as prof:
        for _ in range(4):
            step()
            prof.step()
    files = sorted((tmp_path / "log").iterdir())
    assert len(files) == 2 and all(f.name.startswith("me.") and f.name.endswith(".pt.trace.json") for f in files)
    for f in files:
        check_trace(json.loads(f.read_text()))
    prof.export_stacks(tmp_path / "stacks.txt")
    lines = (tmp_path / "stacks.txt").read_text().splitlines()
    assert any(line.startswith("ProfilerStep#3;forward;" + __file__) and line.split(" ")[-1].isdigit() for line in lines)
    with pytest.raises(ValueError, match="metric should be one of"):
        prof.export_stacks(tmp_path / "stacks.txt", "time")
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match="Can't create directory"):
        tensorboard_trace_handler(str(tmp_path / "file" / "log"))(prof)


def test_the_older_interface(tmp_path):
    old = torch.autograd.profiler
    with old.profile(record_shapes=True, use_cpu=True) as prof, old.emit_nvtx(), old.record_function("mine"):
        nn.Linear(8, 4)(torch.ones(3, 8)).sum().item()
    assert one(prof.key_averages(), "mine").count == 1 and "mine" in prof.table(sort_by="self_cpu_time_total", row_limit=5)
    assert prof.self_cpu_time_total == prof.function_events.self_cpu_time_total and prof.total_average().key == "Total"
    prof.export_chrome_trace(tmp_path / "trace.json")
    check_trace(json.loads((tmp_path / "trace.json").read_text()))
    with pytest.raises(RuntimeError, match="not reentrant"), prof:
        pass
    with old.profile(enabled=False) as off:
        torch.ones(2).sum().item()
    assert str(off) == "<unfinished torch.autograd.profile>"
    with pytest.raises(RuntimeError, match="didn't finish running"):
        off.key_averages()


def test_a_profiled_loop_keeps_no_memory_and_a_range_costs_nothing_without_a_profiler():
    step = training()
    for _ in range(2):
        step()
    before = counters()
    for _ in range(3):
        step()
    done = counters() - before
    assert done.programs_built == done.system_allocations == done.kernels_compiled == 0
    assert not collect.active
