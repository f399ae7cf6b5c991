"""ROI Align over the levels of a feature pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.nn.functional import _boxes
from medseg_fast.nn.functional.roi_align import feature_map, pool, samples_of, sizes_of


def _scales(
    op: str, shapes: Sequence[tuple[int, ...]], image_shapes: Any, scales: Any
) -> list[float]:
    """Each level's scale: given, or the power of two next to its rows over those of the images."""
    if scales is not None:
        given = _checks.sequence(op, "scales", scales)
        found = [float(_checks.number(op, "scales", s)) for s in given]
        if len(found) != len(shapes) or not all(0 < s < math.inf for s in found):
            raise ValueError(
                f"{op}: scales must be a positive number for each of {len(shapes)} features, "
                f"got {scales!r}"
            )
        return found
    given = () if image_shapes is None else _checks.sequence(op, "image_shapes", image_shapes)
    if not given:
        raise ValueError(f"{op}: image_shapes must not be empty, unless scales are given")
    images = [_checks.sequence(op, "image_shapes", shape) for shape in given]
    if any(len(image) != 2 for image in images):
        raise ValueError(
            f"{op}: image_shapes must be (rows, columns) of each image, got {image_shapes!r}"
        )
    rows = max(_checks.integer(op, "image_shapes", image[0], 1) for image in images)
    for shape in shapes:
        if 0 in shape[2:]:
            raise ValueError(f"{op}: features must have pixels, got shape {shape}")
    return [2.0 ** float(np.round(np.log2(np.float32(shape[2] / rows)))) for shape in shapes]


def levels_of(
    xp: Any, regions: Any, scales: list[float], canonical_scale: float, canonical_level: float
) -> Any:
    """The level of each box by equation 1 of [1], in the boxes' own arithmetic; `xp` has them."""
    if len(scales) == 1:
        return xp.zeros(len(regions), np.int64)
    kind = regions.dtype.type
    least, most = (int(-math.log2(scales[i])) for i in (0, -1))
    sides = (regions[:, 3] - regions[:, 1]) * (regions[:, 4] - regions[:, 2])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exponent = xp.log2(xp.sqrt(sides) / kind(canonical_scale))
        level = xp.floor(kind(canonical_level) + exponent + kind(1e-6))
    level = xp.nan_to_num(level, nan=least, neginf=least, posinf=most).clip(least, most)
    return (level.astype(np.int64) - least).clip(0, len(scales) - 1)


def pyramid(
    op: str,
    shapes: Sequence[tuple[int, ...]],
    image_shapes: Any,
    scales: Any,
    canonical_scale: Any,
    canonical_level: Any,
) -> tuple[list[float], float, float]:
    """Each level's scale, and where boxes of which size belong."""
    if not shapes:
        raise ValueError(f"{op}: features must not be empty")
    if any(len(s) != 4 or s[:2] != shapes[0][:2] for s in shapes):
        raise ValueError(
            f"{op}: features must have shapes (N, C, H, W) with one N and C, got {list(shapes)}"
        )
    found = _scales(op, shapes, image_shapes, scales)
    scale = float(_checks.number(op, "canonical_scale", canonical_scale))
    if not scale > 0:
        raise ValueError(f"{op}: canonical_scale must be positive, got {canonical_scale!r}")
    return found, scale, float(_checks.number(op, "canonical_level", canonical_level))


def one_dtype(op: str, maps: Sequence[Any]) -> None:
    if len({m.dtype for m in maps}) > 1:
        raise TypeError(f"{op}: features must have one dtype, got {[str(m.dtype) for m in maps]}")


def _pooled(
    features: Any, boxes: Any, output_size: Any, sampling_ratio: Any = -1, *_: Any, **__: Any
) -> tuple[tuple[int, ...], Any]:
    dtype = np.dtype(features[0].dtype)
    sizes = sizes_of("multiscale_roi_align", output_size, 2)
    shape = (_boxes.count(boxes), features[0].shape[1], *sizes)
    return shape, np.float32 if dtype.kind in "bui" else dtype


_REST = ("boxes", "sampling_ratio", "image_shapes", "scales", "canonical_scale", "canonical_level")


def _gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    rest = {name: given[name] for name in _REST if name in given}
    sizes = tuple(tuple(feature.shape) for feature in given["features"])
    found = multiscale_roi_align_backward(gradients[0], feature_sizes=sizes, **rest)
    return {"features": list(found) if isinstance(found, tuple) else [found]}


@operation(result=_pooled, gradient=_gradient, gpu="multiscale_roi_align")
def multiscale_roi_align(
    features: Sequence[ArrayLike],
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | Sequence[int],
    sampling_ratio: int = -1,
    image_shapes: Sequence[Sequence[int]] | None = None,
    scales: Sequence[float] | None = None,
    canonical_scale: float = 224,
    canonical_level: float = 4,
) -> NDArray[Any]:
    """Pool each box from the level of a feature pyramid that suits its size.

    As torchvision's `MultiScaleRoIAlign`, in one call.

    Parameters
    ----------
    features : sequence of arrays of shape (N, C, H, W)
        The levels, finest first, each half as large as the one before: float16, float32 or float64.
    boxes : array of shape (K, 5) or sequence with an array (L, 4) for each image
        As `roi_align` takes them, in pixels of the images.
    output_size : int or (int, int)
        Rows and columns of bins.
    sampling_ratio : int
        Samples along each axis of a bin; zero or less: as many as the bin has pixels.
    image_shapes : sequence of (rows, columns)
        Sizes of the images the features come from, which give each level's scale.
    scales : sequence of float
        The scales themselves, instead.
    canonical_scale, canonical_level : float
        A box with sides of `canonical_scale` pixels is pooled from the level of scale
        2**-`canonical_level`, one twice as large from the next.

    Returns
    -------
    array of shape (K, C, rows, columns)
        In the dtype of the features.

    Raises
    ------
    AssertionError
        If `boxes` have another shape.
    ValueError
        As `roi_align`; if the features do not fit each other; without `image_shapes` and `scales`.

    See Also
    --------
    roi_align : From one feature map; says what is pooled.

    Notes
    -----
    Differentiable in the features. Boxes of negative area go to the finest level, where torchvision
    reads an undefined one. Time and memory as `roi_align`.

    References
    ----------
    .. [1] Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> fine, coarse = np.zeros((1, 1, 64, 64), np.float32), np.ones((1, 1, 32, 32), np.float32)
    >>> boxes = [[[0, 0, 40, 40], [0, 0, 240, 240]]]
    >>> multiscale_roi_align([fine, coarse], boxes, 1, scales=[1 / 8, 1 / 16]).ravel()
    array([0., 1.], dtype=float32)
    """
    op = "multiscale_roi_align"
    given = _checks.sequence(op, "features", features)
    maps = [feature_map(op, feature, "features") for feature in given]
    one_dtype(op, maps)
    dtype = _boxes.arithmetic(maps[0].dtype) if maps else np.dtype(np.float32)
    shapes = [m.shape for m in maps]
    found, *canonical = pyramid(op, shapes, image_shapes, scales, canonical_scale, canonical_level)
    regions = _boxes.regions(op, boxes, 2, shapes[0][0], dtype)
    sizes = sizes_of(op, output_size, 2)
    samples = samples_of(op, sampling_ratio)
    shape = (len(regions), shapes[0][1], *sizes)
    _checks.addressable(op, "output_size", output_size, shape)
    out = _checks.empty(shape, dtype)
    pool_levels(op, maps, regions, found, canonical, samples, out)
    return out.astype(maps[0].dtype.newbyteorder("="), copy=False)


def pool_levels(
    op: str,
    maps: Sequence[NDArray[Any]],
    regions: NDArray[Any],
    scales: list[float],
    canonical: Sequence[float],
    samples: int,
    out: NDArray[Any],
) -> None:
    """Fill `out` with the regions, each pooled from the level that suits it."""
    levels, sizes = levels_of(np, regions, scales, *canonical), out.shape[2:]
    for level, array in enumerate(maps):
        places = np.flatnonzero(levels == level)
        pool(op, array, regions[places], places, sizes, scales[level], samples, False, out)


def _gradients_of_features(
    gradient: Any, boxes: Any, feature_sizes: Any, *_: Any, **__: Any
) -> tuple[Any, ...]:
    return tuple((tuple(size), gradient.dtype) for size in feature_sizes)


@operation(result=_gradients_of_features, gpu="multiscale_roi_align")
def multiscale_roi_align_backward(
    gradient: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    feature_sizes: Sequence[Sequence[int]],
    sampling_ratio: int = -1,
    image_shapes: Sequence[Sequence[int]] | None = None,
    scales: Sequence[float] | None = None,
    canonical_scale: float = 224,
    canonical_level: float = 4,
) -> tuple[NDArray[Any], ...]:
    """Gradients of the features that `multiscale_roi_align` pooled from.

    Parameters
    ----------
    gradient : array of shape (K, C, rows, columns)
        Gradient of its result.
    boxes, sampling_ratio, image_shapes, scales, canonical_scale, canonical_level
        As it had them.
    feature_sizes : sequence of four integers each
        Shapes of its `features`.

    Returns
    -------
    tuple of arrays
        One of each shape in `feature_sizes`, in the dtype of `gradient`.

    Raises
    ------
    AssertionError, ValueError
        As `multiscale_roi_align`; if `gradient` does not fit.

    Notes
    -----
    The same bytes for any number of threads; memory as `roi_align_backward`.

    References
    ----------
    .. [1] Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> sizes = [(1, 1, 4, 4), (1, 1, 2, 2)]
    >>> fine, coarse = multiscale_roi_align_backward(
    ...     np.ones((1, 1, 1, 1)), [[[0, 0, 2, 2]]], sizes, scales=[1, 0.5]
    ... )
    >>> fine.sum(), coarse.sum()
    (np.float64(1.0), np.float64(0.0))
    """
    op = "multiscale_roi_align_backward"
    array = feature_map(op, gradient, "gradient")
    dtype = _boxes.arithmetic(array.dtype)
    wanted = _checks.sequence(op, "feature_sizes", feature_sizes)
    wanted = tuple(_checks.sequence(op, "feature_sizes", size) for size in wanted)
    shapes = [tuple(_checks.integer(op, "feature_sizes", n, 0) for n in size) for size in wanted]
    for shape in shapes:
        _checks.addressable(op, "feature_sizes", feature_sizes, shape)
    found, *canonical = pyramid(op, shapes, image_shapes, scales, canonical_scale, canonical_level)
    regions = _boxes.regions(op, boxes, 2, shapes[0][0], dtype)
    levels = levels_of(np, regions, found, *canonical)
    if array.ndim != 4 or array.shape[:2] != (len(regions), shapes[0][1]):
        raise ValueError(
            f"{op}: gradient must have shape ({len(regions)}, {shapes[0][1]}, rows, columns), "
            f"got {array.shape}"
        )
    samples = samples_of(op, sampling_ratio)
    given = np.require(array, dtype, ["C", "A"])
    outs = []
    for level, shape in enumerate(shapes):
        out = _checks.empty(shape, dtype)
        places = np.flatnonzero(levels == level)
        if out.size and 0 not in array.shape[2:]:
            core.roi_align_backward(
                given, regions[places], places, array.shape[2:], found[level], samples, False, out
            )
        else:
            out[...] = 0
        outs.append(out.astype(array.dtype.newbyteorder("="), copy=False))
    return tuple(outs)
