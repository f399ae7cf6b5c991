"""Random walks beside scikit-image."""

from __future__ import annotations

import numpy as np
from _cases import Case
from _data import mni152, photograph


def _seeds(image, low, high):
    seeds = np.zeros(image.shape, np.int32)
    seeds[image < low], seeds[image > high] = 1, 2
    return seeds


def _few(shape, labels, radius=3):
    seeds = np.zeros(shape, np.int32)
    rng = np.random.default_rng(3)
    for k in range(labels):
        corner = [rng.integers(radius, n - radius) for n in shape]
        seeds[tuple(slice(c - radius, c + radius) for c in corner)] = k + 1
    return seeds


def _same(ours, theirs):
    """Labels of less than a thousandth differ, where both walks are as probable within `tol`."""
    assert np.count_nonzero(ours != theirs) < 1e-3 * ours.size


def _build(image, seeds):
    def build():
        import warnings

        from skimage.segmentation import random_walker

        import medseg_fast as ms

        warnings.filterwarnings("ignore", "The probability range")
        given = image()
        marked = seeds(given)
        return given, {
            "medseg_fast": lambda: ms.random_walker(given, marked),
            "scikit-image": lambda: random_walker(given, marked),
        }

    return build


def _head():
    return np.ascontiguousarray(mni152(np.float32)[60:124, 80:144, 60:124])


def _photograph():
    return photograph("512x512", np.uint8)


CASES = [
    Case(
        "random_walker",
        "MNI152 64^3, 2 labels",
        _build(_head, lambda v: _seeds(v, 30, 190)),
        same=_same,
        target=8,
    ),
    Case(
        "random_walker",
        "MNI152 64^3, 4 small seeds",
        _build(_head, lambda v: _few(v.shape, 4)),
        same=_same,
        target=8,
    ),
    Case(
        "random_walker",
        "photograph 512^2, 2 labels",
        _build(_photograph, lambda v: _seeds(v, 20, 200)),
        same=_same,
        target=8,
    ),
]


def test_random_walker(benchmark):
    _, calls = CASES[0].build()
    CASES[0].check(calls)
    benchmark(calls["medseg_fast"])
