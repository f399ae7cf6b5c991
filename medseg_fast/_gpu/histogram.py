"""Launches of the thresholds that start from a histogram.

Pixels are counted on the device; the counts, as few as bins, come to the host, where the criterion
of the CPU's function is evaluated: the same threshold, and a wait for the device.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._dispatch import OPERATIONS
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run, second_axes
from medseg_fast._histogram import MAX_BINS, Counts, _rebinned, _require_finite, too_wide
from medseg_fast.kernels.source import FLOATS, PIXELS, Source
from medseg_fast.threshold_histogram import triangle_level

_INTEGERS = tuple(dtype for dtype in PIXELS if dtype.kind in "ui")
_FEW = 4096  # bins
# Every block adds its counts to the others': few of them, and each worth a block's time.
_BLOCKS, _PIXELS_OF_BLOCK = 1024, 1 << 14
_TOGETHER = 1 << 16  # values that images may span to be counted together
SOURCE = Source(
    "histogram.cuh", count_few=(_INTEGERS,), count_many=(_INTEGERS,), count_bins=(FLOATS,)
)


def _by_histogram(
    op: str,
    criterion: Callable[..., Any] | None = None,
    *,
    grayscale: bool = False,
    constant: bool = False,
    sparse: bool = False,
) -> Callable[..., Any]:
    """`criterion` gives the threshold of counts and centers, by default the public function does.

    Some of scikit-image's functions warn of what looks like colours (`grayscale`), and some give a
    pixel where there is one bin (`constant`). Those that do without empty bins take integers of any
    range (`sparse`).
    """
    body = OPERATIONS[op].body
    parameters = inspect.signature(body)
    chosen = criterion or (lambda *hist, **options: body(None, hist=hist, **options))

    def launch(device: Device, *args: Any, apart: int = 0, **kwargs: Any) -> Any:
        given = parameters.bind(*args, **kwargs)
        given.apply_defaults()
        options = given.arguments
        image, nbins = options.pop("image"), options.pop("nbins")
        if image is None or options.pop("hist", None) is not None:
            raise NotImplementedError(f"{op}: no GPU kernel for histograms; pass them to the CPU")
        if options.get("return_all"):
            raise NotImplementedError(f"{op}: no GPU kernel for return_all")
        array = _arrays.image(device, op, image)
        if array.size == 0:
            shape = array.shape[apart:]
            raise ValueError(f"{op}: image must have at least one pixel, got shape {shape}")
        if grayscale and array.ndim > 2 + apart and array.shape[-1] in (3, 4):
            warnings.warn(
                f"{op} is expected to work correctly only for grayscale images; image shape "
                f"{array.shape[apart:]} looks like that of an RGB image.",
                stacklevel=2,
            )
        rows = array.reshape(len(array) if apart else 1, -1)
        found = histograms(device, op, rows, nbins, sparse=sparse)
        levels = [
            np.array(_arrays.fetch(row[0]))
            if constant and len(counts) == 1
            else np.asarray(chosen(counts, centers, **options))
            for row, (counts, centers) in zip(rows, found, strict=True)
        ]
        return device.xp.asarray(np.stack(levels) if apart else levels[0])

    return launch


def _shares(counts: NDArray[Any], centers: NDArray[Any], **options: Any) -> Any:
    """Several classes are told apart by the pixels' shares, as rounded as scikit-image's."""
    return OPERATIONS["threshold_multiotsu"].body(hist=(counts / counts.sum(), centers), **options)


threshold_otsu = _by_histogram("threshold_otsu", grayscale=True, constant=True, sparse=True)
threshold_multiotsu = _by_histogram("threshold_multiotsu", _shares, grayscale=True)
threshold_yen = _by_histogram("threshold_yen", sparse=True)
threshold_isodata = _by_histogram("threshold_isodata")
threshold_triangle = _by_histogram("threshold_triangle", triangle_level, constant=True)
threshold_minimum = _by_histogram("threshold_minimum")


def histograms(
    device: Device, op: str, images: Any, nbins: int = 256, *, sparse: bool = False
) -> list[tuple[Counts, NDArray[Any]]]:
    """Counts and the values they stand for, on the host, as `_histogram.histogram` gives them.

    Of each row of `images`; all of them are counted in one launch.
    """
    if images.dtype.kind in "iu":
        return _integers(device, op, images, sparse)
    nbins = _checks.integer(op, "nbins", nbins, 1, MAX_BINS)
    if images.dtype.kind == "b" or images.dtype.itemsize == 2:
        return [_rebinned(op, *each, nbins) for each in occupied(device, op, images)]
    lows, highs = ends(device, images)
    for low, high in zip(lows, highs, strict=True):
        _require_finite(op, low, high)
    varied = np.flatnonzero(lows != highs)
    found = [(np.array([images.shape[1]]), np.array([low])) for low in lows]
    if not len(varied):
        return found
    edges = np.stack([np.histogram_bin_edges(np.array([lows[i], highs[i]]), nbins) for i in varied])
    chosen = images if len(varied) == len(images) else images[device.xp.asarray(varied)]
    counts = device.xp.zeros((len(varied), nbins), np.uint64)
    launch = device.kernel(SOURCE, "count_bins", images.dtype)
    ends_of_bins, pixels = device.xp.asarray(edges), np.int64(images.shape[1])
    for some in second_axes(len(chosen)):
        args = chosen[some], pixels, ends_of_bins[some], np.int32(nbins), counts[some]
        run(launch, _grid(args[0]), (BLOCK,), *args)
    rows = np.asarray(_arrays.fetch(counts)).astype(np.int64)
    for i, row, bins in zip(varied, rows, edges, strict=True):
        found[i] = row, (bins[:-1] + bins[1:]) / 2
    return found


def ends(device: Device, images: Any) -> Any:
    """Least and largest value of each image, on the host."""
    return _arrays.fetch(device.xp.stack([images.min(1), images.max(1)]))


def _grid(images: Any) -> tuple[int, int]:
    return min(ceil_div(images.shape[1], _PIXELS_OF_BLOCK), _BLOCKS), len(images)


def occupied(device: Device, op: str, images: Any) -> list[tuple[NDArray[Any], Counts]]:
    """The distinct values of bool, integer or float16 images, ascending, and their counts."""
    if images.dtype.kind in "iu":
        pairs = _integers(device, op, images, sparse=True)
        return [(values[counts > 0], counts[counts > 0]) for counts, values in pairs]
    unsigned = images.view(f"u{images.dtype.itemsize}")
    found: list[tuple[NDArray[Any], Counts]] = []
    for counts in _count(device, unsigned, 0, 2 if images.dtype.kind == "b" else 1 << 16):
        present = np.flatnonzero(counts)
        if images.dtype.kind == "b":
            found.append((present, counts[present]))
            continue
        halves: NDArray[np.float16] = present.astype(np.uint16).view(np.float16)
        values, place = np.unique(halves, return_inverse=True)
        found.append((values, np.bincount(place, counts[present]).astype(np.int64)))
    return found


def _integers(
    device: Device, op: str, images: Any, sparse: bool
) -> list[tuple[Counts, NDArray[np.int64]]]:
    info = np.iinfo(images.dtype)
    low, high = int(info.min), int(info.max)
    if info.bits > 16:
        lows, highs = ends(device, images)
        low, high = int(lows.min()), int(highs.max())
        if high > np.iinfo(np.int64).max:
            raise ValueError(f"{op}: image must not exceed the int64 range, got {high}")
        if len(images) > 1 and high - low >= _TOGETHER:  # counts would be longer than the images
            return [_integers(device, op, image[None], sparse)[0] for image in images]
        if high - low >= MAX_BINS:
            if not sparse:
                raise ValueError(too_wide(op, low, high))
            values, counts = map(_arrays.fetch, device.xp.unique(images, return_counts=True))
            return [(counts.astype(np.int64), values.astype(np.int64))]
    found = []
    for counts in _count(device, images, low, high - low + 1):
        present = np.flatnonzero(counts)
        first, last = int(present[0]), int(present[-1])
        found.append((counts[first : last + 1], np.arange(low + first, low + last + 1)))
    return found


def _count(device: Device, images: Any, low: int, bins: int) -> Counts:
    """Counts of each image, a row each."""
    found = device.xp.zeros((len(images), bins), np.uint64)
    few = bins <= _FEW
    size = np.int32(bins) if few else np.int64(bins)
    launch = device.kernel(SOURCE, "count_few" if few else "count_many", images.dtype)
    for some in second_axes(len(images)):
        args = images[some], np.int64(images.shape[1]), np.int64(low), size, found[some]
        run(launch, _grid(args[0]), (BLOCK,), *args)
    return np.asarray(_arrays.fetch(found)).astype(np.int64)
