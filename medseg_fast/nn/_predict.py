"""Networks on whole images and volumes: windows, mirroring, resampling."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _warp
from medseg_fast.io.volume import Volume
from medseg_fast.nn import _arrays
from medseg_fast.nn._intensities import scaling
from medseg_fast.nn._runners import Runner, runner
from medseg_fast.nn._windows import Axis, Image, Output, axis, slide

Array = NDArray[Any]

_OP = "predict"
# Without `window`: what a laptop holds of the papers' networks.
_WINDOW = {2: 512, 3: 96}


class Cancelled(Exception):
    """Raised where `cancel` told `predict` to stop."""


def predict(
    model: Callable[[Any], Any],
    volume: ArrayLike | Volume,
    *,
    window: int | Sequence[int] | None = None,
    overlap: float = 0.5,
    blend: str = "gaussian",
    mirror: int | Sequence[int] = (),
    spacing: Sequence[float] | None = None,
    normalise: str | Sequence[float] | None = None,
    output: str = "labels",
    batch: int = 1,
    progress: bool | Callable[[int, int], None] = False,
    cancel: Event | Callable[[], bool] | None = None,
) -> Any:
    """Segment an image or a volume of any size by a network that sees windows of it.

    Parameters
    ----------
    model : nn.Module, Plan or callable
        (N, channels, [D,] H, W) -> logits (N, classes, [D,] H, W): a network of `medseg_fast.nn`,
        or any other module (of a tuple or list of results the first counts, of a dict ``"out"``).
        One class means a mask, of which a logit above 0 is the inside, as do the patches of a
        network that learnt with `StructuredLoss`: what they say of a pixel is merged. It is put
        into evaluation mode for the time, and runs where its weights are. A plan (of `optimize` or
        `load_plan`) needs no PyTorch; its windows have the size of its example.
    volume : array_like or Volume
        (H, W) or (D, H, W), for several channels with a last axis for them. A 2D network labels a
        volume plane by plane.
    window : int or sequence of int, optional
        Pixels that the network sees at a time, for all axes or each. Default: the one saved with
        the model, else 512 in 2D and 96 in 3D; a plan has its own. Where the image is smaller, so
        is the window; for modules that are not of `medseg_fast.nn` it is a multiple of 32 then, and
        what they and plans see beyond the image is its mirror image. For a U-Net without padding
        this is the size of its input, raised to one that fits, and what it sees beyond the image is
        mirrored, too (the paper's overlap-tile strategy); so for `lenet5`, which sees the patch
        around every pixel.
    overlap : float, optional
        Part of a window that the next one shares at least; in [0, 1).
    blend : {"gaussian", "constant"}, optional
        Weight of a window's logits where windows overlap: less towards its border (a Gaussian whose
        sigma is an eighth of the window), or the same all over.
    mirror : int or sequence of int, optional
        Axes along which windows are flipped, too: the mean over all combinations, 2 ** n times the
        work. From 0 for the first axis that the network sees.
    spacing : sequence of float, optional
        Distance of pixels in mm at which the network works, one per axis that it sees. The volume
        is resampled to it, logits are resampled back, both linearly. Default: the one saved with
        the model; without any the pixels are taken as they are.
    normalise : {"zscore", "robust", "none"} or (low, high), optional
        How intensities are prepared: mean 0 and standard deviation 1 over the volume for each
        channel; the same after clipping to the percentiles 0.5 and 99.5, where single pixels may be
        wild; not at all; or clipped to an interval, which becomes 0 to 1. Default: the one saved
        with the model, else "none".
    output : {"labels", "probabilities"}, optional
        The class of the largest logit; or softmax (of one class: sigmoid) over all, which takes
        4 bytes per pixel and class.
    batch : int, optional
        Windows that the network sees at once.
    progress : bool or callable, optional
        True: a bar on stderr. A callable gets (windows done, windows in all) after each batch.
    cancel : threading.Event or callable, optional
        Asked after each batch; where it is set, or returns True, `Cancelled` is raised.

    Returns
    -------
    labels : ndarray or Volume
        As `volume`, without its channels: uint8 (more bytes above 256 classes). A Volume has the
        geometry of the input. Probabilities are float32 with a last axis for the classes.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If shapes do not fit, the volume holds NaN or infinity, or its spacing is not known.
    Cancelled
        If `cancel` said so.

    Notes
    -----
    Logits of overlapping windows are averaged, weighted, and mirrored ones alike. Memory does not
    grow with classes times volume: windows proceed along the longest axis, and logits are held only
    for a slab as thick as a window, classes x window x cross-section x 4 bytes; what the windows
    have left behind becomes labels at once. Beside it: the labels, what the network itself needs
    for a window, and with `spacing` the resampled volume in float32.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast import nn
    >>> model = nn.unet(1, 3, widths=(4, 8), padding="same")
    >>> labels = nn.predict(model, np.zeros((100, 80), np.float32), window=32)
    >>> labels.shape, labels.dtype
    ((100, 80), dtype('uint8'))
    """
    _checks.choice(_OP, "blend", blend, ("gaussian", "constant"))
    _checks.choice(_OP, "output", output, ("labels", "probabilities"))
    batch = _checks.integer(_OP, "batch", batch, 1)
    if not 0 <= _checks.number(_OP, "overlap", overlap) < 1:
        raise ValueError(f"{_OP}: overlap must be in [0, 1), got {overlap}")
    network = runner(model, np.ndim(volume.array if isinstance(volume, Volume) else volume))
    array, own_spacing = _pixels(volume, network)
    saved = network.metadata
    if saved.get("unit") == "pixel":  # the model works at a part of the pixels, whatever their size
        own_spacing = (1.0,) * (array.ndim - 1)
    network.mirror = _mirror_sets(mirror, network.ndim)
    target = spacing if spacing is not None else saved.get("spacing")
    wanted = _window(network.lengths(window), network.ndim)
    how = normalise if normalise is not None else saved.get("normalise")

    prepared = scaling(_OP, array, how if how is not None else "none")
    spatial = array.shape[:-1]
    planes = len(spatial) - network.ndim  # 1: a volume for a 2D network
    grid = _grid(spatial[planes:], target, own_spacing, planes)
    probabilities = output == "probabilities"
    result = _Result(spatial, probabilities)

    works = [array[z] for z in range(spatial[0])] if planes else [array]
    roll = int(np.argmax(grid))  # the longest axis
    axes = _axes(network, grid, wanted, overlap, blend)
    axes.insert(0, axes.pop(roll))
    windows = len(works) * int(np.prod([len(a.starts) for a in axes]))
    with _bar(progress, windows) as report, network.running():
        tick = _ticker(report, windows, cancel)
        tick(0)
        for number, work in enumerate(works):
            if grid != work.shape[:-1]:
                work = _resampled(work, grid)
            image = Image(np.moveaxis(work, roll, 0), prepared, dtype=network.pixels)

            def make(classes: int, number: int = number) -> Array:
                whole = result.array(classes)
                whole = whole[:, number] if planes and probabilities else whole
                whole = whole[number] if planes and not probabilities else whole
                return np.moveaxis(whole, roll + probabilities, int(probabilities))

            full = list(spatial[planes:])
            full.insert(0, full.pop(roll))
            sink = Output(make, [a.size for a in axes], full, probabilities)
            slide(image, axes, lambda x: network(x, roll), sink.take, tick, batch)
    return result.like(volume)


def _pixels(volume: Any, network: Runner) -> tuple[Array, tuple[float, ...] | None]:
    """Spatial axes first, channels last; and the spacing, where it is known."""
    given = volume.array if isinstance(volume, Volume) else _arrays.to_numpy(volume)
    if given.dtype.kind not in "buif" or given.dtype.itemsize > 8:
        raise TypeError(f"{_OP}: volume must be bool, integer or float, got {given.dtype}")
    if isinstance(volume, Volume):
        if "t" in volume.axes:
            raise ValueError(f"{_OP}: volume must have no time axis: take one frame")
        array = given if "c" in volume.axes else given[..., None]
        spacing = volume.spacing if volume.has_geometry else None
    else:
        array, spacing = given if network.channels > 1 else given[..., None], None
    ranks = (2, 3) if network.ndim == 2 else (3,)
    if array.ndim - 1 not in ranks or array.shape[-1] != network.channels or 0 in array.shape:
        axes = "([D,] H, W" if network.ndim == 2 else "(D, H, W"
        axes += f", {network.channels})" if network.channels > 1 else ")"
        raise ValueError(f"{_OP}: volume must have shape {axes} of this model, got {given.shape}")
    _checks.finite(_OP, "volume", given)
    return array, spacing


def _mirror_sets(mirror: int | Sequence[int], ndim: int) -> list[tuple[int, ...]]:
    """All combinations of the axes, as dimensions of (N, C, ...)."""
    given = mirror if np.iterable(mirror) else (mirror,)
    axes = sorted({_checks.integer(_OP, "mirror", number, 0, ndim - 1) for number in given})
    return [
        tuple(2 + a for a in chosen)
        for count in range(len(axes) + 1)
        for chosen in itertools.combinations(axes, count)
    ]


def _window(window: Any, ndim: int) -> tuple[int, ...]:
    given = _WINDOW[ndim] if window is None else window
    values = tuple(given) if isinstance(given, Sequence) else (given,) * ndim
    if len(values) != ndim:
        raise ValueError(f"{_OP}: window must be one number or {ndim}, got {window!r}")
    return tuple(_checks.integer(_OP, "window", value, 1) for value in values)


def _grid(
    shape: tuple[int, ...], target: Any, own: tuple[float, ...] | None, planes: int
) -> tuple[int, ...]:
    """Size at which the network works."""
    if target is None:
        return shape
    values = [float(mm) for mm in target]
    if len(values) != len(shape) or not all(0 < mm < np.inf for mm in values):
        raise ValueError(
            f"{_OP}: spacing must be {len(shape)} positive numbers (mm), got {target!r}"
        )
    if own is None:
        raise ValueError(
            f"{_OP}: volume must have a spacing, because the model works at {values} mm: give an "
            "io.Volume with one, or spacing=None for a model that saved none"
        )
    return tuple(
        max(1, round(n * have / want))
        for n, have, want in zip(shape, own[planes:], values, strict=True)
    )


def _axes(
    network: Runner, grid: Sequence[int], window: Sequence[int], overlap: float, blend: str
) -> list[Axis]:
    axes = []
    for number, (size, length) in enumerate(zip(grid, window, strict=True)):
        given, answer = network.window(length, size, number)
        axes.append(axis(size, given, answer, (given - answer) // 2, overlap, blend))
    return axes


def _resampled(array: Array, size: tuple[int, ...]) -> Array:
    """Linearly, as float32; channels last."""
    channels_first = np.ascontiguousarray(np.moveaxis(array, -1, 0), np.float32)
    return np.moveaxis(_warp.resize(channels_first, size)[0], 0, -1)


class _Result:
    """The array to fill; its type and its classes are known after the first window."""

    def __init__(self, shape: tuple[int, ...], probabilities: bool) -> None:
        self.shape = shape
        self.probabilities = probabilities
        self._array: Array | None = None

    def array(self, classes: int) -> Array:
        """Allocate it, once."""
        if self._array is None:
            if self.probabilities:
                self._array = np.empty((classes, *self.shape), np.float32)
            else:
                self._array = np.empty(self.shape, np.min_scalar_type(max(1, classes - 1)))
        return self._array

    def like(self, volume: Any) -> Any:
        """As the caller gave the image."""
        assert self._array is not None
        found = np.moveaxis(self._array, 0, -1) if self.probabilities else self._array
        if not isinstance(volume, Volume):
            return found
        spatial = volume.axes.replace("c", "")
        return volume.like(found, axes=spatial + "c" if self.probabilities else spatial)


def _ticker(report: Callable[[int, int], None], total: int, cancel: Any) -> Callable[[int], None]:
    asked = cancel.is_set if isinstance(cancel, Event) else cancel
    if asked is not None and not callable(asked):
        raise TypeError(f"{_OP}: cancel must be an Event or callable, got {type(cancel).__name__}")
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if count:
            report(done, total)
        if asked is not None and asked():
            raise Cancelled(f"{_OP}: cancelled after {done} of {total} windows")

    return tick


@contextlib.contextmanager
def _bar(progress: Any, total: int) -> Iterator[Callable[[int, int], None]]:
    if callable(progress):
        yield progress
        return
    if not progress or not sys.stderr.isatty():
        yield lambda done, total: None
        return

    def draw(done: int, total: int) -> None:
        filled = 30 * done // total
        print(f"\rpredict [{'#' * filled:30}] {done}/{total}", end="", file=sys.stderr, flush=True)

    draw(0, total)
    try:
        yield draw
    finally:
        print(file=sys.stderr)
