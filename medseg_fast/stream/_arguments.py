"""What a pipeline is given, checked, and how its steps are called."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from medseg_fast import _checks
from medseg_fast.stream._summary import STAGES

_OP = "Pipeline"


def callables(name: str, given: Any) -> tuple[Callable[[Any], Any], ...]:
    """One callable, or some."""
    found = tuple(given) if isinstance(given, Iterable) and not callable(given) else (given,)
    for each in found:
        if not callable(each):
            raise TypeError(f"{_OP}: {name} must be callables, got {type(each).__name__}")
    return found


def integers(name: str, given: Any) -> list[int] | None:
    """CPUs, in order, or none given."""
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise TypeError(f"{_OP}: {name} must be a collection of integers, got {given!r}")
    return sorted(_checks.integer(_OP, name, each, 0) for each in given)


def positive(name: str, value: float | None) -> float | None:
    """A time as given, or none."""
    if value is None:
        return None
    number = float(_checks.number(_OP, name, value))
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{_OP}: {name} must be positive, got {value!r}")
    return number


def name_of(step: Any) -> str:
    """How a step or a sink is called: by its code alone."""
    return str(getattr(step, "__name__", type(step).__name__))


def unique_names(steps: Sequence[Any]) -> tuple[str, ...]:
    """One name per step; one that is taken, also by the pipeline's own times, gets a number."""
    names: list[str] = []
    for step in steps:
        name = unique = name_of(step)
        numbers = count(2)
        while unique in names or unique in STAGES:
            unique = f"{name} {next(numbers)}"
        names.append(unique)
    return tuple(names)
