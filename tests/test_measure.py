"""The table of measurements: against twins, IBSI's phantom, SimpleITK, and by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from _phantom import PHANTOM
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast.measure import measure
from medseg_fast.measure._table import STATISTICS, LabelTable

# Reference value and tolerance, of the IBSI's reference manual; None: as many digits as given.
IBSI = {
    "mesh_volume_mm3": (556, 4),
    "volume_mm3": (592, 4),
    "surface_mm2": (388, 3),
    "surface_to_volume_per_mm": (0.698, 0.004),
    "compactness_1": (0.0411, 0.0003),
    "compactness_2": (0.599, 0.004),
    "spherical_disproportion": (1.19, 0.01),
    "sphericity": (0.843, 0.005),
    "asphericity": (0.186, 0.001),
    "centre_of_mass_shift_mm": (0.672, 0.004),
    "max_diameter_mm": (13.1, 0.1),
    "major_axis_mm": (11.4, 0.1),
    "minor_axis_mm": (9.31, 0.06),
    "least_axis_mm": (8.54, 0.05),
    "elongation": (0.816, 0.005),
    "flatness": (0.749, 0.005),
    "volume_density_box": (0.869, 0.005),
    "surface_density_box": (0.866, 0.005),
    "volume_density_ellipsoid": (1.17, 0.01),
    "integrated_intensity": (1.2e3, 10),
    "intensity_mean": (2.15, 0.005),
    "intensity_variance": (3.05, 0.005),
    "intensity_skewness": (1.08, 0.005),
    "intensity_kurtosis": (-0.355, 0.0005),
    "intensity_median": (1, 0),
    "intensity_min": (1, 0),
    "intensity_p10": (1, 0),
    "intensity_p90": (4, 0),
    "intensity_max": (6, 0),
    "intensity_interquartile_range": (3, 0),
    "intensity_range": (5, 0),
    "intensity_mean_absolute_deviation": (1.55, 0.005),
    "intensity_robust_mean_absolute_deviation": (1.11, 0.005),
    "intensity_median_absolute_deviation": (1.15, 0.005),
    "intensity_coefficient_of_variation": (0.812, 0.0005),
    "intensity_quartile_coefficient_of_dispersion": (0.6, 1e-12),
    "intensity_energy": (567, 0),
    "intensity_root_mean_square": (2.77, 0.005),
    "histogram_entropy": (1.27, 0.005),
    "histogram_uniformity": (0.512, 0.0005),
    "histogram_mode": (1, 0),
}


@pytest.fixture(scope="module")
def phantom():
    return measure(PHANTOM > 0, PHANTOM, (2, 2, 2))


@pytest.mark.parametrize("feature", IBSI)
def test_phantom_has_the_ibsis_value(phantom, feature):
    value, tolerance = IBSI[feature]
    assert phantom[feature].tolist() == [pytest.approx(value, abs=tolerance)]


def _shapes(shape=(14, 18, 16)):
    """A ball, a box with a hole and some noise, as labels 1, 2, 5."""
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    labels[(z - 6) ** 2 + (y - 5) ** 2 + (x - 5) ** 2 < 18] = 1
    labels[2:9, 11:16, 9:14] = 2
    labels[4:6, 13, 11] = 0
    labels[12:, :, 2:] = 5 * (np.random.default_rng(1).random((2, shape[1], shape[2] - 2)) < 0.3)
    return labels


def test_is_simpleitks_where_it_defines_the_figure():
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    labels, spacing = _shapes(), (2.5, 0.7, 1.1)
    image = np.random.default_rng(2).normal(100, 20, labels.shape)
    ours = measure(labels, image, spacing)
    picture = sitk.GetImageFromArray(labels)
    picture.SetSpacing(spacing[::-1])
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.ComputeFeretDiameterOff()
    shapes.Execute(picture)
    values = sitk.GetImageFromArray(image)
    values.SetSpacing(spacing[::-1])
    statistics = sitk.LabelStatisticsImageFilter()
    statistics.Execute(values, picture)
    assert ours["label"].tolist() == list(shapes.GetLabels()) == [1, 2, 5]
    for i, label in enumerate(shapes.GetLabels()):
        row = {name: ours[name][i] for name in ours}
        assert row["voxels"] == shapes.GetNumberOfPixels(label)
        assert row["volume_mm3"] == pytest.approx(shapes.GetPhysicalSize(label))
        assert_allclose(row["centroid_mm"], shapes.GetCentroid(label)[::-1])
        box = shapes.GetBoundingBox(label)
        assert_array_equal(row["box"][0], box[:3][::-1])
        assert_array_equal(row["box"][1] - row["box"][0] + 1, box[3:][::-1])
        n = row["voxels"]
        principal = np.array([row[f"{axis}_axis_mm"] for axis in ("least", "minor", "major")]) / 4
        moments = np.array(shapes.GetPrincipalMoments(label))
        assert_allclose(principal**2 * (n - 1) / n, moments, rtol=1e-6)
        axis = np.array(shapes.GetPrincipalAxes(label))[6:][::-1]
        assert abs(axis @ row["orientation"]) == pytest.approx(1, abs=1e-6)
        assert row["intensity_mean"] == pytest.approx(statistics.GetMean(label))
        assert row["intensity_min"] == pytest.approx(statistics.GetMinimum(label))
        assert row["intensity_max"] == pytest.approx(statistics.GetMaximum(label))
        variance = statistics.GetVariance(label) * (n - 1) / n
        assert row["intensity_variance"] == pytest.approx(variance)


def test_mesh_of_a_large_ball():
    z, y, x = np.indices((41, 81, 81))
    ball = 4 * (z - 20) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 < 35**2
    row = measure(ball, spacing=(2, 1, 1)).rows()[0]
    assert row["mesh_volume_mm3"] == pytest.approx(4 / 3 * math.pi * 35**3, rel=0.01)
    assert row["surface_mm2"] == pytest.approx(4 * math.pi * 35**2, rel=0.13)  # of steps
    assert row["sphericity"] == pytest.approx(0.89, abs=0.02)
    assert row["max_diameter_mm"] == pytest.approx(70, abs=2)
    assert row["long_axis_mm"] == pytest.approx(70, abs=2)
    assert row["short_axis_mm"] == pytest.approx(70, abs=2)
    assert row["euler_number"] == 1


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(bool, st.tuples(*[st.integers(1, 4)] * 3)),
    st.sampled_from([(1, 1, 1), (2.5, 0.7, 1.1)]),
)
def test_diameters_equal_the_twin(mask, spacing):
    if not mask.any():
        assert len(measure(mask, spacing=spacing)) == 0
        return
    row = measure(mask, spacing=spacing).rows()[0]
    assert row["max_diameter_mm"] == pytest.approx(reference.measure.max_diameter(mask, spacing))
    planes = [reference.measure.axes(plane, spacing[1:]) for plane in mask if plane.any()]
    assert row["long_axis_mm"] == pytest.approx(max(long for long, _ in planes))
    first, last = (np.array(end) * spacing[1:] for end in row["long_axis_index"])
    assert math.dist(first, last) == pytest.approx(row["long_axis_mm"])
    one, other = (np.array(end) * spacing[1:] for end in row["short_axis_index"])
    assert math.dist(one, other) == pytest.approx(row["short_axis_mm"])
    assert (last - first) @ (other - one) == pytest.approx(0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(bool, st.tuples(*[st.integers(1, 5)] * 2)))
def test_axes_of_a_plane_equal_the_twin(mask):
    if not mask.any():
        return
    spacing = (1.0, 1.37)  # without ties between diameters in two directions but mirrored ones
    table = measure(mask, spacing=spacing)
    long, short = reference.measure.axes(mask, spacing)
    assert table["long_axis_mm"][0] == pytest.approx(long)
    if mask.all():  # elsewhere several diameters may be the largest
        assert table["short_axis_mm"][0] == pytest.approx(short)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_first_order_equals_the_twin(rng, dtype, threads):
    labels = rng.integers(0, 4, (9, 10, 11)).astype(np.uint16) * 3
    image = (rng.normal(50, 20, labels.shape)).astype(dtype)
    if image.dtype.kind == "f":
        image[0, 0, :5] = np.nan
    table = LabelTable(labels, image)
    for row, label in enumerate(table.labels):
        expected = reference.measure.first_order(image[labels == label])
        assert_allclose(table.channels[row], [expected[n] for n in STATISTICS], rtol=1e-10)


def test_centre_of_mass_does_not_depend_on_threads():
    rng = np.random.default_rng(7)
    labels = (rng.random((40, 60, 70)) < 0.6).astype(np.int64) * rng.integers(1, 4, (40, 60, 70))
    image = rng.normal(100, 20, labels.shape).astype(np.float32)
    image[0, 0, :9] = np.nan
    results = []
    for n in (1, 2, 5):
        with ms.num_threads(n):
            results.append(measure(labels, image, (3, 1, 2)))
    for name in results[0]:
        for other in results[1:]:
            assert_array_equal(other[name], results[0][name])
    for row, label in enumerate((1, 2, 3)):
        inside = (labels == label) & ~np.isnan(image)
        places, weights = np.argwhere(inside) * (3, 1, 2), image[inside].astype(float)
        heavy = weights @ places / weights.sum()
        shift = np.linalg.norm(heavy - results[0]["centroid_mm"][row])
        assert results[0]["centre_of_mass_shift_mm"][row] == pytest.approx(shift)


def test_first_order_of_one_value():
    table = measure(np.ones((1, 2, 2), bool), np.full((1, 2, 2), 0.1))
    assert table["intensity_mean"][0] == table["intensity_median"][0] == 0.1
    for name in ("variance", "skewness", "kurtosis", "range", "std"):
        assert table[f"intensity_{name}"][0] == 0
    nothing = measure(np.ones((1, 1, 2), bool), np.full((1, 1, 2), np.nan)).rows()[0]
    assert nothing["intensity_mean"] is None
    assert nothing["histogram"] == []


def test_grey_levels():
    image = np.array([[0.0, 0.5, 1.0, 2.0]])
    mask = np.ones((1, 4), bool)
    assert measure(mask, image, bin_width=0.5)["histogram"].tolist() == [[1, 1, 1, 0, 1]]
    assert measure(mask, image, bins=2)["histogram"].tolist() == [[2, 2]]
    assert measure(mask, image)["histogram"].shape == (1, 32)
    assert measure(mask, image.astype(int))["histogram"].tolist() == [[2, 1, 1]]
    two = measure([[1, 1, 2, 2]], image.astype(int))
    assert two["histogram"].tolist() == [[2, 0], [1, 1]]
    with pytest.raises(ValueError, match="at most 4096 grey levels"):
        measure(mask, image, bin_width=1e-6)
    with pytest.raises(ValueError, match="exclude each other"):
        measure(mask, image, bins=2, bin_width=1)
    with pytest.raises(ValueError, match="finite inside labels"):
        measure(mask, np.where(image < 2, image, np.inf))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int64])
def test_grey_levels_of_wide_integers(dtype):
    image = np.arange(16).reshape(4, 4) * 400 - (0 if dtype == np.uint16 else 3000)
    labels = np.repeat([1, 1, 2, 0], 4).reshape(4, 4)
    table = measure(np.ones((4, 4), int), image.astype(dtype))  # 6000 apart: width 2
    assert_array_equal(np.flatnonzero(table["histogram"][0]), np.arange(16) * 200)
    assert measure(labels, image)["histogram"].shape == (2, 2801)  # one width of 1 for both
    wide = measure(labels, image * np.array([[2], [2], [1], [1]]))  # 5600 apart, and 1200
    assert_array_equal(np.flatnonzero(wide["histogram"][0]), np.arange(8) * 400)
    assert_array_equal(np.flatnonzero(wide["histogram"][1]), np.arange(4) * 200)
    whole = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype)
    assert measure([[1, 1]], whole)["histogram"].shape == (1, 4096)
    with pytest.raises(ValueError, match="bin_width must give at most 4096 grey levels, got 6001"):
        measure(np.ones((4, 4), int), image, bin_width=1)
    with pytest.raises(ValueError, match=r"4096 grey levels, got 1\.79769e\+308"):
        measure(np.ones((4, 4), int), image, bin_width=1e-310)


def test_flat_outline():
    row = measure(np.ones((4, 6), bool), spacing=(0.5, 2)).rows()[0]
    assert row["area_mm2"] == 24
    assert row["contour_area_mm2"] == pytest.approx(24 - 4 / 8)  # four corners cut
    corner = math.hypot(0.25, 1)
    assert row["perimeter_mm"] == pytest.approx(2 * (3 * 0.5 + 5 * 2) + 4 * corner)
    assert row["long_axis_mm"] == pytest.approx(math.hypot(12, 0.5 * 3))
    assert "max_diameter_mm" not in row


def test_json_and_csv(tmp_path, phantom):
    (row,) = json.loads(phantom.to_json(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_text() == phantom.to_json()
    assert row["box"] == [[0, 0, 0], [3, 3, 4]]
    head, line = phantom.to_csv(tmp_path / "a.csv").splitlines()
    assert (tmp_path / "a.csv").read_text() == phantom.to_csv()
    cells = dict(zip(head.split(","), line.split(","), strict=True))
    assert cells["box-1-2"] == "4"
    assert float(cells["surface_mm2"]) == phantom["surface_mm2"][0]
    empty = measure(np.zeros((3, 3, 3), int), np.zeros((3, 3, 3)), texture=True)
    assert len(empty) == 0
    assert empty.rows() == []
    assert empty.to_csv().count("\n") == 1


def test_voxel_has_no_shape():
    row = measure(np.ones((1, 1, 1), bool), spacing=(2, 1, 1)).rows()[0]
    assert row["elongation"] is row["flatness"] is None
    assert row["max_diameter_mm"] == 2
    assert row["mesh_volume_mm3"] == pytest.approx(2 / 6)


def test_change():
    def lesion(*sides):
        labels = np.zeros((2, 40, 40), int)
        for number, side in enumerate(sides):
            labels[0, :side, 20 * number : 20 * number + min(side, 20)] = number + 1
        return measure(labels)

    before = lesion(10, 12)
    assert ms.measure.change(before, before).response == "stable disease"
    assert ms.measure.change(before, lesion(5, 6)).response == "partial response"
    assert ms.measure.change(before, lesion()).response == "complete response"
    assert ms.measure.change(before, lesion(16, 18)).response == "progressive disease"
    grown = ms.measure.change(lesion(10), before)
    assert grown.response == "progressive disease"  # a new one
    assert [row["label"] for row in grown.labels] == [1, 2]
    assert grown.labels[1]["volume_mm3_before"] == 0
    assert grown.labels[1]["volume_mm3_percent"] == math.inf
    assert ms.measure.change(lesion(), before).response == "progressive disease"
    assert ms.measure.change(lesion(), lesion()).response == "not evaluable"
    with pytest.raises(ValueError, match="change: after must have volume_mm3, as before, got area"):
        ms.measure.change(before, measure([[1]]))
    small = ms.measure.change(lesion(3), lesion(4))
    assert small.percent > 20
    assert small.response == "stable disease"  # less than 5 mm


def test_labels_that_only_unsigned_integers_hold():
    labels = np.full((3, 3), 2**63 + 5, np.uint64)
    table = measure(labels)
    assert table["label"].tolist() == [2**63 + 5]
    assert ms.regionprops_table(labels, properties=["label"])["label"].tolist() == [2**63 + 5]
    assert measure(labels >> 1)["label"].tolist() == [2**62 + 2]


def test_refuses():
    with pytest.raises(TypeError, match="labels must be bool or integer, got float64"):
        measure(np.ones((2, 2)))
    with pytest.raises(ValueError, match="labels must have 2 or 3 dimensions"):
        measure([1])
    with pytest.raises(ValueError, match="image must have shape"):
        measure([[1]], [[1, 2]])
    with pytest.raises(ValueError, match="bin_width must be positive"):
        measure([[1]], [[1]], bin_width=0)


@pytest.mark.parametrize(
    ("call", "most"),
    [
        ("ms.dice({a}, {b})", 0),
        ("ms.metrics.confusion_matrix({a}, {b})", 0),
        ("ms.hausdorff_distance({a}, {b})", 12),
        ("ms.metrics.surface_distances({a}, {b})", 18),
        ("ms.regionprops_table({a})", 0),
        ("ms.measure.measure({a})", 0.2),
        ("ms.measure.measure({a}, {image})", 30),
    ],
)
def test_peak_memory(call, most):
    setup = """
        a = np.zeros((150, 200, 220), np.uint8); a[5:-5, 5:-5, 5:-5] = 1
        b = np.roll(a, 3, 1)
        image = np.random.default_rng(0).random(a.shape, np.float32)
    """
    every = {"a": "a", "b": "b", "image": "image"}
    warm = call.format(**{name: f"{name}[:8].copy()" for name in every})
    got = peak_bytes_per_pixel(call.format(**every), setup=setup, warm=warm, threads=2)
    assert got <= most + 0.2
