"""Classical methods with three clicks, scored on real scans: ``python benchmarks/clicks.py``.

The clicks are those of a careful user, by the rule that interactive methods are compared with: the
first where the object is deepest, each next one where the largest error is deepest, inside or
outside. All methods get the same kind of marks from them: balls around clicks, and "farther than
`reach` is background". Options are the same for all cases of a set and all clicks.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import medseg_fast as ms
from medseg_fast import io

HERE = Path(__file__).parent
DATA = Path(os.environ.get("MEDSEG_FAST_DATA", HERE.parents[1] / "shared" / "data"))
CLICKS = 3

Array = np.ndarray[Any, Any]
Index = tuple[int, ...]


class Scan(NamedTuple):
    image: Array
    truth: Array
    spacing: tuple[float, ...]


class Marks(NamedTuple):
    """What a method may know."""

    image: Array
    spacing: tuple[float, ...]
    smooth: Array
    inside: Array
    outside: Array
    clicks: list[Index]
    around: Array  # distance from the clicks inside, mm
    reach: float  # mm

    @property
    def labels(self) -> Array:
        return self.inside + 2 * self.outside.astype(np.int32)


class Set(NamedTuple):
    name: str
    scans: Callable[[], Iterator[Scan]]
    bar: float
    ball: float  # mm
    reach: float  # mm
    sigma: float  # of smoothing, mm
    strength: float  # of a cut's boundary


# --- scans


def pair(image: str, truth: str) -> Iterator[Scan]:
    scan, mask = io.read(DATA / image), io.read(DATA / truth)
    yield Scan(scan.array.astype(np.float32), mask.array > 0, tuple(scan.spacing))


def cords() -> Iterator[Scan]:
    for name in ("t1w", "t2"):
        yield from pair(f"mr_spinal_cord/{name}.nii.gz", f"mr_spinal_cord/{name}_cord.nii.gz")


def carotids() -> Iterator[Scan]:
    for path in sorted((DATA / "us_carotid" / "images").glob("*.png")):
        image, mask = (io.read(p).array for p in (path, path.parents[1] / "masks" / path.name))
        grey = image if image.ndim == 2 else image[..., :3].mean(-1)
        truth = (mask if mask.ndim == 2 else mask[..., 0]) > 0
        yield Scan(grey.astype(np.float32), truth, (1.0, 1.0))


SETS = [
    Set(
        "mr_brain_tumour",
        lambda: pair("mr_brain_tumour/brain1_image.nrrd", "mr_brain_tumour/brain1_tumour.nrrd"),
        0.85,
        5,
        25,
        1,
        5,
    ),
    Set(
        "ct_lung_tumour",
        lambda: pair("ct_lung_tumour/lung2_image.nrrd", "ct_lung_tumour/lung2_tumour.nrrd"),
        0.85,
        5,
        30,
        1,
        8,
    ),
    Set("mr_spinal_cord", cords, 0.85, 2.5, 40, 0.7, 3),
    Set("us_carotid", carotids, 0.80, 12, 80, 3, 12),
]


# --- methods


def cut(m: Marks, strength: float) -> Array:
    """Graph cut; the background's intensities are those near the object."""
    nearby = m.outside & (m.around <= 1.6 * m.reach)

    def region(image: Array, inside: Array, outside: Array) -> tuple[Array, Array]:
        low, high = np.percentile(image[nearby | ~m.outside], [1, 99])
        bins = np.clip((image - low) / (high - low) * 32, 0, 31).astype(int)

        def cost(mask: Array) -> Array:
            counts = np.bincount(bins[mask], minlength=32)
            smooth = np.convolve(np.pad(counts, 2, "edge"), (1, 4, 6, 4, 1), "valid")
            return -np.log(0.95 * smooth / smooth.sum() + 0.05 / 32)[bins].astype(np.float32)

        return cost(inside), cost(nearby)

    return ms.graph_cut(
        m.image, m.inside, m.outside, lambda_=strength, spacing=m.spacing, region=region
    )


def gradient(m: Marks, sigma: float) -> Array:
    return ms.gaussian_gradient_magnitude(m.image, [sigma / s for s in m.spacing])


def grown(m: Marks, grow: Callable[..., Array]) -> Array:
    values = m.smooth[m.inside]
    half = 3 * float(values.std())
    return grow(m.smooth, float(values.mean()) - half, float(values.mean()) + half) & ~m.outside


def interval(m: Marks) -> Array:
    return grown(m, lambda a, low, high: ms.connected_threshold(a, m.clicks, low, high))


def within_reach(m: Marks, evolve: Callable[[Array, Array], Array]) -> Array:
    """Contours see the part within reach: what lies beyond would set the means of both sides."""
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(m.around <= m.reach))
    found = np.zeros(m.image.shape, bool)
    found[box] = evolve(m.smooth[box], m.inside[box])
    return found & ~m.outside


def contour(m: Marks) -> Array:
    return within_reach(
        m,
        lambda image, start: (
            ms.chan_vese_level_set(image, start, mu=0.02, spacing=m.spacing, max_iterations=300).mask
        ),
    )


def itk(m: Marks, name: str) -> Array:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(m.smooth)
    seeds = [[int(i) for i in reversed(click)] for click in m.clicks]
    if name == "ConfidenceConnected":
        found = sitk.ConfidenceConnected(image, seeds, 4, 3.0, 2, 1)
        return (sitk.GetArrayFromImage(found) > 0) & ~m.outside

    def grow(_: Array, low: float, high: float) -> Array:
        return sitk.GetArrayFromImage(sitk.ConnectedThreshold(image, seeds, low, high)) > 0

    return grown(m, grow)


def scikit(m: Marks, name: str, sigma: float) -> Array:
    from skimage import segmentation

    if name == "watershed":
        return segmentation.watershed(gradient(m, sigma), m.labels) == 1
    if name == "random_walker":
        labels = segmentation.random_walker(
            m.smooth, m.labels, beta=130, mode="cg_j", spacing=m.spacing
        )
        return labels == 1
    return within_reach(
        m, lambda image, start: segmentation.morphological_chan_vese(image, 100, start) > 0
    )


Method = Callable[[Marks, Set], Array]
OURS: dict[str, Method] = {
    "graph cut": lambda m, s: cut(m, s.strength),
    "watershed": lambda m, s: ms.watershed(gradient(m, 2 * s.sigma), m.labels) == 1,
    "random walks": lambda m, s: (
        ms.random_walker(m.smooth, m.labels, mode="cg_mg", spacing=m.spacing) == 1
    ),
    "geodesic": lambda m, s: ms.geodesic_segmentation(m.smooth, m.labels, spacing=m.spacing) == 1,
    "region growing": lambda m, s: interval(m),
    "level set": lambda m, s: contour(m),
}
PEERS: dict[str, Method] = {
    "scikit-image watershed": lambda m, s: scikit(m, "watershed", 2 * s.sigma),
    "scikit-image random_walker": lambda m, s: scikit(m, "random_walker", s.sigma),
    "scikit-image morphological_chan_vese": lambda m, s: scikit(m, "chan_vese", s.sigma),
    "SimpleITK ConnectedThreshold": lambda m, s: itk(m, "ConnectedThreshold"),
    "SimpleITK ConfidenceConnected": lambda m, s: itk(m, "ConfidenceConnected"),
}


# --- clicks


def deepest(mask: Array, spacing: tuple[float, ...]) -> Index:
    depth = ms.distance_transform_edt(np.pad(mask, 1), spacing)
    inner = depth[tuple(slice(1, -1) for _ in mask.shape)]
    return tuple(int(i) for i in np.unravel_index(int(inner.argmax()), inner.shape))


def distance(clicks: list[Index], scan: Scan) -> Array:
    away = np.ones(scan.truth.shape, bool)
    for click in clicks:
        away[click] = False
    return ms.distance_transform_edt(away, scan.spacing)


def largest(mask: Array) -> Array:
    labels = ms.label(mask, connectivity=1)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1 if mask.any() else mask


def tidy(mask: Array, marks: Marks) -> Array:
    """The parts that were clicked on, without holes."""
    labels = ms.label(mask, connectivity=1)
    wanted = {int(labels[click]) for click in marks.clicks} - {0}
    return ms.fill_holes(np.isin(labels, list(wanted)))


def scores(method: Method, scan: Scan, of: Set) -> list[float]:
    """Dice after each click."""
    smooth = ms.gaussian(scan.image, [of.sigma / s for s in scan.spacing], preserve_range=True)
    inside, outside, found = [deepest(scan.truth, scan.spacing)], [], []
    for _ in range(CLICKS):
        around = distance(inside, scan)
        ball = around <= of.ball
        far = around > of.reach
        if outside:
            far |= (distance(outside, scan) <= of.ball) & ~ball
        marks = Marks(scan.image, scan.spacing, smooth, ball, far, inside, around, of.reach)
        mask = tidy(method(marks, of), marks)
        found.append(ms.metrics.dice(mask, scan.truth))
        missed, extra = largest(scan.truth & ~mask), largest(mask & ~scan.truth)
        if missed.sum() >= extra.sum():
            inside.append(deepest(missed, scan.spacing))
        else:
            outside.append(deepest(extra, scan.spacing))
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    lines = [
        "# Three clicks",
        "",
        "Dice after one, two and three clicks, mean over a set's scans. Made by "
        "`python benchmarks/clicks.py`, which says how clicks and marks are made.",
        "",
        "| set | method | 1 | 2 | 3 | wanted |",
        "|---|---|---|---|---|---|",
    ]
    for of in SETS:
        scans = list(of.scans())
        rows = []
        for name, method in {**OURS, **PEERS}.items():
            mean = np.mean([scores(method, scan, of) for scan in scans], axis=0)
            rows.append((float(mean[-1]), name, mean, name in OURS))
        for _, name, mean, ours in sorted(rows, key=lambda row: -row[0]):
            shown = f"**{name}**" if ours else name
            cells = " | ".join(f"{value:.3f}" for value in mean)
            lines.append(f"| {of.name} | {shown} | {cells} | {of.bar:.2f} |")
            print(lines[-1], flush=True)
    lines += ["", "Bold: ours."]
    (HERE / "clicks.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
