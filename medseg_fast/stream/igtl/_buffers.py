"""Receive buffers that are used again as soon as nothing refers to them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from medseg_fast.stream.igtl._wire import Bytes

# Smaller ones are left to malloc.
_SMALL = 1 << 14
_LINE = 64


class BufferPool:
    """Byte arrays to receive into; thread-safe.

    Parameters
    ----------
    most : int
        Bytes of free buffers kept at most; those in use do not count.
    """

    def __init__(self, most: int = 1 << 28) -> None:
        self.most = most
        self.allocated = 0  # buffers made so far, for tests
        self._free: list[Bytes] = []
        # Re-entrant: a garbage collection may drop a lease while this thread holds the lock.
        self._lock = threading.RLock()

    def take(self, size: int) -> Bytes:
        """A buffer of at least `size` bytes, which lies on a cache line."""
        with self._lock:
            # A much larger one is left for a larger message.
            fit = [b for b in self._free if size <= b.size <= max(4 * size, _SMALL)]
            if fit:
                best = min(fit, key=len)
                self._free = [b for b in self._free if b is not best]
                return best
            self.allocated += 1
        whole = np.empty(size + _LINE, np.uint8)
        start = -_address(whole) % _LINE
        return whole[start : start + size]

    def give(self, buffer: Bytes) -> None:
        """Take a buffer back."""
        if buffer.size < _SMALL:
            return
        with self._lock:
            self._free.insert(0, buffer)
            # The one that was not used for the longest time goes first.
            while sum(map(len, self._free)) > self.most:
                self._free.pop()

    def lend(self, buffer: Bytes, start: int, size: int) -> Bytes:
        """Part of a taken buffer; `give` follows when the last view of it is gone."""
        if buffer.size < _SMALL:
            return buffer[start : start + size]
        return np.asarray(_Lease(self, buffer, start, size))


class _Lease:
    """The base of a lent array and of all its views, so it lives as long as they do."""

    __slots__ = ("__array_interface__", "buffer", "pool")

    def __init__(self, pool: BufferPool, buffer: Bytes, start: int, size: int) -> None:
        self.pool, self.buffer = pool, buffer
        self.__array_interface__: dict[str, Any] = {
            "data": (_address(buffer) + start, False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        self.pool.give(self.buffer)


def _address(array: Bytes) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
