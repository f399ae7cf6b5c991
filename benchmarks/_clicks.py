"""Segmenting with three clicks: two corners of a box around the target, and a pixel inside it.

The clicks are read off the expert's mask: the box is its bounding box, one pixel wider on each side
where the image goes on, the pixel the one deepest inside. Every method gets the same ones, knows
nothing else of the mask, and has one setting for all images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms

Array = NDArray[Any]

_CRUMB = 0.02  # of the largest part: what is smaller is none


class Scene(NamedTuple):
    """What a method sees: an image cut to twice the box, the box in it, and the pixel inside."""

    image: Array
    box: tuple[slice, ...]
    inside: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def outside(self) -> Array:
        """Pixels beyond the box."""
        mask = np.ones(self.image.shape, bool)
        mask[self.box] = False
        return mask

    @property
    def core(self) -> Array:
        """An ellipsoid around the pixel inside, a quarter of the box along each axis."""
        return self._ellipsoid(self.inside, 0.25)

    @property
    def seeds(self) -> Array:
        """The part of the core that lies in the box."""
        return self.core & ~self.outside

    @property
    def sigma(self) -> list[float]:
        """One voxel of the finest axis, in voxels of each."""
        return [min(self.spacing) / mm for mm in self.spacing]

    @property
    def ball(self) -> Array:
        """The ellipsoid that fills nine tenths of the box."""
        return self._ellipsoid([(s.start + s.stop - 1) / 2 for s in self.box], 0.9)

    def _ellipsoid(self, centre: Any, part: float) -> Array:
        total = np.zeros(self.image.shape)
        for axis, (index, c) in enumerate(zip(np.indices(total.shape), centre, strict=True)):
            half = max(1.0, part * (self.box[axis].stop - self.box[axis].start) / 2)
            total += ((index - c) / half) ** 2
        return total <= 1


def scene(image: Array, truth: Array, spacing: tuple[float, ...]) -> tuple[Scene, Any]:
    """The clicks for a mask, and which part of the image the method sees."""
    places = np.argwhere(truth)
    low, high = places.min(0), places.max(0) + 1
    low, high = np.maximum(low - 1, 0), np.minimum(high + 1, truth.shape)
    room = np.maximum((high - low) // 2, 2)
    first, last = np.maximum(low - room, 0), np.minimum(high + room, truth.shape)
    part = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    box = tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))
    padded = np.pad(truth[part] != 0, 1)
    depth = ms.distance_transform_edt(padded, sampling=spacing)
    depth = depth[(slice(1, -1),) * truth.ndim]
    inside = tuple(int(i) for i in np.unravel_index(int(depth.argmax()), depth.shape))
    cut = np.ascontiguousarray(image[part], np.float32)
    return Scene(cut, box, inside, spacing), part


def _markers(s: Scene) -> Array:
    return np.where(s.outside, 2, np.where(s.core, 1, 0)).astype(np.int32)


def _boxed(s: Scene, mask: Array) -> Array:
    """Within the box, the part that holds the pixel inside and those that lie clear of the box.

    A target does not reach the box's sides, so what does is something else, unless the pixel says
    it is the target; a target may have several parts, but no crumbs. Without holes.
    """
    parts = ms.label((mask != 0)[s.box], connectivity=1)
    held = parts[tuple(i - side.start for i, side in zip(s.inside, s.box, strict=True))]
    kept = np.ones(int(parts.max()) + 1, bool)
    kept[_at_sides(parts)] = False
    kept[held] = True
    kept[0] = False
    sizes = np.bincount(parts.ravel()) * kept
    kept &= sizes >= _CRUMB * sizes.max()
    whole = np.zeros(s.image.shape, bool)
    whole[s.box] = _filled(kept[parts] if kept.any() else parts > 0)
    return whole


def _at_sides(labels: Array) -> Array:
    """Which labels reach a side of the array."""
    sides = [np.moveaxis(labels, a, 0)[[0, -1]].ravel() for a in range(labels.ndim)]
    return np.unique(np.concatenate(sides))


def _filled(mask: Array) -> Array:
    holes = ms.label(~mask, connectivity=1)
    return mask | ~np.isin(holes, _at_sides(holes))


def _smooth(s: Scene) -> Array:
    return np.asarray(ms.gaussian(s.image, s.sigma))


def _scaled(s: Scene) -> Array:
    low, high = np.percentile(s.image, (1, 99))
    return ((s.image.clip(low, high) - low) / max(high - low, 1e-6)).astype(np.float32)


def otsu(s: Scene) -> Array:
    """Otsu's threshold of the box; the side on which the pixel inside lies."""
    image = _smooth(s)
    bright = image > ms.threshold_otsu(np.ascontiguousarray(image[s.box]))
    return bright if bright[s.inside] else ~bright


def otsu_closed(s: Scene) -> Array:
    """Otsu's threshold, then as an outline drawn by hand runs: past gaps, around what is enclosed.

    Gaps are closed by a ball of 0.08 of the box (its second longest side), the holes of each plane
    of the coarsest axis are filled.
    """
    image = s.image
    bright = image > ms.threshold_otsu(np.ascontiguousarray(image[s.box]))
    mask = _boxed(s, bright if bright[s.inside] else ~bright)
    sides = [(b.stop - b.start) * mm for b, mm in zip(s.box, s.spacing, strict=True)]
    radius = 0.08 * sorted(sides)[-2]
    room = [2 + int(radius / mm) for mm in s.spacing]
    wide = np.pad(mask, [(n, n) for n in room])
    wide = ms.distance_transform_edt(~wide, sampling=s.spacing) <= radius
    wide = ms.distance_transform_edt(wide, sampling=s.spacing) > radius
    mask = wide[tuple(slice(n, -n) for n in room)]
    if mask.ndim == 3:
        for plane in np.moveaxis(mask, int(np.argmax(s.spacing)), 0):
            plane[...] = _filled(plane)
    return mask


def region_growing(s: Scene) -> Array:
    """Intensities between those of the core and of the surroundings, connected to the pixel."""
    image = _smooth(s)
    core = np.median(image[s.seeds])
    around = np.median(image[s.outside])
    half = abs(core - around) / 2
    low, high = float(core - half), float(core + half)
    if not low <= float(image[s.inside]) <= high:
        return s.core
    return ms.connected_threshold(image, s.inside, low, high)


def confidence(s: Scene) -> Array:
    return ms.confidence_connected(_smooth(s), s.inside, 2.5, 4, 1)


def watershed(s: Scene) -> Array:
    """Of the gradient, from the core and from beyond the box."""
    gradient = ms.gaussian_gradient_magnitude(s.image, s.sigma)
    return ms.watershed(gradient, _markers(s)) == 1


def random_walker(s: Scene) -> Array:
    return ms.random_walker(_scaled(s), _markers(s), beta=5000, tol=1e-4, spacing=s.spacing) == 1


def graph_cut(s: Scene) -> Array:
    return ms.graph_cut(_scaled(s), s.seeds, s.outside, lambda_=2.0, spacing=s.spacing)


def grab_cut(s: Scene) -> Array:
    box = [(int(p.start), int(p.stop)) for p in s.box]
    # A grey value tells less than a colour, for which the default of 50 is made.
    return ms.grab_cut(_scaled(s), box, foreground_seeds=s.seeds, lambda_=2.0, spacing=s.spacing)


def geodesic(s: Scene) -> Array:
    return (
        ms.geodesic_segmentation(_scaled(s), _markers(s), spacing=s.spacing, intensity_weight=20.0)
        == 1
    )


def level_set(s: Scene) -> Array:
    """Chan-Vese from the ellipsoid that fills the box."""
    image = 255 * _scaled(s).astype(np.float64)
    return ms.morphological_chan_vese(image, 40, s.ball.astype(np.int8), smoothing=2)


def edge_level_set(s: Scene) -> Array:
    """From the ellipsoid that fills the box to the edges, swelling a little."""
    edges = np.asarray(ms.gaussian_gradient_magnitude(255 * _scaled(s), s.sigma))
    strong = np.percentile(edges, 90)
    speed = 1 / (1 + np.exp(6 * edges / strong - 3))
    return ms.geodesic_active_contour(
        speed, s.ball, propagation_scaling=0.1, advection_scaling=2.0, spacing=s.spacing
    ).mask


def ellipsoid(s: Scene) -> Array:
    """What the box alone says; no method."""
    return s.ball


METHODS: dict[str, Callable[[Scene], Array]] = {
    "threshold_otsu": otsu,
    "threshold_otsu and closing": otsu_closed,
    "connected_threshold": region_growing,
    "confidence_connected": confidence,
    "watershed": watershed,
    "random_walker": random_walker,
    "graph_cut": graph_cut,
    "grab_cut": grab_cut,
    "geodesic_segmentation": geodesic,
    "morphological_chan_vese": level_set,
    "geodesic_active_contour": edge_level_set,
    "(ellipsoid in the box)": ellipsoid,
}


def scores(
    image: Array,
    truth: Array,
    spacing: tuple[float, ...],
    methods: Mapping[str, Callable[[Scene], Array]] = METHODS,
) -> dict[str, float]:
    """Dice of every method."""
    seen, part = scene(image, truth, spacing)
    found = {}
    for name, method in methods.items():
        whole = np.zeros(truth.shape, bool)
        whole[part] = _boxed(seen, method(seen))
        found[name] = ms.dice(whole, truth != 0)
    return found
