"""Texture: against IBSI's phantom, twins, scikit-image, and by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from _phantom import PHANTOM
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast.measure import (
    glcm,
    glcm_features,
    gldzm,
    gldzm_features,
    glrlm,
    glrlm_features,
    glszm,
    glszm_features,
    measure,
    ngldm,
    ngldm_features,
    ngtdm,
    ngtdm_features,
)
from medseg_fast.measure._levels import directions

twin = reference.texture

# Of the IBSI's reference manual, to as many digits as it gives.
IBSI = {
    # By volume, directions merged.
    "glcm_joint_maximum": 0.509,
    "glcm_joint_average": 2.15,
    "glcm_joint_variance": 3.13,
    "glcm_joint_entropy": 2.57,
    "glcm_difference_average": 1.38,
    "glcm_difference_variance": 3.21,
    "glcm_difference_entropy": 1.64,
    "glcm_sum_average": 4.3,
    "glcm_sum_variance": 7.41,
    "glcm_sum_entropy": 2.11,
    "glcm_angular_second_moment": 0.291,
    "glcm_contrast": 5.12,
    "glcm_dissimilarity": 1.38,
    "glcm_inverse_difference": 0.688,
    "glcm_normalised_inverse_difference": 0.856,
    "glcm_inverse_difference_moment": 0.631,
    "glcm_normalised_inverse_difference_moment": 0.902,
    "glcm_inverse_variance": 0.0574,
    "glcm_correlation": 0.183,
    "glcm_autocorrelation": 5.19,
    "glcm_cluster_tendency": 7.41,
    "glcm_cluster_shade": 17.4,
    "glcm_cluster_prominence": 147,
    "glcm_information_correlation_1": -0.0288,
    "glcm_information_correlation_2": 0.269,
    "glrlm_short_run_emphasis": 0.729,
    "glrlm_long_run_emphasis": 2.76,
    "glrlm_low_grey_level_run_emphasis": 0.607,
    "glrlm_high_grey_level_run_emphasis": 9.64,
    "glrlm_short_run_low_grey_level_emphasis": 0.372,
    "glrlm_short_run_high_grey_level_emphasis": 8.67,
    "glrlm_long_run_low_grey_level_emphasis": 2.16,
    "glrlm_long_run_high_grey_level_emphasis": 15.6,
    "glrlm_grey_level_non_uniformity": 281,
    "glrlm_normalised_grey_level_non_uniformity": 0.43,
    "glrlm_run_length_non_uniformity": 328,
    "glrlm_normalised_run_length_non_uniformity": 0.501,
    "glrlm_run_percentage": 0.68,
    "glrlm_grey_level_variance": 3.48,
    "glrlm_run_length_variance": 0.598,
    "glrlm_run_entropy": 2.62,
    "glszm_small_zone_emphasis": 0.255,
    "glszm_large_zone_emphasis": 550,
    "glszm_low_grey_level_zone_emphasis": 0.253,
    "glszm_high_grey_level_zone_emphasis": 15.6,
    "glszm_small_zone_low_grey_level_emphasis": 0.0256,
    "glszm_small_zone_high_grey_level_emphasis": 2.76,
    "glszm_large_zone_low_grey_level_emphasis": 503,
    "glszm_large_zone_high_grey_level_emphasis": 1490,
    "glszm_grey_level_non_uniformity": 1.4,
    "glszm_normalised_grey_level_non_uniformity": 0.28,
    "glszm_zone_size_non_uniformity": 1,
    "glszm_normalised_zone_size_non_uniformity": 0.2,
    "glszm_zone_percentage": 0.0676,
    "glszm_grey_level_variance": 2.64,
    "glszm_zone_size_variance": 331,
    "glszm_zone_size_entropy": 2.32,
    "gldzm_small_distance_emphasis": 1,
    "gldzm_large_distance_emphasis": 1,
    "gldzm_low_grey_level_zone_emphasis": 0.253,
    "gldzm_high_grey_level_zone_emphasis": 15.6,
    "gldzm_small_distance_low_grey_level_emphasis": 0.253,
    "gldzm_small_distance_high_grey_level_emphasis": 15.6,
    "gldzm_large_distance_low_grey_level_emphasis": 0.253,
    "gldzm_large_distance_high_grey_level_emphasis": 15.6,
    "gldzm_grey_level_non_uniformity": 1.4,
    "gldzm_normalised_grey_level_non_uniformity": 0.28,
    "gldzm_zone_distance_non_uniformity": 5,
    "gldzm_normalised_zone_distance_non_uniformity": 1,
    "gldzm_zone_percentage": 0.0676,
    "gldzm_grey_level_variance": 2.64,
    "gldzm_zone_distance_variance": 0,
    "gldzm_zone_distance_entropy": 1.92,
    "ngtdm_coarseness": 0.0296,
    "ngtdm_contrast": 0.584,
    "ngtdm_busyness": 6.54,
    "ngtdm_complexity": 13.5,
    "ngtdm_strength": 0.763,
    "ngldm_low_dependence_emphasis": 0.045,
    "ngldm_high_dependence_emphasis": 109,
    "ngldm_low_grey_level_count_emphasis": 0.693,
    "ngldm_high_grey_level_count_emphasis": 7.66,
    "ngldm_low_dependence_low_grey_level_emphasis": 0.00963,
    "ngldm_low_dependence_high_grey_level_emphasis": 0.736,
    "ngldm_high_dependence_low_grey_level_emphasis": 102,
    "ngldm_high_dependence_high_grey_level_emphasis": 235,
    "ngldm_grey_level_non_uniformity": 37.9,
    "ngldm_normalised_grey_level_non_uniformity": 0.512,
    "ngldm_dependence_count_non_uniformity": 4.86,
    "ngldm_normalised_dependence_count_non_uniformity": 0.0657,
    "ngldm_dependence_count_percentage": 1,
    "ngldm_grey_level_variance": 3.05,
    "ngldm_dependence_count_variance": 22.1,
    "ngldm_dependence_count_entropy": 4.4,
    "ngldm_dependence_count_energy": 0.0533,
}
# The mean of the directions' features.
IBSI_AVERAGED = {"joint_maximum": 0.503, "joint_average": 2.14, "contrast": 5.32}


@pytest.fixture(scope="module")
def phantom():
    return measure(PHANTOM > 0, PHANTOM, (2, 2, 2), texture=True)


@pytest.mark.parametrize("feature", IBSI)
def test_phantom_has_the_ibsis_value(phantom, feature):
    (found,) = phantom[feature]
    assert float(f"{found:.3g}") == pytest.approx(float(f"{IBSI[feature]:.3g}"), rel=1e-9)


def test_phantom_has_no_other_features(phantom):
    assert {name for name in phantom if name[:2] in ("gl", "ng")} == set(IBSI)


def test_phantom_with_averaged_directions():
    features = glcm_features(glcm(PHANTOM), merge=False)
    for name, value in IBSI_AVERAGED.items():
        assert features[name] == pytest.approx(value, abs=0.005), name


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_cooccurrence_equals_the_twin(rng, shape, threads):
    levels = rng.integers(0, 5, shape)
    steps = directions(len(shape))
    assert len(steps) == (3 ** len(shape) - 1) // 2
    ours = glcm(levels)
    for i, step in enumerate(steps):
        counts = twin.cooccurrence(levels, step, 4)
        assert_array_equal(ours[i], counts + counts.T)
    far = [(0,) * (len(shape) - 1) + (-3,)]
    counts = twin.cooccurrence(levels, far[0], 4)
    assert_array_equal(glcm(levels, offsets=far)[0], counts + counts.T)


def test_cooccurrence_is_scikit_images(rng):
    feature = pytest.importorskip("skimage.feature", reason="scikit-image is not installed")
    image = rng.integers(1, 9, (30, 40)).astype(np.uint8)
    theirs = feature.graycomatrix(image - 1, [1], [0, math.pi / 2], levels=8, symmetric=True)
    ours = glcm(image, offsets=[(0, 1), (1, 0)])
    assert_array_equal(ours, np.moveaxis(theirs[:, :, 0], -1, 0))
    part = glcm_features(ours[:1])
    theirs = theirs[:, :, :, :1].astype(float) / theirs[:, :, :, :1].sum()
    for name, peer in (("contrast", "contrast"), ("inverse_difference_moment", "homogeneity")):
        assert part[name] == pytest.approx(feature.graycoprops(theirs, peer)[0, 0])
    assert part["correlation"] == pytest.approx(feature.graycoprops(theirs, "correlation")[0, 0])


def test_texture_of_nearly_nothing():
    assert math.isnan(glcm_features(glcm([[1, 0, 2]], offsets=[(0, 1)]))["contrast"])
    flat = glcm_features(glcm(np.ones((3, 3), int)))
    assert flat["joint_entropy"] == flat["contrast"] == 0
    assert flat["correlation"] == flat["angular_second_moment"] == 1
    with pytest.raises(ValueError, match="levels must not be negative"):
        glcm([[-1]])
    with pytest.raises(ValueError, match="levels must be at most 2, got 3"):
        glcm([[3]], 2)
    with pytest.raises(TypeError, match="levels must be integers"):
        glcm([[0.5]])


levels = hnp.arrays(
    np.uint8,
    st.one_of(
        st.tuples(st.integers(1, 12)),
        st.tuples(*[st.integers(1, 7)] * 2),
        st.tuples(*[st.integers(1, 5)] * 3),
    ),
    elements=st.integers(0, 3),
)


def as_counter(counts, sizes):
    """Level and size of all that is counted."""
    return Counter({(i + 1, int(sizes[j])): int(counts[i, j]) for i, j in np.argwhere(counts)})


@settings(max_examples=80, deadline=None)
@given(levels, st.sampled_from([1, 2, 5]))
def test_counts_equal_the_twin(image, threads):
    with ms.num_threads(threads):
        lengths, zones = glrlm(image), glszm(image)
        near, tones = gldzm(image), ngtdm(image)
        dependences = [ngldm(image, coarseness=c) for c in (0, 1)]
    for counts, offset in zip(lengths, directions(image.ndim), strict=True):
        expected = twin.runs(image, offset)
        assert as_counter(counts, np.arange(1, counts.shape[1] + 1)) == expected
    expected = twin.zones(image)
    assert as_counter(zones.counts, zones.sizes) == Counter((i, len(z)) for i, z in expected)
    steps = {index: twin.steps_to_outside(image > 0, index) for index in np.ndindex(image.shape)}
    distances = Counter((i, min(steps[index] for index in zone)) for i, zone in expected)
    assert as_counter(near.counts, near.sizes) == distances
    assert zones.voxels == near.voxels == np.count_nonzero(image)
    differences = twin.tone_differences(image)
    for i, (voxels, total) in enumerate(zip(*tones, strict=True)):
        assert voxels == len(differences.get(i + 1, []))
        assert total == pytest.approx(sum(differences.get(i + 1, [])), abs=1e-9)
    for coarseness, counts in enumerate(dependences):
        assert counts.shape[1] == 3**image.ndim
        assert as_counter(counts, np.arange(counts.shape[1])) == twin.dependences(image, coarseness)


def test_border_of_another_region():
    inner = np.zeros((5, 5), int)
    inner[2, 2] = 1
    assert gldzm(inner).sizes.tolist() == [1]
    assert gldzm(inner, mask=np.ones((5, 5), bool)).sizes.tolist() == [3]
    with pytest.raises(ValueError, match=r"gldzm: mask must have shape \(5, 5\), got \(4, 5\)"):
        gldzm(inner, mask=np.ones((4, 5), bool))


def test_features_of_nearly_nothing():
    empty = np.zeros((3, 4), np.uint8)
    for features in (
        glrlm_features(glrlm(empty)),
        glszm_features(glszm(empty)),
        gldzm_features(gldzm(empty)),
        ngtdm_features(ngtdm(empty)),
        ngldm_features(ngldm(empty)),
        glrlm_features(glrlm(np.zeros((0, 3), np.uint8))),
        ngldm_features(ngldm(np.zeros((0, 3), np.uint8))),
    ):
        assert all(math.isnan(value) for value in features.values()), features
    flat = np.ones((3, 3), int)
    tones = ngtdm_features(ngtdm(flat))
    assert tones == {
        "coarseness": 1e6,
        "contrast": 0.0,
        "busyness": 0.0,
        "complexity": 0.0,
        "strength": 0.0,
    }
    assert glszm_features(glszm(flat))["large_zone_emphasis"] == 81
    # In a row, a column and along both diagonals: 3, 3, 5 and 5 runs.
    assert glrlm_features(glrlm(flat))["run_percentage"] == pytest.approx(16 / 36)
    averaged = glrlm_features(glrlm(flat), merge=False)["run_percentage"]
    assert averaged == pytest.approx((3 + 3 + 5 + 5) / 36)


@pytest.mark.parametrize("function", [glcm, glrlm, glszm, gldzm, ngtdm, ngldm])
def test_bad_levels(function):
    name = function.__name__
    with pytest.raises(TypeError, match=f"{name}: levels must be integers, got float64"):
        function([0.5])
    with pytest.raises(ValueError, match=f"{name}: levels must not be negative, got -1"):
        function([-1])
    with pytest.raises(ValueError, match=f"{name}: levels must be at most 2, got 3"):
        function([3], 2)
    with pytest.raises(ValueError, match=f"{name}: levels must have at least one axis"):
        function(3)


def test_bad_options():
    with pytest.raises(ValueError, match="glrlm: offsets must have steps of -1, 0 and 1"):
        glrlm([[1]], offsets=[(0, 2)])
    with pytest.raises(ValueError, match="glrlm: offsets must have steps of -1, 0 and 1"):
        glrlm([[1]], offsets=[(0, 0)])
    with pytest.raises(ValueError, match="glrlm: offsets must have 2 steps each"):
        glrlm([[1]], offsets=[])
    with pytest.raises(ValueError, match="ngldm: coarseness must be"):
        ngldm([[1]], coarseness=-1)


def test_texture_of_wide_integers_has_256_levels():
    image = np.random.default_rng(3).integers(-1000, 3000, (3, 12, 12), np.int16)
    mask = np.ones(image.shape, bool)
    image[0, 0, :2] = -1000, 2999
    table = measure(mask, image, texture=True)
    assert table["histogram"].shape == (1, 4000)  # as without texture
    chosen = measure(mask, image, bin_width=16, texture=True)
    assert chosen["histogram"].shape == (1, 250)
    for name in chosen:
        if name.startswith(("gl", "ng")):
            assert_array_equal(table[name], chosen[name])


def test_texture_of_a_tumour():
    from medseg_fast import io

    found = io.example("ct_lung_tumour")
    image, truth = io.read(found.image), io.read(found.truth)
    table = measure(truth.array, image.array, image.spacing, bin_width=25, texture=True)
    row = table.rows()[0]
    assert all(math.isfinite(row[name]) for name in IBSI)
    assert 0 < row["glszm_zone_percentage"] == row["gldzm_zone_percentage"] < 1
