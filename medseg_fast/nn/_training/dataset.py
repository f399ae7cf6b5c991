"""Images and labels from folders, as networks learn from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast import io
from medseg_fast.data import Pair, read_pairs
from medseg_fast.nn._intensities import scaling

Array = NDArray[Any]

_UNKNOWN = -100  # the losses' `ignore_index`


class Case(NamedTuple):
    """A case in memory."""

    name: str
    image: io.Volume  # as it was read, channels last
    truth: Array  # labels as they were read
    pixels: Array  # (channels, ...) float32, normalised, at the spacing of the training
    label: Array  # (...) of the target, at that spacing


def pairs(images: Sequence[Path], masks: Path) -> list[Pair]:
    """The masks of a folder with their images, in one folder or one for each channel."""
    found = [read_pairs(folder, masks) for folder in images]
    return [
        Pair(parts[0].name, tuple(path for part in parts for path in part.images), parts[0].mask)
        for parts in zip(*found, strict=True)  # each has all masks, sorted alike
    ]


def read_image(paths: Sequence[Path], channels: int | None = None) -> io.Volume:
    """One image, its channels last; grey ones as often as there are channels, without alpha."""
    volumes = [io.read(path) for path in paths]
    parts = []
    for path, volume in zip(paths, volumes, strict=True):
        if "t" in volume.axes:
            raise ValueError(f"{path}: has time: give single images")
        array = volume.array if "c" in volume.axes else volume.array[..., None]
        if array.shape[-1] in (2, 4) and volume.metadata.get("format") == "PNG":
            array = array[..., :-1]  # alpha
        if array.shape[:-1] != volumes[0].spatial_shape:
            raise ValueError(
                f"{path}: shape {array.shape[:-1]}, but {paths[0]}: {volumes[0].spatial_shape}"
            )
        parts.append(array)
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
    if channels is not None and whole.shape[-1] == 1 < channels:
        whole = np.repeat(whole, channels, -1)
    axes = volumes[0].axes.replace("c", "") + "c"
    return volumes[0].like(whole, axes=axes)


def read_label(path: Path) -> Array:
    """Whole numbers; of pictures in colour the luminance counts if it is one value a class."""
    volume = io.read(path)
    array: Array = volume.array
    if "c" in volume.axes:
        if not (array[..., :1] == array[..., : min(3, array.shape[-1])]).all():
            raise ValueError(f"{path}: labels must be whole numbers, not colours")
        array = array[..., 0]
    if array.dtype.kind == "f":
        whole = array.astype(np.int64) if np.isfinite(array).all() else None
        if whole is None or not np.array_equal(whole, array):
            raise ValueError(f"{path}: labels must be whole numbers")
        return np.asarray(whole)
    return array


def target(truth: Array, kind: str) -> Array:
    """What a network learns of labels: the classes; inside and outside; or objects and their seams.

    "instances": 1 in an object, 2 in it beside another one, so that objects that touch are told
    apart. (A rim all around is easier to learn, but is then drawn around two as around one.)
    "objects": each object's number, for a network that finds objects itself. Whatever is negative
    is not labelled, which the losses know as -100.
    """
    if kind in ("classes", "objects"):
        return np.where(truth < 0, _UNKNOWN, truth) if truth.dtype.kind == "i" else truth
    inside: NDArray[np.bool_] = truth > 0
    if kind == "mask":
        return np.where(truth < 0, _UNKNOWN, inside).astype(np.int8)
    numbers = np.where(inside, truth, 0).astype(np.int64)
    seams = _seams(numbers, 2)
    # Objects that have nothing else have thinner ones.
    large = np.isin(numbers, np.unique(numbers[inside & ~seams]))
    parts = inside * (1 + np.where(large, seams, _seams(numbers, 1)))
    return np.where(truth < 0, _UNKNOWN, parts).astype(np.int8)


def _seams(numbers: Array, width: int) -> NDArray[np.bool_]:
    """Pixels of objects that are at most so many from another object."""
    window = np.ones((2 * width + 1,) * numbers.ndim, bool)
    inside, above = numbers > 0, numbers.max(initial=0) + 1
    largest = ms.dilation(numbers, window)
    smallest = above - ms.dilation(np.where(inside, above - numbers, 0), window)
    found: NDArray[np.bool_] = inside & (largest != smallest)
    return found


def intensities(array: Array, how: Any) -> Array:
    """Channels last in, channels first out, float32; as `predict` prepares them."""
    pixels = array.astype(np.float32)
    scaling("train", array, how).apply(pixels)
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def read_case(
    pair: Pair,
    *,
    channels: int | None,
    kind: str,
    how: Any,
    spacing: Sequence[float] | None,
    unit: str = "mm",
) -> Case:
    """Read, check, normalise, resample."""
    image, truth = read_image(pair.images, channels), read_label(pair.mask)
    own = image.spacing if unit == "mm" else (1.0,) * truth.ndim
    if image.array.shape[:-1] != truth.shape:
        raise ValueError(
            f"{pair.mask}: shape {truth.shape}, but {pair.images[0]}: {image.array.shape[:-1]}"
        )
    pixels, label = intensities(image.array, how), target(truth, kind)
    if spacing is not None:
        if (unit == "mm" and not image.has_geometry) or len(spacing) != label.ndim:
            raise ValueError(f"{pair.images[0]}: has no spacing on {len(spacing)} axes")
        size = tuple(
            max(1, round(n * have / want))
            for n, have, want in zip(label.shape, own, spacing, strict=True)
        )
        pixels, label = resampled(pixels, label, size)
    return Case(pair.name, image, truth, pixels, np.ascontiguousarray(label))


def resampled(pixels: Array, label: Array, size: tuple[int, ...]) -> tuple[Array, Array]:
    """Images linearly, labels by the nearest pixel."""
    if label.shape == size:
        return pixels, label
    import torch

    mode = "trilinear" if len(size) == 3 else "bilinear"
    given = torch.from_numpy(pixels)[None]
    image = torch.nn.functional.interpolate(given, size, mode=mode, align_corners=False)
    for axis, (new, old) in enumerate(zip(size, label.shape, strict=True)):
        label = label.take((2 * np.arange(new) + 1) * old // (2 * new), axis)
    return image[0].numpy(), label


class Split(NamedTuple):
    """Cases by what they are for."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]


def patients(names: Sequence[str], pattern: str | None) -> list[str]:
    """Whose each case is: what the regular expression finds in its name, else the name."""
    if pattern is None:
        return list(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"data.patient must be a regular expression, got {pattern!r}: {error}"
        ) from None
    found = [expression.search(name) for name in names]
    return [m.group(1 if m.re.groups else 0) if m else n for m, n in zip(found, names, strict=True)]


def split(
    cases: Sequence[Pair],
    *,
    exclude: Sequence[str] = (),
    test: Sequence[str],
    validation: float | Sequence[str],
    patient: str | None,
    folds: Callable[[Sequence[str]], tuple[list[int], list[int]]] | None = None,
    seed: int = 0,
) -> Split:
    """Which cases are learnt from; those of one patient stay together, excluded ones stay out.

    `folds` gives the indices of training and validation instead, from the patients of the cases
    that are not for the test.
    """
    for name, patterns in (("exclude", exclude), ("test", test), ("validation", validation)):
        for pattern in patterns if not isinstance(patterns, (int, float)) else ():
            if not any(fnmatchcase(case.name, pattern) for case in cases):
                raise ValueError(f"data.{name}: no case is called {pattern!r}")

    def fits(case: Pair, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(case.name, pattern) for pattern in patterns)

    cases = [case for case in cases if not fits(case, exclude)]
    rest = [case for case in cases if not fits(case, test)]
    whose = patients([case.name for case in rest], patient)
    if folds is not None:
        _, held = folds(whose)
        chosen = [rest[i] for i in held]
    elif not isinstance(validation, (int, float)):
        chosen = [case for case in rest if fits(case, validation)]
    else:
        people = list(dict.fromkeys(whose))
        order = np.random.default_rng(seed).permutation(len(people))
        count = round(validation * len(people)) if validation else 0
        count = min(max(count, 1), len(people) - 1) if validation else 0
        drawn = {people[i] for i in order[:count]}
        chosen = [case for case, person in zip(rest, whose, strict=True) if person in drawn]
    train = [case for case in rest if case not in chosen]
    if not train:
        raise ValueError("data: no case is left to learn from")
    return Split(train, chosen, [case for case in cases if fits(case, test)])
