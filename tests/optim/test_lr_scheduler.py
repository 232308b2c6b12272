"""Learning-rate schedules: rate for rate those of PyTorch, the same warnings and errors."""

import copy
import importlib
import warnings

import pytest

import rushlight
import rushlight.optim.lr_scheduler


def optimizer(t, lr=0.1, momentum=0.0, groups=1, kind="SGD"):
    options = {"momentum": momentum} if kind == "SGD" else {}
    parameters = [{"params": [t.zeros(1, requires_grad=True)], "lr": lr * 10**i} for i in range(groups)]
    return getattr(t.optim, kind)(parameters, lr=lr, **options)


def number(value):
    return value.item() if hasattr(value, "item") else value


def watched(opt):
    """What a schedule may change."""
    names = ("lr", "initial_lr", "momentum", "betas", "max_lr", "min_lr", "max_momentum", "base_momentum")
    return [{name: number(group[name]) for name in names if name in group} for group in opt.param_groups]


def outcome(program, package):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = ("value", program(package))
        except Exception as error:  # the class is what gets compared
            result = ("error", type(error).__name__)
    return (*result, [w.category.__name__ for w in caught if w.category is UserWarning])


def assert_same(program):
    torch = pytest.importorskip("torch")
    importlib.import_module("torch.optim.lr_scheduler")
    expected = outcome(program, torch)
    assert outcome(program, rushlight) == expected
    return expected


def course(make, steps=25, measure=None, **options):
    """Rates and momenta over some epochs, and the state at the end."""

    def program(t):
        opt = optimizer(t, **options)
        scheduler = make(t.optim.lr_scheduler, opt)
        seen = [(watched(opt), [number(x) for x in scheduler.get_last_lr()])]
        for epoch in range(steps):
            opt.step()
            scheduler.step(*([] if measure is None else [measure(epoch)]))
            seen.append((watched(opt), [number(x) for x in scheduler.get_last_lr()], scheduler.last_epoch)
                        if hasattr(scheduler, "last_epoch") else watched(opt))  # fmt: skip
        return seen, plain(scheduler.state_dict())

    return program


def plain(state):
    """A state dict without what only one of the packages keeps for itself."""
    if isinstance(state, dict):
        return {str(k): plain(v) for k, v in state.items()}
    return [plain(v) for v in state] if isinstance(state, (list, tuple)) else number(state)


class Halving:
    def __init__(self):
        self.base = 0.5

    def __call__(self, epoch):
        return self.base**epoch


COURSES = {
    "lambda": course(lambda L, o: L.LambdaLR(o, lambda e: 0.95**e)),
    "lambdas": course(lambda L, o: L.LambdaLR(o, [lambda e: 0.95**e, lambda e: 1 / (e + 1)]), groups=2),
    "callable": course(lambda L, o: L.LambdaLR(o, Halving())),
    "multiplicative": course(lambda L, o: L.MultiplicativeLR(o, lambda e: 0.9)),
    "step": course(lambda L, o: L.StepLR(o, 3, 0.3), groups=2),
    "step 1": course(lambda L, o: L.StepLR(o, 1)),
    "multi-step": course(lambda L, o: L.MultiStepLR(o, [2, 5, 5, 11], 0.3)),
    "constant": course(lambda L, o: L.ConstantLR(o)),
    "constant 0.7": course(lambda L, o: L.ConstantLR(o, 0.7, 4)),
    "linear": course(lambda L, o: L.LinearLR(o)),
    "linear down": course(lambda L, o: L.LinearLR(o, 1.0, 0.0, 7)),
    "exponential": course(lambda L, o: L.ExponentialLR(o, 0.83)),
    "polynomial": course(lambda L, o: L.PolynomialLR(o)),
    "polynomial 0.9": course(lambda L, o: L.PolynomialLR(o, 13, 0.9)),
    "cosine": course(lambda L, o: L.CosineAnnealingLR(o, 7, 0.01)),
    "cosine over and over": course(lambda L, o: L.CosineAnnealingLR(o, 1)),
    "warm restarts": course(lambda L, o: L.CosineAnnealingWarmRestarts(o, 4)),
    "longer restarts": course(lambda L, o: L.CosineAnnealingWarmRestarts(o, 3, 2, 0.001)),
    "plateau": course(
        lambda L, o: L.ReduceLROnPlateau(o, patience=2, factor=0.3), measure=lambda e: max(1 / (e + 1), 0.25)
    ),
    "plateau, cooldown": course(
        lambda L, o: L.ReduceLROnPlateau(o, "max", 0.5, 1, 0.01, "abs", 2, [0.03, 0.2]),
        measure=lambda e: e % 4,
        groups=2,
    ),
    "plateau, relative": course(lambda L, o: L.ReduceLROnPlateau(o, "max", patience=0), measure=lambda e: 1 + e * 1e-5),
    "plateau, not a number": course(lambda L, o: L.ReduceLROnPlateau(o, patience=3), measure=lambda e: float("nan")),
    "cyclic": course(lambda L, o: L.CyclicLR(o, 0.01, 0.1, 4), momentum=0.9),
    "cyclic, uneven": course(lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3, 5, "triangular2"), momentum=0.9),
    "cyclic, exp": course(lambda L, o: L.CyclicLR(o, [0.01, 0.02], 0.1, 3, mode="exp_range", gamma=0.9), groups=2),
    "cyclic, Adam": course(lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3), kind="Adam"),
    "cyclic, rate alone": course(lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False), kind="Adagrad"),
    "cyclic, scale_fn": course(
        lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3, scale_fn=Halving(), scale_mode="iterations"), momentum=0.9
    ),
    "one cycle": course(lambda L, o: L.OneCycleLR(o, 1.0, 25), 24, momentum=0.9),
    "one cycle, epochs": course(lambda L, o: L.OneCycleLR(o, 1.0, epochs=5, steps_per_epoch=5), 24, momentum=0.9),
    "one cycle, linear": course(lambda L, o: L.OneCycleLR(o, 1.0, 25, anneal_strategy="linear"), 24, kind="AdamW"),
    "one cycle, three phases": course(
        lambda L, o: L.OneCycleLR(o, [1.0, 2.0], 30, pct_start=0.2, three_phase=True), 29, momentum=0.9, groups=2
    ),
    "one cycle, too far": course(lambda L, o: L.OneCycleLR(o, 1.0, 5), 7),
    "sequential": course(
        lambda L, o: L.SequentialLR(o, [L.LinearLR(o, 0.1, total_iters=4), L.CosineAnnealingLR(o, 10)], [4])
    ),
    "sequential of three": course(
        lambda L, o: L.SequentialLR(o, [L.ConstantLR(o, 0.1), L.StepLR(o, 2), L.ExponentialLR(o, 0.9)], [3, 9]),
        groups=2,
    ),
    "sequential of chained": course(
        lambda L, o: L.SequentialLR(
            o, [L.ChainedScheduler([L.ConstantLR(o, 0.1), L.ExponentialLR(o, 0.9)]), L.StepLR(o, 2)], [6]
        )
    ),
    "sequential of sequential": course(
        lambda L, o: L.SequentialLR(
            o, [L.SequentialLR(o, [L.ConstantLR(o, 0.1), L.ExponentialLR(o, 0.9)], [2]), L.StepLR(o, 2)], [6]
        )
    ),
    "chained": course(lambda L, o: L.ChainedScheduler([L.ConstantLR(o, 0.1, 3), L.ExponentialLR(o, 0.9)])),
    "chained three": course(
        lambda L, o: L.ChainedScheduler([L.LinearLR(o), L.CosineAnnealingLR(o, 9), L.MultiStepLR(o, [4])], o), groups=2
    ),
}


@pytest.mark.parametrize("name", COURSES)
def test_course(name):
    assert_same(COURSES[name])


SIMPLE = {
    "lambda": lambda L, o, **k: L.LambdaLR(o, lambda e: 0.95**e, **k),
    "multiplicative": lambda L, o, **k: L.MultiplicativeLR(o, lambda e: 0.9, **k),
    "step": lambda L, o, **k: L.StepLR(o, 3, **k),
    "multi-step": lambda L, o, **k: L.MultiStepLR(o, [2, 5], **k),
    "constant": lambda L, o, **k: L.ConstantLR(o, **k),
    "linear": lambda L, o, **k: L.LinearLR(o, **k),
    "exponential": lambda L, o, **k: L.ExponentialLR(o, 0.83, **k),
    "polynomial": lambda L, o, **k: L.PolynomialLR(o, 8, 2.0, **k),
    "cosine": lambda L, o, **k: L.CosineAnnealingLR(o, 7, **k),
    "warm restarts": lambda L, o, **k: L.CosineAnnealingWarmRestarts(o, 3, 2, **k),
    "cyclic": lambda L, o, **k: L.CyclicLR(o, 0.01, 0.1, 4, **k),
    "one cycle": lambda L, o, **k: L.OneCycleLR(o, 1.0, 50, **k),
}


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("done", [0, 2, 3, 6])
def test_resuming_by_number(name, done):
    def program(t):
        opt = optimizer(t)
        first = SIMPLE[name](t.optim.lr_scheduler, opt)
        for _ in range(done):
            opt.step()
            first.step()
        second = SIMPLE[name](t.optim.lr_scheduler, opt, last_epoch=first.last_epoch)
        seen = [watched(opt)]
        for _ in range(4):
            opt.step()
            second.step()
            seen.append(watched(opt))
        return seen, second.get_last_lr()

    assert_same(program)


@pytest.mark.parametrize("name", SIMPLE)
def test_going_to_an_epoch(name):
    def program(t):
        opt = optimizer(t)
        scheduler = SIMPLE[name](t.optim.lr_scheduler, opt)
        opt.step()
        seen = []
        for epoch in (3, 0, 9, 4.5 if name == "warm restarts" else 4):
            scheduler.step(epoch)
            seen.append((watched(opt), scheduler.last_epoch))
        scheduler.step()
        return seen, watched(opt)

    assert_same(program)


@pytest.mark.parametrize("name", [*SIMPLE, "plateau", "sequential", "chained"])
def test_state_goes_on_where_it_was(name):
    L = rushlight.optim.lr_scheduler
    more = {
        "plateau": lambda L, o: L.ReduceLROnPlateau(o, patience=1),
        "sequential": lambda L, o: L.SequentialLR(o, [L.ConstantLR(o, 0.1), L.ExponentialLR(o, 0.9)], [3]),
        "chained": lambda L, o: L.ChainedScheduler([L.ConstantLR(o, 0.1), L.ExponentialLR(o, 0.9)]),
    }
    make = {**SIMPLE, **more}[name]
    arguments = [1.0] if name == "plateau" else []

    def run(opt, scheduler, steps):
        seen = []
        for _ in range(steps):
            opt.step()
            scheduler.step(*arguments)
            seen.append(watched(opt))
        return seen

    opt = optimizer(rushlight)
    scheduler = make(L, opt)
    run(opt, scheduler, 4)
    state, groups = copy.deepcopy(scheduler.state_dict()), copy.deepcopy(watched(opt))
    expected = run(opt, scheduler, 5)

    other = optimizer(rushlight)
    resumed = make(L, other)
    for group, saved in zip(other.param_groups, groups):
        group.update(saved)
    resumed.load_state_dict(state)
    assert "optimizer" not in state
    assert run(other, resumed, 5) == expected


def order(*calls):
    """The warnings about the order of calls."""

    def program(t):
        opt = optimizer(t)
        scheduler = t.optim.lr_scheduler.StepLR(opt, 2)
        for call in calls:
            if call == "override":
                opt.step = lambda: None
            elif call == "get_lr":
                scheduler.get_lr()
            else:
                {"opt": opt, "scheduler": scheduler}[call].step()

    return program


@pytest.mark.parametrize(
    ("calls", "warned"),
    [
        (("opt", "scheduler", "opt", "scheduler"), 0),
        (("scheduler", "opt", "scheduler"), 1),
        (("override", "opt", "scheduler"), 1),
        (("get_lr",), 1),
        (("opt", "scheduler", "get_lr"), 1),
    ],
)
def test_warnings(calls, warned):
    assert len(assert_same(order(*calls))[2]) == warned


REFUSED = {
    "no optimizer": lambda L, o: L.StepLR(3, 2),
    "resume without initial_lr": lambda L, o: L.StepLR(o, 2, last_epoch=3),
    "abstract": lambda L, o: L.LRScheduler(o),
    "lambdas": lambda L, o: L.LambdaLR(o, [lambda e: 1] * 2),
    "multiplicative": lambda L, o: L.MultiplicativeLR(o, [lambda e: 1] * 2),
    "constant": lambda L, o: L.ConstantLR(o, 2.0),
    "linear start": lambda L, o: L.LinearLR(o, 0.0),
    "linear end": lambda L, o: L.LinearLR(o, 0.1, 2.0),
    "plateau factor": lambda L, o: L.ReduceLROnPlateau(o, factor=1.0),
    "plateau mode": lambda L, o: L.ReduceLROnPlateau(o, mode="x"),
    "plateau threshold": lambda L, o: L.ReduceLROnPlateau(o, threshold_mode="x"),
    "plateau min_lr": lambda L, o: L.ReduceLROnPlateau(o, min_lr=[1, 2]),
    "plateau optimizer": lambda L, o: L.ReduceLROnPlateau(3),
    "cyclic mode": lambda L, o: L.CyclicLR(o, 0.1, 1.0, mode="x"),
    "cyclic base": lambda L, o: L.CyclicLR(o, [0.1, 0.2], 1.0),
    "cyclic max": lambda L, o: L.CyclicLR(o, 0.1, [1.0, 2.0]),
    "cyclic optimizer": lambda L, o: L.CyclicLR(3, 0.1, 1.0),
    "one cycle steps": lambda L, o: L.OneCycleLR(o, 1.0),
    "one cycle 0": lambda L, o: L.OneCycleLR(o, 1.0, 0),
    "one cycle 2.5": lambda L, o: L.OneCycleLR(o, 1.0, 2.5),
    "one cycle epochs": lambda L, o: L.OneCycleLR(o, 1.0, epochs=0, steps_per_epoch=1),
    "one cycle share": lambda L, o: L.OneCycleLR(o, 1.0, 10, pct_start=1.5),
    "one cycle strategy": lambda L, o: L.OneCycleLR(o, 1.0, 10, anneal_strategy="x"),
    "one cycle groups": lambda L, o: L.OneCycleLR(o, [1.0, 2.0], 10),
    "sequential empty": lambda L, o: L.SequentialLR(o, [], []),
    "sequential milestones": lambda L, o: L.SequentialLR(o, [L.StepLR(o, 2)], [1]),
    "sequential plateau": lambda L, o: L.SequentialLR(o, [L.ReduceLROnPlateau(o)], []),
    "chained empty": lambda L, o: L.ChainedScheduler([]),
    "chained plateau": lambda L, o: L.ChainedScheduler([L.ReduceLROnPlateau(o)]),
    "restarts T_0": lambda L, o: L.CosineAnnealingWarmRestarts(o, 0),
    "restarts T_mult": lambda L, o: L.CosineAnnealingWarmRestarts(o, 1, 0),
    "restarts eta_min": lambda L, o: L.CosineAnnealingWarmRestarts(o, 1, eta_min="a"),
    "restarts epoch": lambda L, o: L.CosineAnnealingWarmRestarts(o, 1).step(-1),
    "base get_lr": lambda L, o: L.StepLR(o, 0).step(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    assert assert_same(lambda t: REFUSED[name](t.optim.lr_scheduler, optimizer(t)))[0] == "error"


@pytest.mark.parametrize("kind", ["CyclicLR", "OneCycleLR"])
def test_no_momentum_to_cycle(kind):
    def program(t):
        return getattr(t.optim.lr_scheduler, kind)(optimizer(t, kind="Adagrad"), 0.1, 5)

    assert assert_same(program)[:2] == ("error", "ValueError")


def test_schedules_of_different_optimizers():
    L = rushlight.optim.lr_scheduler
    a, b = optimizer(rushlight), optimizer(rushlight)
    with pytest.raises(ValueError, match="same optimizer, but the scheduler at index 1"):
        L.ChainedScheduler([L.StepLR(a, 2), L.StepLR(b, 2)])
    with pytest.raises(ValueError, match="same optimizer, but the scheduler at index 0"):
        L.SequentialLR(a, [L.StepLR(b, 2)], [])


def test_a_rate_that_is_a_tensor_is_written_in_place():
    t = rushlight
    rate = t.tensor(0.5)
    opt = t.optim.SGD([t.zeros(1, requires_grad=True)], lr=rate)
    scheduler = t.optim.lr_scheduler.ExponentialLR(opt, 0.5)
    opt.step()
    scheduler.step()
    assert opt.param_groups[0]["lr"] is rate and rate.item() == 0.25
    assert opt.param_groups[0]["initial_lr"].item() == 0.5 and scheduler.get_last_lr()[0].item() == 0.25


def test_training_with_a_schedule():
    """The steps of SGD with gradient 1 are the rates themselves."""
    t = rushlight
    weight = t.zeros(1, requires_grad=True)
    opt = t.optim.SGD([weight], lr=1.0)
    scheduler = t.optim.lr_scheduler.StepLR(opt, 2, 0.5)
    for _ in range(4):
        opt.zero_grad()
        weight.sum().backward()
        opt.step()
        scheduler.step()
    assert weight.item() == -(1 + 1 + 0.5 + 0.5)
