"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import components, threshold

__all__ = ["components", "threshold"]
