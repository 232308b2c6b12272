"""The version that programs see is that of the PyTorch whose interface is followed: they ask for it in many ways."""
from __future__ import annotations

import importlib.metadata
import operator
import re

import pytest

import rushlight
from rushlight.torch_version import TorchVersion


def test_programs_that_ask_for_a_version_of_torch_are_answered():
    version = rushlight.__version__
    assert isinstance(version, str) and isinstance(version, TorchVersion)
    assert version >= "1.8" and version >= "2" and not version < "2.0.0a0" and version > "2.9"  # as texts, "2.13" < "2.9"
    assert version >= (1, 13) and version > (2,) and "1.7.1" < version < "10.0"
    assert tuple(int(part) for part in version.split("+")[0].split(".")) == (2, 13, 0)
    assert int(version[0]) >= 2 and version.startswith("2.") and re.match(r"(\d+)\.(\d+)", version).groups() == ("2", "13")
    major, minor, patch = version.split(".")
    assert (major, minor, patch) == ("2", "13", "0+rushlight")
    assert {version: 1}[str(version)] == 1
    assert rushlight.vision.__version__.split(".")[:2] == ["0", "28"]


def test_the_package_has_a_version_of_its_own():
    assert rushlight.version.rushlight == importlib.metadata.version("rushlight")
    assert rushlight.version.__version__ is rushlight.__version__ and rushlight.version.cuda is None


def test_packaging_reads_it():
    version = pytest.importorskip("packaging.version")
    assert version.parse(rushlight.__version__) >= version.parse("2.13.0")
    assert version.Version(rushlight.__version__).release == (2, 13, 0)


OTHERS = ["2.13.0", "2.13", (2, 13), (2, 13, 0), "2.13.0+CPU", "2.13.0+cpu.1", "2.13.0rc1", "2.13.0a0+git1", "2.13.0.dev20260101",
          "2.13.0.post1", "2.13.0-1", "1!0.1", "v2.14", "10", "2.9", "1.10", "no version", ""]


@pytest.mark.parametrize("text", ["2.13.0+cpu", "2.13.0", "2.13.0a0", "2.0.dev1"])
def test_order_of_versions_is_pytorchs(text):
    theirs = pytest.importorskip("torch.torch_version").TorchVersion(text)
    ours = TorchVersion(text)
    for other in OTHERS:
        for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq):
            assert compare(ours, other) == compare(theirs, other), (compare.__name__, text, other)
    assert ours != 2 and ours is not None and hash(ours) == hash(text)
    for wrong in (2.0, None):
        with pytest.raises(TypeError):
            operator.ge(ours, wrong)
