"""Fit y = w x + b by gradient descent, and compare with the closed-form solution.

python examples/linear_regression.py [--plot linear_regression.png]
"""

import argparse

import numpy as np

import rushlight as torch
import rushlight.nn as nn
import rushlight.optim as optim

SLOPE, INTERCEPT, NOISE = 2.5, -1.0, 0.4


def make_data(points):
    """x in [-2, 2] and noisy y, both of shape (points, 1)."""
    x = torch.linspace(-2, 2, points).unsqueeze(1)
    y = SLOPE * x + INTERCEPT + NOISE * torch.randn(points, 1)
    return x, y


def closed_form(x, y):
    """The slope and intercept of least squares, by the normal equations in float64."""
    features = np.hstack([x.numpy().astype(np.float64), np.ones((len(x), 1))])
    (slope, intercept), *_ = np.linalg.lstsq(features, y.numpy().astype(np.float64)[:, 0], rcond=None)
    return slope, intercept


def fit(x, y, steps):
    """Train one linear unit; returns it with the losses of all steps."""
    model = nn.Linear(1, 1)
    criterion = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def plot(x, y, model, losses, path):
    """The points with the fitted line, and the loss."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.scatter(x.numpy(), y.numpy(), s=10, alpha=0.6, label="data")
    with torch.no_grad():
        left.plot(x.numpy(), model(x).numpy(), color="C1", label="fit")
    left.set(xlabel="x", ylabel="y", title=f"y = {model.weight.item():.3f} x + {model.bias.item():.3f}")
    left.legend()
    right.semilogy(losses)
    right.set(xlabel="step", ylabel="mean squared error", title="loss")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description="linear regression, checked against the closed form")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", default="linear_regression.png", metavar="FILE", help="'' for no plot")
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    x, y = make_data(args.points)
    model, losses = fit(x, y, args.steps)
    slope, intercept = closed_form(x, y)
    print(f"{'':16}{'slope':>10}{'intercept':>12}")
    print(f"{'true':16}{SLOPE:10.5f}{INTERCEPT:12.5f}")
    print(f"{'closed form':16}{slope:10.5f}{intercept:12.5f}")
    print(f"{'gradient descent':16}{model.weight.item():10.5f}{model.bias.item():12.5f}")
    print(f"loss: {losses[0]:.5f} at the first step, {losses[-1]:.5f} at the last")
    worst = max(abs(model.weight.item() - slope), abs(model.bias.item() - intercept))
    if worst > 1e-3:
        raise SystemExit(f"gradient descent is off the closed form by {worst:.2g}: more --steps may help")
    if args.plot:
        plot(x, y, model, losses, args.plot)
        print(f"wrote {args.plot}")


if __name__ == "__main__":
    main()
