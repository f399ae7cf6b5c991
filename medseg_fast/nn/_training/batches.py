"""Batches of patches, and folds: which, is a function of seed and step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medseg_fast import _checks
from medseg_fast.nn._blocks import positive
from medseg_fast.nn._windows import _mirrored

Array = NDArray[Any]

UNKNOWN = -100  # what losses ignore by default

_OP = "Batches"
_PLACES = 4096  # remembered per class and case


class _Case(NamedTuple):
    image: Array  # (channels, ...)
    label: Array  # (...)
    places: dict[int, Array]  # flat indices of pixels, by class


class Batches:
    """Batches of random patches of labelled images, as `fit` takes them.

    Parameters
    ----------
    cases : sequence of (image, label)
        Arrays (channels, ...) or (...), and (...) of whole numbers; negative ones mark pixels
        whose class is not known. All of them stay in memory as they are.
    batch : int, optional
        Patches of a batch.
    patch : int or sequence of int, optional
        Pixels along all axes, or each. Default: whole images, which must have one shape then.
    foreground : float, optional
        Part of the patches that must hold a pixel of a class but 0, which is drawn from the classes
        of the case with equal chances: rare ones are seen as often as others.
    augment : callable, optional
        ``augment(image, label, seed=..., out_shape=patch, center=...)`` gives the patch around
        `center`, changed at random: a `medseg_fast.augment.Augmenter`.
    seed : int, optional
        Of the order of cases, the places and the augmentation.

    Notes
    -----
    ``batches(step)`` is a function of seed and step: nothing is remembered from step to step. Each
    case is drawn once before any is drawn again, in an order that changes. Beyond an image patches
    show its mirror image, as `predict` does. ``len(batches)`` is the number of steps in which all
    cases are seen; ``batches.part(step, rank, size)`` one of `size` equal parts of a batch.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn import Batches
    >>> label = np.zeros((40, 50), np.uint8)
    >>> label[30, 40] = 1
    >>> batches = Batches([(label * 2.0, label)], batch=4, patch=16, foreground=1)
    >>> images, labels = batches(0)
    >>> images.shape, labels.dtype, int(labels.sum())
    (torch.Size([4, 1, 16, 16]), torch.int64, 4)
    """

    def __init__(
        self,
        cases: Sequence[tuple[ArrayLike, ArrayLike]],
        *,
        batch: int = 2,
        patch: int | Sequence[int] | None = None,
        foreground: float = 0.5,
        augment: Callable[..., tuple[Any, Any]] | None = None,
        seed: int = 0,
    ) -> None:
        positive(_OP, batch=batch)
        if not 0 <= foreground <= 1:
            raise ValueError(f"{_OP}: foreground must be in [0, 1], got {foreground}")
        if not len(cases):
            raise ValueError(f"{_OP}: cases must not be empty")
        self.batch, self.foreground, self.augment = batch, foreground, augment
        self.seed = _checks.integer(_OP, "seed", seed, 0)
        self._cases = [_case(number, *pair) for number, pair in enumerate(cases)]
        shapes = {case.label.shape for case in self._cases}
        ranks = {len(shape) for shape in shapes}
        if len(ranks) > 1 or len({len(case.image) for case in self._cases}) > 1:
            raise ValueError(f"{_OP}: cases must have the same axes and channels")
        (rank,) = ranks
        if patch is None:
            if len(shapes) > 1:
                raise ValueError(
                    f"{_OP}: cases of several shapes, {sorted(shapes)[:3]}: give patch"
                )
            self.patch: tuple[int, ...] = next(iter(shapes))
        else:
            given = (patch,) * rank if isinstance(patch, int) else tuple(patch)
            if len(given) != rank:
                raise ValueError(f"{_OP}: patch must be one number or {rank}, got {patch!r}")
            self.patch = tuple(_checks.integer(_OP, "patch", n, 1) for n in given)

    def __len__(self) -> int:
        return -(-len(self._cases) // self.batch)

    def __repr__(self) -> str:
        return (
            f"Batches({len(self._cases)} cases, batch={self.batch}, patch={self.patch}, "
            f"foreground={self.foreground}, augment={self.augment}, seed={self.seed})"
        )

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (batch, channels, ...) float32 and labels (batch, ...) int64 of a step."""
        return self.part(step, 0, 1)

    def part(self, step: int, rank: int, size: int) -> tuple[Tensor, Tensor]:
        """Every `size`-th patch of a step's batch, from `rank` on."""
        if self.batch % size:
            raise ValueError(f"{_OP}: a batch of {self.batch} cannot be shared by {size} processes")
        first = step * self.batch
        pairs = [self._patch(first + i) for i in range(rank, self.batch, size)]
        images = np.stack([np.asarray(image, np.float32) for image, _ in pairs])
        labels = np.stack([np.asarray(label, np.int64) for _, label in pairs])
        labels[labels < 0] = UNKNOWN
        return torch.from_numpy(images), torch.from_numpy(labels)

    def _patch(self, number: int) -> tuple[Array, Array]:
        epoch, place = divmod(number, len(self._cases))
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self._cases))
        case = self._cases[order[place]]
        rng = np.random.default_rng((self.seed, 1, number))
        starts = self._starts(case, rng)
        if self.augment is None:
            return _cut(case.image, self.patch, starts), _cut(case.label, self.patch, starts)
        return self.augment(
            case.image,
            case.label,
            seed=int(rng.integers(1 << 62)),
            out_shape=self.patch,
            center=[start + (n - 1) / 2 for start, n in zip(starts, self.patch, strict=True)],
        )

    def _starts(self, case: _Case, rng: np.random.Generator) -> list[int]:
        """The first pixel of a patch that stays within the image where it can."""
        shape = case.label.shape
        classes = sorted(case.places)
        if classes and rng.random() < self.foreground:
            places = case.places[classes[rng.integers(len(classes))]]
            pixel = np.unravel_index(places[rng.integers(len(places))], shape)
            # Anywhere in the patch, or the network would learn that targets are in the middle.
            starts = [int(p) - int(rng.integers(n)) for p, n in zip(pixel, self.patch, strict=True)]
        else:
            starts = [
                int(rng.integers(max(1, size - n + 1)))
                for size, n in zip(shape, self.patch, strict=True)
            ]
        return [
            min(max(start, 0), size - n) if size > n else (size - n) // 2
            for start, n, size in zip(starts, self.patch, shape, strict=True)
        ]


def _case(number: int, image: ArrayLike, label: ArrayLike) -> _Case:
    pixels, classes = np.asarray(image), np.asarray(label)
    if classes.dtype.kind not in "bui":
        raise TypeError(f"{_OP}: labels must be whole numbers, case {number} has {classes.dtype}")
    if pixels.ndim == classes.ndim:
        pixels = pixels[None]
    if pixels.shape[1:] != classes.shape or 0 in pixels.shape:
        raise ValueError(
            f"{_OP}: case {number}: image of shape {pixels.shape} does not fit the label's "
            f"{classes.shape}: (channels, ...) and (...)"
        )
    _checks.finite(_OP, f"image of case {number}", pixels)
    flat = classes.reshape(-1)
    places = {}
    for value in np.unique(flat[flat > 0]).tolist():
        every = np.flatnonzero(flat == value)
        places[int(value)] = every[:: -(-len(every) // _PLACES)]
    return _Case(pixels, classes, places)


def _cut(array: Array, patch: tuple[int, ...], starts: Sequence[int]) -> Array:
    """A patch, mirrored beyond the array; channels in front stay."""
    lead = array.ndim - len(patch)
    for axis, (size, start) in enumerate(zip(patch, starts, strict=True), lead):
        if start >= 0 and start + size <= array.shape[axis]:
            array = array[(slice(None),) * axis + (slice(start, start + size),)]
        else:
            array = array.take(_mirrored(start, size, array.shape[axis]), axis)
    return array


def folds(
    names: int | Sequence[Hashable], count: int = 5, *, seed: int = 0
) -> list[tuple[list[int], list[int]]]:
    """Divide cases for cross-validation.

    Parameters
    ----------
    names : int or sequence
        How many cases; or for each the name of its patient: cases of one stay together.
    count : int, optional
        Number of folds, at most that of patients.
    seed : int, optional
        Of the order in which patients are dealt.

    Returns
    -------
    folds : list of (train, validation)
        Indices of cases, ascending; each case is in one validation part.

    Examples
    --------
    >>> from medseg_fast import nn
    >>> nn.folds(["anna", "anna", "bert", "carl"], 3)[0]
    ([0, 1, 2], [3])
    """
    each = list(range(names)) if isinstance(names, int) else list(names)
    patients = list(dict.fromkeys(each))
    if not 2 <= count <= len(patients):
        raise ValueError(f"folds: count must be from 2 to {len(patients)}, got {count}")
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of = {patients[p]: place % count for place, p in enumerate(order)}
    parts = []
    for fold in range(count):
        held = [i for i, name in enumerate(each) if fold_of[name] == fold]
        parts.append(([i for i in range(len(each)) if fold_of[each[i]] != fold], held))
    return parts
