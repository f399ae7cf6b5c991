"""What labels, region growing and hysteresis share: sets of connected pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast._gpu._device import (
    BLOCK,
    Device,
    blocks,
    ceil_div,
    index_type,
    run,
)
from medseg_fast._gpu._waves import Planes
from medseg_fast.kernels.source import INDICES, Source

_KEYS = tuple(map(np.dtype, (np.uint8, np.uint16, np.uint32, np.uint64)))
SOURCE = Source(
    "components.cuh",
    merge_lines=(_KEYS, INDICES),
    merge_borders=(_KEYS, INDICES),
    settle_roots=(INDICES,),
    number_roots=(INDICES, INDICES),
    write_labels=(INDICES, INDICES),
    mark_at=(INDICES,),
    mark_chosen=(INDICES,),
    keep_marked=(INDICES,),
)
_PER_BLOCK = 4 * BLOCK  # pixels, where their parents are read
_LINES, _DEEP = 32, 4  # of a block, and over how many planes of a volume they go


class Components:
    """Sets of connected pixels with equal keys, each known by its first pixel.

    `keys` are contiguous and unsigned; those equal to `zero` are in no set (None: all are in one).
    With `apart` the first axis counts images: sets do not reach from one to the next.
    """

    def __init__(
        self, device: Device, op: str, keys: Any, zero: Any, reach: int, apart: int = 0
    ) -> None:
        self.planes = Planes(op, keys.shape, apart)
        planes, rows, columns = self.planes.extents
        across = self.planes.axes
        self.device, self.size = device, np.int64(keys.size)
        self._index = index_type(keys.size)
        self.parent = device.xp.empty(keys.size, self._index)
        has_zero = np.int32(zero is not None)
        background = keys.dtype.type(0 if zero is None else zero)
        flat = planes == 1 or self.planes.first > 0
        deep = 1 if flat else _DEEP if planes > 2 else 2
        grid = (ceil_div(planes, deep) * ceil_div(rows, _LINES // deep) * ceil_div(columns, 32),)
        extent = [np.int32(n) for n in (planes, rows, columns, deep, min(reach, across))]
        args = [keys, background, has_zero, self.parent, *extent]
        for name in ("merge_lines", "merge_borders"):
            run(device.kernel(SOURCE, name, keys.dtype, self._index), grid, (BLOCK,), *args)
        self._grid = blocks(keys.size, _PER_BLOCK)
        self._counts = device.xp.empty(self._grid, self._index)
        self._run("settle_roots", self._grid, self.parent, self.size, self._counts)

    def labels(self, dtype: Any) -> tuple[Any, Any]:
        """Flat labels 1, 2, ... of int32 or int64, in raster order of the sets' first pixels.

        And the number of sets, a scalar that is still on the device.
        """
        xp, dtype = self.device.xp, np.dtype(dtype)
        labels = xp.empty(int(self.size), dtype)
        sums = xp.cumsum(self._counts, dtype=self._index)
        self._run("number_roots", self._grid, self.parent, self.size, sums, labels, choice=(dtype,))
        self._run("write_labels", self._grid, self.parent, self.size, labels, choice=(dtype,))
        return labels, sums[-1]

    def labels_apart(self, dtype: Any) -> tuple[Any, Any]:
        """Labels that start from 1 in each image, and their numbers, one for each image."""
        xp = self.device.xp
        labels, _ = self.labels(dtype)
        by_image = labels.reshape(self.planes.extents[0], -1)
        last = by_image.max(1)  # 0 in an image without sets
        most = labels.dtype.type(np.iinfo(labels.dtype).max)
        before = xp.where(by_image > 0, by_image, most).min(1) - labels.dtype.type(1)
        by_image -= xp.where(by_image > 0, before[:, None], labels.dtype.type(0))
        return labels, xp.where(last > 0, last - before, 0).astype(np.int64)

    def holding(self, places: Any, mask: Any) -> None:
        """Set `mask`, uint8, where a set holds one of the flat indices `places`."""
        marks = self.device.xp.zeros(int(self.size), np.uint8)
        count = np.int32(len(places))
        self._run("mark_at", blocks(len(places)), self.parent, places, count, marks)
        self.keep(marks, mask)

    def holding_any(self, chosen: Any, mask: Any) -> None:
        """Set `mask` where a set holds one of the pixels of the mask `chosen`, both uint8."""
        marks = self.device.xp.zeros(int(self.size), np.uint8)
        self._run("mark_chosen", self._grid, self.parent, chosen, self.size, marks)
        self.keep(marks, mask)

    def keep(self, marks: Any, mask: Any) -> None:
        """Set `mask`, uint8, where a set's first pixel has a mark."""
        self._run("keep_marked", self._grid, self.parent, marks, self.size, mask)

    def _run(self, name: str, grid: tuple[int, ...], *args: Any, choice: Any = ()) -> None:
        run(self.device.kernel(SOURCE, name, self._index, *choice), grid, (BLOCK,), *args)
