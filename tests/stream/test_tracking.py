"""Regions followed from frame to frame, beside what they are in whole frames."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

import medseg_fast as ms
from medseg_fast import stream
from medseg_fast.stream import GraphCutPlan, TrackedCut, TrackedLevelSet, TrackedRegion


def disc(centre, radius, shape=(60, 80), inside=120):
    y, x = np.indices(shape)
    image = np.full(shape, 30, np.uint8)
    image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] = inside
    return image


TRACKED = [TrackedRegion, TrackedCut]  # those that find a sharp border to the pixel


@pytest.mark.parametrize("tracked", TRACKED)
def test_tracks_a_disc_and_not_its_twin(tracked):
    """The twin, of the same intensity, comes near but does not touch."""
    follow = tracked((60, 80), np.uint8, (30, 20), 100, 140, reach=4)
    for t in range(12):
        alone = disc((30, 20 + 2 * t), 9)
        twin = disc((30, 70 - t), 5)
        found = follow(np.maximum(alone, twin))
        assert not follow.lost
        np.testing.assert_array_equal(found, alone > 100)


def test_intensities_are_followed():
    follow = TrackedRegion((60, 80), np.uint8, (30, 40), 100, 140, multiplier=3)
    rng = np.random.default_rng(0)
    for t in range(20):  # fades from 120 to 82: out of the first interval
        noise = rng.integers(-4, 5, (60, 80))
        image = (disc((30, 40), 10, inside=120 - 2 * t) + noise).astype(np.uint8)
        found = follow(image)
        assert not follow.lost
        truth = disc((30, 40), 10) > 100
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95


@pytest.mark.parametrize("tracked", TRACKED)
def test_says_when_it_lost_the_region_and_finds_it_again(tracked):
    follow = tracked((60, 80), np.uint8, (30, 40), 100, 140)
    seen = disc((30, 40), 10)
    assert follow(seen).any()
    area = follow.area
    for gone in range(1, 4):
        assert not follow(np.full((60, 80), 30, np.uint8)).any()
        assert (follow.lost, follow.frames_lost, follow.area) == (True, gone, area)
    assert follow(seen).sum() == area
    assert (follow.lost, follow.frames_lost) == (False, 0)
    # A leak: all of the image within reach has the region's intensity.
    assert not follow(np.full((60, 80), 120, np.uint8)).any()
    assert follow.lost
    follow.restart()
    assert follow(np.full((60, 80), 120, np.uint8)).all()


@pytest.mark.parametrize("tracked", [*TRACKED, TrackedLevelSet])
def test_python_keeps_nothing_of_a_frame(tracked):
    """Not for later use either: thousands of freed tuples a size make a stream's memory grow."""
    follow = tracked((60, 80), np.uint8, (30, 20), 100, 140, reach=4)
    frames = [disc((30 + t % 3, 20 + t % 5), 9) for t in range(15)]
    for image in frames * 4:
        follow(image)
    gc.collect()  # empties what is kept, which then fills up again
    gc.disable()
    try:
        for image in frames * 8:
            follow(image)
        before = sys.getallocatedblocks()
        for image in frames * 10:
            follow(image)
        assert sys.getallocatedblocks() - before < 30  # of 150 frames
    finally:
        gc.enable()


def test_cut_follows_a_border_that_noise_hides():
    """Growing leaks or frays where the intensities of both sides overlap."""
    follow = TrackedCut((60, 80), np.uint8, (30, 20), 90, 150, reach=4, sigma=40)
    follow(disc((30, 20), 9))
    rng = np.random.default_rng(0)
    follow.restart()
    for t in range(12):
        truth = disc((30, 20 + 2 * t), 9)
        noisy = np.clip(truth + rng.normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
        found = follow(noisy)
        assert not follow.lost
        inside = truth > 100
        assert 2 * (found & inside).sum() / (found.sum() + inside.sum()) > 0.93


def test_follows_a_bone_in_ultrasound(data):
    """The bright line of the bone's surface, on a real sequence."""
    path = data / "us_bone_sequence"
    (file,) = path.rglob("*.mha")
    frames = [frame.array for frame in stream.frames_of(file)]
    assert len(frames) == 21
    first = ndimage.gaussian_filter(frames[0].astype(np.float32), 2)
    seed = tuple(int(i) for i in np.unravel_index(first.argmax(), first.shape))
    follow = TrackedRegion(first.shape, np.float32, seed, 0.5 * first.max(), 255, reach=12)
    kept = 0
    for frame in frames:
        follow(ndimage.gaussian_filter(frame.astype(np.float32), 2))
        kept += not follow.lost
    assert kept >= 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reach": 0}, "reach"),
        ({"multiplier": 0}, "multiplier must be positive"),
        ({"min_overlap": 2}, "min_overlap must be from 0 to 1"),
        ({"max_change": 0.5}, "max_change must be at least 1"),
    ],
)
def test_bad_tracking(options, message):
    with pytest.raises(ValueError, match=message):
        TrackedRegion((6, 8), np.uint8, (1, 1), 0, 1, **options)


def test_a_cut_that_filled_the_frame_is_sought_again():
    follow = TrackedCut((60, 80), np.uint8, (30, 40), 100, 140)
    full, seen = np.full((60, 80), 120, np.uint8), disc((30, 40), 10)
    assert follow(full).all()
    assert follow(full).all()
    np.testing.assert_array_equal(follow(seen), seen > 100)
    np.testing.assert_array_equal(follow(seen), seen > 100)
    assert not follow(full).any()  # has a border now, and leaks
    follow.restart()
    assert follow(full).all()
    assert not follow(np.zeros((60, 80), np.uint8)).any()
    assert follow.lost


def test_nan_has_no_part_in_the_intensities_of_a_region(rng):
    follow = TrackedRegion((60, 80), np.float32, (30, 40), 100, 140, multiplier=5)
    image = (disc((30, 40), 10) + rng.random((60, 80))).astype(np.float32)
    area = int(follow(image).sum())
    image[28, 41] = np.nan
    assert follow(image).sum() == area - 1
    image[20:41, 30:51] = np.nan
    assert not follow(image).any()
    assert follow.lost


def wandering(frames=30, shape=(70, 90), seed=0):
    """A disc on a noisy ground, which moves, grows to the border of the image and shrinks again."""
    rng = np.random.default_rng(seed)
    for t in range(frames):
        radius = 8 + 16 * np.sin(np.pi * t / frames)
        truth = disc((30 + 8 * np.sin(t / 5), 20 + 1.5 * t), radius, shape)
        yield np.clip(truth + rng.normal(0, 6, shape), 0, 255).astype(np.uint8)


def ball(reach):
    return np.ones((2 * reach + 1, 2 * reach + 1), bool)


@pytest.mark.parametrize("options", [{}, {"connectivity": 2, "sigma": 20}, {"spacing": (1, 2)}])
def test_a_cut_in_the_window_is_that_of_the_whole_frame(options):
    """From scratch, on all pixels, with all that are out of reach as background."""
    reach, windows, region = 4, set(), None
    for image in wandering():
        if region is None:
            follow = TrackedCut(image.shape, np.uint8, (30, 20), 90, 150, reach=reach, **options)
            grown = stream.RegionGrowPlan(image.shape, np.uint8, (30, 20), 90, 150)(image)
            first, inside, region = image, grown.copy(), grown.copy()
        found = follow(image)
        far = ~ndimage.binary_dilation(region, ball(reach))
        nowhere = np.zeros_like(far)
        fresh = GraphCutPlan(image.shape, np.uint8, nowhere, far, **options)
        fresh.learn(first, inside, ~inside)
        region = fresh(image)
        assert not follow.lost
        np.testing.assert_array_equal(found, region)
        windows.add(follow._cut.shape)
    assert len(windows) > 1  # it outgrew one at least
    assert follow.area == region.sum()


@pytest.mark.parametrize("multiplier", [None, 4.0])
def test_growth_in_the_window_is_that_in_the_whole_frame(multiplier):
    reach, region = 4, None
    for image in wandering(seed=1):
        if region is None:
            follow = TrackedRegion(
                image.shape, np.uint8, (30, 20), 90, 150, reach=reach, multiplier=multiplier
            )
            region = stream.RegionGrowPlan(image.shape, np.uint8, (30, 20), 90, 150)(image).copy()
        else:
            # What lies beyond the image counts as inside it.
            inside = ndimage.binary_erosion(region, border_value=1)
            low, high = 90.0, 150.0
            if multiplier is not None:
                values = image[inside].astype(np.float64)
                low, high = values.mean() + multiplier * values.std() * np.array([-1, 1])
            near = ndimage.binary_dilation(region, ball(reach))
            allowed = near & (image >= low) & (image <= high)
            labels, _ = ndimage.label(allowed)
            region = np.isin(labels, np.unique(labels[inside & allowed])) & allowed
        found = follow(image)
        assert not follow.lost
        np.testing.assert_array_equal(found, region)


@pytest.mark.parametrize("options", [{}, {"num_iter": 3, "smoothing": 2}, {"lambda1": 2}])
def test_a_level_set_is_that_of_the_box_around_the_last_region(options):
    reach, region = 4, None
    iterations = {"num_iter": 2 * reach, **options}
    for image in wandering(seed=2):
        if region is None:
            follow = TrackedLevelSet(
                image.shape, np.uint8, (30, 20), 90, 150, reach=reach, **options
            )
            region = stream.RegionGrowPlan(image.shape, np.uint8, (30, 20), 90, 150)(image).copy()
        near = ndimage.binary_dilation(region, ball(reach))
        box = tuple(
            slice(max(0, part.start - reach - 1), part.stop + reach + 1)
            for part in ndimage.find_objects(region.astype(int))[0]
        )
        level_set = ms.morphological_chan_vese(image[box], init_level_set=region[box], **iterations)
        region = np.zeros_like(region)
        region[box] = (level_set > 0) & near[box]
        found = follow(image)
        assert not follow.lost
        np.testing.assert_array_equal(found, region)


@pytest.mark.parametrize("tracked", TRACKED)
def test_in_a_volume(tracked):
    z, y, x = np.indices((12, 30, 40))
    follow = tracked((12, 30, 40), np.float32, (6, 15, 10), 0.5, 2, reach=2)
    for t in range(8):
        ball = (z - 6) ** 2 + (y - 15) ** 2 + (x - 10 - t) ** 2 <= 16
        np.testing.assert_array_equal(follow(ball.astype(np.float32)), ball)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_level_set_follows_a_disc_in_noise_and_not_its_twin(rng):
    follow = TrackedLevelSet((60, 80), np.uint8, (30, 20), 90, 150, reach=4)
    for t in range(12):
        alone = disc((30, 20 + 2 * t), 9)
        clean = np.maximum(alone, disc((30, 70 - t), 5))
        noise = rng.normal(0, 15 if t else 0, clean.shape)
        found = follow(np.clip(clean + noise, 0, 255).astype(np.uint8))
        assert not follow.lost
        assert dice(found, alone > 100) > 0.93


def test_a_level_set_says_when_it_lost_the_region_and_finds_it_again():
    follow = TrackedLevelSet((60, 80), np.uint8, (30, 40), 100, 140)
    seen = disc((30, 40), 10)
    assert follow(seen).any()
    area = follow.area
    for gone in range(1, 4):
        assert not follow(np.full((60, 80), 30, np.uint8)).any()
        assert (follow.lost, follow.frames_lost, follow.area) == (True, gone, area)
    assert dice(follow(seen), seen > 100) > 0.95
    assert (follow.lost, follow.frames_lost) == (False, 0)
    with pytest.raises(ValueError, match="num_iter must be"):
        TrackedLevelSet((60, 80), np.uint8, (30, 40), 100, 140, num_iter=0)


@pytest.mark.parametrize("tracked", [*TRACKED, TrackedLevelSet])
def test_no_array_per_frame(tracked):
    """Of the image's size, that is, whatever the window does."""
    frames = list(wandering(12, (500, 600)))
    follow = tracked((500, 600), np.uint8, (30, 20), 90, 150, reach=4)
    follow(frames[0])
    tracemalloc.start()
    for frame in frames[1:]:
        follow(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not follow.lost
    assert peak < 500 * 600
