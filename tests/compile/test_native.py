"""Native calls: a primitive with a kernel of its own, from the graph to the instruction."""
from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

from rushlight.compile import dtypes as dt
from rushlight.compile.build import build
from rushlight.compile.cpu import native
from rushlight.compile.cpu.contract_step import Plan, Step
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.graph import Graph, NativeCall
from rushlight.compile.program import HostStep
from rushlight.compile.reference.interpret import interpret


@dataclass(frozen=True)
class Both(NativeCall):
    """(x + x, -x) of a matrix."""

    shape: tuple[int, int]
    strided: bool = False
    name = "both"

    @property
    def results(self):
        return (self.shape, dt.float32), (self.shape, dt.float32)

    @property
    def work(self):
        return self.shape[0] * self.shape[1]

    def reference(self, x):
        return x + x, -x


def _ir(wanted):
    f = Function("void @both(ptr %table, ptr %params, i64 %begin, i64 %end)")
    count = 1 + sum(wanted)
    bases = [f.at(f.load("%table", f.load("%params", 2 * i), "ptr"), f.load("%params", 2 * i + 1), "i8") for i in range(count)]
    columns, down, along = (f.load("%params", 2 * count + i) for i in range(3))
    with f.loop("%begin", "%end") as row, f.loop(0, columns) as column:
        x = f.load(bases[0], f.add(f.mul(row, down), f.mul(column, along)), "float")
        values = [f.let(f"fadd float {x}, {x}"), f.let(f"fneg float {x}")]
        made = [v for v, w in zip(values, wanted) if w]
        for base, value in zip(bases[1:], made):
            f.do(f"store float {value}, ptr {f.at(base, f.add(f.mul(row, columns), column), 'float')}")
    return f.finish() + f.module.text()


def _plan(call, operands, wanted):
    outs = [("out", k) for k, w in enumerate(wanted) if w]
    step = Step((f"test both {wanted}", lambda: _ir(wanted), "both"), [(name, 0) for name in [("in", 0), *outs]],
                [call.shape[1], *operands[0].strides], call.shape[0])
    return Plan([step], [], 0)


@pytest.fixture
def kernels(monkeypatch):
    module = ModuleType("both_kernels")
    module.has_kernel = lambda call, dtypes: dtypes == (dt.float32,)
    module.plan = _plan
    monkeypatch.setitem(sys.modules, "both_kernels", module)
    monkeypatch.setitem(native._MODULES, "both", "both_kernels")


def _run(graph, *arrays):
    program = build(graph, {})
    outs = [np.full(r.shape, 7, r.dtype.numpy) for r in graph.results]
    program.run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    for out, expected in zip(outs, interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(out, expected)
    return program


def test_results_feed_other_kernels(kernels):
    g = Graph()
    x = g.leaf((3, 5), dt.float32)
    twice, negative = g.native(Both((3, 5)), g.map(lambda e, a: a + 1, x))
    g.results = [twice, g.map(lambda e, a, b: a * b, negative, x)]
    program = _run(g, np.arange(15, dtype=np.float32).reshape(3, 5))
    assert [i.name for i in program.instructions if i.name.startswith("both")] == ["both 3x5"]
    assert not any(isinstance(s, HostStep) for s in program.steps)


def test_a_result_that_nobody_uses_has_no_memory(kernels):
    g = Graph()
    x = g.leaf((16, 16), dt.float32)
    g.results = [g.native(Both((16, 16)), x)[1]]
    program = _run(g, np.ones((16, 16), np.float32))
    assert program.arena_bytes == 0 and len(program.instructions) == 1


def test_views_are_made_dense_unless_the_kernel_takes_them(kernels):
    x = np.arange(40, dtype=np.float32).reshape(5, 8)
    for strided, instructions in ((False, 2), (True, 1)):
        g = Graph()
        leaf = g.leaf((5, 8), dt.float32)
        part = g.slice(g.permute(leaf, (1, 0)), (2, 1), (4, 3))
        g.results = [g.native(Both((4, 3), strided), part)[0]]
        assert len(_run(g, x).instructions) == instructions


def test_without_a_kernel_the_reference_is_called(kernels):
    g = Graph()
    x = g.leaf((2, 2), dt.int32)
    g.results = [g.cast(g.native(Both((2, 2)), x)[0], dt.int64)]
    program = _run(g, np.ones((2, 2), np.int32))
    assert [s.call.name for s in program.steps if isinstance(s, HostStep)] == ["reference both"]


def test_equal_calls_are_made_once():
    g = Graph()
    x = g.leaf((2, 2), dt.float32)
    assert g.native(Both((2, 2)), x) == g.native(Both((2, 2)), x)
