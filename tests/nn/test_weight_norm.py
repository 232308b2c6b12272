"""The older weight norm and ``DataParallel`` without a GPU, against PyTorch."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import rushlight
import rushlight.nn.parallel

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.utils")
BOTH = (torch, rushlight)

MODULES = {"linear": lambda m: (m.nn.Linear(3, 4), m.randn(5, 3)),
           "convolution": lambda m: (m.nn.Conv1d(2, 3, 3, dilation=2), m.randn(2, 2, 9))}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(module, dim):
    seen = []
    for m in BOTH:
        m.manual_seed(0)
        net, x = MODULES[module](m)
        made = m.nn.utils.weight_norm(net, dim=dim)
        assert made is net and [n for n, _ in net.named_parameters()] == ["bias", "weight_g", "weight_v"]
        optimizer = m.optim.SGD(net.parameters(), lr=0.1)
        values = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            values.append(loss.detach().numpy())
        values += [v.numpy() for v in net.state_dict().values()]
        m.nn.utils.remove_weight_norm(net)
        assert sorted(net.state_dict()) == ["bias", "weight"] and net.weight.is_leaf and not net._forward_pre_hooks
        values += [net.weight.detach().numpy(), net(x).detach().numpy()]
        with pytest.raises(ValueError, match="weight_norm of 'weight' not found in"):
            m.nn.utils.remove_weight_norm(net)
        seen.append(values)
    for got, want in zip(*seen[::-1]):
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)


def test_it_warns_and_refuses_a_second_hook():
    for m in BOTH:
        with pytest.warns(FutureWarning, match="parametrizations.weight_norm") as caught:
            net = m.nn.utils.weight_norm(m.nn.Linear(2, 2))
        assert m is torch or caught[0].filename == __file__
        with warnings.catch_warnings(), pytest.raises(RuntimeError, match="Cannot register two weight_norm hooks"):
            warnings.simplefilter("ignore")
            m.nn.utils.weight_norm(net)


def test_data_parallel_without_a_gpu():
    seen = []
    for m in BOTH:
        m.manual_seed(0)
        net = m.nn.DataParallel(m.nn.Sequential(m.nn.Linear(3, 2), m.nn.ReLU()))
        assert m.nn.parallel.DataParallel is m.nn.DataParallel
        seen.append([repr(net), list(net.state_dict()), net.device_ids, net(m.ones(4, 3)).tolist(), net.module[0].weight.tolist()])
    assert seen[0][:3] == seen[1][:3]
    np.testing.assert_allclose(seen[1][3], seen[0][3], 1e-6)
    np.testing.assert_array_equal(seen[1][4], seen[0][4])
