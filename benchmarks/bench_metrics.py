"""Metrics beside SimpleITK, scikit-learn, scikit-image and surface-distance."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from _cases import Case
from _data import mni152

import medseg_fast as ms
from medseg_fast import metrics

SPACING = (1.0, 1.0, 1.5)


@functools.cache
def _tissues():
    """Five tissues by grey value, and the same from a head moved by two voxels: 8.7 million."""
    image = mni152(np.uint8)
    labels = np.digitize(image, [30, 80, 120, 170]).astype(np.uint8)
    return np.roll(labels, 2, 1), labels


@functools.cache
def _masks():
    """A tissue each: the white matter of either."""
    return tuple(labels == 3 for labels in _tissues())


@functools.cache
def _heads():
    """The heads as solid masks."""
    return tuple(np.ascontiguousarray(ms.fill_holes(labels > 0)) for labels in _tissues())


@functools.cache
def _instances():
    """Some 30000 components of two thresholds of the head."""
    image = mni152(np.uint8)
    return tuple(ms.label(image > t, dtype=np.int64) for t in (118, 120))


def _image(array, spacing=SPACING):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    return image


def _itk_overlap(a, b):
    """All measures of overlap by SimpleITK's one filter; the Dice coefficient of label 1."""
    import SimpleITK as sitk

    images = _image(a), _image(b)

    def call():
        measures = sitk.LabelOverlapMeasuresImageFilter()
        measures.Execute(*images)
        return measures.GetDiceCoefficient(1)

    return call


def _dice():
    from sklearn.metrics import f1_score

    a, b = _masks()
    return a, {
        "medseg_fast": lambda: ms.dice(a, b),
        "SimpleITK": _itk_overlap(a, b),
        "scikit-learn": lambda: f1_score(b.ravel(), a.ravel()),
        "NumPy": lambda: 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)),
    }


def _confusion():
    from sklearn.metrics import confusion_matrix

    a, b = _tissues()
    return a, {
        "medseg_fast": lambda: metrics.confusion_matrix(b, a),
        "scikit-learn": lambda: confusion_matrix(b.ravel(), a.ravel()),
        "SimpleITK": _itk_overlap(a, b),
    }


def _hausdorff():
    import SimpleITK as sitk
    from skimage.metrics import hausdorff_distance

    a, b = _heads()
    images = _image(a, (1, 1, 1)), _image(b, (1, 1, 1))

    def itk():
        measures = sitk.HausdorffDistanceImageFilter()
        measures.Execute(*images)
        return measures.GetHausdorffDistance()

    return a, {
        "medseg_fast": lambda: ms.hausdorff_distance(a, b),
        "SimpleITK": itk,
        "scikit-image": lambda: hausdorff_distance(a, b),
    }


def _surfaces():
    from scipy import ndimage

    a, b = _heads()
    calls = {"medseg_fast": lambda: metrics.normalised_surface_distance(a, b, 2, SPACING)}
    try:
        from surface_distance import metrics as peer
    except ImportError:
        return a, calls
    # Written for NumPy 1 and an older SciPy; its own sorting fails on Python 3.
    ndimage.filters, ndimage.morphology = ndimage, ndimage

    def order(distances, areas):
        pairs = np.array(sorted(zip(distances, areas, strict=True)))
        return pairs[:, 0], pairs[:, 1]

    peer._sort_distances_surfels = order

    def theirs():
        distances = peer.compute_surface_distances(b, a, SPACING)
        return peer.compute_surface_dice_at_tolerance(distances, 2)

    return a, {**calls, "surface-distance": theirs}


def _partition(name):
    def build():
        from skimage import metrics as peer

        a, b = _instances()
        ours, theirs = getattr(metrics, name), getattr(peer, name)
        return a, {"medseg_fast": lambda: ours(a, b), "scikit-image": lambda: theirs(a, b)}

    return build


def _score(name):
    def build():
        from sklearn import metrics as peer

        rng = np.random.default_rng(0)
        truth = rng.random(1_000_000) < 0.1
        score = (rng.random(truth.shape) + 0.3 * truth).astype(np.float32)
        ours, theirs = getattr(metrics, name), getattr(peer, name)
        return score, {
            "medseg_fast": lambda: ours(truth, score),
            "scikit-learn": lambda: theirs(truth, score),
        }

    return build


def _close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


_ALL = "gives all overlap measures of each label, not the matrix"

CASES = [
    Case("dice", "MNI152 white matter", _dice, same=_close, target=2),
    Case("confusion_matrix", "MNI152 5 tissues", _confusion, differs={"SimpleITK": _ALL}, target=5),
    Case("hausdorff_distance", "MNI152 heads", _hausdorff, same=_close, target=2),
    Case("normalised_surface_distance", "MNI152 heads, 2 mm", _surfaces, same=_close, target=5),
    Case("adapted_rand_error", "MNI152 components int64", _partition("adapted_rand_error"), _close),
    Case(
        "variation_of_information",
        "MNI152 components int64",
        _partition("variation_of_information"),
        _close,
    ),
    Case("roc_auc_score", "1 million float32", _score("roc_auc_score"), same=_close),
    Case(
        "average_precision_score",
        "1 million float32",
        _score("average_precision_score"),
        same=_close,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_metrics(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
