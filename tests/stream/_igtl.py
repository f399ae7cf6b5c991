"""What the tests of OpenIGTLink share."""

from __future__ import annotations

import socket
import time

from hypothesis import strategies as st

from medseg_fast.stream.igtl import encode

# A test that waits longer has failed.
SOON = 10.0


def wire(message):
    """The bytes of a message."""
    return b"".join(bytes(part) for part in encode(message))


def until(condition, timeout=SOON):
    """Whether the condition becomes true in time."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def connect(server):
    """A plain socket to a server."""
    sock = socket.create_connection(("127.0.0.1", server.port), SOON)
    sock.settimeout(SOON)
    return sock


def ended(sock):
    """Whether the server has closed the connection."""
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
names = st.text(st.sampled_from("Probe_0-9 äé"), max_size=12).map(str.strip)
versions = st.sampled_from([1, 2, 3])


@st.composite
def common(draw):
    """Keyword arguments that every message has."""
    version = draw(versions)
    new = version > 1
    return {
        "device": draw(names),
        "timestamp_ns": draw(st.integers(0, (10**9 << 32) - 1)),
        "version": version,
        "message_id": draw(st.integers(0, 2**32 - 1)) if new else 0,
        "metadata": draw(st.dictionaries(text, text, max_size=4)) if new else {},
    }
