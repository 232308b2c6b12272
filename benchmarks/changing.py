"""Programs whose structure is another one in each step, in Rushlight and in PyTorch: a process each, one after the other.

    python -m benchmarks.changing [--only trees] [--steps 200] [--threads 2]

Prints milliseconds a step, of the first quarter of the steps (compiling included) and of the last half, and the ratio of the latter.
"""
from __future__ import annotations

import argparse
import importlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["PROGRAMS", "main"]

WORDS = 1000


def trees(t: Any) -> Callable[[], float]:
    """A recursive network follows four random binary trees of 4 to 30 words."""
    width = 64
    emb, both, out = t.nn.Embedding(WORDS, width), t.nn.Linear(2 * width, width), t.nn.Linear(width, 5)
    optimizer = t.optim.Adagrad([*emb.parameters(), *both.parameters(), *out.parameters()], 0.01)

    def grown(leaves: int) -> Any:
        if leaves == 1:
            return random.randrange(WORDS)
        left = random.randint(1, leaves - 1)
        return grown(left), grown(leaves - left)

    def encoded(tree: Any) -> Any:
        if isinstance(tree, int):
            return emb(t.tensor([tree]))
        return t.tanh(both(t.cat((encoded(tree[0]), encoded(tree[1])), 1)))

    def step() -> float:
        loss = 0
        for _ in range(4):
            scores = out(encoded(grown(random.randint(4, 30))))
            loss = loss + t.nn.functional.cross_entropy(scores, t.tensor([random.randrange(5)]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[attr-defined]
        optimizer.step()
        return loss.item()  # type: ignore[attr-defined]
    return step


def sentences(t: Any, longest: int = 50) -> Callable[[], float]:
    """Word by word from one language to another: 3 to ``longest`` words each, half of the sentences by teacher forcing, half greedily."""
    width = 256
    nn, f = t.nn, t.nn.functional
    read, write, encoder, decoder = nn.Embedding(WORDS, width), nn.Embedding(WORDS, width), nn.GRU(width, width), nn.GRU(width, width)
    attend, mix, out = nn.Linear(2 * width, longest + 1), nn.Linear(2 * width, width), nn.Linear(width, WORDS)
    optimizer = t.optim.SGD([p for m in (read, write, encoder, decoder, attend, mix, out) for p in m.parameters()], 0.01)

    def decoded(word: Any, h: Any, heard: Any) -> Any:
        x = write(word).view(1, 1, -1)
        weights = f.softmax(attend(t.cat((x[0], h[0]), 1)), 1)
        seen = t.bmm(weights.unsqueeze(0), heard.unsqueeze(0))
        x, h = decoder(f.relu(mix(t.cat((x[0], seen[0]), 1)).unsqueeze(0)), h)
        return f.log_softmax(out(x[0]), 1), h

    def step() -> float:
        source, target = (t.randint(2, WORDS, (random.randint(3, longest), 1)) for _ in range(2))
        optimizer.zero_grad()
        h, heard, loss, word = t.zeros(1, 1, width), t.zeros(longest + 1, width), 0, t.tensor([[0]])
        for k in range(len(source)):
            x, h = encoder(read(source[k]).view(1, 1, -1), h)
            heard[k] = x[0, 0]
        forced = random.random() < 0.5
        for k in range(len(target)):
            scores, h = decoded(word, h, heard)
            loss = loss + f.nll_loss(scores, target[k])
            word = target[k] if forced else scores.topk(1)[1].squeeze().detach()
            if not forced and word.item() == 1:
                break
        loss.backward()  # type: ignore[attr-defined]
        optimizer.step()
        return loss.item()  # type: ignore[attr-defined]
    return step


def short_sentences(t: Any) -> Callable[[], float]:
    """The same with at most 12 words, so that lengths come again."""
    return sentences(t, 12)


def depth(t: Any) -> Callable[[], float]:
    """Stochastic depth: each of 12 blocks is left out by chance."""
    nn, width = t.nn, 128
    blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
                            for _ in range(12)])
    head = nn.Linear(width, 10)
    optimizer = t.optim.AdamW([*blocks.parameters(), *head.parameters()], 1e-3)

    def step() -> float:
        x, y = t.randn(64, width), t.randint(0, 10, (64,))
        for block in blocks:
            if random.random() < 0.8:
                x = x + block(x)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()  # type: ignore[no-any-return]
    return step


def graphs(t: Any) -> Callable[[], float]:
    """Convolutions over batches of random graphs: other numbers of nodes and edges in each step."""
    nn, width = t.nn, 64
    first, second, head = nn.Linear(16, width), nn.Linear(width, width), nn.Linear(width, 2)
    optimizer = t.optim.Adam([*first.parameters(), *second.parameters(), *head.parameters()], 1e-3)

    def step() -> float:
        sizes = [random.randint(10, 40) for _ in range(32)]
        nodes, edges = sum(sizes), 2 * sum(sizes) + random.randint(0, 200)
        x, y = t.randn(nodes, 16), t.randint(0, 2, (32,))
        source, target = t.randint(0, nodes, (edges,)), t.randint(0, nodes, (edges,))
        graph = t.repeat_interleave(t.arange(32), t.tensor(sizes))
        for layer in (first, second):
            h = layer(x)
            x = t.relu(t.zeros_like(h).index_add(0, target, h[source]))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(t.zeros(32, width).index_add(0, graph, x)), y)
        loss.backward()
        optimizer.step()
        return loss.item()  # type: ignore[no-any-return]
    return step


def experts(t: Any) -> Callable[[], float]:
    """A mixture of experts: how many rows each gets depends on the data."""
    nn, width = t.nn, 128
    gate, head = nn.Linear(width, 8), nn.Linear(width, 10)
    each = nn.ModuleList([nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, width)) for _ in range(8)])
    optimizer = t.optim.Adam([*gate.parameters(), *head.parameters(), *each.parameters()], 1e-3)

    def step() -> float:
        x, y = t.randn(256, width), t.randint(0, 10, (256,))
        weights, chosen = nn.functional.softmax(gate(x), -1).topk(2, -1)
        out = t.zeros_like(x)
        for k, expert in enumerate(each):
            rows, place = t.where(chosen == k)
            if rows.numel():
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, place].unsqueeze(1))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(x + out), y)
        loss.backward()
        optimizer.step()
        return loss.item()  # type: ignore[no-any-return]
    return step


PROGRAMS: dict[str, Callable[[Any], Callable[[], float]]] = {
    "trees": trees, "sentences": sentences, "short sentences": short_sentences, "depth": depth, "graphs": graphs, "experts": experts}


def measured(package: str, program: str, steps: int, threads: int) -> list[float]:
    """Seconds of each step."""
    t = importlib.import_module(package)
    importlib.import_module(package + ".nn.functional")
    t.set_num_threads(threads)
    t.manual_seed(0)
    random.seed(0)
    step, taken = PROGRAMS[program](t), []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--only", choices=PROGRAMS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--package", help=argparse.SUPPRESS)  # of the process that measures
    args = parser.parse_args()
    if args.package:
        print(json.dumps(measured(args.package, args.only, args.steps, args.threads)))
        return
    print(f"{'':16}{'PyTorch ÷ Rushlight':>20}{'ms':>9}{'PyTorch':>9}{'first quarter':>15}{'PyTorch':>9}")
    for program in [args.only] if args.only else PROGRAMS:
        late, early = [], []
        for package in ("rushlight", "torch"):
            command = [sys.executable, "-m", "benchmarks.changing", "--package", package, "--only", program, "--steps", str(args.steps),
                       "--threads", str(args.threads)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            taken = json.loads(said.splitlines()[-1])
            n = len(taken)
            late.append(1e3 * sum(taken[n // 2:]) / (n - n // 2))
            early.append(1e3 * sum(taken[:n // 4]) / max(1, n // 4))
        print(f"{program:16}{late[1] / late[0]:>19.2f}×{late[0]:>9.2f}{late[1]:>9.2f}{early[0]:>15.2f}{early[1]:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
