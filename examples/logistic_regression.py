"""Tell malignant from benign tumours by logistic regression, on the data that scikit-learn brings along.

569 patients of the Wisconsin breast cancer study, 30 measurements each. Reports accuracy, precision, recall and ROC-AUC
on patients not seen in training, and draws predicted probabilities, the ROC curve, and the decision border in the plane
of the first two principal components.

    python examples/logistic_regression.py [--plot logistic_regression.png]
"""

import argparse

import numpy as np

import rushlight as torch
import rushlight.nn as nn
import rushlight.optim as optim
from rushlight import metrics
from rushlight.utils.data import DataLoader, TensorDataset


def load_data(test_share=0.3):
    """Standardised features and labels (1 is malignant): (train x, train y, test x, test y) as float32 tensors."""
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError as e:
        raise ImportError('this example needs scikit-learn: pip install "rushlight[demo]"') from e
    features, benign = load_breast_cancer(return_X_y=True)
    order = torch.randperm(len(features)).numpy()
    features, labels = features[order].astype(np.float32), (1 - benign[order]).astype(np.float32)
    split = int(len(features) * (1 - test_share))
    mean, std = features[:split].mean(0), features[:split].std(0)
    features = (features - mean) / std
    arrays = features[:split], labels[:split], features[split:], labels[split:]
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)


def fit(x, y, epochs, batch_size=64, lr=0.1):
    """Train one linear unit on logits; returns it with the mean loss of each epoch."""
    model = nn.Linear(x.shape[1], 1)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-3)
    loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for features, target in loader:
            optimizer.zero_grad()
            loss = criterion(model(features).squeeze(1), target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(features)
        losses.append(total / len(x))
    return model, losses


def plot(probabilities, labels, plane, border, path):
    """Three pictures: probabilities by class, the ROC curve, and the border in a plane."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    for value, name in ((0, "benign"), (1, "malignant")):
        left.hist(probabilities[labels == value], bins=np.linspace(0, 1, 21), alpha=0.6, label=name)
    left.set(xlabel="predicted probability of malignant", ylabel="patients", title="probabilities on test data")
    left.legend()
    false_rate, true_rate, _ = metrics.roc_curve(probabilities, labels)
    middle.plot(false_rate, true_rate, label=f"area {metrics.roc_auc_score(probabilities, labels):.4f}")
    middle.plot([0, 1], [0, 1], linestyle=":", color="grey")
    middle.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC curve")
    middle.legend()
    first, second, surface = border
    filled = right.contourf(first, second, surface, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
    figure.colorbar(filled, ax=right, label="probability")
    for value, name in ((0, "benign"), (1, "malignant")):
        right.scatter(*plane[labels == value].T, s=12, label=name, edgecolor="black", linewidth=0.3)
    right.set(xlabel="first principal component", ylabel="second", title="decision in the plane")
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def principal_plane(model, x, points=120):
    """The samples in the plane of the two main components, and the model's probability over that plane."""
    centred = x.numpy() - x.numpy().mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]  # (2, features)
    plane = centred @ axes.T
    low, high = plane.min(0) - 1, plane.max(0) + 1
    first, second = np.meshgrid(np.linspace(low[0], high[0], points), np.linspace(low[1], high[1], points))
    grid = np.stack([first.ravel(), second.ravel()], 1) @ axes + x.numpy().mean(0)
    with torch.no_grad():
        surface = torch.sigmoid(model(torch.from_numpy(grid.astype(np.float32)))).numpy().reshape(points, points)
    return plane, (first, second, surface)


def main(argv=None):
    parser = argparse.ArgumentParser(description="logistic regression on real data")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", default="logistic_regression.png", metavar="FILE", help="'' for no plot")
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    train_x, train_y, test_x, test_y = load_data()
    model, losses = fit(train_x, train_y, args.epochs)
    with torch.no_grad():
        probabilities = torch.sigmoid(model(test_x)).squeeze(1).numpy()
    labels = test_y.numpy().astype(np.int64)
    predicted = (probabilities >= 0.5).astype(np.int64)
    print(f"loss: {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last")
    print(metrics.classification_report(predicted, labels, target_names=["benign", "malignant"]))
    print(f"ROC-AUC: {metrics.roc_auc_score(probabilities, labels):.4f}")
    if args.plot:
        plot(probabilities, labels, *principal_plane(model, test_x), args.plot)
        print(f"wrote {args.plot}")


if __name__ == "__main__":
    main()
