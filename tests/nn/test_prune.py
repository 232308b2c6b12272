"""Pruning and the older spectral norm, against PyTorch: masks, values, what training does with them, errors."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.utils.prune")
BOTH = (torch, rushlight)


def alike(program, rtol=1e-5):
    """Run the program in both packages, and compare the arrays and everything else that it returns."""
    seen = []
    for m in BOTH:
        m.manual_seed(0)
        seen.append([v.detach().numpy() if isinstance(v, m.Tensor) else v for v in program(m)])
    theirs, ours = seen
    assert len(theirs) == len(ours)
    for want, got in zip(theirs, ours):
        if isinstance(want, np.ndarray):
            np.testing.assert_allclose(got, want, rtol, 1e-6)
        else:
            assert got == want


def state(module):
    return [*module.state_dict(), *(n for n, _ in module.named_parameters()), *module.state_dict().values()]


CHOICES = {
    "random_unstructured": lambda p, net: p.random_unstructured(net, "weight", amount=0.3),
    "a number of them": lambda p, net: p.random_unstructured(net, "bias", amount=2),
    "l1_unstructured": lambda p, net: p.l1_unstructured(net, "weight", amount=0.4),
    "random_structured": lambda p, net: p.random_structured(net, "weight", amount=2, dim=0),
    "ln_structured": lambda p, net: p.ln_structured(net, "weight", amount=0.5, n=2, dim=1),
    "infinite norm": lambda p, net: p.ln_structured(net, "weight", amount=1, n=float("inf"), dim=-1),
    "identity": lambda p, net: p.identity(net, "weight"),
    "nothing": lambda p, net: p.l1_unstructured(net, "weight", amount=0),
    "twice": lambda p, net: p.ln_structured(p.l1_unstructured(net, "weight", amount=0.3), "weight", amount=0.3, n=1, dim=0),
    "three times": lambda p, net: p.random_unstructured(CHOICES["twice"](p, net), "weight", amount=3),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_masks_values_training_and_removal(choice, layer):
    def program(m):
        net = m.nn.Linear(6, 5) if layer == "linear" else m.nn.Conv2d(3, 4, 3)
        x = m.randn(4, 6) if layer == "linear" else m.randn(2, 3, 5, 5)
        p = m.nn.utils.prune
        assert not p.is_pruned(net)
        assert CHOICES[choice](p, net) is net and p.is_pruned(m.nn.Sequential(net))
        seen = [*state(net), net.weight, len(net._forward_pre_hooks)]
        optimizer = m.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        seen += [*state(net), net(x)]
        name = "bias" if "bias_mask" in net.state_dict() else "weight"
        p.remove(net, name)
        return [*seen, *state(net), net(x), p.is_pruned(net), isinstance(getattr(net, name), m.nn.Parameter)]
    alike(program)


def test_among_all_parameters_at_once_and_by_scores():
    def program(m):
        p = m.nn.utils.prune
        net = m.nn.Sequential(m.nn.Linear(4, 6), m.nn.ReLU(), m.nn.Linear(6, 3))
        pairs = [(net[0], "weight"), (net[2], "weight")]
        p.global_unstructured(pairs, pruning_method=p.L1Unstructured, amount=0.4)
        p.global_unstructured(pairs, p.RandomUnstructured, {(net[0], "weight"): m.rand(6, 4)}, amount=5)
        p.l1_unstructured(net[0], "bias", 2, importance_scores=m.arange(6.0).flip(0))
        p.custom_from_mask(net[2], "bias", m.tensor([1.0, 0.0, 1.0]))
        hook = next(iter(net[0]._forward_pre_hooks.values()))
        return [*state(net), net(m.ones(2, 4)), type(hook).__name__, len(hook), [type(part).__name__ for part in hook]]
    alike(program)


def test_a_method_of_ones_own():
    def program(m):
        class EveryOther(m.nn.utils.prune.BasePruningMethod):
            PRUNING_TYPE = "unstructured"

            def compute_mask(self, t, default_mask):
                mask = default_mask.clone()
                mask.view(-1)[::2] = 0
                return mask

        net = m.nn.Linear(3, 2)
        EveryOther.apply(net, "weight")
        return [*state(net), EveryOther().prune(m.ones(5)), m.nn.utils.prune.RandomUnstructured(0.5).prune(m.ones(8))]
    alike(program)


WRONG = {
    "a text": lambda p, net: p.l1_unstructured(net, "weight", amount="all"),
    "too large a share": lambda p, net: p.l1_unstructured(net, "weight", amount=1.5),
    "below zero": lambda p, net: p.random_unstructured(net, "weight", amount=-1),
    "too many": lambda p, net: p.l1_unstructured(net, "weight", amount=1000),
    "slices of a vector": lambda p, net: p.random_structured(net, "bias", amount=1, dim=0),
    "no such dimension": lambda p, net: p.ln_structured(net, "weight", amount=1, n=2, dim=3),
    "not pruned": lambda p, net: p.remove(net, "weight"),
    "no pairs": lambda p, net: p.global_unstructured(3, p.L1Unstructured, amount=1),
    "slices of everything": lambda p, net: p.global_unstructured([(net, "weight")], p.LnStructured, amount=1, n=2),
    "no method": lambda p, net: p.PruningContainer().add_pruning_method(net),
    "no such parameter": lambda p, net: p.l1_unstructured(net, "weigth", amount=1),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors(what):
    classes = []
    for m in BOTH:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            WRONG[what](m.nn.utils.prune, m.nn.Linear(3, 2))
        classes.append(caught.type)
    assert classes[0] is classes[1]


# -- spectral norm by a hook ----------------------------------------------------------------------------------------


LAYERS = {"linear": lambda m: (m.nn.Linear(3, 4), m.randn(5, 3)), "conv": lambda m: (m.nn.Conv2d(2, 3, 3), m.randn(2, 2, 5, 5)),
          "transposed": lambda m: (m.nn.ConvTranspose2d(2, 3, 2), m.randn(2, 2, 4, 4))}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"n_power_iterations": 3}, {"dim": 1}], ids=str)
def test_spectral_norm(layer, options):
    def program(m):
        net, x = LAYERS[layer](m)
        assert m.nn.utils.spectral_norm(net, **options) is net
        seen = [*state(net), *net.state_dict()._metadata[""].items()]
        optimizer = m.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            (net(x).square().mean() + net(x + 1).mean()).backward()
            optimizer.step()
        seen += state(net)
        net.eval()
        seen += [net(x), *state(net)]
        other, _ = LAYERS[layer](m)
        m.nn.utils.spectral_norm(other, **options).load_state_dict(net.state_dict())
        seen += [other.eval()(x)]
        m.nn.utils.remove_spectral_norm(net)
        return [*seen, *state(net), net(x), len(net._forward_pre_hooks), len(net._state_dict_hooks)]
    alike(program, rtol=1e-4)


def test_what_spectral_norm_refuses():
    for m in BOTH:
        norm = m.nn.utils.spectral_norm
        with pytest.raises(RuntimeError, match="Cannot register two spectral_norm hooks"):
            norm(norm(m.nn.Linear(2, 2)))
        with pytest.raises(ValueError, match="Expected n_power_iterations to be positive"):
            norm(m.nn.Linear(2, 2), n_power_iterations=0)
        with pytest.raises(KeyError):
            norm(m.nn.Linear(2, 2), "weigth")
        with pytest.raises(ValueError, match="spectral_norm of 'weight' not found in"):
            m.nn.utils.remove_spectral_norm(m.nn.Linear(2, 2))
