"""What runs in a worker process of :class:`~rushlight.utils.data.DataLoader`."""

from __future__ import annotations

import os
import queue
import random
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ExceptionWrapper
from .fetch import IterableDatasetFetcher, MapDatasetFetcher

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Fetch", "Job", "Result", "Resume", "WorkerInfo", "get_worker_info", "work"]


class WorkerInfo:
    """What :func:`get_worker_info` returns in a worker. Read-only.

    Attributes:
        id: the number of this worker, from 0.
        num_workers: how many there are.
        seed: the seed of this worker's random streams, the loader's base seed plus ``id``.
        dataset: this process's copy of the data set.
        rng: None; there for compatibility.
        worker_method: ``"multiprocessing"``.
    """

    __slots__ = ("dataset", "id", "num_workers", "rng", "seed", "worker_method")

    id: int
    num_workers: int
    seed: int
    dataset: Any
    rng: None
    worker_method: str

    def __init__(self, id: int, num_workers: int, seed: int, dataset: Any) -> None:
        values = (id, num_workers, seed, dataset, None, "multiprocessing")
        for name, value in zip(("id", "num_workers", "seed", "dataset", "rng", "worker_method"), values):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError(f"Cannot assign attributes to {type(self).__name__} objects")

    def __repr__(self) -> str:
        names = ("id", "num_workers", "seed", "dataset", "rng", "worker_method")
        return f"WorkerInfo({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker process of a loader, its :class:`WorkerInfo`; in every other process None.

    Example::

        def __iter__(self):
            info = get_worker_info()
            first, step = (0, 1) if info is None else (info.id, info.num_workers)
            return iter(range(first, self.length, step))
    """
    return _worker_info


class Job(NamedTuple):
    """All that a worker is started with."""

    worker_id: int
    num_workers: int
    base_seed: int
    dataset: Any
    iterable: bool
    batching: bool
    collate_fn: Callable
    drop_last: bool
    init_fn: Callable[[int], None] | None


class Fetch(NamedTuple):
    """A request: make the batch for ``key``."""

    task: int
    key: Any


class Resume(NamedTuple):
    """A request: begin the data set anew (a persistent worker between epochs); answered by the same message."""


class Result(NamedTuple):
    """The answer to :class:`Fetch`: a batch or an ExceptionWrapper, or ``ended``: this worker's stream is exhausted."""

    task: int
    value: Any
    ended: bool = False


def work(job: Job, requests: Connection, results: Connection) -> None:
    """Serve requests until the loading process says goodbye (None), or dies."""
    import rushlight as torch

    # Ctrl-C reaches the whole terminal group; the loading process decides what it means and closes the connection.
    # It started us with the signal blocked, so there was no moment at which it could print a traceback here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    torch.set_num_threads(1)  # the workers themselves are the parallelism
    seed = job.base_seed + job.worker_id
    _seed_everything(seed, job)
    global _worker_info
    _worker_info = WorkerInfo(job.worker_id, job.num_workers, seed, job.dataset)
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, inbox), daemon=True).start()
    try:
        _serve(job, inbox, results)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the loading process stopped listening: it has been told all it wanted to know


def _seed_everything(seed: int, job: Job) -> None:
    """Seed the three streams that data sets draw from; NumPy's gets a mixture, as it takes only 32-bit words."""
    import numpy as np

    import rushlight as torch

    random.seed(seed)
    torch.manual_seed(seed)
    low, high = job.base_seed & 0xFFFFFFFF, job.base_seed >> 32 & 0xFFFFFFFF
    np.random.seed(np.random.SeedSequence([job.worker_id, low, high, 0]).generate_state(4))


def _read_requests(requests: Connection, inbox: queue.SimpleQueue) -> None:
    """Move requests into the inbox as they arrive.

    A thread of its own, so that the loading process never has to wait for a worker that is itself waiting to deliver,
    and so that a worker busy with a long sample notices when the loading process is gone.
    """
    from .transport import receive

    try:
        while (request := receive(requests)) is not None:
            inbox.put(request)
    except (EOFError, OSError):  # closed without a goodbye: the loading process died, nobody takes the batch being made
        os._exit(1)
    inbox.put(None)


def _serve(job: Job, inbox: queue.SimpleQueue, results: Connection) -> None:
    make_fetcher = IterableDatasetFetcher if job.iterable else MapDatasetFetcher
    where = f"in DataLoader worker process {job.worker_id}"
    fetcher: Any = None
    failure: ExceptionWrapper | None = None
    ended = False
    try:
        if job.init_fn is not None:
            job.init_fn(job.worker_id)
        fetcher = make_fetcher(job.dataset, job.batching, job.collate_fn, job.drop_last)
    except Exception:
        failure = ExceptionWrapper(where)
    while (request := inbox.get()) is not None:
        if isinstance(request, Resume):
            ended, failure = False, None
            try:
                fetcher = make_fetcher(job.dataset, job.batching, job.collate_fn, job.drop_last)
            except Exception:
                failure = ExceptionWrapper(where)
            _deliver(results, request, where)
            continue
        value: Any = None
        if failure is not None:
            value = failure
        elif not ended:
            try:
                value = fetcher.fetch(request.key)
            except StopIteration:
                if job.iterable:
                    ended = True
                else:
                    value = ExceptionWrapper(where)
            except Exception:
                value = ExceptionWrapper(where)
        _deliver(results, Result(request.task, value, ended), where)


def _deliver(results: Connection, answer: Any, where: str) -> None:
    from .transport import send

    try:
        send(results, answer)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception:  # the batch cannot be pickled, or memory is short: the loop that waits for it must hear of it
        send(results, Result(answer.task, ExceptionWrapper(where)))
