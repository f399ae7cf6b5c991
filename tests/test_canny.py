from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import io, reference

# Float images with infinities overflow in the peer and the twin, too.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
skimage_twin = reference.canny.canny_skimage
opencv_twin = reference.canny.canny_opencv
itk_twin = reference.canny.canny_itk
PEER_DTYPES = [d for d in DTYPES if d.kind not in "ui" or d.itemsize < 8]
MODES = ["constant", "reflect", "nearest", "mirror", "wrap"]


def scene(rng, shape, dtype, levels=None):
    """Blobs and noise over the dtype's range; with ties if there are few levels."""
    image = rng.random(shape) * 0.3
    for _ in range(6):
        away = sum(
            (g - rng.integers(0, n)) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)
        )
        image[away < rng.integers(4, 200)] += 0.1
    if levels:
        image = np.round(image * levels) / levels
    if dtype.kind == "b":
        return image > 0.3
    return (image if dtype.kind == "f" else image * np.iinfo(dtype).max).astype(dtype)


def of_range(dtype):
    """What turns thresholds of the divided image into those of an image of this dtype."""
    return np.iinfo(dtype).max if dtype.kind in "ui" else 1


@pytest.mark.parametrize("dtype", PEER_DTYPES, ids=str)
def test_equals_reference(rng, isa, dtype):
    for shape in [(1, 1), (2, 9), (3, 3), (11, 70), (40, 33)]:
        image = scene(rng, shape, dtype)
        for sigma, mode in [(0, "constant"), (1, "constant"), (1.3, "reflect"), (2.5, "wrap")]:
            got = ms.canny(image, sigma, mode=mode)
            assert got.dtype == bool
            expected = skimage_twin(image, sigma, 0.1, 0.2, mode=mode)
            # Of few values many gradients are equal: there the order of sums, the peer's, decides.
            ties = 0.02 if dtype.itemsize <= 2 else 0
            assert np.count_nonzero(got != expected) <= ties * image.size


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_of_64_bits_are_refused_as_by_skimage(dtype):
    feature = pytest.importorskip("skimage.feature")
    image = np.zeros((5, 6), dtype)
    for call in (feature.canny, ms.canny, lambda image: ms.CannyPlan(image.shape, image.dtype)):
        with pytest.raises(ValueError, match="64-bit integer images are not supported"):
            call(image)
    assert not ms.canny(image, convention="itk").any()


@pytest.mark.parametrize("dtype", PEER_DTYPES, ids=str)
def test_equals_skimage(rng, dtype):
    feature = pytest.importorskip("skimage.feature")
    for shape in [(1, 1), (2, 5), (3, 3), (4, 70), (67, 3), (65, 64), (33, 257), (150, 266)]:
        for levels in (None, 4):
            image = scene(rng, shape, dtype, levels)
            mask = rng.random(shape) < 0.97
            top = of_range(dtype)
            for sigma in (0, 0.1, 1, (1, 0), (3, 0.5)):
                mode, cval = MODES[rng.integers(5)], (0, 0.5)[rng.integers(2)]
                for options in (
                    {},
                    {"mask": mask},
                    {"low_threshold": 0, "high_threshold": 0.05 * top},
                    {"low_threshold": -1, "high_threshold": 0},
                    {"use_quantiles": True, "low_threshold": 0.3, "high_threshold": 0.8},
                ):
                    arguments = {"sigma": sigma, "mode": mode, "cval": cval, **options}
                    assert_array_equal(
                        ms.canny(image, **arguments), feature.canny(image, **arguments)
                    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_has_no_edges_around_it_as_in_skimage(rng, dtype, value):
    feature = pytest.importorskip("skimage.feature")
    for levels in (None, 4):
        for share in (0.001, 0.02):
            image = scene(rng, (90, 110), np.dtype(dtype), levels)
            bad = rng.random(image.shape) < share
            image[bad] = value
            for options in ({"sigma": 0}, {"sigma": 1}, {"sigma": 1, "mask": ~bad}):
                assert_array_equal(ms.canny(image, **options), feature.canny(image, **options))


def test_real_images_as_skimage(rng):
    feature = pytest.importorskip("skimage.feature")
    data = pytest.importorskip("skimage.data")
    camera = data.camera()
    for image in (camera, camera / 255, (camera / 255).astype(np.float32), camera.astype(np.int16)):
        for options in (
            {},
            {"sigma": 3, "mode": "nearest"},
            {"use_quantiles": True, "low_threshold": 0.7, "high_threshold": 0.95},
            {"mask": camera > 60},
            {"low_threshold": 5, "high_threshold": np.float64(30)},
            {"low_threshold": np.float32(0.05), "high_threshold": np.float32(0.15)},
        ):
            assert_array_equal(ms.canny(image, **options), feature.canny(image, **options))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "int16", "uint32"])
def test_where_float32_does_not_tell(rng, dtype):
    """Values far from 0, thresholds among the magnitudes, ties, and steps along the diagonals."""
    feature = pytest.importorskip("skimage.feature")
    kind = np.dtype(dtype)
    noise = rng.random((280, 420)) * 4
    ramps = np.add.outer(np.arange(280) % 50, np.arange(420) % 64) / 30.0
    blocks = np.repeat(np.repeat(noise[:40, :70], 7, 0), 6, 1)
    for values in (noise, ramps, blocks, np.round(noise)):
        for offset in (0, 1000, -3000):
            if kind.kind == "f":
                image, unit = (values + offset).astype(kind), 1.0
            else:
                unit = float(np.iinfo(kind).max) / 8000
                image = ((values + max(offset, 0)) * unit).astype(kind)
            for sigma, low, high in ((0, 6, 9), (1, 1, 2), (1, 2.02, 2.02)):
                levels = low * unit, high * unit
                assert_array_equal(
                    ms.canny(image, sigma, *levels, mode="nearest"),
                    feature.canny(image, sigma, *levels, mode="nearest"),
                )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_small_image_as_skimage(data):
    feature = pytest.importorskip("skimage.feature")
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    values = data.draw(
        st.lists(st.integers(0, 3), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    )
    image = np.array(values, np.uint8).reshape(shape) * np.uint8(80)
    sigma = data.draw(st.sampled_from([0, 0.3, 0.5, 1, 4]))
    mode = data.draw(st.sampled_from(MODES))
    for low, high in ((None, None), (0, 0), (3, 40)):
        assert_array_equal(
            ms.canny(image, sigma, low, high, mode=mode),
            feature.canny(image, sigma, low, high, mode=mode),
        )


def test_spacing_turns_the_direction(rng):
    image = scene(rng, (40, 50), np.dtype(float))
    for spacing in ((1.0, 2.5), (0.4, 0.7)):
        got = ms.canny(image, 1.2, 0.05, 0.1, spacing=spacing)
        assert got.any()
        assert_array_equal(got, skimage_twin(image, 1.2, 0.05, 0.1, spacing=spacing))


@pytest.mark.parametrize("squares", [False, True])
def test_opencv(rng, isa, threads, squares):
    options = {"convention": "opencv", "l2_gradient": squares}
    levels = [(None, None), (0, 0), (-3, 100), (50.5, 100), (200, 600), (40000, 50000)]
    for shape in [(1, 1), (1, 70), (5, 1), (33, 65), (70, 200), (9, 1100)]:
        image = scene(rng, shape, np.dtype(np.uint8), (None, 6)[rng.integers(2)])
        for low, high in levels:
            got = ms.canny(image, 0, low, high, **options)
            limits = (25.5, 51) if low is None else (low, high)
            if image.size < 3000:
                assert_array_equal(got, opencv_twin(image, *limits, squares))
            cv2 = pytest.importorskip("cv2")
            expected = cv2.Canny(image, float(limits[0]), float(limits[1]), L2gradient=squares)
            assert_array_equal(got, expected > 0)
            assert_array_equal(got, ms.canny(image, 0, high, low, **options))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_itk_definition_equals_reference(rng, isa, dtype):
    for shape in [(70,), (1, 1, 1), (1, 40, 1), (2, 9, 70), (12, 13, 14), (4, 5, 6, 7)]:
        image = scene(rng, shape, dtype)
        top = of_range(dtype)
        for options in ({"sigma": 1}, {"sigma": 1.7, "mode": "nearest"}):
            levels = 0.005 * top, 0.01 * top
            got = ms.canny(image, low_threshold=levels[0], high_threshold=levels[1], **options)
            expected = itk_twin(image, low=levels[0], high=levels[1], **options)
            # Signs of a second derivative of about 0 are a matter of rounding.
            most = 3 + 0.04 * image.size if dtype.kind == "b" else 0.002 * image.size
            assert np.count_nonzero(got != expected) <= most


@pytest.mark.parametrize(
    ("shape", "dtype", "call", "most"),
    [
        ((2500, 2600), "uint8", "ms.canny(image)", 1.3),
        ((2500, 2600), "float32", "ms.canny(image)", 1.3),
        ((2500, 2600), "uint8", "ms.canny(image, use_quantiles=True)", 17.3),
        ((150, 200, 220), "uint8", "ms.canny(image)", 9.3),
        ((150, 200, 220), "float64", "ms.canny(image)", 17.3),
        ((150, 200, 220), "uint8", "ms.canny(image, mask=image < 2)", 15.3),
    ],
)
def test_memory(shape, dtype, call, most):
    setup = f"""
    image = np.zeros({shape}, np.{dtype})
    image[100:, 50:] = 1
    small = image[:8].copy()
    ms.canny(small)
    """
    got = peak_bytes_per_pixel(call, setup=setup, threads=2)
    assert got <= most + 0.4


def test_threads_change_nothing(rng):
    for shape, options in (
        ((700, 900), {}),
        ((700, 900), {"use_quantiles": True}),
        ((40, 90, 80), {}),
    ):
        image = scene(rng, shape, np.dtype(np.float32))
        with ms.num_threads(1):
            expected = ms.canny(image, **options)
        for n in (2, 5):
            with ms.num_threads(n):
                assert_array_equal(ms.canny(image, **options), expected)


def test_itk_definition_with_spacing_and_mask(rng):
    image = scene(rng, (14, 20, 18), np.dtype(float))
    mask = rng.random(image.shape) < 0.995
    options = {"spacing": (2.5, 0.8, 0.7), "sigma": 1.5}
    assert_array_equal(
        ms.canny(image, low_threshold=0.01, high_threshold=0.02, mask=mask, **options),
        itk_twin(image, low=0.01, high=0.02, mask=mask, **options),
    )
    everywhere = np.ones(image.shape, bool)
    assert_array_equal(ms.canny(image, mask=everywhere), ms.canny(image))
    image[3, 4, 5] = np.nan
    assert not ms.canny(image, sigma=0)[2:5, 3:6, 4:7].any()
    assert_array_equal(
        ms.canny(image, mask=~np.isnan(image)),
        ms.canny(np.nan_to_num(image), mask=~np.isnan(image)),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_itk_definition_equals_simpleitk(dtype):
    sitk = pytest.importorskip("SimpleITK")
    pytest.importorskip("nibabel")
    scan = io.read(io.example("ct_lung_tumour").image).array.astype(dtype)
    for image in (ms.gaussian(scan, 1.5), ms.gaussian(scan[10], 1.0)):
        for low, high in ((0, 0), (10, 40)):
            got = ms.canny(image, 0, low, high, convention="itk")
            zeros = [0.0] * image.ndim
            expected = sitk.CannyEdgeDetection(sitk.GetImageFromArray(image), low, high, zeros)
            expected = sitk.GetArrayFromImage(expected) > 0
            assert np.count_nonzero(got != expected) <= 2e-5 * image.size


def test_quantiles_of_a_volume(rng):
    image = scene(rng, (12, 30, 31), np.dtype(np.float32))
    smooth = ms.canny(image, 0, 0.5, 0.9, use_quantiles=True)
    length = np.sqrt(
        sum(reference.canny._difference(image.astype(float), k, 1.0) ** 2 for k in range(3))
    )
    low, high = np.percentile(length, [50, 90])
    assert np.count_nonzero(smooth != ms.canny(image, 0, low, high)) <= 3


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 2)])
def test_empty(shape):
    for options in ({}, {"use_quantiles": True}, {"mask": np.zeros(shape, bool)}):
        assert ms.canny(np.zeros(shape), **options).shape == shape


@pytest.mark.parametrize("shape", [(40, 50), (9, 14, 15)])
def test_layout_and_out(rng, layout, shape):
    image = scene(rng, shape, np.dtype(np.float32))
    expected = ms.canny(image)
    assert_array_equal(ms.canny(layout(image)), expected)
    assert_array_equal(ms.canny(image, mask=layout(image > 0.1)), ms.canny(image, mask=image > 0.1))
    out = layout(np.ones(shape, bool))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.canny(image, out=out)
        return
    assert ms.canny(image, out=out) is out
    assert_array_equal(out, expected)


def test_out_may_be_the_image(rng):
    for shape in ((70, 80), (9, 30, 31)):
        image = rng.random(shape) < 0.5
        expected = ms.canny(image)
        assert_array_equal(ms.canny(image, out=image), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_plan_equals_canny(rng, threads, dtype):
    options = {"sigma": 1.4, "mode": "nearest"}
    plan = ms.CannyPlan((90, 300), dtype, **options)
    for _ in range(3):
        image = scene(rng, (90, 300), np.dtype(dtype))
        out = np.ones(image.shape, bool)
        assert plan(image, out=out) is out
        assert_array_equal(out, ms.canny(image, **options))
        assert_array_equal(plan(np.asfortranarray(image)), out)
    grid = ms.CannyPlan((90, 300), "u1", 0, 40, 90, convention="opencv", l2_gradient=True)
    image = scene(rng, (90, 300), np.dtype("u1"))
    expected = ms.canny(image, 0, 40, 90, convention="opencv", l2_gradient=True)
    assert_array_equal(grid(image), expected)


def test_plan_serves_more_threads_than_it_was_made_for(rng):
    image = scene(rng, (600, 700), np.dtype("u1"))
    with ms.num_threads(1):
        plan = ms.CannyPlan(image.shape)
    with ms.num_threads(4):
        assert_array_equal(plan(image), ms.canny(image))


@pytest.mark.parametrize("convention", ["skimage", "opencv"])
def test_plan_allocates_nothing_per_frame(rng, convention):
    frames = [scene(rng, (500, 640), np.dtype("u1")) for _ in range(3)]
    plan = ms.CannyPlan((500, 640), "u1", convention=convention)
    out = np.zeros((500, 640), bool)
    for frame in frames:  # pages are touched once
        plan(frame, out=out)

    def pages():
        return int(Path("/proc/self/statm").read_text().split()[1])

    traced, resident = [], []
    for _ in range(3):  # threads that other tests left may allocate in one of them
        before = pages()  # allocates itself
        tracemalloc.start()
        for frame in frames * 10:
            plan(frame, out=out)
        traced.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        resident.append(pages() - before)
    assert min(traced) < 4000  # argument tuples; an image has 320,000 bytes
    assert min(resident) < 40


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "high_threshold must not be below", {"low_threshold": 2, "high_threshold": 1}),
        (ValueError, "low_threshold must be a quantile", {"low_threshold": 2, "use_quantiles": 1}),
        (ValueError, "low_threshold must be a number, got NaN", {"low_threshold": np.nan}),
        (TypeError, "high_threshold must be a number", {"high_threshold": "1"}),
        (ValueError, "sigma must be finite and not negative", {"sigma": -1}),
        (ValueError, "sigma must have one entry per axis", {"sigma": (1, 2, 3)}),
        (ValueError, "mode must be one of", {"mode": "zero"}),
        (ValueError, "mode must be the same", {"mode": ("wrap", "mirror")}),
        (ValueError, "mask must have shape", {"mask": np.ones((3, 4))}),
        (ValueError, "spacing must be 2 positive numbers", {"spacing": (1, 2, 3)}),
        (ValueError, "convention must be one of", {"convention": "matlab"}),
        (ValueError, "at least one dimension", {"image": 3.0}),
        (ValueError, "2 dimensions", {"image": np.zeros((3, 3, 3)), "convention": "skimage"}),
        (TypeError, "complex", {"image": np.zeros((3, 3), complex)}),
        (ValueError, "out must have shape", {"out": np.zeros(2, bool)}),
        (TypeError, "must be uint8", {"convention": "opencv"}),
        (
            ValueError,
            "sigma has no meaning",
            {"convention": "opencv", "sigma": 2, "image": np.zeros((3, 3), np.uint8)},
        ),
        (
            ValueError,
            "mask has no meaning",
            {"convention": "opencv", "mask": np.ones((3, 3)), "image": np.zeros((3, 3), np.uint8)},
        ),
    ],
)
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.canny(**{"image": np.zeros((3, 3)), **arguments})


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "shape must have 2 numbers", {"shape": (3, 3, 3)}),
        (ValueError, "convention must be skimage or opencv", {"convention": "itk"}),
        (TypeError, "dtype must be bool", {"dtype": complex}),
        (TypeError, "must be uint8", {"dtype": float, "convention": "opencv"}),
    ],
)
def test_bad_plan(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.CannyPlan(**{"shape": (3, 3), **arguments})
    with pytest.raises(ValueError, match="image must have shape"):
        ms.CannyPlan((3, 3))(np.zeros((3, 3)))


def test_random_images_of_any_dtype_as_the_reference(rng):
    for dtype in PEER_DTYPES:
        image = random_image(rng, (25, 66), dtype)
        with np.errstate(all="ignore"):
            expected = skimage_twin(image, 0, 0.1, 0.2, mode="nearest")
        assert np.count_nonzero(ms.canny(image, 0, mode="nearest") != expected) <= 4


@pytest.mark.parametrize("convention", ["skimage", "opencv"])
def test_threads_that_share_a_plan_take_turns(rng, convention):
    images = rng.integers(0, 256, (8, 120, 130), dtype=np.uint8)
    levels = {"low_threshold": 50, "high_threshold": 150, "convention": convention}
    plan = ms.CannyPlan((120, 130), **levels)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(plan, np.tile(images, (10, 1, 1))))
    for i, edges in enumerate(found):
        assert_array_equal(edges, ms.canny(images[i % 8], **levels))
