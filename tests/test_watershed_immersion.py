from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.watershed_immersion.watershed_immersion


@pytest.mark.parametrize("line", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_reference(rng, isa, dtype, line):
    for shape in (s for s in SHAPES if np.prod(s) < 200):
        plateaus = rng.integers(0, 4, shape).astype(dtype)
        for image in (random_image(rng, shape, dtype), plateaus):
            for connectivity in {1, len(shape)}:
                got = ms.watershed_immersion(image, connectivity, watershed_line=line)
                assert got.dtype == np.int32
                assert_array_equal(got, twin(image, connectivity, None, line))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_plateaus_and_masks(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = rng.integers(0, data.draw(st.integers(1, 6)), shape).astype(np.float32)
    image[rng.random(shape) < data.draw(st.sampled_from([0, 0.2]))] = np.nan
    mask = rng.random(shape) < data.draw(st.sampled_from([0.5, 0.9, 1]))
    connectivity = data.draw(st.integers(1, len(shape)))
    with ms.num_threads(data.draw(st.integers(1, 3))):
        for line in (False, True):
            got, count = ms.watershed_immersion(
                image, connectivity, mask=mask, watershed_line=line, return_num=True
            )
            assert_array_equal(got, twin(image, connectivity, mask, line))
            assert count == got.max(initial=0)


def smooth(shape, dtype, step):
    """Hills with broad plateaus: quantised waves."""
    grid = np.indices(shape)
    waves = sum(np.sin(g / (5.0 + axis)) for axis, g in enumerate(grid))
    waves = waves + np.sin(grid[0] * grid[-1] / 300)
    return (np.floor((waves + 4) / step)).astype(dtype)


def test_threads_agree_on_large_plateaus(threads):
    for shape, step in [((700, 900), 0.4), ((60, 90, 110), 0.7), ((400_000,), 0.5)]:
        image = smooth(shape, np.uint8, step)
        for line in (False, True):
            got = ms.watershed_immersion(image, watershed_line=line)
            with ms.num_threads(1):
                assert_array_equal(got, ms.watershed_immersion(image, watershed_line=line))


def test_minima_keep_the_numbers_of_label(rng, threads):
    for shape in [(300,), (60, 70), (30, 20, 25)]:
        image = rng.integers(0, 30, shape).astype(np.uint8)
        for connectivity in {1, len(shape)}:
            minima = ms.local_minima(image, connectivity=connectivity)
            numbers, count = ms.label(minima, return_num=True, connectivity=connectivity)
            labels, basins = ms.watershed_immersion(image, connectivity, return_num=True)
            assert basins == count
            assert_array_equal(labels[minima], numbers[minima])


def test_many_neighbours_in_one_byte(rng):
    image = rng.integers(0, 3, (2, 2, 2, 2, 2, 2)).astype(np.uint8)  # 728 steps
    assert_array_equal(ms.watershed_immersion(image, 6), twin(image, 6))


def test_long_paths(threads):
    ramp = np.arange(2_000_000, 0, -1, dtype=np.int32)
    assert (ms.watershed_immersion(ramp) == 1).all()
    assert (ms.watershed_immersion(ramp, watershed_line=True) == 1).all()
    plateau = np.zeros(500_001, np.uint8)
    plateau[[0, -1]] = 0
    plateau[1:-1] = 1
    labels = ms.watershed_immersion(plateau, watershed_line=True)
    assert (labels == 0).nonzero()[0].tolist() == [250_000]  # as far from either end


def test_constant_image_is_one_basin():
    assert (ms.watershed_immersion(np.full((4, 5), 3.5)) == 1).all()
    labels, count = ms.watershed_immersion(np.zeros((0, 4)), return_num=True)
    assert labels.shape == (0, 4)
    assert count == 0


def test_layout_and_out(rng, layout):
    image = random_image(rng, (5, 9, 8), np.float32)
    expected = twin(image)
    assert_array_equal(ms.watershed_immersion(layout(image)), expected)
    mask = rng.random(image.shape) < 0.8
    got = ms.watershed_immersion(image, mask=layout(mask))
    assert_array_equal(got, twin(image, 1, mask))
    assert_array_equal(ms.watershed_immersion(image, mask=mask.astype(float)), got)
    out = layout(np.ones(image.shape, np.int32))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.watershed_immersion(image, out=out)
        return
    assert ms.watershed_immersion(image, out=out) is out
    assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "image must be bool, integer or float", {"image": np.zeros((3, 3), complex)}),
        (ValueError, "image must have at least one dimension", {"image": 3}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (ValueError, "mask must have shape", {"mask": np.zeros(3, bool)}),
        (ValueError, "out must have shape", {"out": np.zeros((3, 3), np.int64)}),
    ],
)
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=f"watershed_immersion: {message}"):
        ms.watershed_immersion(**{"image": np.zeros((3, 3)), **arguments})


@pytest.mark.parametrize(
    ("dtype", "options", "most"),
    [("uint8", "", 4), ("float32", "", 8), ("uint8", ", watershed_line=True", 5)],
)
def test_memory(dtype, options, most):
    setup = "image = np.random.default_rng(0).integers(0, 200, (150, 200, 220))"
    setup += f".astype(np.{dtype})\nsmall = image[:8].copy()"
    call = "ms.watershed_immersion({}" + options + ")"
    got = peak_bytes_per_pixel(
        call.format("image"), setup=setup, warm=call.format("small"), threads=2
    )
    # 4 bytes per run of minima, and here every eighth pixel is one; a bit per pixel beside.
    assert got <= most + 1
