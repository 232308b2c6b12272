"""Train the MNIST program with a progress bar, report on it, and draw what it learned.

    python examples/demo.py [--data DIR] [--epochs N]

MNIST is taken from --data, else from the folder that RUSHLIGHT_DATA names, else downloaded to ./data. Without a network
the program trains on the 1,797 handwritten digits that come with the package. It writes mnist.png and mnist.pt.
"""

import argparse
import os
import time

import numpy as np
from mnist import Net

import rushlight as torch
import rushlight.nn as nn
import rushlight.optim as optim
from rushlight import metrics
from rushlight.utils.data import DataLoader
from rushlight.vision import datasets, transforms

MEAN, STD = 0.1307, 0.3081


def load_data(folder):
    """Training and test set: MNIST from the folder or the network, else the bundled digits."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    try:
        train_set = datasets.MNIST(folder, train=True, download=True, transform=transform)
        return "MNIST", train_set, datasets.MNIST(folder, train=False, download=True, transform=transform)
    except RuntimeError as e:
        if "Error downloading" not in str(e):
            raise  # the files are there and damaged: to train on something else would hide it
    print(f"no MNIST in {folder} and no network to fetch it: training on the 1,797 UCI digits of the package instead")
    return "UCI digits", datasets.Digits(True, transform=transform), datasets.Digits(False, transform=transform)


def train_epoch(model, loader, criterion, optimizer, progress):
    """One pass over the training data.

    Returns the mean loss and the accuracy of each twentieth of it, measured while training, as a list of pairs.
    """
    model.train()
    loss_sum, correct, seen, curve = 0.0, 0, 0, []
    part = max(len(loader) // 20, 1)
    for step, (images, labels) in enumerate(loader, start=1):
        optimizer.zero_grad()
        output = model(images)
        loss = criterion(output, labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(images)
        correct += (output.argmax(1) == labels).sum().item()
        seen += len(images)
        progress.set_postfix_str(f"loss {loss_sum / seen:.4f}, accuracy {correct / seen:.2%}", refresh=False)
        progress.update()
        if step % part == 0:
            curve.append((loss_sum / seen, correct / seen))
            loss_sum, correct, seen = 0.0, 0, 0
    return curve


def evaluate(model, loader, criterion):
    """Mean loss, predicted classes and labels over the test data."""
    model.eval()
    loss_sum, predicted, wanted = 0.0, [], []
    with torch.no_grad():
        for images, labels in loader:
            output = model(images)
            loss_sum += criterion(output, labels).item() * len(images)
            predicted.append(output.argmax(1).numpy())
            wanted.append(labels.numpy())
    return loss_sum / len(loader.dataset), np.concatenate(predicted), np.concatenate(wanted)


def draw(history, test_set, predicted, wanted, title, path):
    """Curves of loss and accuracy, and test digits with predictions: the wrong ones first, up to a third."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns, rows = 12, 5
    figure = plt.figure(figsize=(13, 9), layout="constrained")
    figure.suptitle(title)
    curves, grid = figure.subfigures(2, 1, height_ratios=[4, 5])
    epochs = range(1, len(history) + 1)
    parts = len(history[0]["train"])
    moments = np.arange(1, parts * len(history) + 1) / parts
    for axes, name, column in zip(curves.subplots(1, 2), ("loss", "accuracy"), (0, 1)):
        axes.plot(moments, [pair[column] for entry in history for pair in entry["train"]], label="training")
        axes.plot(epochs, [entry["test"][column] for entry in history], marker="o", label="test")
        axes.set(xlabel="epoch", title=name, xticks=list(epochs))
        axes.legend()
    wrong = np.flatnonzero(predicted != wanted)[: columns * rows // 3]
    right = np.flatnonzero(predicted == wanted)[: columns * rows - len(wrong)]
    images = test_set.data.numpy()
    for axes, i in zip(grid.subplots(rows, columns).ravel(), [*wrong, *right]):
        axes.imshow(images[i], cmap="gray_r")
        good = predicted[i] == wanted[i]
        text = f"{predicted[i]}" if good else f"{predicted[i]} (is {wanted[i]})"
        axes.set_title(text, color="black" if good else "crimson", fontsize=10)
        axes.set_axis_off()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description="train on MNIST, report, and draw", allow_abbrev=False)
    default_data = os.environ.get("RUSHLIGHT_DATA") or "data"
    parser.add_argument("--data", default=default_data, metavar="DIR", help="where MNIST is, or is downloaded to")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the training data (3; 15 over the few UCI digits)"
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images per step (64)")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam (0.001)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", default="mnist.png", metavar="FILE", help="the picture")
    parser.add_argument("--save", default="mnist.pt", metavar="FILE", help="the checkpoint")
    args = parser.parse_args(argv)
    try:
        from tqdm import tqdm
    except ImportError as e:
        raise ImportError('the demo needs tqdm and matplotlib: pip install "rushlight[demo]"') from e

    torch.manual_seed(args.seed)
    name, train_set, test_set = load_data(args.data)
    epochs = args.epochs or (3 if name == "MNIST" else 15)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=1000)
    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    history = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        with tqdm(total=len(train_loader), desc=f"epoch {epoch}/{epochs}", unit="batch", leave=False) as progress:
            curve = train_epoch(model, train_loader, criterion, optimizer, progress)
        seconds = time.perf_counter() - started
        test_loss, predicted, wanted = evaluate(model, test_loader, criterion)
        test_accuracy = metrics.accuracy(predicted, wanted)
        history.append({"train": curve, "test": (test_loss, test_accuracy)})
        print(
            f"epoch {epoch}: loss {np.mean(curve, axis=0)[0]:.4f}, test loss {test_loss:.4f}, test accuracy {test_accuracy:.2%} "
            f"({seconds:.1f} s of training)"
        )
    print(metrics.classification_report(predicted, wanted, digits=4))
    plural = "s" if epochs > 1 else ""
    title = f"{name}: {test_accuracy:.2%} of {len(test_set):,} test digits after {epochs} epoch{plural}"
    draw(history, test_set, predicted, wanted, title, args.plot)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}, args.save)
    print(f"wrote {args.plot} and {args.save}")


if __name__ == "__main__":
    main()
