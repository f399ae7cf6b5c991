from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import _stencil, reference

twin = reference.edges
GRADIENTS = ["sobel", "prewitt", "scharr", "farid"]
MODES = ["reflect", "constant", "nearest", "mirror", "wrap"]
DIRECTED = [f"{name}_{way}" for name in GRADIENTS for way in "hv"]
CROSS = ["roberts", "roberts_pos_diag", "roberts_neg_diag"]
# Rings, blocks of columns (1024 float32, 512 float64) and of planes have work, and an end.
LARGE = [(2100,), (3, 1030), (70, 40), (20, 30, 40), (3, 3, 700), (3, 2, 3, 5)]


def finite(rng, shape, dtype):
    image = random_image(rng, shape, dtype)
    return (
        np.where(np.isfinite(image), image, 3).astype(dtype) if image.dtype.kind == "f" else image
    )


def bound(image, dtype, roundings, cval=0.0):
    """Of an error: `roundings` of values that are at most twice the largest pixel.

    Rounding a value v costs at most eps / 2 * |v|.
    """
    largest = np.abs(twin.as_float(image)).max(initial=abs(cval))
    return roundings * np.finfo(dtype).eps * largest


def roundings(name, ndim):
    """Ours rounds 2 * radius + 2 times per axis, counting weights; a block sum once per weight and
    product; the magnitude 4 times more.
    """
    size = 5 if name.startswith("farid") else 3
    return ndim * (size + 1) + 2 * size**ndim + 4


@pytest.mark.parametrize("name", ["sobel", "scharr"])
def test_a_step_is_scikit_images_to_the_bit(name):
    filters = pytest.importorskip("skimage.filters")
    for ndim in (2, 3):
        step = (np.indices((11,) * ndim)[-1] > 4).astype(float)
        assert_array_equal(getattr(ms, name)(step), getattr(filters, name)(step))


def test_a_step_of_one_gives_one():
    step = (np.indices((11, 11))[1] > 4).astype(float)
    for edges in (ms.sobel(step), ms.prewitt(step), ms.scharr(step)):
        assert (edges[:, 4:6] * np.sqrt(2) == 1).all()
        assert not edges[:, :4].any()
        assert not edges[:, 6:].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_equals_reference(rng, isa, name, dtype):
    for shape in SHAPES:
        image = finite(rng, shape, dtype)
        for mode in MODES if dtype == np.float32 and image.ndim < 4 else ["reflect"]:
            expected = twin.gradient(name, image, None, mode, 0.3)
            result = getattr(ms, name)(image, mode=mode, cval=0.3)
            assert result.dtype == _stencil.float_type(dtype)
            limit = bound(image, result.dtype, roundings(name, image.ndim), 0.3)
            assert_allclose(result, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
@pytest.mark.parametrize("name", GRADIENTS)
def test_bytes_in_two_dimensions(rng, isa, threads, name, dtype):
    """Whose sums are whole numbers where the kernel allows: as of the same numbers in float64."""
    for shape in [(1, 1), (1, 9), (9, 1), (2, 2), (3, 33), (67, 130), (41, 1025)]:
        image = rng.integers(0, 256, shape, np.uint8)
        image[rng.random(shape) < 0.3] = 255
        for mode in [*MODES, ("wrap", "mirror"), ("nearest", "constant")]:
            for spacing in (None, (2.5, 0.7)):
                options = {"mode": mode, "cval": 0.3, "spacing": spacing}
                result = getattr(ms, name)(image, dtype=dtype, **options)
                assert result.dtype == dtype
                expected = getattr(ms, name)(image / 255, **options)
                limit = bound(image, dtype, roundings(name, 2)) / min(spacing or [1])
                assert_allclose(result, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_equals_skimage(rng, threads, name, dtype):
    filters = pytest.importorskip("skimage.filters")
    for shape in [*LARGE, (9, 8), (1, 7), (6, 1, 5)]:
        image = finite(rng, shape, dtype)
        last = image.ndim - 1
        for axis in (None, 0, last, (0, last), (last, 0, 0), ()):
            for mode in MODES if image.size < 500 else ["reflect", "wrap"]:
                expected = getattr(filters, name)(image, axis=axis, mode=mode, cval=-2)
                result = getattr(ms, name)(image, axis=axis, mode=mode, cval=-2)
                assert result.dtype == expected.dtype
                limit = bound(image, result.dtype, roundings(name, image.ndim), 2)
                assert_allclose(result, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("name", [*DIRECTED, *CROSS])
def test_2d_filters_equal_skimage(rng, name):
    filters = pytest.importorskip("skimage.filters")
    for dtype in (bool, np.uint8, np.int8, np.float16, np.float32, np.float64):
        for shape in [(40, 50), (1, 9), (9, 1), (1, 1), (5, 1100)]:
            image = finite(rng, shape, dtype)
            mask = rng.random(shape) < 0.97
            for keywords in ({}, {"mask": mask}):
                expected = getattr(filters, name)(image, **keywords)
                result = getattr(ms, name)(image, **keywords)
                assert result.dtype == expected.dtype
                limit = bound(image, result.dtype, roundings(name, 2))
                assert_allclose(result, expected, rtol=0, atol=limit)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_gradient_of_small_images(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    size = int(np.prod(shape))
    pixels = data.draw(st.lists(st.integers(0, 255), min_size=size, max_size=size))
    image = np.array(pixels, np.uint8).reshape(shape)
    axes = st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=3)
    axis = data.draw(axes)
    name, mode = data.draw(st.sampled_from(GRADIENTS)), data.draw(st.sampled_from(MODES))
    expected = twin.gradient(name, image, axis, mode, 0.5)
    result = getattr(ms, name)(image, axis=axis, mode=mode, cval=0.5)
    assert_allclose(result, expected, rtol=0, atol=1e-13)


def test_modes_by_axis(rng):
    image = rng.random((6, 7, 5))
    for modes in [("reflect", "wrap", "mirror"), ("constant", "nearest", "constant")]:
        around = image
        for axis, mode in enumerate(modes):
            radii = [2 if k == axis else 0 for k in range(3)]
            around = twin.padded(around, radii, mode, 0.4)
        inner = (slice(2, -2),) * 3
        for name in ("sobel", "farid"):
            expected = twin.gradient(name, around, None, "nearest")[inner]
            result = getattr(ms, name)(image, mode=modes, cval=0.4)
            assert_allclose(result, expected, rtol=0, atol=1e-14)


def test_float32_of_integers(rng):
    for dtype in (np.uint8, np.int16, np.uint32, np.int64):
        image = finite(rng, (30, 41), dtype)
        for name in (*GRADIENTS, *CROSS, "laplace"):
            function = getattr(ms, name)
            expected = function(image)
            assert expected.dtype == np.float64
            single = function(image, dtype=np.float32)
            assert single.dtype == np.float32
            limit = bound(image, np.float32, roundings(name, 2))
            assert_allclose(single, expected, rtol=0, atol=limit)
            out = np.empty(image.shape, np.float32)
            assert function(image, out=out) is out
            assert_array_equal(out, single)
    image = rng.random((9, 9)).astype(np.float32)
    assert_array_equal(ms.sobel(image, dtype="f8"), ms.sobel(image.astype(np.float64)))


def test_most_negative_integer_is_minus_one():
    image = np.array([[-128, -127], [-128, -127]], np.int8)
    assert not ms.sobel(image).any()
    assert not ms.roberts(image).any()
    assert not ms.laplace(image).any()


def test_spacing(rng):
    image, spacing = rng.random((7, 8, 9)), (2.5, 0.7, 1.0)
    for name in GRADIENTS:
        function = getattr(ms, name)
        expected = twin.gradient(name, image, None, spacing=spacing)
        assert_allclose(function(image, spacing=spacing), expected, rtol=0, atol=1e-14)
        single = function(image, axis=0, spacing=spacing)
        assert_allclose(single, function(image, axis=0) / 2.5, rtol=1e-13, atol=1e-15)
    assert_allclose(
        ms.laplace(image, spacing=spacing), twin.laplace(image, spacing), rtol=0, atol=1e-13
    )
    flat = image[0]
    assert_allclose(ms.scharr_h(flat, spacing=(2, 3)), ms.scharr_h(flat) / 2, rtol=0, atol=1e-16)
    # A ramp of 3 units per mm has that slope whatever the voxels.
    ramp = 3 * 0.7 * np.indices((9, 9, 9))[1].astype(float)
    inner = ms.sobel(ramp, axis=1, spacing=spacing)[:, 1:-1]
    assert_allclose(inner, 6, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_roberts_equals_reference(rng, isa, dtype):
    for shape in [*(s for s in SHAPES if len(s) > 1), (2, 1, 2, 3, 4), (3, 1040)]:
        image = finite(rng, shape, dtype)
        expected = {
            "roberts": twin.roberts(image),
            "roberts_pos_diag": twin.cross(image, (0,) * image.ndim),
            "roberts_neg_diag": twin.cross(image, (0,) * (image.ndim - 1) + (1,)),
        }
        for name in CROSS:
            result = getattr(ms, name)(image)
            assert result.dtype == _stencil.float_type(dtype)
            assert_allclose(result, expected[name], rtol=0, atol=bound(image, result.dtype, 4))


def test_roberts_of_a_linear_image_is_its_slope():
    for ndim, slope in ((2, (3.0, 4.0)), (3, (2.0, 3.0, 6.0)), (4, (1.0, 1.0, 1.0, 1.0))):
        grid = np.indices((4,) * ndim).astype(np.float64)
        image = np.tensordot(slope, grid, 1)
        inner = ms.roberts(image)[(slice(0, 3),) * ndim]
        assert_allclose(inner, np.linalg.norm(slope), rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_laplace_equals_skimage(rng, isa, dtype):
    filters = pytest.importorskip("skimage.filters")
    for shape in [s for s in [*SHAPES, *LARGE, (2, 1, 2, 3, 4)] if 0 not in s]:
        image = finite(rng, shape, dtype)
        expected, result = filters.laplace(image), ms.laplace(image)
        assert result.dtype == expected.dtype
        if result.dtype == np.float64:
            assert_array_equal(result, expected)
        else:
            limit = bound(image, np.float32, 4 * image.ndim**2)
            assert_allclose(result, expected, rtol=0, atol=limit)
        assert_allclose(
            result, twin.laplace(image), rtol=0, atol=bound(image, result.dtype, 4 * image.ndim**2)
        )
    assert ms.laplace(np.zeros((0, 3))).shape == (0, 3)
    assert_array_equal(ms.laplace(np.eye(4), 5), ms.laplace(np.eye(4)))


def test_mask_equals_reference(rng, threads):
    for shape in [(30,), (12, 9), (6, 7, 8), (3, 4, 5, 6), (1, 1), (40, 70)]:
        image = rng.random(shape)
        for mask in (rng.random(shape) < 0.95, np.ones(shape, bool), rng.integers(0, 9, shape)):
            for name in ("sobel", "farid", "laplace", *(CROSS if len(shape) > 1 else [])):
                expected = twin.clip_to_mask(getattr(ms, name)(image), mask != 0)
                assert_array_equal(getattr(ms, name)(image, mask=mask), expected)


def test_nan_spreads_to_what_reads_it():
    image = np.zeros((7, 9))
    image[3, 4] = np.nan
    reads = np.zeros(image.shape, bool)
    reads[2:5, 3:6] = True
    reads[3, 4] = False  # no derivative reads the pixel itself
    assert_array_equal(np.isnan(ms.sobel(image)), reads)
    reads[:, 4] = False
    assert_array_equal(np.isnan(ms.sobel(image.astype(np.float32), axis=1)), reads)
    four = np.zeros((5, 5, 5, 5))
    four[2, 2, 2, 2] = np.nan
    assert np.isnan(ms.sobel(four)).sum() == 80
    assert np.isnan(ms.laplace(image)).sum() == 5
    assert np.isnan(ms.roberts(image)).sum() == 4
    mask = ~np.isnan(image)
    assert not np.isnan(ms.sobel(image, mask)).any()
    # Infinity: what adds infinities of both signs is NaN, as in scikit-image.
    filters = pytest.importorskip("skimage.filters")
    image[3, 4] = np.inf
    with np.errstate(invalid="ignore"):
        assert_array_equal(ms.sobel(image), filters.sobel(image))


@pytest.mark.parametrize("name", ["sobel", "farid", "roberts", "laplace", "zero_crossings"])
def test_layout_and_out(rng, layout, name):
    function = getattr(ms, name)
    image = rng.normal(0, 1, (5, 9, 8)).astype(np.float32)
    expected = function(image)
    given_image = layout(image)
    assert_array_equal(function(given_image), expected)
    assert_array_equal(given_image, image)
    out = layout(np.ones(image.shape, expected.dtype))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            function(image, out=out)
        return
    assert function(image, out=out) is out
    assert_array_equal(out, expected)


def test_out_may_be_the_image(rng):
    for name in ("sobel", "laplace", "roberts"):
        image = rng.random((40, 50))
        expected = getattr(ms, name)(image)
        assert_array_equal(getattr(ms, name)(image, out=image), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_crossings_equal_reference(rng, isa, dtype):
    for shape in [*(s for s in SHAPES if np.prod(s) < 400), (2, 1030)]:
        image = random_image(rng, shape, dtype)
        if image.dtype.kind == "i" and image.dtype.itemsize == 8:
            image //= 2**12  # float64 holds it
        for threshold in (0, 2.5):
            with np.errstate(invalid="ignore"):  # infinity minus infinity
                expected = twin.zero_crossings(image, threshold)
            assert_array_equal(ms.zero_crossings(image, threshold), expected)


def test_zero_crossings_equal_itk(rng):
    sitk = pytest.importorskip("SimpleITK")
    for shape in [(40, 50), (12, 13, 14)]:
        image = rng.normal(0, 1, shape).round(1)
        itk = sitk.ZeroCrossing(sitk.GetImageFromArray(image))
        assert_array_equal(ms.zero_crossings(image), sitk.GetArrayFromImage(itk) > 0)


def test_zero_crossings_do_not_depend_on_threads(rng, threads):
    image = rng.normal(0, 1, (50, 60, 70))
    with ms.num_threads(1):
        expected = ms.zero_crossings(image, 0.5)
    assert_array_equal(ms.zero_crossings(image, 0.5), expected)
    assert ms.zero_crossings([np.nan, 1, np.nan, -1, np.nan]).sum() == 0


@pytest.mark.parametrize("name", [*GRADIENTS, "laplace", "roberts"])
def test_real_scan(data, name):
    filters = pytest.importorskip("skimage.filters")
    scan = ms.io.read(ms.io.example("ct_lung_tumour").image).array
    if name == "roberts":
        scan = scan[scan.shape[0] // 2]
    for image in (scan, scan.astype(np.float32)):
        expected, result = getattr(filters, name)(image), getattr(ms, name)(image)
        limit = bound(image, result.dtype, roundings(name, image.ndim))
        assert_allclose(result, expected, rtol=0, atol=limit)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "at least one dimension", {"image": 3.0}),
        (TypeError, "complex", {"image": np.zeros((3, 3), complex)}),
        (ValueError, "axis must be from -2 to 1, got 2", {"axis": 2}),
        (TypeError, "axis must be an integer", {"axis": 0.5}),
        (ValueError, "mode must be one of", {"mode": "edge"}),
        (ValueError, "mode must have one entry per axis", {"mode": ["wrap"]}),
        (TypeError, "mode must be a string", {"mode": 3}),
        (TypeError, "cval must be a number", {"cval": "0"}),
        (ValueError, "spacing must be 2 positive", {"spacing": (1, 0)}),
        (ValueError, "mask must have shape", {"mask": np.ones(3, bool)}),
        (TypeError, "mask must be bool", {"mask": np.ones((3, 3), complex)}),
        (TypeError, "dtype must be float32 or float64", {"dtype": np.float16}),
        (ValueError, "out must have shape", {"out": np.zeros((2, 2))}),
        (ValueError, "dtype of `out` must be float, got uint8", {"out": np.zeros((3, 3), "u1")}),
        (ValueError, "dtype float32, got", {"out": np.zeros((3, 3)), "dtype": np.float32}),
        (TypeError, "out must be a NumPy array", {"out": [0]}),
    ],
)
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=f"scharr: .*{message}"):
        ms.scharr(**{"image": np.zeros((3, 3)), **arguments})


def test_bad_input_of_others():
    with pytest.raises(ValueError, match="sobel_h: image must have 2 dimensions"):
        ms.sobel_h(np.zeros(3))
    with pytest.raises(ValueError, match="roberts: image must have at least 2 dimensions"):
        ms.roberts(np.zeros(3))
    with pytest.raises(ValueError, match="laplace: ksize must be at least 3, got 2"):
        ms.laplace(np.zeros(3), ksize=2)
    for threshold in (-1, np.nan):
        with pytest.raises(ValueError, match="zero_crossings: threshold must"):
            ms.zero_crossings(np.zeros(3), threshold)


@pytest.mark.parametrize(
    ("call", "dtype", "most"),
    [
        ("ms.sobel({image})", "float32", 4),
        ("ms.sobel({image}, dtype=np.float32)", "uint8", 4),
        ("ms.farid({image}, out=out)", "float32", 0),
        ("ms.laplace({image}, out=out)", "uint8", 0),
        ("ms.roberts({image}, out=out)", "int16", 0),
        ("ms.zero_crossings({image})", "float32", 1),
    ],
)
def test_peak_memory(call, dtype, most):
    setup = f"""
    image = np.random.default_rng(0).integers(0, 99, (150, 200, 220)).astype(np.{dtype})
    small = image[:8].copy()
    out = np.zeros(image.shape, np.float32); out[...] = 1
    """
    warm = call.format(image="small").replace(", out=out", "")
    got = peak_bytes_per_pixel(call.format(image="image"), setup=setup, warm=warm, threads=2)
    assert most - 0.15 <= got <= most + 0.15


def test_sobel_with_out_allocates_no_image(rng):
    frame, out = rng.integers(0, 255, (500, 640), np.uint8), np.zeros((500, 640), np.float32)
    ms.sobel(frame, out=out)
    tracemalloc.start()
    for _ in range(10):
        ms.sobel(frame, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000
