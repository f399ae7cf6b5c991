"""Frames over OpenIGTLink on the loopback: ours beside pyigtl, a bare socket and nothing.

    python benchmarks/stream_transport.py [--seconds 5] [--peers ours,...] [--priority 20]

A feeder in another process stamps each frame and sends it at its time; the latency is from the
stamp until the receiver holds the pixels. "socket" sends the same bytes without messages, checksums
or queues: what the kernel needs. "no-op" sends 16 bytes at the same times: what is the machine's
own jitter, to be read beside every other row. With `--priority` all threads of every peer have that
real-time priority. The first frames, while buffers grow, are received and counted, but not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

WARM_UP = 10
PATIENCE = 3.0  # s without a frame after which the rest counts as lost
STAMP = struct.Struct("<qq")


class Stream(NamedTuple):
    name: str
    shape: tuple[int, ...]
    fps: int
    bar_ms: float  # p99 of ours


STREAMS = [
    Stream("640x480 uint8", (1, 480, 640), 60, 3),
    Stream("1920x1080 RGB", (1, 1080, 1920, 3), 30, 33),
]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# ---- feeders: how to send (number, pixels) -------------------------------------------------------


@contextmanager
def feed_ours(port: int, frames: int) -> Iterator[Callable[[int, np.ndarray], object]]:
    from medseg_fast.stream.igtl import Image, Server

    with Server(port) as server:
        server.wait_clients(1, 20)
        yield lambda stamp, pixels: server.send(Image(pixels, device="F", timestamp_ns=stamp))
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and server.stats["sent"] < frames:
            time.sleep(0.05)
        time.sleep(0.5)


@contextmanager
def feed_pyigtl(port: int, frames: int) -> Iterator[Callable[[int, np.ndarray], object]]:
    import pyigtl

    server = pyigtl.OpenIGTLinkServer(port, local_server=True)
    while not server.is_connected():
        time.sleep(0.01)
    yield lambda stamp, pixels: server.send_message(
        pyigtl.ImageMessage(pixels, device_name="F", timestamp=stamp * 1e-9), wait=False
    )
    time.sleep(PATIENCE)
    server.stop()


@contextmanager
def feed_socket(port: int, frames: int) -> Iterator[Callable[[int, np.ndarray], object]]:
    with socket.create_server(("127.0.0.1", port)) as listener:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send(stamp: int, pixels: np.ndarray) -> None:
            sock.sendall(STAMP.pack(stamp, pixels.nbytes))
            if pixels.size:
                sock.sendall(pixels)

        yield send
        sock.close()


def feed(peer: str, port: int, stream: Stream, frames: int) -> None:
    """Send the frames at their times; prints by how many ms the slowest wake-up was late."""
    pixels = np.random.default_rng(0).integers(0, 256, stream.shape, np.uint8)
    if peer == "no-op":
        pixels = pixels[:0]
    how = {"ours": feed_ours, "pyigtl": feed_pyigtl}.get(peer, feed_socket)
    late = 0.0
    with how(port, frames) as send:
        start = time.monotonic() + 0.1
        for i in range(frames):
            due = start + i / stream.fps
            time.sleep(max(0.0, due - time.monotonic()))
            late = max(late, time.monotonic() - due)
            try:
                send(time.monotonic_ns(), pixels)
            except OSError:
                break
    print(1e3 * late)


# ---- receivers: latencies in ms ------------------------------------------------------------------


def receive_ours(port: int, frames: int) -> list[float]:
    from medseg_fast.stream.igtl import Client

    latencies = []
    with Client(port=port) as client:
        client.wait_connected(20)
        while len(latencies) < frames and (message := client.receive(PATIENCE)) is not None:
            latencies.append((time.monotonic_ns() - message.timestamp_ns) * 1e-6)
            del message
    return latencies


def receive_pyigtl(port: int, frames: int) -> list[float]:
    import pyigtl

    client = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
    latencies = []
    while len(latencies) < frames:
        message = client.wait_for_message("F", timeout=PATIENCE)
        if message is None:
            break
        latencies.append((time.monotonic() - message.timestamp) * 1e3)
    client.stop()
    return latencies


def receive_socket(port: int, frames: int) -> list[float]:
    end = time.monotonic() + 20
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
    latencies = []
    head = bytearray(STAMP.size)
    with sock:
        buffer = memoryview(bytearray(max(np.prod(s.shape) for s in STREAMS)))
        while len(latencies) < frames:
            if sock.recv_into(head, 0, socket.MSG_WAITALL) < STAMP.size:
                break
            stamp, size = STAMP.unpack(head)
            if size and sock.recv_into(buffer[:size], 0, socket.MSG_WAITALL) < size:
                break
            latencies.append((time.monotonic_ns() - stamp) * 1e-6)
    return latencies


def measure(peer: str, stream: Stream, frames: int) -> tuple[list[float], float]:
    """(latencies, lateness of the feeder) in ms."""
    port = free_port()
    command = [sys.executable, __file__, "--feed", peer, str(port), stream.name, str(frames)]
    receive = {"ours": receive_ours, "pyigtl": receive_pyigtl}.get(peer, receive_socket)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as feeder:
        latencies = receive(port, frames)
        output, _ = feeder.communicate(timeout=30)
    return latencies, float(output) if output.strip() else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--peers", default="ours,pyigtl,socket,no-op")
    parser.add_argument("--priority", type=int, help="SCHED_FIFO, 1 to 99; needs the right to it")
    parser.add_argument("--feed", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Threads, and the feeder's process, have the priority of the one that starts them.
    if arguments.priority:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(arguments.priority))
    if arguments.feed:
        peer, port, name, frames = arguments.feed
        feed(peer, int(port), next(s for s in STREAMS if s.name == name), int(frames))
        return
    print(
        "stream                 peer    received/sent     p50     p95     p99     max  feeder late"
    )
    for stream in STREAMS:
        frames = round(arguments.seconds * stream.fps)
        for peer in arguments.peers.split(","):
            if peer == "pyigtl" and importlib.util.find_spec("pyigtl") is None:
                print(f"{stream.name} {peer}: not installed")
                continue
            latencies, late = measure(peer, stream, frames)
            timed = sorted(latencies[WARM_UP:]) or [float("nan")] * 2
            p50, p95, p99 = (np.percentile(timed, q) for q in (50, 95, 99))
            bar = f"  (bar: all, p99 <= {stream.bar_ms:g})" if peer == "ours" else ""
            print(
                f"{stream.name:14} {stream.fps:3}/s  {peer:7} {len(latencies):6}/{frames:<6}"
                f"  {p50:7.2f} {p95:7.2f} {p99:7.2f} {timed[-1]:7.2f} {late:9.2f} ms{bar}",
                flush=True,
            )


if __name__ == "__main__":
    main()
