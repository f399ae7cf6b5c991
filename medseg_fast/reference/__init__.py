"""Slow twins for tests: every operation in plain Python, as its definition says."""

from medseg_fast.reference import (
    boundaries,
    components,
    edges,
    minima,
    morphology,
    distance,
    reconstruction,
    region,
    region_growing,
    threshold,
    threshold_explorer,
    threshold_histogram,
    threshold_local,
    watershed,
    watershed_hierarchy,
    watershed_immersion,
)

__all__ = [
    "boundaries",
    "components",
    "edges",
    "minima",
    "morphology",
    "distance",
    "reconstruction",
    "region",
    "region_growing",
    "threshold",
    "threshold_explorer",
    "threshold_histogram",
    "threshold_local",
    "watershed",
    "watershed_hierarchy",
    "watershed_immersion",
]
