"""Whether the property tests draw new examples is decided in one place (``conftest.py``), and no test decides otherwise."""
from __future__ import annotations

import os

import pytest

from .conftest import MORE, property_tests


def test_examples_are_the_same_in_ci_and_new_elsewhere(request: pytest.FixtureRequest) -> None:
    found = {id(test): (item.nodeid, test._hypothesis_internal_use_settings) for item, test in property_tests(request.session.items)}
    fixed = bool(os.environ.get("CI")) and not MORE
    assert [name for name, said in found.values() if said.derandomize != fixed] == []
    assert [name for name, said in found.values() if fixed and said.database is not None] == []
