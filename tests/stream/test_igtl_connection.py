"""Client and server of OpenIGTLink: delivery, memory, slow peers, reconnection."""

import gc
import socket
import threading
import time

import numpy as np
import pytest
from _igtl import SOON, connect, ended, until, wire

from medseg_fast.stream.igtl import (
    Client,
    Image,
    Limits,
    PolyData,
    Query,
    Server,
    Status,
    Transform,
    _link,
    decode_bytes,
)
from medseg_fast.stream.igtl import (
    server as server_module,
)
from medseg_fast.stream.igtl._queue import BoundedQueue


@pytest.fixture
def pair():
    with Server(0) as server, Client(port=server.port) as client:
        assert client.wait_connected(SOON)
        assert server.wait_clients(1, SOON)
        yield server, client


@pytest.fixture
def frame(rng):
    return Image(rng.integers(0, 256, (1, 300, 400), np.uint8), device="Probe", timestamp_ns=5)


def test_both_ways(pair, frame):
    server, client = pair
    for message in (
        frame,
        Status(text="ok"),
        Transform(),
        Query("GET", "IMAGE"),
        PolyData(np.eye(3)),
    ):
        before = time.monotonic_ns()
        assert server.send(message) == 1
        client.send(message)
        for got in (client.receive(SOON), server.receive(SOON)):
            assert type(got) is type(message)
            assert wire(got) == wire(message)
            assert before <= got.received_ns <= time.monotonic_ns()
            assert got.sender.startswith("127.0.0.1:")
    assert server.stats["received"] == server.stats["sent"] == 5
    assert client.stats["received"] == client.stats["sent"] == 5
    assert client.stats["bytes_in"] == server.stats["bytes_in"] > 2 * frame.pixels.nbytes / 2


def test_nothing_to_receive(pair):
    _, client = pair
    start = time.monotonic()
    assert client.receive(0.05) is None
    assert client.receive(0) is None
    assert 0.04 < time.monotonic() - start < SOON


def test_pixels_may_change_after_send(pair, frame):
    server, client = pair
    wanted = wire(frame)
    for _ in range(10):
        server.send(frame)
        frame.pixels += 1
        got = client.receive(SOON)
        frame.pixels -= 1
        assert wire(got) == wanted


def test_received_pixels_are_aligned(pair):
    server, client = pair
    for version in (1, 2):
        server.send(Image(np.ones((2, 50, 60)), version=version))
        pixels = client.receive(SOON).pixels
        assert pixels.flags.aligned
        assert pixels.ctypes.data % 64 == 0


def test_pixels_that_wait_may_change_too(rng):
    """More than the kernel takes at once: the rest is a copy, and arrives in order."""
    frames = [rng.integers(0, 256, (1, 1500, 2000), np.uint8) for _ in range(9)]
    with Server(0, send_queue=9) as server:
        slow = connect(server)
        server.wait_clients(1, SOON)
        pixels = np.empty_like(frames[0])
        for frame in frames:
            pixels[...] = frame
            server.send(Image(pixels))
        size = 58 + 72 + pixels.nbytes
        for frame in frames:
            data = b""
            while len(data) < size:
                data += slow.recv(size - len(data))
            np.testing.assert_array_equal(decode_bytes(data).pixels, frame)
        slow.close()
    assert server.stats["sent"] == 9
    assert server.stats["send_dropped"] == 0


def test_buffers_are_used_again(pair, frame):
    server, client = pair
    for _ in range(5):
        server.send(frame)
        assert client.receive(SOON) is not None
    client_before, server_before = client._pool.allocated, server._pool.allocated
    for _ in range(40):
        server.send(frame)
        assert client.receive(SOON) is not None
        # The next one leaves while this one's buffers may still be in the hands of a thread.
        time.sleep(0.001)
    assert client._pool.allocated <= client_before + 2
    assert server._pool.allocated <= server_before + 2


def test_kept_pixels_stay(pair, rng):
    """A buffer is not used again while any view of it lives."""
    server, client = pair
    sent, views = [], []
    for _ in range(6):
        pixels = rng.integers(0, 256, (1, 200, 300), np.uint8)
        server.send(Image(pixels))
        sent.append(pixels[0, 50:60, ::2])
        views.append(client.receive(SOON).pixels[0, 50:60, ::2])
    for wanted, got in zip(sent, views, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_larger_than_first_trusted(rng, monkeypatch):
    """The buffer grows while the body arrives."""
    monkeypatch.setattr(_link, "_FIRST", 1 << 15)
    pixels = rng.integers(0, 256, (3, 500, 999), np.uint8)
    with Server(0) as server, Client(port=server.port) as client:
        assert client.wait_connected(SOON)
        for _ in range(2):
            client.send(Image(pixels))
            np.testing.assert_array_equal(server.receive(SOON).pixels, pixels)


def test_slow_client_blocks_nobody(frame):
    big = Image(np.zeros((1, 1000, 4000), np.uint8))
    with Server(0, send_queue=2) as server, Client(port=server.port) as client:
        server.wait_clients(1, SOON)
        slow = connect(server)
        server.wait_clients(2, SOON)
        for _ in range(30):
            start = time.monotonic()
            assert server.send(big) == 2
            assert client.receive(SOON) is not None
            assert time.monotonic() - start < SOON
        stats = server.stats
        assert stats["send_dropped"] > 0
        assert stats["sent"] + stats["send_dropped"] <= 60
        # What it gets late is whole messages.
        data = b""
        while len(data) < 58 + 72 + big.pixels.nbytes:
            data += slow.recv(1 << 20)
        assert decode_bytes(data[: 58 + 72 + big.pixels.nbytes]).pixels.shape == big.pixels.shape
        slow.close()


def test_a_client_that_takes_nothing_is_let_go():
    lost = []
    limits = Limits(stall=0.3)
    with Server(0, limits=limits, on_state=lost.append) as server:
        slow = connect(server)
        server.wait_clients(1, SOON)
        big = Image(np.zeros((1, 4000, 8000), np.uint8))
        assert until(lambda: server.send(big, copy=False) == 0)
        assert until(lambda: lost[-1].name == "lost")
        slow.close()
    assert lost[-1].reason


def test_many_clients(frame):
    with Server(0, max_clients=16) as server:
        clients = [Client(port=server.port) for _ in range(12)]
        assert server.wait_clients(12, SOON)
        assert server.send(frame) == 12
        for i, client in enumerate(clients):
            assert wire(client.receive(SOON)) == wire(frame)
            client.send(Status(i))
        assert until(lambda: server.stats["received"] == 12)
        for client in clients:
            client.close()
        assert until(lambda: not server.clients)


def test_closing_ends_a_client_that_is_just_coming_in(monkeypatch):
    server, coming = Server(0), threading.Event()

    def late(*args):
        coming.set()
        assert until(server._ending.is_set)
        return _link.Link(*args)

    monkeypatch.setattr(server_module, "Link", late)
    with connect(server) as sock:
        assert coming.wait(SOON)
        server.close()
        assert ended(sock)
    assert not server.clients


def test_reconnects_within_a_second(frame):
    states = []
    server = Server(0)
    with Client(port=server.port, on_state=states.append) as client:
        assert client.wait_connected(SOON)
        server.close()
        assert until(lambda: not client.connected)
        with pytest.raises(ConnectionError, match="not connected"):
            client.send(Status())
        again = Server(server.port)
        start = time.monotonic()
        assert again.wait_clients(1, SOON)
        assert time.monotonic() - start < 1 + SOON / 2  # 0.5 s, but for a busy machine
        again.send(frame)
        assert wire(client.receive(SOON)) == wire(frame)
        again.close()
    assert [s.name for s in states[:3]] == ["connected", "lost", "connected"]
    assert states[1].peer == f"127.0.0.1:{server.port}"
    assert client.stats["lost"] >= 1


def test_full_queue_drops_the_oldest_of_its_kind(pair):
    server, client = pair
    for i in range(20):
        server.send(Status(i, device="A"))
        if i == 0:
            server.send(Status(99, device="rare"))
        assert until(lambda i=i: client.stats["received"] == i + 2)
    got = [client.receive(SOON) for _ in range(8)]
    assert [m.code for m in got] == [99, *range(13, 20)]
    assert client.stats["dropped"] == 13


def test_blocking_queue_loses_nothing():
    with Server(0, queue=2, policy="block") as server, Client(port=server.port) as client:
        client.wait_connected(SOON)

        def send():
            for i in range(200):
                client.send(Status(i))

        thread = threading.Thread(target=send)
        thread.start()
        assert [server.receive(SOON).code for _ in range(200)] == list(range(200))
        thread.join()
        assert server.stats["dropped"] == 0


def test_send_times_out():
    """The peer reads nothing: the caller gets its time-out, not a hang."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with Client(port=listener.getsockname()[1]) as client:
            assert client.wait_connected(SOON)
            big = Image(np.zeros((1, 8000, 8000), np.uint8))
            start = time.monotonic()
            with pytest.raises(TimeoutError, match="does not take"):
                client.send(big, timeout=0.3)
            assert time.monotonic() - start < SOON


def test_post_does_not_wait():
    """The peer reads nothing: what waits longest is dropped and counted."""
    big = Image(np.zeros((1, 4000, 4000), np.uint8))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # A call that waited for the peer would not come back.
        client = Client(port=port, limits=Limits(stall=3600), send_queue=2)
        assert client.wait_connected(SOON)
        for _ in range(12):
            assert client.post(Status(), big)
        assert client.stats["send_dropped"] >= 12 - 2 - 6
        client.close()
    assert not client.post(big)


def test_what_was_posted_arrives_before_the_end(rng):
    frames = rng.integers(0, 256, (6, 1, 500, 600), np.uint8)
    with Server(0) as server:
        with Client(port=server.port) as client:
            assert client.wait_connected(SOON)
            pixels = np.empty_like(frames[0])
            for frame in frames:
                pixels[...] = frame
                assert client.post(Image(pixels))
        for frame in frames:
            np.testing.assert_array_equal(server.receive(SOON).pixels, frame)
    assert client.stats["sent"] == 6
    assert client.stats["send_dropped"] == 0


def test_close_wakes_everybody(pair):
    server, client = pair
    results = []
    threads = [
        threading.Thread(target=lambda end=end: results.append(end.receive())) for end in pair
    ]
    for thread in threads:
        thread.start()
    client.close()
    server.close()
    for thread in threads:
        thread.join(SOON)
    assert results == [None, None]
    client.close()  # again is nothing
    server.close()
    assert server.send(Status()) == 0
    with pytest.raises(ConnectionError):
        client.send(Status())


def test_closing_leaves_no_thread(frame):
    before = threading.active_count()
    with Server(0) as server:
        clients = [Client(port=server.port) for _ in range(4)]
        server.wait_clients(4, SOON)
        server.send(frame)
        for client in clients:
            client.close()
    assert until(lambda: threading.active_count() == before)


def test_close_from_a_callback():
    with Server(0) as server:
        done = threading.Event()

        def on_state(state):
            client.close()
            done.set()

        ready = threading.Event()
        client = Client(port=server.port, on_state=lambda s: ready.wait(SOON) and on_state(s))
        ready.set()
        assert done.wait(SOON)


def test_a_failing_callback_ends_nothing(frame, caplog):
    def fail(state):
        raise RuntimeError("mine")

    with Server(0, on_state=fail) as server, Client(port=server.port, on_state=fail) as client:
        assert server.wait_clients(1, SOON)
        server.send(frame)
        assert client.receive(SOON) is not None
    assert "on_state failed" in caplog.text


def test_no_peer():
    """Connecting goes on in the background; closing does not wait for it."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Client(port=unused.getsockname()[1])
        assert not client.wait_connected(0.1)
        assert client.receive(0) is None
        client.close()


def test_port_in_use():
    with Server(0) as server, pytest.raises(OSError, match="already in use"):
        Server(server.port)


def test_no_such_host():
    for host in ("", "no such host", "a" * 70 + ".example"):
        with Client(host, 1) as client:
            assert not client.wait_connected(0.02)
            assert client._thread.is_alive()


def test_arguments():
    with pytest.raises(ValueError, match="port must be from 1 to 65535, got 0"):
        Client(port=0)
    with pytest.raises(ValueError, match="policy must be drop or block, got 'all'"):
        Client(policy="all")
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        Server(0, queue=0)
    with pytest.raises(ValueError, match="send_queue must be at least 2, got 1"):
        Server(0, send_queue=1)


def test_queue_with_many_threads():
    queue = BoundedQueue(3, block=True)
    got = []

    def take():
        while (item := queue.get()) is not None:
            got.append(item)

    takers = [threading.Thread(target=take) for _ in range(3)]
    givers = [
        threading.Thread(target=lambda k=k: [queue.put(k * 100 + i) for i in range(100)])
        for k in range(3)
    ]
    for thread in takers + givers:
        thread.start()
    for thread in givers:
        thread.join(SOON)
    queue.close()
    for thread in takers:
        thread.join(SOON)
    assert sorted(got) == list(range(300))
    assert not queue.put(1)


def test_attempts_leave_nothing(monkeypatch):
    """While a stream runs, cycles of references are not collected."""
    from medseg_fast.stream.igtl import client

    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client, "_LONGEST_PAUSE", 0.01)

    def refusals():  # `isinstance` would ask what a weak proxy stands for, which may be gone
        return sum(type(thing) is ConnectionRefusedError for thing in gc.get_objects())

    gc.collect()
    before = refusals()
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        gc.disable()
        try:
            with client.Client("127.0.0.1", unused.getsockname()[1]):
                time.sleep(1)
            after = refusals()
        finally:
            gc.enable()
    assert after <= before + 1
