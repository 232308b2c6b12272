"""What a small program gives with either package, in words that can be compared: result, error class, warnings, printed text."""
from __future__ import annotations

import ast
import collections
import contextlib
import copy
import io
import math
import pickle
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Outcome(NamedTuple):
    result: Any  # described, or the class of the error
    warned: tuple[str, ...]  # classes of warnings
    printed: str


def programs(path: Path) -> list[tuple[str, str]]:
    """(where, source) of the programs in a file: a line is one, and so is a block between ``<<<`` and ``>>>``."""
    found, block = [], None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line == "<<<":
            block, start = [], number
        elif line == ">>>":
            found.append((f"{path.stem}:{start}", "\n".join(block)))
            block = None
        elif block is not None:
            block.append(line)
        elif line and not line.startswith("#"):
            found.append((f"{path.stem}:{number}", line))
    return found


def run(source: str, torch: Any) -> Outcome:
    """Run a program; its result is the value of the last line, if that is an expression."""
    scope = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "optim": torch.optim, "np": np, "copy": copy, "math": math,
             "collections": collections, "io": io, "pickle": pickle, "OrderedDict": collections.OrderedDict}
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        torch.manual_seed(0)
        try:
            exec(compile(tree, "<program>", "exec"), scope)
            result = described(None if last is None else eval(compile(ast.Expression(last.value), "<program>", "eval"), scope))
        except Exception as error:
            result = ("error", type(error).__name__)
    return Outcome(result, tuple(sorted({w.category.__name__ for w in warned})), plain(printed.getvalue()))


def plain(text: str) -> str:
    """Without addresses and the package's name."""
    return re.sub(r"0x[0-9a-f]+", "0x", text).replace("rushlight", "torch")


def described(x: Any) -> Any:
    """A value as nested tuples of numbers and texts, alike for both packages."""
    kind = type(x)
    if hasattr(x, "requires_grad") and hasattr(x, "detach"):
        t = x.detach()
        if str(t.device) == "meta":
            return (kind.__name__, "meta", str(x.dtype).rpartition(".")[2], tuple(x.shape), t.stride(), x.requires_grad, x.is_leaf)
        return (kind.__name__, str(x.dtype).rpartition(".")[2], tuple(x.shape), x.requires_grad, x.is_leaf,
                rounded((t.float() if "bfloat16" in str(t.dtype) else t).tolist()))
    if isinstance(x, tuple) and kind.__module__.rpartition(".")[2] == "return_types":
        return (kind.__name__.rpartition(".")[2].removesuffix("_out"), *map(described, x))
    if isinstance(x, dict):
        return (kind.__name__, *((described(k), described(v)) for k, v in x.items()))
    if isinstance(x, (list, tuple)):
        return (kind.__name__, *map(described, x))
    if isinstance(x, np.ndarray):
        return ("ndarray", str(x.dtype), x.shape, rounded(x.tolist()))
    if isinstance(x, type):
        return ("class", x.__name__)
    if x is None or isinstance(x, (int, float, complex)):
        return rounded(x)
    return (kind.__name__, plain(x if isinstance(x, str) else repr(x)))


def rounded(x: Any) -> Any:
    """Numbers to four digits; NaN equals NaN."""
    if isinstance(x, list):
        return tuple(map(rounded, x))
    if isinstance(x, complex):
        return rounded(x.real), rounded(x.imag)
    if isinstance(x, float):
        return "nan" if math.isnan(x) else x if math.isinf(x) or x == 0 else float(f"{x:.4g}")
    return x
