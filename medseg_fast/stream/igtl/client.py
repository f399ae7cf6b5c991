"""The end of an OpenIGTLink connection that asks for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from medseg_fast.stream._thread import start_thread
from medseg_fast.stream.igtl._endpoint import Endpoint, State, log
from medseg_fast.stream.igtl._link import Limits, Link, widen
from medseg_fast.stream.igtl._queue import BoundedQueue
from medseg_fast.stream.igtl.messages import Message, encode

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # s, between attempts to connect
_LAST = 1.0  # s, to send what waits at the end


class Client(Endpoint):
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
    send_queue : int
        What waits at most after `post`: then the oldest is dropped and counted.
    priority : int, optional
        Real-time priority (SCHED_FIFO, 1 to 99) of the threads that connect, receive and send,
        which needs the right to it; on a busy machine messages wait for milliseconds otherwise.

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
        send_queue: int = 8,
        priority: int | None = None,
    ) -> None:
        super().__init__(limits, queue, policy, on_state, priority)
        self._outbox: BoundedQueue[tuple[int, list[Any]]] = BoundedQueue(send_queue)
        if not 0 < port < 65536:
            raise ValueError(f"Client: port must be from 1 to 65535, got {port}")
        self.host, self.port, self.connect_timeout = host, port, connect_timeout
        self._link: Link | None = None
        self._connected = threading.Event()
        self._counts.update(send_dropped=0)
        self._sender = start_thread("igtl send", self._send_all, self._priority)
        self._thread = start_thread("igtl client", self._run, self._priority)

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
        """Messages received, sent and dropped, bytes received, and connections lost.

        `dropped` were received; `send_dropped` counts what `post` was given in vain.
        """
        totals = {**self._counts, "dropped": self._inbox.dropped}
        totals["send_dropped"] += self._outbox.dropped
        return totals

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

    def post(self, *messages: Message) -> bool:
        """Queue a copy of messages, which are sent in a row without making the caller wait.

        Parameters
        ----------
        *messages : Message
            In the queue they are one, which is sent or dropped as a whole.

        Returns
        -------
        queued : bool
            False if there is no connection now.
        """
        if self._link is None:
            return False
        parts = [self._kept(part) for m in messages for part in encode(m) if len(part)]
        return self._outbox.put((len(messages), parts))

    def _send_all(self) -> None:
        while (posted := self._outbox.get()) is not None:
            count, parts = posted
            try:
                if (link := self._link) is None:
                    raise ConnectionError("not connected")
                link.send(parts)
                self._count(sent=count)
            except OSError as error:
                log.warning("%s:%s: %s", self.host, self.port, error)
                self._count(send_dropped=1)
            del posted, parts  # their buffers are free

    def close(self) -> None:
        """End the connection and the threads. What has arrived can still be received.

        What `post` was given is sent, unless the peer takes nothing for a second.
        """
        self._outbox.close()
        self._sender.join(_LAST)
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
        try:
            raise error
        finally:
            del error  # its traceback holds this frame, and a stream's garbage is not collected

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
