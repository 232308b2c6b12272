"""Writes in place, views and the graph: the same values, gradients, counts and errors as PyTorch."""
from __future__ import annotations

import re

import pytest

import rushlight

oracle = pytest.importorskip("torch")


def told(program, torch):
    """What a program returns, as numbers; or the class of its error."""
    def plain(x):
        if isinstance(x, (tuple, list)):
            return [plain(item) for item in x]
        return x.detach().tolist() if isinstance(x, torch.Tensor) else x
    try:
        return plain(program(torch))
    except (RuntimeError, AttributeError) as error:
        return type(error), re.sub(r"^Function \w+", "Function", str(error))[:40]  # the node is named where it is found out


def same(program):
    assert told(program, rushlight) == told(program, oracle)


def leaf(torch):
    return torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)


# -- a base that is reshaped in place -----------------------------------------------------------------------------

CHANGES = {"t_": lambda x: x.t_(), "unsqueeze_": lambda x: x.unsqueeze_(1), "two": lambda x: x.t_().unsqueeze_(0)}
WRITES = {"the view": lambda x, v: v.mul_(1.5), "a part of the view": lambda x, v: v[:, 1:].mul_(1.5), "the base": lambda x, v: x.mul_(1.5),
          "a part of the base": lambda x, v: x[..., :1].mul_(1.5), "both": lambda x, v: (v.mul_(1.5), x[0].add_(1), v[0].mul_(2))}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("read", [lambda x, v: x, lambda x, v: v], ids=["base", "view"])
@pytest.mark.parametrize("grad", [True, False])
def test_views_made_before_their_base_was_reshaped(change, write, read, grad):
    def program(torch):
        p = leaf(torch)
        x = p * 1 if grad else p.detach() * 1
        v = x[..., ::2]
        change(x)
        write(x, v)
        y = read(x, v)
        if not grad:
            return x, v
        (y * y).sum().backward()
        return x, v, p.grad
    same(program)


def test_what_was_reshaped_in_place_is_a_view_of_nothing():
    def program(torch):
        x = torch.zeros(2, 3)
        v = x[1]
        x.t_()
        w = x[1]
        return x._is_view(), x._base is None, v._base is x, w._base is x, w._is_view()
    same(program)


def test_a_view_is_not_detached_in_place():
    def program(torch):
        p = leaf(torch)
        x = p * 2
        x.t_()
        x.detach_()
        x.mul_(2)
        return x, x.requires_grad, x[0].detach_()
    same(program)
    assert told(program, rushlight)[0] is RuntimeError


def test_what_was_detached_in_place_after_it_was_reshaped_wants_no_gradient():
    def program(torch):
        x = leaf(torch) * 2
        x.t_()
        x.detach_()
        x.mul_(2)
        return x, x.requires_grad
    same(program)


@pytest.mark.parametrize("key", [(slice(2, 1),), (slice(2, 3), slice(2, 0, 2)), (0, slice(3, 3))])
@pytest.mark.parametrize("ready", [True, False])
def test_a_write_into_no_elements_changes_nothing(key, ready):
    x = rushlight.zeros(2, 3)
    if ready:
        assert x.sum().item() == 0
    x[key] = 1.5
    assert x.tolist() == [[0.0] * 3] * 2


# -- content of another shape -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (2, 1), (6,), (3, 2), (1, 2, 3), (2, 3)])
@pytest.mark.parametrize("use", [lambda x: (x * x).sum(), lambda x: x.sum(), lambda x: x.relu().mean()])
def test_data_of_another_shape_does_not_fit_the_graph(shape, use):
    def program(torch):
        p = leaf(torch)
        x = p * 2
        x.data = torch.ones(shape)
        use(x).backward()
        return p.grad
    same(program)


def test_a_leaf_of_another_shape_than_its_gradient():
    p = leaf(rushlight)
    y = p * 3
    p.data = rushlight.ones(3, 2)
    with pytest.raises(RuntimeError, match="AccumulateGrad returned an invalid gradient"):
        y.sum().backward()


# -- gradients that are zero --------------------------------------------------------------------------------------

CONSTANTS = {
    "fill_": lambda y, c: y.fill_(3.0), "zero_": lambda y, c: y.zero_(), "fill_ by a tensor": lambda y, c: y.fill_(c),
    "copy_": lambda y, c: y.copy_(c), "part": lambda y, c: y[:1].zero_(), "whole by index": lambda y, c: y.__setitem__(slice(None), 2.0),
    "round_": lambda y, c: y.round_(), "floor": lambda y, c: y.floor(), "sign": lambda y, c: y.sign(), "trunc": lambda y, c: y.trunc(),
    "div trunc": lambda y, c: y.div(2, rounding_mode="trunc"), "pow": lambda y, c: y ** 0}


@pytest.mark.parametrize("constant", CONSTANTS.values(), ids=CONSTANTS)
def test_what_does_not_depend_on_its_input_gives_it_zeros(constant):
    def program(torch):
        p, s, c = leaf(torch), torch.tensor(2.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
        y = p * s
        made = constant(y, c)
        out = y if made is None or made.shape != y.shape else made
        (out * out).sum().backward()
        return p.grad, s.grad, c.grad, out.requires_grad
    same(program)


# -- a second backward --------------------------------------------------------------------------------------------

ONCE = {
    "mul": lambda p, t: p * 2, "div": lambda p, t: p / 2, "pow": lambda p, t: p ** 0, "tensor": lambda p, t: p * t.tensor(2.0),
    "part": lambda p, t: (lambda y: (y[0].copy_(p[0]), y)[1])(t.zeros(2, 3)), "exp": lambda p, t: p.exp(),
    "imul": lambda p, t: (p + 1).mul_(2)}
TWICE = {
    "add": lambda p, t: p + 1, "sub": lambda p, t: 3 - p, "neg": lambda p, t: -p, "sum": lambda p, t: p.sum(0),
    "mean": lambda p, t: p.mean(1), "view": lambda p, t: p.view(3, 2).t(), "index": lambda p, t: p[0, 1:],
    "clone": lambda p, t: p.clone(), "double": lambda p, t: p.double(),
    "cat": lambda p, t: t.cat([p, p]), "copy_": lambda p, t: t.zeros(2, 3).copy_(p), "round": lambda p, t: p.round(),
    "over": lambda p, t: p.clone().copy_(t.ones(2, 3)), "zero_": lambda p, t: p.clone().zero_()}


@pytest.mark.parametrize("make", [*ONCE.values(), *TWICE.values()], ids=[*ONCE, *TWICE])
@pytest.mark.parametrize("rounds", [1, 4])  # the walk, and the walk that is replayed
def test_a_backward_uses_up_what_pytorch_frees(make, rounds):
    def program(torch):
        for _ in range(rounds):
            p = leaf(torch)
            loss = make(p, torch).sum()
            loss.backward()
        loss.backward()
        return p.grad
    same(program)
    assert (told(program, rushlight)[0] is RuntimeError) == (make in ONCE.values())


# -- counts of writes ---------------------------------------------------------------------------------------------


def counts_of_views(torch):
    x = torch.zeros(3)
    v, seen = x[1:], [x._version]
    v.add_(1)
    seen += [x._version, v._version]
    x.mul_(2)
    seen += [x._version, v._version, x.detach()._version, v[:1]._version]
    x.detach().add_(1)
    v[0] = 3
    return [*seen, x._version, v._version, (x + 1)._version]


def counts_of_data(torch):
    x = torch.zeros(3)
    data = x.data
    data.add_(1)
    data[1:].mul_(2)
    x.add_(1)
    data.detach().add_(1)
    data.unsqueeze_(0)
    return x._version, data._version, data[1:]._version, data.detach()._version, x.data._version, x.tolist()


def counts_of_indexed_writes(torch):
    x = torch.ones(3, 3)
    x[0] = 1
    seen = [x._version]
    x[x > 0] = 2
    x[[0, 1]] = 3.0
    x[:, 1] += 1
    seen.append(x._version)
    x.copy_(torch.zeros(3, 3))
    x.masked_fill_(x > 0, 1)
    torch.add(x, 1, out=x)
    return [*seen, x._version]


def counts_of_reshaping(torch):
    x = torch.ones(2, 3)
    x.t_()
    x.unsqueeze_(0)
    v = x[0]
    x.squeeze_(0)
    return x._version, v._version


def counts_of_training(torch):
    p = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.1)
    seen = []
    for _ in range(3):
        (p.reshape(3, 1) * 2).sum().backward()
        optimizer.step()
        seen.append(p._version)
    return [*seen, p.detach()._version, p.grad._version]


@pytest.mark.parametrize("program", [counts_of_views, counts_of_data, counts_of_indexed_writes, counts_of_reshaping, counts_of_training])
def test_a_tensor_counts_the_writes_of_its_memory(program):
    same(program)


def test_the_count_of_writes_is_not_set():
    with pytest.raises(AttributeError):
        rushlight.zeros(2)._version = 3


# -- elements that share memory -----------------------------------------------------------------------------------

REFUSED = {
    "mul_": lambda x, t: x.mul_(2), "clamp_": lambda x, t: x.clamp_(0), "copy_": lambda x, t: x.copy_(t.ones(2, 3)),
    "setitem": lambda x, t: x.__setitem__(slice(None), 1.0), "relu_": lambda x, t: t.nn.functional.relu(x, inplace=True),
    "normal_": lambda x, t: x.normal_(), "cumsum_": lambda x, t: x.cumsum_(0), "scatter_": lambda x, t: x.scatter_(
        0, t.zeros(1, 3, dtype=t.int64), t.ones(1, 3)), "index_add_": lambda x, t: x.index_add_(0, t.tensor([0]), t.ones(1, 3)),
    "out": lambda x, t: t.mul(x, 2, out=x), "iadd": lambda x, t: x.__iadd__(1), "part": lambda x, t: x[:, 1:].exp_()}
ALLOWED = {
    "fill_": lambda x, t: x.fill_(2), "zero_": lambda x, t: x.zero_(), "one row": lambda x, t: x[1].mul_(2),
    "item": lambda x, t: x.__setitem__((0, 1), 5.0),
    "masked_fill_": lambda x, t: x.masked_fill_(t.tensor([[True, False, False], [True, True, False]]), 7.0)}


def expanded(write, grad, torch):
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=grad) * 2
    write(x.expand(2, 3), torch)
    return x


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("grad", [True, False])
def test_a_write_into_elements_that_share_memory_is_refused(write, grad):
    same(lambda torch: expanded(write, grad, torch))
    assert told(lambda torch: expanded(write, grad, torch), rushlight)[0] is RuntimeError


@pytest.mark.filterwarnings("ignore:Use of masked_fill_ on expanded tensors")
@pytest.mark.parametrize("write", ALLOWED.values(), ids=ALLOWED)
def test_a_write_that_gives_them_the_same_is_not(write):
    same(lambda torch: expanded(write, False, torch))
    assert len(told(lambda torch: expanded(write, False, torch), rushlight)) == 3


def test_a_dimension_of_length_one_repeats_nothing():
    assert rushlight.ones(3).expand(1, 3).mul_(2).tolist() == [[2.0] * 3]
    assert rushlight.ones(0, 1).expand(0, 3).mul_(2).shape == (0, 3)


# -- views whose memory came to want a gradient -------------------------------------------------------------------

ASKED = {"backward": lambda v, p, t: v.backward(), "grad": lambda v, p, t: t.autograd.grad(v, p), "numpy": lambda v, p, t: v.numpy().shape,
         "retain_grad": lambda v, p, t: v.retain_grad(), "with respect to it": lambda v, p, t: t.autograd.grad(v * 2, v)}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_view_knows_when_it_is_asked(ask):
    def program(torch):
        p, x = leaf(torch), torch.zeros(2, 3)
        v = x[1, 2]
        x.copy_(p)
        return ask(v, p, torch), p.grad
    same(program)


def test_a_hook_of_a_view_whose_memory_came_to_want_a_gradient():
    p, x, seen = leaf(rushlight), rushlight.zeros(2, 3), []
    v = x[1, 2]
    x.copy_(p)
    v.register_hook(lambda g: seen.append(g.item()))
    (v * 2).backward()
    assert seen == [2.0]


# -- calls that are remembered ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "writes"), [(lambda t: t.div_(-1.0), True), (lambda t: rushlight.stack([t.neg(), t]), False)],
                         ids=["a write", "several operations"])
def test_a_leaf_where_a_computed_tensor_stood(call, writes):
    def fresh():
        p = leaf(rushlight)
        assert (p * 2).sum().item() == 42  # the call is the first thing that is recorded
        return p
    for _ in range(4):
        p = fresh()
        t = p * 2
        assert t.sum().item() == 42
        call(t).sum().backward()
        assert p.grad is not None
    for _ in range(2):
        p = fresh()
        if writes:
            with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
                call(p)
        else:
            call(p).sum().backward()
            assert p.grad.tolist() == [[0.0] * 3] * 2


# -- gradients that are kept --------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [lambda y: y.mul_(3), lambda y: y[0].mul_(3), lambda y: y.zero_(), lambda y: y[:].square_(),
                                   lambda y: (y.mul_(3), y[1].add_(1), y.square_())], ids=["whole", "part", "zero_", "all", "several"])
@pytest.mark.parametrize("of_a_view", [False, True])
def test_the_gradient_that_is_kept_is_that_of_the_content_of_today(write, of_a_view):
    def program(torch):
        p = leaf(torch)
        x = p * 2
        y = x[:, 1:] if of_a_view else x
        y.retain_grad()
        write(y)
        (y * y).sum().backward()
        return y.grad, p.grad
    same(program)


# -- a tensor cut from its own base is the base of its views --------------------------------------------------------


def pow_of_a_row(t, w):
    t.mul_(w[0])
    v = t[1]
    v.add_(w[1])
    v.pow_(2)
    return t[1 - len(t):] * v.sum()


def row_of_a_row(t, w):
    t.mul_(w[0])
    v = t[1]
    v[1:].mul_(w[1])
    return v


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("program", [
    lambda t, w: t.mul_(w[0]), lambda t, w: (t.mul_(w[0]), t[0].mul_(w[1]), t)[2], pow_of_a_row, row_of_a_row,
    lambda t, w: (t.add_(w[0]), t[0].copy_(w.sum() * 2), t)[2], lambda t, w: (t.mul_(w[0]), t.transpose(0, 1)[0].mul_(w[1]), t)[2]])
def test_writes_through_views_of_a_tensor_that_was_cut_from_its_base(program, across, ready):
    """The old content that the gradient of a write reads was overwritten in a part of memory without a history; and such a part was
    taken for the whole of it by writes through views."""
    def run(m):
        x = m.arange(24.0).reshape(2, 3, 4)
        t = (x.permute(2, 0, 1) if across else x[1:]).detach()
        w = m.tensor([2.0, 3.0], requires_grad=True)
        if ready:
            assert t.sum().item() > 0
        if not across:
            t = t[0].detach()
        out = program(t, w)
        (out * out).sum().backward()
        return x, t, w.grad
    same(run)


def test_a_base_with_gaps_is_refused():
    x = rushlight.arange(12.0).reshape(3, 4)
    t = x[:, 1:3].detach()
    w = rushlight.tensor(2.0, requires_grad=True)
    t.mul_(w)
    assert t.sum().item() == 2 * (1 + 2 + 5 + 6 + 9 + 10)
    with pytest.raises(RuntimeError, match="with gaps between its elements: clone that tensor"):
        t[0].mul_(w)
