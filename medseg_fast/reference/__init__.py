"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import (
    components,
    region,
    region_growing,
    threshold,
    threshold_explorer,
    threshold_histogram,
    threshold_local,
    watershed,
)

__all__ = [
    "components",
    "region",
    "region_growing",
    "threshold",
    "threshold_explorer",
    "threshold_histogram",
    "threshold_local",
    "watershed",
]
