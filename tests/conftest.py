"""What all tests share: how the property tests draw their examples.

``CI`` set (as ``.ci/run`` does): the same examples in every run, so that a change is held to what it changes. Elsewhere new ones in every
run. ``FUZZ=20`` (``make fuzz``): the property tests alone, with twenty times their examples.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Loaded before test modules are imported: ``@settings(...)`` takes what it does not say from the profile of that moment.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "explore")

MORE = int(os.environ.get("FUZZ") or 0)


def property_tests(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The tests that draw examples, each with the function that holds its settings."""
    for item in items:
        test = getattr(item, "obj", None)
        test = getattr(test, "__func__", test)
        if getattr(test, "is_hypothesis_test", False):
            yield item, test


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    if not MORE:
        return
    found = list(property_tests(items))
    config.hook.pytest_deselected(items=[item for item in items if item not in {one for one, _ in found}])
    items[:] = [item for item, _ in found]
    for test in {id(test): test for _, test in found}.values():  # there is no public way to change a number that a decorator gave
        said = test._hypothesis_internal_use_settings
        test._hypothesis_internal_use_settings = settings(said, max_examples=said.max_examples * MORE, derandomize=False, database=None,
                                                          suppress_health_check=list(HealthCheck))
