"""Printed tensors against PyTorch's own, text for text."""

import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rushlight.tensor import printing
from rushlight.tensor.printing import get_printoptions, printoptions, set_printoptions, tensor_repr

torch = pytest.importorskip("torch")

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
DTYPES += ["complex64", "complex128"]


@pytest.fixture(autouse=True)
def default_options():
    yield
    set_printoptions(profile="default")
    torch.set_printoptions(profile="default")


def both(array: np.ndarray, dtype: str, **options) -> tuple[str, str]:
    """Our text and PyTorch's for the values of `array` in `dtype`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # narrowing conversions of the drawn values
        theirs = torch.from_numpy(np.array(array, order="C")).to(getattr(torch, dtype))
        ours = theirs.to(torch.float32).numpy() if dtype == "bfloat16" else theirs.numpy()
    set_printoptions(**options)
    torch.set_printoptions(**options)
    return tensor_repr(ours, dtype), repr(theirs)


def numbers(magnitude: float):
    return st.one_of(
        st.floats(-magnitude, magnitude, width=32),
        st.integers(-int(magnitude), int(magnitude)).map(float),
        st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, 1.0, -1.0, 1e-5, 1e8, 1e9, 123456.0]),
    )


@st.composite
def arrays(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    magnitude = draw(st.sampled_from([1.0, 10.0, 1000.0, 2.0**20, 2.0**60]))
    return draw(hnp.arrays(np.float64, shape, elements=numbers(magnitude), fill=st.just(0.0)))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "precision": st.integers(0, 8),
        "threshold": st.sampled_from([0, 5, 20, 1000]),
        "edgeitems": st.integers(0, 4),
        "linewidth": st.sampled_from([20, 40, 80, 120]),
        "sci_mode": st.sampled_from([True, False, None]),
        "profile": st.sampled_from(["default", "short", "full"]),
    },
)


@settings(max_examples=250, deadline=None)
@given(array=arrays(), dtype=st.sampled_from(DTYPES), options=OPTIONS)
@example(np.zeros((0, 3)), "float32", {})
@example(np.zeros(0), "int64", {})
@example(np.zeros((40, 50)), "float32", {"edgeitems": 0})
@example(np.array([np.nan]), "float32", {"sci_mode": True})
def test_every_dtype_shape_and_option(array, dtype, options):
    set_printoptions(profile="default")
    torch.set_printoptions(profile="default")
    if dtype.startswith("complex"):
        parts = np.stack([array, np.flip(array)], axis=-1)
        array = np.ascontiguousarray(parts).view(np.complex128)[..., 0]
    ours, theirs = both(array, dtype, **options)
    assert ours == theirs


SPECIAL = {
    "scalar": np.array(3.14159),
    "integral floats": np.array([1.0, -20.0, 300.0]),
    "integral with nan": np.array([1.0, np.nan, -np.inf]),
    "wide range": np.array([1e-3, 1.0, 999.0]),
    "wider range": np.array([1e-3, 1.0, 1001.0]),
    "large": np.array([1e8, 1.5e8]),
    "larger": np.array([1e8 + 1, 3e8]),
    "small": np.array([1e-4, 2e-4]),
    "smaller": np.array([9.9e-5, 2e-4]),
    "negative zero": np.array([-0.0, 0.0]),
    "extremes": np.array([5e-324, 1.7e308]),
    "no number": np.array([np.nan, np.inf, 0.0]),
    "1000 elements": np.arange(1000.0),
    "1001 elements": np.arange(1001.0) / 7,
    "summary of a matrix": np.arange(40.0 * 50).reshape(40, 50) / 3,
    "summary of thin sides": np.arange(2 * 600.0).reshape(2, 600),
    "summary of many dimensions": np.arange(9.0**4).reshape(9, 9, 9, 9),
    "extreme hidden in the middle": np.where(np.arange(2000) == 1000, 1e30, 1.5),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_cases(name, dtype):
    array = SPECIAL[name]
    if dtype == "int64":
        array = np.nan_to_num(array, posinf=7, neginf=-7).clip(-(2**62), 2**62)
    ours, theirs = both(array, dtype)
    assert ours == theirs


def test_bfloat16_as_itself():
    values = np.linspace(-3, 3, 7, dtype=np.float32)
    theirs = repr(torch.from_numpy(values).to(torch.bfloat16))
    assert tensor_repr(values.astype(ml_dtypes.bfloat16), "bfloat16") == theirs


@pytest.mark.parametrize("length", range(1, 40))
def test_suffixes_wrap_where_pytorch_wraps(length):
    values = np.linspace(0, 1, length, dtype=np.float32)
    leaf = torch.from_numpy(values).requires_grad_()
    assert tensor_repr(values, "float32", requires_grad=True) == repr(leaf)
    doubled = leaf.double().reshape(1, -1)
    ours = tensor_repr(doubled.detach().numpy(), "float64", requires_grad=True, grad_fn_name="ViewBackward0")
    assert ours == repr(doubled)
    parameter = torch.nn.Parameter(leaf.detach().double())
    ours = tensor_repr(parameter.detach().numpy(), "float64", requires_grad=True, is_parameter=True)
    assert ours == repr(parameter)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_tensors_without_values(dtype):
    theirs = torch.zeros(3, 4, device="meta", dtype=getattr(torch, dtype))
    assert tensor_repr(None, dtype, shape=(3, 4), device="meta") == repr(theirs)
    with pytest.raises(ValueError, match="shape"):
        tensor_repr(None, dtype, device="meta")


def test_the_default_dtype_is_not_spelled_out():
    torch.set_default_dtype(torch.float64)
    try:
        for dtype in ("float32", "float64", "complex64", "complex128", "int64", "int32"):
            for shape in ((2,), (0,), (0, 2)):
                tensor = torch.zeros(shape, dtype=getattr(torch, dtype))
                assert tensor_repr(tensor.numpy(), dtype, default_dtype="float64") == repr(tensor)
    finally:
        torch.set_default_dtype(torch.float32)


def test_device_and_class_name():
    values = np.array([1.0, 2.0], np.float32)
    assert tensor_repr(values, "float32", device="cuda:0") == "tensor([1., 2.], device='cuda:0')"
    assert tensor_repr(values, "float32", class_name="Point") == "Point([1., 2.])"


def test_a_summary_converts_only_what_it_shows(monkeypatch):
    converted = []
    formats = printing._NumberFormat.__init__

    def counting(self, values, floating):
        converted.append(values.size)
        formats(self, values, floating)

    monkeypatch.setattr(printing._NumberFormat, "__init__", counting)
    huge = np.broadcast_to(np.float32(1.5), (10**6, 10**6))
    ours = tensor_repr(huge, "float32")
    assert converted == [36]
    assert ours == repr(torch.tensor(1.5).expand(10**6, 10**6))


def test_options_are_kept_and_restored():
    assert get_printoptions() == torch._tensor_str.get_printoptions()
    with printoptions(precision=2, sci_mode=True):
        assert get_printoptions()["precision"] == 2
        assert tensor_repr(np.array([1.0], np.float32), "float32") == "tensor([1.00e+00])"
    assert get_printoptions() == {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
    set_printoptions(sci_mode=True)
    set_printoptions(profile="short")  # sci_mode is reset by every call, as in PyTorch
    assert get_printoptions() == {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80, "sci_mode": None}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32"])
def test_limits_of_dtypes(dtype):
    import rushlight

    kind = "finfo" if "float" in dtype else "iinfo"
    assert repr(getattr(rushlight, kind)(getattr(rushlight, dtype))) == repr(getattr(torch, kind)(getattr(torch, dtype)))


def test_the_node_of_a_function_is_named_after_it():
    import rushlight

    def shown(package):
        class Twice(package.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, grad):
                return grad * 2
        return repr(Twice.apply(package.ones(2, requires_grad=True)))
    assert shown(rushlight) == shown(torch) == "tensor([2., 2.], grad_fn=<TwiceBackward>)"


@pytest.mark.parametrize("make", [lambda t: 3, lambda t: int, lambda t: "a", lambda t: t.ones(2), lambda t: t.ones(2).int(),
                                  lambda t: t.nn.Linear(1, 1), lambda t: t.nn.Linear, lambda t: len, lambda t: None])
def test_names_of_types(make):
    import rushlight

    assert rushlight.typename(make(rushlight)).replace("rushlight", "torch") == torch.typename(make(torch))
