"""Small programs that give the same with either package: values, dtypes, classes of errors and warnings, printed text.

The files beside this one hold them, by subject. A line is a program, and so is a block between ``<<<`` and ``>>>``.
"""
from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import rushlight

from .describe import programs, run

HERE = Path(__file__).parent
PROGRAMS = [program for path in sorted(HERE.glob("*.txt")) for program in programs(path)]


@pytest.mark.parametrize("source", [source for _, source in PROGRAMS], ids=[where for where, _ in PROGRAMS])
def test_alike(source: str) -> None:
    theirs = pytest.importorskip("torch")
    importlib.import_module("torch.nn.functional")
    theirs.set_warn_always(True)  # as ours do: what ran before does not count
    try:
        expected = run(source, theirs)
    finally:
        theirs.set_warn_always(False)
    assert run(source, rushlight) == expected
