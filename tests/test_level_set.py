from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.level_set
NONE = {"propagation_scaling": 0, "curvature_scaling": 0, "advection_scaling": 0}


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def from_center(shape, spacing):
    return np.sqrt(
        sum(
            ((g - (n - 1) / 2) * s) ** 2
            for g, n, s in zip(np.indices(shape), shape, spacing, strict=True)
        )
    )


CASES = [((15, 17), (1, 1)), ((9, 70), (1, 0.7)), ((7, 8, 9), (1, 1, 1)), ((4, 9, 10), (3, 1, 0.8))]


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_geodesic_equals_reference(rng, isa, shape, spacing):
    speed = rng.random(shape).astype(np.float32)
    init = from_center(shape, spacing) < 3.3
    for weights in [(1, 0, 0), (-1, 0.3, 0), (0.5, 0.2, 0.7), (0, 1, 0), (0.3, 0.5, -0.4)]:
        field = twin.geodesic_active_contour(speed, init, *weights, 4, spacing)
        names = ("propagation_scaling", "curvature_scaling", "advection_scaling")
        got = ms.geodesic_active_contour(
            speed,
            init,
            **dict(zip(names, weights, strict=True)),
            max_rms_error=0,
            max_iterations=4,
            spacing=spacing,
        )
        check_field(got, field)


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_chan_vese_equals_reference(rng, isa, shape, spacing):
    init = from_center(shape, spacing) < 3.3
    image = (rng.random(shape) + init) / 2
    image[0, 0], image[-1, -1] = 0, 1
    for weights in [(0.1, 0, 1, 1), (0, 0.1, 1, 2), (0.5, -0.1, 2, 1)]:
        field = twin.chan_vese_level_set(image, init, *weights, 4, spacing)
        mu, nu, lambda1, lambda2 = weights
        got = ms.chan_vese_level_set(
            image,
            init,
            mu=mu,
            nu=nu,
            lambda1=lambda1,
            lambda2=lambda2,
            max_rms_error=0,
            max_iterations=4,
            spacing=spacing,
        )
        check_field(got, field)


def check_field(got, field):
    assert_array_equal(got.mask, field.inside)
    assert got.level_set.dtype == np.float32
    band = field.active | field.near
    # float32 storage after each of a few steps whose terms are at most of the size of the values.
    for v in band:
        assert got.level_set[v] == pytest.approx(field.value(v), abs=1e-5)
    assert_array_equal(got.level_set < 0, got.mask)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 1), (2, 1, 1)])
def test_ball_grows_at_unit_speed_and_shrinks_by_its_curvature(spacing):
    """Radius r + t, and sqrt(r^2 - 2 (ndim - 1) t), within a tenth of the way or so: the
    distances between layers are of first order."""
    ndim = len(spacing)
    shape = tuple(int(61 / s) for s in spacing)
    speed, away = np.ones(shape, np.float32), from_center(shape, spacing)
    start = away - 12.0
    diffusion = sum(2 / s**2 for s in spacing)
    for weights, n, expected in [
        ({"propagation_scaling": 1}, 16, 12 + 16 / 2),
        ({"propagation_scaling": -1}, 12, 12 - 12 / 2),
        (
            {"curvature_scaling": 1},
            50,
            np.sqrt(12**2 - 2 * (ndim - 1) * 50 / diffusion),
        ),
    ]:
        found = ms.geodesic_active_contour(
            speed,
            start,
            **{**NONE, **weights},
            max_iterations=n,
            max_rms_error=0,
            spacing=spacing,
        )
        beside = np.abs(found.level_set) < 1
        assert_allclose(away[beside] - found.level_set[beside], expected, rtol=0, atol=0.9)
        area = {2: 2 * np.pi, 3: 4 * np.pi}[ndim] * 12.0 ** (ndim - 1)
        assert found.energy[0] == pytest.approx(area, rel=0.05)


def test_level_set_is_a_distance():
    found = ms.geodesic_active_contour(
        np.ones((80, 80), np.float32), from_center((80, 80), (1, 1)) - 20.3, **NONE
    )
    assert found.converged
    expected = from_center((80, 80), (1, 1)) - 20.3
    assert_allclose(found.level_set, expected, rtol=0, atol=0.5)
    beside = np.abs(expected) < 1
    assert_allclose(found.level_set[beside], expected[beside], rtol=0, atol=0.05)


@pytest.mark.parametrize("ndim", [2, 3])
def test_geodesic_contour_stops_at_the_edge_as_simpleitk_does(ndim):
    sitk = pytest.importorskip("SimpleITK")
    shape = (60,) * ndim
    away = from_center(shape, (1,) * ndim)
    image = (away < 18).astype(np.float32)
    speed = ms.inverse_gaussian_gradient(image, 1000, 1)
    init = away < 8
    found = ms.geodesic_active_contour(
        speed, init, curvature_scaling=0.2, advection_scaling=2, max_iterations=300
    )
    assert dice(found.mask, image > 0) > 0.93
    itk = sitk.GeodesicActiveContourLevelSetImageFilter()
    itk.SetPropagationScaling(1)
    itk.SetCurvatureScaling(0.2)
    itk.SetAdvectionScaling(2)
    itk.SetNumberOfIterations(300)
    start = sitk.GetImageFromArray(ms.signed_distance(init))
    theirs = sitk.GetArrayFromImage(itk.Execute(start, sitk.GetImageFromArray(speed))) < 0
    assert dice(found.mask, theirs) > 0.95


def test_chan_vese_converges_to_the_object_and_its_energy_falls(rng):
    for shape in [(60, 70), (30, 40, 50)]:
        truth = from_center(shape, (1,) * len(shape)) < 12
        image = (truth * 100 + rng.normal(60, 8, shape)).astype(np.uint8)
        found = ms.chan_vese_level_set(image, ms.disk_level_set(shape, radius=6), mu=0.1)
        assert found.converged
        assert dice(found.mask, truth) > 0.98
        assert found.iterations == len(found.energy) == len(found.rms_change)
        assert found.energy[-1] < 0.5 * found.energy[0]
        assert (np.diff(found.energy) < 0.01 * found.energy[0]).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(rng, dtype):
    truth = from_center((20, 30), (1, 1)) < 7
    image = truth if dtype.kind == "b" else (truth * 60 + 20).astype(dtype)
    init = ms.disk_level_set(truth.shape, radius=4)
    assert_array_equal(ms.chan_vese_level_set(image, init).mask, truth)
    speed = image if dtype.kind == "b" else (image > 40).astype(dtype)
    found = ms.geodesic_active_contour(speed, init, max_iterations=5)
    expected = ms.geodesic_active_contour(speed.astype(np.float32), init, max_iterations=5)
    assert_array_equal(found.level_set, expected.level_set)


def test_layouts(rng, layout):
    image = rng.random((9, 20, 33)).astype(np.float32)
    init = from_center(image.shape, (1, 1, 1)) < 4
    for function in (ms.geodesic_active_contour, ms.chan_vese_level_set):
        expected = function(image, init, max_iterations=3)
        got = function(layout(image), layout(init), max_iterations=3)
        assert_array_equal(got.level_set, expected.level_set)
        assert_array_equal(got.energy, expected.energy)


def test_result_does_not_depend_on_threads(threads):
    image = np.random.default_rng(0).random((40, 60, 70)).astype(np.float32)
    init = ms.disk_level_set(image.shape, radius=15)
    for function in (ms.geodesic_active_contour, ms.chan_vese_level_set):
        got = function(image, init, max_iterations=5)
        with ms.num_threads(1):
            expected = function(image, init, max_iterations=5)
        assert_array_equal(got.level_set, expected.level_set)
        assert_array_equal(got.energy, expected.energy)
        assert_array_equal(got.rms_change, expected.rms_change)


def test_callback_sees_masks_and_changes_nothing(rng):
    image = rng.random((20, 30))
    init = ms.disk_level_set(image.shape, radius=5)
    seen = []
    got = ms.chan_vese_level_set(image, init, max_iterations=6, iter_callback=seen.append)
    assert len(seen) == got.iterations + 1
    assert_array_equal(seen[0], init)
    assert_array_equal(seen[-1], got.mask)
    assert_array_equal(
        got.level_set, ms.chan_vese_level_set(image, init, max_iterations=6).level_set
    )

    def stop(mask):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        ms.geodesic_active_contour(image, init, iter_callback=stop)


def test_surface_that_vanishes_or_fills_the_image():
    speed = np.ones((12, 13), np.float32)
    init = ms.disk_level_set(speed.shape, radius=3)
    gone = ms.geodesic_active_contour(speed, init, propagation_scaling=-1)
    assert gone.converged
    assert not gone.mask.any()
    assert (gone.level_set == np.inf).all()
    full = ms.geodesic_active_contour(speed, init)
    assert full.converged
    assert full.mask.all()
    assert (full.level_set == -np.inf).all()


def test_two_surfaces_merge_and_one_splits():
    speed = np.ones((30, 60), np.float32)
    init = ms.disk_level_set(speed.shape, center=(15, 20), radius=6) > 0
    init |= ms.disk_level_set(speed.shape, center=(15, 40), radius=6) > 0
    merged = ms.geodesic_active_contour(speed, init, curvature_scaling=0, max_iterations=14)
    assert ms.label(merged.mask).max() == 1
    split = ms.geodesic_active_contour(
        speed, merged.mask, propagation_scaling=-1, curvature_scaling=0, max_iterations=16
    )
    assert ms.label(split.mask).max() == 2


def test_a_level_set_starts_where_its_zero_is():
    away = from_center((50, 50), (1, 1))
    speed = np.zeros((50, 50), np.float32)
    for init in (away - 13.3, 5 * (away - 13.3), (away - 13.3).astype(np.float16)):
        found = ms.geodesic_active_contour(speed, init, max_iterations=1)
        beside = np.abs(found.level_set) < 0.5
        assert_allclose((away - found.level_set)[beside], 13.3, rtol=0, atol=0.2)
        assert found.converged


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1, 9), (3, 1, 64), (2, 2), (5, 65)])
def test_thin_images(shape):
    init = np.zeros(shape, bool)
    init[tuple(n // 2 for n in shape)] = True
    found = ms.geodesic_active_contour(np.ones(shape, np.float32), init, curvature_scaling=0)
    assert found.mask.all()
    image = np.arange(np.prod(shape)).reshape(shape)
    assert ms.chan_vese_level_set(image, init, mu=0).mask.shape == shape


ONE = ms.disk_level_set((9, 9), radius=3)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "2 or 3 dimensions", {"image": np.zeros(9)}),
        (ValueError, "2 or 3 dimensions", {"image": np.zeros((2, 2, 2, 2))}),
        (ValueError, "must not be empty", {"image": np.zeros((0, 9))}),
        (ValueError, "must be finite", {"image": np.full((9, 9), np.nan)}),
        (ValueError, "must be finite", {"image": np.diag([np.inf] * 9)}),
        (TypeError, "complex", {"image": np.zeros((9, 9), complex)}),
        (ValueError, "init must have shape", {"init": np.ones((9, 8))}),
        (ValueError, "init must have voxels on both sides", {"init": np.zeros((9, 9), bool)}),
        (ValueError, "init must have voxels on both sides", {"init": np.full((9, 9), -1.0)}),
        (ValueError, "init must not contain NaN", {"init": np.full((9, 9), np.nan)}),
        (ValueError, "max_iterations must be at least 0", {"max_iterations": -1}),
        (ValueError, "max_rms_error must not be negative", {"max_rms_error": -1}),
        (ValueError, "spacing must be 2 positive numbers", {"spacing": (1, 1, 1)}),
        (ValueError, "must be finite", {"weight": np.inf}),
        (ValueError, "must not be negative", {"weight": -1}),
    ],
)
def test_bad_input(error, message, arguments):
    given = {"image": np.zeros((9, 9)), "init": ONE, **arguments}
    weight = given.pop("weight", 0.1)
    with pytest.raises(error, match=message):
        ms.chan_vese_level_set(**given, mu=weight)
    given["speed"] = given.pop("image")
    with pytest.raises(error, match=message):
        ms.geodesic_active_contour(**given, curvature_scaling=weight)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 13), ("uint8", 13)])
def test_peak_memory(dtype, most):
    setup = f"""
image = (np.random.default_rng(0).random((100, 150, 192)) * 9).astype(np.{dtype})
init = ms.disk_level_set(image.shape) > 0
"""
    call = "ms.chan_vese_level_set({}, {}, max_iterations=2)"
    warm = call.format("image[:9]", "init[46:55]")
    got = peak_bytes_per_pixel(call.format("image", "init"), setup=setup, warm=warm)
    assert got <= most + 0.3
