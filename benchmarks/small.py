"""``python -m benchmarks.small [PART OF A NAME ...]``: loops of small models, in Rushlight and in PyTorch, in alternation in one process.

What such loops take is Python and hand-overs, hardly arithmetic: an agent that looks at one state, a step on a batch of 32, an evaluation
that counts. Both packages have one thread. Prints microseconds a turn (the best of several rounds) and their ratio.
"""
from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["loops", "main"]

TURNS, ROUNDS, WARM = 60, 7, 80


def loops(torch: Any) -> dict[str, Callable[[], Any]]:
    """Names of loops, and one turn of each."""
    nn, F = torch.nn, torch.nn.functional
    distributions = importlib.import_module(torch.__name__ + ".distributions")
    rng = np.random.default_rng(0)
    state = rng.normal(size=4).astype(np.float32)
    torch.manual_seed(0)

    def network(inputs: int = 4, outputs: int = 2) -> Any:
        return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, outputs))

    def trained(model: Any, kind: str = "Adam", **options: Any) -> tuple[Any, Any]:
        return model, getattr(torch.optim, kind)(model.parameters(), **{"lr": 1e-3, **options})
    x, y = torch.tensor(rng.normal(size=(32, 4)).astype(np.float32)), torch.tensor(rng.integers(0, 2, 32))
    policy, (model, adam), (line, sgd) = network(), trained(network()), trained(nn.Linear(4, 1), "SGD", lr=0.01)
    (online, dqn), target, (wgan, critic) = trained(network()), network(), trained(network(4, 1))
    wanted = x.sum(1, keepdim=True)

    def greedy() -> Any:
        with torch.no_grad():
            return policy(torch.from_numpy(state).unsqueeze(0)).argmax(1).item()

    def sampling() -> Any:
        chosen = distributions.Categorical(logits=policy(torch.as_tensor(state)))
        action = chosen.sample()
        return action.item(), chosen.log_prob(action)

    def gaussian() -> Any:
        mean = policy(torch.as_tensor(state))
        chosen = distributions.Normal(mean, torch.ones_like(mean))
        action = chosen.sample()
        return action.numpy(), chosen.log_prob(action).sum()

    def classifying() -> Any:
        adam.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss.item()

    def clipping() -> Any:
        adam.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        return loss.item()

    def fitting() -> Any:
        loss = ((line(x) - wanted) ** 2).mean()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.item()

    def evaluating() -> Any:
        with torch.no_grad():
            return (model(x).argmax(1) == y).sum().item()

    def learning() -> Any:
        with torch.no_grad():
            value = x[:, 0] + 0.99 * target(x).max(1)[0] * (1 - x[:, 1])
        loss = F.smooth_l1_loss(online(x).gather(1, y.unsqueeze(1)).squeeze(1), value)
        dqn.zero_grad()
        loss.backward()
        dqn.step()
        for new, old in zip(online.parameters(), target.parameters()):
            old.data.copy_(0.005 * new.data + 0.995 * old.data)
        return loss.item()

    def penalising() -> Any:
        points = x.clone().requires_grad_(True)
        slope, = torch.autograd.grad(wgan(points).sum(), points, create_graph=True)
        loss = ((slope.norm(2, dim=1) - 1) ** 2).mean()
        critic.zero_grad()
        loss.backward()
        critic.step()
        return loss.item()
    return {"greedy action": greedy, "sampled action": sampling, "Gaussian action": gaussian, "classifier, Adam": classifying,
            "with clipped gradients": clipping, "linear regression, SGD": fitting, "evaluation": evaluating,
            "Q-learning, soft target": learning, "gradient penalty": penalising}


def main() -> None:
    """Of the loops whose names have one of the arguments in them; without any, of all."""
    import torch as theirs

    import rushlight as ours

    theirs.set_num_threads(1)
    ours.set_num_threads(1)
    both = loops(ours), loops(theirs)
    print(f"{'microseconds a turn':28}{'Rushlight':>12}{'PyTorch':>12}{'ratio':>8}")
    for name in both[0]:
        if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
            continue
        best = [float("inf")] * 2
        for turn in (both[0][name], both[1][name]):
            for _ in range(WARM):
                turn()
        for _ in range(ROUNDS):
            for k, turn in enumerate((both[0][name], both[1][name])):
                began = time.perf_counter()
                for _ in range(TURNS):
                    turn()
                best[k] = min(best[k], (time.perf_counter() - began) / TURNS * 1e6)
        print(f"{name:28}{best[0]:>12.1f}{best[1]:>12.1f}{best[1] / best[0]:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
