"""Imports point one way through the house of docs/architecture.md: a lower room never imports a higher one."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rushlight"

#: From the ground up. Rooms on one line do not import each other.
FLOORS = [
    {"torch_version", "futures"},
    {"compile"},
    {"record"},
    {"profiler"},
    {"autograd"},
    {"ops"},
    {"tensor"},
    {"checks", "random", "version", "backends", "accelerator", "compiler", "distributed", "multiprocessing", "fft", "linalg", "_C",
     "_tensor_str"},
    {"special", "masked", "types", "func"},
    {"nn", "utils", "metrics", "amp", "onnx", "mps", "__config__", "functional", "_utils"},
    {"optim", "_subclasses", "distributions", "cpu", "cuda", "overrides", "sparse", "_dynamo", "_higher_order_ops", "_inductor"},
    {"io", "signal", "fx", "xpu"},
    {"jit"},
    {"hub"},
    {"vision", "text", "audio", "tools", "serialization", "storage", "testing"},
    {"compat", "_ops"},
    {"library"},
]
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
NAMESPACE = "rushlight"  # the public namespace, which imports every room; only rooms above `tensor` may use it

#: What only one room knows.
PRIVATE = {"llvmlite": "compile/cpu", "cuda.bindings": "compile/cuda", "cupy": "compile", "torch": None}

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room_of(path):
    return path.parts[0].removesuffix(".py")


def imported(path):
    """Full names of the modules that a file imports, anywhere in it."""
    package = ["rushlight", *path.parts[:-1]]
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module == NAMESPACE:  # `from rushlight import nn`: a room, or a name of the namespace itself
                yield from (f"{module}.{a.name}" if a.name in FLOOR else module for a in node.names)
            else:
                yield module


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) != "__init__"], ids=str)
def test_no_room_imports_a_higher_one(path):
    room = room_of(path)
    assert room in FLOOR, f"{room} has no floor yet: give it one in {Path(__file__).name}"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "rushlight":
            continue
        target = parts[1] if len(parts) > 1 else NAMESPACE
        if target == NAMESPACE:
            assert FLOOR[room] > FLOOR["tensor"], f"{path} imports the public namespace from below"
        elif target != room:
            assert FLOOR[target] < FLOOR[room], f"{path} imports {name}, which is not below {room}"


@pytest.mark.parametrize("secret", PRIVATE)
def test_what_only_one_room_knows(secret):
    owner = PRIVATE[secret]
    for path in MODULES:
        if owner is not None and path.as_posix().startswith(owner):
            continue
        for name in imported(path):
            assert not f"{name}.".startswith(f"{secret}."), f"{path} imports {name}"
