from __future__ import annotations

import threading

import numpy as np
import pytest
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.threshold_explorer
SMALL = [shape for shape in SHAPES if 0 < np.prod(shape) < 400]  # the twin is slow


def smooth_image(rng, shape, dtype):
    """A few wide bumps over the dtype's range: regions that grow, meet and leak."""
    ndimage = pytest.importorskip("scipy.ndimage")
    field = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    field = (field - field.min()) / (field.max() - field.min())
    dtype = np.dtype(dtype)
    if dtype.kind in "ui":
        return (field * min(np.iinfo(dtype).max, 10**6)).astype(dtype)
    return (field > 0.5) if dtype.kind == "b" else field.astype(dtype)


def thresholds_around(image):
    """Every value that occurs, values between and beyond them."""
    values = np.unique(image[np.isfinite(image)]).astype(float)
    return np.unique(np.concatenate([values, values + 0.3, [values[0] - 1e9, values[-1] + 1e9]]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SMALL, ids=str)
@pytest.mark.parametrize("brighter", [True, False])
def test_explorer_equals_reference(rng, shape, dtype, brighter):
    # Few values, of the whole range: the twin searches the image once for each of them.
    palette = np.unique(random_image(rng, (200,), dtype))
    image = rng.choice(palette[:: max(1, len(palette) // 5)], shape)
    for connectivity in {1, len(shape)}:
        seed = tuple(int(rng.integers(n)) for n in shape)
        explorer = ms.ThresholdExplorer(image, seed, connectivity=connectivity, brighter=brighter)
        curve = twin.volume_curve(image, seed, connectivity, brighter)
        assert_array_equal(explorer.levels, curve[0])
        assert_array_equal(explorer.sizes, curve[1])
        assert explorer.levels.dtype == image.dtype
        for t in explorer.levels[::2]:
            expected = twin.region(image, seed, t, connectivity, brighter)
            assert_array_equal(explorer.mask(t), expected)
            assert_array_equal(np.sort(explorer.voxels(t)), np.flatnonzero(expected))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("brighter", [True, False])
@pytest.mark.parametrize("shape", [(41, 53), (17, 19, 23)])
def test_explorer_equals_threshold_and_label(rng, isa, shape, dtype, brighter):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = smooth_image(rng, shape, dtype)
    seed = tuple(n // 2 for n in shape)
    values = thresholds_around(image)
    for connectivity in range(1, len(shape) + 1):
        structure = ndimage.generate_binary_structure(len(shape), connectivity)
        explorer = ms.ThresholdExplorer(image, seed, connectivity=connectivity, brighter=brighter)
        for t in rng.choice(values, min(12, len(values)), replace=False):
            inside = ms.threshold(image, t) if brighter else ms.threshold(image, -np.inf, t)
            labels, _ = ndimage.label(inside, structure)
            expected = inside & (labels == labels[seed])
            assert_array_equal(explorer.mask(t), expected)
            assert_array_equal(explorer.drag(t), expected)
            assert explorer.size(t) == expected.sum()


def tumour(data, folder, stem):
    """A scan cut to 2 voxels around its tumour, the truth, and a seed inside it."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetArrayFromImage(sitk.ReadImage(data / folder / f"{stem}_image.nrrd"))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(data / folder / f"{stem}_tumour.nrrd")) > 0
    inside = np.argwhere(truth)
    first, last = np.maximum(inside.min(0) - 2, 0), inside.max(0) + 3
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    image, truth = image[box], truth[box]
    inside = np.argwhere(truth)
    seed = inside[np.argsort(image[truth], kind="stable")[len(inside) * 9 // 10]]
    return image, truth, tuple(map(int, seed))


@pytest.mark.parametrize(
    # A sanity bound: the suggestions reach 0.74 and 0.60, any one threshold at most 0.74 and 0.68.
    ("scan", "least_dice"),
    [(("ct_lung_tumour", "lung2"), 0.7), (("mr_brain_tumour", "brain1"), 0.55)],
)
def test_explorer_on_a_scan(data, scan, least_dice):
    segmentation = pytest.importorskip("skimage.segmentation")
    image, truth, seed = tumour(data, *scan)
    explorer = ms.ThresholdExplorer(image, seed, connectivity=1)
    # flood takes values within a tolerance of the seed's: cut off what is brighter.
    clipped = np.minimum(image, image[seed])
    for t in explorer.levels[:: len(explorer.levels) // 6]:
        tolerance = int(image[seed]) - int(t)
        expected = segmentation.flood(clipped, seed, connectivity=1, tolerance=tolerance)
        assert_array_equal(explorer.mask(t), expected)
    suggestion = explorer.suggest(min_voxels=50)
    assert max(dice(explorer.mask(t), truth) for t in suggestion) > least_dice


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_explorer_order_is_by_level_then_position(rng):
    image = smooth_image(rng, (30, 40, 20), np.uint8)
    explorer = ms.ThresholdExplorer(image, (15, 20, 10), connectivity=1)
    level = np.empty(image.shape, int)
    for t in explorer.levels[::-1]:
        level[explorer.mask(t)] = t
    order = np.argsort(-level, axis=None, kind="stable")
    assert_array_equal(explorer.voxels(0), order)


def test_explorer_drag_follows_any_sequence(rng):
    image = smooth_image(rng, (60, 70), np.float32)
    explorer = ms.ThresholdExplorer(image, (30, 35))
    values = rng.choice(thresholds_around(image), 60)
    first = explorer.drag(values[0])
    for t in values:
        live = explorer.drag(t)
        assert np.shares_memory(live, first)
        assert_array_equal(live, explorer.mask(t))
    with pytest.raises(ValueError, match="read-only"):
        live[0, 0] = True


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_explorer_takes_any_layout(rng, layout, dtype):
    image = random_image(rng, (5, 6, 7), dtype)
    given = layout(image)
    before = given.copy()
    a = ms.ThresholdExplorer(given, (2, 3, 4))
    b = ms.ThresholdExplorer(image, (2, 3, 4))
    lowest = b.levels[-1]
    assert_array_equal(a.voxels(lowest), b.voxels(lowest))
    assert_array_equal(a.levels, b.levels)
    assert_array_equal(given, before)


def test_explorer_does_not_depend_on_threads(rng, threads):
    image = smooth_image(rng, (50, 60, 40), np.float32)
    explorer = ms.ThresholdExplorer(image, (25, 30, 20), connectivity=1)
    t = float(np.median(explorer.levels))
    assert_array_equal(explorer.mask(t), explorer.drag(t))
    with ms.num_threads(1):
        assert_array_equal(
            explorer.mask(t), ms.ThresholdExplorer(image, (25, 30, 20)).mask(t) & explorer.mask(t)
        )
        again = ms.ThresholdExplorer(image, (25, 30, 20), connectivity=1)
    assert_array_equal(explorer.voxels(0), again.voxels(0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_explorer_nan_and_infinity(dtype):
    image = np.array([np.inf, 5, 3, np.nan, 9, -np.inf], dtype)
    explorer = ms.ThresholdExplorer(image, 1)
    assert explorer.levels.tolist() == [5, 3]
    assert explorer.mask(-np.inf).tolist() == [True, True, True, False, False, False]
    right = ms.ThresholdExplorer(image, 4)
    assert right.levels.tolist() == [9, -np.inf]
    assert right.suggest().before_leak == 9
    dark = ms.ThresholdExplorer(image, 2, brighter=False)
    assert dark.levels.tolist() == [3, 5, np.inf]
    assert dark.mask(np.inf).tolist() == [True, True, True, False, False, False]


def test_explorer_signed_zeros_are_one_level():
    image = np.array([1.0, -0.0, 0.0, -0.0, -1.0])
    assert ms.ThresholdExplorer(image, 0).sizes.tolist() == [1, 4, 5]


def test_explorer_thresholds_beyond_the_seed_are_empty():
    image = np.array([[3, 200], [255, 3]], np.uint8)
    explorer = ms.ThresholdExplorer(image, (0, 1))
    for t in (200.5, 256, np.inf):
        assert not explorer.mask(t).any()
        assert explorer.size(t) == len(explorer.voxels(t)) == 0
    assert explorer.mask(200).tolist() == [[False, True], [True, False]]
    assert not ms.ThresholdExplorer(image, (0, 1), brighter=False).mask(-1).any()


def test_explorer_mask_out(rng, layout):
    image = smooth_image(rng, (12, 9, 8), np.int16)
    explorer = ms.ThresholdExplorer(image, (6, 4, 4))
    out = layout(np.ones(image.shape, bool))
    t = float(np.median(explorer.levels))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            explorer.mask(t, out=out)
        return
    assert explorer.mask(t, out=out) is out
    assert_array_equal(out, explorer.mask(t))


def test_explorer_volume_curve_and_spacing():
    image = np.array([[[9, 7, 1, 8]]])
    explorer = ms.ThresholdExplorer(image, (0, 0, 0), spacing=(5, 0.5, 0.5))
    thresholds, volumes = explorer.volume_curve()
    assert thresholds.tolist() == [9, 7, 1]
    assert volumes.tolist() == [1.25, 2.5, 5.0]
    assert "3 levels from 9 to 1" in repr(explorer)


def test_explorer_suggests_the_plateau_before_the_leak():
    """A bright ball (values 80 and more) in a body of 20, joined to it by a ramp of one voxel."""
    grid = np.indices((41, 41, 41)) - 20
    image = np.full((41, 41, 41), 20)
    image[(grid**2).sum(0) <= 64] = 100
    image[(grid**2).sum(0) <= 16] = 104
    image[20, 20, 28:35] = [90, 80, 70, 60, 50, 40, 30]
    explorer = ms.ThresholdExplorer(image, (20, 20, 20))
    ball = int(((grid**2).sum(0) <= 64).sum())
    leak, stable = explorer.suggest(delta=5)
    assert leak == 30  # one level later everything is in
    assert ball <= explorer.size(stable) <= ball + 7
    assert explorer.suggest(min_voxels=10**9) == explorer.suggest(max_voxels=10**9)
    flat = ms.ThresholdExplorer(np.zeros((3, 3)), (1, 1))
    assert flat.suggest() == (0, 0)


def test_explorer_equals_reference_in_several_threads(rng):
    image = smooth_image(rng, (40, 50, 30), np.uint16)
    expected = ms.ThresholdExplorer(image, (20, 25, 15)).voxels(0)
    results = []
    workers = [
        threading.Thread(
            target=lambda: results.append(ms.ThresholdExplorer(image, (20, 25, 15)).voxels(0))
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    for result in results:
        assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "seed must lie inside the image", {"seed": (3, 0)}),
        (ValueError, "seed must lie inside the image", {"seed": (-1, 0)}),
        (ValueError, "seed must be one index of 2 integers", {"seed": 1}),
        (ValueError, "seed must be one index of 2 integers", {"seed": [(0, 0), (1, 1)][0:1]}),
        (ValueError, "seed must be one index of 2 integers", {"seed": [(0, 0), (1,)] * 2}),
        (TypeError, "seed must be an integer", {"seed": (0.5, 0)}),
        (ValueError, "seed must not be on a NaN voxel", {"seed": (0, 2)}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (TypeError, "complex", {"image": np.zeros((3, 4), complex)}),
        (ValueError, "spacing must be 2 positive numbers", {"spacing": (1, 0)}),
        (ValueError, "seed must lie inside", {"image": np.zeros((0, 4)), "seed": (0, 0)}),
        (ValueError, "at least one dimension", {"image": np.float32(1), "seed": ()}),
    ],
)
def test_explorer_bad_input(error, message, arguments):
    image = np.zeros((3, 4))
    image[0, 2] = np.nan
    with pytest.raises(error, match=message):
        ms.ThresholdExplorer(**{"image": image, "seed": (0, 0), **arguments})


def test_explorer_bad_thresholds():
    explorer = ms.ThresholdExplorer(np.zeros((3, 4)), (0, 0))
    for call in (explorer.mask, explorer.voxels, explorer.drag, explorer.size):
        with pytest.raises(ValueError, match="t must be a number, got NaN"):
            call(np.nan)
        with pytest.raises(TypeError, match="t must be a number"):
            call("1")
    with pytest.raises(ValueError, match="out must have shape"):
        explorer.mask(0, out=np.zeros(3, bool))
    with pytest.raises(ValueError, match="delta must not be negative"):
        explorer.suggest(delta=-1)
    with pytest.raises(ValueError, match="min_voxels must be at least 1"):
        explorer.suggest(min_voxels=0)
