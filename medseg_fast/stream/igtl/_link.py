"""One TCP connection: whole messages in and out, within limits of size and time."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

from medseg_fast.stream.igtl._buffers import BufferPool
from medseg_fast.stream.igtl._wire import EXTENDED, HEADER, MAX_BODY, Header, crc64, parse_header
from medseg_fast.stream.igtl.messages import IMAGE_HEADER_SIZE, Message, decode

_TICK = 0.25  # s, after which a blocked call looks whether the connection is to end
_SOCKET_BUFFER = 8 << 20  # a 1080p RGB frame
_FIRST = 16 << 20
_PIECE = 512 << 10  # bytes summed up while they are in the cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a peer may do.

    Parameters
    ----------
    max_body : int
        Bytes of the largest message. A header alone makes us reserve 16 MiB at most: what is beyond
        is reserved, in doubling steps, as the data arrive.
    stall : float
        Seconds in which a header must be complete after its first byte, and in which a peer must
        take some of what we send.
    min_rate : float
        Bytes per second at which a body must come, or be at most `stall` seconds late. Between
        messages a peer may take its time.
    silence : float
        Seconds after which a server that has as many clients as it may lets another one take the
        place of a client to which, and from which, no message has gone.
    check_crc : bool
        Whether a message with a wrong CRC ends the connection.
    """

    max_body: int = MAX_BODY
    stall: float = 5.0
    min_rate: float = 1e6
    silence: float = 30.0
    check_crc: bool = True


def widen(sock: socket.socket) -> None:
    """Let the kernel's buffers hold a large frame; best before the socket connects or listens.

    A sender need not wait for the receiver to run then. Only where that is more than the kernel's
    own adjustment, which a fixed size ends, would reach.
    """
    for option, letter in ((socket.SO_RCVBUF, "r"), (socket.SO_SNDBUF, "w")):
        try:
            with open(f"/proc/sys/net/core/{letter}mem_max") as file:
                size = min(int(file.read()), _SOCKET_BUFFER)
            with open(f"/proc/sys/net/ipv4/tcp_{letter}mem") as file:
                adjusted = int(file.read().split()[2])
        except (OSError, ValueError, IndexError):  # not Linux
            continue
        if 2 * size > adjusted:  # the kernel doubles what it is told
            sock.setsockopt(socket.SOL_SOCKET, option, size)


class Link:
    """A connected socket. One thread may receive while others send.

    Errors are ProtocolError, TimeoutError and ConnectionError (all but the first are OSError); the
    link is of no use after one.
    """

    def __init__(self, sock: socket.socket, limits: Limits, pool: BufferPool) -> None:
        self.limits, self.pool = limits, pool
        self.name = "{}:{}".format(*sock.getpeername()[:2])
        self.bytes_in = 0
        self.begun, self.heard = time.monotonic(), False
        self._socket = sock
        self._head = bytearray(HEADER.size)
        self._largest = _FIRST
        self._sending = threading.Lock()
        self._closed = False
        # Timeouts of the kernel instead of Python's, which would poll before each call and are
        # shared by the thread that sends and the one that receives.
        sock.settimeout(None)
        tick = struct.pack("ll", int(_TICK), int(_TICK % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, tick)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, tick)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that vanished is noticed within some 5 s, even when nothing is sent.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", 1),
            ("TCP_KEEPINTVL", 1),
            ("TCP_KEEPCNT", 4),
            ("TCP_USER_TIMEOUT", int(1000 * limits.stall)),
        ):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def receive(self) -> Message | None:
        """Wait for the next message; None when the peer has ended the connection."""
        if not self._fill(memoryview(self._head), "header"):
            return None
        header = parse_header(self._head, self.limits.max_body)
        self.heard = True
        body, crc = self._body(header)
        self.bytes_in += HEADER.size + header.body_size
        message = decode(header, body, crc=crc)
        message.received_ns = time.monotonic_ns()
        message.sender = self.name
        return message

    def send(self, parts: list[Any], timeout: float | None = None) -> None:
        """Hand all parts of a message to the kernel, within `timeout` or as long as it moves."""
        end = time.monotonic() + (self.limits.stall if timeout is None else timeout)
        if not self._sending.acquire(timeout=max(0, end - time.monotonic())):
            raise TimeoutError("send: other messages are still being sent")
        views, whole = [memoryview(part) for part in parts if len(part)], True
        try:
            while views:
                try:
                    sent = self._socket.sendmsg(views)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                if self._closed:
                    raise ConnectionAbortedError("send: the connection was closed")
                whole = whole and not sent
                if sent and timeout is None:
                    end = time.monotonic() + self.limits.stall
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if views:
                    views[0] = views[0][sent:]
                    if time.monotonic() > end:
                        raise TimeoutError("send: the peer does not take what is sent")
        except OSError as error:
            if not (whole and isinstance(error, TimeoutError)):
                self.shut()  # the peer has half a message, or is gone
            if isinstance(error, (ConnectionError, TimeoutError)):
                raise
            raise ConnectionError(f"send: {error}") from error
        finally:
            self._sending.release()

    def send_some(self, parts: list[Any]) -> int:
        """Hand over what the kernel takes without waiting; returns how many bytes."""
        try:
            return self._socket.sendmsg(parts, (), socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return 0

    def shut(self) -> None:
        """End the connection: who waits in `receive` or `send` returns. Any thread may."""
        self._closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # the peer was first
            pass

    def close(self) -> None:
        """Free the socket, once no thread uses the link any more."""
        self.shut()
        self._socket.close()

    def _body(self, header: Header) -> tuple[Any, int]:
        """The bytes, and their checksum or the one expected.

        Each piece is summed up while it is in the cache, and while the next one is on its way.
        """
        size, check = header.body_size, self.limits.check_crc
        crc = 0 if check else header.crc
        # So that pixels lie on a cache line, which aligns every dtype.
        before = IMAGE_HEADER_SIZE + (EXTENDED.size if header.version > 1 else 0)
        start = -before % 64
        # Trust grows with what has come.
        room = min(size, self._largest)
        buffer = self.pool.take(start + room)
        got, begun = 0, time.monotonic()
        try:
            while got < size:
                if got == room:
                    room = min(size, 2 * room)
                    larger = self.pool.take(start + room)
                    larger[: start + got] = buffer[: start + got]
                    self.pool.give(buffer)
                    buffer = larger
                piece = min(room, got + _PIECE)
                with buffer.data as whole:
                    self._fill(whole[start + got : start + piece], "body", begun, got)
                if check:
                    crc = crc64(buffer[start + got : start + piece], crc)
                got = piece
        except BaseException:
            self.pool.give(buffer)
            raise
        self._largest = max(self._largest, size)
        return self.pool.lend(buffer, start, size), crc

    def _fill(
        self, view: memoryview, part: str, begun: float | None = None, before: int = 0
    ) -> bool:
        """Receive until `view` is full; False if the peer ended before a header's first byte.

        A body has `begun` at that time, and `before` bytes of it have come.
        """
        limits = self.limits
        got, wanted = 0, len(view)
        while got < wanted:
            try:
                n = self._socket.recv_into(view[got:], wanted - got, socket.MSG_WAITALL)
            except (BlockingIOError, InterruptedError):
                n = -1
            if self._closed:
                raise ConnectionAbortedError("the connection was closed")
            if n == 0:
                if begun is None:
                    return False
                raise ConnectionError(f"the peer ended the connection within a {part}")
            if n > 0:
                got += n
                begun = begun or time.monotonic()
            if got < wanted and begun is not None:
                earned = (before + got) / limits.min_rate if part == "body" else 0
                if time.monotonic() > begun + limits.stall + earned:
                    raise TimeoutError(f"the {part} comes too slowly")
        return True
