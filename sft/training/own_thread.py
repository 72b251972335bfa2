"""Calls made one after another in a thread of their own, for what may hang; nobody has to wait for them."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any


class OwnThread:
    """A thread that makes the calls that it is asked for, in their order.

    No ThreadPoolExecutor: Python waits for its threads when the process ends, and what hangs would keep it.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._asked: deque[float] = deque()  # when, for each call that has not ended
        Thread(target=self._work, name=name, daemon=True).start()

    def ask(self, call: Callable[[], Any]) -> Future[Any]:
        """Have a call made; what it returns or raises is in the future."""
        future: Future[Any] = Future()
        self._asked.append(time.monotonic())
        self._calls.put((future, call))
        return future

    def behind(self) -> float:
        """Return for how many seconds the first of the calls that have not ended has been waited for."""
        try:
            return time.monotonic() - self._asked[0]
        except IndexError:
            return 0.0

    def close(self) -> None:
        """End the thread after the calls that it has been asked for."""
        self._calls.put(None)

    def _work(self) -> None:
        while asked := self._calls.get():
            future, call = asked
            result, failure = None, None
            try:
                result = call()
            except BaseException as error:
                failure = error
            self._asked.popleft()
            if failure:
                future.set_exception(failure)
            else:
                future.set_result(result)
