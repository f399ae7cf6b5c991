from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.watershed_hierarchy
SHAPES = [(30,), (7, 9), (3, 4, 5), (1, 1), (3, 0)]


@pytest.mark.parametrize("saliency", ["dynamics", "area", "volume"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_cuts_equal_reference(rng, threads, dtype, saliency):
    for shape in SHAPES:
        for values in (4, 50):
            image = rng.integers(0, values, shape).astype(dtype)
            mask = rng.random(shape) < 0.9
            connectivity = int(rng.integers(1, len(shape) + 1))
            tree = ms.watershed_hierarchy(image, connectivity, mask=mask, saliency=saliency)
            labels = ms.watershed_immersion(image, connectivity, mask=mask)
            merges = twin.merges(image, connectivity, mask, saliency)
            merges.sort(key=lambda merge: merge[0])
            assert tree.n_basins == labels.max(initial=0)
            assert_array_equal(tree.saliencies, [merge[0] for merge in merges])
            for level in {0, 3, *tree.levels[1:3].tolist(), *tree.levels[-1:].tolist(), np.inf}:
                made = [merge for merge in merges if merge[0] < level]
                if labels.size:
                    assert_array_equal(tree.cut(level), twin.cut(labels, made))
            for n_regions in (1, 4, 10**6):
                made = merges[: max(0, tree.n_basins - n_regions)]
                if labels.size:
                    got = tree.cut(n_regions=n_regions)
                    assert got.dtype == np.int32
                    assert_array_equal(got, twin.cut(labels, made))


def test_curve_tells_the_regions_of_each_cut(rng):
    image = rng.integers(0, 40, (30, 30)).astype(np.uint8)
    tree = ms.watershed_hierarchy(image)
    for level, count in zip(tree.levels, tree.n_regions, strict=True):
        assert tree.cut(level).max() == count
    assert tree.cut(np.inf).max() == 1
    assert_array_equal(tree.cut(0), ms.watershed_immersion(image))


def test_cuts_are_nested(rng):
    tree = ms.watershed_hierarchy(rng.random((40, 40)), 2, saliency="volume")
    finer = tree.cut(0)
    for n_regions in (60, 30, 8, 2):
        coarser = tree.cut(n_regions=n_regions)
        pairs = np.unique(np.stack([finer.ravel(), coarser.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]
        finer = coarser


def test_pickle_repr_and_read_only(rng):
    tree = ms.watershed_hierarchy(rng.integers(0, 9, (20, 20)))
    other = pickle.loads(pickle.dumps(tree))
    assert_array_equal(other.cut(2), tree.cut(2))
    assert repr(other) == repr(tree)
    assert "(20, 20) by dynamics" in repr(tree)
    for kept in (other.levels, other.saliencies, other.n_regions):
        assert not kept.flags.writeable


def test_cut_fills_out_and_checks():
    tree = ms.watershed_hierarchy([0, 5, 3, 9, 1, 4, 2])
    out = np.zeros(7, np.int32)
    assert tree.cut(3, out=out) is out
    assert out.tolist() == [1, 1, 1, 2, 2, 2, 2]
    for arguments in ({}, {"level": 1, "n_regions": 2}):
        with pytest.raises(ValueError, match="give level or n_regions"):
            tree.cut(**arguments)
    with pytest.raises(ValueError, match="n_regions must be at least 1"):
        tree.cut(n_regions=0)
    with pytest.raises(ValueError, match="level must be a number, got NaN"):
        tree.cut(np.nan)
    with pytest.raises(ValueError, match='saliency must be one of "dynamics", "area", "volume"'):
        ms.watershed_hierarchy([1, 2], saliency="depth")
    with pytest.raises(ValueError, match="watershed_hierarchy: mask must have shape"):
        ms.watershed_hierarchy([1, 2], mask=[True])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_markers_are_the_minima_of_that_dynamics(rng, threads, dtype):
    for shape in [(30,), (6, 7), (3, 4, 4)]:
        image = rng.integers(0, 30, shape).astype(dtype)
        for connectivity in {1, len(shape)}:
            dynamics = twin.dynamics(image, connectivity)
            minima, _ = reference.watershed_immersion.drains(image, connectivity)
            for h in (0, 4, 12, 10**6):
                chosen = [n for n, height in dynamics.items() if height >= h]
                expected = np.zeros(shape, np.int32)
                for number, n in enumerate(chosen, 1):
                    expected[minima == n] = number
                got = ms.markers_from_minima(image, h=h, connectivity=connectivity)
                assert got.dtype == np.int32
                assert_array_equal(got, expected)


def test_markers_give_the_basins_of_the_cut(rng):
    """One marker in every region of the hierarchy's cut at the same level."""
    image = rng.integers(0, 50, (40, 45)).astype(np.uint16)
    tree = ms.watershed_hierarchy(image)
    for h in (1, 5, 20):
        markers, regions = ms.markers_from_minima(image, h=h), tree.cut(h)
        pairs = {(int(r), int(m)) for r, m in zip(regions.flat, markers.flat, strict=True) if m}
        assert len(pairs) == markers.max() == regions.max()
        assert {r for r, _ in pairs} == set(range(1, regions.max() + 1))


def test_markers_min_size_in_pixels_and_mm():
    # Three valleys of 3, 1 and 4 pixels (passes belong to the lower side, or the first).
    image = [1, 0, 1, 6, 5, 6, 1, 0, 1]
    assert ms.markers_from_minima(image).tolist() == [0, 1, 0, 0, 2, 0, 0, 3, 0]
    assert ms.markers_from_minima(image, min_size=2).tolist() == [0, 1, 0, 0, 0, 0, 0, 2, 0]
    got = ms.markers_from_minima(image, min_size=2, spacing=[2.0])
    assert got.tolist() == [0, 1, 0, 0, 2, 0, 0, 3, 0]
    # However large the size, one is left.
    assert ms.markers_from_minima(image, min_size=100).max() == 1
    assert ms.markers_from_minima(image, h=3, min_size=100).max() == 1


def test_markers_nan_constant_out_and_errors():
    image = np.array([2.0, np.nan, 1, 3, np.nan])
    assert ms.markers_from_minima(image).tolist() == [1, 0, 2, 0, 0]
    assert ms.markers_from_minima(image, h=100).tolist() == [1, 0, 2, 0, 0]
    assert ms.markers_from_minima(np.zeros((2, 3))).tolist() == [[1, 1, 1], [1, 1, 1]]
    out = np.zeros(5, np.int32)
    assert ms.markers_from_minima(image, out=out) is out
    for message, arguments in [
        ("h must not be negative", {"h": -1}),
        ("min_size must not be negative", {"min_size": -1}),
        ("spacing must be 1 positive numbers", {"spacing": (1, 2)}),
        ("connectivity must be from 1 to 1", {"connectivity": 2}),
    ]:
        with pytest.raises(ValueError, match=f"markers_from_minima: {message}"):
            ms.markers_from_minima(image, **arguments)
