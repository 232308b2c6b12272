"""Helpers around training: data loading lives in :mod:`rushlight.utils.data`."""

from . import data

__all__ = ["data"]
