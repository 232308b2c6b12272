"""The parts that :class:`~rushlight.utils.data.DataLoader` is put together from."""

from . import collate, columns, errors, fetch, worker

__all__ = ["collate", "columns", "errors", "fetch", "worker"]
