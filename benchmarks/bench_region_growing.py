"""Growing by similarity and the threshold explorer, beside what a user would write instead."""

from __future__ import annotations

import functools
import heapq
import itertools

import numpy as np
import pytest
from _cases import Case
from _data import mni152, photograph

import medseg_fast as ms

SEED = (100, 120, 130)  # white matter


def accept(value, region_mean, region_std, seed_value):
    return abs(value - region_mean) <= 2.5 * region_std + 12


@functools.cache
def numba_breadth_first():
    """region_growing for one 6-connected region as a Numba user would write it."""
    import numba

    rule = numba.njit(accept)

    @numba.njit
    def grow(image, z, y, x):
        mask = np.zeros(image.shape, np.bool_)
        mask[z, y, x] = True
        seed_value = float(image[z, y, x])
        count, mean, squares = 1, seed_value, 0.0
        front = [(z, y, x)]
        while len(front):
            std = np.sqrt(squares / count)
            joined = [(0, 0, 0) for _ in range(0)]
            for z, y, x in front:
                for dz, dy, dx in (
                    (-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (1, 0, 0),
                ):  # fmt: skip
                    a, b, c = z + dz, y + dy, x + dx
                    if not (
                        0 <= a < image.shape[0]
                        and 0 <= b < image.shape[1]
                        and 0 <= c < image.shape[2]
                    ):
                        continue
                    if not mask[a, b, c] and rule(float(image[a, b, c]), mean, std, seed_value):
                        mask[a, b, c] = True
                        joined.append((a, b, c))
            for a, b, c in joined:
                count += 1
                deviation = image[a, b, c] - mean
                mean += deviation / count
                squares += deviation * (image[a, b, c] - mean)
            front = joined
        return mask

    return grow


def python_breadth_first(image, seed):
    """The same in plain Python."""
    mask = np.zeros(image.shape, bool)
    mask[seed] = True
    seed_value = float(image[seed])
    count, mean, squares = 1, seed_value, 0.0
    front = [seed]
    steps = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    while front:
        std, joined = (squares / count) ** 0.5, []
        for (z, y, x), (dz, dy, dx) in itertools.product(front, steps):
            other = z + dz, y + dy, x + dx
            if all(0 <= i < n for i, n in zip(other, image.shape, strict=True)) and (
                not mask[other] and accept(float(image[other]), mean, std, seed_value)
            ):
                mask[other] = True
                joined.append(other)
        for other in joined:
            count += 1
            deviation = float(image[other]) - mean
            mean += deviation / count
            squares += deviation * (float(image[other]) - mean)
        front = joined
    return mask


def _criterion(dtype):
    def build():
        image = mni152(dtype)
        grow = numba_breadth_first()
        return image, {
            "medseg_fast": lambda: ms.region_growing(image, SEED, accept),
            "numba": lambda: grow(image, *SEED),
        }

    return build


def _criterion_python():
    image = np.ascontiguousarray(mni152(np.uint8)[70:120, 95:145, 85:135])
    seed = (25, 25, 25)
    return image, {
        "medseg_fast": lambda: ms.region_growing(image, seed, accept),
        "python": lambda: python_breadth_first(image, seed),
    }


@functools.cache
def numba_seeded():
    """Seeded region growing of a 2D image by heapq, compiled by Numba: the same definition."""
    import numba

    @numba.njit
    def grow(image, markers, classes):
        labels = markers.copy()
        rows, columns = image.shape
        count = np.zeros(classes + 1, np.int64)
        mean = np.zeros(classes + 1)
        listed = np.zeros(image.shape, np.bool_)
        steps = ((-1, 0), (0, -1), (0, 1), (1, 0))
        waiting = [(0.0, 0, 0, 0) for _ in range(0)]
        age = 0
        for y in range(rows):
            for x in range(columns):
                k = labels[y, x]
                if k:
                    count[k] += 1
                    mean[k] += (image[y, x] - mean[k]) / count[k]
        for y in range(rows):
            for x in range(columns):
                if not markers[y, x]:
                    continue
                for dy, dx in steps:
                    b, a = y + dy, x + dx
                    if not (0 <= b < rows and 0 <= a < columns) or labels[b, a] or listed[b, a]:
                        continue
                    best = np.inf
                    for ey, ex in steps:
                        d, c = b + ey, a + ex
                        if 0 <= d < rows and 0 <= c < columns and labels[d, c]:
                            best = min(best, abs(image[b, a] - mean[labels[d, c]]))
                    listed[b, a] = True
                    heapq.heappush(waiting, (best, age, b, a))
                    age += 1
        while len(waiting):
            _, _, y, x = heapq.heappop(waiting)
            value = float(image[y, x])
            best, label = np.inf, classes + 1
            for dy, dx in steps:
                b, a = y + dy, x + dx
                if 0 <= b < rows and 0 <= a < columns and labels[b, a]:
                    k = labels[b, a]
                    distance = abs(value - mean[k])
                    if distance < best or (distance == best and k < label):
                        best, label = distance, k
            labels[y, x] = label
            count[label] += 1
            mean[label] += (value - mean[label]) / count[label]
            for dy, dx in steps:
                b, a = y + dy, x + dx
                if 0 <= b < rows and 0 <= a < columns and not labels[b, a] and not listed[b, a]:
                    listed[b, a] = True
                    heapq.heappush(waiting, (abs(image[b, a] - mean[label]), age, b, a))
                    age += 1
        return labels

    return grow


def _seeded_2d():
    image = photograph("1080x1920")
    markers = np.zeros(image.shape, np.int32)
    markers[::120, ::160] = np.arange(1, 1 + 9 * 12).reshape(9, 12)
    grow = numba_seeded()
    return image, {
        "medseg_fast": lambda: ms.seeded_region_growing(image, markers),
        "numba heapq": lambda: grow(image, markers, 9 * 12),
    }


def _seeded_3d():
    from skimage.segmentation import watershed

    image = mni152(np.uint8)
    markers = np.zeros(image.shape, np.int32)
    markers[2, 2, 2], markers[SEED] = 1, 2
    return image, {
        "medseg_fast": lambda: ms.seeded_region_growing(image, markers),
        "skimage watershed": lambda: watershed(image, markers),
    }


def _drags(image, step):
    """Thresholds of a slider that moves down and up in small steps."""
    top = int(image[SEED])
    down = list(range(top, 80, -step))
    return down + down[::-1]


def _explorer_drag(connectivity):
    """The whole movement of a slider; one drag is its time over the number of drags."""

    def build():
        import cc3d
        from skimage.segmentation import flood

        image = mni152(np.uint8)
        thresholds = _drags(image, 7)
        explorer = ms.ThresholdExplorer(image, SEED, connectivity=connectivity)
        explorer.drag(thresholds[0])  # the mask exists before the slider moves
        clipped = np.minimum(image, image[SEED])
        neighbours = {1: 6, 3: 26}[connectivity]

        def ours():
            return [int(np.count_nonzero(explorer.drag(t)[SEED[0]])) for t in thresholds]

        def threshold_and_label(t):
            labels = cc3d.connected_components(image >= t, connectivity=neighbours)
            return labels == labels[SEED]

        def flooded(t):
            tolerance = int(image[SEED]) - t
            return flood(clipped, SEED, connectivity=connectivity, tolerance=tolerance)

        def slide(region):
            return [int(np.count_nonzero(region(t)[SEED[0]])) for t in thresholds]

        return image, {
            "medseg_fast": ours,
            "threshold + cc3d": lambda: slide(threshold_and_label),
            "skimage flood": lambda: slide(flooded),
        }

    return build


def _explorer_build():
    import cc3d

    image = mni152(np.uint8)
    t = int(image[SEED])

    def once():
        labels = cc3d.connected_components(image >= t, connectivity=6)
        return labels == labels[SEED]

    return image, {
        "medseg_fast": lambda: ms.ThresholdExplorer(image, SEED, connectivity=1).mask(t),
        "one threshold + cc3d": once,
    }


CASES = [
    Case("region_growing, own rule", "MNI152 uint8, 6", _criterion(np.uint8)),
    Case("region_growing, own rule", "MNI152 float32, 6", _criterion(np.float32)),
    Case("region_growing, own rule", "MNI152 cut to 50^3 uint8", _criterion_python),
    Case("seeded_region_growing", "photograph 1080x1920 uint8, 108 seeds", _seeded_2d),
    Case(
        "seeded_region_growing",
        "MNI152 uint8, 2 seeds",
        _seeded_3d,
        differs={"skimage watershed": "floods by value, not by distance to a region's mean"},
    ),
    Case("ThresholdExplorer.drag, a slider's way", "MNI152 uint8, 6", _explorer_drag(1)),
    Case("ThresholdExplorer.drag, a slider's way", "MNI152 uint8, 26", _explorer_drag(3)),
    Case("ThresholdExplorer, built anew", "MNI152 uint8, 6", _explorer_build),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_region_growing(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
