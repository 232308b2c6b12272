"""``torch.hub``: published weights, fetched once and kept where PyTorch keeps them."""
from __future__ import annotations

import hashlib
import os
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from .io import load
from .io.atomic import atomic_write

__all__ = ["download_url_to_file", "get_dir", "load_state_dict_from_url", "set_dir"]

_CHUNK, _TIMEOUT = 1 << 16, 60
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")  # in a file's name: the first digits of its SHA-256
_chosen: str | None = None


def _get_torch_home() -> str:
    """``$TORCH_HOME``, else ``$XDG_CACHE_HOME/torch``, else ``~/.cache/torch``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(cache, "torch")))


def get_dir() -> str:
    """The folder of what was fetched: what ``set_dir`` said, else ``$TORCH_HOME/hub``, else ``$XDG_CACHE_HOME/torch/hub``, else
    ``~/.cache/torch/hub``."""
    if _chosen is not None:
        return _chosen
    return os.path.join(_get_torch_home(), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Keep what is fetched from now on in the folder ``d``."""
    global _chosen
    _chosen = os.path.expanduser(d)


def download_url_to_file(url: str, dst: str | os.PathLike[str], hash_prefix: str | None = None, progress: bool = True) -> None:
    """Fetch one file. It appears under ``dst`` only when all of it has arrived and its SHA-256 begins with ``hash_prefix``.

    Args:
        progress: accepted; nothing is drawn.

    Raises:
        RuntimeError: another hash. URLError: the network or the server failed.
    """
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "rushlight"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, atomic_write(dst) as f:
        while chunk := response.read(_CHUNK):
            digest.update(chunk)
            f.write(chunk)
        if hash_prefix is not None and digest.hexdigest()[:len(hash_prefix)] != hash_prefix:
            raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "{digest.hexdigest()}")')


def load_state_dict_from_url(url: str, model_dir: str | os.PathLike[str] | None = None, map_location: Any = None, progress: bool = True,
                             check_hash: bool = False, file_name: str | None = None, weights_only: bool = True) -> dict[str, Any]:
    """What ``load`` gives for the file at ``url``, which is fetched unless the folder has it.

    Args:
        model_dir: the folder; ``get_dir()/checkpoints`` by default.
        check_hash: whether the name of the file ends with digits of its SHA-256, ``name-0123abcd.pth``, which then have to be right.
        file_name: its name in the folder; by default that in the URL.
        map_location, weights_only: as in ``load``: no code from the file is run, unless told (PyTorch's default here runs it).

    Raises:
        RuntimeError: the file has another hash than its name says. URLError: it could not be fetched.

    Example:
        >>> weights = load_state_dict_from_url("https://host/resnet18-f37072fd.pth", check_hash=True)  # doctest: +SKIP
    """
    folder = Path(get_dir()) / "checkpoints" if model_dir is None else Path(model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file_name or os.path.basename(urlparse(url).path))
    if not path.exists():
        print(f'Downloading: "{url}" to {path}', file=sys.stderr)
        named = HASH_REGEX.search(path.name) if check_hash else None
        download_url_to_file(url, path, named[1] if named else None, progress)
    return load(path, map_location=map_location, weights_only=weights_only)  # type: ignore[no-any-return]
