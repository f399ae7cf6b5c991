from __future__ import annotations

import itertools

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.morphological_snakes
SHAPES = [(0, 5), (1, 1), (7, 1), (1, 130), (33, 65), (3, 0, 2), (1, 1, 1), (5, 7, 9), (2, 9, 64)]
LARGER = [(33, 65), (70, 128), (2, 2), (5, 7, 9), (11, 17, 70)]


def scene(rng, shape, dtype):
    """A brighter ball in noise."""
    away = sum((g - n / 2) ** 2 for g, n in zip(np.indices(shape), shape, strict=True))
    image = rng.normal(0, 1, shape) + 1.5 * (away < (min(shape, default=0) / 3) ** 2)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return image > 0.7
    if dtype.kind in "ui":
        image = (image * 20 + 60 * (dtype.kind == "u")).clip(-128 * (dtype.kind == "i"), 127)
    return image.astype(dtype)


@pytest.fixture
def peer():
    """scikit-image's module in the state in which a process starts."""
    module = pytest.importorskip("skimage.segmentation.morphsnakes")
    module._curvop.funcs = itertools.cycle(
        [lambda u: module.sup_inf(module.inf_sup(u)), lambda u: module.inf_sup(module.sup_inf(u))]
    )
    return module


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chan_vese_equals_reference(rng, isa, dtype):
    for shape in SHAPES:
        image = scene(rng, shape, dtype)
        init = rng.random(shape) < 0.5
        wide = image.astype(np.float32) if dtype == np.float16 else image
        for smoothing, lambda1, lambda2 in [(1, 1, 1), (0, 1, 2), (3, 1.5, 0.7)]:
            with np.errstate(invalid="ignore", divide="ignore"):
                expected = twin.morphological_chan_vese(wide, 3, init, smoothing, lambda1, lambda2)
            got = ms.morphological_chan_vese(image, 3, init, smoothing, lambda1, lambda2)
            assert got.dtype == np.int8
            assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_geodesic_equals_reference(rng, isa, dtype):
    for shape in SHAPES:
        image = rng.random(shape).astype(dtype)
        init = rng.random(shape) < 0.5
        for smoothing, balloon in [(1, 0), (0, 1), (2, -1)]:
            expected = twin.morphological_geodesic_active_contour(
                image, 5, init, smoothing, 0.5, balloon
            )
            got = ms.morphological_geodesic_active_contour(image, 5, init, smoothing, 0.5, balloon)
            assert got.dtype == np.int8
            assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != np.float16], ids=str)
@pytest.mark.parametrize("init", ["checkerboard", "disk"])
def test_chan_vese_equals_skimage_at_every_iteration(rng, peer, dtype, init):
    for shape in LARGER:
        image = scene(rng, shape, dtype)
        for smoothing, lambda1, lambda2 in [(2, 1, 1), (0, 1, 2), (4, 1.5, 0.7)]:
            ours, theirs = [], []
            arguments = (image, 4, init, smoothing, lambda1, lambda2)
            got = ms.morphological_chan_vese(*arguments, ours.append)
            expected = peer.morphological_chan_vese(*arguments, lambda u: theirs.append(u.copy()))  # noqa: B023
            assert_array_equal(got, expected)
            assert got.dtype == expected.dtype
            assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("init", ["checkerboard", "disk"])
def test_geodesic_equals_skimage_at_every_iteration(rng, peer, dtype, init):
    for shape in LARGER:
        image = rng.random(shape).astype(dtype)
        for threshold, balloon in [("auto", 0), ("auto", 1), ("auto", -1), (0.5, 1.5), (0.4, -2)]:
            ours, theirs = [], []
            arguments = (image, 4, init, 2, threshold, balloon)
            got = ms.morphological_geodesic_active_contour(*arguments, ours.append)
            expected = peer.morphological_geodesic_active_contour(
                *arguments,
                lambda u: theirs.append(u.copy()),  # noqa: B023
            )
            assert_array_equal(got, expected)
            assert got.dtype == expected.dtype
            assert_array_equal(ours, theirs)


def test_smoother_starts_afresh_where_the_peers_goes_on(rng, peer):
    """An odd number of smoothings leaves the peer's cycle turned; ours never is."""
    image = scene(rng, (60, 70), np.float64)
    first, second = (ms.morphological_chan_vese(image, 3) for _ in range(2))
    assert_array_equal(first, second)
    assert_array_equal(first, peer.morphological_chan_vese(image, 3))
    assert not np.array_equal(first, peer.morphological_chan_vese(image, 3))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_snakes_equal_reference_on_small_cases(data):
    ndim = data.draw(st.integers(2, 3))
    shape = tuple(data.draw(st.integers(1, 70 if a == ndim - 1 else 5)) for a in range(ndim))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = rng.integers(0, 5, shape).astype(np.float32)
    init = rng.random(shape) < rng.random()
    n, smoothing = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 3))
    assert_array_equal(
        ms.morphological_chan_vese(image, n, init, smoothing),
        twin.morphological_chan_vese(image, n, init, smoothing, 1, 1),
    )
    assert_array_equal(
        ms.morphological_geodesic_active_contour(image, n, init, smoothing, 2, -1),
        twin.morphological_geodesic_active_contour(image, n, init, smoothing, 2, -1),
    )


def test_sums_of_floats_are_numpys_to_the_last_bit(rng, peer):
    """Large enough for a tree of several levels; the means decide pixel by pixel."""
    image = (rng.random((90, 100, 77)) * 1e4).astype(np.float32)
    expected = peer.morphological_chan_vese(image, 6, smoothing=0)
    assert_array_equal(ms.morphological_chan_vese(image, 6, smoothing=0), expected)


def test_result_does_not_depend_on_threads(rng, threads):
    image = np.random.default_rng(1).random((40, 90, 150)).astype(np.float32)
    first = ms.morphological_chan_vese(image, 3)
    second = ms.morphological_geodesic_active_contour(image, 3, threshold=0.5, balloon=1)
    with ms.num_threads(1):
        assert_array_equal(first, ms.morphological_chan_vese(image, 3))
        again = ms.morphological_geodesic_active_contour(image, 3, threshold=0.5, balloon=1)
    assert_array_equal(second, again)


def test_layouts_and_out(rng, layout):
    image = scene(rng, (6, 33, 31), np.float32)
    expected = ms.morphological_chan_vese(image, 4, "disk")
    assert_array_equal(ms.morphological_chan_vese(layout(image), 4, "disk"), expected)
    contour = ms.morphological_geodesic_active_contour(np.abs(image), 4, balloon=1)
    got = ms.morphological_geodesic_active_contour(layout(np.abs(image)), 4, balloon=1)
    assert_array_equal(got, contour)
    out = layout(np.ones(image.shape, np.int8))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.morphological_chan_vese(image, 4, out=out)
        return
    assert ms.morphological_chan_vese(image, 4, layout(expected), out=out) is out
    assert_array_equal(out, ms.morphological_chan_vese(image, 4, expected))
    assert ms.morphological_geodesic_active_contour(np.abs(image), 4, balloon=1, out=out) is out
    assert_array_equal(out, contour)


def test_callback_gets_its_own_copies_and_may_stop(rng):
    image = scene(rng, (20, 30), np.float64)
    seen = []
    result = ms.morphological_chan_vese(image, 3, iter_callback=seen.append)
    assert len(seen) == 4
    assert_array_equal(seen[0], ms.checkerboard_level_set(image.shape))
    assert_array_equal(seen[-1], result)
    assert seen[-1] is not result

    def stop(level_set):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        ms.morphological_geodesic_active_contour(image, 3, iter_callback=stop)


def test_integers_are_taken_as_floats_by_the_geodesic_snake(rng):
    for dtype in ("bool", "uint8", "int16", "int32", "uint64"):
        image = scene(rng, (12, 30, 40), dtype)
        got = ms.morphological_geodesic_active_contour(image, 5, threshold=60, balloon=1)
        expected = ms.morphological_geodesic_active_contour(
            image.astype(np.float64), 5, threshold=60, balloon=1
        )
        assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [(40,), (20, 30), (9, 10, 14)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_inverse_gaussian_gradient_equals_skimage(rng, shape, dtype):
    peer = pytest.importorskip("skimage.segmentation")
    image = (rng.random(shape) * 200).astype(dtype)
    theirs = image if dtype in (np.float32, np.float64) else image.astype(np.float64)
    for alpha, sigma in [(100.0, 2.0), (1, 1), (0, 5.0)]:
        got = ms.inverse_gaussian_gradient(image, alpha, sigma)
        assert got.dtype == (np.float32 if dtype in (np.float16, np.float32) else np.float64)
        # As of gaussian_gradient_magnitude, whose gradients here are up to 100 with errors of
        # 60 units of float32; the map has at most half of the gradient's relative error.
        rtol = 1e-4 if got.dtype == np.float32 else 1e-12
        assert_allclose(got, peer.inverse_gaussian_gradient(theirs, alpha, sigma), rtol=rtol)
    out = np.zeros(shape, np.float64)
    assert ms.inverse_gaussian_gradient(image, out=out) is out


def test_inverse_gaussian_gradient_measures_in_mm(rng):
    image = rng.random((9, 12))
    got = ms.inverse_gaussian_gradient(image, 3.0, 2.0, spacing=(2, 2))
    expected = ms.inverse_gaussian_gradient(image, 1.5, 1.0)
    assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (4, 9), (20, 31), (9, 10, 13), (0, 3), (3, 4, 5, 6)])
def test_initial_shapes(peer, shape):
    assert_array_equal(ms.checkerboard_level_set(shape), peer.checkerboard_level_set(shape))
    assert_array_equal(ms.checkerboard_level_set(shape, 3), peer.checkerboard_level_set(shape, 3))
    assert_array_equal(ms.disk_level_set(shape), peer.disk_level_set(shape))
    for at, radius in [(1, 2.5), (-3, 5), (2, -1)]:
        center = (at,) * len(shape)
        (((1,) * len(shape), 2.5),)
        assert_array_equal(
            ms.disk_level_set(shape, center=center, radius=radius),
            peer.disk_level_set(shape, center=center, radius=radius),
        )


def test_disk_in_mm_and_box():
    ball = ms.disk_level_set((5, 21), center=(2, 10), radius=4.5, spacing=(4, 1))
    assert ball.sum(1).tolist() == [0, 5, 9, 5, 0]
    assert ms.box_level_set((8, 8)).sum() == 36
    assert ms.box_level_set((5, 6, 7), center=(0, 3, 3), size=3).sum() == 2 * 3 * 3
    for call in (ms.checkerboard_level_set, ms.disk_level_set, ms.box_level_set):
        assert call((3, 4)).dtype == np.int8
        with pytest.raises(ValueError, match="image_shape must have at least one axis"):
            call(())
    with pytest.raises(ValueError, match="size must have 2 numbers"):
        ms.box_level_set((3, 4), size=(1, 2, 3))
    with pytest.raises(ValueError, match="square_size must be at least 1"):
        ms.checkerboard_level_set((3, 4), 0)
    with pytest.raises(ValueError, match="center must have 2 numbers"):
        ms.disk_level_set((3, 4), center=(1, 2, 3))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "2 or 3 dimensions", {"image": np.zeros(5)}),
        (ValueError, "2 or 3 dimensions", {"image": np.zeros((2, 2, 2, 2))}),
        (ValueError, "must be finite", {"image": np.full((3, 4), np.nan)}),
        (ValueError, "must be finite", {"image": np.full((3, 4), np.inf, np.float32)}),
        (TypeError, "complex", {"image": np.zeros((3, 4), complex)}),
        (ValueError, "num_iter must be at least 0", {"num_iter": -1}),
        (TypeError, "num_iter must be an integer", {"num_iter": 1.5}),
        (ValueError, "smoothing must be", {"smoothing": -1}),
        (ValueError, "init_level_set must be 'checkerboard'", {"init_level_set": "ball"}),
        (ValueError, "init_level_set must have shape", {"init_level_set": np.ones((4, 3))}),
        (TypeError, "init_level_set must be bool", {"init_level_set": np.ones((3, 4), complex)}),
        (ValueError, "out must have shape", {"out": np.zeros((3, 4))}),
    ],
)
def test_bad_input(error, message, arguments):
    given = {"image": np.zeros((3, 4)), "num_iter": 2, **arguments}
    with pytest.raises(error, match=message):
        ms.morphological_chan_vese(**given)
    given["gimage"] = given.pop("image")
    with pytest.raises(error, match=message.replace("image must", "gimage must")):
        ms.morphological_geodesic_active_contour(**given)


def test_more_bad_input():
    image = np.zeros((3, 4))
    with pytest.raises(ValueError, match="lambda1 must be a number, got NaN"):
        ms.morphological_chan_vese(image, 1, lambda1=np.nan)
    with pytest.raises(ValueError, match="threshold must be a number or 'auto'"):
        ms.morphological_geodesic_active_contour(image, 1, threshold="otsu")
    with pytest.raises(ValueError, match="balloon must be a number, got NaN"):
        ms.morphological_geodesic_active_contour(image, 1, balloon=np.nan)
    with pytest.raises(ValueError, match="alpha must be finite and not negative"):
        ms.inverse_gaussian_gradient(image, -1)


def test_values_that_overflow_a_sum_are_still_finite():
    image = np.full((4, 4), 1e308)
    assert ms.morphological_chan_vese(image, 1, "disk").shape == (4, 4)


MEMORY = """
rng = np.random.default_rng(0)
image = rng.random((100, 150, 192)).astype(np.{dtype})
small = image[:9, :9, :9].copy()
"""


@pytest.mark.parametrize(
    ("call", "dtype", "most"),
    [
        ("ms.morphological_chan_vese({image}, 2, 'disk')", "uint8", 2),
        ("ms.morphological_chan_vese({image}, 2, 'disk')", "float32", 2),
        ("ms.morphological_geodesic_active_contour({image}, 2)", "float32", 2),
        (
            "ms.morphological_geodesic_active_contour({image}, 2, threshold=0.5, balloon=1)",
            "float32",
            3.0,
        ),
    ],
)
def test_peak_memory(call, dtype, most):
    setup = MEMORY.format(dtype=dtype)
    warm = call.format(image="small")
    got = peak_bytes_per_pixel(call.format(image="image"), setup=setup, warm=warm, threads=2)
    assert got <= most + 0.15
