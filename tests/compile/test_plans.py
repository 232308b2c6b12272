"""Plans on disk: a second process plans nothing, and its programs are the same to the bit."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rushlight.compile import plans
from rushlight.compile.build import build
from rushlight.compile.cpu import elf, jit
from rushlight.compile.dtypes import float32, int64
from rushlight.compile.flags import flags
from rushlight.compile.graph import Graph, HostCall
from rushlight.compile.program import HostStep

SCRIPT = """
import hashlib, json, sys
import numpy as np
import rushlight as torch
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.tools.profiler import counters

torch.manual_seed(0)
digest = hashlib.sha256()

def train(model, loss, steps=4):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        digest.update(np.float64(value.item()).tobytes())
    for p in model.parameters():
        digest.update(p.detach().numpy().tobytes())

x = torch.randn(8, 3, 16, 16)
net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.MaxPool2d(2),
                    nn.Conv2d(64, 64, 3, groups=64), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64 * 36, 10))
train(net, lambda: F.cross_entropy(net(x), torch.arange(8)))
rnn, words = nn.LSTM(16, 32), torch.randn(12, 4, 16)
train(rnn, lambda: rnn(words)[0].square().mean())
layer, rows = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), torch.randn(4, 20, 32)
train(layer, lambda: layer(rows).square().mean())
table = nn.Embedding(50, 16)
train(table, lambda: table(torch.arange(20)).sort(0).values.topk(3, 1).values.std())   # calls of NumPy in between
batches = [torch.randn(n, 3, 16, 16) for n in (8, 8, 5)] * 2                    # the last of an epoch is smaller
epochs = iter(batches)
train(net, lambda: (lambda x: F.cross_entropy(net(x), torch.arange(len(x))))(next(epochs)), 6)
lengths = iter([20, 20, 13, 20, 13])
train(layer, lambda: layer(rows[:, :next(lengths)]).square().mean(), 5)
with torch.no_grad():
    for _ in range(3):
        digest.update(net.eval()(x).numpy().tobytes())                            # packed weights that are kept
lines = []
for _ in range(3):
    try:
        table(torch.tensor([3, 99])).sum().item()
    except IndexError as error:
        lines.append(str(error))
c = counters()
print(json.dumps({"digest": digest.hexdigest(), "lines": lines, "built": c.programs_built, "planned": c.programs_planned,
                  "found": c.plans_loaded, "compiled": c.kernels_compiled,
                  "compiler": "rushlight.compile.build" in sys.modules, "llvm": "llvmlite.binding" in sys.modules}))
"""


def process(folder: Path, script: Path, **variables: str) -> dict:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False,
                          env={**os.environ, "RUSHLIGHT_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path), **variables})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_second_process(tmp_path: Path) -> None:
    script = tmp_path / "models.py"
    script.write_text(SCRIPT)
    first = process(tmp_path / "cache", script)
    second = process(tmp_path / "cache", script, RUSHLIGHT_NUM_THREADS="1")
    assert first["found"] == 0 and first["compiled"] > 20
    assert second["found"] == second["planned"] == first["planned"] > 5 and second["compiled"] == 0 and not second["compiler"]
    assert first["llvm"] and second["llvm"] != elf.is_supported()
    assert second["digest"] == first["digest"] and second["built"] == first["built"]
    assert second["lines"] == first["lines"] and "models.py" in first["lines"][2]

    moved = tmp_path / "elsewhere.py"  # the same program with a line more in front
    moved.write_text("# a comment\n" + SCRIPT)
    third = process(tmp_path / "cache", moved)
    assert third["found"] == third["planned"] and third["digest"] == first["digest"] and "elsewhere.py" in third["lines"][2]

    for path in sorted((tmp_path / "cache" / "kernels").iterdir())[::3]:  # some kernels and plans are lost
        path.unlink()
    fourth = process(tmp_path / "cache", script)
    assert 0 < fourth["compiled"] < first["compiled"] and fourth["digest"] == first["digest"]
    without = process(tmp_path / "cache", script, RUSHLIGHT_PLANS="0")
    assert without["found"] == 0 and without["planned"] == first["planned"] and without["digest"] == first["digest"]


def graph(scale: float = 2.0, axis: int = 0, slot: int = 7, call: HostCall | None = None) -> Graph:
    g = Graph()
    g.line = ("user.py", 3, slot)
    x, y = g.leaf((4, 4), float32), g.leaf((4, 4), float32)
    z = g.einsum("mk,kn->mn", x, g.map(lambda e, y: e.exp(y) * scale, y))
    if call is not None:
        z, = g.host(call, z)
    g.results = [g.reduce("add", z, (axis,))]
    return g


def flip(x: np.ndarray) -> np.ndarray:
    return x[::-1].copy()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHLIGHT_CACHE_DIR", str(tmp_path / "own"))


def test_the_key_is_all_that_matters() -> None:
    keys = [plans.key(graph(), {}), plans.key(graph(3.0), {}), plans.key(graph(axis=1), {}), plans.key(graph(-0.0), {}),
            plans.key(graph(0.0), {}), plans.key(graph(), {0: 1})]
    with flags.using(fuse_pointwise=0):
        keys.append(plans.key(graph(), {}))
    assert None not in keys and len(set(keys)) == len(keys)
    assert plans.key(graph(), {}) == plans.key(graph(slot=9), {}) == keys[0]
    with flags.using(plans=0):
        assert plans.key(graph(), {}) is None


def test_what_is_found_is_what_was_kept() -> None:
    call = HostCall(flip, (((4, 4), float32),), "flip")
    one, two = graph(call=call), graph(slot=9, call=HostCall(flip, call.results, "flip"))
    name = plans.key(one, {})
    assert name == plans.key(two, {})
    made = build(one, {})
    plans.keep(name, made, one)
    found = plans.find(name, two)
    rng = np.random.default_rng(0)
    leaves = [rng.normal(size=(4, 4)).astype(np.float32) for _ in range(2)]
    outs = [np.empty(4, np.float32) for _ in range(2)]
    for program, out in zip((made, found), outs, strict=True):
        program.run([x.ctypes.data for x in leaves], [out.ctypes.data])
    assert np.array_equal(*outs)
    assert [i.name for i in found.instructions] == [i.name for i in made.instructions]
    assert {line[2] for i in found.instructions for line in i.lines} == {9}
    assert [s.call.name for s in found.steps if isinstance(s, HostStep)] == ["flip"]


def test_what_cannot_be_written_down_is_not_kept() -> None:
    class Strange(int):
        pass

    g = Graph()
    x = g.leaf((3,), int64)
    g.results = [g.node("scan", (x,), ("add", Strange(0)), (3,), int64)]
    assert plans.key(g, {}) is None


def test_addresses_say_whose_they_are() -> None:
    """A parameter that is the address of a kernel is another number in the next process."""
    one = graph()
    made = build(one, {})
    name = plans.key(one, {})
    micro = [p for i in made.instructions for p in i.params if type(p) is jit.Address]
    assert micro and all(jit.is_address(int(p)) for p in micro)
    for i in made.instructions:
        i.params[:] = map(int, i.params)  # they have forgotten it
    plans.keep(name, made, one)
    assert plans.find(name, one) is None
