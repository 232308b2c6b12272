"""The names of gradient nodes (``grad_fn=<SumBackward1>``) are PyTorch's: ``grad_names.txt`` has them, with the expressions whose
last step they name."""
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rushlight

TABLE = re.findall(r"^(\w+): ((?:.|\n )+)", Path(__file__).with_name("grad_names.txt").read_text(), re.MULTILINE)
ROWS = [(name, code) for name, codes in TABLE for code in re.sub(r"\s+", " ", codes).strip().split(" | ")]
SHAPES = {"x": (3, 4), "y": (3, 4), "w": (4, 4), "v": (4,), "v3": (3,), "v1": (1,), "b": (2, 3, 3), "w3": (3, 3), "b4": (2, 3, 4),
          "b4w": (4, 2), "b5": (2, 4, 4), "b2": (3, 2), "b6": (2, 3, 4), "img": (2, 3, 4, 4), "img4": (2, 4, 3, 3), "seq": (2, 3, 6),
          "k1": (2, 3, 3), "k2": (3, 3, 3, 3), "k2t": (3, 2, 3, 3), "k1t": (3, 2, 3), "grid": (2, 3, 3, 2), "theta": (2, 2, 3),
          "lp": (5, 2, 4)}
WHOLE = {"tgt": [0, 1, 2], "tgtm": [[0, 1, -1, -1]] * 3, "tgt2": [[0] * 16] * 2, "i": [0, 1], "ix": [[0, 1, 2, 0]] * 3,
         "ctgt": [[1, 2], [2, 3]], "c": [[True, False, True, True]] * 3, "t01": [[0.0, 1.0, 1.0, 0.0]] * 3,
         "pm": [[1.0, -1.0, 1.0, -1.0]] * 3,
         "rm": [0.0] * 3, "rv": [1.0] * 3}


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


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return names_of(rushlight)


@pytest.mark.parametrize(("name", "code"), ROWS, ids=[code for _, code in ROWS])
def test_name(ours, name, code):
    assert shown(code, ours) == (name, name, name)


def test_the_table_is_pytorchs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.nn")
    theirs = names_of(torch)
    assert {code: shown(code, theirs) for _, code in ROWS} == {code: (name, name, name) for name, code in ROWS}


def test_a_name_stays_after_backward_and_in_the_graph():
    x = rushlight.ones(3, 4, requires_grad=True)
    y = x.t().sum(0).mean()
    y.backward()
    assert repr(y).endswith("grad_fn=<MeanBackward0>)")
    ((inner, _),) = y.grad_fn.next_functions
    ((first, _),) = inner.next_functions
    assert [type(n).__name__ for n in (y.grad_fn, inner, first)] == ["MeanBackward0", "SumBackward1", "TBackward0"]
    assert y.grad_fn is y.grad_fn and y.grad_fn.next_functions[0][0] is inner
    assert x.grad.tolist() == [[pytest.approx(1 / 3)] * 4] * 3


def test_looking_at_a_node_changes_nothing_about_its_gradient():
    x = rushlight.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x * x).exp()
    assert "ExpBackward0" in repr(y.grad_fn) and y.grad_fn.next_functions[0][0].name() == "MulBackward0"
    (g,) = rushlight.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = rushlight.autograd.grad(g.sum(), x)
    a = x.detach().numpy().astype(np.float64)
    assert np.allclose(g.detach().numpy(), 2 * a * np.exp(a * a)) and np.allclose(h.numpy(), (2 + 4 * a * a) * np.exp(a * a))
