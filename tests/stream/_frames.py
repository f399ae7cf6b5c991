"""Sources of frames."""

import threading

import numpy as np


def frames(count, shape=(6, 8)):
    """Frame i is filled with i."""
    return [np.full(shape, i, np.uint8) for i in range(count)]


class Endless:
    """One frame, then nothing until it is closed."""

    def __init__(self):
        self.closed = threading.Event()

    def __iter__(self):
        yield frames(1)[0]
        assert self.closed.wait(30)

    def close(self):
        self.closed.set()
