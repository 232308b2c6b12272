"""Short random programs of views, writes in place and backwards: the same values, gradients, counts and errors as PyTorch."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight

oracle = pytest.importorskip("torch")

number = st.sampled_from([0.0, 1.0, -0.5, 2.0])
at = st.integers(-2, 1)
cut = st.builds(slice, st.integers(0, 2), st.none() | st.integers(0, 3), st.sampled_from([None, 2]))
key = st.tuples(cut | at) | st.tuples(cut | at, cut | at) | st.just([0, 1]) | st.just((slice(None), [0]))
which = st.integers(0, 5)  # a tensor, counted from the latest

VIEWS = {"t": lambda x, k, n: x.T, "unsqueeze": lambda x, k, n: x.unsqueeze(0), "squeeze": lambda x, k, n: x.squeeze(),
         "flat": lambda x, k, n: x.reshape(-1), "as it lies": lambda x, k, n: x.view(-1),
         "chunk": lambda x, k, n: x.narrow(0, 1, 1), "diagonal": lambda x, k, n: x.diagonal(),
         "detach": lambda x, k, n: x.detach(), "item": lambda x, k, n: x[k], "expand": lambda x, k, n: x.expand(2, *x.shape)}
OTHERS = {"sin": lambda x, k, n: x.sin(), "clone": lambda x, k, n: x.clone(), "rows": lambda x, k, n: x.contiguous(),
          "flip": lambda x, k, n: x.flip(0), "look up": lambda x, k, n: x[[0, 0]],
          "square": lambda x, k, n: x.square(), "add": lambda x, k, n: x + n,
          "mul": lambda x, k, n: x * n}
WRITES = {"add_": lambda x, k, n: x.add_(n), "mul_": lambda x, k, n: x.mul_(n), "fill_": lambda x, k, n: x.fill_(n),
          "relu_": lambda x, k, n: x.relu_(), "set": lambda x, k, n: x.__setitem__(k, n),
          "mask": lambda x, k, n: x.masked_fill_(x > 0.4, n)}
BOTH = {"copy_": lambda x, y: x.copy_(y), "add_to": lambda x, y: x.add_(y), "times": lambda x, y: x * y, "plus": lambda x, y: x.add(y)}

steps = st.lists(st.one_of(
    st.tuples(st.sampled_from([*VIEWS, *OTHERS, *WRITES, *WRITES]), which, key, number),
    st.tuples(st.sampled_from([*BOTH]), which, which),
    st.tuples(st.sampled_from(["backward", "look", "forget"]), which), st.tuples(st.just("grad"), st.booleans())), min_size=2, max_size=10)
CALLS = {**VIEWS, **OTHERS, **WRITES}
# What PyTorch refuses and Rushlight has a meaning for: see "Memory" in docs/architecture.md.
LENIENT = ("some elements of the input tensor", "on expanded tensors", "modified by an inplace operation", "no_grad mode",
           "a leaf Variable")


def run(program, torch):
    """What each step did: the class of its error or None; and the tensors. Ends where a backward fails."""
    leaf = torch.tensor([[0.5, -1.0, 2.0], [1.5, 3.0, -0.5]], requires_grad=True)
    tensors, told = [leaf, torch.tensor([[2.0, 1.0, -1.0], [0.25, -3.0, 1.0]])], []
    for name, *said in program:
        made, error = None, None
        tensor = None if name == "grad" else tensors[-1 - said[0] % len(tensors)]
        try:
            if name == "grad":
                torch.set_grad_enabled(said[0])
            elif name == "backward":
                (tensor * tensor).sum().backward(retain_graph=True)
            elif name == "look":
                tensor.sum().item()
            elif name == "forget":
                leaf.grad = None
            elif name in BOTH:
                made = BOTH[name](tensor, tensors[-1 - said[1] % len(tensors)])
            else:
                if torch is oracle and name in VIEWS and not torch.is_grad_enabled():
                    tensor = tensor.detach()  # else it requires grad, against what the manual says of no_grad
                made = CALLS[name](tensor, *said[1:])
        except (RuntimeError, IndexError) as problem:
            error = problem
        told.append(error)
        if error is not None and name == "backward":
            break
        if made is not None and made is not tensor:
            tensors.append(made)
    torch.set_grad_enabled(True)
    return told, tensors


def lies(x):
    """Strides of the dimensions that have some, and where the first element is."""
    return x.numel() and ([s for s, n in zip(x.stride(), x.shape) if n > 1], x.storage_offset())


def comparable(program):
    """Leaves out steps that PyTorch alone refuses, that write what they read, or that end when they have written a part."""
    kept = []
    for step in program:
        told, tensors = run([*kept, step], oracle)
        if told[-1] is not None and any(text in str(told[-1]) for text in LENIENT):
            continue
        if isinstance(told[-1], IndexError) and step[0] == "set":
            continue
        if step[0] in ("copy_", "add_to"):
            target, source = [tensors[-1 - n % len(tensors)].untyped_storage().data_ptr() for n in step[1:]]
            if target == source:
                continue
        kept.append(step)
    return kept


@pytest.mark.filterwarnings("ignore")
@given(steps)
@settings(max_examples=60, deadline=None)
def test_random_programs_do_what_pytorch_does(program):
    program = comparable(program)
    errors, wanted = run(program, oracle)
    for _ in range(3):  # in full, then as what is remembered
        told, tensors = run(program, rushlight)
        assert [type(e) for e in told] == [type(e) for e in errors]
        assert len(tensors) == len(wanted)
        for mine, other in zip(tensors, wanted):
            assert mine.detach().numpy() == pytest.approx(other.detach().numpy(), rel=1e-4, nan_ok=True)
            assert mine._version == other._version
            assert lies(mine) == lies(other)
        if not any(errors):
            grad, other = tensors[0].grad, wanted[0].grad
            assert (grad is None) == (other is None)
            assert grad is None or lies(grad) == lies(other)
            assert grad is None or grad.numpy() == pytest.approx(other.numpy(), rel=1e-4, nan_ok=True)
