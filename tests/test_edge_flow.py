from __future__ import annotations

import math

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._cpu import core

twin = reference.edge_flow
RIGHT, BELOW, CLOSES = 1, 2, 2  # bits of the masks


def half_circle(half, ahead, spacing=(1, 1)):
    angles = np.arange(half) * math.pi / half
    ways = np.stack([np.sin(angles), np.cos(angles)], -1)
    return np.rint(ahead * ways / spacing).astype(int).tolist(), ways.tolist()


def discs(rng, noise, shape=(150, 160)):
    """Three discs of falling contrast, and their labels."""
    y, x = np.indices(shape)
    image, labels = np.full(shape, 60.0), np.zeros(shape, int)
    for i, (row, column, radius, contrast) in enumerate(
        [(40, 45, 25, 100), (45, 115, 22, 50), (105, 80, 30, -30)], 1
    ):
        inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
        image[inside], labels[inside] = 60 + contrast, i
    return image + rng.normal(0, noise, shape), labels


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.7)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (6, 1), (9, 13)])
def test_vectors_equal_reference(rng, isa, shape, spacing):
    maps = rng.normal(0, 1, (4, *shape)).astype(np.float32)
    scale, weights = [1.0, 0.5, 2.0, 0.25], [0.3, 0.7]
    offsets, ways = half_circle(4, 3, spacing)
    flow = np.empty((2, *shape), np.float32)
    core.edge_flow_vectors(maps, [0, 1, 1, 1], scale, weights, offsets, ways, spacing, flow)
    parts = [[(0, 1.0)], [(1, 0.5), (2, 2.0), (3, 0.25)]]
    expected, lead = twin.flow_vectors(maps, parts, weights, offsets, ways, spacing)
    clear = lead > 1e-4  # float32 may see the halves of a near tie in the other order
    assert clear.mean() > 0.8 or min(shape) == 1
    assert_allclose(flow[:, clear], expected[:, clear], rtol=2e-4, atol=2e-5)


def test_flow_of_a_step_is_its_gradient_and_points_to_it():
    image = np.zeros((30, 40), np.float32)
    image[:, 20:] = 50
    found = ms.edge_flow(image, 2)
    assert_allclose(found.direction[1, :, 12:20], 1, atol=1e-3)
    assert_allclose(found.direction[1, :, 20:28], -1, atol=1e-3)
    assert (found.strength[:, :19] == 0).all()
    assert_allclose(found.strength[:, 19], 50, rtol=0.05)  # the step's height
    assert_array_equal(found.labels, 1 + (image > 0))
    assert_array_equal(found.edges.nonzero()[1], 19)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.5, 1.0)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (21, 18), (18, 135)])
def test_meeting_flows_equal_reference(rng, isa, threads, shape, spacing):
    flow = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    flow[:, rng.random(shape) < 0.1] = 0
    energy, strength = np.empty_like(flow), np.empty(shape, np.float32)
    for most in (0, 1, 3, 200) if shape[1] < 100 else (4,):
        steps = core.meet_flows(flow, spacing, most, energy, strength)
        expected, made = twin.meet(flow, spacing, most)
        assert_array_equal(energy, expected)
        assert steps == made
        assert_allclose(strength, np.hypot(*expected), rtol=1e-6)


def random_energy(rng, shape, share):
    """Pieces of boundary: some lines, some dots, some weak."""
    energy = np.where(rng.random((2, *shape)) < share, rng.random((2, *shape)), 0)
    row, column = (int(rng.integers(n)) for n in shape)
    energy[0, : shape[0] // 2, column] = 0.8
    energy[1, row, shape[1] // 3 :] = 0.9
    energy[0, :, -1] = energy[1, -1] = 0
    return energy.astype(np.float32)


def pieces_of(masks, shift=0):
    return {
        twin.piece(plane, int(r), int(c))
        for plane, bit in enumerate((RIGHT, BELOW))
        for r, c in np.argwhere(masks & (bit << shift))
    }


def enclosed(masks):
    labels = np.empty(masks.shape, np.int32)
    return labels, core.label_enclosed(masks, labels)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from([0.02, 0.1, 0.3, 0.6]),
    st.sampled_from([0.0, 1.0, 2.5, 6.0]),
)
def test_regions_equal_reference(seed, shape, share, reach):
    rng = np.random.default_rng(seed)
    energy = random_energy(rng, shape, share)
    masks = np.empty(shape, np.uint8)
    core.link_boundaries(energy, 0.3, 0.7, reach, 3, masks)
    found, closing = twin.link(energy, 0.3, 0.7, reach, 3)
    assert pieces_of(masks) == found | closing
    assert pieces_of(masks, CLOSES) == closing
    labels, count = enclosed(masks)
    expected = twin.enclosed(found | closing, shape)
    assert_array_equal(labels, expected)
    assert count == expected.max()
    maps = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    maps[0, rng.random(shape) < 0.1] = np.nan
    for least, wanted in ((0, 0), (6, 0), (3, 2), (0, 1)):
        merged, walls = labels.copy(), masks.copy()
        n = core.merge_enclosed(maps, [1.0, 0.5], least, wanted, walls, merged)
        assert_array_equal(merged, twin.merge(maps, (1.0, 0.5), least, wanted, found, labels))
        assert n == merged.max()
        # What is left are the boundaries between regions.
        right, below = np.zeros(shape, bool), np.zeros(shape, bool)
        right[:, :-1] = merged[:, 1:] != merged[:, :-1]
        below[:-1] = merged[1:] != merged[:-1]
        assert_array_equal(walls & RIGHT != 0, right)
        assert_array_equal(walls & BELOW != 0, below)


@pytest.mark.parametrize("noise", [0, 5, 15])
def test_finds_discs(rng, noise):
    image, labels = discs(rng, noise)
    found = ms.edge_flow(image, 2)
    assert found.labels.max() == 4
    assert ms.boundary_f1(found.edges, ms.find_boundaries(labels, mode="inner"), 2).f1 > 0.97
    for label in range(4):
        inside = labels == label
        mine = found.labels == np.bincount(found.labels[inside]).argmax()
        assert 2 * (inside & mine).sum() / (inside.sum() + mine.sum()) > 0.97


def test_finds_what_differs_in_texture_or_colour_alone(rng):
    y, x = np.indices((128, 128))
    inside = (y - 64) ** 2 + (x - 64) ** 2 < 35**2
    truth = ms.find_boundaries(inside, mode="inner")
    image = 100 + 50 * np.sin(2 * np.pi * 0.15 * np.where(inside, y, x)) + rng.normal(0, 5, x.shape)
    for features in ("texture", "both"):
        found = ms.edge_flow(image, 4, features=features, texture_weight=0.9, n_regions=2)
        assert ms.boundary_f1(found.edges, truth, 4).f1 > 0.95
    colour = np.full((128, 128, 3), 100.0)
    colour[inside] = (130, 100, 70)  # as bright
    colour += rng.normal(0, 3, colour.shape)
    found = ms.edge_flow(colour, 2, channel_axis=-1)
    assert ms.boundary_f1(found.edges, truth, 2).f1 > 0.97
    first = ms.edge_flow(np.moveaxis(colour, -1, 0), 2, channel_axis=0)
    assert_array_equal(first.labels, found.labels)
    green = ms.edge_flow(colour, 2, channel_axis=-1, weights=(0, 1, 0))
    assert ms.boundary_f1(green.edges, truth, 2).recall < 0.2


def test_options(rng):
    image, _ = discs(rng, 5)
    assert ms.edge_flow(image, 2, n_regions=2).labels.max() == 2
    assert ms.edge_flow(image, 2, n_regions=1).labels.max() == 1
    assert ms.edge_flow(image, 2, high=60).labels.max() == 2  # one disc is as strong
    assert ms.edge_flow(image, 2, high=1e6, low=0).labels.max() == 1
    many = ms.edge_flow(image, 2, low=0, high=0, min_size=0).labels
    assert many.max() > 50
    sizes = np.bincount(ms.edge_flow(image, 2, low=0, high=0, min_size=400).labels.ravel())
    assert sizes[1:].min() >= 400
    assert np.bincount(many.ravel())[1:].min() < 400
    # In mm everything is the same.
    one, other = ms.edge_flow(image, 2), ms.edge_flow(image, 0.5, spacing=(0.25, 0.25))
    assert_allclose(one.strength, other.strength, rtol=1e-4, atol=1e-3)
    assert_array_equal(one.labels, other.labels)


def test_thick_pixels(rng):
    image, labels = discs(rng, 2)
    thick = image[::2]
    found = ms.edge_flow(thick, 2, spacing=(2, 1))
    truth = ms.find_boundaries(labels[::2], mode="inner")
    assert ms.boundary_f1(found.edges, truth, 2.5, spacing=(2, 1)).f1 > 0.97


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_layout(rng, layout, dtype):
    y, x = np.indices((40, 50))
    image = ((y - 20) ** 2 + (x - 25) ** 2 < 100) * (1 if dtype.kind == "b" else 90)
    image = image.astype(dtype)
    before = image.copy()
    expected = ms.edge_flow(image.astype(np.float32), 1.5)
    got = ms.edge_flow(layout(image), 1.5)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert_array_equal(one, other)
    assert_array_equal(image, before)
    assert got.labels.max() == 2


@pytest.mark.parametrize("features", ["intensity", "texture", "both"])
def test_small_constant_and_unknown(features, threads):
    for shape in [(0, 0), (0, 5), (1, 1), (1, 30), (30, 1), (3, 3)]:
        found = ms.edge_flow(np.ones(shape), 2, features=features)
        assert found.labels.shape == found.strength.shape == shape
        assert found.direction.shape == (2, *shape)
        assert not found.edges.any()
        assert (found.labels == 1).all()
        assert not found.strength.any()
    y, x = np.indices((90, 90))
    image = ((y - 30) ** 2 + (x - 30) ** 2 < 200) * 50.0
    image[70:, 70:] = np.nan
    image[80, 10] = np.inf
    found = ms.edge_flow(image, 1, features=features)
    assert np.isfinite(found.strength).all()
    assert np.isfinite(found.direction).all()
    assert not found.direction[:, 75:, 75:].any()
    if features == "intensity":
        assert found.labels[30, 30] != found.labels[60, 60]


def test_threads_give_the_same_bytes(rng, threads):
    image, _ = discs(rng, 10)
    with ms.num_threads(1):
        expected = ms.edge_flow(image, 1.5, features="both")
    for one, other in zip(ms.edge_flow(image, 1.5, features="both"), expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_as_a_method_of_detect_edges(rng):
    image, _ = discs(rng, 5)
    found = ms.detect_edges(image, "edge_flow", scale=1.5)
    own = ms.edge_flow(image, 1.5, closed=False)
    assert_array_equal(found.edges, own.edges)
    regions = ms.detect_edges(image, "edge_flow", scale=1.5, closed=True)
    assert_array_equal(regions.edges, ms.edge_flow(image, 1.5).edges)
    assert (found.edges | ~regions.edges).all()  # regions are enclosed by edges
    assert_array_equal(found.strength, own.strength)
    with pytest.raises(ValueError, match="image must be 2D"):
        ms.detect_edges(np.zeros((4, 5, 6)), "edge_flow")


def test_real_scan(data):
    image_module = pytest.importorskip("PIL.Image")
    folder = data / "nuclei_dsb2018"
    name = sorted(p.name for p in (folder / "images").glob("fluo_*"))[0]
    image = np.asarray(image_module.open(folder / "images" / name))
    labels = np.asarray(image_module.open(folder / "labels" / name))
    image = image[..., :3].mean(-1, dtype=np.float32) if image.ndim == 3 else image
    found = ms.edge_flow(image, 1.5)
    truth = ms.find_boundaries(labels, mode="inner")
    assert ms.boundary_f1(found.edges, truth, 2).recall > 0.6


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "image must be 2D", lambda i: ms.edge_flow(i[None])),
        (ValueError, "image must be 2D", lambda i: ms.edge_flow(i[0])),
        (ValueError, "image must be 2D", lambda i: ms.edge_flow(i, channel_axis=-1)),
        (ValueError, "at least one channel", lambda i: ms.edge_flow(i[None][:0], channel_axis=0)),
        (ValueError, "sigma must be positive", lambda i: ms.edge_flow(i, 0)),
        (TypeError, "sigma must be a number", lambda i: ms.edge_flow(i, "2")),
        (ValueError, "features must be one of", lambda i: ms.edge_flow(i, features="colour")),
        (ValueError, "weights must be one number", lambda i: ms.edge_flow(i, weights=(1, 2))),
        (ValueError, "weights must not all", lambda i: ms.edge_flow(i, weights=(0,))),
        (ValueError, "texture_weight must be", lambda i: ms.edge_flow(i, texture_weight=1.5)),
        (ValueError, "directions must be even", lambda i: ms.edge_flow(i, directions=7)),
        (ValueError, "directions must be from", lambda i: ms.edge_flow(i, directions=2)),
        (ValueError, "low must not exceed high", lambda i: ms.edge_flow(i, low=3, high=2)),
        (ValueError, "high must not be negative", lambda i: ms.edge_flow(i, high=-1)),
        (ValueError, "reach must not be negative", lambda i: ms.edge_flow(i, reach=-1)),
        (ValueError, "min_size must be at least 0", lambda i: ms.edge_flow(i, min_size=-1)),
        (ValueError, "n_regions must be at least 1", lambda i: ms.edge_flow(i, n_regions=0)),
        (ValueError, "spacing must be 2", lambda i: ms.edge_flow(i, spacing=(1,))),
        (TypeError, "image must be bool", lambda i: ms.edge_flow(i.astype(complex))),
    ],
)
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call(np.ones((6, 7)))


@pytest.mark.parametrize(
    ("call", "bytes_per_pixel"),
    [
        ("ms.edge_flow({}, 2)", 37 + 4),
        ("ms.edge_flow({}, 2, features='both')", 37 + 4 * 19),
        ("ms.gabor_bank({}, 2, 6)", 48),  # the result itself
    ],
)
def test_peak_memory(call, bytes_per_pixel):
    setup = """
y, x = np.indices((1500, 1600)).astype(np.float32)
image = np.sin(y / 40) + np.sin(x / 60) + np.random.default_rng(0).normal(0, 0.1, y.shape)
image = image.astype(np.float32); del x, y
small = image[:64, :64].copy()
"""
    got = peak_bytes_per_pixel(
        call.format("image"), setup=setup, warm=call.format("small"), threads=2
    )
    assert got <= bytes_per_pixel + 3
