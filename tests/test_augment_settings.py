"""What an Augmenter refuses."""

from __future__ import annotations

import numpy as np
import pytest

from medseg_fast import augment


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


def test_a_bool_label_has_no_other_fill():
    with pytest.raises(ValueError, match="label must be integers for a label_fill of -100"):
        augment.Augmenter(label_fill=-100)(np.zeros((1, 4, 4)), np.zeros((4, 4), bool), seed=0)
