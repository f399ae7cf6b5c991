from __future__ import annotations

import math

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import _cut_costs, _mixture, reference
from medseg_fast._cpu import core
from medseg_fast.grid_graph import grid_offsets

twin = reference.graph_cut
GRIDS = [((9,), 1), ((7, 8), 1), ((7, 8), 2), ((1, 9), 2), ((3, 5, 4), 1), ((3, 4, 4), 3)]
GRID = pytest.mark.parametrize(("shape", "connectivity"), GRIDS, ids=str)


def scene(rng, shape, channels=None):
    """An image, seeds and costs of both regions."""
    image = rng.normal(0, 1, shape if channels is None else (*shape, channels))
    choice = rng.integers(0, 8, shape)
    costs = [rng.random(shape).astype(np.float32) * 3 for _ in range(2)]
    choice.flat[0], choice.flat[-1] = 0, 1
    return image, choice == 0, choice == 1, costs


def weights_of(image, shape, connectivity, lambda_, sigma, spacing):
    offsets = grid_offsets(len(shape), connectivity)
    lengths = _cut_costs.metric(tuple(offsets), spacing)
    return {
        o: twin.contrast_weights(image, o, lambda_ * length, sigma)
        for o, length in zip(offsets, lengths, strict=True)
    }


@GRID
@pytest.mark.parametrize("channels", [None, 3])
def test_energy_is_the_least(rng, shape, connectivity, channels):
    for spacing in (None, (2.0, 0.7, 1.3)[: len(shape)]):
        image, foreground, background, costs = scene(rng, shape, channels)
        mask = ms.graph_cut(
            image,
            foreground,
            background,
            lambda_=2,
            sigma=1.1,
            connectivity=connectivity,
            spacing=spacing,
            region=lambda *_, costs=costs: costs,
            channel_axis=None if channels is None else -1,
        )
        assert mask.dtype == np.bool_
        full = image if channels else image[..., None]
        weights = weights_of(full, shape, connectivity, 2, 1.1, spacing or (1.0,) * len(shape))
        given = (*costs, foreground, background, weights)
        _, least = twin.seeded_cut(*given)
        assert twin.seeded_energy(*given, mask) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize(
    "dtype", "bool uint8 uint16 uint64 int8 int32 float16 float32 float64".split()
)
def test_contrast_of_every_dtype_and_layout(rng, dtype, layout):
    image = (rng.random((9, 11)) * (1 if dtype == "bool" else 9) + 0.5).astype(dtype)
    given = _cut_costs.CutImage("test", layout(image), None, None)
    for offset in grid_offsets(2, 2):
        got = np.empty((1, 9, 11), np.float32)
        core.contrast_weights(given.volume, given.full(offset), 3.0, 0.5 / 2.5**2, got)
        expected = twin.contrast_weights(image[..., None], offset, 3.0, 2.5)
        assert_allclose(got[0], expected, rtol=2e-6)


def test_contrast_far_beyond_sigma_is_zero_or_precise():
    for difference in (0.0, 1e-3, 0.1, 1, 5, 9, 13.1, 13.3, 100, 1e6, 1e15):
        image = _cut_costs.CutImage("test", np.array([0.0, difference]), None, None)
        got = np.empty((1, 1, 2), np.float32)
        core.contrast_weights(image.volume, [0, 0, 1], 2.0, 0.5, got)
        assert got[0, 0, 0] == pytest.approx(
            2 * math.exp(-(min(difference, 1e3) ** 2) / 2), 1e-6, 1e-37
        )
        assert got[0, 0, 1] == 0


def test_default_sigma_is_the_root_mean_square_of_differences(rng):
    image = rng.normal(0, 5, (6, 7, 8)).astype(np.float32)
    squares = [np.diff(image.astype(float), axis=a) ** 2 for a in range(3)]
    expected = np.sqrt(sum(s.sum() for s in squares) / sum(s.size for s in squares))
    assert ms.GraphCutSession(image).sigma == pytest.approx(expected, rel=1e-6)
    assert ms.GraphCutSession(np.full((4, 4), 7)).sigma == 1
    assert ms.GraphCutSession(image, sigma=3).sigma == 3


def test_a_cut_costs_its_length_in_mm():
    """Cauchy and Crofton: circles and balls, with voxels that are no cubes."""
    for spacing, connectivity, within in [((1, 1), 2, 0.06), ((1, 2), 2, 0.15)]:
        y, x = np.indices((140, 140)) - 70
        inside = (y * spacing[0]) ** 2 + (x * spacing[1]) ** 2 < 50**2
        got = boundary(inside, connectivity, spacing)
        assert got == pytest.approx(2 * math.pi * 50, rel=within)
    z, y, x = np.indices((60, 60, 60)) - 30
    got = boundary(z**2 + y**2 + x**2 < 25**2, 3, (1, 1, 1))
    assert got == pytest.approx(4 * math.pi * 25**2, rel=0.06)
    got = boundary((z * 2) ** 2 + y**2 + x**2 < 25**2, 3, (2, 1, 1))
    assert got == pytest.approx(4 * math.pi * 25**2, rel=0.2)


def boundary(mask, connectivity, spacing):
    offsets = grid_offsets(mask.ndim, connectivity)
    total = 0.0
    for offset, weight in zip(
        offsets, _cut_costs.metric(tuple(offsets), tuple(map(float, spacing))), strict=True
    ):
        here = tuple(
            slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, mask.shape, strict=True)
        )
        there = tuple(
            slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, mask.shape, strict=True)
        )
        total += weight * np.count_nonzero(mask[here] != mask[there])
    return total * math.prod(spacing)


@pytest.mark.parametrize("region", ["histogram", "gmm", None])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_disc_is_found_from_a_few_seeds(rng, region, dtype):
    y, x = np.indices((60, 70))
    truth = (y - 30) ** 2 + (x - 40) ** 2 < 15**2
    image = (60 + 50 * truth + rng.normal(0, 6, truth.shape)).astype(dtype)
    foreground, background = np.zeros((2, 60, 70), bool)
    foreground[25:35, 35:45] = background[:3] = background[:, :3] = True
    got = ms.graph_cut(image, foreground, background, region=region, connectivity=2)
    if region is not None:
        assert np.count_nonzero(got != truth) < 20
    assert got[foreground].all()
    assert not got[background].any()
    colour = np.stack([image, image[::-1], rng.integers(0, 9, truth.shape)], -1)
    got = ms.graph_cut(colour, foreground, background, region=region, channel_axis=-1)
    assert got[foreground].all()


def test_mixture_costs_are_those_of_normal_distributions(rng):
    pixels = np.concatenate([rng.normal(3, 1, (400, 3)), rng.normal(-4, (2, 1, 0.7), (300, 3))])
    mixture = _mixture.fit(pixels, 2)
    cost, part = _mixture.costs(pixels, mixture)
    for k in range(len(mixture)):
        inside = pixels[part == k]
        mean, covariance = inside.mean(0), np.cov(inside.T, bias=True)
        apart = inside - mean
        distance = (apart @ np.linalg.inv(covariance) * apart).sum(1)
        expected = 0.5 * distance + 0.5 * np.log(np.linalg.det(2 * np.pi * covariance))
        expected -= np.log(len(inside) / len(pixels))
        assert_allclose(cost[part == k], expected, atol=0.2)
    assert len(_mixture.fit(np.ones((9, 1)))) == 1  # nothing to split


@GRID
def test_strokes_equal_a_fresh_session(rng, shape, connectivity):
    image, foreground, background, costs = scene(rng, shape)
    arguments = {"lambda_": 2, "sigma": 1.1, "connectivity": connectivity}
    arguments["region"] = lambda *_: costs
    session = ms.GraphCutSession(image, **arguments)
    session.add_seeds(foreground, background)
    weights = weights_of(image[..., None], shape, connectivity, 2, 1.1, (1.0,) * len(shape))
    for step in range(6):
        mask = session.mask()
        given = (*costs, foreground, background, weights)
        _, least = twin.seeded_cut(*given)
        assert twin.seeded_energy(*given, mask) == pytest.approx(least, rel=1e-5, abs=1e-5)
        stroke = rng.random(shape) < 0.1
        if step % 3 == 2:
            session.remove_seeds(stroke)
            foreground, background = foreground & ~stroke, background & ~stroke
        elif step % 3:
            session.add_seeds(stroke)
            foreground, background = foreground | stroke, background & ~stroke
        else:
            session.add_seeds(background=stroke)
            foreground, background = foreground & ~stroke, background | stroke


def test_update_region_counts_later_seeds(rng):
    image = np.repeat([10.0, 50.0, 90.0], 20)[None] + rng.normal(0, 1, (6, 60))
    foreground, background, later = np.zeros((3, 6, 60), bool)
    foreground[:, 45:50] = background[:, :5] = later[:, 22:27] = True
    session = ms.GraphCutSession(image, lambda_=0.1)
    session.add_seeds(foreground, background)
    session.mask()
    session.add_seeds(later)
    session.update_region()
    assert session.mask()[:, 20:].all()
    fresh = ms.graph_cut(image, foreground | later, background, lambda_=0.1)
    assert_array_equal(session.mask(), fresh)


def test_into_out(rng, layout):
    image, foreground, background, _ = scene(rng, (6, 7))
    expected = ms.graph_cut(image, foreground, background)
    out = layout(np.ones((6, 7), bool))
    if out.flags.writeable:
        assert ms.graph_cut(image, foreground, background, out=out) is out
        assert_array_equal(out, expected)
    got = ms.graph_cut(layout(image), layout(foreground), layout(background))
    assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "image must be finite", {"image": np.full((4, 5), np.nan)}),
        (ValueError, "deviation below 1e\\+15", {"image": np.eye(4, 5) * 1e200}),
        (ValueError, "one to three dimensions", {"image": np.zeros((2, 2, 2, 2))}),
        (TypeError, "image must be bool, integer or float", {"image": np.zeros((4, 5), complex)}),
        (ValueError, "foreground must have at least one", {"foreground_seeds": np.zeros((4, 5))}),
        (ValueError, "foreground_seeds must have shape", {"foreground_seeds": np.zeros((4, 4))}),
        (ValueError, "no pixel in common", {"background_seeds": np.ones((4, 5))}),
        (ValueError, "lambda_ must be finite", {"lambda_": -1}),
        (ValueError, "lambda_ must be finite", {"lambda_": np.inf}),
        (ValueError, "sigma must be positive", {"sigma": 0}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (ValueError, "spacing must be 2 positive", {"spacing": (1, -1)}),
        (ValueError, "region must be", {"region": "mean"}),
        (ValueError, "region must return the costs", {"region": lambda *_: 3}),
        (ValueError, "region must return finite", {"region": lambda *_: (np.nan, 1)}),
        (ValueError, "channel_axis must be from", {"channel_axis": 5}),
        (ValueError, "out must have shape", {"out": np.zeros((3, 3), bool)}),
    ],
)
def test_bad_input(error, message, change):
    image = np.arange(20.0).reshape(4, 5)
    given = {"image": image, "foreground_seeds": image > 17, "background_seeds": image < 2}
    with pytest.raises(error, match=f"graph_cut: .*{message}"):
        ms.graph_cut(**{**given, **change})


def test_peak_memory():
    setup = """
    image = np.random.default_rng(0).integers(0, 30, (70, 80, 90)).astype(np.uint8)
    image[:30] += 90
    foreground, background = np.zeros((2, *image.shape), bool)
    foreground[:3] = background[-3:] = True
    """
    got = peak_bytes_per_pixel(
        "ms.graph_cut(image, foreground, background)",
        setup=setup,
        warm="ms.graph_cut(image[-9:], foreground[:9], background[-9:])",
    )
    assert got < 57
