"""One pass over a :class:`DataLoader`: in this process, or with the help of worker processes."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rushlight.record import batch_boundary
from rushlight.record.warn import warn

from ._utils.errors import ExceptionWrapper
from ._utils.fetch import IterableDatasetFetcher, MapDatasetFetcher
from .dataset import IterableDataset

if TYPE_CHECKING:
    from .dataloader import DataLoader

__all__ = ["_BaseDataLoaderIter", "_MultiProcessingDataLoaderIter", "_SingleProcessDataLoaderIter"]


class _BaseDataLoaderIter:
    """What both kinds of pass share: the keys, the seed for workers, the count of batches given out."""

    def __init__(self, loader: DataLoader) -> None:
        import rushlight as torch

        # No reference to the loader: one that is dropped takes its persistent iterator, and so its workers, with it.
        self._dataset = loader.dataset
        self._index_sampler = loader._index_sampler
        self._num_workers = loader.num_workers
        self._sampler_iter = iter(self._index_sampler)
        # Drawn also when there are no workers, so that the stream, and with it every later shuffle, does not depend on
        # them.
        drawn = torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        self._base_seed: int = int(drawn.item())
        self._num_yielded = 0
        self._promised_length = loader._promised_length
        if loader.pin_memory:
            warn(
       "'pin_memory' argument is set as true but no accelerator is found, "
       "then device pinned memory won't be used.")

    def __iter__(self) -> Iterator:
        return self

    def __len__(self) -> int:
        return len(self._index_sampler)  # type: ignore[arg-type]

    def __next__(self) -> Any:
        # What the loop recorded about its last batch runs now: programs end where the user's loop body ends.
        batch_boundary()
        batch = self._next_batch()
        self._num_yielded += 1
        if self._promised_length is not None and self._num_yielded > self._promised_length:
            self._warn_length()
        return batch

    def _next_batch(self) -> Any:
        raise NotImplementedError

    def _warn_length(self) -> None:
        message = (
            f"Length of IterableDataset {self._dataset} was reported to be {self._promised_length} (when accessing "
            f"len(dataloader)), but {self._num_yielded} samples have been fetched. "
        )
        if self._num_workers > 0:
            message += (
                "With worker processes this happens when every worker iterates over the whole dataset: use "
                "get_worker_info() in its __iter__ to give each worker its share."
            )
        warn(message)


class _SingleProcessDataLoaderIter(_BaseDataLoaderIter):
    """Makes each batch when it is asked for."""

    def __init__(self, loader: DataLoader) -> None:
        if loader.timeout != 0:
            raise AssertionError(f"timeout needs worker processes: got timeout={loader.timeout} with num_workers=0")
        super().__init__(loader)
        make_fetcher = IterableDatasetFetcher if isinstance(loader.dataset, IterableDataset) else MapDatasetFetcher
        self._fetcher = make_fetcher(loader.dataset, loader._auto_collation, loader.collate_fn, loader.drop_last)

    def _next_batch(self) -> Any:
        return self._fetcher.fetch(next(self._sampler_iter))


class _MultiProcessingDataLoaderIter(_BaseDataLoaderIter):
    """Keeps workers busy with the next ``num_workers * prefetch_factor`` batches and gives those out in order."""

    def __init__(self, loader: DataLoader) -> None:
        import multiprocessing

        from ._utils.pool import WorkerPool
        from ._utils.worker import Job

        super().__init__(loader)
        batch_boundary()  # a forked worker must not inherit recorded work that has not run yet
        self._iterable = isinstance(loader.dataset, IterableDataset)
        jobs = [
            Job(
                worker_id=i,
                num_workers=loader.num_workers,
                base_seed=self._base_seed,
                dataset=loader.dataset,
                iterable=self._iterable,
                batching=loader._auto_collation,
                collate_fn=loader.collate_fn,
                drop_last=loader.drop_last,
                init_fn=loader.worker_init_fn,
            )
            for i in range(loader.num_workers)
        ]
        self._pool = WorkerPool(loader.multiprocessing_context or multiprocessing, jobs)
        # Not __del__: a finalizer also runs at interpreter exit, while the modules it needs are still whole.
        self._shutdown = weakref.finalize(self, self._pool.shutdown)
        self._persistent = loader.persistent_workers
        self._in_order = loader.in_order
        self._timeout = loader.timeout
        self._prefetch_factor = loader.prefetch_factor or 0
        self._begin()

    @property
    def _workers(self) -> list:
        return self._pool.processes

    def _begin(self) -> None:
        """Forget the last pass and ask for the first batches."""
        workers = self._num_workers
        self._exhausted = False
        self._tasks = itertools.count()  # numbers of requests
        self._pending: dict[int, int] = {}  # task -> its worker, oldest first
        self._arrived: dict[int, Any] = {}  # task -> batch or error, not yet given out
        self._load = [0] * workers  # requests under way, per worker
        self._ended = [False] * workers  # whose stream is exhausted
        self._turn = itertools.cycle(range(workers))
        for _ in range(workers * self._prefetch_factor):
            self._request()

    def _reset(self, loader: DataLoader) -> None:
        """Begin a new pass with the workers of the last one."""
        from ._utils.worker import Resume

        batch_boundary()
        self._sampler_iter = iter(self._index_sampler)
        self._num_yielded = 0
        self._promised_length = loader._promised_length
        for worker in range(self._num_workers):
            self._send(worker, Resume())
        resumed = 0
        while resumed < self._num_workers:  # results of a pass that was given up come first, and are dropped
            _, answer = self._receive()
            resumed += isinstance(answer, Resume)
        self._begin()

    def _request(self) -> None:
        """Send the next key to the worker whose turn it is; without keys or workers left, do nothing."""
        from ._utils.worker import Fetch

        worker = self._choose_worker()
        if worker is None:
            return
        try:
            key = next(self._sampler_iter)
        except StopIteration:
            return
        task = next(self._tasks)
        self._pending[task] = worker
        self._load[worker] += 1
        self._send(worker, Fetch(task, key))

    def _choose_worker(self) -> int | None:
        free = [worker for worker, ended in enumerate(self._ended) if not ended]
        if not free:
            return None
        if not self._in_order:  # a slow worker gets fewer batches
            return min(free, key=self._load.__getitem__)
        return next(worker for worker in self._turn if not self._ended[worker])

    def _next_batch(self) -> Any:
        if not self._shutdown.alive and not self._exhausted:
            raise RuntimeError("the workers of this DataLoader iterator are gone: an error or an interrupt ended them")
        while True:
            if not self._pending and not self._exhausted:
                self._request()  # with prefetch_factor=0 a batch is asked for when it is needed
            if not self._pending:
                self._exhausted = True
                if not self._persistent:
                    self._shutdown()
                raise StopIteration
            task = next(iter(self._pending)) if self._in_order else next(iter(self._arrived), None)
            if task in self._arrived:
                return self._give_out(task)
            self._take(*self._receive())

    def _give_out(self, task: int) -> Any:
        del self._pending[task]
        value = self._arrived.pop(task)
        self._request()
        if isinstance(value, ExceptionWrapper):
            value.reraise()
        return value

    def _take(self, worker: int, result: Any) -> None:
        self._load[worker] -= 1
        if not result.ended:
            self._arrived[result.task] = result.value
            return
        del self._pending[result.task]
        if not self._ended[worker]:
            self._ended[worker] = True
            self._request()  # what this worker would have made, another one makes

    def _send(self, worker: int, request: Any) -> None:
        try:
            self._pool.send(worker, request)
        except BaseException:
            self._shutdown()
            raise

    def _receive(self) -> tuple[int, Any]:
        timeout = self._timeout
        try:
            answer = self._pool.receive(timeout if timeout > 0 else None)
        except BaseException:
            # Interrupted, perhaps in the middle of a message: the connections cannot be used any more.
            self._shutdown()
            raise
        if answer is None:
            raise RuntimeError(f"DataLoader timed out after {timeout} seconds")
        return answer
