"""Distances between masks: against the slow twin, scikit-image, SimpleITK, surface-distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import DTYPES, SHAPES
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import _cell_surface, metrics, reference

SPACINGS = {1: (0.7,), 2: (1.0, 0.3), 3: (2.5, 0.7, 1.1), 4: (1.0, 2.0, 0.5, 0.3)}


def _balls(shape, shift):
    """A ball and one beside it with a bite, so that distances are of all kinds."""
    grid = np.indices(shape)
    centre = [n / 2 for n in shape]
    away = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
    first = away < (min(shape) / 3) ** 2
    second = np.roll(first, shift, range(len(shape)))
    second[tuple(slice(n // 2) for n in shape)] = False
    return first, second


@pytest.mark.parametrize("shape", [s for s in SHAPES if math.prod(s) < 700], ids=str)
def test_distances_equal_the_twin(rng, shape):
    spacing = SPACINGS[len(shape)]
    for part in (0.02, 0.5):
        a, b = (rng.random(shape) < part for _ in range(2))
        for method in ("standard", "modified"):
            if a.any() and b.any():
                expected = reference.metrics.hausdorff_distance(a, b, spacing, method)
                found = ms.hausdorff_distance(a, b, spacing, method=method)
                assert found == pytest.approx(expected)
        expected = reference.metrics.average_surface_distance(a, b, spacing)
        assert ms.average_surface_distance(a, b, spacing) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masks_of_every_type(rng, dtype, layout):
    a, b = (rng.integers(0, 2, (6, 7, 8)).astype(dtype) for _ in range(2))
    spacing = SPACINGS[3]
    ours, plain = (layout(a), layout(b)), (a != 0, b != 0)
    assert ms.hausdorff_distance(*ours, spacing) == ms.hausdorff_distance(*plain, spacing)
    assert metrics.hausdorff_95(*ours, spacing) == metrics.hausdorff_95(*plain, spacing)


def test_hausdorff_is_scikit_images():
    peer = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    for shape in ((40, 50), (17, 22, 31)):
        a, b = _balls(shape, 3)
        for method in ("standard", "modified"):
            expected = peer.hausdorff_distance(a, b, method)
            assert ms.hausdorff_distance(a, b, method=method) == pytest.approx(expected)


def test_hausdorff_is_simpleitks(threads):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    a, b = _balls((20, 31, 27), 4)
    spacing = SPACINGS[3]
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)]
    for image in images:
        image.SetSpacing(spacing[::-1])
    theirs = sitk.HausdorffDistanceImageFilter()
    theirs.Execute(*images)
    ours = ms.hausdorff_distance(a, b, spacing)
    assert ours == pytest.approx(theirs.GetHausdorffDistance(), rel=1e-6)  # theirs in float32


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=5)))
def test_cells(mask):
    codes = np.empty([n + 1 for n in mask.shape], np.uint8)
    ms.metrics.surfaces.core.surface_cells(mask, codes)
    assert_array_equal(codes, reference.metrics.surface_cells(mask))


def test_areas_of_boxes_of_cells():
    """Half of a cell is cut by a plane, a corner by a triangle, and mirrored cells are alike."""
    z, y, x = spacing = SPACINGS[3]
    areas, volumes = _cell_surface.areas(spacing), _cell_surface.volumes()
    assert areas[0] == areas[255] == volumes[0] == 0
    assert volumes[255] == pytest.approx(1)
    assert areas[0b00001111] == pytest.approx(y * x)
    assert areas[0b00110011] == pytest.approx(z * x)
    assert areas[0b01010101] == pytest.approx(z * y)
    assert_allclose(volumes[[0b00001111, 0b11001100, 0b01010101]], 0.5)
    corner = math.hypot(z * y, z * x, y * x) / 8
    assert_allclose(areas[[1, 2, 4, 8, 16, 32, 64, 128, 127, 254]], corner)
    assert_allclose(volumes[[1, 32, 254]], [1 / 48, 1 / 48, 47 / 48])
    assert (areas[1:-1] > 0).all()


@pytest.fixture
def peer(monkeypatch):
    """DeepMind's package, which was written for Python 2, NumPy 1 and an older SciPy."""
    pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    from scipy import ndimage
    from surface_distance import metrics as peer

    def order(distances, areas):
        pairs = np.array(sorted(zip(distances, areas, strict=True)))
        return pairs[:, 0], pairs[:, 1]

    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    monkeypatch.setattr(ndimage, "filters", ndimage, raising=False)
    monkeypatch.setattr(ndimage, "morphology", ndimage, raising=False)
    monkeypatch.setattr(peer, "_sort_distances_surfels", order)
    return peer


def test_surface_distances_are_deepminds(peer):
    rng = np.random.default_rng(5)
    for shape in ((30, 40), (14, 19, 23)):
        a, b = _balls(shape, 2)
        for first, second in ((a, b), (rng.random(shape) < 0.3, rng.random(shape) < 0.3)):
            spacing = SPACINGS[len(shape)]
            ours = metrics.surface_distances(first, second, spacing)
            theirs = peer.compute_surface_distances(second, first, spacing)
            assert_allclose(ours.pred_to_truth, theirs["distances_pred_to_gt"])
            assert_allclose(ours.truth_to_pred, theirs["distances_gt_to_pred"])
            assert_allclose(ours.pred_areas, theirs["surfel_areas_pred"], rtol=1e-12)
            assert_allclose(ours.truth_areas, theirs["surfel_areas_gt"], rtol=1e-12)
            averages = peer.compute_average_surface_distance(theirs)
            assert_allclose(ours.averages()[::-1], averages)
            for percent in (50, 95, 100):
                expected = peer.compute_robust_hausdorff(theirs, percent)
                assert ours.hausdorff(percent) == pytest.approx(expected)
            for limit in (0, 0.5, 1, 2.5):
                overlaps = peer.compute_surface_overlap_at_tolerance(theirs, limit)
                assert_allclose(ours.overlaps(limit)[::-1], overlaps)
                expected = peer.compute_surface_dice_at_tolerance(theirs, limit)
                nsd = metrics.normalised_surface_distance(first, second, limit, spacing)
                assert nsd == pytest.approx(expected)


def test_empty_masks():
    nothing, one = np.zeros((5, 6), bool), np.eye(5, 6, dtype=bool)
    both, half = (metrics.surface_distances(nothing, m) for m in (nothing, one))
    assert both.empty
    assert both.average() == both.hausdorff() == 0
    assert both.dice(1) == 1
    assert half.average() == half.hausdorff() == math.inf
    assert half.dice(1) == 0
    assert math.isnan(half.averages()[0])
    assert half.averages()[1] == math.inf
    assert ms.average_surface_distance(nothing, nothing) == 0
    assert ms.average_surface_distance(nothing, one) == math.inf
    for name, pair in {"a": (nothing, one), "b": (one, nothing)}.items():
        with pytest.raises(ValueError, match=f"hausdorff_distance: {name} must not be empty"):
            ms.hausdorff_distance(*pair)  # as SimpleITK


def test_refuses():
    with pytest.raises(ValueError, match="spacing must be 2 positive numbers"):
        ms.hausdorff_distance(np.ones((2, 2)), np.ones((2, 2)), spacing=(1, 0))
    with pytest.raises(ValueError, match="method must be"):
        ms.hausdorff_distance([1], [1], method="mean")
    with pytest.raises(ValueError, match="must have 2 or 3 dimensions"):
        metrics.surface_distances([1], [1])
    with pytest.raises(ValueError, match="hausdorff_95: pred must have 2 or 3 dimensions"):
        metrics.hausdorff_95([1], [1])
    with pytest.raises(ValueError, match="normalised_surface_distance: pred must have 2 or 3"):
        metrics.normalised_surface_distance([1], [1], 1)
    with pytest.raises(ValueError, match="tolerance_mm must not be negative"):
        metrics.normalised_surface_distance([[1]], [[1]], -1)
    with pytest.raises(ValueError, match="at least one dimension"):
        ms.hausdorff_distance(1, 1)


def test_evaluate(rng):
    a, b = _balls((20, 31, 27), 4)
    pred, truth = a * 1 + (rng.random(a.shape) < 0.01) * 2, b * 1
    spacing = SPACINGS[3]
    rows = metrics.evaluate(pred, truth, spacing, tolerance_mm=2)
    assert [row["label"] for row in rows] == [1, 2, 3]
    found, true = pred == 1, truth == 1
    expected = {
        "label": 1,
        "dice": ms.dice(found, true),
        "jaccard": ms.jaccard(found, true),
        "sensitivity": metrics.sensitivity(found, true),
        "specificity": metrics.specificity(found, true),
        "precision": metrics.precision(found, true),
        "volume_mm3": found.sum() * math.prod(spacing),
        "true_volume_mm3": true.sum() * math.prod(spacing),
        "volume_error": metrics.volume_error(found, true),
        "hausdorff_mm": ms.hausdorff_distance(found, true, spacing),
        "hausdorff_95_mm": metrics.hausdorff_95(found, true, spacing),
        "average_surface_distance_mm": ms.average_surface_distance(found, true, spacing),
        "nsd": metrics.normalised_surface_distance(found, true, 2, spacing),
    }
    assert rows[0] == expected
    assert rows[2]["hausdorff_mm"] == math.inf
    (row,) = metrics.evaluate(pred, truth, labels=[9], surfaces=False)
    assert row["dice"] == 1
    assert "nsd" not in row
    with pytest.raises(ValueError, match="evaluate: tolerance_mm must not be negative, got -1"):
        metrics.evaluate(pred, truth, tolerance_mm=-1)
    with pytest.raises(ValueError, match="evaluate: tolerance_mm must be a number, got NaN"):
        metrics.evaluate(pred, truth, tolerance_mm=math.nan)
    with pytest.raises(TypeError, match=r"evaluate: labels must be integers, got 1\.5"):
        metrics.evaluate(pred, truth, labels=[1.5])
