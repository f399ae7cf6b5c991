"""Every figure of a segmentation against the truth, label by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medseg_fast import _checks
from medseg_fast.metrics import _pairs
from medseg_fast.metrics.overlap import label_overlap
from medseg_fast.metrics.surfaces import (
    average_surface_distance,
    hausdorff_distance,
    surface_distances,
)

SURFACE_FIGURES = ("hausdorff_mm", "hausdorff_95_mm", "average_surface_distance_mm", "nsd")


def evaluate(
    pred: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float] | None = None,
    *,
    labels: Sequence[int] | None = None,
    tolerance_mm: float = 1.0,
    surfaces: bool = True,
) -> list[dict[str, Any]]:
    """Overlap, volume and surface distance of every label of two segmentations.

    Parameters
    ----------
    pred, truth : array_like
        Label images or masks of one shape, bool or integer, 2D or 3D.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    labels : sequence of int, optional
        Which labels; every one that occurs in either image but 0 by default.
    tolerance_mm : float, optional
        Distance in mm up to which surfaces agree, for ``nsd``.
    surfaces : bool, optional
        False leaves the distances out, which take the time.

    Returns
    -------
    figures : list of dict
        For each label ``label``, ``dice``, ``jaccard``, ``sensitivity``, ``specificity``,
        ``precision``, ``volume_mm3`` and ``true_volume_mm3`` (in 2D ``area_mm2`` and
        ``true_area_mm2``), ``volume_error``; ``hausdorff_mm`` and ``average_surface_distance_mm``
        (between voxels), ``hausdorff_95_mm`` and ``nsd`` (between surfaces). Each is what the
        function of that name in `medseg_fast.metrics` gives, empty masks included.

    Raises
    ------
    TypeError
        If an image or `labels` are not bool or integer.
    ValueError
        If shapes differ, the images are not 2D or 3D, or an argument is out of range.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> (row,) = ms.metrics.evaluate([[0, 1, 1]], [[0, 1, 0]], spacing=(1, 0.5))
    >>> row["dice"], row["hausdorff_mm"]
    (0.6666666666666666, 0.5)
    """
    op = "evaluate"
    found, true = _pairs.label_image(op, "pred", pred), _pairs.label_image(op, "truth", truth)
    if found.ndim not in (2, 3):
        raise ValueError(f"{op}: pred must have 2 or 3 dimensions, got shape {found.shape}")
    sizes = _checks.spacing(op, spacing, found.ndim)
    limit = _checks.tolerance(op, tolerance_mm)
    some = None if labels is None else _pairs.wanted(op, labels).tolist()
    table = label_overlap(found, true, some)
    voxel = math.prod(sizes)
    name = "area_mm2" if found.ndim == 2 else "volume_mm3"
    rows = []
    for i, label in enumerate(table.label.tolist()):
        in_pred = int(table.true_positive[i] + table.false_positive[i])
        in_truth = int(table.true_positive[i] + table.false_negative[i])
        difference = in_pred - in_truth
        empty = math.inf if difference else 0.0
        row: dict[str, Any] = {"label": int(label)}
        for figure in ("dice", "jaccard", "sensitivity", "specificity", "precision"):
            row[figure] = float(getattr(table, figure)[i])
        row |= {
            name: in_pred * voxel,
            f"true_{name}": in_truth * voxel,
            "volume_error": difference / in_truth if in_truth else empty,
        }
        if surfaces:
            masks = np.equal(found, label), np.equal(true, label)
            between = surface_distances(*masks, sizes)
            figures = (
                hausdorff_distance(*masks, sizes) if in_pred and in_truth else empty,
                between.hausdorff(95),
                average_surface_distance(*masks, sizes),
                between.dice(limit),
            )
            row |= dict(zip(SURFACE_FIGURES, figures, strict=True))
        rows.append(row)
    return rows
