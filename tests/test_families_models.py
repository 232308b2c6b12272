"""Models and operations of many kinds, with families of sizes and without: the same bits, and fewer plans.

Several sizes change at once: batch, length, height and width. The table of random programs is in ``test_families.py``.
"""
from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rushlight as torch
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.compile.flags import flags
from rushlight.record import families
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings
from rushlight.tools.profiler import counters

IMAGES = [(3, 8, 11), (4, 9, 13), (5, 12, 10), (2, 16, 9), (6, 8, 8), (9, 33, 14), (1, 10, 31), (7, 14, 23)]
TEXTS = [(3, 5), (4, 9), (5, 7), (2, 17), (6, 6), (9, 33), (1, 4), (12, 12)]
D = 12


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", 0)
    families.clear()
    with flags.using(plans=0):  # what an earlier process has planned needs no family
        yield
    families.clear()


def normal(*shape: int, seed: int = 0) -> Any:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def tokens(n: int, t: int, seed: int = 0) -> Any:
    return torch.tensor(np.random.default_rng(n * 100 + t + seed).integers(0, 30, (n, t)))


def conv(*args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(4, *args, **kwargs)


ON_IMAGES: dict[str, Callable[[], nn.Module]] = {
    "conv": conv(8, 3, padding=1), "stride": conv(8, 3, stride=2, padding=1), "dilation": conv(8, 3, dilation=2, padding=2),
    "groups": conv(8, 3, groups=2), "depthwise": conv(4, 3, groups=4, padding=1), "multiplier": conv(8, 3, groups=4, stride=2),
    "1x1": conv(32, 1), "reflect": conv(8, 3, padding=2, padding_mode="reflect"),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "winograd": lambda: nn.Sequential(nn.Conv2d(4, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)),
    "batch norm": lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
    "batch norm, evaluation": lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval(),
    "group norm": lambda: nn.GroupNorm(2, 4), "max pool": lambda: nn.MaxPool2d(3, 2, 1),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), "adaptive": lambda: nn.AdaptiveAvgPool2d((3, 2)),
    "global": lambda: nn.AdaptiveMaxPool2d(1), "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"), "to a size": lambda: nn.Upsample(size=(7, 9), mode="bilinear"),
    "dropout": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.3), nn.Dropout2d(0.2)),
    "adaptive maxima": lambda: nn.AdaptiveMaxPool2d((3, 2)), "area": lambda: nn.Upsample(size=(5, 6), mode="area"),
    "bicubic to a size": lambda: nn.Upsample(size=(7, 9), mode="bicubic"), "nearest to a size": lambda: nn.Upsample(size=(9, 6)),
    "half as large": lambda: nn.Upsample(scale_factor=0.5, mode="bilinear"), "stem": conv(8, 7, stride=2, padding=3),
    "patches": conv(8, 2, stride=2), "back up": lambda: BackUp(), "in eights": lambda: InEights(),
    "u-net": lambda: UNet(True), "u-net, cropped": lambda: UNet(False), "pyramid": lambda: Pyramid(), "in windows": lambda: InWindows(),
    "sevenths": lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(392, 5)),
}  # fmt: skip


class BackUp(nn.Module):
    """Down by strides and pools, and up again beside what was there before, cut to its size."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.up, self.last = nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Any) -> Any:
        h, w = x.shape[2:]
        y = self.up(self.down(x))[:, :, :h, :w]
        pooled = F.interpolate(F.max_pool2d(x, 2), size=(h, w), mode="bilinear", align_corners=False)
        return self.last(torch.cat([y, pooled], 1))


class InEights(nn.Module):
    """Padded to a multiple of eight and cut again."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(4, 6, 3, 2, 1), nn.ConvTranspose2d(6, 4, 2, 2)

    def forward(self, x: Any) -> Any:
        h, w = x.shape[2:]
        return self.up(self.down(F.pad(x, (0, -w % 8, 0, -h % 8))).relu())[:, :, :h, :w]


class UNet(nn.Module):
    """Two levels, whose halves do not fit where an extent is odd: what comes up is padded, or what was there before is cropped."""

    def __init__(self, pad: bool) -> None:
        super().__init__()
        self.pad = pad
        self.one, self.two, self.three = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(6, 6, 2, 2)])
        self.join = nn.ModuleList([nn.Conv2d(16, 6, 3, padding=1), nn.Conv2d(12, 4, 3, padding=1)])
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Any) -> Any:
        one = F.relu(self.norm(self.one(x)))
        two = F.relu(self.two(F.max_pool2d(one, 2)))
        y = F.relu(self.three(F.max_pool2d(two, 2)))
        for up, join, before in zip(self.up, self.join, (two, one)):
            y = up(y)
            h, w = (a - b for a, b in zip(before.shape[2:], y.shape[2:]))
            if self.pad:
                y = F.pad(y, (w // 2, w - w // 2, h // 2, h - h // 2))
            else:
                before = before[:, :, h // 2:h // 2 + y.shape[2], w // 2:w // 2 + y.shape[3]]
            y = F.relu(join(torch.cat([before, y], 1)))
        return y


class Pyramid(nn.Module):
    """A feature pyramid: what comes down is as large as what it is added to, and the scores of all levels are one list."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)])
        self.side = nn.ModuleList([nn.Conv2d(6, 5, 1), nn.Conv2d(8, 5, 1)])
        self.head = nn.Conv2d(5, 6, 3, padding=1)

    def forward(self, x: Any) -> Any:
        large = F.relu(self.down[0](x))
        small = self.side[1](F.relu(self.down[1](large)))
        large = self.side[0](large) + F.interpolate(small, size=large.shape[2:], mode="nearest")
        return torch.cat([self.head(y).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 3) for y in (large, small)], 1)


class InWindows(nn.Module):
    """Attention inside windows of four by four, of an image that is padded and shifted (Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        n, c, h, w = x.shape
        y = torch.roll(F.pad(x, (0, -w % 4, 0, -h % 4)), (-2, -2), (2, 3)).permute(0, 2, 3, 1)
        rows, columns = y.shape[1] // 4, y.shape[2] // 4
        y = y.reshape(n, rows, 4, columns, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        y = y + self.attention(y, y, y, need_weights=False)[0]
        y = y.reshape(n, rows, columns, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, 4 * rows, 4 * columns, c)
        return torch.roll(y, (2, 2), (1, 2))[:, :h, :w]


def packed(m: nn.Module, x: Any) -> Any:
    n, t, _ = x.shape
    lengths = [max(1, t - 2 * i % t) for i in range(n)]
    out, _ = m(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return nn.utils.rnn.pad_packed_sequence(out, batch_first=True)[0]


def padded(m: nn.Module, x: Any) -> Any:
    n, t, _ = x.shape
    lengths = torch.tensor(np.random.default_rng(n + t).integers(1, t + 1, n))
    return m(x, src_key_padding_mask=torch.arange(t)[None] >= lengths[:, None])


def complexes(x: Any) -> Any:
    z = torch.complex(x[..., :6], x[..., 6:])
    w = (z * z.conj() + 1j * z) * (0.5 - 0.25j)
    return w.abs() + torch.view_as_real(z @ z.transpose(1, 2)).sum()


def integers(x: Any) -> Any:
    q = (x * 10).to(torch.int64)
    return (q % 7) * x + (q > 3).sum(0) + (q & 3) + (x > 0).any(1, keepdim=True) + q.cumsum(1) + (q // 3).amax(1, keepdim=True)


def gram(x: Any) -> Any:
    return x.transpose(1, 2) @ x + torch.eye(D) * 3


def buckets(x: Any) -> Any:
    return (torch.arange(x.shape[1]) % 5)[None, :, None].expand(x.shape)


def softened(x: Any) -> Any:
    """Scores whose mask is a number that follows from the length."""
    place = torch.arange(x.shape[1])
    return (x @ x.transpose(1, 2)).masked_fill(place > place[:, None], -10 / math.sqrt(x.shape[1]))


#: A module or None, and what is done with it and an input of shape (n, t, D).
ON_TEXTS: dict[str, tuple[Callable[[], nn.Module | None], Callable[[Any, Any], Any]]] = {
    "gru": (lambda: nn.GRU(D, 10, batch_first=True), lambda m, x: m(x)[0]),
    "lstm": (lambda: nn.LSTM(D, 10, 2, batch_first=True, bidirectional=True, dropout=0.4), lambda m, x: m(x)[0]),
    "rnn": (lambda: nn.RNN(D, 10, batch_first=True), lambda m, x: m(x)[0]),
    "packed": (lambda: nn.GRU(D, 10, batch_first=True, bidirectional=True), packed),
    "encoder": (lambda: nn.TransformerEncoderLayer(D, 3, 24, 0.1, batch_first=True), padded),
    "conv": (lambda: nn.Conv1d(D, 8, 4, 2, 1), lambda m, x: m(x.transpose(1, 2))),
    "attention with dropout": (lambda: None, lambda m, x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3)),
    "dropout": (lambda: None, lambda m, x: F.dropout(x, 0.4) * x),
    "noise": (lambda: None, lambda m, x: x * torch.rand(x.shape) + torch.randn(x.shape[1], D)),
    "permutation": (lambda: None, lambda m, x: x[:, torch.randperm(x.shape[1])]),
    "sort": (lambda: None, lambda m, x: x.sort(1)[0] + x.argsort(1)), "topk": (lambda: None, lambda m, x: x.topk(2, 1)[0]),
    "cumsum": (lambda: None, lambda m, x: x.cumsum(1) + x.cumprod(2)),
    "solve": (lambda: None, lambda m, x: torch.linalg.solve(gram(x), x.transpose(1, 2))),
    "fft": (lambda: None, lambda m, x: torch.fft.irfft(torch.fft.rfft(x, dim=1), n=x.shape[1], dim=1)),
    "complex": (lambda: None, lambda m, x: complexes(x)), "integers": (lambda: None, lambda m, x: integers(x)),
    "scatter": (lambda: None, lambda m, x: torch.zeros(x.shape[0], 5, D).scatter_add(1, buckets(x), x)),
    "gather": (lambda: None, lambda m, x: x.gather(1, buckets(x) % x.shape[1])),
    "selection": (lambda: None, lambda m, x: x[x > 0] * 2), "scale": (lambda: None, lambda m, x: x / x.shape[1] ** 0.5),
    "square root": (lambda: None, lambda m, x: (x / math.sqrt(x.shape[1])).exp() + x * math.log(x.shape[0] + 1.5)),
    "share": (lambda: None, lambda m, x: x[:, :x.shape[1] // 2 + 1] * (x.shape[1] / (x.shape[1] // 2 + 1))),
    "exponent": (lambda: None, lambda m, x: (x.abs() + 1) ** (1 / x.shape[1])),
    "deviation": (lambda: None, lambda m, x: (x - x.mean()) / (x.std() + 1e-3)),
    "scaled product": (lambda: None, lambda m, x: (x @ x.transpose(1, 2) / math.sqrt(x.shape[1])).softmax(-1) @ x),
    "scaled by its length": (lambda: None, lambda m, x: (x @ x.transpose(1, 2) * (1e-3 * x.shape[1])).softmax(-1) @ x),
    "scaled by a count": (lambda: None, lambda m, x: (x @ x.transpose(1, 2) * x.shape[1]).softmax(-1) @ x),
    "masked by a number": (lambda: None, lambda m, x: softened(x).softmax(-1) @ x),
    "scaled attention": (lambda: None, lambda m, x: F.scaled_dot_product_attention(x, x, x, scale=1 / math.sqrt(x.shape[1]))),
    "half and a number": (lambda: None, lambda m, x: (x.to(torch.bfloat16) / math.sqrt(x.shape[1])).float() * 2),
    "half": (lambda: None, lambda m, x: (x.to(torch.bfloat16) * 2).float() + x.half().float()),
    "in place": (lambda: None, lambda m, x: (lambda y: (y[:, 1:].mul_(2), y)[1])(x * 1)),
    "every row": (lambda: None, lambda m, x: sum(x.unbind(1))),
}  # fmt: skip

LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda x, y: F.cross_entropy(x, y), "ignored": lambda x, y: F.cross_entropy(x, y, ignore_index=3),
    "weights": lambda x, y: F.cross_entropy(x, y, weight=normal(30).abs() + 0.1, ignore_index=3, label_smoothing=0.1),
    "nll": lambda x, y: F.nll_loss(x.log_softmax(-1), y, weight=normal(30).abs(), ignore_index=2),
    "masked": lambda x, y: (F.cross_entropy(x, y, reduction="none") * (y != 0)).sum() / (y != 0).sum(),
}

Step = Callable[..., list[Any]]


def gradients(module: nn.Module | None, x: Any, run: Callable[[Any], Any]) -> list[Any]:
    """The result and all gradients of the mean of its square."""
    params = list(module.parameters()) if module is not None else []
    for p in params:
        p.grad = None
    y = run(x.requires_grad_())
    (y * y).mean().backward()
    return [y, x.grad, *(p.grad for p in params), *(module.buffers() if module is not None else [])]


def on_images(name: str) -> Step:
    model = ON_IMAGES[name]()
    return lambda n, h, w: gradients(model, normal(n, 4, h, w, seed=h * w), model)


def on_texts(name: str) -> Step:
    make, run = ON_TEXTS[name]
    model = make()
    return lambda n, t: gradients(model, normal(n, t, D, seed=n * t), lambda x: run(model, x))


def on_losses(name: str) -> Step:
    model = nn.Sequential(nn.Embedding(30, D, padding_idx=0), nn.Linear(D, 30))

    def step(n: int, t: int) -> list[Any]:
        for p in model.parameters():
            p.grad = None
        loss = LOSSES[name](model(tokens(n, t)).flatten(0, 1), tokens(n, t, 7).flatten())
        loss.backward()
        return [loss, *(p.grad for p in model.parameters())]
    return step


def training(amp: bool) -> Step:
    """Adam with accumulated gradients, clipping, and an evaluation in between."""
    model = nn.Sequential(nn.Linear(40, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 30))
    optimizer = torch.optim.Adam(model.parameters())

    def step(n: int, t: int) -> list[Any]:
        optimizer.zero_grad()
        losses = []
        for k in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                loss = F.cross_entropy(model(normal(n * t, 40, seed=k)), tokens(n, t, k).flatten()) / 2
            loss.backward()
            losses.append(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            right = (model.eval()(normal(n * t + 3, 40)).argmax(-1) == 0).float().mean()
        model.train()
        return [*losses, right, *model.parameters()]
    return step


def half_images() -> Step:
    model = nn.Sequential(nn.Conv2d(4, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1),
                          nn.AdaptiveAvgPool2d(1))

    def run(x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x).float()
    return lambda n, h, w: gradients(model, normal(n, 4, h, w, seed=h * w), run)


PROGRAMS: dict[str, tuple[Callable[[], Step], list[tuple[int, ...]]]] = {
    **{f"image: {name}": (lambda name=name: on_images(name), IMAGES) for name in ON_IMAGES},
    **{f"text: {name}": (lambda name=name: on_texts(name), TEXTS) for name in ON_TEXTS},
    **{f"loss: {name}": (lambda name=name: on_losses(name), TEXTS) for name in LOSSES},
    "training": (lambda: training(False), TEXTS), "bfloat16": (lambda: training(True), TEXTS), "bfloat16 images": (half_images, IMAGES),
}
NO_FAMILY = ("text: every row",)  # another structure for each length


def outcomes(name: str, on: int) -> list[list[np.ndarray]]:
    start_afresh()
    make, sizes = PROGRAMS[name]
    torch.manual_seed(0)
    with flags.using(families=on):
        step = make()
        found = []
        for size in sizes:
            torch.manual_seed(sum(size))
            found.append([(t.float() if t.dtype is torch.bfloat16 else t).detach().numpy().copy() for t in step(*size)])
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_bits_with_and_without_families(name: str) -> None:
    plain = outcomes(name, 0)
    before = counters()
    found = outcomes(name, 1)
    for size, a, b in zip(PROGRAMS[name][1], plain, found, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"{name} for {size}")
    done = counters() - before
    made = [one for known in families._known.values() for one in known.made]
    assert bool(made) == (name not in NO_FAMILY) and not any(one.family.rests_on for one in made)
    assert done.programs_planned <= done.programs_built


def test_a_number_that_follows_from_a_size_compiles_no_kernel() -> None:
    def step(n: int, t: int) -> None:
        x = normal(n, t, D)
        y = (x @ x.transpose(1, 2)) * (1 / (t - 1)) + x.mean() / math.sqrt(n * t)
        assert np.isfinite((y.softmax(-1) @ x).sum().item())

    for n, t in [(20, 40), (22, 45), (25, 50)]:
        step(n, t)
    before = counters()
    for n, t in [(21, 43), (24, 47), (23, 49)]:
        step(n, t)
    done = counters() - before
    assert done.programs_built == 3 and done.programs_planned == 0
    assert done.kernels_compiled + done.kernels_loaded == 0


def squares(n: int, layer: nn.Linear) -> Any:
    """Behind the product the gradient is divided by how many numbers there are."""
    return (layer(normal(n, D)) - 1).square().mean()


def shared(n: int, layer: nn.Linear) -> Any:
    return (layer(normal(n, D)) / n).sin().sum()


def powers(n: int, layer: nn.Linear) -> Any:
    return (layer(normal(n, D)).abs() + 0.5 * n).log().sum() * n


@pytest.mark.parametrize("loss", [squares, shared, powers])
def test_a_count_behind_a_product_compiles_no_kernel(loss: Callable[[int, nn.Linear], Any]) -> None:
    def step(n: int) -> list[np.ndarray]:
        layer.zero_grad()
        found = loss(n, layer)
        found.backward()
        return [found.detach().numpy().copy(), *(p.grad.numpy().copy() for p in layer.parameters())]

    torch.manual_seed(0)
    layer = nn.Linear(D, 20)
    with flags.using(families=0):
        wanted = {144: step(144)}
        before = counters()
        wanted.update((n, step(n)) for n in (148, 156))
    done = counters() - before
    assert done.programs_planned == 2 and done.kernels_compiled + done.kernels_loaded == 0
    start_afresh()
    for n in (140, 145, 150):
        step(n)
    before = counters()
    found = {n: step(n) for n in wanted}
    done = counters() - before
    assert done.programs_planned == 0 and done.kernels_compiled + done.kernels_loaded == 0
    for n, arrays in wanted.items():
        for a, b in zip(arrays, found[n], strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_empty_batch_between_others() -> None:
    model = nn.Linear(D, 5)
    for n in (3, 0, 4, 0, 7, 9, 0, 1):
        x = normal(n, D)
        np.testing.assert_allclose(model(x).detach().numpy(), x.numpy() @ model.weight.detach().numpy().T + model.bias.detach().numpy(),
                                   rtol=1e-5, atol=1e-5)


def test_an_error_names_the_line_of_its_own_call() -> None:
    """The family was planned from calls on another line."""
    weight = normal(5, 3)

    def row(n: int, k: int) -> Any:
        return torch.tensor(np.full(n, k))

    for n in (4, 6, 9):
        (F.embedding(row(n, 0), weight) * 2).sum().item()
    bad = row(12, 7)
    before = counters()
    with pytest.raises(IndexError) as caught:
        (F.embedding(bad, weight) * 2).sum().item()
    line = caught.traceback[0].lineno + 1
    assert (counters() - before).programs_planned == 0
    assert f"{__file__}:{line}" in str(caught.value)


def test_small_programs_are_compiled_where_sizes_keep_changing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes run in the interpreter; then the path is known to come again, and one plan serves all others."""
    monkeypatch.setattr(settings, "cold_limit", 2_000_000)
    start_afresh()
    before = counters()
    for n in (30, 35, 41, 33, 37, 39, 40, 32):
        x = normal(n, D)
        assert np.isclose((x * 2 + 1).tanh().sum().item(), np.tanh(x.numpy() * 2 + 1).sum(), atol=1e-3)
    done = counters() - before
    assert done.cold_runs == 2 and done.programs_built == 6 and done.programs_planned == 1


def test_what_a_kernel_is_made_from_holds_no_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are on disk are not rendered, so nobody would notice at first."""
    build = sys.modules["rushlight.compile.build"]
    requests = []
    plain = build.kernel_for

    def noted(nest: Any) -> Any:
        requests.append(plain(nest))
        return requests[-1]

    monkeypatch.setattr(build, "kernel_for", noted)
    monkeypatch.setattr(sys.modules["rushlight.compile.family"], "_known", {})  # what other tests had made
    for name in ("text: encoder", "loss: weights", "image: batch norm"):
        outcomes(name, 1)
    assert requests
    for _, render, _ in requests:
        assert render()
