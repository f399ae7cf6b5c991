"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import (
    components,
    minima,
    morphology,
    edges,
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
    "minima",
    "morphology",
    "edges",
    "region",
    "region_growing",
    "threshold",
    "threshold_explorer",
    "threshold_histogram",
    "threshold_local",
    "watershed",
    "watershed_immersion",
]
