"""Launches of kernels that spread something over an image until nothing changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast._gpu._device import BLOCK, Device, Launch, run, tiles

ROUNDS = 8  # launches before the host asks whether any tile is awake


class Planes:
    """An image of one to three axes longer than 1, as planes of rows and columns.

    With `apart` the first axis counts planes that are images of their own.
    """

    def __init__(self, op: str, shape: tuple[int, ...], apart: int = 0) -> None:
        long = [extent for extent in shape[apart:] if extent != 1]
        if len(long) > 3 - apart:
            raise NotImplementedError(
                f"{op}: no GPU kernel for more than {3 - apart} axes, got shape {shape}"
            )
        self.extents = (*shape[:apart], *[1] * (3 - apart - len(long)), *long)
        # The first neighbour that counts, of the 27 places of waves.cuh: 9 of the plane before.
        self.first = np.int32(9 if apart else 0)
        self.axes = max(len(long), 1)
        self.grid = tiles(*self.extents)


def spread(device: Device, launch: Launch, grid: tuple[int, ...], *args: Any) -> None:
    """Launch a kernel of ``waves.cuh`` until all tiles are asleep.

    The host waits for the device once in `ROUNDS` launches.
    """
    awake = device.xp.ones(grid, np.uint8)
    woken = device.xp.zeros(grid, np.uint8)
    while True:
        stirred = device.xp.zeros(ROUNDS, np.int32)
        for k in range(ROUNDS):
            run(launch, grid, (BLOCK,), *args, awake, woken, stirred[k:])
            awake, woken = woken, awake
        if not int(stirred[-1]):
            return
