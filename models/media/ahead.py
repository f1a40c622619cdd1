"""Reading ahead: the items of an iterator are computed in a thread beside their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
PARTS = 3
"""Parts in which what is read ahead is handed over."""


@contextmanager
def read_ahead(items: Iterator[Item], *, most: int) -> Iterator[Iterator[Item]]:
    """Compute items in a thread, at most so many of them before they are used.

    Errors are raised when the item is due, or a little earlier. The thread has ended when the block is
    left, so that the file that the items come from can be closed.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            yield _taken(thread, items, most)
        finally:
            thread.shutdown(cancel_futures=True)


def _taken(thread: ThreadPoolExecutor, items: Iterator[Item], most: int) -> Iterator[Item]:
    # Handing over several at once costs less.
    size = max(1, most // PARTS)
    waiting = deque(thread.submit(_next, items, size) for _ in range(most // size))
    while part := waiting.popleft().result():
        waiting.append(thread.submit(_next, items, size))
        yield from part


def _next(items: Iterator[Item], size: int) -> list[Item]:
    return list(islice(items, size))
