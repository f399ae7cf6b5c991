"""Random patches that find rare foreground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast.augment import Augmenter

Array = NDArray[Any]

_OP = "PatchSampler"
_PLACES = 1 << 16  # remembered of each class of a case
_UNKNOWN = -100  # the losses' `ignore_index`


class PatchSampler:
    """Batches of random patches: a share of them around voxels of the foreground.

    Where a foreground patch is drawn, its class is drawn first, each with the same chance, then one
    of the cases that hold it, then one of its voxels: so a class that is rare, or in few cases, is
    seen as often as the others. The voxel lies anywhere in the patch, which lies within the image
    where it fits. All other patches lie anywhere.

    Parameters
    ----------
    cases : sequence of Case or of (image, label)
        Images (C, *spatial) and labels (*spatial), as `Cases`. A negative label means not labelled:
        it comes out as -100, which the losses ignore.
    patch : int or sequence of int
        Voxels along all axes, or each.
    batch : int, optional
    foreground : float, optional
        Share of the patches that hold foreground for sure; in each batch it is met as nearly as
        whole patches allow, over batches exactly in the mean.
    augmenter : Augmenter, optional
        Changes patches at random, in the same resampling that cuts them. Default: none.
    seed : int, optional

    Notes
    -----
    ``sampler(step)`` is a function of seed and step, so training goes on where it stopped;
    iterating gives step 0, 1, ... without end. ``len(sampler)`` is the number of batches after
    which as many patches were drawn as there are cases: an epoch. Lists of foreground voxels are
    made once: at most 65536 random ones of each class of a case, 8 bytes each.

    Examples
    --------
    >>> label = np.zeros((40, 50), np.uint8)
    >>> label[30, 40] = 1
    >>> sampler = PatchSampler([(label[None] * 2.0, label)], patch=16, batch=4, foreground=1)
    >>> images, labels = sampler(0)
    >>> images.shape, labels.shape, labels.dtype, int(labels.sum())
    ((4, 1, 16, 16), (4, 16, 16), dtype('int64'), 4)
    """

    def __init__(
        self,
        cases: Sequence[Any],
        patch: int | Sequence[int],
        batch: int = 2,
        *,
        foreground: float = 0.33,
        augmenter: Augmenter | None = None,
        seed: int = 0,
    ) -> None:
        if len(cases) == 0:
            raise ValueError(f"{_OP}: cases must not be empty")
        self.cases = cases
        self.batch = _checks.integer(_OP, "batch", batch, 1)
        self.foreground = float(_checks.number(_OP, "foreground", foreground))
        if not 0 <= self.foreground <= 1:
            raise ValueError(f"{_OP}: foreground must lie in [0, 1], got {foreground!r}")
        self.augmenter = Augmenter() if augmenter is None else augmenter
        self.seed = _checks.integer(_OP, "seed", seed, 0)
        self._places: dict[int, list[tuple[int, Array]]] = {}  # class: (case, flat indices)
        ranks, channels = set(), set()
        for number in range(len(cases)):
            image, label, _ = parts_of(_OP, f"case {number}", cases[number])
            if image.shape[1:] != label.shape or label.size == 0:
                raise ValueError(
                    f"{_OP}: case {number} must have an image (C, *spatial) and a label of its "
                    f"shape, got {image.shape} and {label.shape}"
                )
            if label.dtype.kind not in "bui":
                raise TypeError(f"{_OP}: labels must be integers, case {number} has {label.dtype}")
            ranks.add(label.ndim)
            channels.add(len(image))
            self._remember(number, label)
        if len(ranks) > 1 or len(channels) > 1:
            raise ValueError(f"{_OP}: cases must have the same axes and channels")
        (rank,) = ranks
        sizes = [patch] * rank if np.ndim(patch) == 0 else list(patch)  # type: ignore[arg-type]
        if len(sizes) != rank:
            raise ValueError(f"{_OP}: patch must be one number or {rank}, got {patch!r}")
        self.patch = tuple(_checks.integer(_OP, "patch", n, 1) for n in sizes)

    @property
    def classes(self) -> list[int]:
        """Labels of the foreground."""
        return sorted(self._places)

    def __len__(self) -> int:
        return -(-len(self.cases) // self.batch)

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        step = 0
        while True:
            yield self(step)
            step += 1

    def __call__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Images (batch, C, *patch) and labels (batch, *patch) of a step."""
        rng = np.random.default_rng((self.seed, 0, step))
        share = self.foreground * self.batch
        wanted = int(share) + (rng.random() < share - int(share))
        chosen = rng.permutation(self.batch) < wanted
        patches = [self._patch(step, k, bool(inside)) for k, inside in enumerate(chosen)]
        labels = np.stack([label for _, label in patches]).astype(np.int64)
        labels[labels < 0] = _UNKNOWN
        return np.stack([image for image, _ in patches]), labels

    def _remember(self, number: int, label: Array) -> None:
        inside = np.flatnonzero(label > 0)
        if inside.size == 0:
            return
        values = label.reshape(-1)[inside]
        order = np.argsort(values, kind="stable")
        found, starts = np.unique(values[order], return_index=True)
        rng = np.random.default_rng((self.seed, 2, number))
        for value, part in zip(found, np.split(inside[order], starts[1:]), strict=True):
            few = part if part.size <= _PLACES else rng.choice(part, _PLACES, replace=False)
            self._places.setdefault(int(value), []).append((number, few.copy()))

    def _patch(self, step: int, number: int, inside: bool) -> tuple[Array, Array]:
        rng = np.random.default_rng((self.seed, 1, step, number))
        place = None
        case = int(rng.integers(len(self.cases)))
        if inside and self._places:
            holders = self._places[self.classes[rng.integers(len(self._places))]]
            case, places = holders[rng.integers(len(holders))]
            place = places[rng.integers(len(places))]
        image, label, spacing = parts_of(_OP, f"case {case}", self.cases[case])
        voxel = None if place is None else np.unravel_index(place, label.shape)
        middles = []
        for axis, (n, size) in enumerate(zip(label.shape, self.patch, strict=True)):
            low, high = min(0, (n - size) // 2), max(n - size, (n - size) // 2)
            if voxel is not None:
                at = int(voxel[axis])
                low, high = max(low, at - size + 1), min(high, at)
            middles.append(float(rng.integers(low, high, endpoint=True)) + (size - 1) / 2)
        return self.augmenter(
            image,
            label,
            seed=(self.seed, step, number),
            spacing=spacing,
            out_shape=self.patch,
            center=middles,
        )


def parts_of(op: str, name: str, case: Any) -> tuple[Array, Array, tuple[float, ...] | None]:
    """Image, label and spacing of a case or a pair; errors call it by its `name`."""
    if hasattr(case, "image"):
        return case.image, case.label, case.spacing
    if not isinstance(case, (tuple, list)) or len(case) != 2:
        raise TypeError(f"{op}: {name} must be a Case or (image, label), got {type(case).__name__}")
    image, label = case
    return np.asarray(image), np.asarray(label), None
