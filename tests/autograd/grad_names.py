"""The list of gradient nodes' names in ``grad_names.txt``: reading it, and writing it with PyTorch's names.

``python -m tests.autograd.grad_names`` evaluates every expression of the list with PyTorch, and writes the list anew; expressions
that stand behind a name that is not theirs, say ``new: x.sum() | x.mean()``, move to their own.
"""
import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np

LIST = Path(__file__).with_name("grad_names.txt")
HEAD = "# Expressions whose last step has a gradient node of this name. Written by: python -m tests.autograd.grad_names\n"
SHAPES = {"x": (3, 4), "y": (3, 4), "w": (4, 4), "v": (4,), "v3": (3,), "v1": (1,), "b": (2, 3, 3), "w3": (3, 3), "b4": (2, 3, 4),
          "b4w": (4, 2), "b5": (2, 4, 4), "b2": (3, 2), "b6": (2, 3, 4), "img": (2, 3, 4, 4), "img4": (2, 4, 3, 3), "seq": (2, 3, 6),
          "k1": (2, 3, 3), "k2": (3, 3, 3, 3), "k2t": (3, 2, 3, 3), "k1t": (3, 2, 3), "grid": (2, 3, 3, 2), "theta": (2, 2, 3),
          "lp": (5, 2, 4)}
WHOLE = {"tgt": [0, 1, 2], "tgtm": [[0, 1, -1, -1]] * 3, "tgt2": [[0] * 16] * 2, "i": [0, 1], "ix": [[0, 1, 2, 0]] * 3,
         "ctgt": [[1, 2], [2, 3]], "c": [[True, False, True, True]] * 3, "t01": [[0.0, 1.0, 1.0, 0.0]] * 3,
         "pm": [[1.0, -1.0, 1.0, -1.0]] * 3,
         "rm": [0.0] * 3, "rv": [1.0] * 3}


def rows() -> list[tuple[str, str]]:
    """(name, expression)."""
    table = re.findall(r"^(\w+): ((?:.|\n )+)", LIST.read_text(), re.MULTILINE)
    return [(name, code) for name, codes in table for code in re.sub(r"\s+", " ", codes).strip().split(" | ")]


def names_of(t: Any) -> dict[str, Any]:
    """What the expressions may use, of one package."""
    random = np.random.default_rng(0)
    known: dict[str, Any] = {"torch": t, "nn": t.nn, "F": t.nn.functional}
    known |= {n: t.tensor(random.standard_normal(shape).astype(np.float32).tolist(), requires_grad=True) for n, shape in SHAPES.items()}
    known |= {n: t.tensor(content) for n, content in WHOLE.items()}

    def ip(code: str) -> Any:
        """``a`` after the statements."""
        scope = known | {"a": known["x"] * 1}
        exec(code, scope)
        return scope["a"]
    return known | {"ip": ip, "ipv": ip}


def shown(code: str, known: dict[str, Any]) -> tuple[str, str, str]:
    """The name of the node's class, its ``name()``, and the name that is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = eval(code, dict(known))
    made = made[0] if isinstance(made, tuple) else made
    printed = re.search(r"grad_fn=<(\w+)>", repr(made))
    return type(made.grad_fn).__name__, made.grad_fn.name().rpartition("::")[2], printed[1] if printed else ""


def main() -> None:
    import torch
    import torch.nn

    theirs = names_of(torch)
    table: dict[str, list[str]] = {}
    for code in dict.fromkeys(code for _, code in rows()):
        table.setdefault(shown(code, theirs)[0], []).append(code)
    lines = [textwrap.fill(f"{name}: {' | '.join(table[name])}", 140, subsequent_indent="    ", break_long_words=False,
                           break_on_hyphens=False) for name in sorted(table)]
    LIST.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
