"""The MNIST program of every PyTorch tutorial. Only its imports are Rushlight's.

python examples/mnist.py [--data DIR] [--epochs N] [--save mnist_cnn.pt]
"""

import argparse

import rushlight as torch
import rushlight.nn as nn
import rushlight.nn.functional as F
import rushlight.optim as optim
from rushlight.vision import datasets, transforms


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(64 * 12 * 12, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(self.pool(x))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.fc2(self.dropout2(x))
        return F.log_softmax(x, dim=1)


def train(model, loader, criterion, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(loader):
        optimizer.zero_grad()
        output = model(data)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        if batch_idx % 100 == 0:
            done, total = batch_idx * len(data), len(loader.dataset)
            print(f"Train Epoch: {epoch} [{done}/{total} ({100.0 * done / total:.0f}%)]\tLoss: {loss.item():.6f}")


def test(model, loader, criterion):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            test_loss += criterion(output, target).item() * len(data)
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    total = len(loader.dataset)
    accuracy = correct / total
    print(f"Test set: Average loss: {test_loss / total:.4f}, Accuracy: {correct}/{total} ({100.0 * accuracy:.2f}%)")
    return accuracy


def main():
    parser = argparse.ArgumentParser(description="MNIST as in the PyTorch tutorials")
    parser.add_argument("--data", default="data", metavar="DIR", help="where MNIST is, or is downloaded to (data)")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="how often to go through the data (5)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images per step (64)")
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate (0.01)")
    parser.add_argument("--momentum", type=float, default=0.5, help="momentum of SGD (0.5)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random numbers (1)")
    parser.add_argument("--save", metavar="FILE", help="write the trained parameters to this file")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train_set = datasets.MNIST(args.data, train=True, download=True, transform=transform)
    test_set = datasets.MNIST(args.data, train=False, download=True, transform=transform)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = torch.utils.data.DataLoader(test_set, batch_size=1000)

    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    for epoch in range(1, args.epochs + 1):
        train(model, train_loader, criterion, optimizer, epoch)
        test(model, test_loader, criterion)
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
