"""What both ends of an OpenIGTLink connection share.

Threads of their own receive and, in the server, send, so that no caller waits for a peer longer
than it asked to. What a peer does wrong ends its connection with a reason, which the logger
"medseg_fast.stream.igtl" and `on_state` get, and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from medseg_fast.stream._thread import checked_priority
from medseg_fast.stream.igtl._buffers import BufferPool
from medseg_fast.stream.igtl._link import Limits, Link
from medseg_fast.stream.igtl._queue import BoundedQueue
from medseg_fast.stream.igtl._wire import as_bytes
from medseg_fast.stream.igtl.messages import Message

log = logging.getLogger("medseg_fast.stream.igtl")


class State(NamedTuple):
    """What happened to a connection.

    `name` is "connected", "lost" (`reason` says why) or "refused" (the server had enough clients);
    `peer` is the other end's address.
    """

    name: str
    peer: str
    reason: str = ""


class Endpoint:
    """What client and server share: limits, buffers, the queue of received messages, state."""

    def __init__(
        self,
        limits: Limits | None,
        queue: int,
        policy: str,
        on_state: Callable[[State], None] | None,
        priority: int | None,
    ) -> None:
        if policy not in ("drop", "block"):
            raise ValueError(f"{type(self).__name__}: policy must be drop or block, got {policy!r}")
        self.limits = limits or Limits()
        self._priority = checked_priority(type(self).__name__, priority)
        self._pool = BufferPool()
        self._inbox: BoundedQueue[Message] = BoundedQueue(
            queue, policy == "block", lambda m: (m.sender, m.type_name(), m.device)
        )
        self._on_state = on_state
        self._ending = threading.Event()
        self._counts = dict.fromkeys(("received", "sent", "bytes_in", "lost"), 0)
        self._counting = threading.Lock()

    def receive(self, timeout: float | None = None) -> Message | None:
        """The oldest message that has arrived.

        Its arrays are views of a buffer, which is used again when the last of them is gone.

        Returns
        -------
        message : Message or None
            None after `timeout` seconds, or if this end is closed and no message is left.
        """
        return self._inbox.get(timeout)

    def keep_all(self) -> None:
        """From now on nothing received is dropped: ``policy="block"``."""
        self._inbox.block = True

    def _kept(self, part: Any) -> Any:
        """A part of an encoded message that its caller may change meanwhile."""
        if isinstance(part, bytes):
            return part
        source = as_bytes(part)
        buffer = self._pool.take(source.size)
        np.copyto(buffer[: source.size], source)
        return self._pool.lend(buffer, 0, source.size)

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, n in more.items():
                self._counts[name] += n

    def _tell(self, name: str, peer: str, reason: str = "") -> None:
        bad = name != "connected" and bool(reason)
        log.log(logging.WARNING if bad else logging.INFO, "%s %s %s", peer, name, reason)
        if self._on_state is not None:
            try:
                self._on_state(State(name, peer, reason))
            except Exception:
                log.exception("on_state failed")

    def _receive_all(self, link: Link) -> str:
        """Put messages into the inbox until the link ends; returns why it did, "" if in order."""
        try:
            while (message := link.receive()) is not None:
                self._count(received=1, bytes_in=link.bytes_in)
                link.bytes_in = 0
                if not self._inbox.put(message):
                    break
                del message  # its buffer is free as soon as the receiver lets go of it
        except (ValueError, OSError, MemoryError) as error:
            return "" if self._ending.is_set() else f"{type(error).__name__}: {error}"
        except Exception as error:  # a fault of ours must not end the endpoint
            log.exception("receiving from %s failed", link.name)
            return f"{type(error).__name__}: {error}"
        return ""
