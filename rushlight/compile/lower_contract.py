"""From a contraction's group to a ``Contraction``: roles and strides of its dimensions, and the epilogue.

Which dimensions become one is not decided here but when kernels are planned (``Contraction.merged``): it may be otherwise for
another size, which is then the affair of this contraction alone.
"""
from __future__ import annotations

from dataclasses import dataclass

from . import index as ix
from .body import Body, Builder, Put, Value, address_of
from .contraction import Contraction, Dim, Extra, Sum
from .cpu.contract_rows import MAX_OPERANDS
from .expr import Expr, input_, substitute
from .fusion import Fusion
from .graph import ContractSpec, Node, Window
from .group import Group
from .index import Index, Ix
from .numbers import Numbers, counts

__all__ = ["LoweredContract", "TooManyOperands", "lower_contract"]


class TooManyOperands(Exception):
    """More is fused into a contraction than its kernel can address, or sums that it cannot make."""

    def __init__(self, node: Node) -> None:
        super().__init__(f"a contraction of more than {MAX_OPERANDS} operands, or with sums over other dimensions than its rows: {node}")
        self.node = node


@dataclass
class LoweredContract:
    """A contraction and what its operands lie in: A, B, C, the extras, then the sums, each (value, byte offset)."""

    contraction: Contraction
    memory: list[tuple[Node, int]]
    nbytes: int


@dataclass(eq=False)  # two of one length and with equal steps are not the same, nor is their length to be asked for
class _Axis:
    extent: int
    a: int
    b: int
    c: int
    extras: tuple[int, ...]


def lower_contract(group: Group, fusion: Fusion, numbers: Numbers) -> tuple[LoweredContract, Body]:
    """The contraction of a group, and the body of its epilogue. ``numbers``: what is a leaf of the graph as a number, to which those are
    added that the epilogue reads.

    Raises:
        TooManyOperands: the epilogue reads and writes too much, or sums over other dimensions than all rows.
    """
    node = group.anchor
    assert node is not None
    spec: ContractSpec = node.attrs[0]
    sizes = dict(spec.sizes)
    index = group.roots[node] if node in group.roots else group.demand[node][0]
    builder = Builder(group, fusion)
    body = builder.build()
    _load_counts(body, numbers)
    position: dict[str, Ix] = dict(zip(spec.out, index, strict=True))
    extents = {a: n for a, n in group.extents.items() if a >= 0}
    summed = [c for c in sizes if c not in position]
    for letter in summed:
        axis = max([*extents, -1]) + 1
        extents[axis] = sizes[letter]
        position[letter] = ix.axis_ix(axis)
    (base_a, a), (base_b, b) = (_operand(fusion, x, dims, position)
                                for x, dims in zip(node.inputs, (spec.a, spec.b), strict=True))
    puts = [p for p in body.puts if p.node not in group.reduces]
    sums = [p for p in body.puts if p.node in group.reduces]
    reads = [(k, v) for k, v in enumerate(body.values) if v.kind == "load"]
    steps = [dict(f.terms) for f in (a, b, puts[0].at, *(v.at for _, v in reads), *(p.at for p in puts[1:]))]
    axes = {axis: _Axis(n, steps[0].get(axis, 0), steps[1].get(axis, 0), steps[2].get(axis, 0),
                        tuple(s.get(axis, 0) for s in steps[3:])) for axis, n in extents.items()}
    roles: dict[str, list[_Axis]] = {"batch": [], "m": [], "n": [], "k": []}
    in_a, in_b = (_axes_of(dims, position) for dims in (spec.a, spec.b))
    out_axes = {axis for letter in spec.out for axis, _ in position[letter].terms}
    for axis, found in axes.items():
        if axis not in out_axes:
            role = "k"
        elif axis in in_a and axis in in_b and found.a and found.b:
            role = "batch"
        elif axis in in_b and (axis not in in_a or not found.a and found.b):
            role = "n"
        else:
            role = "m"
        roles[role].append(found)
    for put in sums:
        _check_sum(node, put, axes, roles)
    dims, extras = {}, {}
    for role, found_axes in roles.items():
        dims[role] = tuple(Dim(x.extent, x.a, x.b, x.c) for x in found_axes)
        extras[role] = [x.extras for x in found_axes]
    strides = [tuple(x[k] for role in ("batch", "m", "n") for x in extras[role]) for k in range(len(steps) - 3)]
    operands = [Extra(v.dtype, s) for (_, v), s in zip(reads, strides)]
    operands += [Extra(p.expr.dtype, s, True) for p, s in zip(puts[1:], strides[len(reads):])]
    if 3 + len(operands) + len(sums) > MAX_OPERANDS:
        raise TooManyOperands(node)
    number = {k: 1 + i for i, (k, _) in enumerate(reads)}
    number[0] = 0
    stores = tuple(_renumber(p.expr, number) for p in puts)
    formulas = tuple(_summed(body, p, number) for p in sums)
    operand_type = node.inputs[0].dtype
    contraction = Contraction(dims["batch"], dims["m"], dims["n"], dims["k"], operand_type, operand_type,
                              puts[0].expr.dtype, operand_type.compute, tuple(operands), stores, sums=formulas)
    places = [(base_a, a), (base_b, b), (puts[0].node, puts[0].at), *((v.node, v.at) for _, v in reads),
              *((p.node, p.at) for p in (*puts[1:], *sums))]
    memory = [(x, at.offset * x.dtype.itemsize) for x, at in places if x is not None]
    nbytes = sum(x.size * x.dtype.itemsize for x, _ in memory)
    return LoweredContract(contraction, memory, nbytes), body


def _load_counts(body: Body, numbers: Numbers) -> None:
    """Let an epilogue load the numbers that another size would change: a kernel has them for operands."""
    loads: dict[Expr, Expr] = {}
    places: list[Put | Value] = [*body.puts, *(value for value in body.values if value.kind == "acc")]
    for place in places:
        assert place.expr is not None
        for x in counts(place.expr):
            if x not in loads:
                loads[x] = body.number(Value("load", x.dtype, ix.ZERO, numbers.leaf(x.attr, x.dtype)))
        place.expr = substitute((place.expr,), loads.get)[0]


def _check_sum(node: Node, put: Put, axes: dict[int, _Axis], roles: dict[str, list[_Axis]]) -> None:
    """Whether there is one result for each position of a single dimension that is no row's."""
    terms = [(axes[axis], step) for axis, step in put.at.terms if axes[axis].extent != 1]
    kept = [axis for axis, step in terms if step == 1]
    others = [x for role in ("batch", "n") for x in roles[role] if x not in kept and x.extent != 1]
    if put.expr.fn != "input" or len(terms) != 1 or len(kept) != 1 or kept[0] in roles["m"] or others:
        raise TooManyOperands(node)


def _summed(body: Body, put: Put, number: dict[int, int]) -> Sum:
    value = body.values[put.expr.attr]
    assert value.expr is not None
    return Sum(value.op, _renumber(value.expr, number))


def _renumber(expr: Expr, number: dict[int, int]) -> Expr:
    return substitute((expr,), lambda n: input_(number[n.attr], n.dtype) if n.fn == "input" else None)[0]


def _axes_of(dims: tuple, position: dict[str, Ix]) -> set[int]:
    letters = [x for d in dims for x in ((d.output, d.kernel) if isinstance(d, Window) else (d,))]
    return {axis for c in letters for axis, _ in position[c].terms}


def _operand(fusion: Fusion, node: Node, dims: tuple, position: dict[str, Ix]) -> tuple[Node, Ix]:
    """The stored value under an operand, and the element of it that an iteration reads."""
    index: Index = tuple(
        ix.combine([(d.stride, position[d.output]), (d.dilation, position[d.kernel])], -d.padding)
        if isinstance(d, Window) else position[d] for d in dims)
    while node.kind == "view":  # as in fuse_rules.memory_base
        index = ix.through_view(index, node.attrs[0])
        node = node.inputs[0]
    return node, address_of(fusion, node, index)
