"""Labels as somebody in a hurry draws them: one stroke in each object, strokes between them.

Made from the expert's labels, without which nobody knows where an object is; training then sees
nothing but the strokes and what `nn.pseudo_labels` makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast import io, nn

Array = NDArray[Any]
NONE = -1  # not drawn on
_AWAY = 3  # pixels between a stroke outside and the next object


def scribbles(truth: Array) -> NDArray[np.int16]:
    """1 on strokes in objects (2D), 0 on strokes between them, `NONE` elsewhere.

    An object's stroke follows its long axis through its centre, half as long, one pixel wide. Those
    between are where the next objects on two sides are equally far.
    """
    drawn = np.full(truth.shape, NONE, np.int16)
    far = ms.distance_transform_edt(truth == 0)
    zones = ms.watershed(far, truth.astype(np.int32), watershed_line=True)
    drawn[(zones == 0) & (far > _AWAY)] = 0
    for number in np.unique(truth[truth > 0]):
        inside = truth == number
        places = np.argwhere(inside)
        centre = places.mean(0)
        spread, axes = np.linalg.eigh(np.cov(places.T) if len(places) > 2 else np.eye(2))
        half = max(0.5, np.sqrt(spread[1]))  # of an ellipse's long half axis a half
        steps = np.linspace(-half, half, int(4 * half) + 2)
        line = np.unique((centre + steps[:, None] * axes[:, 1]).round().astype(int), axis=0)
        line = line[((line >= 0) & (line < truth.shape)).all(1)]
        line = line[inside[tuple(line.T)]]  # an object need not be convex
        line = line if len(line) else places[len(places) // 2][None]
        drawn[tuple(line.T)] = 1
    return drawn


def write_labels(source: Path, target: Path, test: Sequence[str]) -> None:
    """Labels for training from scribbles on `source`'s images; those that `test` names stay."""
    waiting = target.with_name(target.name + ".part")
    waiting.mkdir(parents=True, exist_ok=True)
    for path in sorted((source / "labels").iterdir()):
        truth = io.read(path).array
        label = (truth != 0).astype(np.int16)
        if not any(fnmatchcase(path.stem, pattern) for pattern in test):
            image = io.read(next((source / "images").glob(path.stem + ".*"))).array
            image = np.moveaxis(image[..., :3], -1, 0) if image.ndim == 3 else image
            label = nn.pseudo_labels(
                image.astype(np.float32),
                scribbles(truth),
                "random_walker",
                confidence=0.85,
                ignore_index=NONE,
            )
        io.write(waiting / (path.stem + ".nii.gz"), label, overwrite=True)
    waiting.rename(target)
