"""What changed between two dates."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from medseg_fast.measure.measurement import Measurements


class Change(NamedTuple):
    """Change of labels between two examinations, and the response it means."""

    labels: list[dict[str, Any]]
    """For each label of either date volume (area) and long axis before, after, and the change."""
    sum_before_mm: float
    """Sum of the long axes of the labels that were there before, then."""
    sum_after_mm: float
    """The same labels' sum after."""
    percent: float
    """By how much that changed."""
    response: str
    """complete response, partial response, stable disease, progressive disease, not evaluable."""


def change(before: Measurements, after: Measurements) -> Change:
    """Compare the measurements of the same lesions, by label, at two dates.

    Parameters
    ----------
    before, after : Measurements
        From `measure`, with the same number for the same lesion.

    Returns
    -------
    change : Change
        The response follows RECIST 1.1 [1]_ for target lesions, with `before` as the reference:
        progressive where the sum of long axes grew by 20 percent and 5 mm or a label is new,
        complete where no label is left, partial where the sum shrank by 30 percent, else stable.
        Not evaluable where there is no label at either date: there was no target lesion. Short axes
        of lymph nodes and lesions without measure are the reader's.

    Raises
    ------
    ValueError
        If one table is of 2D labels and the other of 3D.

    References
    ----------
    .. [1] E. A. Eisenhauer et al., "New response evaluation criteria in solid tumours: revised
       RECIST guideline (version 1.1)", Eur. J. Cancer 45 (2009) 228-247.

    Examples
    --------
    >>> import numpy as np, medseg_fast as ms
    >>> first = ms.measure.measure(np.ones((1, 10, 10), int))
    >>> second = ms.measure.measure(np.pad(np.ones((1, 5, 5), int), [(0, 0), (0, 5), (0, 5)]))
    >>> ms.measure.change(first, second).response
    'partial response'
    """
    sizes = ["volume_mm3" if "volume_mm3" in table else "area_mm2" for table in (before, after)]
    size = sizes[0]
    if size != sizes[1]:
        raise ValueError(f"change: after must have {size}, as before, got {sizes[1]}")
    tables = [
        {row["label"]: row for row in zip_rows(table, ("label", size, "long_axis_mm"))}
        for table in (before, after)
    ]
    rows = []
    for label in sorted(tables[0] | tables[1]):
        row: dict[str, Any] = {"label": label}
        for name in (size, "long_axis_mm"):
            was, now = (table.get(label, {}).get(name, 0.0) for table in tables)
            row |= {
                f"{name}_before": was,
                f"{name}_after": now,
                f"{name}_percent": _percent(was, now),
            }
        rows.append(row)
    old = [row for row in rows if row["label"] in tables[0]]
    was, now = (sum(row[f"long_axis_mm_{date}"] for row in old) for date in ("before", "after"))
    new = len(rows) > len(old)
    if not rows:
        response = "not evaluable"
    elif new or (now >= 1.2 * was and now - was >= 5):
        response = "progressive disease"
    elif not tables[1]:
        response = "complete response"
    elif now <= 0.7 * was:
        response = "partial response"
    else:
        response = "stable disease"
    return Change(rows, was, now, _percent(was, now), response)


def zip_rows(table: Measurements, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Some columns of a table, row by row."""
    columns = [table[name].tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _percent(was: float, now: float) -> float:
    return 100 * (now - was) / was if was else math.inf if now else 0.0
