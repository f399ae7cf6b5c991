"""split_touching: against the recipe typed by hand, on drawn objects whose number is known."""

from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import LAYOUTS
from numpy.testing import assert_array_equal
from scipy import ndimage as ndi

import medseg_fast as ms


def balls(shape, centres, radius, spacing=None):
    """Union of balls of one radius, in mm."""
    spacing = spacing or (1.0,) * len(shape)
    grid = np.indices(shape)
    mask = np.zeros(shape, bool)
    for centre in centres:
        away = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, spacing, strict=True))
        mask |= away <= radius**2
    return mask


def by_hand(mask, spacing, h):
    """The recipe with SciPy and scikit-image; each region apart, so that none loses its marker."""
    skm = pytest.importorskip("skimage.morphology")
    distance = ndi.distance_transform_edt(mask, spacing)
    regions, n = ndi.label(mask)
    markers = np.zeros(mask.shape, np.int32)
    for region in range(1, n + 1):
        inside = np.where(regions == region, distance, 0)
        # Lowered peaks, rebuilt: what was above the rebuilt image and is a maximum of it stays.
        low, high = np.where(inside > 0, inside - h, -h), np.where(inside > 0, inside, -h)
        cross = ndi.generate_binary_structure(mask.ndim, 1)
        rebuilt = skm.reconstruction(low, high, footprint=cross)
        peaks = skm.local_maxima(rebuilt, connectivity=1) & (regions == region)
        markers[peaks] = region
    return ndi.label(markers > 0)[1]


@pytest.mark.parametrize(("overlap", "parts"), [(0, 2), (3, 2), (16, 1)])
def test_two_balls(overlap, parts):
    radius = 12
    mask = balls((40, 90), [(20, 20), (20, 20 + 2 * radius - overlap)], radius)
    assert ms.split_touching(mask).max() == parts


def test_three_dimensions_and_spacing():
    spacing = (3.0, 1.0, 1.0)
    centres = [(7, 20, 20), (7, 20, 42), (7, 42, 31)]
    mask = balls((15, 64, 64), centres, 12.5, spacing)
    labels = ms.split_touching(mask, spacing)
    assert labels.dtype == np.int32
    assert_array_equal(labels > 0, mask)
    assert len({int(labels[c]) for c in centres}) == labels.max() == 3


def test_larger_h_splits_less():
    rng = np.random.default_rng(3)
    mask = ndi.gaussian_filter(rng.random((200, 200)), 4) > 0.5
    counts = [int(ms.split_touching(mask, h=h).max()) for h in (0.5, 1, 2, 4, 1000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == ndi.label(mask)[1]


@pytest.mark.parametrize("spacing", [None, (2.0, 0.7)])
def test_number_of_parts_is_that_of_the_recipe(rng, spacing):
    mask = ndi.gaussian_filter(rng.random((120, 150)), 3) > 0.5
    labels = ms.split_touching(mask, spacing, h=0.83)
    assert labels.max() == by_hand(mask, spacing, 0.83)


def test_every_region_is_labelled_and_parts_are_connected(rng):
    mask = rng.random((60, 70)) < 0.55
    labels = ms.split_touching(mask)
    assert_array_equal(labels > 0, mask)
    for part in range(1, labels.max() + 1):
        assert ndi.label(labels == part)[1] == 1


def test_line(rng):
    mask = balls((40, 90), [(20, 20), (20, 42)], 12)
    whole, cut = ms.split_touching(mask), ms.split_touching(mask, watershed_line=True)
    assert whole.max() == cut.max() == 2
    line = (whole > 0) & (cut == 0)
    assert 0 < line.sum() < 40
    assert_array_equal(cut[cut > 0], whole[cut > 0])


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 5), (1, 1), (7, 1), (3, 0, 2), (5, 6, 7)])
@pytest.mark.parametrize("value", [0, 1])
def test_uniform(shape, value):
    labels = ms.split_touching(np.full(shape, value, np.uint8))
    assert_array_equal(labels, np.full(shape, value, np.int32))


def test_layouts(rng):
    mask = ndi.gaussian_filter(rng.random((40, 50)), 2) > 0.5
    expected = ms.split_touching(mask)
    for layout in LAYOUTS.values():
        assert_array_equal(ms.split_touching(layout(mask)), expected)
        assert_array_equal(ms.split_touching(layout(mask.astype(np.float32))), expected)
    out = np.empty((50, 40), np.int32).T
    assert ms.split_touching(mask, out=out) is out
    assert_array_equal(out, expected)


def test_nuclei(data):
    """Touching nuclei of real fluorescence images: nearer to the experts' count than components."""
    image = pytest.importorskip("PIL.Image")
    split, joined = [], []
    for path in sorted((data / "nuclei_dsb2018" / "images").glob("fluo_*.png"))[:12]:
        grey = np.array(image.open(path).convert("L"))
        truth = np.array(image.open(data / "nuclei_dsb2018" / "labels" / path.name))
        mask = ms.remove_small_objects(grey > ms.threshold_otsu(grey), max_size=20)
        count = len(np.unique(truth)) - 1
        split.append(abs(int(ms.split_touching(mask, h=1.5).max()) - count))
        joined.append(abs(int(ms.label(mask).max()) - count))
    assert sum(split) < sum(joined)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"h": 0}, "h must be positive"),
        ({"h": float("nan")}, "h must be a number"),
        ({"spacing": (1, 0)}, "spacing"),
        ({"spacing": (1,)}, "spacing"),
        ({"connectivity": 3}, "connectivity"),
        ({"out": np.empty((3, 3), np.int64)}, "out"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"split_touching: {message}"):
        ms.split_touching(np.ones((4, 4), bool), **arguments)


def test_nan_and_complex_are_refused():
    with pytest.raises(ValueError, match="split_touching: mask must not contain NaN"):
        ms.split_touching([1.0, np.nan])
    with pytest.raises(TypeError, match="split_touching: mask"):
        ms.split_touching(np.ones(3, complex))


def test_peak_memory():
    setup = """
    from scipy import ndimage
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((60, 300, 300)), 4) > 0.5
    """
    got = peak_bytes_per_pixel(
        "ms.split_touching(image)", setup=setup, warm="ms.split_touching(image[:3])"
    )
    assert got < 40  # a float64 volume alone would be 8, the recipe by hand takes 60
