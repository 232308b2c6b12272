"""The documentation is true: its programs run and print what it says, its excerpts and pointers exist, its lists are complete.

In README.md, CONTRIBUTING.md and docs/*.md:

* ``python`` blocks run, those of a page one after the other in one namespace;
* an ``output`` block is what the block before it printed;
* a ``py`` block is an excerpt: its first line names a file, in which the other lines stand, in this order;
* ```file::name``` points to a function, class or method.

The examples in docstrings run too.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

import rushlight
import rushlight.nn.functional as F
from rushlight import nn, optim
from rushlight.compile.flags import Flags

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rushlight"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted(PACKAGE.rglob("*.py"))
SCOPE = {"rushlight": rushlight, "torch": rushlight, "nn": nn, "F": F, "optim": optim, "np": np}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_programs_run_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {"__name__": "__main__"}
    printed = ""
    for language, text in blocks(page):
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, f"<example of {page.name}>", "exec"), scope)
            printed = out.getvalue()
        elif language == "output":
            assert printed.rstrip() == text.rstrip(), f"{page.name} shows other output"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_excerpts_stand_in_their_files(page):
    for language, text in blocks(page):
        if language != "py":
            continue
        first, *lines = text.splitlines()
        source = iter((ROOT / first.removeprefix("# ")).read_text().splitlines())
        for line in lines:
            assert not line or any(line == s for s in source), f"{first} has no line {line!r} (or not at this place)"


def names(path: Path) -> set[str]:
    """Functions and classes of a file, and ``Class.method``."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pointers_point_to_something(page):
    text = page.read_text()
    for file, name in re.findall(r"`([\w/]+\.py)::([\w.]+)`", text):
        assert name in names(PACKAGE / file), f"{page.name} points to {file}::{name}"
    for file in re.findall(r"`([\w/]+\.py)`", text):
        assert any((base / file).exists() for base in (PACKAGE, ROOT)), f"{page.name} names {file}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_map_names_every_folder():
    rows = (ROOT / "docs" / "architecture.md").read_text().split("## The map")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in rows.splitlines() if line.startswith("| `")]
    named = {name.removeprefix("rushlight/") for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    folders = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()}
    folders = {str(f) for f in folders if not any(part.startswith((".", "__")) for part in f.parts)}  # no caches
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert named == (folders - {"."}) | files


def test_every_switch_is_on_the_page():
    page = (ROOT / "docs" / "flags.md").read_text()
    told = set(re.findall(r"`(RUSHLIGHT_\w+)`", page))
    used = {f"RUSHLIGHT_{name.upper()}" for name in Flags.NAMES}
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "examples").glob("*.py")]:
        used.update(re.findall(r"""["'](RUSHLIGHT_[A-Z_]+)["']""", path.read_text()))
    assert told == used


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", [p for p in MODULES if ">>>" in p.read_text()], ids=module_name)
def test_examples_in_docstrings(path):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report = io.StringIO()
    for example in doctest.DocTestFinder().find(importlib.import_module(module_name(path)), extraglobs=SCOPE):
        rushlight.manual_seed(0)
        runner.run(example, out=report.write)
    assert not runner.failures, report.getvalue()


def test_every_module_says_what_it_is():
    assert not [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
