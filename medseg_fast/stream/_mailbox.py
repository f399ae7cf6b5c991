"""What waits between the thread that receives frames and the one that works on them."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue of one producer and one consumer.

    Parameters
    ----------
    capacity : int
        How many items wait at most.
    replace : bool
        True: an item that finds the queue full takes the place of the oldest. False: the producer
        waits.
    """

    def __init__(self, capacity: int, *, replace: bool) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._replace = replace
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> T | None:
        """Add an item; returns the one that lost its place to it, which is itself after `close`."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._closed and not self._replace:
                self._changed.wait()
            if self._closed:
                return item
            lost = self._items.popleft() if len(self._items) >= self._capacity else None
            self._items.append(item)
            self._changed.notify_all()
            return lost

    def get(self) -> T | None:
        """The oldest item, waiting for one; None when the box is closed and empty."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more items: what waits is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[T]:
        """Take out what waits."""
        with self._changed:
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return items
