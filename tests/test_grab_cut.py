from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import _mixture, reference


def scene(rng, shape=(60, 70), channels=3, dtype=np.uint8):
    """A two-coloured blob on a two-coloured ground, the blob, and a box around it."""
    grid = np.indices(shape)
    middle = [n // 2 for n in shape]
    truth = sum((g - m) ** 2 for g, m in zip(grid, middle, strict=True)) < (min(shape) / 3.2) ** 2
    ground = np.where(grid[-1] % 20 < 10, 60, 90)
    blob = np.where(grid[0] > middle[0], 150, 190)
    values = np.where(truth, blob, ground)[..., None] + 10 * np.arange(channels)
    image = (values + rng.normal(0, 5, values.shape)).clip(0, 255).astype(dtype)
    box = [(m - min(shape) * 3 // 8 - 1, m + min(shape) * 3 // 8 + 1) for m in middle]
    return image, truth, box


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_blob_is_found_from_its_box(rng, dtype, channels):
    image, truth, box = scene(rng, channels=channels, dtype=dtype)
    got = ms.grab_cut(image, box, channel_axis=-1)
    assert got.dtype == np.bool_
    assert dice(got, truth) > 0.98
    if channels == 1:
        assert_array_equal(ms.grab_cut(image[..., 0], box), got)


@pytest.mark.parametrize("shape", [(200,), (30, 40, 36)])
@pytest.mark.parametrize("spacing", [None, (3, 1, 1)])
def test_other_dimensions_and_spacings(rng, shape, spacing):
    image, truth, box = scene(rng, shape, 2)
    spacing = spacing and spacing[: len(shape)]
    got = ms.grab_cut(image, box, channel_axis=-1, spacing=spacing)
    assert dice(got, truth) > 0.98


def test_is_near_opencv(rng):
    cv2 = pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data")
    image = np.ascontiguousarray(data.astronaut()[:256, 80:400])
    box = ((5, 256), (60, 260))
    mask = np.zeros(image.shape[:2], np.uint8)
    models = np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)
    rect = (60, 5, 200, 251)
    cv2.grabCut(image, mask, rect, models[0], models[1], 5, cv2.GC_INIT_WITH_RECT)
    assert dice(ms.grab_cut(image, box, channel_axis=-1), mask % 2 == 1) > 0.95


def test_seeds_stay_and_count(rng):
    image, truth, box = scene(rng)
    foreground, background = np.zeros((2, *truth.shape), bool)
    foreground[4:8, 4:8] = True  # outside the box
    background[28:32, 33:37] = True  # in the middle of the object
    got = ms.grab_cut(
        image, box, foreground_seeds=foreground, background_seeds=background, channel_axis=-1
    )
    assert got[foreground].all()
    assert not got[background].any()
    alone = ms.grab_cut(image, background_seeds=~truth, channel_axis=-1)
    assert dice(alone, truth) > 0.98


def test_energy_falls_with_iterations(rng):
    """Of the mask in the models fitted to it, never above that of fewer iterations."""
    image, _, box = scene(rng, (30, 36))
    image = np.clip(image.astype(int) + rng.normal(0, 25, image.shape), 0, 255).astype(np.uint8)
    energies = []
    for n in (1, 2, 3, 6):
        mask = ms.grab_cut(image, box, n_iterations=n, channel_axis=-1, lambda_=10)
        energies.append(energy(image, mask, 10))
    assert energies[-1] <= energies[0] * 1.001


def energy(image, mask, lambda_):
    pixels = image.astype(float)
    total = 0.0
    for region in (mask, ~mask):
        if region.any():
            mixture = _mixture.fit(image[region], 5)
            total += float(_mixture.costs(image[region], mixture)[0].sum())
    squares = [(np.diff(pixels, axis=a) ** 2).sum(-1) for a in (0, 1)]
    for axis, square in enumerate(squares):
        cut = np.diff(mask, axis=axis)
        total += lambda_ * np.exp(-square[cut] / (2 * np.mean(square))).sum()
    return total


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [7, 511, 512, 513, 40000])
def test_mixtures_equal_reference(rng, n, channels):
    pixels = rng.normal(0, 1, (n, channels)) * np.arange(1, channels + 1)
    parts = rng.integers(0, 3, n).astype(np.uint8)
    pixels[parts == 1] += 7
    spread = np.cov(pixels.T, bias=True).reshape(channels, channels)
    least = np.trace(spread) / channels * 1e-3
    twin = reference.grab_cut.mixture_of(pixels, parts, least)
    expected = reference.grab_cut.costs(pixels, twin)
    mixture = _mixture.refit(pixels, parts, 3)
    cost, part = _mixture.costs(pixels, mixture)
    assert_allclose(cost, expected.min(0), rtol=1e-4, atol=1e-4)
    two = np.sort(expected, 0)[:2]
    clear = np.diff(two, axis=0)[0] > 1e-6 if len(two) == 2 else np.ones(n, bool)
    assert_array_equal(part[clear], expected.argmin(0)[clear])
    left_out = np.where(parts == 1, 255, parts).astype(np.uint8)
    assert len(_mixture.refit(pixels, left_out, 3)) == len(np.unique(parts[parts != 1]))


def test_threads_layouts_and_out(rng, layout):
    image, _, box = scene(rng)
    expected = ms.grab_cut(image, box, channel_axis=-1)
    for threads in (1, 5):
        with ms.num_threads(threads):
            assert_array_equal(ms.grab_cut(layout(image), box, channel_axis=-1), expected)
    moved = ms.grab_cut(np.moveaxis(image, -1, 0), box, channel_axis=0)
    assert_array_equal(moved, expected)
    out = layout(np.zeros(expected.shape, bool))
    if out.flags.writeable:
        assert ms.grab_cut(image, box, channel_axis=-1, out=out) is out
        assert_array_equal(out, expected)


def test_images_without_contrast():
    flat = np.full((9, 9), 7)
    assert ms.grab_cut(flat, ((2, 6), (2, 6))).shape == (9, 9)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "box must be a pair", {"box": ((0, 3),)}),
        (ValueError, "box must be a pair", {"box": ((0, 3), (2, 9))}),
        (ValueError, "box must be a pair", {"box": ((3, 3), (2, 4))}),
        (TypeError, "box must be an integer", {"box": ((0.5, 3), (2, 4))}),
        (ValueError, "leave some background", {"box": None}),
        (ValueError, "leave some background", {"box": ((0, 4), (0, 5))}),
        (ValueError, "leave something unknown", {"background_seeds": np.ones((4, 5))}),
        (
            ValueError,
            "no pixel in common",
            {"foreground_seeds": np.eye(4, 5), "background_seeds": np.eye(4, 5)},
        ),
        (ValueError, "foreground_seeds must have shape", {"foreground_seeds": np.ones((4, 4))}),
        (ValueError, "n_iterations must be at least 1", {"n_iterations": 0}),
        (ValueError, "n_components must be from 1 to 255", {"n_components": 256}),
        (ValueError, "lambda_ must be finite", {"lambda_": np.inf}),
        (ValueError, "sigma must be positive", {"sigma": -1}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (ValueError, "image must be finite", {"image": np.full((4, 5), np.inf)}),
    ],
)
def test_bad_input(error, message, change):
    given = {"image": np.arange(20.0).reshape(4, 5), "box": ((1, 3), (1, 4))}
    with pytest.raises(error, match=f"grab_cut: .*{message}"):
        ms.grab_cut(**{**given, **change})


def test_peak_memory():
    setup = """
    image = np.random.default_rng(0).integers(0, 30, (600, 700, 3)).astype(np.uint8)
    image[200:400, 200:500] += 90
    box = ((150, 450), (150, 550))
    """
    got = peak_bytes_per_pixel(
        "ms.grab_cut(image, box, channel_axis=-1)",
        setup=setup,
        pixels="(image.size // 3)",
        warm="ms.grab_cut(image[190:220, 190:220], ((5, 20), (5, 20)), channel_axis=-1)",
    )
    assert got < 50
