from __future__ import annotations

import numpy as np
import pytest
from _interrupt import DELAY, MOST
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_threads import run_python

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._cpu import core

MODES = [{}, {"watershed_line": True}, {"compactness": 0.5}]
INTEGERS = [dtype for dtype in DTYPES if dtype.kind in "ui"]


def twin(image, markers, connectivity=1, offset=None, mask=None, **modes):
    if np.ndim(connectivity) == 0:
        hops = np.abs(np.indices((3,) * image.ndim) - 1).sum(0)
        connectivity = hops <= connectivity
    if offset is None:
        offset = tuple(n // 2 for n in np.shape(connectivity))
    return reference.watershed.watershed(image, markers, connectivity, offset, mask, **modes)


def random_markers(rng, shape, dtype=np.int32, labels=4, density=0.1):
    markers = rng.integers(1, labels + 1, shape)
    return np.where(rng.random(shape) < density, markers, 0).astype(dtype)


def with_distinct_marker_values(image, markers, rng):
    """Markers get odd values, no two the same; all else stays even."""
    image = image // 2 * 2
    values = rng.permutation(np.count_nonzero(markers)) * 2 + 1
    image[markers != 0] = values
    return image


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("modes", MODES, ids=str)
def test_watershed_equals_reference(rng, dtype, modes):
    for shape in [shape for shape in SHAPES if np.prod(shape) < 400]:
        image = random_image(rng, shape, dtype)
        if modes.get("compactness"):  # the twin's heap cannot order inf - inf
            image = np.nan_to_num(image, posinf=100, neginf=-100)
        markers = random_markers(rng, shape)
        for connectivity in {1, len(shape)}:
            labels = ms.watershed(image, markers, connectivity, **modes)
            assert labels.dtype == markers.dtype
            assert_array_equal(labels, twin(image, markers, connectivity, **modes))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind in "bui"], ids=str)
@pytest.mark.parametrize("modes", MODES, ids=str)
def test_watershed_has_the_dtype_of_the_markers(rng, isa, dtype, modes):
    image = rng.integers(0, 9, (5, 7, 6)).astype(np.uint16)
    markers = random_markers(rng, image.shape, dtype)
    if dtype.kind == "i":
        markers = -markers
    labels = ms.watershed(image, markers, **modes)
    assert labels.dtype == dtype
    assert_array_equal(labels, twin(image, markers, **modes))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_watershed_equals_reference_on_small_images(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = rng.integers(0, data.draw(st.integers(1, 30)), shape)
    image = image.astype(data.draw(st.sampled_from(["uint8", "int16", "uint16", "float32", "i8"])))
    markers = random_markers(rng, shape, density=data.draw(st.sampled_from([0.05, 0.2, 0.6])))
    mask = rng.random(shape) < data.draw(st.sampled_from([0.5, 0.9, 1]))
    extents = data.draw(st.tuples(*(st.integers(1, 4) for _ in shape)))
    footprint = rng.random(extents) < 0.5
    offset = tuple(int(rng.integers(n)) for n in extents)
    for modes in MODES:
        labels = ms.watershed(image, markers, footprint, offset, mask, **modes)
        assert_array_equal(labels, twin(image, markers, footprint, offset, mask, **modes))


def test_watershed_takes_footprints_wider_than_a_word(rng):
    image = rng.integers(0, 50, (5, 150)).astype(np.uint8)
    markers = random_markers(rng, image.shape, density=0.03)
    for footprint in (np.ones((1, 71)), np.ones((5, 15)), np.ones((1, 101))):
        for modes in MODES[:2]:
            labels = ms.watershed(image, markers, footprint, **modes)
            assert_array_equal(labels, twin(image, markers, footprint != 0, **modes))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_watershed_equals_simpleitk(rng, threads, dtype):
    sitk = pytest.importorskip("SimpleITK")
    for shape in [(40, 70), (13, 21, 30)]:
        for most in (2, 30, 127):
            image = rng.integers(0, most, shape).astype(dtype)
            markers = random_markers(rng, shape, np.uint16, labels=300, density=0.05)
            for full in (False, True):
                expected = sitk.MorphologicalWatershedFromMarkers(
                    sitk.GetImageFromArray(image), sitk.GetImageFromArray(markers), False, full
                )
                labels = ms.watershed(image, markers, len(shape) if full else 1)
                assert_array_equal(labels, sitk.GetArrayFromImage(expected))


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint64", "float32", "float64"])
@pytest.mark.parametrize("modes", [*MODES, {"compactness": 0.1, "watershed_line": True}], ids=str)
def test_watershed_equals_skimage_where_marker_values_differ(rng, dtype, modes):
    segmentation = pytest.importorskip("skimage.segmentation")
    shapes = [(200,), (30, 47), (9, 14, 13), (3, 5, 4, 6)]
    if modes == MODES[1]:  # scikit-image takes time exponential in the length of lines
        shapes = [(60,), (8, 11), (3, 4, 5)]
    for shape in shapes:
        markers = random_markers(rng, shape, labels=9, density=0.05)
        image = with_distinct_marker_values(rng.integers(0, 60, shape), markers, rng).astype(dtype)
        mask = rng.random(shape) < 0.85
        for connectivity in range(1, len(shape) + 1):
            arguments = {"connectivity": connectivity, "mask": mask, **modes}
            expected = segmentation.watershed(image, markers, **arguments)
            assert_array_equal(ms.watershed(image, markers, **arguments), expected)


def test_watershed_equals_skimage_with_footprints(rng):
    segmentation = pytest.importorskip("skimage.segmentation")
    markers = random_markers(rng, (9, 11), labels=9, density=0.1)
    image = with_distinct_marker_values(rng.integers(0, 60, markers.shape), markers, rng)
    # Those that reach as far behind their middle as before it; see the docstring.
    for footprint, offset in [
        (np.ones((3, 5)), None),
        ([[1, 0, 1], [0, 1, 0], [1, 0, 0]], None),
        (np.ones((2, 2)), (1, 1)),
        (np.eye(5), (2, 2)),
    ]:
        for modes in MODES:
            expected = segmentation.watershed(image, markers, footprint, offset, **modes)
            assert_array_equal(ms.watershed(image, markers, footprint, offset, **modes), expected)


@pytest.mark.parametrize("modes", MODES, ids=str)
def test_watershed_equals_skimage_on_a_scan(data, modes):
    segmentation = pytest.importorskip("skimage.segmentation")
    ndimage = pytest.importorskip("scipy.ndimage")
    sitk = pytest.importorskip("SimpleITK")
    scan = sitk.GetArrayFromImage(sitk.ReadImage(data / "mr_head_t1" / "t1.nii.gz"))
    middle = tuple(slice(n // 2 - 20, n // 2 + 20) for n in scan.shape)
    image = ndimage.gaussian_gradient_magnitude(scan[middle].astype(np.float32), 1)
    markers = ndimage.label(image == ndimage.minimum_filter(image, 7))[0]
    assert markers.max() > 50
    assert_array_equal(
        ms.watershed(image, markers, **modes), segmentation.watershed(image, markers, **modes)
    )


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.name not in ("bool", "float16")], ids=str)
def test_watershed_without_markers_starts_from_minima(rng, dtype):
    segmentation = pytest.importorskip("skimage.segmentation")
    for shape in [(1,), (1, 1), (0, 4), (1, 30), (25, 31), (7, 8, 9)]:
        image = rng.integers(0, 9, shape).astype(dtype)
        for connectivity in range(1, len(shape) + 1):
            labels = ms.watershed(image, None, connectivity)
            expected = segmentation.watershed(image, None, connectivity)
            assert labels.dtype == np.int32
            # Minima of equal value start in another order: borders differ, numbers do not.
            assert labels.max(initial=0) == expected.max(initial=0)
    image = rng.permutation(600).reshape(20, 30).astype(np.float32)
    mask = rng.random(image.shape) < 0.8
    for connectivity in (1, 2):
        expected = segmentation.watershed(image, None, connectivity, mask=mask)
        assert_array_equal(ms.watershed(image, None, connectivity, mask=mask), expected)
    assert not ms.watershed(np.full((4, 5), 3)).any()


def test_watershed_takes_a_number_of_markers(rng):
    segmentation = pytest.importorskip("skimage.segmentation")
    for shape in [(50,), (31, 40), (3, 40, 29), (1, 30), (9, 8, 7)]:
        image = rng.permutation(np.prod(shape)).reshape(shape)
        for count in (1, 2, 5, 17, 60, 10**6):
            for mask in (None, rng.random(shape) < 0.6):
                labels = ms.watershed(image, count, mask=mask)
                assert labels.dtype == np.int64
                assert_array_equal(labels, segmentation.watershed(image, count, mask=mask))
    assert not ms.watershed(image, 5, mask=np.zeros(image.shape)).any()
    assert ms.watershed(np.zeros((0, 3)), 5).shape == (0, 3)


def test_watershed_orders_large_integers_exactly():
    image = np.array([0, 2**53 + 1, 2**53, 2**53 + 1, 0], np.uint64)
    assert ms.watershed(image, [1, 0, 0, 0, 2]).tolist() == [1, 1, 1, 2, 2]
    image = np.array([0, 2**63 + 2, 1, 2**63 + 1, 0], np.uint64)
    assert ms.watershed(image, [1, 0, 0, 0, 2]).tolist() == [1, 1, 2, 2, 2]


def test_watershed_both_zeros_are_one_value(rng):
    image = np.where(rng.random((20, 30)) < 0.5, -0.0, 0.0)
    markers = random_markers(rng, image.shape)
    assert_array_equal(ms.watershed(image, markers), ms.watershed(abs(image), markers))


@pytest.mark.parametrize("modes", MODES, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_watershed_nan_is_outside_the_mask(rng, dtype, modes):
    image = rng.integers(0, 9, (20, 30)).astype(dtype)
    markers = random_markers(rng, image.shape)
    holes = rng.random(image.shape) < 0.2
    expected = ms.watershed(image, markers, mask=~holes, **modes)
    assert not expected[holes].any()
    image[holes] = -np.nan if dtype == np.float32 else np.nan
    assert_array_equal(ms.watershed(image, markers, **modes), expected)
    minima = ms.watershed(image)
    assert not minima[holes].any()
    assert minima.max() > 0


@pytest.mark.parametrize("modes", MODES, ids=str)
def test_watershed_labels_all_that_markers_reach(rng, modes):
    image = rng.integers(0, 9, (8, 9))
    assert not ms.watershed(image, np.zeros(image.shape, int), **modes).any()
    mask = np.ones(image.shape, bool)
    mask[4] = False
    markers = np.zeros(image.shape, int)
    markers[0, 0] = 7
    markers[4, 4] = 3  # outside the mask
    labels = ms.watershed(image, markers, mask=mask, **modes)
    assert (labels[:4] == 7).all()
    assert not labels[4:].any()


def test_watershed_layouts(rng, layout):
    image = rng.integers(0, 20, (6, 9, 8)).astype(np.float32)
    markers, mask = random_markers(rng, image.shape), rng.random(image.shape) < 0.9
    for modes in MODES:
        expected = twin(image, markers, mask=mask, **modes)
        labels = ms.watershed(layout(image), layout(markers), mask=layout(mask), **modes)
        assert_array_equal(labels, expected)
        out = layout(np.ones_like(markers))
        if out.flags.writeable:
            assert ms.watershed(image, markers, mask=mask, out=out, **modes) is out
            assert_array_equal(out, expected)


def test_watershed_out_may_be_the_markers(rng):
    image = rng.integers(0, 20, (20, 30)).astype(np.uint8)
    markers = random_markers(rng, image.shape)
    expected = ms.watershed(image, markers)
    assert ms.watershed(image, markers, out=markers) is markers
    assert_array_equal(markers, expected)


@pytest.mark.parametrize("shift", [1, 30, 400])
def test_watershed_out_may_overlap_the_markers(rng, shift):
    image = rng.integers(0, 20, (20, 30)).astype(np.uint8)
    memory = np.zeros(image.size + shift, np.int32)
    markers, out = memory[: image.size].reshape(20, 30), memory[shift:].reshape(20, 30)
    markers[:] = random_markers(rng, image.shape)
    expected = ms.watershed(image, markers)
    assert ms.watershed(image, markers, out=out) is out
    assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("line", [False, True])
def test_watershed_with_64_bit_indices(rng, dtype, line):
    image = rng.integers(0, 99, (10, 11, 12)).astype(dtype)
    markers = random_markers(rng, image.shape)
    steps = [step for axis in np.eye(3, dtype=int) for step in (*axis, *-axis)]
    labels = markers.copy()
    core.watershed(image, None, [int(s) for s in steps], line, True, labels, labels)
    assert_array_equal(labels, ms.watershed(image, markers, watershed_line=line))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "image must be bool, integer or float", {"image": np.zeros((4, 5), complex)}),
        (ValueError, "image must have at least one dimension", {"image": 3}),
        (TypeError, "markers must be bool or integer", {"markers": np.zeros((4, 5))}),
        (ValueError, "markers must have the image's shape", {"markers": np.zeros((4, 1), int)}),
        (ValueError, "markers must be at least 1", {"markers": 0}),
        (TypeError, "markers must be an integer", {"markers": 5.5}),
        (ValueError, "markers must be given", {"markers": None, "connectivity": np.ones((3, 3))}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (TypeError, "connectivity must be an integer", {"connectivity": 1.5}),
        (ValueError, "connectivity must .* dimensions", {"connectivity": np.ones(3)}),
        (ValueError, "connectivity must be an array", {"connectivity": [[1, 1], [1]]}),
        (ValueError, "connectivity must have odd lengths", {"connectivity": np.ones((2, 3))}),
        (ValueError, "offset must be an index", {"offset": (1,)}),
        (ValueError, "offset must be an index", {"offset": (1, 3)}),
        (ValueError, "offset must be an index", {"offset": (1, -1)}),
        (TypeError, "offset must be an integer", {"offset": (1, 1.5)}),
        (ValueError, "mask must have the image's shape", {"mask": np.ones((1, 5))}),
        (ValueError, "compactness must be a number, got NaN", {"compactness": np.nan}),
        (ValueError, "compactness must be finite", {"compactness": np.inf}),
        (ValueError, "out must have shape", {"out": np.zeros((4, 5), np.int16)}),
    ],
)
def test_watershed_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.watershed(**{"image": np.zeros((4, 5)), "markers": np.ones((4, 5), int), **arguments})


SCENE = """
rng = np.random.default_rng(0)
image = rng.integers(0, 250, (100, 200, 220)).astype(np.{dtype})
markers = (rng.random(image.shape) < 0.2).astype(np.int32)
small, few = image[:8].copy(), markers[:8].copy()
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "most"), [("uint8", 8), ("uint16", 8), ("float32", 16)])
@pytest.mark.parametrize("line", [False, True])
def test_watershed_memory(dtype, most, line, threads):
    got = peak_bytes_per_pixel(
        f"ms.watershed(image, markers, watershed_line={line}, out=markers)",
        setup=SCENE.format(dtype=dtype),
        warm=f"ms.watershed(small, few, watershed_line={line})",
        threads=threads,
    )
    assert got <= most


@pytest.mark.parametrize("modes", ["", "watershed_line=True", "compactness=1"])
def test_watershed_can_be_interrupted(modes):
    script = f"""
    import numpy as np
    import medseg_fast as ms
    image = np.random.default_rng(0).random((200, 200, 200)).astype(np.float32)
    markers = np.zeros(image.shape, np.int32)
    markers[::8, ::8, ::8] = 1
    ms.set_num_threads(2)
    print(delay(lambda: ms.watershed(image, markers, {modes}), 0.02))
    """
    assert float(run_python(DELAY + script)) < MOST
