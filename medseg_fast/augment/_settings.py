"""The settings of an Augmenter: ranges, axes and probabilities, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from medseg_fast import _checks

Range = tuple[float, float]

OP = "Augmenter"
CHANGES = (
    "rotation scale flip elastic gamma noise bias blur low_resolution "
    "contrast brightness grey invert".split()
)  # in the order that random numbers are drawn for them


CHANCES = {name: 0.5 if name == "flip" else 0.3 for name in CHANGES}
"""How often each happens by default."""


class EveryAxis(tuple[int, ...]):
    """All axes, however many an image has."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "True"


ALL_AXES = EveryAxis((0, 1, 2))


def number_range(
    name: str, value: Any, single: Any, *, above: float | None = None, least: float | None = None
) -> Range | None:
    """Two ascending numbers, from one or two."""
    if value is None:
        return None
    given = [value] if np.ndim(value) == 0 else list(value)
    numbers = [float(_checks.number(OP, name, v)) for v in given]
    fine = 1 <= len(numbers) <= 2 and all(map(math.isfinite, numbers))
    if fine and len(numbers) == 1:
        fine = numbers[0] > 0 if above is not None else numbers[0] >= (least or 0)
        if fine:
            low, high = single(numbers[0])
            numbers = sorted((float(low), float(high)))
    if fine:
        low, high = numbers
        fine = low <= high and (above is None or low > above) and (least is None or low >= least)
    if not fine:
        bound = f" above {above:g}" if above is not None else ""
        bound = f" from {least:g} on" if least is not None else bound
        raise ValueError(f"{OP}: {name} must be one or two ascending numbers{bound}, got {value!r}")
    return numbers[0], numbers[1]


def rotation(value: Any) -> list[Range] | None:
    """One range for all axes, or one each."""

    def one(v: Any) -> Range:
        found = number_range("rotation", v, lambda r: (-r, r))
        assert found is not None
        return found

    if value is None:
        return None
    if np.ndim(value) == 0 or (len(value) == 2 and np.ndim(value[0]) == 0):
        return [one(value)]
    return [one(v) for v in value]


def flip(value: Any) -> tuple[int, ...]:
    """Axes to flip; of True three, of which an image may have two."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return ALL_AXES if value else ()
    if not isinstance(value, Iterable):
        raise TypeError(f"{OP}: flip must be True, False or a sequence of axes, got {value!r}")
    return tuple(_checks.integer(OP, "flip", axis, 0, 2) for axis in value)


def flag(name: str, value: Any) -> bool:
    """True or False; None is False."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{OP}: {name} must be True or False, got {value!r}")


def probability(value: Any) -> dict[str, float]:
    """A number for each change."""
    even = dict(CHANCES)
    if isinstance(value, Mapping):
        if unknown := sorted(set(value) - set(CHANGES)):
            raise ValueError(f"{OP}: probability must name changes, got {', '.join(unknown)}")
        even.update(
            {name: float(_checks.number(OP, "probability", p)) for name, p in value.items()}
        )
    else:
        number = float(_checks.number(OP, "probability", value))
        even.update({name: number for name in CHANGES if name != "flip"})
    if not all(0 <= p <= 1 for p in even.values()):
        raise ValueError(f"{OP}: probability must lie in [0, 1], got {value!r}")
    return even
