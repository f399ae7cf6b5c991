"""What is drawn, and in which order it is done."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._warp import labels_of, monomials, resize, rotation, source, warp
from medseg_fast.augment import _settings as settings
from medseg_fast.augment._beyond import marked
from medseg_fast.augment._settings import OP
from medseg_fast.gaussian import gaussian

Array = NDArray[Any]

_COARSE = 3.0  # an axis is coarse whose voxels are so many times longer than the finest
_COLOURS = 0x636F6C6F  # makes another seed of a seed
_UNFOLDED = 0.4  # of the points' distance: a B-spline moved by less folds nowhere (Choi and Lee)


class _Drawn(NamedTuple):
    """What one call does; None: not this time."""

    angles: tuple[float, ...] | None  # radians
    zoom: float
    flips: tuple[bool, ...]
    elastic: Array | None  # (D, points, ...) from -1 to 1
    gamma: float
    noise: float
    bias: list[float]
    blur: float
    coarser: float
    contrast: bool
    brightness: bool
    grey: bool
    invert: bool
    seed: int


class Augmenter:
    """Random changes of an image and its labels, a function of the seed alone.

    Every setting that is left out is off. A range is two numbers; a single number stands for the
    range that is named.

    Parameters
    ----------
    rotation : float, range or sequence of ranges, optional
        Degrees; one number r: from -r to r. About each axis, or in the plane of 2D. Three numbers
        or ranges: about axis 0, 1, 2. Where voxels are at least three times longer along one axis
        than along another, a single one turns about that axis alone.
    scale : float or range, optional
        Size of things, all axes alike; one number s: from 1 / s to s. Drawn on a log scale.
    flip : bool or sequence of int, optional
        Axes that may be mirrored, each by itself; True: all.
    elastic : float, optional
        Up to how far, in mm along each axis, the control points of a cubic B-spline move. What
        would fold the image (0.4 of the points' distance) is not exceeded. Nothing moves along
        axes of coarse voxels.
    gamma : float or range, optional
        Exponent of values, as parts of each channel's range; one number g: from 1 / g to g. Drawn
        on a log scale.
    noise : float or range, optional
        Standard deviation of normal noise, in the image's units; one number n: from 0 to n.
    bias : float, optional
        Multiplies by the exponential of a polynomial of degree 3, whose coefficients lie between
        -bias and bias in coordinates from -1 to 1, as coils of MR shade an image.
    blur : float or range, optional
        Standard deviation of a Gaussian in mm; one number b: from 0 to b.
    low_resolution : float or range, optional
        How many times coarser the voxels of a scan are that is then resampled to these (coarse axes
        stay); one number r: from 1 to r.
    contrast : float or range, optional
        Factor of the values' distance from the mean, for each channel by itself; one number c: from
        1 / c to c. Drawn on a log scale.
    brightness : float or range, optional
        What is added, in the image's units, for each channel by itself; one number b: from -b to b.
        With `contrast`: other stains, lamps and white balances.
    grey : bool, optional
        Whether all channels may become one mean of them, with random weights.
    invert : bool, optional
        Whether values may be mirrored about their mean, so that bright and dark change places.
    probability : float or mapping of names to floats, optional
        How often each change happens, by name ("rotation", ...). A number is for all but flips,
        which are even chances.
    control_points : int, optional
        Intervals between control points along each axis.
    order : {1, 3}, optional
        Linear interpolation, or cubic (Keys; 3 to 5 times slower in 3D).
    fill : float or "nearest", optional
        What lies beyond the image: a value, or its nearest voxel.
    label_fill : int, optional
        The label that lies there; that of a loss's `ignore_index`, such as -100, where nothing is
        known. Labels whose dtype does not hold it are widened: with -100 uint8 becomes int16.

    Notes
    -----
    All changes of place and a crop are one resampling by a compiled kernel, on all threads: labels
    take the nearest voxel, exactly where the image is interpolated. Then low resolution, blur,
    grey, contrast, brightness, inversion, bias field, gamma and noise follow. The result is the
    same for any number of threads, and on any CPU but for the last bit of the drawn sines and
    cosines. A call that draws flips and a move by whole voxels alone copies.

    An augmenter holds no state: it can be shared by threads, and pickled.

    Time O(n), extra memory beside the result: 4 bytes a voxel where blur or low resolution are
    drawn, else none; images other than bool, uint8, uint16, int16 and float32 are converted to
    float32 first.

    References
    ----------
    .. [1] D. Rueckert et al., "Nonrigid registration using free-form deformations", IEEE
       Transactions on Medical Imaging 18 (1999) 712-721.
    .. [2] F. Isensee et al., "nnU-Net", Nature Methods 18 (2021) 203-211: which changes help.
    .. [3] D. Tellez et al., "Quantifying the effects of data augmentation and stain color
       normalization in convolutional neural networks for computational pathology", Medical Image
       Analysis 58 (2019) 101544.
    """

    def __init__(
        self,
        *,
        rotation: float | Sequence[Any] | None = None,
        scale: float | Sequence[float] | None = None,
        flip: bool | Sequence[int] = False,
        elastic: float | None = None,
        gamma: float | Sequence[float] | None = None,
        noise: float | Sequence[float] | None = None,
        bias: float | None = None,
        blur: float | Sequence[float] | None = None,
        low_resolution: float | Sequence[float] | None = None,
        contrast: float | Sequence[float] | None = None,
        brightness: float | Sequence[float] | None = None,
        grey: bool = False,
        invert: bool = False,
        probability: float | Mapping[str, float] = 0.3,
        control_points: int = 7,
        order: int = 1,
        fill: float | str = 0.0,
        label_fill: int = 0,
    ) -> None:
        self.rotation = settings.rotation(rotation)
        self.scale = settings.number_range("scale", scale, lambda s: (1 / s, s), above=0)
        self.flip = settings.flip(flip)
        self.elastic = settings.number_range("elastic", elastic, lambda e: (-e, e))
        self.gamma = settings.number_range("gamma", gamma, lambda g: (1 / g, g), above=0)
        self.noise = settings.number_range("noise", noise, lambda n: (0, n), least=0)
        self.bias = settings.number_range("bias", bias, lambda b: (-b, b))
        self.blur = settings.number_range("blur", blur, lambda b: (0, b), least=0)
        self.low_resolution = settings.number_range(
            "low_resolution", low_resolution, lambda r: (1, r), least=1
        )
        self.contrast = settings.number_range("contrast", contrast, lambda c: (1 / c, c), above=0)
        self.brightness = settings.number_range("brightness", brightness, lambda b: (-b, b))
        self.grey = settings.flag("grey", grey)
        self.invert = settings.flag("invert", invert)
        self.probability = settings.probability(probability)
        self.control_points = _checks.integer(OP, "control_points", control_points, 1)
        if order not in (1, 3):
            raise ValueError(f"{OP}: order must be 1 or 3, got {order!r}")
        self.order = int(order)
        if isinstance(fill, str) and fill != "nearest":
            raise ValueError(f"{OP}: fill must be a number or 'nearest', got {fill!r}")
        self.fill = None if isinstance(fill, str) else float(_checks.number(OP, "fill", fill))
        self.label_fill = _checks.integer(OP, "label_fill", label_fill, -(2**63), 2**63 - 1)

    def __repr__(self) -> str:
        """The call that makes it: whatever is not the default."""
        shown = {name: getattr(self, name) for name in settings.CHANGES if getattr(self, name)}
        chances = {name: self.probability[name] for name in shown}
        if any(settings.CHANCES[name] != chance for name, chance in chances.items()):
            shown["probability"] = chances
        rest = inspect.signature(Augmenter).parameters
        for name in ("control_points", "order", "fill", "label_fill"):
            value = getattr(self, name)
            if value != rest[name].default:
                shown[name] = "nearest" if value is None else value
        return f"Augmenter({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __call__(
        self,
        image: ArrayLike,
        label: ArrayLike | None = None,
        *,
        seed: int | Sequence[int],
        spacing: Sequence[float] | None = None,
        out_shape: Sequence[int] | None = None,
        center: Sequence[float] | None = None,
    ) -> tuple[NDArray[np.float32], Any]:
        """Change an image and its label.

        Parameters
        ----------
        image : array_like
            (C, rows, columns) or (C, planes, rows, columns).
        label : array_like, optional
            The image's spatial shape, any dtype.
        seed : int or sequence of int
            Not negative; the same seed gives the same result. A sequence is handy for (epoch,
            index).
        spacing : sequence of float, optional
            Voxel size in mm along each spatial axis; 1 by default. Rotations keep shapes in mm.
        out_shape : sequence of int, optional
            Spatial shape of the result: a patch of the image. Default: the image's.
        center : sequence of float, optional
            Where in the image, in voxels, the middle of the result lies: that of a patch from
            ``start`` on is ``start + (size - 1) / 2``. Default: the middle, by whole voxels.

        Returns
        -------
        image : ndarray of float32
            (C, *out_shape).
        label : ndarray or None
            Of `out_shape` and the label's dtype, or the smallest signed one that also holds
            `label_fill`.

        Raises
        ------
        TypeError
            If a dtype is not supported.
        ValueError
            If shapes do not fit, `spacing` is not positive, or the label cannot be widened to hold
            `label_fill`: a mask, or uint64 and a negative one.
        """
        array = source(OP, image)
        spatial = array.shape[1:]
        given = None
        if label is not None:
            given = marked(labels_of(OP, label, spatial), self.label_fill)
        sizes = _checks.spacing(OP, spacing, len(spatial))
        shape = spatial
        if out_shape is not None:
            shape = tuple(_checks.integer(OP, "out_shape", n, 1) for n in out_shape)
            if len(shape) != len(spatial):
                raise ValueError(
                    f"{OP}: out_shape must have {len(spatial)} numbers, got {out_shape!r}"
                )
        middle = _middle(center, spatial, shape)
        if not isinstance(self.flip, settings.EveryAxis) and any(
            a >= len(spatial) for a in self.flip
        ):
            raise ValueError(f"{OP}: flip must name axes below {len(spatial)}, got {self.flip}")
        coarse = [size >= _COARSE * min(sizes) for size in sizes]
        drawn = self._draw(seed, coarse)
        matrix, offset, control = self._map(drawn, sizes, coarse, shape, middle)
        out, moved = warp(
            array,
            matrix,
            offset,
            shape,
            control=control,
            order=self.order,
            fill=self.fill,
            label=given.label if given else None,
            label_fill=given.mark if given else 0,
        )
        out = _shaded(self._coloured(_coarsened(out, drawn, sizes, coarse), drawn), drawn)
        return out, given.filled(moved, self.label_fill) if given and moved is not None else None

    def _draw(self, seed: int | Sequence[int], coarse: list[bool]) -> _Drawn:
        """The same numbers for the same seed, whichever other changes are on."""
        try:
            sequence = np.random.SeedSequence(seed)
        except (TypeError, ValueError):
            raise ValueError(f"{OP}: seed must be integers from 0 on, got {seed!r}") from None
        rng = np.random.Generator(np.random.Philox(sequence))
        ndim = len(coarse)
        count = len(settings.CHANGES)
        chances, turns, flips, rest, bias = np.split(
            rng.random(count + 3 + 3 + 5 + 20), np.cumsum([count, 3, 3, 5])
        )
        happens = {
            name: getattr(self, name) not in (None, False) and chance < self.probability[name]
            for name, chance in zip(settings.CHANGES, chances, strict=True)
        }

        def between(name: str, u: float, log: bool = False, off: float = 0.0) -> float:
            if not happens[name]:
                return off
            low, high = getattr(self, name)
            return float(low * (high / low) ** u if log else low + u * (high - low))

        angles = None
        if happens["rotation"]:
            angles = self._angles(turns, coarse)
        elastic = None
        if happens["elastic"]:
            elastic = rng.uniform(-1, 1, (ndim, *(self.control_points + 3,) * ndim))
        low, high = self.bias or (0.0, 0.0)
        even = self.probability["flip"]
        fields = monomials() if happens["bias"] else []
        return _Drawn(
            angles=angles,
            zoom=between("scale", rest[0], True, 1.0),
            flips=tuple(a in self.flip and flips[a] < even for a in range(ndim)),
            elastic=elastic,
            gamma=between("gamma", rest[1], True, 1.0),
            noise=between("noise", rest[2]),
            bias=[
                float(low + u * (high - low)) if ndim == 3 or e[0] == 0 else 0.0
                for e, u in zip(fields, bias, strict=False)
            ],
            blur=between("blur", rest[3]),
            coarser=between("low_resolution", rest[4], False, 1.0),
            **{name: happens[name] for name in ("contrast", "brightness", "grey", "invert")},
            seed=int(sequence.generate_state(2, np.uint64)[1]),
        )

    def _angles(self, turns: Array, coarse: list[bool]) -> tuple[float, ...]:
        ranges = self.rotation or []
        axes = 1 if len(coarse) == 2 else 3
        if len(ranges) not in (1, axes):
            raise ValueError(f"{OP}: rotation must have one range, or one an axis, got {ranges}")
        alone = len(ranges) == 1 and axes == 3 and sum(coarse) == 1
        angles = [
            math.radians(low + u * (high - low))
            for (low, high), u in zip(ranges * (axes // len(ranges)), turns, strict=False)
        ]
        return tuple(a if not alone or c else 0.0 for a, c in zip(angles, coarse, strict=False))

    def _coloured(self, image: Array, drawn: _Drawn) -> NDArray[np.float32]:
        """The image with other channels; changes it."""
        if not image.size or not (drawn.contrast or drawn.brightness or drawn.grey or drawn.invert):
            return image
        # Of its own seed: however many channels there are, other changes draw the same.
        rng = np.random.Generator(np.random.Philox(drawn.seed ^ _COLOURS))
        channels = len(image)
        if drawn.grey and channels > 1:
            weights = rng.dirichlet(np.ones(channels)).astype(np.float32)
            image[...] = np.tensordot(weights, image, 1)
        factor, shift = np.ones(channels), np.zeros(channels)
        if drawn.contrast and self.contrast is not None:
            low, high = np.log(self.contrast)
            factor = np.exp(rng.uniform(low, high, channels))
        if drawn.brightness and self.brightness is not None:
            low, high = self.brightness
            shift = rng.uniform(low, high, channels)
        if drawn.invert:
            factor = -factor
        for channel, f, s in zip(image, factor, shift, strict=True):
            mean = channel.mean(dtype=np.float64)
            channel *= np.float32(f)
            channel += np.float32(mean * (1 - f) + s)
        return image

    def _map(
        self,
        drawn: _Drawn,
        sizes: tuple[float, ...],
        coarse: list[bool],
        shape: tuple[int, ...],
        middle: Array,
    ) -> tuple[Array, Array, Array | None]:
        """From voxels of the result to voxels of the image."""
        ndim, spacing = len(shape), np.array(sizes)
        matrix = np.diag([-1.0 if flip else 1.0 for flip in drawn.flips])
        if drawn.angles is not None:
            turn = rotation(drawn.angles)
            matrix = matrix @ (turn * spacing / spacing[:, None])
        matrix = matrix / drawn.zoom
        offset = middle - matrix @ ((np.array(shape) - 1) / 2)
        if drawn.elastic is None or self.elastic is None:
            return matrix, offset, None
        # One interval at least a voxel long; fewer points where the result is small.
        intervals = [max(1, min(self.control_points, n)) for n in shape]
        points = drawn.elastic[(slice(None), *(slice(0, k + 3) for k in intervals))]
        reach = [
            0.0 if c else min(self.elastic[1], _UNFOLDED * size * n / k) / size
            for c, size, n, k in zip(coarse, sizes, shape, intervals, strict=True)
        ]
        moved = points * np.reshape(reach, (ndim, *(1,) * ndim))
        return matrix, offset, np.ascontiguousarray(moved, np.float32)


def _coarsened(
    image: Array, drawn: _Drawn, sizes: tuple[float, ...], coarse: list[bool]
) -> NDArray[np.float32]:
    """The image with fewer details."""
    spatial = image.shape[1:]
    if image.size == 0:
        return image
    if drawn.coarser > 1:
        few = tuple(
            n if c else max(1, round(n / drawn.coarser))
            for n, c in zip(spatial, coarse, strict=True)
        )
        image, _ = resize(resize(image, few)[0], spatial)
    if drawn.blur > 0:
        image = gaussian(image, drawn.blur, channel_axis=0, spacing=sizes, truncate=3.0)
    return image


def _shaded(image: Array, drawn: _Drawn) -> NDArray[np.float32]:
    """The image with a field, curve and noise; changes it."""
    spatial = image.shape[1:]
    if image.size and (drawn.bias or drawn.gamma != 1 or drawn.noise > 0):
        channels = len(image)
        volume = image.reshape(channels, *(1,) * (3 - len(spatial)), *spatial)
        core.shade(
            volume, drawn.bias, [drawn.gamma] * channels, [drawn.noise] * channels, drawn.seed
        )
    return image


def standard(**changes: Any) -> Augmenter:
    """An `Augmenter` whose settings suit most scans, normalised to a deviation of about 1.

    Parameters
    ----------
    **changes
        Settings of `Augmenter` that differ; None turns a change off.

    Examples
    --------
    >>> standard(flip=False, elastic=None)
    Augmenter(rotation=[(-15.0, 15.0)], scale=(0.8, 1.25), gamma=(0.7, 1.5), noise=(0.0, 0.1), \
bias=(-0.3, 0.3), blur=(0.5, 1.0), low_resolution=(1.0, 2.0), probability={'rotation': 0.3, \
'scale': 0.3, 'gamma': 0.3, 'noise': 0.15, 'bias': 0.15, 'blur': 0.15, 'low_resolution': 0.15}, \
fill='nearest')
    """
    given: dict[str, Any] = {
        "rotation": 15,
        "scale": 1.25,
        "flip": True,
        "elastic": 6,
        "gamma": (0.7, 1.5),
        "noise": 0.1,
        "bias": 0.3,
        "blur": (0.5, 1.0),
        "low_resolution": 2,
        "fill": "nearest",  # air beyond air, whatever its normalised value
        "probability": {"rotation": 0.3, "scale": 0.3, "elastic": 0.2, "bias": 0.15}
        | {"gamma": 0.3, "noise": 0.15, "blur": 0.15, "low_resolution": 0.15},
    }
    return Augmenter(**{**given, **changes})


def _middle(
    center: Sequence[float] | None, spatial: tuple[int, ...], shape: tuple[int, ...]
) -> Array:
    """Where in the image the middle of the result lies."""
    if center is None:
        return np.array([(n - m) // 2 + (m - 1) / 2 for n, m in zip(spatial, shape, strict=True)])
    numbers = [float(_checks.number(OP, "center", c)) for c in center]
    if len(numbers) != len(spatial) or not all(abs(c) < 1e9 for c in numbers):
        raise ValueError(f"{OP}: center must be {len(spatial)} numbers, got {center!r}")
    return np.array(numbers)
