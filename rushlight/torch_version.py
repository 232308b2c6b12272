"""``TorchVersion``: a version number that is a string and is compared as a version, with strings and tuples."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["TorchVersion"]

#: A version by PEP 440: release, pre-release, post-release, development release, local label.
_VERSION = re.compile(
    r"\s*v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>a|alpha|b|beta|c|rc|pre|preview)[-_.]?(?P<pre_n>\d*))?"
    r"(?:-(?P<post_n1>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_n2>\d*))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>\d*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?\s*", re.IGNORECASE)

_STAGES = {"a": 1, "alpha": 1, "b": 2, "beta": 2, "c": 3, "rc": 3, "pre": 3, "preview": 3}


def _key(version: str) -> tuple | None:
    """What orders versions: ``None`` for a text that is none."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    release = [int(part) for part in found["release"].split(".")]
    while len(release) > 1 and release[-1] == 0:  # 2.0 is 2.0.0
        release.pop()
    post = found["post_n1"] if found["post_n1"] is not None else found["post"] and (found["post_n2"] or "0")
    dev = found["dev"] and (found["dev_n"] or "0")
    if found["pre"]:
        stage = (_STAGES[found["pre"].lower()], int(found["pre_n"] or 0))
    else:  # a development release of nothing else comes before all pre-releases, a release after them
        stage = (0, 0) if dev is not None and post is None else (4, 0)
    local = [(1, int(part), "") if part.isdigit() else (0, 0, part.lower()) for part in re.split(r"[-_.]", found["local"] or "") if part]
    return (int(found["epoch"] or 0), release, stage, -1 if post is None else int(post),
            float("inf") if dev is None else int(dev), local)


def _compare(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(str, name)

    def compare(self: Any, other: Any) -> Any:
        text = ".".join(map(str, other)) if isinstance(other, (tuple, list)) else other
        if not isinstance(text, str):
            return NotImplemented
        mine, its = _key(self), _key(text)
        if mine is None or its is None:  # no versions: the order of texts
            return plain(self, other)
        return getattr(tuple, name)(mine, its)

    compare.__name__ = name
    return compare


class TorchVersion(str):
    """A version number, as programs ask for it in all the ways that there are.

    >>> version = TorchVersion("2.13.0+rushlight")
    >>> version >= "1.9", version >= (2, 0), version.split("+")[0]
    (True, True, '2.13.0')
    """

    __slots__ = ()
    __lt__, __le__, __gt__, __ge__ = map(_compare, ("__lt__", "__le__", "__gt__", "__ge__"))
    __eq__, __ne__ = map(_compare, ("__eq__", "__ne__"))
    __hash__ = str.__hash__
