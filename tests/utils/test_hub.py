"""Published weights: fetched once, checked by the hash in their name, kept where PyTorch keeps them."""
from __future__ import annotations

import hashlib
import urllib.error

import numpy as np
import pytest

import rushlight as torch
from rushlight import hub
from rushlight.utils import model_zoo


@pytest.fixture
def published(tmp_path):
    """The address of a file whose name tells its hash, and its content."""
    weights = torch.nn.Linear(3, 2).state_dict()
    draft = tmp_path / "draft.pth"
    torch.save(weights, draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    path = draft.rename(tmp_path / f"net-{digest[:8]}.pth")
    return path, weights


@pytest.mark.parametrize("load", [hub.load_state_dict_from_url, model_zoo.load_url])
def test_weights_are_fetched_once(load, published, tmp_path, capsys):
    path, weights = published
    for _ in range(2):
        found = load(path.as_uri(), model_dir=tmp_path / "kept", check_hash=True)
        assert found.keys() == weights.keys()
        for name, value in weights.items():
            np.testing.assert_array_equal(found[name].numpy(), value.numpy())
    assert capsys.readouterr().err.count("Downloading") == 1
    path.unlink()
    assert load(path.as_uri(), tmp_path / "kept").keys() == weights.keys()
    with pytest.raises(urllib.error.URLError):
        load(path.as_uri(), tmp_path / "elsewhere")


def test_another_hash_leaves_nothing(published, tmp_path):
    wrong = published[0].rename(tmp_path / "net-00000000.pth")
    with pytest.raises(RuntimeError, match='invalid hash value \\(expected "00000000"'):
        hub.load_state_dict_from_url(wrong.as_uri(), tmp_path / "kept", check_hash=True)
    assert not list((tmp_path / "kept").iterdir())
    assert hub.load_state_dict_from_url(wrong.as_uri(), tmp_path / "kept", file_name="weights.pth")
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["weights.pth"]


def test_the_folder(monkeypatch, tmp_path, published):
    monkeypatch.setattr(hub, "_chosen", None)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert hub.get_dir() == str(tmp_path / "cache" / "torch" / "hub")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    assert hub.get_dir() == str(tmp_path / "home" / "hub")
    torch.hub.set_dir(tmp_path / "chosen")
    assert hub.get_dir() == str(tmp_path / "chosen")
    hub.load_state_dict_from_url(published[0].as_uri())
    assert (tmp_path / "chosen" / "checkpoints" / published[0].name).exists()
