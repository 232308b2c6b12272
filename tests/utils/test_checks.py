"""Checks that programs make of their own values, and names of devices that are not here: as in PyTorch's CPU build."""
from __future__ import annotations

import pytest

import rushlight

torch = pytest.importorskip("torch")


def outcome(call, t):
    """What a call returns, or the PyTorch class of what it raises."""
    try:
        return call(t)
    except Exception as error:
        return next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")


CHECKS = {
    "holds": lambda t: t._check(True), "fails": lambda t: t._check(False, lambda: "why"), "no bool": lambda t: t._check(1),
    "index": lambda t: t._check_index(False), "value": lambda t: t._check_value(False), "type": lambda t: t._check_type(False),
    "no message": lambda t: t._check_value(False, "why"), "not there": lambda t: t._check_not_implemented(False),
    "all": lambda t: t._check_tensor_all(t.tensor([True, True])), "not all": lambda t: t._check_tensor_all(t.tensor([True, False])),
    "no tensor": lambda t: t._check_tensor_all(True), "no bools": lambda t: t._check_tensor_all(t.ones(2)),
    "nonzero": lambda t: t._assert_async(t.tensor(2.0)), "zero": lambda t: t._assert_async(t.tensor(0), "why"),
    "int": lambda t: t.sym_int(-2.7), "float": lambda t: t.sym_float(2), "max": lambda t: t.sym_max(3, 2.5),
    "min": lambda t: t.sym_min(3, 4), "not": lambda t: t.sym_not(True), "chosen": lambda t: t.sym_ite(False, 1, 2),
    "sum": lambda t: t.sym_sum([1, 2, 3]),
}


@pytest.mark.parametrize("call", CHECKS.values(), ids=CHECKS)
def test_checks_end_as_in_pytorch(call):
    ours, theirs = outcome(call, rushlight), outcome(call, torch)
    assert ours == theirs and type(ours) is type(theirs)


def test_a_failed_check_says_what_its_message_says():
    with pytest.raises(RuntimeError, match="^why$"):
        rushlight._check(False, lambda: "why")
    with pytest.raises(RuntimeError, match="^why$"):
        rushlight._assert_async(rushlight.tensor(False), "why")
    assert not isinstance(3, rushlight.SymInt)


DEVICES = [f"xpu.{name}" for name in (
    "is_available", "device_count", "is_initialized", "empty_cache", "memory_allocated", "max_memory_allocated", "current_device",
    "synchronize", "get_device_name", "get_rng_state", "seed_all", "get_rng_state_all")] + [
    f"mps.{name}" for name in ("is_available", "device_count", "synchronize", "empty_cache", "current_allocated_memory", "seed")] + [
    f"accelerator.{name}" for name in ("is_available", "device_count", "current_accelerator", "current_device_index", "synchronize",
                                       "memory_allocated", "empty_cache")]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_that_is_not_there_answers_as_in_pytorch(name):
    room, function = name.split(".")
    assert outcome(lambda t: getattr(getattr(t, room), function)(), rushlight) == outcome(
        lambda t: getattr(getattr(t, room), function)(), torch)


def test_regions_of_devices_that_are_not_there():
    for region in (lambda t: t.accelerator.device_index(None), lambda t: t.accelerator.device_index(0)):
        def enter(t, region=region):
            with region(t):
                return "entered"
        assert outcome(enter, rushlight) == outcome(enter, torch)
    assert rushlight.get_device_module() is rushlight.get_device_module("cpu") is rushlight.cpu


def test_how_determinism_is_asked_for():
    assert rushlight.get_deterministic_debug_mode() == 2 and not rushlight.is_deterministic_algorithms_warn_only_enabled()
    rushlight.set_deterministic_debug_mode("warn")
    assert rushlight.get_deterministic_debug_mode() == 1 and rushlight.is_deterministic_algorithms_warn_only_enabled()
    rushlight.use_deterministic_algorithms(True)
    assert rushlight.get_deterministic_debug_mode() == 2
    with pytest.raises(RuntimeError, match="invalid value of debug_mode"):
        rushlight.set_deterministic_debug_mode("sometimes")


def test_how_memory_is_shared_can_be_chosen():
    mp = rushlight.multiprocessing
    assert mp.get_sharing_strategy() in mp.get_all_sharing_strategies() == {"file_descriptor", "file_system"}
    mp.set_sharing_strategy("file_system")
    assert mp.get_sharing_strategy() == "file_system"
    mp.set_sharing_strategy("file_descriptor")
    with pytest.raises(AssertionError, match="by_post"):
        mp.set_sharing_strategy("by_post")


def test_dynamos_names_change_nothing():
    dynamo = rushlight._dynamo
    function = lambda x: x + 1  # noqa: E731
    assert dynamo.optimize("inductor")(function) is dynamo.disable(function) is dynamo.disallow_in_graph(function) is function
    dynamo.config.suppress_errors = True
    assert not isinstance(rushlight.compile(rushlight.nn.Linear(1, 1)), dynamo.OptimizedModule) and not dynamo.is_compiling()
    assert rushlight.__config__.show().startswith("Rushlight") and "num_threads" in rushlight.__config__.parallel_info()
