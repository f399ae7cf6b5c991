"""Batches on the CPU: what each image gives alone, stacked."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import medseg_fast as ms


def test_each_image_is_on_its_own(rng):
    images = rng.random((3, 9, 12))
    for operation, args in [(ms.sobel, ()), (ms.gaussian, (2.0,)), (ms.threshold, (0.5,))]:
        got = ms.batch(operation, images, *args)
        expected = np.stack([operation(image, *args) for image in images])
        assert got.dtype == expected.dtype
        assert_array_equal(got, expected)
    levels = ms.batch(ms.threshold_otsu, images)
    assert_array_equal(levels, [ms.threshold_otsu(image) for image in images])
    labels, counts = ms.batch(ms.label, images > 0.5, return_num=True)
    for i, image in enumerate(images > 0.5):
        expected, count = ms.label(image, return_num=True)
        assert counts[i] == count
        assert_array_equal(labels[i], expected)


def test_arrays_of_the_images_shape_are_taken_apart(rng):
    images, markers = rng.random((2, 9, 12)), rng.integers(0, 3, (2, 9, 12))
    mask = rng.random((9, 12)) < 0.9
    got = ms.batch(ms.watershed, images, markers, mask=mask)
    for i in range(2):
        assert_array_equal(got[i], ms.watershed(images[i], markers[i], mask=mask))
    out = np.zeros((2, 9, 12))
    assert ms.batch(ms.sobel, images, out=out) is out
    assert_array_equal(out[1], ms.sobel(images[1]))
    labels = np.empty(images.shape, np.int32)
    found, counts = ms.batch(ms.label, images > 0.5, out=labels, return_num=True)
    assert found is labels
    assert counts.tolist() == labels.max((1, 2)).tolist()


def test_tensors(rng):
    torch = pytest.importorskip("torch")
    images = torch.from_numpy(rng.random((2, 9, 12)))
    got = ms.batch(ms.canny, images)
    assert isinstance(got, torch.Tensor)
    assert_array_equal(got.numpy(), ms.batch(ms.canny, images.numpy()))


def test_what_is_wrong(rng):
    with pytest.raises(TypeError, match="batch: operation must be a function of medseg_fast"):
        ms.batch(np.sum, np.ones((2, 3)))
    for images in (np.ones((0, 3, 3)), 3):
        with pytest.raises(ValueError, match="batch: images must be at least one"):
            ms.batch(ms.sobel, images)
    minima = np.array([[1, 2, 1], [1, 2, 2]])
    with pytest.raises(ValueError, match="results of local_minima have different shapes"):
        ms.batch(ms.local_minima, minima, indices=True)
