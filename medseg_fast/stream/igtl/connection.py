"""OpenIGTLink over TCP: `Client` connects to one peer, `Server` serves many.

Threads of their own receive and, in the server, send, so that no caller waits for a peer longer
than it asked to. What a peer does wrong ends its connection with a reason, which the logger
"medseg_fast.stream.igtl" and `on_state` get, and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from medseg_fast.stream.igtl._buffers import BufferPool
from medseg_fast.stream.igtl._link import Limits, Link, widen
from medseg_fast.stream.igtl._queue import BoundedQueue
from medseg_fast.stream.igtl._wire import as_bytes
from medseg_fast.stream.igtl.messages import Message, encode

log = logging.getLogger("medseg_fast.stream.igtl")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # s, between attempts to connect


class State(NamedTuple):
    """What happened to a connection.

    `name` is "connected", "lost" (`reason` says why) or "refused" (the server had enough clients);
    `peer` is the other end's address.
    """

    name: str
    peer: str
    reason: str = ""


class _Endpoint:
    """What client and server share: limits, buffers, the queue of received messages, state."""

    def __init__(
        self,
        limits: Limits | None,
        queue: int,
        policy: str,
        on_state: Callable[[State], None] | None,
    ) -> None:
        if policy not in ("drop", "block"):
            raise ValueError(f"{type(self).__name__}: policy must be drop or block, got {policy!r}")
        self.limits = limits or Limits()
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


class Client(_Endpoint):
    """A connection to one peer, made again whenever it is lost.

    Attempts to connect start at once and follow each other after 0.05 to 0.5 s.

    Parameters
    ----------
    host : str
    port : int
        18944 is the protocol's.
    queue : int
        Received messages that wait for `receive` at most.
    policy : {"drop", "block"}
        If more come: the oldest of that sender, type and device is dropped and counted, or nothing
        more is read, so that the peer has to wait.
    limits : Limits, optional
    on_state : callable, optional
        Called with each `State`, by a thread of the client.
    connect_timeout : float
        Seconds for one attempt.

    Examples
    --------
    >>> from medseg_fast.stream.igtl import Client, Server, Status
    >>> with Server(0) as server, Client(port=server.port) as client:
    ...     _ = client.wait_connected(5)
    ...     client.send(Status(text="ready"))
    ...     server.receive(5).text
    'ready'
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 18944,
        *,
        queue: int = 8,
        policy: str = "drop",
        limits: Limits | None = None,
        on_state: Callable[[State], None] | None = None,
        connect_timeout: float = 1.0,
    ) -> None:
        super().__init__(limits, queue, policy, on_state)
        if not 0 < port < 65536:
            raise ValueError(f"Client: port must be from 1 to 65535, got {port}")
        self.host, self.port, self.connect_timeout = host, port, connect_timeout
        self._link: Link | None = None
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="igtl client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connected.is_set()

    def wait_connected(self, timeout: float | None = None) -> bool:
        """Wait for a connection; False after `timeout` seconds."""
        return self._connected.wait(timeout)

    @property
    def stats(self) -> dict[str, int]:
        """Messages received, sent and dropped, bytes received, and connections lost."""
        return {**self._counts, "dropped": self._inbox.dropped}

    def send(self, message: Message, timeout: float | None = None) -> None:
        """Send a message; returns when the kernel has all of it, so its arrays may change.

        Parameters
        ----------
        message : Message
        timeout : float, optional
            Seconds that it may take; default: as long as the peer takes some every
            ``limits.stall`` seconds.

        Raises
        ------
        ConnectionError
            If there is no connection, or it is lost meanwhile.
        TimeoutError
            If it takes too long. If the peer has half a message by then, the connection is given
            up.
        """
        parts = encode(message)
        link = self._link
        if link is None:
            raise ConnectionError(f"send: not connected to {self.host}:{self.port}")
        link.send(parts, timeout)
        self._count(sent=1)

    def close(self) -> None:
        """End the connection and the thread. What has arrived can still be received."""
        self._ending.set()
        self._inbox.close()
        if (link := self._link) is not None:
            link.shut()
        if threading.current_thread() is not self._thread:
            self._thread.join(self.connect_timeout + 5)

    def _connect(self) -> socket.socket:
        error: OSError = ConnectionError(f"no address of {self.host}")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                widen(sock)
                sock.settimeout(self.connect_timeout)
                sock.connect(address)
                # Linux connects a socket to itself if the port it chose is the one asked for.
                if sock.getsockname() == sock.getpeername():
                    raise ConnectionRefusedError("nobody listens")
                return sock
            except OSError as e:
                sock.close()
                error = e
        raise error

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ending.is_set():
            try:
                link = Link(self._connect(), self.limits, self._pool)
            except (OSError, UnicodeError) as error:
                log.debug("%s:%s: %s", self.host, self.port, error)
                self._ending.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            self._link = link
            if self._ending.is_set():  # close() may have looked before there was a link
                link.shut()
            self._connected.set()
            self._tell("connected", link.name)
            reason = self._receive_all(link)
            self._connected.clear()
            self._link = None
            link.close()
            if not self._ending.is_set():
                self._count(lost=1)
                self._tell("lost", link.name, reason or "the peer ended the connection")
                # A peer that accepts and hangs up must not keep this thread busy.
                self._ending.wait(pause)


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


class Server(_Endpoint):
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
        More are refused.
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
    ) -> None:
        super().__init__(limits, queue, policy, on_state)
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
        self._thread = threading.Thread(target=self._accept, name="igtl server", daemon=True)
        self._thread.start()

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

    def _kept(self, part: Any) -> Any:
        if isinstance(part, bytes):
            return part
        source = as_bytes(part)
        buffer = self._pool.take(source.size)
        np.copyto(buffer[: source.size], source)
        return self._pool.lend(buffer, 0, source.size)

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                sock, address = self._socket.accept()
            except OSError as error:
                if not self._ending.is_set():  # no file descriptor left, say
                    log.error("accept: %s", error)
                    self._ending.wait(0.1)
                continue
            if len(self._peers) >= self.max_clients:
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
