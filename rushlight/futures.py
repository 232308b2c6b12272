"""``torch.futures``: values that somebody will set."""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Future", "collect_all", "wait_all"]

T = TypeVar("T")


class Future(Generic[T]):
    """A value that some thread sets, once, and others wait for.

    Args:
        devices: GPUs whose streams take part; there are none.

    Example:
        >>> future = Future()
        >>> doubled = future.then(lambda f: 2 * f.value())
        >>> future.set_result(4)
        >>> doubled.wait()
        8
    """

    def __init__(self, *, devices: list[Any] | None = None) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Future[T]], None]] = []
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Whether it has a value, or an error."""
        return self._set.is_set()

    def wait(self) -> T:
        """The value, when it is there.

        Raises:
            Exception: the error that was set instead.
        """
        self._set.wait()
        return self.value()

    def value(self) -> T:
        """The value, which has to be there.

        Raises:
            RuntimeError: it is not. Exception: the error that was set instead.
        """
        if not self.done():
            raise RuntimeError("Future has not been marked complete: wait for it before asking for its value")
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Call ``callback(self)`` when there is a value: at once, if there is one."""
        with self._lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        callback(self)

    def then(self, callback: Callable[[Future[T]], Any]) -> Future[Any]:
        """A future of what ``callback(self)`` will return."""
        follower: Future[Any] = Future()

        def follow(future: Future[T]) -> None:
            try:
                result = callback(future)
            except BaseException as error:  # whoever waits for the follower gets it
                follower.set_exception(error)
            else:
                follower.set_result(result)

        self.add_done_callback(follow)
        return follower

    def set_result(self, result: T) -> None:
        """Give it its value.

        Raises:
            RuntimeError: it has one, or an error.
        """
        self._complete(result, None)

    def set_exception(self, result: BaseException) -> None:
        """Give it an error, which is raised wherever the value is asked for."""
        assert isinstance(result, BaseException), f"{result} is of type {type(result)}, not an Exception."
        self._complete(None, result)

    def _complete(self, result: Any, error: BaseException | None) -> None:
        with self._lock:
            if self.done():
                raise RuntimeError("Future can only be marked completed once")
            self._result, self._error = result, error
            self._set.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


def collect_all(futures: list[Future[Any]]) -> Future[list[Future[Any]]]:
    """A future of the whole list, done when all of them are."""
    together: Future[list[Future[Any]]] = Future()
    lock, left = threading.Lock(), [len(futures)]

    def one(_: Future[Any]) -> None:
        with lock:
            left[0] -= 1
            last = not left[0]
        if last:
            together.set_result(futures)

    if not futures:
        together.set_result(futures)
    for future in futures:
        future.add_done_callback(one)
    return together


def wait_all(futures: list[Future[Any]]) -> list[Any]:
    """The values of all of them, when they are there.

    Raises:
        Exception: the first error among them.
    """
    return [future.wait() for future in collect_all(futures).wait()]
