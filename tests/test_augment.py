"""Augmentation: the kernels against their slow twins and SciPy, what an Augmenter promises."""

from __future__ import annotations

import pickle
import sys
from importlib import import_module

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, LAYOUTS, random_image
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

import medseg_fast as ms
from medseg_fast import _cpu, augment
from medseg_fast._warp import monomials, resize, rotation, warp
from medseg_fast.reference import augment as twin

SHAPES = [(7, 9), (1, 6), (130, 3), (5, 6, 7), (1, 4, 9)]
READ = [np.uint8, np.float32]  # the others: test_images_of_every_dtype


def a_map(rng, ndim, elastic=False, turn=0.5):
    """A map that leaves part of the source; control points that move by up to a voxel."""
    matrix = rotation(rng.uniform(-turn, turn, 1 if ndim == 2 else 3)) * rng.uniform(0.8, 1.2)
    control = None
    if elastic:
        control = rng.uniform(-1, 1, (ndim, *rng.integers(4, 8, ndim))).astype(np.float32)
    return matrix, rng.uniform(-2, 2, ndim), control


def away_from_ties(at):
    """Where no coordinate is so near to the middle between voxels that rounding decides."""
    return (np.abs(at - np.floor(at) - 0.5) > 1e-3).all(0)


@pytest.mark.parametrize("dtype", READ)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize("fill", [None, 0.0, -3.5])
def test_warp_equals_reference(rng, isa, shape, dtype, elastic, fill):
    image = rng.integers(0, 200, (2, *shape)).astype(dtype)
    label = rng.integers(-3, 9, shape).astype(np.int16)
    matrix, offset, control = a_map(rng, len(shape), elastic)
    size = (2, 150) if len(shape) == 2 else tuple(rng.integers(3, 6, 3))  # more than a chunk
    at = twin.places(matrix, offset, size, control)
    for order in (1, 3):
        got, labels = warp(
            image, matrix, offset, size, control=control, order=order, fill=fill, label=label,
            label_fill=-100,
        )  # fmt: skip
        assert got.dtype == np.float32
        # Coordinates are float32 within 64 voxels: 1e-5, times a slope of up to 200 an axis.
        for c, channel in enumerate(image):
            expected = twin.sample(channel.astype(float), at, order, fill)
            assert_allclose(got[c], expected, atol=1e-2, rtol=1e-5)
        beyond = None if fill is None else -100
        sure = away_from_ties(at)
        assert_array_equal(labels[sure], twin.sample(label, at, 0, beyond)[sure])
        assert sure.any()


@pytest.mark.parametrize("shape", [(40, 50), (20, 30, 25)], ids=str)
@pytest.mark.parametrize("fill", [None, 7.0])
def test_warp_equals_scipy(rng, shape, fill):
    image = rng.normal(size=shape).astype(np.float32)
    label = rng.integers(0, 5, shape)
    matrix, offset, _ = a_map(rng, len(shape))
    mode = {"mode": "nearest"} if fill is None else {"mode": "grid-constant", "cval": fill}
    got, labels = warp(image[None], matrix, offset, shape, fill=fill, label=label)
    expected = ndimage.affine_transform(image, matrix, offset, order=1, **mode)
    assert_allclose(got[0], expected, atol=1e-4)
    mode["cval"] = 0
    at = np.moveaxis(np.indices(shape), 0, -1) @ matrix.T + offset
    sure = away_from_ties(np.moveaxis(at, -1, 0))
    expected = ndimage.affine_transform(label, matrix, offset, order=0, **mode)
    assert_array_equal(labels[sure], expected[sure])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_labels_of_every_dtype(rng, dtype):
    label = random_image(rng, (9, 8, 7), dtype)
    matrix, offset, _ = a_map(rng, 3)
    at = twin.places(matrix, offset, label.shape)
    image = np.zeros((1, *label.shape), np.float32)
    _, labels = warp(image, matrix, offset, label.shape, label=label, label_fill=1)
    assert labels.dtype == dtype
    cell = np.floor(at + 0.5).astype(int)
    inside = np.all([(c >= 0) & (c < n) for c, n in zip(cell, label.shape, strict=True)], axis=0)
    expected = np.ones_like(label)
    expected[inside] = label[tuple(cell[:, inside])]
    sure = away_from_ties(at)
    if dtype.kind != "f":  # of floats bits are copied: the fill is theirs
        assert_array_equal(labels[sure], expected[sure])
    assert_array_equal(labels[sure & inside], expected[sure & inside])


def test_moves_by_whole_voxels_are_exact(rng):
    image = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    label = rng.integers(0, 9, image.shape[1:])
    for steps in ((1, 1, 1), (-1, 1, -1)):
        for offset in ((0, 0, 0), (4, 3, 5), (-2, 8, 1), (20, 0, 0), (-20, 0, 3)):
            for fill in (None, 2.0):
                for size in ((5, 6, 7), (3, 9, 2)):
                    at = twin.places(np.diag(steps), np.array(offset), size)
                    got, labels = warp(
                        image, np.diag(steps), np.array(offset), size, fill=fill, label=label
                    )
                    assert_array_equal(got[1], twin.sample(image[1], at, 1, fill))
                    beyond = None if fill is None else 0
                    assert_array_equal(labels, twin.sample(label, at, 0, beyond))


def test_resize_keeps_the_extent():
    ramp = np.arange(12, dtype=np.float32)[None, None].repeat(4, 1)
    small, _ = resize(ramp, (4, 6))
    assert_allclose(small[0, 0], np.arange(6) * 2 + 0.5)
    back, _ = resize(small, (4, 12))
    assert_allclose(back[0, 0, 1:-1], ramp[0, 0, 1:-1])


def test_philox_known_answers():
    """From the authors' kat_vectors."""
    assert twin.philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert twin.philox([ones] * 4, [ones] * 2) == [
        0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD,
    ]  # fmt: skip


def shaded(image, bias=(), gamma=1.0, noise=0.0, seed=0):
    from medseg_fast._warp import core

    out = image.copy()
    n = len(image)
    core.shade(out, list(bias), [gamma] * n, [noise] * n, seed)
    return out


@pytest.mark.parametrize("shape", [(2, 1, 5, 70), (1, 3, 7, 33), (2, 1, 1, 1), (1, 1, 40, 41)])
def test_noise_equals_reference(isa, shape):
    image = np.zeros(shape, np.float32)
    seed = 0xDEADBEEF12345678
    got = shaded(image, noise=2.0, seed=seed)
    for c in range(shape[0]):
        expected = twin.normal(got[c].size, c, seed).reshape(shape[1:])
        assert_allclose(got[c], 2 * expected, atol=5e-6)


def test_noise_is_normal(threads):
    got = shaded(np.zeros((1, 30, 200, 200), np.float32), noise=1.0, seed=5).ravel()
    n = got.size
    assert abs(got.mean()) < 5 / n**0.5
    assert abs(got.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((got**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((got**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert abs(np.corrcoef(got[1:], got[:-1])[0, 1]) < 5 / n**0.5
    assert abs(np.corrcoef(got[64:], got[:-64])[0, 1]) < 5 / n**0.5
    assert_array_equal(
        got, shaded(np.zeros((1, 30, 200, 200), np.float32), noise=1.0, seed=5)[0].ravel()
    )


@pytest.mark.parametrize("shape", [(2, 1, 9, 70), (1, 4, 3, 5), (1, 1, 1, 1)])
def test_bias_and_gamma_equal_reference(isa, rng, shape):
    image = rng.normal(3, 20, shape).astype(np.float32)
    bias = rng.uniform(-0.5, 0.5, 20)
    field = twin.bias_field(bias, shape[1:])
    assert_allclose(shaded(image, bias), image * field, rtol=4e-6)
    for exponent in (0.5, 1.7):
        for c, channel in enumerate(shaded(image, gamma=exponent)):
            expected = twin.gamma(image[c].astype(float), exponent)
            assert_allclose(channel, expected, atol=2e-4)  # of a range of 100
    both = shaded(image, bias, 1.7, 0.5, 9)
    for c in range(shape[0]):
        noise = twin.normal(image[c].size, c, 9).reshape(shape[1:])
        expected = twin.gamma(image[c] * field, 1.7) + 0.5 * noise
        assert_allclose(both[c], expected, atol=1e-3)


def test_gamma_of_constant_and_not_finite_values():
    flat = np.full((1, 1, 4, 4), 3, np.float32)
    assert_array_equal(shaded(flat, gamma=2.0), flat)
    image = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    image[0, 0, 1, 1] = np.nan
    got = shaded(image, gamma=2.0)
    assert_allclose(got, image**2, atol=1e-6)  # NaN stays, where it was
    image[0, 0, 0, 0] = np.inf
    assert_array_equal(shaded(image, gamma=2.0), image)


ALL = {
    "rotation": 30, "scale": 1.4, "flip": True, "elastic": 4, "gamma": 1.5, "noise": 0.1,
    "bias": 0.3, "blur": (0.5, 1), "low_resolution": 2,
    "contrast": 2.0, "brightness": 1.0, "invert": True,
}  # fmt: skip


def blobs(shape, channels=2, seed=0):
    """A smooth image and the labels of where its first channel is high."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=(channels, *shape)), (0, *(2,) * len(shape)))
    image = (image / image.std()).astype(np.float32)
    return image, (image[0] > 0.5).astype(np.int32) + (image[0] > 1)


@pytest.mark.parametrize("shape", [(60, 70), (20, 30, 40)], ids=str)
def test_is_a_function_of_the_seed(shape, threads, isa):
    image, label = blobs(shape)
    augmenter = augment.Augmenter(**ALL, probability=0.7)
    kept = image.copy()
    results = [augmenter(image, label, seed=(3, k)) for k in range(4)]
    with ms.num_threads(1):
        for k, (new, labels) in enumerate(results):
            again, labels_again = augmenter(image, label, seed=(3, k))
            assert new.tobytes() == again.tobytes()
            assert_array_equal(labels, labels_again)
            assert new.shape == image.shape
            assert labels.shape == label.shape
            assert set(np.unique(labels)) <= {0, 1, 2}
    assert len({new.tobytes() for new, _ in results}) == 4
    assert_array_equal(image, kept)


@pytest.mark.parametrize("shape", [(60, 70), (20, 30, 40)], ids=str)
def test_all_builds_give_the_same_bytes(shape, monkeypatch):
    image, label = blobs(shape)
    augmenter = augment.Augmenter(**ALL, probability=1)
    results = []
    for isa in filter(_cpu.runnable, _cpu.builds()):
        core = import_module(f"medseg_fast._core_{isa}")
        for name, module in list(sys.modules.items()):
            if name.startswith("medseg_fast") and hasattr(module, "core"):
                monkeypatch.setattr(module, "core", core)
        new, labels = augmenter(image, label, seed=1)
        results.append((new.tobytes(), labels.tobytes()))
    assert len(set(results)) == 1


@pytest.mark.parametrize("shape", [(60, 70), (20, 30, 40)], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_each_change_happens_as_often_as_told(shape, name):
    image, label = blobs(shape)
    always = {name: 1.0}
    augmenter = augment.Augmenter(**{name: ALL[name]}, probability=always)
    new, _ = augmenter(image, label, seed=1)
    assert (new != image).any()
    never = augment.Augmenter(**{name: ALL[name]}, probability={name: 0.0})
    for seed in range(3):
        new, labels = never(image, label, seed=seed)
        assert_array_equal(new, image)
        assert_array_equal(labels, label)
    sometimes = augment.Augmenter(**{name: ALL[name]}, probability={name: 0.5})
    changed = [(sometimes(image, seed=k)[0] != image).any() for k in range(40)]
    assert 5 < sum(changed) < 40


@pytest.mark.parametrize("shape", [(60, 70), (24, 30, 40)], ids=str)
def test_labels_stay_in_step(shape):
    image = ndimage.gaussian_filter(blobs(shape, 1)[0], (0, *(3,) * len(shape)))
    image /= image.std()
    label = image[0] > 0
    augmenter = augment.Augmenter(
        rotation=40, scale=1.3, flip=True, elastic=4, probability=1, fill="nearest"
    )
    for seed in range(4):
        new, labels = augmenter(image, label, seed=seed)
        clear = np.abs(new[0]) > 0.6  # further from 0 than half a voxel changes
        assert labels.dtype == bool
        assert_array_equal(labels[clear], new[0][clear] > 0)
        assert clear.mean() > 0.4


def test_other_settings_do_not_change_what_is_drawn():
    image, label = blobs((50, 60))
    alone = augment.Augmenter(rotation=30, probability=1)(image, label, seed=4)[1]
    others = {k: v for k, v in ALL.items() if k in ("rotation", "gamma", "noise", "bias", "blur")}
    together = augment.Augmenter(**others, probability=1)(image, label, seed=4)[1]
    assert_array_equal(alone, together)


def test_contrast_and_brightness_of_each_channel(rng):
    image = rng.normal(3, 2, (3, 20, 30)).astype(np.float32)
    augmenter = augment.Augmenter(contrast=2.0, brightness=0.5, probability=1)
    new, _ = augmenter(image, seed=1)
    factors = new.std((1, 2)) / image.std((1, 2))
    shifts = new.mean((1, 2)) - image.mean((1, 2))
    assert len(set(factors.round(4))) == len(set(shifts.round(4))) == 3
    assert ((factors >= 0.5) & (factors <= 2) & (abs(shifts) <= 0.5)).all()
    for before, after, f, s in zip(image, new, factors, shifts, strict=True):
        mean = before.mean(dtype=float)
        assert_allclose(after, mean + (before - mean) * f + s, atol=1e-4)
    alone = augment.Augmenter(contrast=2.0, probability=1)(image[:1], seed=1)[0]
    assert_allclose(alone.mean(), image[0].mean(), rtol=1e-5)


def test_invert_changes_bright_and_dark(rng):
    image = rng.normal(3, 2, (2, 20, 30)).astype(np.float32)
    new, _ = augment.Augmenter(invert=True, probability=1)(image, seed=0)
    mean = image.mean((1, 2), keepdims=True)
    assert_allclose(new, 2 * mean - image, atol=1e-5)


def test_grey_is_a_mean_of_the_channels(rng):
    image = rng.normal(size=(3, 20, 30)).astype(np.float32)
    augmenter = augment.Augmenter(grey=True, probability=1)
    new, _ = augmenter(image, seed=0)
    assert_array_equal(new[1:], new[:2])
    weights, rest = np.linalg.lstsq(image.reshape(3, -1).T, new[0].ravel(), rcond=None)[:2]
    assert_allclose(weights.sum(), 1, rtol=1e-5)
    assert (weights > 0).all()
    assert rest < 1e-6
    assert_array_equal(augmenter(image[:1], seed=0)[0], image[:1])
    assert not np.array_equal(augmenter(image, seed=1)[0], new)


def test_flips_are_exact():
    image, label = blobs((20, 21, 22))
    augmenter = augment.Augmenter(flip=(0, 2), probability={"flip": 1.0})
    new, labels = augmenter(image, label, seed=0)
    assert_array_equal(new, image[:, ::-1, :, ::-1])
    assert_array_equal(labels, label[::-1, :, ::-1])


def test_patches():
    image, label = blobs((30, 31, 32))
    plain = augment.Augmenter()
    start, size = np.array([4, 0, 20]), np.array([10, 7, 12])
    new, labels = plain(image, label, seed=0, out_shape=size, center=start + (size - 1) / 2)
    cut = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    assert_array_equal(new, image[(slice(None), *cut)])
    assert_array_equal(labels, label[cut])
    new, labels = plain(image, label, seed=0, out_shape=(40, 31, 9))
    assert_array_equal(new[:, 5:35], image[..., 11:20])
    assert (new[:, :5] == 0).all()
    assert (labels[35:] == 0).all()
    unknown = augment.Augmenter(label_fill=-100, fill=9)
    new, labels = unknown(image, label, seed=0, out_shape=(40, 31, 32))
    assert (labels[:5] == -100).all()
    assert (new[:, 35:] == 9).all()
    nearest = augment.Augmenter(fill="nearest")
    new, labels = nearest(image, label, seed=0, out_shape=(40, 31, 32))
    assert_array_equal(new[:, 0], image[:, 0])
    assert_array_equal(labels[39], label[29])


def test_a_patch_is_that_of_the_whole_image_turned_about_its_middle():
    image, label = blobs((64, 65))
    augmenter = augment.Augmenter(rotation=(25, 25), scale=(1.2, 1.2), probability=1)
    whole = augmenter(image, label, seed=0, center=(30, 40))
    patch = augmenter(image, label, seed=0, center=(30, 40), out_shape=(22, 25))
    assert_allclose(patch[0], whole[0][:, 21:43, 20:45], atol=1e-5)


def ball(spacing, extent=40.0, radius=12.0):
    """An ellipsoid of half axes 12, 9, 6 mm."""
    n = [round(extent / s) for s in spacing]
    at = [(np.arange(m) - (m - 1) / 2) * s for m, s in zip(n, spacing, strict=True)]
    z, y, x = np.meshgrid(*at, indexing="ij")
    return (z / radius) ** 2 + (y / (0.75 * radius)) ** 2 + (x / (0.5 * radius)) ** 2 < 1


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 1, 0.8)], ids=str)
def test_rotations_keep_shapes_in_mm(spacing):
    mask = ball(spacing)
    image = mask[None].astype(np.float32)
    augmenter = augment.Augmenter(rotation=((30, 30), (25, 25), (-40, -40)), probability=1)
    new, _ = augmenter(image, seed=0, spacing=spacing)

    def half_axes(a):
        at = np.argwhere(a > 0.5) * spacing
        return np.sqrt(5 * np.linalg.eigvalsh(np.cov(at.T)))  # of a solid ellipsoid

    assert_allclose(half_axes(new[0]), half_axes(image[0]), rtol=0.03)
    assert_allclose(half_axes(image[0]), [6, 9, 12], rtol=0.03)
    zoomed, _ = augment.Augmenter(scale=(1.3, 1.3), probability=1)(image, seed=0, spacing=spacing)
    assert_allclose(half_axes(zoomed[0]), 1.3 * half_axes(image[0]), rtol=0.04)


def test_coarse_planes_are_left_in_place():
    """Voxels of 5 mm along the first axis: turned about it, not bent along it."""
    planes = np.broadcast_to(np.arange(12.0)[:, None, None], (12, 40, 40)).astype(np.float32)
    settings = {"rotation": 30, "elastic": 5, "low_resolution": 2, "probability": 1}
    augmenter = augment.Augmenter(**settings, fill="nearest")
    new, _ = augmenter(planes[None], seed=1, spacing=(5, 1, 1))
    assert_allclose(new[0], planes, atol=1e-4)
    new, _ = augmenter(planes[None], seed=1)
    assert np.abs(new[0] - planes).max() > 0.5


def test_elastic_moves_by_mm_and_folds_nowhere():
    ramps = np.stack(np.meshgrid(*(np.arange(60.0),) * 2, indexing="ij")).astype(np.float32)
    bent = augment.Augmenter(elastic=1e6, probability=1, fill="nearest")
    for seed in range(5):
        new, _ = bent(ramps, seed=seed)
        moved = (new - ramps)[:, 12:-12, 12:-12]
        assert np.abs(moved).max() < 0.4 * 60 / 7 + 1e-3
        (aa, ab), (ba, bb) = (np.gradient(c) for c in new.astype(float)[:, 12:-12, 12:-12])
        assert (aa * bb - ab * ba > 0).all()
    small = augment.Augmenter(elastic=2, probability=1, fill="nearest")
    moved = small(ramps, seed=0, spacing=(1, 0.5))[0] - ramps
    inner = np.abs(moved[:, 12:-12, 12:-12]).reshape(2, -1).max(1)
    assert 0.5 < inner[0] <= 2
    assert 1 < inner[1] <= 0.4 * 60 / 7 + 1e-3  # 2 mm are 4 voxels, more than may be


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_images_of_every_dtype(rng, dtype):
    image = rng.integers(0, 2 if dtype.kind == "b" else 100, (1, 20, 21)).astype(dtype)
    augmenter = augment.Augmenter(rotation=20, flip=True, probability=1)
    expected, _ = augmenter(image.astype(np.float32), seed=5)
    got, labels = augmenter(image, image[0], seed=5)
    assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert labels.dtype == dtype


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(rng, name):
    image, label = blobs((20, 21))
    augmenter = augment.Augmenter(**ALL, probability=1)
    expected, labels = augmenter(image, label, seed=2)
    got, got_labels = augmenter(LAYOUTS[name](image), LAYOUTS[name](label), seed=2)
    assert_array_equal(got, expected)
    assert_array_equal(got_labels, labels)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, 9), (1, 1, 1), (4, 0, 3), (2, 1, 17)])
def test_odd_shapes(shape):
    image, label = np.ones((1, *shape), np.float32), np.ones(shape, np.uint8)
    augmenter = augment.Augmenter(**ALL, probability=1)
    new, labels = augmenter(image, label, seed=0)
    assert new.shape == image.shape
    assert labels.shape == shape
    new, labels = augmenter(image, label, seed=0, out_shape=(3,) * len(shape))
    assert new.shape == (1, *(3,) * len(shape))


def test_no_label_lists_tensors_and_pickles():
    image, _ = blobs((12, 13))
    augmenter = augment.standard()
    new, label = augmenter(image, seed=3)
    assert label is None
    again = pickle.loads(pickle.dumps(augmenter))
    assert_array_equal(again(image.tolist(), seed=3)[0], new)
    torch = pytest.importorskip("torch")
    assert_array_equal(augmenter(torch.tensor(image), seed=3)[0], new)


def test_a_real_scan_keeps_its_organs():
    example = ms.io.example("mr_head_t1")
    image, label = ms.io.read(example.image), ms.io.read(example.truth)
    augmenter = augment.standard(probability=1)
    new, labels = augmenter(image.array[None], label.array, seed=0, spacing=image.spacing)
    assert np.isfinite(new).all()
    assert 0.5 < (labels > 0).sum() / (label.array > 0).sum() < 2


@pytest.mark.parametrize(("changes", "most"), [("rotation=20, elastic=5", 5), ("noise=1.0", 5)])
def test_peak_memory(changes, most):
    setup = f"""
    from medseg_fast import augment
    image = np.ones((1, 150, 200, 220), np.int16)
    label = np.ones(image.shape[1:], np.uint8)
    augmenter = augment.Augmenter({changes}, probability=1)
    """
    got = peak_bytes_per_pixel(
        "augmenter(image, label, seed=0)",
        setup=setup,
        warm="augmenter(image[:, :9], label[:9], seed=0)",
        threads=2,
    )
    assert got <= most + 0.15


def test_terms_of_the_field():
    assert len(monomials()) == 20
    assert monomials()[0] == (0, 0, 0)
