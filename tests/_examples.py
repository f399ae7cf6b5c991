"""One call of every registered operation, for tests of what all of them promise.

Values are found by parameter name; an operation whose parameters need others has its own entry.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np

from medseg_fast._dispatch import OPERATIONS

SHAPE = (21, 37)


def _image(dtype: Any, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, Any]:
    """Two bright blobs on a ramp with noise: thresholds, seeds and components all have work."""
    rng = np.random.default_rng(7)
    grid = np.indices(shape).astype(np.float64)
    image = 20 + sum(grid) + rng.normal(0, 4, shape)
    for center in ((0.3, 0.3, 0.5), (0.6, 0.7, 0.5)):
        away = sum((g - c * n) ** 2 for g, c, n in zip(grid, center, shape, strict=False))
        image[away < 30] += 90
    return image.round().clip(0, 255).astype(dtype)


def _by_name(dtype: Any) -> dict[str, Any]:
    image = _image(dtype)
    labels = (image > 110).astype(np.int32)
    return {
        "image": image,
        "data": image,
        "input": image,
        "t": 110,
        "low": 60,
        "high": 110,
        "lower": 90,
        "upper": 250,
        "seeds": [(6, 11)],
        "seed_point": (6, 11),
        "seed1": (6, 11),
        "seed2": (1, 1),
        "tolerance": 40,
        "sigma": 1.5,
        "low_sigma": 1,
        "h": 10,
        "new_value": 1,
        "array": image,
        "costs": image,
        "start": (6, 11),
        "starts": [(6, 11)],
        "end": (1, 1),
        "ends": [(1, 1)],
        "pred": labels > 0,
        "truth": image > 100,
        "tolerance_mm": 1.5,
        "y_true": labels,
        "y_pred": 1 * (image > 100),
        "y_score": image,
        "labels_true": labels,
        "labels_pred": 1 * (image > 100),
        "labels": labels,
        "markers": labels,
        "label_image": labels,
        "label_img": labels,
        "mask": labels > 0,
        "ar": labels > 0,
        "a": labels > 0,
        "b": image > 100,
        "foreground_seeds": image > 130,
        "background_seeds": image < 40,
        "source": image,
        "sink": np.full_like(image, 110),
        "weights": 20,
        "num_iter": 6,
        "speed": 1 / (1 + image.astype(np.float32)),
        "init": labels > 0,
        "snake": np.array([(6, 5), (9, 11), (6, 17), (3, 11)]),
        "gimage": image,
        "unary": np.stack([image // 3, 50 - image // 9, 20 + image // 8], -1),
        "pairwise": 9 * (1 - np.eye(3, dtype=np.uint8)),
    }


def _features(dtype: Any) -> dict[str, Any]:
    """Arguments of the operations in `medseg_fast.nn.functional`."""
    rng = np.random.default_rng(8)
    features = rng.standard_normal((2, 4, 12, 19)).astype(dtype)
    return {
        "skip": rng.standard_normal((2, 3, 15, 20)).astype(dtype),
        "weight": rng.standard_normal((4, 4, 2, 2)).astype(dtype),
        "input": features,
        "features": [features, features[:, :, ::2, ::2]],
        "feature_sizes": ((2, 4, 12, 19), (2, 4, 6, 10)),
        "x": features,
        "logits": features,
        "scale_factor": 3,
        "kernel_size": 2,
        "indices": rng.permuted(np.tile(np.arange(12 * 19), (2, 4, 1)), axis=2).reshape(
            2, 4, 12, 19
        ),
        "boxes": np.array([[0, 1, 2, 9, 8], [1, 4, 1, 18, 11], [0, 3, 3, 5, 5]], dtype),
        "output_size": 3,
        "gradient": rng.standard_normal((3, 4, 2, 2)).astype(dtype),
        "input_size": features.shape,
    }


def _detections() -> dict[str, Any]:
    """Overlapping boxes and their scores."""
    rng = np.random.default_rng(9)
    low = rng.random((60, 2), np.float32) * 20
    return {
        "boxes": np.concatenate([low, low + 8], 1),
        "scores": rng.random(60, np.float32),
        "iou_threshold": 0.4,
    }


# Label images of three labels.
_BLOBS = [np.digitize(_image(np.uint8), [80, t]) for t in (110, 100)]

# Arguments beside (or instead of) what the names give.
_OWN: dict[str, dict[str, Any]] = {
    "region_growing": {"criterion": lambda value, mean, std, seed: abs(value - seed) < 40},
    "grab_cut": {"box": ((2, 20), (5, 33))},
    "isolated_connected": {"lower": 15, "seed2": (13, 26)},
    "multiscale_roi_align": {"image_shapes": ((24, 38), (20, 30)), "canonical_scale": 16},
    "multiscale_roi_align_backward": {"scales": (0.5, 0.25), "canonical_scale": 16},
    "paste_masks": {
        "masks": np.random.default_rng(9).random((60, 1, 5, 5), np.float32),
        "boxes": _detections()["boxes"],
        "image_shape": (30, 33),
    },
    "nms": _detections(),
    "batched_nms": {**_detections(), "idxs": np.arange(60) % 3},
    "soft_nms": _detections(),
    "reconstruction": {"seed": _image(np.uint8) // 2, "mask": _image(np.uint8)},
    "markers_from_minima": {"h": 10, "min_size": 4},
    "resample_argmax": {"size": (30, 20)},
    **{
        name: {"pred": _BLOBS[0], "truth": _BLOBS[1]}
        for name in ("label_overlap", "instance_average_precision")
    },
    "adapted_rand_error": {"image_true": _BLOBS[0], "image_test": _BLOBS[1]},
    "variation_of_information": {"image0": _BLOBS[0], "image1": _BLOBS[1]},
}


def example(name: str, dtype: Any = np.uint8) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of a call of an operation; networks get floats."""
    if OPERATIONS[name].body.__module__.startswith("medseg_fast.nn."):
        dtype = np.result_type(dtype, np.float32)
        given = {**_by_name(dtype), **_features(dtype), **copy.deepcopy(_OWN.get(name, {}))}
    else:
        given = {**_by_name(dtype), **copy.deepcopy(_OWN.get(name, {}))}
    args, kwargs = [], {}
    for parameter in inspect.signature(OPERATIONS[name].body).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.default is parameter.empty or parameter.name == "image":
            if parameter.name not in given:
                raise LookupError(f"tests/_examples.py: no value for {name}'s {parameter.name}")
            args.append(given[parameter.name])
        elif parameter.name in _OWN.get(name, {}):
            kwargs[parameter.name] = given[parameter.name]
    return args, kwargs
