"""Switches of the recorder (the compiler has its own, ``compile/flags.py``).

| attribute | variable | meaning |
| --- | --- | --- |
| eager | RUSHLIGHT_EAGER | run every operation at once in the reference interpreter: the debugging mode |
| cold_limit | RUSHLIGHT_COLD_LIMIT | paths below this many element operations run in the interpreter at first; long ones may cost more |
| max_ops | RUSHLIGHT_MAX_OPS | a trace is flushed when it has this many operations |
| max_bytes | RUSHLIGHT_MAX_BYTES | ... or when its results take this many bytes |
| max_backwards | RUSHLIGHT_MAX_BACKWARDS | ... or when it has this many backwards |
| packed_bytes | RUSHLIGHT_PACKED_BYTES | packed forms of weights that are kept between runs take no more than this together |
| overlap | RUSHLIGHT_OVERLAP | programs that nobody waits for run while Python goes on; 0: none do |
| match_pytorch | RUSHLIGHT_MATCH_PYTORCH | everything random draws PyTorch's numbers (``rushlight.random.match_pytorch``) |
"""
from __future__ import annotations

import os

__all__ = ["settings"]


def _quarter_of_memory() -> int:
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= getattr(os, "sysconf_names", {}).keys():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return 1 << 30


class Settings:
    def __init__(self) -> None:
        self.eager = os.environ.get("RUSHLIGHT_EAGER", "0") not in ("", "0")
        self.cold_limit = int(os.environ.get("RUSHLIGHT_COLD_LIMIT", "2000000"))
        self.max_ops = 1 if self.eager else int(os.environ.get("RUSHLIGHT_MAX_OPS", "10000"))
        self.max_bytes = int(os.environ.get("RUSHLIGHT_MAX_BYTES", str(4 << 30)))
        self.max_backwards = int(os.environ.get("RUSHLIGHT_MAX_BACKWARDS", "8"))
        self.packed_bytes = int(os.environ.get("RUSHLIGHT_PACKED_BYTES", _quarter_of_memory()))
        self.overlap = os.environ.get("RUSHLIGHT_OVERLAP", "1") not in ("", "0")
        self.match_pytorch = os.environ.get("RUSHLIGHT_MATCH_PYTORCH", "0") not in ("", "0")


settings = Settings()
