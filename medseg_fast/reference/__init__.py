"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import (
    components,
    edges,
    minima,
    morphology,
    region,
    region_growing,
    threshold,
    threshold_explorer,
    threshold_histogram,
    threshold_local,
    watershed,
    watershed_immersion,
)

__all__ = [
    "components",
    "edges",
    "minima",
    "morphology",
    "region",
    "region_growing",
    "threshold",
    "threshold_explorer",
    "threshold_histogram",
    "threshold_local",
    "watershed",
    "watershed_immersion",
]
