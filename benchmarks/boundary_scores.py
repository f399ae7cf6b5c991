"""How well edge flow and Canny find known boundaries: `python benchmarks/boundary_scores.py`.

Boundary F-measure (`boundary_f1`; tolerance 2 pixels, for textures 4) on drawn scenes and on real
images against what experts drew (folder in MEDSEG_FAST_DATA, see tests/conftest.py). For each group
of images every method gets its best sigma of one list, Canny also its best pair of quantiles;
everything else is the default. Edge flow's edges are those around its regions, or all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms

Array = NDArray[Any]
Scene = tuple[Array, Array]  # image, regions

SIGMAS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
QUANTILES = ((0.6, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 0.98))
TOLERANCE = {"intensity": 2, "both": 2, "texture": 4}  # pixels
SIZE = 192


def _grid() -> Array:
    return np.indices((SIZE, SIZE)).astype(np.float64)


def step() -> Scene:
    regions = (_grid()[1] + 0.3 * _grid()[0] > 1.15 * SIZE / 2).astype(int)
    return 100.0 * regions, regions


def discs() -> Scene:
    """Four discs whose contrast is from 100 to -40."""
    y, x = _grid()
    regions, image = np.zeros((SIZE, SIZE), int), np.full((SIZE, SIZE), 60.0)
    known = [(55, 55, 30, 100), (55, 135, 25, 50), (137, 60, 34, 30), (140, 140, 28, -40)]
    for i, (row, column, radius, contrast) in enumerate(known, 1):
        inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
        regions[inside], image[inside] = i, 60 + contrast
    return image, regions


def textures(angles: tuple[float, float], frequencies: tuple[float, float]) -> Scene:
    """A disc of one grating on another; mean and contrast are the same."""
    y, x = _grid()
    regions = ((y - SIZE / 2) ** 2 + (x - SIZE / 2) ** 2 < 50**2).astype(int)
    waves = [
        100 + 50 * np.sin(2 * np.pi * f * (x * np.cos(np.radians(a)) + y * np.sin(np.radians(a))))
        for a, f in zip(angles, frequencies, strict=True)
    ]
    return np.where(regions, waves[1], waves[0]), regions


def _noisy(scene: Scene, noise: float) -> Scene:
    rng = np.random.default_rng(1)
    return scene[0] + rng.normal(0, noise, scene[0].shape), scene[1]


def _blurred(scene: Scene, sigma: float) -> Scene:
    return ms.gaussian(scene[0], sigma), scene[1]


DRAWN: dict[str, tuple[Callable[[], Scene], str]] = {
    "step": (step, "intensity"),
    "discs": (discs, "intensity"),
    "discs, noise 5": (lambda: _noisy(discs(), 5), "intensity"),
    "discs, noise 20": (lambda: _noisy(discs(), 20), "intensity"),
    "discs, blur 3, noise 5": (lambda: _noisy(_blurred(discs(), 3), 5), "intensity"),
    "gratings 0 and 90 degrees": (lambda: textures((0, 90), (0.15, 0.15)), "texture"),
    "gratings 30 and 120 degrees, noise 20": (
        lambda: _noisy(textures((30, 120), (0.15, 0.15)), 20),
        "texture",
    ),
    "gratings of 0.1 and 0.2": (lambda: textures((0, 0), (0.1, 0.2)), "texture"),
}


def _files(folder: str, images: str, truth: str, names: slice) -> Iterator[Scene]:
    from PIL import Image

    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    base = Path(os.environ.get("MEDSEG_FAST_DATA", default)) / folder
    labels = {path.stem: path for path in (base / truth).iterdir()}
    found = [path for path in sorted((base / images).iterdir()) if path.stem in labels]
    for path in found[names]:
        yield np.asarray(Image.open(path)), np.asarray(Image.open(labels[path.stem]))


REAL: dict[str, tuple[tuple[str, str, str, slice], str]] = {
    "nuclei, fluorescence": (
        ("nuclei_dsb2018", "images", "labels", slice(-31, None, 4)),
        "intensity",
    ),
    "skin lesions, colour": (("dermoscopy_isic2017", "images", "masks", slice(0, 40, 5)), "both"),
    "carotid ultrasound": (("us_carotid", "images", "masks", slice(0, 9, 2)), "intensity"),
    "heart MR": (("mr_heart_slices", "images", "labels", slice(0, 18, 3)), "intensity"),
}


def _grey(image: Array) -> Array:
    return image[..., :3].mean(-1, dtype=np.float32) if image.ndim == 3 else image


def canny(image: Array, sigma: float, quantiles: tuple[float, float]) -> Array:
    low, high = quantiles
    return ms.canny(
        _grey(image).astype(np.float32), sigma, low, high, use_quantiles=True, mode="nearest"
    )


def flow(image: Array, sigma: float, features: str, closed: bool) -> Array:
    axis = -1 if image.ndim == 3 else None
    return ms.edge_flow(image, sigma, features=features, channel_axis=axis, closed=closed).edges


def scores(scenes: list[Scene], features: str) -> list[str]:
    """Mean F-measure of each at its best, and with what."""
    near = TOLERANCE[features]
    truths = [ms.find_boundaries(regions, mode="inner") for _, regions in scenes]

    def mean(method: Callable[[Array], Array]) -> float:
        found = [method(image) for image, _ in scenes]
        pairs = zip(found, truths, strict=True)
        return float(np.mean([ms.boundary_f1(edges, t, near).f1 for edges, t in pairs]))

    found = []
    for closed in (True, False):
        best = max((mean(lambda i, s=s, c=closed: flow(i, s, features, c)), s) for s in SIGMAS)
        found.append(f"{best[0]:.3f} (sigma {best[1]:g})")
    score, sigma, (low, high) = max(
        (mean(lambda i, s=s, q=q: canny(i, s, q)), s, q)
        for s, q in itertools.product(SIGMAS, QUANTILES)
    )
    return [*found, f"{score:.3f} (sigma {sigma:g}, quantiles {low:g}, {high:g})"]


def main() -> None:
    print(
        "| images | features | edge flow, closed | edge flow, all | Canny |\n|---|---|---|---|---|"
    )
    for name, (draw, features) in DRAWN.items():
        print(f"| {name} | {features} |", " | ".join(scores([draw()], features)), "|", flush=True)
    for name, (where, features) in REAL.items():
        scenes = list(_files(*where))
        label = f"{name} ({len(scenes)})"
        print(f"| {label} | {features} |", " | ".join(scores(scenes, features)), "|", flush=True)


if __name__ == "__main__":
    main()
