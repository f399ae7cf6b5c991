"""What a network is worth: Dice on cases it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medseg_fast.data._sampler import parts_of
from medseg_fast.metrics import instance_average_precision
from medseg_fast.nn._instances import instances
from medseg_fast.nn._lenet import LeNet5
from medseg_fast.nn._predict import predict
from medseg_fast.nn.mask_rcnn import MaskRCNN

Validator = Callable[[nn.Module], float | Mapping[str, float]]


def validator(
    given: Validator | Sequence[tuple[Any, Any]], window: int | Sequence[int] | None
) -> Validator:
    """A function that measures a network, from what `fit` was given."""
    if callable(given):
        return given
    cases = [
        parts_of("fit", f"case {number} of validation", each)[:2]
        for number, each in enumerate(given)
    ]
    if not cases:
        raise ValueError("fit: validation must have at least one case, got none")
    return lambda network: (
        mean_precision(network, cases)
        if isinstance(network, MaskRCNN)
        else mean_dice(network, cases, window)
    )


def mean_dice(
    network: nn.Module,
    cases: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    window: int | Sequence[int] | None,
) -> dict[str, float]:
    """Mean Dice over classes but 0 and cases, and for each class; classes absent do not count."""
    if isinstance(network, LeNet5):
        window = None  # that of training is the patch around a single pixel
    found: dict[int, list[float]] = {}
    for image, label in cases:
        pixels = _channels_last(image, label)
        with _as_they_are(network):
            labels = predict(network, pixels, window=window, normalise="none")
        for value, dice in class_dice(labels, label).items():
            found.setdefault(value, []).append(dice)
    means = {value: float(np.mean(found[value])) for value in sorted(found)}
    whole = float(np.mean(list(means.values()))) if means else float("nan")
    return {"dice": whole, **{f"dice_{value}": mean for value, mean in means.items()}}


def mean_precision(
    network: Any, cases: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> dict[str, float]:
    """Mean average precision of objects at an IoU of 0.5, and over IoUs from 0.5 to 0.95."""
    rows = []
    for image, label in cases:
        found = instances(network, _channels_last(image, label), intensities="none").labels
        precision = instance_average_precision(found, label)
        rows.append((precision.at(0.5), precision.mean))
    half, mean = np.mean(rows, 0)
    return {"ap50": float(half), "ap50_95": float(mean)}


def _channels_last(image: NDArray[Any], label: NDArray[Any]) -> NDArray[Any]:
    """Without channels where there is one."""
    pixels = image if image.ndim == label.ndim else np.moveaxis(image, 0, -1)
    return pixels[..., 0] if pixels.ndim > label.ndim and pixels.shape[-1] == 1 else pixels


def class_dice(found: NDArray[Any], truth: NDArray[Any]) -> dict[int, float]:
    """Dice of each class but 0 that is in either; pixels of negative truth do not count."""
    known = truth >= 0
    found, truth = found[known].astype(np.int64), truth[known].astype(np.int64)
    size = int(max(found.max(initial=0), truth.max(initial=0))) + 1
    both = np.bincount(found[found == truth], minlength=size)
    total = np.bincount(found, minlength=size) + np.bincount(truth, minlength=size)
    return {k: float(2 * both[k] / total[k]) for k in range(1, size) if total[k]}


@contextmanager
def _as_they_are(network: Any) -> Iterator[None]:
    """Without what the network's file says of spacing: cases are prepared already."""
    saved = getattr(network, "metadata", None)
    if saved:
        network.metadata = {name: saved[name] for name in saved if name == "structured"}
    try:
        yield
    finally:
        if saved:
            network.metadata = saved
