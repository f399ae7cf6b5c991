"""Local thresholds against slow twins, scikit-image and SciPy."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from _local_thresholds import CASES, MODES, SINGLE, limited, mean_error
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast.reference import threshold_local as twin


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "block"), CASES, ids=str)
def test_threshold_local_equals_scikit_image(rng, shape, block, dtype, mode):
    filters = pytest.importorskip("skimage.filters")
    image = limited(rng, shape, dtype)
    for method in ("mean", "gaussian", "median"):
        arguments = {
            "block_size": block,
            "method": method,
            "offset": 0.5,
            "mode": mode,
            "cval": 2.5,
        }
        ours, peer = (
            ms.threshold_local(image, **arguments),
            filters.threshold_local(image, **arguments),
        )
        assert ours.dtype == peer.dtype
        if method == "mean":
            assert_allclose(ours, peer, rtol=0, atol=mean_error(image, block, 2.5))
        elif (method, mode, shape) != ("median", "mirror", (1,)):  # SciPy 1.17 returns 0 there
            assert_array_equal(ours, peer)


@functools.cache
def twin_levels(shape, dtype):
    """An image, its block sizes and the twin's thresholds; the same for every build."""
    image = limited(np.random.default_rng(7), shape, dtype)
    sizes = [3, 5, 1, 3][: len(shape)]
    sigmas = [(b - 1) / 6 for b in sizes]
    wide = [2 * math.floor(4 * s + 0.5) + 1 for s in sigmas]
    levels = {}
    for mode in ("reflect", "constant"):
        levels["mean", mode] = twin.of_windows(image, sizes, mode, 2, twin.mean)
        levels["median", mode] = twin.of_windows(image, sizes, mode, 2, twin.median)
        levels["gaussian", mode] = twin.of_windows(image, wide, mode, 2, twin.gaussian(sigmas))
    return image, sizes, levels


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES[:-2], (2, 9, 17), SHAPES[-1]], ids=str)
def test_threshold_local_equals_twin(isa, shape, dtype):
    image, sizes, levels = twin_levels(shape, dtype)
    for (method, mode), level in levels.items():
        ours = ms.threshold_local(image, sizes, method, mode=mode, cval=2)
        assert ours.dtype == (np.float32 if image.dtype in SINGLE else np.float64)
        narrow = image.dtype.kind in "bui" and image.dtype.itemsize < 8
        if method == "median" or (method == "mean" and narrow):
            assert_array_equal(ours, level)
        else:
            assert_allclose(ours, level, rtol=0, atol=mean_error(image, 7, 2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", ["mean", "median", "gaussian", "niblack", "sauvola"])
def test_mask_equals_comparison_with_thresholds(rng, isa, method, dtype):
    for shape, block in [((41, 67), 7), ((6, 9, 11), 3)]:
        image = random_image(rng, shape, dtype)
        if method in ("niblack", "sauvola"):
            function = getattr(ms, f"threshold_{method}")
            assert_array_equal(function(image, block, binary=True), image > function(image, block))
            continue
        # In integers, in float64, and beyond the limits of the decision in integers.
        for offset in (0, 2, -0.25, 0.1, 20000):
            arguments = (image, block, method, offset)
            mask = ms.threshold_local(*arguments, binary=True)
            assert mask.dtype == bool
            with np.errstate(invalid="ignore"):
                assert_array_equal(mask, image > ms.threshold_local(*arguments))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 16),
    st.integers(1, 40),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from(MODES),
    st.sampled_from(["uint8", "int8", "uint16", "int32", "float32"]),
    st.sampled_from([0, 3, -2.5, 1e6]),
    st.integers(0, 2**32 - 1),
)
def test_mean_and_median_of_any_shape(rows, columns, down, across, mode, dtype, cval, seed):
    """Also windows of many times the image, whose reflections SciPy 1.17 mistakes."""
    image = limited(np.random.default_rng(seed), (rows, columns), dtype)
    block = (2 * down + 1, 2 * across + 1)
    assert_array_equal(
        ms.threshold_local(image, block, "median", mode=mode, cval=cval),
        twin.of_windows(image, block, mode, cval, twin.median),
    )
    assert_allclose(
        ms.threshold_local(image, block, "mean", mode=mode, cval=cval),
        twin.of_windows(image, block, mode, cval, twin.mean),
        rtol=0,
        atol=mean_error(image, block, cval),
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_mean_of_integers_has_no_rounding_ties(rng, dtype):
    """A pixel equal to its local mean is not above it, wherever the window came from."""
    image = np.full((80, 90), 77, dtype)
    image[:5] = np.iinfo(dtype).max  # what a running sum in float64 would have to forget again
    level = ms.threshold_local(image, 7, "mean")
    assert (level[8:] == 77).all()
    assert not ms.threshold_local(image, 7, "mean", binary=True)[8:].any()


def test_mean_of_64_bit_integers_does_not_overflow():
    image = np.full((40, 40), 2**64 - 1, np.uint64)
    assert (ms.threshold_local(image, 31, "mean") == 2.0**64).all()
    image = np.full((40, 40), -(2**63), np.int64)
    assert (ms.threshold_local(image, 31, "mean") == -(2.0**63)).all()


@pytest.mark.parametrize("bits", range(50, 58))
def test_mean_of_64_bit_integers_of_any_length(bits):
    """Sums of 31 x 31 pixels leave 64 bits for 128 where pixels have more than 53."""
    for dtype, value in ((np.int64, -(2**bits)), (np.int64, 2**bits), (np.uint64, 2**bits)):
        image = np.full((40, 40), value, dtype)
        assert_array_equal(ms.threshold_local(image, 31, method="mean"), float(value))


def test_mean_of_floats_forgets_large_values(rng):
    """Running sums would keep the rounding error of 1e30 for the rest of the line."""
    image = rng.random((60, 70))
    image[10, 12] = 1e30
    clean = np.where(image > 1e29, 0.5, image)
    far = np.ones(image.shape, bool)
    far[5:16, 7:18] = False
    ours, expected = (ms.threshold_local(x, 11, "mean") for x in (image, clean))
    assert_allclose(ours[far], expected[far], rtol=1e-14)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("method", ["mean", "gaussian", "median", "niblack", "sauvola"])
def test_not_finite_stays_within_its_windows(rng, method, dtype, value):
    image = rng.random((40, 150)).astype(dtype)
    dirty = image.copy()
    dirty[20, 70] = value
    block = 7
    if method in ("niblack", "sauvola"):
        run = lambda x: getattr(ms, f"threshold_{method}")(x, block)  # noqa: E731
    else:
        # sigma 0.75 has the radius 3, too
        run = lambda x: ms.threshold_local(  # noqa: E731
            x, block, method, param=0.75 if method == "gaussian" else None
        )
    near = np.zeros(image.shape, bool)
    near[17:24, 67:74] = True
    assert_array_equal(run(dirty)[~near], run(image)[~near])
    if np.isnan(value):
        assert np.isnan(run(dirty)[near]).all()
    elif method in ("mean", "gaussian"):
        assert (run(dirty)[near] == value).all()
    elif method == "median":
        assert np.isfinite(run(dirty)[near]).all()


def test_median_of_many_nan(rng):
    image = rng.random((90, 300))
    image[rng.random(image.shape) < 0.01] = np.nan
    expected = twin.of_windows(image, (5, 7), "mirror", 0, twin.median)
    assert_array_equal(ms.threshold_local(image, (5, 7), "median", mode="mirror"), expected)
    assert not ms.threshold_local(image, (5, 7), "median", binary=True)[np.isnan(expected)].any()


def test_nan_beyond_the_border(rng):
    image = random_image(rng, (20, 30), np.uint8)
    for method in ("mean", "median", "gaussian"):
        level = ms.threshold_local(
            image,
            5,
            method,
            mode="constant",
            cval=np.nan,
            param=None if method != "gaussian" else 0.5,
        )
        assert np.isfinite(level[2:-2, 2:-2]).all()
        assert np.isnan(level[0]).all()
        assert np.isnan(level[:, -1]).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("method", ["mean", "gaussian", "median"])
def test_large_images_equal_the_peer(rng, threads, method, dtype):
    """More than one tile in every direction, on any number of threads."""
    filters = pytest.importorskip("skimage.filters")
    image = limited(rng, (330, 1100), dtype)
    ours = ms.threshold_local(image, (9, 21), method)
    if method == "median":
        assert_array_equal(
            ours[40:300, 500:530],
            filters.threshold_local(image[30:310, 480:550], (9, 21), method)[10:270, 20:50],
        )
    elif method == "gaussian":
        assert_array_equal(ours, filters.threshold_local(image, (9, 21), method))
    else:
        peer = filters.threshold_local(image, (9, 21), method)
        assert_allclose(ours, peer, rtol=0, atol=mean_error(image, 21))


@pytest.mark.parametrize("method", ["mean", "gaussian", "median", "sauvola"])
@pytest.mark.parametrize("shape", [(5, 130, 220), (3, 14000)], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_of_several_tiles_equal_their_parts(rng, method, shape, dtype):
    """Tiles of the second axis, whose bounds are not multiples of the block, see no more memory."""
    image = random_image(rng, shape, dtype)
    image = np.nan_to_num(image, posinf=9, neginf=-9)
    function = ms.threshold_sauvola if method == "sauvola" else ms.threshold_local
    arguments = () if method == "sauvola" else (method,)
    whole = function(image, 5, *arguments)
    for start in range(0, shape[1] - 20, max(shape[1] // 60, 5) // 5 * 5):
        part = function(image[:, start : start + 30].copy(), 5, *arguments)
        inner = slice(start and start + 4, start + 26)
        assert_array_equal(whole[:, inner], part[:, inner.start - start : 26])


@pytest.mark.parametrize("method", ["mean", "gaussian", "median", "niblack"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_result_does_not_depend_on_threads(rng, method, dtype):
    image = random_image(rng, (23, 70, 90), dtype)
    results = []
    for n in (1, 2, 5):
        with ms.num_threads(n):
            if method == "niblack":
                results.append(ms.threshold_niblack(image, 9))
            else:
                results.append(ms.threshold_local(image, 9, method))
    assert_array_equal(results[0], results[1])
    assert_array_equal(results[0], results[2])


def test_builds_give_the_same_bytes(rng, isa, request):
    """The twin's tolerance could hide a build that contracts or reorders."""
    image = limited(np.random.default_rng(5), (50, 130), np.float64)
    ours = [ms.threshold_local(image, 9, "mean"), ms.threshold_niblack(image, 9)]
    ours += [ms.threshold_local(image, 9, "gaussian"), ms.threshold_sauvola(image, 9)]
    first = request.config.stash.setdefault(_FIRST, ours)
    for a, b in zip(ours, first, strict=True):
        assert a.tobytes() == b.tobytes()


_FIRST: pytest.StashKey[list] = pytest.StashKey()


def test_median_of_large_windows(rng):
    """Counts beyond 16 bits, and tiles of several classes a pixel."""
    for dtype in (np.uint8, np.uint16, np.float64):
        image = limited(rng, (300, 310), dtype)
        level = ms.threshold_local(image, (281, 285), "median")
        for y, x in [(145, 150), (150, 160), (140, 142)]:
            window = image[y - 140 : y + 141, x - 142 : x + 143]
            assert level[y, x] == np.median(window.astype(np.float64))


@pytest.mark.parametrize("method", ["mean", "gaussian", "median", "generic"])
def test_takes_any_layout(rng, layout, method):
    for dtype in (np.uint8, np.float64, np.uint16):
        image = limited(rng, (5, 6, 7), dtype)
        given_image = layout(image)
        before = given_image.copy()
        param = np.max if method == "generic" else None
        ours = ms.threshold_local(given_image, 3, method, param=param)
        assert_array_equal(ours, ms.threshold_local(image, 3, method, param=param))
        assert_array_equal(given_image, before)
        assert_array_equal(ms.threshold_sauvola(given_image, 3), ms.threshold_sauvola(image, 3))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("method", ["mean", "gaussian", "median", "generic", "niblack", "sauvola"])
def test_out(rng, layout, method, binary):
    image = limited(rng, (9, 8), np.float32)
    out = layout(np.zeros(image.shape, bool if binary else np.float32))
    if method in ("niblack", "sauvola"):
        run = lambda **k: getattr(ms, f"threshold_{method}")(image, 3, binary=binary, **k)  # noqa: E731
    else:
        param = np.max if method == "generic" else None
        run = lambda **k: ms.threshold_local(  # noqa: E731
            image, 3, method, 0.5, param=param, binary=binary, **k
        )
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            run(out=out)
        return
    assert run(out=out) is out
    assert_array_equal(out, run())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "block"), [((6, 7), (3, 5)), ((5,), 11), ((3, 4, 2), 3)], ids=str
)
def test_generic_equals_scikit_image(rng, shape, block, dtype, mode):
    filters = pytest.importorskip("skimage.filters")
    image = limited(rng, shape, dtype)
    seen: list[list] = [[], []]

    def rank_of_third(i):
        def function(window):
            assert window.dtype == np.float64
            assert window.ndim == 1
            seen[i].append(window.copy())
            return np.sort(window)[2] * 0.7

        return function

    ours, peer = (
        f(image, block, "generic", 1, mode, rank_of_third(i), 7.25)
        for i, f in enumerate([ms.threshold_local, filters.threshold_local])
    )
    assert ours.dtype == peer.dtype
    assert_array_equal(ours, peer)
    assert_array_equal(seen[0], seen[1])


def test_generic_passes_errors_on():
    def function(window):
        raise KeyError("from the caller")

    with pytest.raises(KeyError, match="from the caller"):
        ms.threshold_local(np.zeros((3, 3)), 3, "generic", param=function)


@pytest.mark.parametrize("param", [0, 0.3, 2, 2.5, (1, 0.5)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_gaussian_sigma(rng, mode, param):
    filters = pytest.importorskip("skimage.filters")
    for dtype in (np.uint8, np.float32, np.float64):
        image = limited(rng, (21, 34), dtype)
        arguments = {"method": "gaussian", "mode": mode, "param": param, "cval": 0.3}
        assert_array_equal(
            ms.threshold_local(image, **arguments), filters.threshold_local(image, **arguments)
        )


def test_real_scans(data):
    filters = pytest.importorskip("skimage.filters")
    camera = pytest.importorskip("skimage.data").camera()
    for method in ("mean", "gaussian", "median"):
        ours, peer = (m.threshold_local(camera, 15, method, 2) for m in (ms, filters))
        assert_allclose(ours, peer, rtol=1e-13)
        differ = np.count_nonzero(
            ms.threshold_local(camera, 15, method, 2, binary=True) != (camera > peer)
        )
        assert differ <= (20 if method == "mean" else 0)  # ties, which the peer rounds


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0, 2)], ids=str)
def test_empty(shape):
    image = np.zeros(shape, np.uint8)
    for method in ("mean", "gaussian", "median", "generic"):
        assert (
            ms.threshold_local(
                image, 3, method, param=None if method != "generic" else np.max
            ).shape
            == shape
        )
        assert ms.threshold_local(image, 3, "mean", binary=True).dtype == bool
    assert ms.threshold_niblack(image).shape == shape


def test_no_axes():
    for method in ("mean", "gaussian", "median"):
        assert ms.threshold_local(np.uint8(7), 3, method, 2) == 5
    assert ms.threshold_local(np.uint8(7), 3, "generic", param=np.max) == 7
    assert ms.threshold_niblack(np.uint8(7)) == 7


def test_second_names_of_modes(rng):
    image = random_image(rng, (9, 11), np.uint8)
    for name, mode in [
        ("grid-mirror", "reflect"),
        ("grid-wrap", "wrap"),
        ("grid-constant", "constant"),
    ]:
        assert_array_equal(
            ms.threshold_local(image, 5, "mean", mode=name, cval=3),
            ms.threshold_local(image, 5, "mean", mode=mode, cval=3),
        )


def test_torch_tensors_come_back(rng):
    torch = pytest.importorskip("torch")
    image = random_image(rng, (9, 11), np.uint8)
    tensor = ms.threshold_local(torch.from_numpy(image), 5, "median", binary=True)
    assert isinstance(tensor, torch.Tensor)
    assert_array_equal(tensor.numpy(), ms.threshold_local(image, 5, "median", binary=True))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "block_size must be odd", {"block_size": 4}),
        (ValueError, "block_size must be odd", {"block_size": (3, 6)}),
        (ValueError, r"len\(block_size\) must equal image.ndim", {"block_size": (3, 3, 3)}),
        (ValueError, "block_size must be at least 1", {"block_size": -1}),
        (TypeError, "block_size must be an integer", {"block_size": 3.0}),
        (ValueError, "method must be", {"method": "mode"}),
        (ValueError, "mode must be one of", {"mode": "edge"}),
        (TypeError, "offset must be a number", {"offset": "1"}),
        (ValueError, "offset must be a number, got NaN", {"offset": np.nan}),
        (TypeError, "cval must be a number", {"cval": None}),
        (TypeError, "param must be callable", {"method": "generic"}),
        (ValueError, "finite and not negative", {"param": -1.0}),
        (ValueError, "finite and not negative", {"param": np.inf}),
        (ValueError, "one sigma per axis", {"param": (1, 2, 3)}),
        (TypeError, "param must be a number", {"param": len}),
        (TypeError, "complex", {"image": np.zeros((3, 3), complex)}),
        (ValueError, "dtype float64", {"out": np.zeros((3, 3), np.float32)}),
        (ValueError, "dtype bool", {"binary": True, "out": np.zeros((3, 3))}),
        (ValueError, "too large for the median", {"method": "median", "block_size": 99999}),
    ],
)
def test_threshold_local_bad_input(error, message, arguments):
    with pytest.raises(error, match=f"threshold_local: .*{message}"):
        ms.threshold_local(**{"image": np.zeros((3, 3)), **arguments})
