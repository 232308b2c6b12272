"""Complex tensors and their parts share memory: the same small programs in PyTorch and here."""
from __future__ import annotations

import copy
from typing import Any

import pytest

import rushlight

from ..alike.describe import rounded

PROGRAMS: dict[str, Any] = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def told(*tensors):
    """What can be seen of tensors."""
    return [(str(t.dtype), tuple(t.shape), t.stride(), t.storage_offset(), t.requires_grad, t._version,
             None if t.grad_fn is None else type(t.grad_fn).__name__, rounded(t.detach().numpy().tolist())) for t in tensors]


def numbers(t):
    return t.complex(t.arange(12.).reshape(3, 4), t.arange(12.).reshape(3, 4) + .5)


@program
def writes_are_seen_both_ways(t):
    x = numbers(t)
    r = t.view_as_real(x)
    x.mul_(2)
    a = told(r)
    r[1].fill_(7.)
    return a, *told(x, r, x.real, x.imag)


@program
def parts_of_ready_memory(t):
    x = numbers(t)
    x.tolist()
    r = x.real
    i = x.imag
    i[0, 1] = -5.
    r.add_(1)
    r[2] = 9.
    return told(x, r, i, x[1].imag)


@program
def parts_of_what_is_pending(t):
    x = numbers(t)
    r = x.real
    i = x.imag
    r.add_(1)
    i.mul_(r)
    return told(x, r, i)


@program
def pairs_as_complex(t):
    x = t.arange(24.).reshape(3, 4, 2)
    z = t.view_as_complex(x)
    z.mul_(1j)
    a = told(x)
    x[1] = 3.
    z.real[0] = 8.
    return a, *told(x, z), z._base is x


@program
def ready_pairs_as_complex(t):
    x = t.arange(24.).reshape(3, 4, 2) * 1
    x.tolist()
    z = t.view_as_complex(x)
    z[1].mul_(1j)
    a = told(x)
    x[1, 2] = 3.
    z.imag[0] = 8.
    return a, *told(x, z)


@program
def some_of_the_memory_as_complex(t):
    x = t.arange(26.)
    z = t.view_as_complex(x[2:26].view(3, 4, 2))
    z[1].mul_(1j)
    a = told(x)
    x[5:9] = 3.
    z.imag[0] = 8.
    z[:, 1] = 2 - 1j
    return a, *told(x, z), z._base is x


@program
def an_odd_offset(t):
    x = t.arange(25.)
    return told(t.view_as_complex(x[1:].view(12, 2)))


@program
def gradients_through_writes(t):
    w = numbers(t).requires_grad_()
    y = w * 1
    y.real.mul_(2)
    y.imag[1].add_(y.real[0])
    s = (t.view_as_real(y) ** 2).sum()
    s.backward()
    return told(w.grad, y)


@program
def a_part_of_a_leaf(t):
    w = numbers(t).requires_grad_()
    w.real.fill_(1.)


@program
def a_write_without_gradient(t):
    w = numbers(t).requires_grad_()
    with t.no_grad():
        w.real.fill_(1.)
    w.imag.sum().backward()
    return told(w, w.grad)


@program
def memory_in_another_order(t):
    x = numbers(t).t() + 1j
    r = t.view_as_real(x)
    i = x.imag
    i.fill_(2.)
    r[..., 0] = 5.
    return told(x, r, i)


@program
def pairs_in_another_order(t):
    x = t.arange(24.).reshape(4, 3, 2).transpose(0, 1) + 1
    z = t.view_as_complex(x)
    z.mul_(2j)
    return told(x, z)


@program
def cut_from_its_base(t):
    x = numbers(t).requires_grad_()
    y = x * 1
    d = y.t().detach()
    d.real.fill_(1.)
    return told(y, d)


@program
def a_write_with_gradient_into_a_base_that_is_a_part(t):
    w = t.arange(3.).requires_grad_()
    x = numbers(t)
    v = x[:, :4].t().detach()
    v.imag[0].mul_(w)
    return told(x, v)


@program
def a_saved_whole_is_written(t):
    w = numbers(t).requires_grad_()
    y = w * 1
    z = y * y
    y.real.fill_(1.)
    z.real.sum().backward()


@program
def a_saved_part_is_written(t):
    w = numbers(t).requires_grad_()
    y = w * 1
    r = y.real
    z = r*r
    y.fill_(1.)
    z.sum().backward()


@program
def assigned(t):
    x = numbers(t)
    x.real = 2.
    x.imag = t.arange(4)
    return told(x)


@program
def as_strided_of_a_part(t):
    x = numbers(t)
    r = x.real.as_strided((4,), (3,), 1)
    r.fill_(0.)
    return told(x, r)


@program
def windows(t):
    x = numbers(t)
    r = t.view_as_real(x).view(-1)[3:].unfold(0, 4, 5)
    r[1] = 100.
    return told(x, r)


@program
def overlapping_copy(t):
    x = numbers(t)
    t.view_as_real(x).view(2, 12)[0].copy_(t.view_as_real(x).view(-1)[6:18])


@program
def deep_copies(t):
    x = numbers(t)
    a, b, c = copy.deepcopy([x, x.real, x[1].imag])
    b.fill_(0.)
    c.fill_(1.)
    return [v.tolist() for v in (a, b, c, x)]


@program
def numpy_over_it(t):
    x = numbers(t)
    n = x.numpy()
    r = x.real
    n[0] = 1j
    a = told(r)
    r.numpy()[1] = 9
    return a, *told(x, r)


@program
def where_it_lies(t):
    x = numbers(t)
    r = x.imag
    return (r.data_ptr() - x.data_ptr(), r.untyped_storage().nbytes(), r._base is x, r.is_contiguous(),
            x.real.untyped_storage().data_ptr() == x.data_ptr(), r.view_as(r).stride(), r.contiguous().stride(), r.clone().stride())


@program
def data(t):
    x = numbers(t).requires_grad_()
    x.data.real.fill_(3.)
    y = x.real.data
    y[1] = 0.
    return told(x)


@program
def a_loop_that_comes_again(t):
    w = numbers(t).requires_grad_()
    out = []
    for k in range(6):
        w.grad = None
        y = w * w
        y.real.mul_(2)
        y.imag[k % 3] = 1.
        loss = (y.real ** 2 + y.imag).sum()
        loss.backward()
        out.append(loss.item())
        with t.no_grad():
            w.real.sub_(w.grad.real, alpha=.0001)
            t.view_as_real(w)[..., 1].sub_(w.grad.imag * .0001)
    return rounded(out), told(w)


@program
def a_loop_over_elements(t):
    buf = t.zeros(8, 2)
    z = t.view_as_complex(buf)
    out = []
    for k in range(6):
        z[k] = complex(k, 1)
        buf[7] += 1
        z.imag.add_(1)
        out.append((z.sum().item(), buf.sum().item()))
    return out, told(buf, z)


@program
def a_loop_over_pairs(t):
    w = t.arange(24.).reshape(3, 4, 2).requires_grad_()
    out = []
    for _ in range(6):
        w.grad = None
        z = t.view_as_complex(w)
        loss = (z * z.conj()).real.sum() + (z.imag * z.real).sum()
        loss.backward()
        out.append(loss.item())
        with t.no_grad():
            w.sub_(w.grad, alpha=.01)
    return rounded(out), told(w)


@program
def elements(t):
    x = numbers(t)
    r = x.real
    i = x.imag
    out = []
    for k in range(3):
        i[k, k] = k
        r[k, 0] = -1.
        out.append((i[k, k].item(), x[k, k].item(), r[1, 1].item()))
    return out, told(x, r, i)


@program
def elements_of_pairs(t):
    x = t.zeros(3, 2)
    z = t.view_as_complex(x)
    z[1] = 3j
    x[0, 1] = 2.
    return told(x, z), z[0].item(), t.cat([z[k:k+1] for k in range(3)]*4).tolist(), t.stack([*x]*4).tolist()


@program
def joined(t):
    x = numbers(t)
    return t.cat([x[k:k+1].real for k in range(3)]*4).tolist(), t.stack([x.imag[k] for k in range(3)]*4).tolist()


@program
def empty(t):
    x = t.zeros(0, 3, dtype=t.complex64)
    r = t.view_as_real(x)
    r.fill_(1.)
    return told(x, r, x.imag, t.view_as_complex(t.zeros(0, 2)))


@program
def scalars(t):
    x = t.tensor(1 + 2j)
    x.imag.add_(1)
    r = t.view_as_real(x)
    r[0] = 4.
    return told(x, r, t.view_as_complex(t.tensor([1., 2.])))


@program
def second_derivatives(t):
    w = numbers(t).to(t.complex128).requires_grad_()
    y = w * 1
    y.real.mul_(w.imag)
    g, = t.autograd.grad((y.real ** 3).sum(), w, create_graph=True)
    (g.real.sum() + g.imag.pow(2).sum()).backward()
    return told(w.grad)


@program
def retained(t):
    w = numbers(t).requires_grad_()
    y = w * 1
    r = y.real
    r.retain_grad()
    y.mul_(2)
    r.sum().backward()
    return told(w.grad)


@program
def a_spectrum(t):
    x = t.arange(8.).requires_grad_()
    f = t.fft.rfft(x)
    f.imag.zero_()
    f.real[1] = 0.
    t.fft.irfft(f).square().sum().backward()
    return [round(v, 4) for v in x.grad.tolist()]


@program
def there_and_back(t):
    x = numbers(t)
    r = t.view_as_real(x)
    z = t.view_as_complex(r)
    z.fill_(1j)
    return told(x, r, z), z._base is x


@program
def rotary_embedding(t):
    q = t.arange(32.).reshape(2, 4, 4).requires_grad_()
    f = t.polar(t.ones(4, 2), t.arange(8.).reshape(4, 2))
    o = t.view_as_real(t.view_as_complex(q.reshape(2, 4, 2, 2)) * f).flatten(2)
    o.square().sum().backward()
    return [round(v, 3) for v in q.grad.flatten().tolist()], o.stride()


@program
def parts_of_itself(t):
    z = numbers(t)
    z.copy_(z.real)
    z.imag.copy_(z.real)
    z.real.add_(z.imag)
    return told(z)


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_in_pytorch(name):
    theirs = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
    outcomes = []
    for t in (theirs, rushlight):
        try:
            outcomes.append(PROGRAMS[name](t))
        except RuntimeError as error:
            outcomes.append(str(error)[:60])
    assert outcomes[1] == outcomes[0]
