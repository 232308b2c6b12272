"""The matching stream against PyTorch's CPU generator: every number equal, and the state after every call equal."""

import copy
import pickle
import threading
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.record.random import STATE_BYTES, Mt19937Stream

torch = pytest.importorskip("torch")

if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
    pytest.skip("without AVX2 PyTorch's own numbers round differently", allow_module_level=True)

CPU_INFO = Path("/proc/cpuinfo")
INTEL = CPU_INFO.exists() and "GenuineIntel" in CPU_INFO.read_text()
not_on_intel = pytest.mark.skipif(INTEL, reason="on Intel PyTorch draws these from MKL's own generator")

SIZES = [0, 1, 7, 8, 15, 16, 17, 31, 32, 100, 1000]
FLOATS = {
    "float32": (np.dtype("float32"), torch.float32),
    "float64": (np.dtype("float64"), torch.float64),
    "float16": (np.dtype("float16"), torch.float16),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), torch.bfloat16),
}
SEEDS = [0, 1, 42, -1, 2**40 + 7, 2**63 - 1]


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def torch_bits(tensor: "torch.Tensor") -> bytes:
    flat = tensor.clone(memory_format=torch.contiguous_format).reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def pair(seed: int) -> tuple[Mt19937Stream, "torch.Generator"]:
    return Mt19937Stream(seed), torch.Generator().manual_seed(seed)


def assert_same(stream, generator, ours: np.ndarray, theirs: "torch.Tensor") -> None:
    assert ours.size == theirs.numel()
    assert bits(ours) == torch_bits(theirs)
    assert bits(stream.get_state()) == torch_bits(generator.get_state())


# name: (our call, PyTorch's call); n, dtype names and PyTorch dtypes are filled in
FLOAT_CALLS = {
    "rand": (lambda s, n, d: s.uniform(n, dtype=d), lambda e, g: e.uniform_(generator=g)),
    "uniform": (lambda s, n, d: s.uniform(n, -0.3, 0.9, d), lambda e, g: e.uniform_(-0.3, 0.9, generator=g)),
    "uniform_narrow": (lambda s, n, d: s.uniform(n, 1, 1.01, d), lambda e, g: e.uniform_(1, 1.01, generator=g)),
    "uniform_point": (lambda s, n, d: s.uniform(n, 2, 2, d), lambda e, g: e.uniform_(2, 2, generator=g)),
    "randn": (lambda s, n, d: s.normal(n, dtype=d), lambda e, g: e.normal_(generator=g)),
    "normal": (lambda s, n, d: s.normal(n, 0.3, 0.7, d), lambda e, g: e.normal_(0.3, 0.7, generator=g)),
    "exponential": (lambda s, n, d: s.exponential(n, 3.0, d), lambda e, g: e.exponential_(3.0, generator=g)),
    "cauchy": (lambda s, n, d: s.cauchy(n, 0.3, 0.7, d), lambda e, g: e.cauchy_(0.3, 0.7, generator=g)),
    "log_normal": (lambda s, n, d: s.log_normal(n, 0.3, 0.7, d), lambda e, g: e.log_normal_(0.3, 0.7, generator=g)),
    "geometric": (lambda s, n, d: s.geometric(n, 0.3, d), lambda e, g: e.geometric_(0.3, generator=g)),
    "random": (lambda s, n, d: s.random(n, d), lambda e, g: e.random_(generator=g)),
    "random_to": (lambda s, n, d: s.randint(0, 200, n, d), lambda e, g: e.random_(0, 200, generator=g)),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "call", [pytest.param(name, marks=not_on_intel) if name == "exponential" else name for name in FLOAT_CALLS]
)
def test_floating_distributions_match_bit_for_bit(call, dtype):
    ours, theirs = FLOAT_CALLS[call]
    ours_dtype, torch_dtype = FLOATS[dtype]
    stream, generator = pair(7)
    for n in SIZES:
        values = ours(stream, n, ours_dtype)
        assert values.dtype == ours_dtype
        assert_same(stream, generator, values, theirs(torch.empty(n, dtype=torch_dtype), generator))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "call", [pytest.param(name, marks=not_on_intel) if name == "exponential" else name for name in FLOAT_CALLS]
)
def test_draws_longer_than_the_state_and_than_what_is_drawn_at_once(call, dtype):
    ours, theirs = FLOAT_CALLS[call]
    ours_dtype, torch_dtype = FLOATS[dtype]
    stream, generator = pair(8)
    for n in (623, 1, 624, 625, 2047, 2048, 2049, 4103, 25_001):
        assert_same(stream, generator, ours(stream, n, ours_dtype), theirs(torch.empty(n, dtype=torch_dtype), generator))


@pytest.mark.parametrize("span", [2**28, 2**28 - 1, 3, 1000])
def test_many_integers(span):
    stream, generator = pair(8)
    for n in (2047, 2049, 5000):
        theirs = torch.randint(-7, span - 7, (n,), generator=generator)
        assert_same(stream, generator, stream.randint(-7, span - 7, n), theirs)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_seeds(seed):
    stream, generator = pair(seed)
    assert_same(stream, generator, stream.normal(40), torch.empty(40).normal_(generator=generator))


def test_large_blocks_of_normals():
    stream, generator = pair(3)
    assert_same(stream, generator, stream.normal(100_003), torch.empty(100_003).normal_(generator=generator))


@pytest.mark.parametrize("dtype", FLOATS)
def test_normals_through_strides_come_in_pairs(dtype):
    ours_dtype, torch_dtype = FLOATS[dtype]
    stream, generator = pair(7)
    for n in SIZES[1:]:
        theirs = torch.empty(n, 2, dtype=torch_dtype)[:, 0].normal_(0.3, 0.7, generator=generator)
        assert_same(stream, generator, stream.normal(n, 0.3, 0.7, ours_dtype, contiguous=False), theirs)


INTEGERS = ["int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_every_dtype(dtype):
    stream, generator = pair(11)
    torch_dtype = getattr(torch, dtype)
    for n in SIZES:
        theirs = torch.empty(n, dtype=torch_dtype).random_(generator=generator)
        assert_same(stream, generator, stream.random(n, dtype), theirs)
        theirs = torch.randint(0, 2, (n,), dtype=torch_dtype, generator=generator)
        assert_same(stream, generator, stream.randint(0, 2, n, dtype), theirs)
        if dtype != "bool":
            theirs = torch.empty(n, dtype=torch_dtype).geometric_(0.4, generator=generator)
            assert_same(stream, generator, stream.geometric(n, 0.4, dtype), theirs)


RANGES = [
    (0, 10), (-5, 7), (0, 2**28 - 1), (0, 2**28), (0, 2**32), (-(2**62), 5), (-(2**63), 2**63 - 1), (2**62, 2**63 - 1),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_ranges_of_either_width(low, high):
    stream, generator = pair(5)
    for n in (1, 100):
        theirs = torch.randint(low, high, (n,), generator=generator)
        assert_same(stream, generator, stream.randint(low, high, n), theirs)


def test_the_whole_range_of_int64():
    stream, generator = pair(5)
    theirs = torch.empty(50, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    assert_same(stream, generator, stream.random_from_lowest(50), theirs)


@pytest.mark.filterwarnings("ignore:.*Due to precision")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("low", "high"), [(3, 5000), (-4999, 5000), (-9999, 6), (3, 4999), (-4997, 60000), (-9, 2051), (-2049, -2)]
)
def test_ranges_that_a_floating_dtype_cannot_hold_exactly(dtype, low, high):
    ours_dtype, torch_dtype = FLOATS[dtype]
    stream, generator = pair(5)
    theirs = torch.empty(500, dtype=torch_dtype).random_(low, high, generator=generator)
    assert_same(stream, generator, stream.randint(low, high, 500, ours_dtype), theirs)


@pytest.mark.parametrize("n", [*SIZES, 2, 3, 20_000])
def test_randperm(n):
    stream, generator = pair(9)
    assert_same(stream, generator, stream.randperm(n), torch.randperm(n, generator=generator))


@not_on_intel
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_bernoulli_of_a_number_and_dropout(p):
    stream, generator = pair(13)
    for n in SIZES:
        theirs = torch.empty(n, dtype=torch.bool).bernoulli_(p, generator=generator)
        assert_same(stream, generator, stream.bernoulli(n, p), theirs)
    torch.manual_seed(13)
    kept = torch.nn.functional.dropout(torch.ones(1000), 0.3) != 0
    assert bits(Mt19937Stream(13).bernoulli(1000, 1 - 0.3)) == torch_bits(kept)


@pytest.mark.parametrize("dtype", FLOATS)
def test_bernoulli_of_a_tensor_of_probabilities(dtype):
    ours_dtype, torch_dtype = FLOATS[dtype]
    stream, generator = pair(13)
    for n in SIZES:
        p = np.random.default_rng(n).random(n).astype(ours_dtype)
        as_torch = torch.tensor(p.astype(np.float64)).to(torch_dtype)
        theirs = torch.bernoulli(as_torch, generator=generator).bool()
        assert_same(stream, generator, stream.bernoulli(n, p), theirs)


@not_on_intel
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("samples", [1, 4, 9])
@pytest.mark.parametrize("shape", [(9,), (1, 9), (3, 9), (2, 70)])
def test_multinomial(dtype, samples, replacement, shape):
    ours_dtype, torch_dtype = FLOATS[dtype]
    for seed in range(3):
        stream, generator = pair(seed)
        weights = np.random.default_rng(seed).random(shape).astype(ours_dtype)
        as_torch = torch.tensor(weights.astype(np.float64)).to(torch_dtype)
        theirs = torch.multinomial(as_torch, samples, replacement, generator=generator)
        if ours_dtype.itemsize == 2 and samples > 1 and not replacement:
            # Rounded scores tie, and PyTorch's top-k breaks ties in no particular order.
            stream.multinomial(weights, samples, replacement)
            assert bits(stream.get_state()) == torch_bits(generator.get_state())
            continue
        assert_same(stream, generator, stream.multinomial(weights, samples, replacement), theirs)


@not_on_intel
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.0, 0.01, 0.7, 3.0, 300.0])
def test_gamma_and_poisson_numbers(dtype, scale):
    ours_dtype, torch_dtype = FLOATS[dtype]
    stream, generator = pair(5)
    given = np.linspace(0, scale, 301).astype(ours_dtype)
    for call, theirs, smallest in ((stream.gammas, torch._standard_gamma, np.finfo(ours_dtype).tiny), (stream.poissons, torch.poisson, 0)):
        before = given.copy()
        got = np.maximum(call(given), smallest).astype(ours_dtype)
        assert_same(stream, generator, got, theirs(torch.from_numpy(given), generator=generator))
        assert bits(given) == bits(before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [[1.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [1e-38, 3e38], [1e-45, 0.0]])
def test_multinomial_of_few_categories(dtype, weights):
    ours_dtype, torch_dtype = FLOATS[dtype]
    stream, generator = pair(0)
    for _ in range(20):
        theirs = torch.multinomial(torch.tensor(weights, dtype=torch_dtype), 1, generator=generator)
        assert_same(stream, generator, stream.multinomial(np.array(weights, ours_dtype), 1), theirs)


MIXED = {
    "rand5": (lambda s: s.uniform(5), lambda g: torch.rand(5, generator=g)),
    "randn1": (lambda s: s.normal(1), lambda g: torch.randn(1, generator=g)),
    "randn3": (lambda s: s.normal(3), lambda g: torch.randn(3, generator=g)),
    "randn17": (lambda s: s.normal(17), lambda g: torch.randn(17, generator=g)),
    "randn64": (lambda s: s.normal(33, dtype="f8"), lambda g: torch.randn(33, dtype=torch.float64, generator=g)),
    "randperm": (lambda s: s.randperm(300), lambda g: torch.randperm(300, generator=g)),
    "randint": (lambda s: s.randint(0, 10, 9), lambda g: torch.randint(0, 10, (9,), generator=g)),
    "wide": (lambda s: s.randint(0, 2**40, 3), lambda g: torch.randint(0, 2**40, (3,), generator=g)),
    "drop": (lambda s: s.bernoulli(11, 0.8), lambda g: torch.empty(11, dtype=torch.bool).bernoulli_(0.8, generator=g)),
    "log_normal": (lambda s: s.log_normal(3), lambda g: torch.empty(3).log_normal_(generator=g)),
    "exponential": (lambda s: s.exponential(4), lambda g: torch.empty(4).exponential_(generator=g)),
    "gammas": (lambda s: s.gammas(np.float32([0.6] * 3)), lambda g: torch._standard_gamma(torch.tensor([0.6] * 3).double(), generator=g)),
    "poissons": (lambda s: s.poissons(np.array([2.0, 20.0])), lambda g: torch.poisson(torch.tensor([2.0, 20.0]).double(), generator=g)),
}


if INTEL:
    MIXED = {name: calls for name, calls in MIXED.items() if name not in ("drop", "exponential")}


@settings(max_examples=60, deadline=None)
@given(seed=st.sampled_from(SEEDS), calls=st.lists(st.sampled_from(sorted(MIXED)), max_size=12), cut=st.integers(0, 12))
def test_mixed_calls_carry_the_state_over(seed, calls, cut):
    stream, generator = pair(seed)
    assert stream.initial_seed() == generator.initial_seed()
    for place, call in enumerate(calls):
        if place == cut:  # change places: each goes on from the other's state
            stream_state, torch_state = stream.get_state(), generator.get_state()
            stream, generator = Mt19937Stream(99), torch.Generator()
            stream.set_state(torch_state.numpy())
            generator.set_state(torch.from_numpy(stream_state))
        ours, theirs = MIXED[call]
        assert_same(stream, generator, ours(stream), theirs(generator))


def test_default_seed_is_pytorchs():
    assert bits(Mt19937Stream().get_state()) == torch_bits(torch.Generator().get_state())


def test_state_copies():
    stream = Mt19937Stream(4)
    stream.normal(3)
    twins = [stream.clone(), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    expected = stream.normal(100)
    for twin in twins:
        assert bits(twin.normal(100)) == bits(expected)
    assert stream.seed() == stream.initial_seed()


def test_threads_share_a_stream_without_losing_draws():
    stream, seen = Mt19937Stream(2), []
    threads = [threading.Thread(target=lambda: [seen.append(stream.raw32(100)) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = Mt19937Stream(2).raw32(20_000)
    assert sorted(np.concatenate(seen).tolist()) == sorted(expected.tolist())


BAD = [
    (lambda s: s.manual_seed(2**64), ValueError, "Overflow"),
    (lambda s: s.manual_seed(-(2**63) - 1), ValueError, "Overflow"),
    (lambda s: s.set_state(np.zeros(STATE_BYTES, np.float32)), TypeError, "ByteTensor"),
    (lambda s: s.set_state(np.zeros(10, np.uint8)), RuntimeError, "size 5056 .* 10"),
    (lambda s: s.set_state(np.zeros(STATE_BYTES, np.uint8)), RuntimeError, "Invalid mt19937 state"),
    (lambda s: s.uniform(3, 2, 1), RuntimeError, "from=2 > to=1"),
    (lambda s: s.uniform(3, -3e38, 3e38), RuntimeError, "exceed the limit"),
    (lambda s: s.uniform(3, 0, 1e6, np.float16), RuntimeError, "to is out of bounds"),
    (lambda s: s.uniform(3, 0, float("nan")), RuntimeError, "to is out of bounds"),
    (lambda s: s.uniform(3, dtype=np.int32), NotImplementedError, "not implemented for 'int32'"),
    (lambda s: s.normal(3, 0, -1), RuntimeError, "std >= 0.0, but found std -1"),
    (lambda s: s.normal(3, 0, float("nan")), RuntimeError, "found std nan"),
    (lambda s: s.exponential(3, 0), RuntimeError, "lambda > 0.0"),
    (lambda s: s.cauchy(3, 0, 0), RuntimeError, "sigma > 0.0"),
    (lambda s: s.log_normal(3, 0, 0), RuntimeError, "std > 0.0"),
    (lambda s: s.geometric(3, 1), RuntimeError, r"\(0, 1\), but got p=1"),
    (lambda s: s.geometric(3, 0.5, bool), NotImplementedError, "bool"),
    (lambda s: s.bernoulli(3, 1.5), RuntimeError, "p=1.5"),
    (lambda s: s.bernoulli(2, np.array([0.5, 1.5])), RuntimeError, r"in \[0, 1\]"),
    (lambda s: s.randint(5, 5, 3), RuntimeError, "from=5 >= to=5"),
    (lambda s: s.randint(0, 300, 3, np.uint8), RuntimeError, "to - 1 is out of bounds"),
    (lambda s: s.random(3, np.uint32), NotImplementedError, "uint32"),
    (lambda s: s.poissons(np.array([1.0, -1.0])), RuntimeError, "to be non-negative"),
    (lambda s: s.poissons(np.array([1.0, np.nan])), RuntimeError, "to be non-negative"),
    (lambda s: s.randperm(-1), RuntimeError, "negative dimension"),
    (lambda s: s.multinomial(np.array([0.5, -1.0]), 1), RuntimeError, "element < 0"),
    (lambda s: s.multinomial(np.array([0.5, np.nan]), 1), RuntimeError, "`nan`"),
    (lambda s: s.multinomial(np.array([0.0, 0.0]), 1), RuntimeError, "sum of probabilities <= 0"),
    (lambda s: s.multinomial(np.array([0.5, 0.5]), 3), RuntimeError, "without replacement"),
    (lambda s: s.multinomial(np.array([0.5, 0.5]), 0), RuntimeError, "n_sample <= 0"),
    (lambda s: s.multinomial(np.array([1, 2]), 1), RuntimeError, "floating-point"),
    (lambda s: s.multinomial(np.ones((2, 2, 2)), 1), RuntimeError, "1 or 2 dim"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_arguments_leave_the_stream_as_it_was(call, error, message):
    stream = Mt19937Stream(1)
    before = bits(stream.get_state())
    with pytest.raises(error, match=message):
        call(stream)
    assert bits(stream.get_state()) == before


def test_a_floating_dtype_with_gaps_warns():
    with pytest.warns(UserWarning, match=r"\[-\(2\^11\), 2\^11\]"):
        Mt19937Stream(1).randint(0, 5000, 3, np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Mt19937Stream(1).randint(0, 2048, 3, np.float16)
