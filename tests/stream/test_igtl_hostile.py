"""A server of OpenIGTLink among peers that mean it ill, or know no better: it lives on."""

import logging
import os
import random
import socket
import struct
import threading
import time

import numpy as np
import pytest
from _igtl import SOON, connect, ended, until, wire

from medseg_fast.stream.igtl import Client, Image, Limits, Server, Status


@pytest.fixture
def states():
    return []


@pytest.fixture
def server(states):
    limits = Limits(max_body=1 << 30, stall=0.4, min_rate=1e5)
    with Server(0, limits=limits, max_clients=6, on_state=states.append) as server:
        yield server


def works(server):
    """Whether an honest client is served."""
    end = time.monotonic() + SOON
    with Client(port=server.port) as client:
        while time.monotonic() < end:
            try:  # refused as long as hostile ones that have gone still wait to be let in
                client.send(Status(7, text="honest"))
            except ConnectionError:
                client.wait_connected(0.1)
                continue
            message = server.receive(0.5)
            if isinstance(message, Status) and message.text == "honest":
                return True
    return False


def reasons(states):
    return [s.reason for s in states if s.name == "lost"]


def header(kind=b"IMAGE", size=100, version=1, device=b"", crc=0):
    return struct.pack(">H12s20sQQQ", version, kind, device, 0, size, crc)


GOOD = wire(Image(np.zeros((1, 9, 9), np.uint8)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: operating-room.example\r\n\r\n" + bytes(30), "version must be"),
        (bytes(58), "version must be"),
        (b"\xff" * 58, "version must be"),
        (header(b"\xff\xfe"), "type must be"),
        (header(size=2**64 - 1), "at most 1073741824 bytes"),
        (header(size=(1 << 30) + 1), "at most 1073741824 bytes"),
        (header(size=0), "IMAGE: must have 72 bytes"),
        (header(version=2, size=5), "extended header"),
        (GOOD[:-1] + b"\1", "CRC must be"),
        (GOOD[:58] + b"\1" + GOOD[59:], "CRC must be"),
    ],
)
def test_damaged(server, states, data, reason):
    sock = connect(server)
    sock.sendall(data)
    assert ended(sock)
    assert until(lambda: reasons(states))
    assert reason in reasons(states)[0]
    assert reasons(states)[0].startswith("ProtocolError")
    assert works(server)


def test_the_reason_is_logged(server, caplog):
    caplog.set_level(logging.WARNING, "medseg_fast.stream.igtl")
    sock = connect(server)
    sock.sendall(bytes(58))
    assert ended(sock)
    assert until(lambda: "ProtocolError: header: version must be 1, 2 or 3, got 0" in caplog.text)


@pytest.mark.parametrize("cut", [1, 57, 58, 59, 130, len(GOOD) - 1])
def test_cut_off(server, states, cut):
    sock = connect(server)
    sock.sendall(GOOD[:cut])
    sock.close()
    assert until(lambda: reasons(states))
    assert "ended the connection within a" in reasons(states)[0]
    assert works(server)


@pytest.mark.parametrize(
    ("first", "reason"),
    [(b"\0", "header comes too slowly"), (header(size=1000), "body comes too slowly")],
    ids=["header", "body"],
)
def test_drop_by_drop(server, states, first, reason):
    """A byte now and then keeps no connection open."""
    sock = connect(server)
    sock.sendall(first)
    start = time.monotonic()
    try:
        while time.monotonic() - start < SOON:
            sock.sendall(b"\0")
            time.sleep(0.02)
    except ConnectionError:
        pass
    assert until(lambda: reasons(states))
    assert reason in reasons(states)[0]
    assert works(server)


def test_silence_is_no_offence(server):
    """Between messages a peer may take its time."""
    sock = connect(server)
    sock.sendall(GOOD)
    assert server.receive(SOON) is not None
    time.sleep(1)
    sock.sendall(GOOD)
    assert server.receive(SOON) is not None
    sock.close()


def test_a_header_alone_reserves_little(server):
    sock = connect(server)
    sock.sendall(header(b"STRING", 1 << 30) + bytes(1000))
    assert until(lambda: server._pool.allocated == 1)
    # The pool gets it back when the body does not come.
    assert ended(sock)
    assert until(lambda: not server.clients)
    assert [b.size <= (16 << 20) + 64 for b in server._pool._free] == [True]


def test_random_bytes(server, states):
    generator = random.Random(5)
    for _ in range(30):
        sock = connect(server)
        data = bytearray(GOOD * 2)
        for _ in range(generator.randrange(1, 30)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            sock.sendall(data if generator.random() < 0.7 else os.urandom(300))
        except ConnectionError:
            pass
        sock.close()
    assert until(lambda: not server.clients)
    assert works(server)


def test_more_connections_than_allowed(server, states, caplog):
    """Those beyond the limit are refused at once; the log does not fill."""
    socks = []
    for _ in range(6):
        socks.append(connect(server))
    assert server.wait_clients(6, SOON)
    for _ in range(150):
        sock = connect(server)
        assert ended(sock)
        sock.close()
    assert len(server.clients) == 6
    assert server.stats["refused"] == 150
    assert 1 <= len([s for s in states if s.name == "refused"]) < 100
    assert threading.active_count() < 40
    for sock in socks:
        sock.close()
    assert until(lambda: not server.clients)
    assert works(server)


def test_silent_connections_make_place(states):
    """They lock nobody out for good; a viewer, which only listens, stays."""
    limits = Limits(silence=0.05)
    with Server(0, limits=limits, max_clients=3, on_state=states.append) as server:
        with Client(port=server.port) as viewer:
            assert server.wait_clients(1, SOON)
            server.send(Status())
            assert viewer.receive(SOON) is not None
            socks = [connect(server) for _ in range(2)]
            assert server.wait_clients(3, SOON)
            assert works(server)
            assert any("silent for 0.05 s" in reason for reason in reasons(states))
            assert viewer.connected
            assert viewer.stats["lost"] == 0
        for sock in socks:
            sock.close()


def test_flood_of_messages(server):
    """More than anybody receives: bounded memory, all counted."""
    sock = connect(server)
    sock.sendall(GOOD * 500)
    assert until(lambda: server.stats["received"] == 500)
    assert server.stats["dropped"] == 500 - 8
    sock.close()
    assert works(server)


def test_a_hostile_server():
    """The client leaves a server that sends nonsense, and comes back."""
    states = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOON)
        with Client(port=listener.getsockname()[1], on_state=states.append) as client:
            for _ in range(3):
                sock, _ = listener.accept()
                sock.sendall(b"\xff" * 200)
                sock.settimeout(SOON)
                assert ended(sock)
                sock.close()
            sock, _ = listener.accept()
            sock.sendall(GOOD)
            assert client.receive(SOON).pixels.shape == (1, 9, 9)
            sock.close()
    assert len(reasons(states)) >= 3
    assert "ProtocolError" in reasons(states)[0]
