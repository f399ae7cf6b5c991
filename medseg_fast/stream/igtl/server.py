"""The end of OpenIGTLink connections that listens: what it sends goes to every client."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from medseg_fast.stream._thread import start_thread
from medseg_fast.stream.igtl._endpoint import Endpoint, State, log
from medseg_fast.stream.igtl._link import Limits, Link, widen
from medseg_fast.stream.igtl._queue import BoundedQueue
from medseg_fast.stream.igtl.messages import Message, encode


class _Outgoing(NamedTuple):
    parts: list[Any]
    begun: bool  # the kernel has some of it: it must not be dropped


class _Peer:
    """A client of the server: its link, and the thread and queue that send to it."""

    def __init__(self, link: Link, queue: int) -> None:
        self.link = link
        self.queue: BoundedQueue[_Outgoing] = BoundedQueue(queue, key=lambda o: o.begun)
        self.reason = ""
        self.sent = 0
        self.sender = threading.Thread(target=self._send_all, name="igtl send", daemon=True)

    def offer(self, parts: list[Any], keep: Callable[[], list[Any]]) -> bool:
        """Send a message at once as far as that needs no waiting; queue the rest.

        Most frames need no other thread this way, which would take its time to wake, nor a copy,
        which `keep` makes.
        """

        def send_or_make(idle: bool) -> _Outgoing | None:
            sent = self.link.send_some(parts) if idle else 0
            rest = keep() if sent < sum(map(len, parts)) else []
            while rest and sent >= len(rest[0]):
                sent -= len(rest[0])
                rest = rest[1:]
            if not rest:
                self.sent += 1
                return None
            begun = sent > 0 or len(rest) < len(parts)
            return _Outgoing([memoryview(rest[0])[sent:], *rest[1:]], begun)

        try:
            return self.queue.put_made(send_or_make)
        except OSError as error:
            self.reason = f"{type(error).__name__}: {error}"
            self.link.shut()
            return False

    def _send_all(self) -> None:
        try:
            while (message := self.queue.get()) is not None:
                self.link.send(message.parts)
                self.sent += 1
                del message  # its buffer is free when all clients have it
        except (OSError, ValueError) as error:
            self.reason = f"{type(error).__name__}: {error}"
        self.link.shut()


class Server(Endpoint):
    """Accepts clients, sends every message to all of them, and receives from all.

    Parameters
    ----------
    port : int
        0 for a free one, which the attribute `port` tells.
    host : str
        Address to listen on: by default this machine only. "" is all addresses; the protocol has
        neither passwords nor encryption, so do so within a protected network only.
    queue, policy, limits, on_state
        As for `Client`.
    send_queue : int
        Messages that wait for one client at most, 2 or more: then its oldest that is not half sent
        is dropped and counted. A slow client delays nobody else.
    max_clients : int
        More are refused, but for the place of one that is silent (`Limits.silence`).
    priority : int, optional
        Real-time priority of all threads, as for `Client`.
    """

    def __init__(
        self,
        port: int = 18944,
        host: str = "127.0.0.1",
        *,
        queue: int = 8,
        policy: str = "drop",
        send_queue: int = 8,
        max_clients: int = 16,
        limits: Limits | None = None,
        on_state: Callable[[State], None] | None = None,
        priority: int | None = None,
    ) -> None:
        super().__init__(limits, queue, policy, on_state, priority)
        if send_queue < 2:
            raise ValueError(f"Server: send_queue must be at least 2, got {send_queue}")
        self.max_clients, self.send_queue = max_clients, send_queue
        self._counts.update(refused=0, send_dropped=0)
        self._peers: dict[Link, _Peer] = {}
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._next_note = 0.0
        self._socket = socket.create_server((host, port), backlog=64)
        widen(self._socket)  # what accept() gives has its settings
        self.host, self.port = self._socket.getsockname()[:2]
        try:
            # The threads that it starts have its priority.
            self._thread = start_thread("igtl server", self._accept, self._priority)
        except PermissionError:
            self._socket.close()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def clients(self) -> list[str]:
        """Addresses of the clients."""
        with self._changed:
            return [link.name for link in self._peers]

    def wait_clients(self, n: int = 1, timeout: float | None = None) -> bool:
        """Wait until there are at least `n` clients; False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._peers) >= n, timeout)

    @property
    def stats(self) -> dict[str, int]:
        """Messages received, sent and dropped, bytes received, clients lost and refused.

        `dropped` were received, `send_dropped` waited to be sent; `sent` counts each client.
        """
        with self._changed:
            peers = list(self._peers.values())
        totals = {**self._counts, "dropped": self._inbox.dropped}
        totals["sent"] += sum(peer.sent for peer in peers)
        totals["send_dropped"] += sum(peer.queue.dropped for peer in peers)
        return totals

    def send(self, message: Message, *, copy: bool = True) -> int:
        """Send a message to every client, as far as that needs no waiting, and queue the rest.

        Parameters
        ----------
        message : Message
        copy : bool, optional
            Copy pixels that have to wait into a buffer that is used again. Without, the caller must
            not change them until all clients have them.

        Returns
        -------
        clients : int
            To how many it is sent or queued.
        """
        with self._changed:
            peers = list(self._peers.values())
        if not peers:
            return 0
        parts = [part for part in encode(message) if len(part)]
        keep = functools.cache(lambda: [self._kept(p) for p in parts] if copy else parts)
        return sum(peer.offer(parts, keep) for peer in peers)

    def close(self) -> None:
        """End all connections and threads. What has arrived can still be received."""
        self._ending.set()
        self._inbox.close()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._join(self._thread)  # first: it may just be taking in one more client
        with self._changed:
            peers, threads = list(self._peers.values()), list(self._threads)
        for peer in peers:
            peer.link.shut()
        for thread in threads:
            self._join(thread)
        self._socket.close()

    @staticmethod
    def _join(thread: threading.Thread) -> None:
        if thread is not threading.current_thread():  # close() may be called by on_state
            thread.join(5)

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                sock, address = self._socket.accept()
            except OSError as error:
                if not self._ending.is_set():  # no file descriptor left, say
                    log.error("accept: %s", error)
                    self._ending.wait(0.1)
                continue
            if len(self._peers) >= self.max_clients and not self._part_with_a_silent_one():
                sock.close()
                self._refuse("{}:{}".format(*address[:2]), f"{self.max_clients} clients at most")
                continue
            try:
                peer = _Peer(Link(sock, self.limits, self._pool), self.send_queue)
            except OSError:  # gone already
                sock.close()
                continue
            thread = threading.Thread(
                target=self._serve, args=(peer,), name="igtl receive", daemon=True
            )
            with self._changed:
                self._peers[peer.link] = peer
                self._threads.add(thread)
                self._changed.notify_all()
            try:
                peer.sender.start()
                thread.start()
            except RuntimeError as error:  # no thread to be had
                peer.queue.close()
                self._forget(peer, thread)
                self._refuse(peer.link.name, str(error))

    def _part_with_a_silent_one(self) -> bool:
        """End the oldest connection that was of no use for long, if there is one."""
        latest = time.monotonic() - self.limits.silence
        with self._changed:
            for link, peer in self._peers.items():
                if not (link.heard or peer.sent or peer.reason) and link.begun < latest:
                    peer.reason = f"silent for {self.limits.silence:g} s, and another client came"
                    link.shut()
                    return True
        return False

    def _refuse(self, peer: str, reason: str) -> None:
        self._count(refused=1)
        # Thousands of attempts must not fill the log.
        if time.monotonic() >= self._next_note:
            self._next_note = time.monotonic() + 1
            self._tell("refused", peer, f"{reason} ({self._counts['refused']} refused so far)")

    def _serve(self, peer: _Peer) -> None:
        link = peer.link
        self._tell("connected", link.name)
        reason = self._receive_all(link)
        link.shut()
        peer.queue.close()
        peer.sender.join()
        self._forget(peer, threading.current_thread())
        if not self._ending.is_set():
            self._count(lost=1)
            # What the sending thread met is the cause of what the receiving one did.
            self._tell("lost", link.name, peer.reason or reason)

    def _forget(self, peer: _Peer, thread: threading.Thread) -> None:
        peer.link.close()
        with self._changed:
            self._peers.pop(peer.link, None)
            self._threads.discard(thread)
            self._counts["sent"] += peer.sent
            self._counts["send_dropped"] += peer.queue.dropped
