"""Tuples for what runs once a frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def tuple_of(parts: Iterable[T]) -> tuple[T, ...]:
    """A tuple of what a generator gives.

    `tuple` makes one too large and cuts it down; of those, once freed, Python keeps up to 2000 of
    each size, so that the memory of a stream would grow during its first minute.
    """
    return (*parts,)
