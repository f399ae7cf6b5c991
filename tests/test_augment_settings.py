"""What an Augmenter refuses."""

from __future__ import annotations

import numpy as np
import pytest

from medseg_fast import augment, data


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rotation": -3}, "rotation must be"),
        ({"rotation": (1, 2, 3, 4)}, "rotation must have"),
        ({"scale": 0}, "scale must be one or two ascending numbers above 0"),
        ({"scale": (2, 1)}, "scale must be"),
        ({"gamma": (0, 1)}, "gamma must be"),
        ({"noise": (-1, 1)}, "noise must be one or two ascending numbers from 0 on"),
        ({"blur": np.inf}, "blur must be"),
        ({"low_resolution": 0.5}, "low_resolution must be"),
        ({"contrast": (0, 1)}, "contrast must be"),
        ({"brightness": (1, 0)}, "brightness must be"),
        ({"flip": (3,)}, "flip must be"),
        ({"flip": (2,)}, "flip must name axes below 2"),
        ({"probability": 2}, "probability must lie"),
        ({"probability": {"turn": 1}}, "probability must name changes, got turn"),
        ({"control_points": 0}, "control_points must be"),
        ({"order": 2}, "order must be"),
        ({"fill": "edge"}, "fill must be"),
        ({"label_fill": 2**63}, "label_fill must be from"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=f"Augmenter: {message}"):
        augment.Augmenter(**{"probability": 1.0, **settings})(np.zeros((1, 4, 4)), seed=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a, i, t: a(i[0], t, seed=0), ValueError, "image must have 3 or 4 dimensions"),
        (lambda a, i, t: a(i, t[1:], seed=0), ValueError, "label must have the image's shape"),
        (lambda a, i, t: a(i.astype(complex), seed=0), TypeError, "image must be bool"),
        (lambda a, i, t: a(i, seed=-1), ValueError, "seed must be integers"),
        (lambda a, i, t: a(i, seed="x"), ValueError, "seed must be integers"),
        (lambda a, i, t: a(i, seed=0, spacing=(1,)), ValueError, "spacing must be 2 positive"),
        (lambda a, i, t: a(i, seed=0, out_shape=(1,)), ValueError, "out_shape must have 2"),
        (lambda a, i, t: a(i, seed=0, out_shape=(0, 1)), ValueError, "out_shape must be"),
        (lambda a, i, t: a(i, seed=0, center=(0, np.inf)), ValueError, "center must be 2"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=f"Augmenter: {message}"):
        call(augment.Augmenter(), np.zeros((1, 5, 6)), np.zeros((5, 6), int))


@pytest.mark.parametrize("name", ["grey", "invert"])
def test_flags(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 0.5"):
        augment.Augmenter(**{name: 0.5})


def test_flip_is_no_number():
    with pytest.raises(TypeError, match="flip must be True, False or a sequence of axes, got 3"):
        augment.Augmenter(flip=3)


@pytest.mark.parametrize(
    ("dtype", "fill", "wide"),
    [
        (np.uint8, -100, np.int16),
        (np.uint8, 255, np.uint8),
        (np.uint8, 300, np.int16),
        (np.int8, 200, np.int16),
        (np.uint16, -1, np.int32),
        (np.int32, 2**40, np.int64),
        (np.int64, 2**40, np.int64),
        (np.uint64, 2**40, np.uint64),
        (np.float16, -100, np.float16),
        (np.float32, -100, np.float32),
        (np.float64, 2**40, np.float64),
    ],
)
def test_labels_hold_what_lies_beyond(dtype, fill, wide):
    image, label = np.ones((1, 6, 6)), np.full((6, 6), 7, dtype)
    for change in ({}, {"rotation": (45, 45)}):  # copied, and interpolated
        augmenter = augment.Augmenter(label_fill=fill, probability=1, **change)
        _, labels = augmenter(image, label, seed=0, out_shape=(8, 8))
        assert labels.dtype == wide
        assert np.unique(labels).tolist() == sorted([fill, 7])
        if label.dtype.kind != "f":
            full = np.full_like(label, np.iinfo(dtype).max)
            _, labels = augmenter(image, full, seed=0, out_shape=(8, 8))
            assert np.unique(labels).tolist() == sorted({fill, int(full[0, 0])})
    with pytest.raises(ValueError, match="signed integers for a label_fill of -1, got uint64"):
        augment.Augmenter(label_fill=-1)(image, label.astype(np.uint64), seed=0)


def test_patches_hold_labels_beyond():
    cases = [(np.ones((1, 6, 6)), np.ones((6, 6), np.uint8))]
    sampler = data.PatchSampler(cases, 8, augmenter=augment.Augmenter(label_fill=-100))
    assert np.unique(sampler(0)[1]).tolist() == [-100, 1]


def test_a_bool_label_has_no_other_fill():
    with pytest.raises(ValueError, match="label must be integers for a label_fill of -100"):
        augment.Augmenter(label_fill=-100)(np.zeros((1, 4, 4)), np.zeros((4, 4), bool), seed=0)


def test_it_looks_like_its_settings():
    assert repr(augment.Augmenter()) == "Augmenter()"
    text = repr(augment.Augmenter(rotation=10, gamma=2))
    assert text == "Augmenter(rotation=[(-10.0, 10.0)], gamma=(0.5, 2.0))"
    everything = {
        "elastic": 3,
        "flip": True,
        "probability": {"elastic": 0.9},
        "control_points": 5,
        "order": 3,
        "fill": "nearest",
        "label_fill": -100,
    }
    text = repr(augment.Augmenter(**everything))
    assert text == (
        "Augmenter(flip=True, elastic=(-3.0, 3.0), probability={'flip': 0.5, 'elastic': 0.9}, "
        "control_points=5, order=3, fill='nearest', label_fill=-100)"
    )
    assert repr(eval(text, {"Augmenter": augment.Augmenter})) == text
    assert "flip=(0, 2)" in repr(augment.Augmenter(flip=(0, 2), fill=-1.5, probability=0.5))
    assert "elastic" in repr(augment.standard())
    assert "elastic" not in repr(augment.standard(elastic=None))
