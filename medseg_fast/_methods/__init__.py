"""The methods of the command line and the demonstration, one entry each.

An entry names the method, its options and how to call it; the command line, its help, the demo
and the benchmark are made from this list. To add a method, add an entry to its family's module.
"""

from medseg_fast._methods import (
    components,
    contours,
    edges,
    graph_cut,
    paths,
    region,
    threshold,
    watershed,
)
from medseg_fast._methods._method import Method, Option

METHODS: dict[str, Method] = {
    method.name: method
    for family in (
        threshold,
        region,
        watershed,
        graph_cut,
        paths,
        contours,
        components,
        edges,
    )
    for method in family.METHODS
}

__all__ = ["METHODS", "Method", "Option"]
