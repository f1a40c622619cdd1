"""Reading ahead: the items of an iterator are computed in a thread beside their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def read_ahead(items: Iterator[Item], *, most: int) -> Iterator[Iterator[Item]]:
    """Compute items in a thread, at most so many of them before they are used.

    Errors are raised where the item is used. The thread has ended when the block is left, so that the file
    that the items come from can be closed.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            yield _taken(thread, items, most)
        finally:
            thread.shutdown(cancel_futures=True)


def _taken(thread: ThreadPoolExecutor, items: Iterator[Item], most: int) -> Iterator[Item]:
    waiting = deque(thread.submit(next, items, None) for _ in range(most))
    while (item := waiting.popleft().result()) is not None:
        waiting.append(thread.submit(next, items, None))
        yield item
