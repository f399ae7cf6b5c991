"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import components, threshold, threshold_explorer

__all__ = ["components", "threshold", "threshold_explorer"]
