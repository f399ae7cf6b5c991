from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.morphology
MODES = ["reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore"]
GREY = ["erosion", "dilation", "opening", "closing", "white_tophat", "black_tophat"]
BINARY = ["binary_erosion", "binary_dilation", "binary_opening", "binary_closing"]
SMALL = [s for s in SHAPES if np.prod(s) < 400]


def footprints(rng, ndim, n=3):
    """Boxes of odd and even sizes, single pixels off the centre, asymmetric and gappy shapes."""
    yield np.ones((3,) * ndim)
    yield np.ones((4, 1, 6, 2)[-ndim:])
    yield np.ones((1, 9, 2, 3)[:ndim], bool)
    single = np.zeros((3, 4, 3, 2)[:ndim], np.uint8)
    single.flat[-1] = 5
    yield single
    for _ in range(n):
        shape = rng.integers(1, 7, ndim)
        shape = np.minimum(shape, 3) if ndim > 3 else shape
        footprint = rng.random(shape) < 0.6
        footprint.flat[rng.integers(footprint.size)] = True
        yield footprint


def peer(name, *args, **kwargs):
    morphology = pytest.importorskip("skimage.morphology")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # binary_* are deprecated there
        return getattr(morphology, name)(*args, **kwargs)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != np.float16], ids=str)
def test_equals_skimage(rng, dtype):
    modes = MODES[:5] if dtype.kind in "iu" and dtype.itemsize == 8 else MODES  # it overflows
    for shape in [(9,), (1, 1), (7, 5), (12, 40), (5, 6, 7), (2, 3, 4, 5)]:
        image = rng.integers(0 if dtype.kind == "u" else -100, 100, shape).astype(dtype)
        for i, footprint in enumerate([None, *footprints(rng, len(shape))]):
            mode = modes[i % len(modes)]
            for name in GREY:
                got = getattr(ms, name)(image, footprint, mode=mode, cval=3)
                expected = peer(name, image, footprint, mode=mode, cval=3)
                assert got.dtype == expected.dtype
                assert_array_equal(got, expected, err_msg=f"{name} {shape} {mode}")


@pytest.mark.parametrize("mode", MODES)
def test_equals_skimage_in_every_mode(rng, mode, isa):
    for shape in [(1,), (2,), (4, 3), (33, 65), (6, 9, 8)]:
        image = rng.integers(0, 50, shape).astype(np.uint8)
        for footprint in footprints(rng, len(shape), 5):
            for name in GREY:
                got = getattr(ms, name)(image, footprint, mode=mode, cval=7)
                assert_array_equal(got, peer(name, image, footprint, mode=mode, cval=7))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_reference(rng, isa, dtype):
    for shape in SMALL:
        image = random_image(rng, shape, dtype)
        for i, footprint in enumerate(footprints(rng, len(shape), 1)):
            mode = MODES[(i + len(shape)) % len(MODES)]
            for name in ("erosion", "dilation"):
                got = getattr(ms, name)(image, footprint, mode=mode, cval=1)
                assert got.dtype == dtype
                assert_array_equal(got, getattr(twin, name)(image, footprint, mode, 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_is_a_clipped_difference(rng, isa, dtype):
    for shape in [(1,), (40,), (7, 33), (4, 5, 70), (2, 3, 4, 5)]:
        image = random_image(rng, shape, dtype)
        for footprint in (*footprints(rng, len(shape), 2), [(np.ones((3,) * len(shape)), 2)]):
            for mode in ("reflect", "ignore", "wrap"):
                dilated = ms.dilation(image, footprint, mode=mode)
                eroded = ms.erosion(image, footprint, mode=mode)
                for kind, a, b in [
                    ("full", dilated, eroded),
                    ("internal", image, eroded),
                    ("external", dilated, image),
                ]:
                    got = ms.morphological_gradient(image, footprint, kind=kind, mode=mode)
                    assert got.dtype == dtype
                    assert_array_equal(got, twin.clipped_difference(a, b))


def test_gradient_takes_sizes(rng):
    image = rng.integers(0, 99, (5, 20, 30)).astype(np.int16)
    for size in (1, 2, 3, (3, 1, 5), [1, 4, 2], np.int64(7), (200, 50, 1000)):
        box = np.ones(np.broadcast_to(np.minimum(size, 130), 3))
        got = ms.morphological_gradient(image, size)
        assert_array_equal(got, ms.dilation(image, box) - ms.erosion(image, box))
    assert_array_equal(ms.morphological_gradient(image), ms.morphological_gradient(image, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int64])
def test_boxes_equal_scipy_across_blocks(rng, threads, dtype):
    ndimage = pytest.importorskip("scipy.ndimage")
    for shape, size in [
        ((30000,), (301,)),
        ((300, 1100), (15, 15)),
        ((1300, 40), (65, 3)),
        ((70, 40, 60), (7, 7, 7)),
        ((90, 20, 30), (41, 1, 5)),
        ((3, 30, 20, 30), (1, 3, 5, 3)),
        ((5, 6, 7, 8, 9), (3, 3, 1, 3, 5)),
    ]:
        image = rng.integers(0, 200, shape).astype(dtype)
        box = np.ones(size)
        least, most = ndimage.minimum_filter(image, size), ndimage.maximum_filter(image, size)
        assert_array_equal(ms.erosion(image, box), least)
        assert_array_equal(ms.dilation(image, box), most)
        assert_array_equal(ms.morphological_gradient(image, size), most - least)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_shapes_equal_scipy_across_blocks(rng, threads, dtype):
    ndimage = pytest.importorskip("scipy.ndimage")
    morphology = pytest.importorskip("skimage.morphology")
    for shape, footprint in [
        ((200, 700), morphology.disk(13)),  # more lengths of run than are kept
        ((60, 1100), rng.random((9, 70)) < 0.5),
        ((40, 50, 60), morphology.ball(5)),
        ((30, 30, 40), morphology.octahedron(2)),
        ((4, 12, 13, 14), rng.random((3, 2, 3, 5)) < 0.4),
    ]:
        padded = morphology.pad_footprint(footprint, pad_end=False)
        image = rng.integers(0, 200, shape).astype(dtype)
        least = ndimage.minimum_filter(image, footprint=padded)
        most = ndimage.maximum_filter(image, footprint=padded)
        assert_array_equal(ms.erosion(image, footprint), least)
        assert_array_equal(ms.dilation(image, footprint), most)
        assert_array_equal(ms.morphological_gradient(image, footprint), most - least)


def test_real_scan(data, threads):
    from medseg_fast import io

    ndimage = pytest.importorskip("scipy.ndimage")
    ball = pytest.importorskip("skimage.morphology").ball(3)
    image = io.read(io.example("ct_lung_tumour").image).array[:12, :150]
    assert_array_equal(ms.erosion(image, ball), ndimage.grey_erosion(image, footprint=ball))
    assert_array_equal(ms.dilation(image, ball), ndimage.grey_dilation(image, footprint=ball))


@pytest.mark.parametrize("mode", ["reflect", "constant", "mirror", "wrap", "ignore"])
def test_sequences_equal_skimage(rng, mode):
    morphology = pytest.importorskip("skimage.morphology")
    rectangle = morphology.footprint_rectangle
    for shape, footprint in [
        ((40, 50), [(np.ones((9, 1)), 1), (np.ones((1, 9)), 1)]),
        ((5, 6), rectangle((11, 11), decomposition="sequence")),  # larger than the image
        ((40, 50), rectangle((8, 11), decomposition="separable")),
        ((40, 50), [(np.ones((2, 3)), 3), (np.ones((3, 3)), 2), (np.ones((1, 4)), 2)]),
        ((40, 50), morphology.disk(7, decomposition="sequence")),
        ((14, 15, 16), morphology.ball(4, decomposition="sequence")),
        ((14, 15, 16), [(rng.random((3, 2, 3)) < 0.7, 2), (np.ones((3, 1, 1)), 1)]),
    ]:
        image = rng.integers(0, 200, shape).astype(np.uint8)
        for name in GREY:
            got = getattr(ms, name)(image, footprint, mode=mode, cval=5)
            assert_array_equal(got, peer(name, image, footprint, mode=mode, cval=5))


def test_64_bit_integers_are_exact(rng):
    for dtype in (np.int64, np.uint64):
        top = np.iinfo(dtype).max
        image = top - rng.integers(0, 9, (9, 9)).astype(dtype)
        for mode in MODES:
            for name in ("erosion", "dilation"):
                expected = getattr(twin, name)(image, np.ones((3, 4)), mode)
                assert_array_equal(getattr(ms, name)(image, np.ones((3, 4)), mode=mode), expected)


def test_cval_is_cut_to_the_dtype():
    image = np.full(3, 100, np.uint8)
    kwargs = {"mode": "constant", "footprint": np.ones(3)}
    assert ms.dilation(image, cval=1000, **kwargs).tolist() == [255, 100, 255]
    assert ms.erosion(image, cval=-5.5, **kwargs).tolist() == [0, 100, 0]
    assert ms.erosion(image, cval=99.9, **kwargs).tolist() == [99, 100, 99]
    assert ms.erosion(image.astype(np.float16), cval=-1e9, **kwargs)[0] == -np.inf
    assert ms.dilation(image, cval=np.inf, **kwargs).tolist() == [255, 100, 255]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_spreads_over_the_footprint(rng, isa, dtype):
    image = rng.normal(size=(20, 40)).astype(dtype)
    image[rng.random(image.shape) < 0.01] = np.nan
    image[rng.random(image.shape) < 0.01] = -np.array(np.nan, dtype)
    image[3, 3], image[4, 4] = np.inf, -np.inf
    for footprint in footprints(rng, 2):
        eroded, dilated = ms.erosion(image, footprint), ms.dilation(image, footprint)
        assert_array_equal(eroded, twin.erosion(image, footprint))
        assert_array_equal(dilated, twin.dilation(image, footprint))
        for kind, a, b in [
            ("full", dilated, eroded),
            ("internal", image, eroded),
            ("external", dilated, image),
        ]:
            got = ms.morphological_gradient(image, footprint, kind=kind)
            assert_array_equal(got, twin.clipped_difference(a, b))
    opened = ms.opening(image)
    with np.errstate(invalid="ignore"):
        assert_array_equal(ms.white_tophat(image), image - opened)


@pytest.mark.parametrize("name", [*GREY, "morphological_gradient", *BINARY])
def test_layout_and_out(rng, layout, name):
    image = random_image(rng, (5, 9, 8), np.uint8 if name in BINARY else np.float32)
    function = getattr(ms, name)
    expected = function(image)
    assert_array_equal(function(layout(image)), expected)
    out = layout(np.ones(image.shape, expected.dtype))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            function(image, out=out)
        return
    assert function(image, out=out) is out
    assert_array_equal(out, expected)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_masks_go_into_any_out(rng, name):
    mask = rng.random((9, 10)) < 0.7
    for dtype in (np.float64, np.uint8, ">i4"):
        out = np.full((9, 10), 7, dtype)
        assert getattr(ms, name)(mask, out=out) is out
        assert_array_equal(out, getattr(ms, name)(mask))


@pytest.mark.parametrize("name", [*GREY, "morphological_gradient", *BINARY])
def test_out_may_be_the_image(rng, name):
    image = random_image(rng, (40, 50), bool if name in BINARY else np.int16)
    expected = getattr(ms, name)(image)
    assert getattr(ms, name)(image, out=image) is image
    assert_array_equal(image, expected)
    moved = random_image(rng, (41, 50), image.dtype)
    expected = getattr(ms, name)(moved[1:])
    getattr(ms, name)(moved[1:], out=moved[:-1])
    assert_array_equal(moved[:-1], expected)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_binary_equals_skimage(rng, isa, dtype):
    for shape in [(9,), (1,), (7, 5), (3, 70), (40, 130), (5, 6, 130), (2, 3, 4, 5)]:
        image = (rng.random(shape) < 0.7).astype(dtype)
        line = np.ones((1,) * (len(shape) - 1) + (90,))
        some = [None, line, np.zeros((3,) * len(shape)), *footprints(rng, len(shape), 2)]
        some.append([(some[-1], 2), (line, 1), (some[-2], 3)])
        for footprint in some:
            for mode in ("max", "min", "ignore"):
                for name in BINARY:
                    got = getattr(ms, name)(image, footprint, mode=mode)
                    assert got.dtype == bool
                    assert_array_equal(got, peer(name, image, footprint, mode=mode))


def test_binary_equals_reference_and_scipy(rng, threads):
    ndimage = pytest.importorskip("scipy.ndimage")
    morphology = pytest.importorskip("skimage.morphology")
    for footprint in footprints(rng, 3):
        mask = rng.random((4, 5, 70)) < 0.6
        for mode in ("max", "min", "ignore"):
            for name in BINARY[:2]:
                expected = getattr(twin, name)(mask, footprint, mode)
                assert_array_equal(getattr(ms, name)(mask, footprint, mode=mode), expected)
    for shape, footprint in [
        ((70, 1500), morphology.disk(13)),
        ((30, 40, 50), morphology.ball(5)),
        ((20, 5000), np.ones((3, 201), bool)),
        ((100, 20, 30), np.ones((41, 3, 1), bool)),
    ]:
        mask = ndimage.uniform_filter(rng.random(shape), 3) > 0.45
        got = ms.binary_dilation(mask, footprint)
        assert_array_equal(got, ndimage.binary_dilation(mask, footprint))
        got = ms.binary_erosion(got, footprint)
        assert_array_equal(got, ms.binary_closing(mask, footprint))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_algebra(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    footprint = rng.random(data.draw(st.tuples(*(st.integers(1, 5) for _ in shape)))) < 0.5
    footprint.flat[0] = True
    mode = data.draw(st.sampled_from(["ignore", "wrap"]))  # where opening's border is consistent
    image = rng.integers(-20, 20, shape).astype(np.int8)
    opened = ms.opening(image, footprint, mode=mode)
    closed = ms.closing(image, footprint, mode=mode)
    assert (opened <= image).all()
    assert (closed >= image).all()
    assert_array_equal(ms.opening(opened, footprint, mode=mode), opened)
    assert_array_equal(ms.closing(closed, footprint, mode=mode), closed)
    assert_array_equal(ms.closing(~image, footprint, mode=mode), ~opened)
    assert_array_equal(
        ms.dilation(~image, footprint, mode=mode), ~ms.erosion(image, footprint, mode=mode)
    )
    assert_array_equal(ms.white_tophat(image, footprint, mode=mode), image - opened)
    mask = image > 0
    opened = ms.binary_opening(mask, footprint)
    assert not (opened & ~mask).any()
    assert_array_equal(ms.binary_opening(opened, footprint), opened)
    assert_array_equal(ms.binary_closing(~mask, footprint[::-1][..., ::-1]).shape, mask.shape)


@pytest.mark.parametrize("name", [*GREY, "morphological_gradient", *BINARY])
def test_empty_images(name):
    for shape in [(0,), (0, 5), (3, 0, 2)]:
        result = getattr(ms, name)(np.zeros(shape, np.uint8))
        assert result.shape == shape


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "all zero", {"footprint": np.zeros((3, 3))}),
        (ValueError, "as many axes as image", {"footprint": np.ones(3)}),
        (ValueError, "array or a sequence", {"footprint": 3}),
        (ValueError, "array or a sequence", {"footprint": ()}),
        (ValueError, "each element of a footprint sequence", {"footprint": [[0, 1], [1, 1]]}),
        (ValueError, "number of times", {"footprint": [(np.ones((3, 3)), 0)]}),
        (TypeError, "footprint must be bool", {"footprint": np.ones((3, 3), complex)}),
        (ValueError, "mode must be one of", {"mode": "edge"}),
        (ValueError, "cval must be a number, got NaN", {"cval": np.nan}),
        (TypeError, "cval must be a number", {"cval": "1"}),
        (ValueError, "at least one dimension", {"image": 3.0}),
        (TypeError, "complex", {"image": np.zeros(3, complex)}),
        (ValueError, "out must have shape", {"out": np.zeros((2, 3), np.float32)}),
    ],
)
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.erosion(**{"image": np.zeros((2, 3)), **arguments})


def test_bad_gradient_and_binary_arguments():
    image = np.zeros((2, 3))
    for bad, message in [
        (0, "must be at least 1"),
        ((3, 3, 3), "one size or 2"),
        ("3", "each element"),
    ]:
        with pytest.raises(ValueError, match=message):
            ms.morphological_gradient(image, bad)
    with pytest.raises(ValueError, match="kind must be"):
        ms.morphological_gradient(image, kind="outer")
    with pytest.raises(TypeError, match="must be an integer"):
        ms.morphological_gradient(image, (3, 2.5))
    with pytest.raises(ValueError, match="'max', 'min' or 'ignore'"):
        ms.binary_erosion(image, mode="reflect")
    with pytest.raises(ValueError, match="out must have shape"):
        ms.binary_erosion(image, out=np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("call", "most"),
    [
        ("ms.erosion({image}, ball)", 1),
        ("ms.morphological_gradient({image}, 7)", 1),
        ("ms.opening({image}, ball)", 2),
        ("ms.white_tophat({image}, np.ones((5, 5, 5)))", 2),
        ("ms.morphological_gradient({image}, 3, mode='ignore')", 2),
        ("ms.binary_erosion({image} > 100, ball)", 2),
        ("ms.binary_opening({image}.view(bool), ball)", 2),
        ("ms.erosion({image}, out=out)", 0),
    ],
)
def test_peak_memory(call, most):
    setup = """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 2, (150, 200, 220)).astype(np.uint8)
    small, out = image[:8].copy(), image + 1
    ball = sum(x * x for x in np.ogrid[-3:4, -3:4, -3:4]) <= 9
    """
    warm = call.format(image="small") if "out=" not in call else ""
    got = peak_bytes_per_pixel(call.format(image="image"), setup=setup, warm=warm, threads=2)
    assert most - 0.15 <= got <= most + 0.35  # blocks of up to 1 MB for each of two threads


def test_spare_memory_is_not_shared_by_threads(rng):
    """Two passes need an array between them, which calls hand on to each other."""
    images = [rng.integers(0, 255, (60 + k, 300), np.uint8) for k in range(4)] * 25
    square = np.ones((5, 5), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: ms.opening(image, square), images))
    for image, opened in zip(images, found, strict=True):
        assert_array_equal(opened, ms.dilation(ms.erosion(image, square), square))


def test_cval_of_minus_zero():
    image = np.array([1.0, 2.0, 3.0])
    for cval in (0.0, -0.0):
        eroded = ms.erosion(image, mode="constant", cval=cval)
        assert np.signbit(eroded[0]) == np.signbit(cval)
