from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from test_edges import MODES, finite

import medseg_fast as ms
from medseg_fast import _stencil, reference

twin = reference.edges
DERIVATIVES = ["gaussian_gradient_magnitude", "gaussian_laplace"]


def close(result, expected, image, cval=0.0, radius=16):
    """ndim * (radius + 4) sums and products, each rounded by eps / 2 of at most the largest value.

    Twice that for two results that both round.
    """
    largest = max(np.abs(image.astype(np.float64)).max(initial=0), abs(cval), 1e-300)
    limit = image.ndim * (radius + 4) * np.finfo(result.dtype).eps * largest
    assert_allclose(result, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gaussian_equals_reference(rng, isa, dtype):
    for shape in SHAPES:
        image = finite(rng, shape, dtype)
        for mode in MODES if dtype == np.float32 else ["nearest"]:
            result = ms.gaussian(image, 1.3, mode=mode, cval=0.3)
            assert result.dtype == _stencil.float_type(dtype)
            values = twin.as_float(image)
            close(result, twin.gaussian(values, [1.3] * image.ndim, mode, 0.3), values, 0.3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gaussian_equals_skimage(rng, threads, dtype):
    filters = pytest.importorskip("skimage.filters")
    for shape in [(300,), (40, 150), (90, 10), (9, 35, 40), (3, 4, 5, 6), (1, 1)]:
        image = finite(rng, shape, dtype)
        for keywords in (
            {"sigma": 2},
            {"sigma": 0},
            {"sigma": 0.5, "mode": "constant", "cval": 3, "preserve_range": True},
            {"sigma": [0.4 * k for k in range(image.ndim)], "mode": "mirror", "truncate": 2.5},
            {"sigma": 7, "mode": ["wrap", "reflect", "nearest", "mirror"][: image.ndim]},
        ):
            expected, result = filters.gaussian(image, **keywords), ms.gaussian(image, **keywords)
            assert result.dtype == expected.dtype
            if result.dtype == np.float64:
                assert_array_equal(result, expected)
            else:
                close(result, expected, image, 3, 28)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64], ids=str)
def test_channels(rng, dtype):
    filters = pytest.importorskip("skimage.filters")
    for shape in [(20, 30, 3), (3, 20, 30), (5, 70, 4), (9, 3), (8, 9, 10, 2)]:
        image = finite(rng, shape, dtype)
        for channel_axis in (-1, 0, 1):
            for sigma in (1.5, [0.5 + k for k in range(image.ndim - 1)]):
                keywords = {"channel_axis": channel_axis, "mode": "reflect"}
                expected = filters.gaussian(image, sigma, **keywords)
                result = ms.gaussian(image, sigma, **keywords)
                close(result, expected, image)
                if result.dtype == np.float64:
                    assert_array_equal(result, expected)
        several = ms.gaussian(image, [1.0] * (image.ndim - 1) + [0.0], channel_axis=-1)
        assert_array_equal(several, ms.gaussian(image, 1, channel_axis=-1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_equal_scipy(rng, threads, name, dtype):
    ndimage = pytest.importorskip("scipy.ndimage")
    single = np.float32 if dtype == np.float32 else np.float64
    for shape in [(200,), (40, 90), (7, 1), (11, 25, 30), (3, 4, 5, 6)]:
        image = finite(rng, shape, dtype)
        for sigma in (0, 0.7, 2, [0.5 * k for k in range(image.ndim)]):
            for mode in MODES:
                keywords = {"mode": mode, "cval": 0.4}
                expected = getattr(ndimage, name)(image.astype(single), sigma, **keywords)
                result = getattr(ms, name)(image, sigma, **keywords)
                assert result.dtype == single
                # Weights of a derivative add to less than 3 for the sigmas here.
                close(result, expected, 3.0 * image)
        keywords = {"axes": (image.ndim - 1,), "truncate": 3, "mode": "wrap"}
        expected = getattr(ndimage, name)(image.astype(single), 1.5, **keywords)
        close(getattr(ms, name)(image, 1.5, **keywords), expected, image)
        if image.ndim > 1:
            sigmas = (
                [1.0, 2.0] if name == "gaussian_laplace" else [1.0 + k for k in range(len(shape))]
            )
            if name == "gaussian_laplace" or image.ndim == 2:
                keywords = {"axes": (1, 0), "radius": 3}
                expected = getattr(ndimage, name)(image.astype(single), sigmas, **keywords)
                close(getattr(ms, name)(image, sigmas, **keywords), expected, image)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "order"), [(DERIVATIVES[0], 1), (DERIVATIVES[1], 2)])
def test_derivatives_equal_reference(rng, isa, name, order, dtype):
    for shape in [s for s in SHAPES if np.prod(s) < 1500]:
        image = finite(rng, shape, dtype)
        values, ndim = image.astype(np.float64), image.ndim
        terms = [
            twin.gaussian(
                values, [1.2] * ndim, "reflect", orders=[order * (k == a) for k in range(ndim)]
            )
            for a in range(ndim)
        ]
        expected = np.sqrt(np.sum(np.square(terms), 0)) if order == 1 else np.sum(terms, 0)
        close(getattr(ms, name)(image, 1.2), expected, 3 * values)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_gaussian_of_small_images(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    image = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape)
    sigmas = [data.draw(st.sampled_from([0, 0.3, 1, 2.5])) for _ in shape]
    mode = data.draw(st.sampled_from(MODES))
    expected = twin.gaussian(image, sigmas, mode, 0.5)
    assert_allclose(ms.gaussian(image, sigmas, mode=mode, cval=0.5), expected, rtol=0, atol=1e-13)


def test_difference_of_gaussians_equals_skimage(rng):
    filters = pytest.importorskip("skimage.filters")
    for dtype in DTYPES:
        for shape in [(50,), (20, 30), (9, 10, 3)]:
            image = finite(rng, shape, dtype)
            for arguments, keywords in (
                ((1,), {}),
                ((1, 3), {"mode": "wrap", "truncate": 3}),
                (([1.0] * image.ndim, [2.0] * image.ndim), {"mode": "constant", "cval": 0.5}),
                ((0.5, 2), {"channel_axis": -1} if image.ndim == 3 else {}),
            ):
                expected = filters.difference_of_gaussians(image, *arguments, **keywords)
                result = ms.difference_of_gaussians(image, *arguments, **keywords)
                assert result.dtype == expected.dtype
                if result.dtype == np.float64:
                    assert_array_equal(result, expected)
                else:
                    close(result, expected, image, 0.5, 20)


def test_spacing_is_in_mm(rng):
    image, spacing = rng.random((12, 13, 14)), (3.0, 1.0, 0.5)
    sigmas = [2 / s for s in spacing]
    assert_array_equal(ms.gaussian(image, 2, spacing=spacing), ms.gaussian(image, sigmas))
    expected = ms.difference_of_gaussians(image, sigmas, [2 * s for s in sigmas])
    assert_array_equal(ms.difference_of_gaussians(image, 2, 4, spacing=spacing), expected)
    wide = np.repeat(image[..., None], 2, -1)
    result = ms.gaussian(wide, 2, spacing=spacing, channel_axis=-1)
    assert_array_equal(result[..., 1], ms.gaussian(image, 2, spacing=spacing))
    for order, name in ((1, DERIVATIVES[0]), (2, DERIVATIVES[1])):
        terms = [
            twin.gaussian(image, sigmas, "reflect", orders=[order * (k == a) for k in range(3)])
            / spacing[a] ** order
            for a in range(3)
        ]
        expected = np.sqrt(np.sum(np.square(terms), 0)) if order == 1 else np.sum(terms, 0)
        close(getattr(ms, name)(image, 2, spacing=spacing), expected, image)


def test_dtype_and_out(rng, layout):
    image = rng.integers(0, 255, (9, 12, 11)).astype(np.uint8)
    for call in (
        lambda **k: ms.gaussian(image, 1, **k),
        lambda **k: ms.difference_of_gaussians(image, 1, **k),
        lambda **k: ms.gaussian_laplace(image, 1, **k),
    ):
        double, single = call(), call(dtype=np.float32)
        assert (double.dtype, single.dtype) == (np.float64, np.float32)
        assert_allclose(single, double, rtol=0, atol=1e-6 * np.abs(double).max() * 30)
        out = layout(np.ones(image.shape, np.float32))
        if not out.flags.writeable:
            continue
        assert call(out=out) is out
        assert_array_equal(out, single)
    expected = ms.gaussian(image, 2)
    assert_array_equal(ms.gaussian(layout(image), 2), expected)
    values = image.astype(np.float64)
    expected = ms.gaussian(values, 2)
    assert_array_equal(ms.gaussian(values, 2, out=values), expected)


def test_output_is_scipys_word(rng):
    image = rng.random((8, 9))
    for name in DERIVATIVES:
        function = getattr(ms, name)
        assert function(image, 1, np.float32).dtype == np.float32
        out = np.empty(image.shape)
        assert function(image, 1, out) is out
        assert_array_equal(out, function(image, 1))
        with pytest.raises(ValueError, match=f"{name}: output must not be given together"):
            function(image, 1, out, out=out)
        assert_array_equal(function(image, 1, axes=()), image)


def test_wide_kernels_and_long_axes(rng):
    ndimage = pytest.importorskip("scipy.ndimage")
    for shape, sigma in [((20, 30), 40), ((3, 2000), 25), ((2000, 3), 25), ((700, 300), (3, 30))]:
        image = rng.random(shape)
        expected = ndimage.gaussian_filter(image, sigma, mode="reflect")
        assert_array_equal(ms.gaussian(image, sigma, mode="reflect"), expected)


def test_nan_spreads_within_the_radius():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.zeros((30, 40))
    image[15, 20] = np.nan
    assert_array_equal(np.isnan(ms.gaussian(image, 1)).sum(), 81)
    for name in DERIVATIVES:
        expected = getattr(ndimage, name)(image, 1)
        assert_array_equal(np.isnan(getattr(ms, name)(image, 1)), np.isnan(expected))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "at least one dimension", {"image": 3.0}),
        (TypeError, "complex", {"image": np.zeros((3, 3), complex)}),
        (ValueError, "sigma must be finite and not negative", {"sigma": -1}),
        (ValueError, "sigma must be finite and not negative", {"sigma": np.inf}),
        (ValueError, "sigma must be a number, got NaN", {"sigma": np.nan}),
        (TypeError, "sigma must be a number", {"sigma": "1"}),
        (ValueError, "sigma must have one entry per axis", {"sigma": [1, 2, 3]}),
        (ValueError, "truncate must be finite", {"truncate": -1}),
        (ValueError, "mode must be one of", {"mode": "edge"}),
        (ValueError, "channel_axis must be from -2 to 1", {"channel_axis": 2}),
        (ValueError, "spacing must be 2 positive", {"spacing": (1,)}),
        (TypeError, "dtype must be float32 or float64", {"dtype": int}),
        (ValueError, "out must have shape", {"out": np.zeros((3, 3), np.float16)}),
    ],
)
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=f"gaussian: .*{message}"):
        ms.gaussian(**{"image": np.zeros((3, 3)), **arguments})


def test_bad_input_of_others():
    with pytest.raises(ValueError, match="high_sigma must not be less"):
        ms.difference_of_gaussians(np.zeros((3, 3)), 2, 1)
    with pytest.raises(ValueError, match="radius must have one entry per axis"):
        ms.gaussian_laplace(np.zeros((3, 3)), 1, radius=[1])
    with pytest.raises(ValueError, match="axes must be from -2 to 1"):
        ms.gaussian_gradient_magnitude(np.zeros((3, 3)), 1, axes=2)
    with pytest.raises(ValueError, match="input must have at least one dimension"):
        ms.gaussian_laplace(3.0, 1)


@pytest.mark.parametrize(
    ("call", "dtype", "most"),
    [
        ("ms.gaussian({image}, 2)", "float32", 4),
        ("ms.gaussian({image}, 1, out=out)", "uint8", 0),
        ("ms.gaussian_gradient_magnitude({image}, 1, out=out)", "int16", 0),
        ("ms.difference_of_gaussians({image}, 1, out=out)", "float32", 4),
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
    # Scratch: blocks of up to 1 MB a stream and thread.
    assert most - 0.15 <= got <= most + 2.0
