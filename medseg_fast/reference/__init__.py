"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import threshold

__all__ = ["threshold"]
