"""Bounded queues between the threads of connections and the caller's."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """First in, first out, with a place for so many.

    Parameters
    ----------
    capacity : int
    block : bool
        Who puts into a full queue waits for a place; else the oldest item makes place, and is
        counted.
    key : callable
        Of those with the key of the new item, if there are any, the oldest makes place: many frames
        do not push out a rare status.
    """

    def __init__(
        self, capacity: int, block: bool = False, key: Callable[[T], Hashable] = lambda item: None
    ) -> None:
        if capacity < 1:
            raise ValueError(f"queue: capacity must be at least 1, got {capacity}")
        self.capacity, self.block, self.key = capacity, block, key
        self.dropped = 0
        self.closed = False
        self._waiting = 0
        self._items: deque[T] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Add an item; False if the queue is closed."""
        return self.put_made(lambda idle: item)

    def put_made(self, make: Callable[[bool], T | None]) -> bool:
        """Add what `make` returns; None is nothing, False is returned if the queue is closed.

        `make` is told whether the queue is empty and its taker waits, which remains so meanwhile:
        then it may do at once what the taker would.
        """
        with self._changed:
            while self.block and len(self._items) == self.capacity and not self.closed:
                self._changed.wait()
            if self.closed:
                return False
            item = make(self._waiting > 0 and not self._items)
            if item is None:
                return True
            if len(self._items) == self.capacity:
                key = self.key(item)
                oldest = next((i for i, x in enumerate(self._items) if self.key(x) == key), 0)
                del self._items[oldest]
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T | None:
        """The oldest item; None after `timeout` seconds, or if the queue is closed and empty."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items:
                left = None if end is None else end - time.monotonic()
                if self.closed or (left is not None and left <= 0):
                    return None
                self._waiting += 1
                self._changed.wait(left)
                self._waiting -= 1
            item = self._items.popleft()
            if self.block:
                self._changed.notify_all()
            return item

    def close(self) -> None:
        """Wake all who wait; nothing more can be put."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
