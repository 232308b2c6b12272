"""Special functions: ``rushlight.special``, laid out as ``torch.special``."""
from __future__ import annotations

from typing import Any

from ..autograd.overriding import asking
from ..ops import arithmetic as _ar
from ..ops import special as _ops
from ..tensor.gamma import floating, floating_pair
from ..tensor.out import with_out
from ..tensor.registry import FUNCTIONS

__all__: list[str] = []


def _export(name: str, define: Any, doc: str = "") -> None:
    if doc:
        define.__doc__ = doc
    define.__name__ = name
    globals()[name] = asking(with_out(define, "special_" + name))
    __all__.append(name)


for _name, _of in (("erf", "erf"), ("erfc", "erfc"), ("erfinv", "erfinv"), ("exp2", "exp2"), ("expm1", "expm1"), ("expit", "sigmoid"),
                   ("log1p", "log1p"), ("gammaln", "lgamma"), ("digamma", "digamma"), ("psi", "digamma"), ("i0", "i0"), ("sinc", "sinc"),
                   ("logit", "logit"), ("round", "round"), ("xlogy", "xlogy"), ("polygamma", "polygamma"), ("multigammaln", "mvlgamma"),
                   ("gammainc", "igamma"), ("gammaincc", "igammac"), ("logsumexp", "logsumexp")):
    globals()[_name] = FUNCTIONS[_of]
    __all__.append(_name)


def _unary(name: str, op: Any) -> None:
    def call(input: Any) -> Any:
        return op(floating(input, name))
    _export(name, call, f"Elementwise {name} of ``input``.")


def _binary(name: str, op: Any) -> None:
    def call(input: Any, other: Any) -> Any:
        return op(*floating_pair(input, other, name))
    _export(name, call, f"Elementwise {name} of two operands, broadcast.")


for _name in ("i0e", "i1", "i1e", "ndtri"):
    _unary(_name, getattr(_ar, _name))
for _name in ("entr", "ndtr", "erfcx", "log_ndtr"):
    _unary(_name, getattr(_ops, _name))
for _name, _op in _ops.LIBRARY.items():
    _unary(_name, _op)
_binary("xlog1py", _ops.xlog1py)
_binary("zeta", _ops.zeta)
for _name, _op in _ops.POLYNOMIALS.items():
    def _polynomial(input: Any, n: Any, _name: str = _name, _op: Any = _op) -> Any:
        return _op(*floating_pair(input, n, _name))
    _export(_name, _polynomial, "The polynomial of degree ``n`` at ``input``.")


def _softmax(input: Any, dim: int, *, dtype: Any = None) -> Any:
    return FUNCTIONS["softmax"](input, dim, dtype=dtype)


def _log_softmax(input: Any, dim: int, *, dtype: Any = None) -> Any:
    return FUNCTIONS["log_softmax"](input, dim, dtype=dtype)


softmax, log_softmax = _softmax, _log_softmax
__all__ += ["softmax", "log_softmax"]
