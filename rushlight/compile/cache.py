"""The disk cache of compiled kernels: a second process start compiles nothing.

A file holds one object file under a key that names everything its bytes depend on: the kernel's *structure key* (known
before any IR text exists), the target processor, the versions, and the compiler's own source code (:func:`key`).

* Where: ``$RUSHLIGHT_CACHE_DIR``, else ``$XDG_CACHE_HOME/rushlight``, else ``~/.cache/rushlight``.
  ``RUSHLIGHT_CACHE=0`` turns it off.
* Objects are native code that will be run, so the directory is made with mode 0700, and one that belongs to somebody
  else or that others may write to is not used.
* Files appear by an atomic rename and carry a checksum: a killed or concurrent process leaves nothing half-written that
  could be loaded; a damaged file is dropped and counts as a miss.
* Bounded to 512 MB (``$RUSHLIGHT_CACHE_MB``), least recently used out.
* A directory that cannot be used (read-only home, full disk) means that kernels are kept in memory only.

Example::

    name = cache.key("add f32 n", cpu.key)
    data = cache.get(name)
    if data is None:
        data = compile_it()
        cache.put(name, data)
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import threading
import time
from pathlib import Path

__all__ = ["DiskCache", "default", "get", "key", "put", "source_hash"]

_MAGIC = b"RLOBJ1\0\0"
_DIGEST_BYTES = 16
#: A file's time of last use is refreshed when it is older than this: enough for "least recently used", one write less.
_TOUCH_SECONDS = 3600.0
#: Temporary files older than this were left by a killed process.
_STALE_SECONDS = 600.0
#: How long what was counted is taken for true by other processes, where it was so many files: a full cache has a hundred thousand, and to
#: look at them all takes a second.
_COUNT_SECONDS, _MANY, _NOTE = 3600.0, 4096, "bytes"


class DiskCache:
    """Objects under a directory, by key; ``limit`` bytes at most.

    No method raises on a problem of the file system: a cache that cannot be used is one that misses.
    """

    def __init__(self, directory: str | os.PathLike[str], limit: int = 512 << 20) -> None:
        self.directory = Path(directory)
        self.limit = limit
        self._total: int | None = None  # bytes on disk as far as we know; counted at the first put
        self._lock = threading.Lock()
        self._usable: bool | None = None

    def get(self, name: str) -> bytes | None:
        """The object stored under ``name``, or None."""
        if not self._ready():
            return None
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                data = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None  # absent, or unreadable: a miss either way
        head = len(_MAGIC) + _DIGEST_BYTES
        payload = data[head:]
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : head] != _digest(payload):
            _remove(path)
            return None
        if time.time() - used > _TOUCH_SECONDS:
            _touch(path)
        return payload

    def put(self, name: str, payload: bytes) -> None:
        """Store ``payload`` under ``name``; the file appears whole or not at all."""
        if not self._ready():
            return
        path = self._path(name)
        partial = path.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}.tmp")
        data = _MAGIC + _digest(payload) + payload
        try:
            with open(partial, "xb") as file:
                file.write(data)
            os.replace(partial, path)
        except OSError:
            # Read-only or full: stop trying, this process keeps its kernels in memory.
            _remove(partial)
            self._usable = False
            return
        with self._lock:
            noted = self._noted() if self._total is None else self._total
            self._total = self._count(self._files()) if noted is None else noted + len(data)
            if self._total > self.limit:
                self._total = self._shrink(self.limit * 9 // 10)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.o"

    def _ready(self) -> bool:
        if self._usable is None:
            self._usable = _prepare(self.directory)
        return self._usable

    def _noted(self) -> int | None:
        """The bytes on disk, if a process has counted many files in the last hour. What was written since is counted in the next."""
        note = self.directory / _NOTE
        try:
            return int(note.read_text()) if time.time() - note.stat().st_mtime < _COUNT_SECONDS else None
        except (OSError, ValueError):
            return None  # there are few files, or something else is written there

    def _count(self, files: list[tuple[float, int, str]]) -> int:
        """The bytes of these, which are all there are; if they are many, other processes are let know."""
        total = sum(size for _, size, _ in files)
        if len(files) >= _MANY:
            partial = self.directory / f".{_NOTE}.{os.getpid()}.{threading.get_ident()}.tmp"
            try:
                partial.write_text(str(total))
                os.replace(partial, self.directory / _NOTE)
            except OSError:
                _remove(partial)  # the others count for themselves
        return total

    def _files(self) -> list[tuple[float, int, str]]:
        """(time of last use, bytes, path) of every file, oldest first; leftovers of killed writers are deleted."""
        found = []
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    facts = _stat(entry)
                    if facts is None:
                        continue
                    if entry.name.endswith(".tmp"):
                        if time.time() - facts.st_mtime > _STALE_SECONDS:
                            _remove(Path(entry.path))
                    elif entry.name.endswith(".o"):
                        found.append((facts.st_mtime, facts.st_size, entry.path))
        except OSError:
            return []  # the directory went away: nothing to count
        return sorted(found)

    def _shrink(self, goal: int) -> int:
        """Delete the least recently used files until ``goal`` bytes remain; returns the bytes that remain."""
        files = self._files()
        total, gone = sum(size for _, size, _ in files), 0
        for _, size, path in files:
            if total <= goal:
                break
            _remove(Path(path))
            total, gone = total - size, gone + 1
        return self._count(files[gone:])


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None  # deleted by another process since it was listed


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # a read-only directory: the file stays, its checksum still protects readers


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        return  # a shared read-only cache keeps its times


def _prepare(directory: Path) -> bool:
    """Make the directory; False if it cannot be made, or if somebody else could put native code into it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
    except OSError:
        return False
    if not stat.S_ISDIR(facts.st_mode):
        return False
    return facts.st_uid in (os.getuid(), 0) and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@functools.lru_cache(maxsize=8)
def _cache_at(directory: str, megabytes: int) -> DiskCache:
    return DiskCache(Path(directory) / "kernels", megabytes << 20)


def default() -> DiskCache | None:
    """The cache that the environment describes; None if ``RUSHLIGHT_CACHE=0``."""
    environ = os.environ
    if environ.get("RUSHLIGHT_CACHE", "1") == "0":
        return None
    directory = environ.get("RUSHLIGHT_CACHE_DIR")
    if not directory:
        base = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        directory = os.path.join(base, "rushlight")
    megabytes = environ.get("RUSHLIGHT_CACHE_MB", "512")
    if not megabytes.isdigit():
        raise ValueError(f"RUSHLIGHT_CACHE_MB must be a whole number of megabytes, got {megabytes!r}")
    return _cache_at(directory, int(megabytes))


def get(name: str) -> bytes | None:
    """The object under ``name`` in the default cache, or None."""
    store = default()
    return None if store is None else store.get(name)


def put(name: str, payload: bytes) -> None:
    """Store ``payload`` under ``name`` in the default cache, if there is one."""
    store = default()
    if store is not None:
        store.put(name, payload)


@functools.cache
def source_hash() -> str:
    """A hash of the compiler's own source: any change to it makes every cached object unreachable.

    Reading it all takes as long as starting a small program. So the hash itself is cached, under what the file system says of the
    files: names, sizes, and when they were written."""
    root = Path(__file__).parent
    files = [entry for folder, _, _ in os.walk(root) for entry in os.scandir(folder) if entry.name.endswith(".py")]
    facts = hashlib.sha256(str(root).encode())
    for entry in sorted(files, key=lambda entry: entry.path):
        known = entry.stat()
        facts.update(f"{entry.path} {known.st_size} {known.st_mtime_ns} {known.st_ino}\n".encode())
    name = "source-" + facts.hexdigest()
    found = get(name)
    if found is None:
        digest = hashlib.sha256()
        for path in sorted(Path(entry.path) for entry in files):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
        found = digest.hexdigest().encode()
        put(name, found)
    return found.decode()


def key(*parts: str) -> str:
    """The cache key of an object whose bytes depend on ``parts`` and on the compiler's source: 64 hex digits."""
    digest = hashlib.sha256(source_hash().encode())
    for part in parts:
        text = part.encode()
        digest.update(len(text).to_bytes(8, "little"))  # so that ("ab", "c") is not ("a", "bc")
        digest.update(text)
    return digest.hexdigest()
