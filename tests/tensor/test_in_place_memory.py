"""What is written into a tensor lands in the memory that the tensor has, wherever it comes from."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn
from rushlight.record import counters

WRITES = {
    "from the random stream": lambda t: t.normal_(),
    "from a NumPy array": lambda t: t.copy_(torch.from_numpy(np.ones((3, 4), np.float32))),
    "from another tensor": lambda t: t.copy_(torch.full((3, 4), 2.0)),
    "computed": lambda t: t.mul_(2),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with an alias"])
def test_a_write_keeps_the_memory(write, shared):
    t = torch.empty(3, 4).fill_(1)
    alias = t.detach() if shared else None
    before = t.data_ptr()
    write(t)
    (t + 1).sum().item()
    assert t.data_ptr() == before
    if alias is not None:
        assert alias.tolist() == t.tolist()


def test_the_second_step_of_a_fresh_model_repeats_the_first():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, memory = torch.tensor(np.ones((2, 4), np.float32)), [p.data_ptr() for p in model.parameters()]

    def step():
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        assert [p.data_ptr() for p in model.parameters()] == memory
    step()
    before = counters.programs_built
    step()
    assert counters.programs_built == before + 1  # the same path as the first, which ran cold: now it is compiled
    step()
    assert counters.programs_built == before + 1


@pytest.mark.parametrize("array", [lambda t: t.numpy(), np.asarray, lambda t: t[1].detach().numpy()], ids=["numpy", "asarray", "of a part"])
@pytest.mark.parametrize("read", [lambda t: t * 2, lambda t: t[1:] * 2, lambda t: t.t()[:, 1:] * 2], ids=["whole", "part", "strided part"])
def test_what_was_recorded_reads_the_memory_before_numpy_gets_it(read, array):
    for _ in range(3):  # interpreted, compiled, again
        t = torch.tensor(np.ones((3, 4), np.float32))
        out = read(t)
        array(t)[:] = 7
        assert set(out.flatten().tolist()) == {2.0}
        assert 7.0 in t.flatten().tolist()


@pytest.mark.parametrize("change", [lambda t: t.unsqueeze_(0), lambda t: t.t_(), lambda t: t.transpose_(0, 1).squeeze_(0)],
                         ids=["unsqueeze_", "t_", "two"])
@pytest.mark.parametrize("write", [lambda t: t.detach().mul_(0.5), lambda t: t.data.mul_(0.5), lambda t: t.mul_(0.5),
                                   lambda t: t[0].mul_(0.5)],
                         ids=["detached", "data", "itself", "a part"])
def test_a_tensor_that_changed_its_shape_in_place_sees_what_is_written(change, write):
    oracle = pytest.importorskip("torch")

    def run(torch):
        p = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
        y = p * 2
        change(y)
        write(y)
        loss = (y * y).sum()
        loss.backward()
        return loss.item(), y.tolist(), p.grad.tolist()

    assert run(torch) == run(oracle)


def test_a_parameter_does_not_change_its_shape_in_place():
    p = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        p.t_()
    with torch.no_grad():
        assert p.t_().shape == (3, 2) and p.is_leaf


def test_a_view_wants_a_gradient_as_soon_as_its_memory_does():
    p = torch.ones(4, requires_grad=True)
    x = torch.zeros(3, 4)
    part, other = x[:, ::2], x[1]
    assert not part.requires_grad and part.is_leaf
    other.add_(p)
    assert x.requires_grad and part.requires_grad and not part.is_leaf
    part.sum().backward()
    assert p.grad.tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("write", [lambda t, c: t.copy_(c), lambda t, c: t[:].copy_(c), lambda t, c: t.normal_()],
                         ids=["copy_", "part", "normal_"])
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with an alias"])
def test_no_gradient_passes_content_that_was_overwritten(write, shared):
    p, c = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([5.0, 6.0])
    y = p.sin()
    alias = y.detach() if shared else None
    write(y, c)
    (y * y).sum().backward()
    assert y.requires_grad and p.grad.tolist() == [0.0, 0.0]
    assert alias is None or alias.tolist() == y.tolist()
