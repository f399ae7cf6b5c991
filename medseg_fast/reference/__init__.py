"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import components, region_growing, threshold, threshold_explorer

__all__ = ["components", "region_growing", "threshold", "threshold_explorer"]
