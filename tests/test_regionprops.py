"""regionprops and regionprops_table: against the slow twin and scikit-image."""

from __future__ import annotations

import importlib
import math
import pickle
import warnings

import numpy as np
import pytest
from conftest import DTYPES, LAYOUTS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal, assert_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast.measure._former_names import FORMER
from medseg_fast.measure._table import LabelTable

INTEGERS = [dtype for dtype in DTYPES if dtype.kind in "ui"]


def blobs(shape, seed=3):
    """Some dozen regions of all kinds: large, of one pixel, with holes, at the border."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    noise = np.random.default_rng(seed).random(shape)
    return ndimage.label(ndimage.gaussian_filter(noise, 1.2) > 0.53)[0]


def intensities(kind, shape):
    rng = np.random.default_rng(4)
    if kind == "channels":
        return (rng.random((*shape, 2)) * 255).astype(np.uint8)
    return None if kind is None else rng.random(shape) - 0.2


@pytest.mark.parametrize("shape", [(40, 50), (13, 17, 16)], ids=str)
@pytest.mark.parametrize("kind", [None, "grey", "channels"])
@pytest.mark.parametrize("spacing", [None, "equal", "uneven"])
def test_every_property_is_scikit_images(shape, kind, spacing):
    peer = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    sizes = {"equal": (0.5,) * len(shape), "uneven": (1.5, 0.7, 1.1)[: len(shape)]}.get(spacing)
    labels, image = blobs(shape), intensities(kind, shape)
    offset = [3, -1, 2][: len(shape)]
    ours = ms.regionprops(labels, image, spacing=sizes, offset=offset)
    theirs = peer.regionprops(labels, image, spacing=sizes, offset=offset)
    assert len(ours) == len(theirs) > 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hulls of flat regions
        for one, other in zip(ours, theirs, strict=True):
            assert set(one) == set(other)
            for name in (*other, "coords_scaled", "num_pixels"):
                _assert_same(one, other, name)
            if kind:
                assert_allclose(one.intensity_median, other.intensity_median)


def _assert_same(one, other, name):
    try:
        expected = other[name]
    except NotImplementedError:
        with pytest.raises(NotImplementedError):
            one[name]
    except ValueError:  # theirs, of the hull of a flat region
        assert name == "feret_diameter_max"
    else:
        if name == "slice":
            assert one.slice == expected
        else:  # an axis of length 0 is the root of a rounding error
            assert_allclose(one[name], expected, rtol=1e-9, atol=2e-7, err_msg=name)


@pytest.mark.parametrize("shape", [(40, 50), (13, 17, 16)], ids=str)
def test_table_is_scikit_images(shape):
    peer = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    labels, image = blobs(shape), intensities("grey", shape)

    def quartiles(mask, values):
        return np.percentile(values[mask], (25, 75))

    def size(mask):
        return int(mask.sum())

    names = list(set(ms.regionprops(labels, image)[0]) - {"image_convex", "area_convex"})
    names = [n for n in names if n not in ("feret_diameter_max", "solidity")]
    if len(shape) == 3:
        flat = "eccentricity moments_hu moments_weighted_hu orientation perimeter perimeter_crofton"
        names = [n for n in names if n not in flat.split()]
    for chosen in (labels, labels * 0):
        arguments = {"properties": sorted(names), "extra_properties": (quartiles, size)}
        ours = ms.regionprops_table(chosen, image, **arguments)
        with np.errstate(invalid="ignore", divide="ignore"):
            theirs = peer.regionprops_table(chosen, image, **arguments)
        assert list(ours) == list(theirs)
        for name, column in theirs.items():
            assert ours[name].dtype == column.dtype, name
            assert len(ours[name]) == len(column)
            if column.dtype == object:
                for a, b in zip(ours[name], column, strict=True):
                    assert_equal(a, b)
            else:
                assert_allclose(ours[name], column, rtol=1e-9, atol=2e-7, err_msg=name)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_labels_of_every_type_and_layout(dtype, layout):
    labels = (blobs((19, 21)) % 100).astype(dtype)
    expected = ms.regionprops(labels)
    assert ms.regionprops(layout(labels)) == expected
    assert [r.label for r in expected] == np.unique(labels[labels > 0]).tolist()


def test_far_apart_and_negative_labels():
    labels = np.zeros((5, 6), np.int64)
    labels[0], labels[1:3, 2], labels[4] = 2**40, -7, 9
    first, second = ms.regionprops(labels)
    assert (first.label, first.area, first.bbox) == (9, 6, (4, 0, 5, 6))
    assert (second.label, second.area, second.bbox) == (2**40, 6, (0, 0, 1, 6))
    assert first.image.all()
    labels = np.full((3, 300), -1, np.int16)
    labels[1, :9], labels[2, 5] = 20_000, 1
    first, second = ms.regionprops(labels)  # a table without rows for what is between
    assert (first.label, first.coords.tolist()) == (1, [[2, 5]])
    assert (second.label, second.bbox, second.area) == (20_000, (1, 0, 2, 9), 9)
    many = np.arange(3000).reshape(50, 60)
    assert [r.label for r in ms.regionprops(many)] == list(range(1, 3000))
    small = ms.regionprops(np.array([[-3, 1]], np.int8))
    assert [r.label for r in small] == [1]


def test_result_does_not_depend_on_threads(threads):
    labels, image = blobs((300, 400)), np.random.default_rng(0).random((300, 400))
    table = LabelTable(labels, image)
    sizes = np.bincount(labels.ravel())[1:]
    assert_array_equal(table.sizes, sizes)
    assert_allclose(table.statistic("mean") * sizes, np.bincount(labels.ravel(), image.ravel())[1:])
    values = np.concatenate([image[labels == label] for label in table.labels])
    assert_array_equal(table.values_of(image), values)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.integers(0, 3)
    )
)
def test_moments_and_cells_equal_the_twin(labels):
    table = LabelTable(labels, None)
    assert table.labels.tolist() == np.unique(labels[labels > 0]).tolist()
    for row, label in enumerate(table.labels):
        mask = labels == label
        assert_allclose(table.second[row], reference.measure.second_moments(mask), atol=1e-9)
        assert_array_equal(table.first[row], np.argwhere(mask).sum(0))
        codes = reference.metrics.surface_cells(mask)
        counts = np.bincount(codes.ravel(), minlength=table.cells.shape[1])
        assert_array_equal(table.cells[row][1:-1], counts[1:-1])


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_convex_image_equals_the_twin(mask):
    if not mask.any():
        return
    (region,) = ms.regionprops(mask.view(np.uint8))
    assert_array_equal(region.image_convex, reference.measure.convex_image(region.image))
    assert region.feret_diameter_max == pytest.approx(
        reference.measure.max_diameter(region.image_convex, (1, 1))
    )


def test_moments_of_a_large_image_are_exact():
    labels = np.zeros((3, 1 << 22), np.uint8)
    labels[:, -2:] = 1
    (region,) = ms.regionprops(labels)
    assert region.inertia_tensor.tolist() == [[0.25, 0.0], [0.0, 2 / 3]]


def test_regions_pickle_and_compare():
    labels, image = blobs((20, 30)), intensities("grey", (20, 30))
    regions = ms.regionprops(labels, image)
    again = pickle.loads(pickle.dumps(regions))
    assert again == regions
    assert regions[0] != regions[1]
    assert regions[0] != 1
    assert repr(regions[0]).startswith("<RegionProperties: label=1, bbox=(")


def test_former_names_answer_as_scikit_images():
    peer = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    formers = importlib.import_module("skimage.measure._regionprops").PROPS
    assert formers == FORMER
    labels, image = np.array([[1, 1, 0], [1, 2, 2]]), np.arange(6.0).reshape(2, 3)
    for former, name in formers.items():
        for regions in (peer.regionprops(labels, image), ms.regionprops(labels, image)):
            with pytest.warns(FutureWarning, match="is deprecated") as told:
                assert_equal(regions[0][former], regions[0][name])
            assert told[0].filename == __file__
            if former.islower():
                with pytest.warns(FutureWarning, match="is deprecated"):
                    assert_equal(getattr(regions[1], former), getattr(regions[1], name))
            else:
                with pytest.raises(AttributeError, match=former):
                    getattr(regions[1], former)
    names = ["local_centroid", "bbox_area", "Area", "BoundingBox"]
    got, expected = (module.regionprops_table(labels, properties=names) for module in (ms, peer))
    assert list(got) == list(expected)
    for column, values in expected.items():
        assert_array_equal(got[column], values)


def test_extra_properties_and_attributes():
    def double(mask):
        return 2 * mask.sum()

    def brightest(mask, image):
        return image[mask].max()

    (region,) = ms.regionprops(np.ones((2, 3), int), extra_properties=[double, brightest])
    assert region.double == region["double"] == 12
    with pytest.raises(AttributeError, match="intensity image required"):
        region.brightest  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'size'"):
        region.size  # noqa: B018
    with pytest.raises(AttributeError, match="unavailable when `intensity_image`"):
        region.intensity_mean  # noqa: B018

    def area(mask):
        return 0

    with pytest.warns(UserWarning, match="'area' is shadowed"):
        ms.regionprops(np.ones((2, 3), int), extra_properties=[area])


def test_nan_is_left_out_of_intensities():
    (region,) = ms.regionprops(np.ones((1, 3), int), np.array([[1, np.nan, 3]]))
    assert (region.intensity_mean, region.intensity_min, region.intensity_max) == (2, 1, 3)
    (region,) = ms.regionprops(np.ones((1, 1), int), np.array([[np.nan]]))
    assert math.isnan(region.intensity_mean)


def test_refuses():
    with pytest.raises(TypeError, match="label_image must be of integers, got bool"):
        ms.regionprops(np.ones((2, 2), bool))
    with pytest.raises(TypeError, match="label_image must be of integers, got float64"):
        ms.regionprops(np.ones((2, 2)))
    with pytest.raises(TypeError, match="must have 2 or 3 dimensions"):
        ms.regionprops([1, 1])
    with pytest.raises(ValueError, match="intensity_image must have shape"):
        ms.regionprops([[1, 1]], [[1]])
    with pytest.raises(TypeError, match=r"regionprops: intensity_image must be .*, got object"):
        ms.regionprops([[1, 1]], np.ones((1, 2), object))
    with pytest.raises(ValueError, match="regionprops: label_image must be an array, got rows"):
        ms.regionprops([[1, 1], [1]])
    with pytest.raises(ValueError, match="offset must be 2 integers"):
        ms.regionprops([[1, 1]], offset=[1])
    with pytest.raises(ValueError, match="spacing must be 2 positive"):
        ms.regionprops([[1, 1]], spacing=(1, -1))
    assert ms.regionprops(np.zeros((0, 4), int)) == []
