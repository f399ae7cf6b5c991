from __future__ import annotations

import ctypes
import sys
import threading
import warnings

import numpy as np
import pytest
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import LeakWarning, reference

twin = reference.region_growing
SMALL = [shape for shape in SHAPES if 0 < np.prod(shape) < 400]  # the twins are slow


def near_mean(value, region_mean, region_std, seed_value):
    return abs(value - region_mean) <= 2.5 * region_std + 2


def near_seed(value, region_mean, region_std, seed_value):
    return seed_value - 3 <= value <= seed_value + 3


def always(value, region_mean, region_std, seed_value):
    return True


def random_markers(rng, shape, dtype=np.int32, labels=(1, 2, 3), share=0.05):
    markers = rng.choice([0, *labels], shape, p=[1 - share] + [share / len(labels)] * len(labels))
    markers.flat[0] = labels[0]
    return markers.astype(dtype)


def finite_image(rng, shape, dtype):
    image = random_image(rng, shape, dtype)
    return np.where(np.isfinite(image), image, 3).astype(image.dtype)


def grow(*args, **kwargs):
    """Labels, and whether a LeakWarning came."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = ms.region_growing(*args, **kwargs)
    assert all(w.category is LeakWarning and w.filename == __file__ for w in caught)
    return labels, len(caught)


# --- seeded_region_growing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_seeded_equals_reference(rng, shape, dtype):
    image = finite_image(rng, shape, dtype)
    for connectivity in {1, len(shape)}:
        markers = random_markers(rng, shape, labels=(7, 2, 5))
        labels = ms.seeded_region_growing(image, markers, connectivity=connectivity)
        expected, _ = twin.seeded_region_growing(image, markers, connectivity)
        assert labels.dtype == markers.dtype
        assert_array_equal(labels, expected)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_seeded_with_mask_and_limits_equals_reference(isa, seed, dtype):
    rng = np.random.default_rng(seed)
    shape = [(19, 17), (6, 7, 8)][seed % 2]
    image = rng.integers(0, 12, shape).astype(dtype)
    if dtype == np.float32:
        image += rng.random(shape, np.float32).round(1)
        image[rng.random(shape) < 0.05] = np.nan
        image[rng.random(shape) < 0.05] = np.inf
    markers = np.where(np.isfinite(image), random_markers(rng, shape, share=0.03), 0)
    mask = rng.random(shape) < 0.85
    for options in (
        {"max_distance": 3.5},
        {"max_voxels": 25},
        {"max_distance": 5, "max_voxels": 30},
    ):
        expected, stopped = twin.seeded_region_growing(image, markers, 1, mask, **options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            labels = ms.seeded_region_growing(image, markers, mask=mask, **options)
        assert_array_equal(labels, expected)
        assert len(caught) == len(stopped)
        for warning, label in zip(caught, sorted(stopped), strict=True):
            assert warning.category is LeakWarning
            assert f"label {label} stopped at max_voxels" in str(warning.message)
            assert warning.filename == __file__


@pytest.mark.parametrize("markers_dtype", DTYPES[:9], ids=str)
def test_seeded_labels_of_every_type(rng, markers_dtype):
    image = rng.integers(0, 30, (14, 15)).astype(np.int16)
    top = 1 if markers_dtype.kind == "b" else np.iinfo(markers_dtype).max
    markers = np.zeros(image.shape, markers_dtype)
    markers[2, 3], markers[10, 12] = top, 1
    labels = ms.seeded_region_growing(image, markers)
    assert labels.dtype == markers_dtype
    assert_array_equal(labels, twin.seeded_region_growing(image, markers)[0])
    assert set(np.unique(labels)) == {1, top}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_seeded_takes_any_layout(rng, layout, dtype):
    image = finite_image(rng, (5, 6, 7), dtype)
    markers = random_markers(rng, image.shape, np.uint16)
    mask = rng.random(image.shape) < 0.9
    given = [layout(a) for a in (image, markers, mask)]
    before = [a.copy() for a in given]
    labels = ms.seeded_region_growing(given[0], given[1], mask=given[2])
    assert_array_equal(labels, ms.seeded_region_growing(image, markers, mask=mask))
    for a, b in zip(given, before, strict=True):
        assert_array_equal(a, b)


def test_seeded_does_not_depend_on_threads(rng, threads):
    image = rng.normal(100, 20, (40, 50, 30)).astype(np.float32)
    image[3, 4, 5] = np.nan
    markers = random_markers(rng, image.shape, share=0.001, labels=(3, 9))
    markers[3, 4, 5] = 0
    labels = ms.seeded_region_growing(image, markers)
    with ms.num_threads(1):
        assert_array_equal(labels, ms.seeded_region_growing(image, markers))


def test_seeded_finds_discs_in_noise(rng):
    """Two discs of other grey than their ground: every pixel but noise at the rims is right."""
    y, x = np.indices((120, 160))
    truth = np.full(y.shape, 1)
    truth[(y - 60) ** 2 + (x - 45) ** 2 < 900] = 2
    truth[(y - 60) ** 2 + (x - 110) ** 2 < 900] = 3
    image = np.array([0, 100, 140, 60])[truth] + rng.normal(0, 5, y.shape)
    markers = np.zeros(y.shape, np.uint8)
    markers[2, 2], markers[60, 45], markers[60, 110] = 1, 2, 3
    labels = ms.seeded_region_growing(image, markers)
    assert (labels == truth).mean() > 0.999


def test_seeded_out_and_empty(rng, layout):
    image = rng.integers(0, 9, (8, 9, 4)).astype(np.int32)
    markers = random_markers(rng, image.shape, np.uint8)
    expected = ms.seeded_region_growing(image, markers)
    out = layout(np.full(image.shape, 9, np.uint8))
    if out.flags.writeable:
        assert ms.seeded_region_growing(image, markers, out=out) is out
        assert_array_equal(out, expected)
    else:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.seeded_region_growing(image, markers, out=out)
    assert not ms.seeded_region_growing(image, np.zeros(image.shape, int)).any()
    for shape in ((0, 3), (3, 0, 2)):
        assert ms.seeded_region_growing(np.zeros(shape), np.zeros(shape, int)).shape == shape


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "markers must not be negative, got -2", {"markers": [[0, -2, 0]]}),
        (TypeError, "markers must be bool or integer", {"markers": [[0.5, 1, 0]]}),
        (ValueError, "markers must have the image's shape", {"markers": [[0, 1]]}),
        (ValueError, "markers must not be on NaN", {"markers": [[0, 1, 1]]}),
        (ValueError, "mask must have the image's shape", {"mask": [True]}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 0}),
        (ValueError, "max_distance must not be negative", {"max_distance": -1}),
        (ValueError, "max_distance must be a number, got NaN", {"max_distance": np.nan}),
        (ValueError, "max_voxels must be at least 1|max_voxels must be from 1", {"max_voxels": 0}),
        (TypeError, "max_voxels must be an integer", {"max_voxels": 2.5}),
        (ValueError, "out must have shape", {"out": np.zeros((1, 3), np.int8)}),
    ],
)
def test_seeded_bad_input(error, message, arguments):
    image = np.array([[1, 2, np.nan]])
    with pytest.raises(error, match=message):
        ms.seeded_region_growing(**{"image": image, "markers": [[1, 0, 0]], **arguments})


# --- region_growing


@pytest.fixture(scope="module", autouse=True)
def _numba():
    pytest.importorskip("numba")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_criterion_equals_reference(rng, shape, dtype):
    image = finite_image(rng, shape, dtype)
    for connectivity in {1, len(shape)}:
        seed = tuple(int(rng.integers(n)) for n in shape)
        for rule in (near_mean, near_seed):
            mask = ms.region_growing(image, seed, rule, connectivity=connectivity)
            assert mask.dtype == bool
            expected, _ = twin.region_growing(image, {1: [seed]}, rule, connectivity)
            assert_array_equal(mask, expected == 1)


@pytest.mark.parametrize("case", range(12))
def test_criterion_with_labels_and_limits_equals_reference(isa, case):
    rng = np.random.default_rng(case)
    shape = [(25, 31), (9, 10, 11)][case % 2]
    image = rng.normal(0, 2, shape).astype(np.float32)
    image[rng.random(shape) < 0.05] = np.nan
    free = rng.permutation(np.argwhere(~np.isnan(image)))
    indices = [tuple(map(int, index)) for index in free[:6]]
    groups = {7: indices[:1], 2: [*indices[1:4], indices[1]], 2**31 - 1: indices[4:]}
    for limits in ({}, {"max_voxels": 60}, {"max_growth": 9}, {"max_voxels": 80, "max_growth": 20}):
        expected, stopped = twin.region_growing(image, groups, near_mean, 1, **limits)
        labels, warned = grow(image, groups, near_mean, **limits)
        assert labels.dtype == np.int32
        assert_array_equal(labels, expected)
        assert warned == len(stopped)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_criterion_takes_any_layout(rng, layout, dtype):
    image = finite_image(rng, (5, 6, 7), dtype)
    given = layout(image)
    before = given.copy()
    mask = ms.region_growing(given, (2, 3, 4), near_mean)
    assert_array_equal(mask, ms.region_growing(image, (2, 3, 4), near_mean))
    assert_array_equal(given, before)


def test_criterion_commutes_with_flips(rng):
    """Integer sums of a step do not depend on order here, so mirrored regions are equal."""
    image = rng.integers(0, 8, (30, 34))
    mask = ms.region_growing(image, (12, 9), near_seed)
    flipped = ms.region_growing(image[::-1, ::-1], (17, 24), near_seed)
    assert_array_equal(mask, flipped[::-1, ::-1])


@pytest.mark.parametrize(
    ("limit", "hall_voxels", "message"),
    [
        # The front in the hall is a diamond's: 1, 3, 5, 7, 9 voxels, then 11.
        ({"max_growth": 9}, 25, "before step 20, beyond max_growth=9"),
        ({"max_voxels": 90}, 1, "stopped with 88 voxels before step 16, beyond max_voxels=90"),
    ],
)
def test_criterion_leak_returns_what_was_before(limit, hall_voxels, message):
    """A chamber of 9 x 9 with a neck of 6 voxels, one wide, that opens into a hall."""
    image = np.zeros((31, 60), int)
    image[11:20, :9] = 1
    image[15, 9:15] = 1
    image[:, 15:] = 1
    with pytest.warns(LeakWarning, match=message):
        mask = ms.region_growing(image, (15, 0), near_one, **limit)
    assert mask[11:20, :9].all()
    assert mask[15, 9:15].all()
    assert mask[:, 15:].sum() == hall_voxels
    assert mask.sum() == 81 + 6 + hall_voxels


def near_one(value, region_mean, region_std, seed_value):
    return value == 1


def test_criterion_seeds_forms(rng):
    image = rng.integers(0, 4, (12, 13))
    a, b = (3, 4), (9, 9)
    one = ms.region_growing(image, a, near_seed)
    assert_array_equal(one, ms.region_growing(image, [a], near_seed))
    assert_array_equal(one, ms.region_growing(image, np.array(a), near_seed))
    two = ms.region_growing(image, [a, b, a], near_mean)
    assert_array_equal(two, ms.region_growing(image, np.array([a, b]), near_mean))
    labels = ms.region_growing(image, {5: a}, near_seed)
    assert_array_equal(labels, np.where(one, 5, 0))
    line = image[0]
    assert_array_equal(
        ms.region_growing(line, 3, near_seed), ms.region_growing(line, [(3,)], near_seed)
    )


def test_criterion_compiled_elsewhere(rng):
    numba = pytest.importorskip("numba")
    scipy = pytest.importorskip("scipy")
    image = rng.normal(0, 2, (20, 21))
    expected = ms.region_growing(image, (4, 5), near_mean)
    signature = "boolean(float64, float64, float64, float64)"
    compiled = numba.cfunc(signature)(near_mean)
    callback = ctypes.CFUNCTYPE(ctypes.c_bool, *[ctypes.c_double] * 4)(near_mean)
    for rule in (
        compiled,
        callback,
        numba.njit(near_mean),
        scipy.LowLevelCallable(callback),
    ):
        assert_array_equal(ms.region_growing(image, (4, 5), rule), expected)


def test_criterion_is_compiled_once_and_follows_its_constants():
    from medseg_fast.kernels.criterion_numba import _compiled

    image = np.arange(30.0)

    def rule(limit):
        return lambda value, mean, std, seed_value: abs(value - seed_value) <= limit

    first = ms.region_growing(image, 10, rule(2.0))
    count = len(_compiled)
    assert ms.region_growing(image, 10, rule(2.0)).sum() == first.sum() == 5
    assert len(_compiled) == count
    assert ms.region_growing(image, 10, rule(3.0)).sum() == 7
    assert len(_compiled) == count + 1


def test_criterion_first_step_divides_by_zero():
    image = np.array([[5.0, 6, 7, 50]])
    mask = ms.region_growing(image, (0, 0), lambda v, mean, std, s: (v - mean) / std > 1)
    assert mask.tolist() == [[True, True, True, True]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_criterion_never_takes_nan(dtype):
    image = np.array([1, np.nan, 1, np.inf, 1], dtype)
    assert ms.region_growing(image, 2, always).tolist() == [False, False, True, True, True]


def test_criterion_out(rng, layout):
    image = rng.integers(0, 5, (7, 8, 9))
    for seeds, dtype in (((3, 4, 5), bool), ({2: (3, 4, 5)}, np.int32)):
        out = layout(np.ones(image.shape, dtype))
        if not out.dtype.isnative:
            out = out.astype(dtype)
        if out.flags.writeable:
            assert ms.region_growing(image, seeds, near_seed, out=out) is out
            assert_array_equal(out, ms.region_growing(image, seeds, near_seed))
        else:
            with pytest.raises(ValueError, match="out must be writable"):
                ms.region_growing(image, seeds, near_seed, out=out)


def fails_late(value, region_mean, region_std, seed_value):
    if value > 5:
        raise ValueError("too bright")
    return True


def test_criterion_that_raises():
    with pytest.raises(RuntimeError, match="criterion raised an exception"):
        ms.region_growing(np.arange(9), 0, fails_late)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "seeds must lie inside the image", {"seeds": (3, 0)}),
        (ValueError, "seeds must lie inside the image", {"seeds": [(0, 0), (0, -1)]}),
        (ValueError, "seeds must be one index of 2 integers", {"seeds": (1, 1, 1)}),
        (ValueError, "seeds must be one index of 2 integers", {"seeds": 1}),
        (ValueError, "seeds must name at least one voxel|must be one index", {"seeds": []}),
        (ValueError, "seeds must name at least one|must be one index", {"seeds": {1: []}}),
        (ValueError, "seeds must not be on a NaN voxel", {"seeds": (0, 2)}),
        (ValueError, "seeds must not name one voxel for two", {"seeds": {1: (0, 0), 2: (0, 0)}}),
        (ValueError, "seeds must be from 1", {"seeds": {0: (0, 0)}}),
        (TypeError, "seeds must be an integer", {"seeds": {"a": (0, 0)}}),
        (TypeError, "seeds must be an integer", {"seeds": (0, 0.5)}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (ValueError, "max_voxels must be", {"max_voxels": 0}),
        (ValueError, "max_growth must be", {"max_growth": -1}),
        (TypeError, "criterion must be a function of four doubles", {"criterion": 12}),
        (TypeError, "criterion cannot be compiled by Numba", {"criterion": lambda v: True}),
        (TypeError, "criterion cannot be compiled by Numba", {"criterion": print}),
        (
            TypeError,
            "criterion cannot be compiled by Numba",
            {"criterion": lambda v, m, s, x: open(v)},
        ),
        (
            TypeError,
            "criterion must be a function of four doubles",
            {"criterion": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_double)(int)},
        ),
        (ValueError, "out must have shape", {"out": np.zeros((3, 4), int)}),
    ],
)
def test_criterion_bad_input(error, message, arguments):
    image = np.zeros((3, 4))
    image[0, 2] = np.nan
    with pytest.raises(error, match=message):
        ms.region_growing(**{"image": image, "seeds": (0, 0), "criterion": near_mean, **arguments})


def test_criterion_error_chains_numbas():
    numba = pytest.importorskip("numba")
    with pytest.raises(TypeError) as caught:
        ms.region_growing(np.zeros(3), 0, lambda v, m, s, x: open(v))
    assert isinstance(caught.value.__cause__, numba.core.errors.NumbaError)


def test_criterion_without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "medseg_fast.kernels.criterion_numba", None)
    with pytest.raises(ImportError, match=r"medseg_fast\[jit\]"):
        ms.region_growing(np.zeros(3), 0, lambda v, m, s, x: v > 1)


def test_growing_in_several_threads(rng):
    image = rng.normal(0, 2, (60, 70, 20))
    markers = random_markers(rng, image.shape, share=0.001)
    calls = {
        "seeded": lambda: ms.seeded_region_growing(image, markers),
        "criterion": lambda: ms.region_growing(image, (30, 30, 10), near_mean),
    }
    expected = {name: call() for name, call in calls.items()}
    results = []
    workers = [
        threading.Thread(target=lambda n=name: results.append((n, calls[n]())))
        for name in list(calls) * 3
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 6
    for name, result in results:
        assert_array_equal(result, expected[name])


# --- real scans: sanity bounds, not a claim of quality


def tumour(data, folder, stem):
    """A scan cut to 2 voxels around its tumour, the truth, and a seed well inside it."""
    sitk = pytest.importorskip("SimpleITK")
    ndimage = pytest.importorskip("scipy.ndimage")
    image = sitk.GetArrayFromImage(sitk.ReadImage(data / folder / f"{stem}_image.nrrd"))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(data / folder / f"{stem}_tumour.nrrd")) > 0
    inside = np.argwhere(truth)
    first, last = np.maximum(inside.min(0) - 2, 0), inside.max(0) + 3
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    depth = ndimage.distance_transform_edt(truth[box])
    return image[box], truth[box], tuple(map(int, np.unravel_index(depth.argmax(), depth.shape)))


SCANS = [("ct_lung_tumour", "lung2"), ("mr_brain_tumour", "brain1")]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("scan", SCANS, ids=str)
def test_seeded_on_a_scan(data, scan):
    image, truth, seed = tumour(data, *scan)
    markers = np.zeros(image.shape, np.uint8)
    markers[0], markers[-1], markers[:, 0], markers[:, -1] = 2, 2, 2, 2
    markers[:, :, 0], markers[:, :, -1] = 2, 2
    around = tuple(slice(max(i - 1, 0), i + 2) for i in seed)
    markers[around] = 1
    labels = ms.seeded_region_growing(image, markers)
    assert labels.all()
    assert dice(labels == 1, truth) > 0.5


@pytest.mark.parametrize("scan", SCANS, ids=str)
def test_criterion_on_a_scan(data, scan):
    image, truth, seed = tumour(data, *scan)
    spread = float(image[truth].std())

    def rule(value, region_mean, region_std, seed_value):
        return abs(value - region_mean) <= spread

    mask = ms.region_growing(image, seed, rule)
    expected, _ = twin.region_growing(image, {1: [seed]}, rule) if mask.sum() < 5000 else (mask, 0)
    assert_array_equal(mask, expected > 0)
    assert dice(mask, truth) > 0.5
