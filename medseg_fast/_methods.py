"""The methods of the command line and the demonstration, one entry each.

An entry names the method, its options and how to call it; the command line, its help, the demo
and the benchmark are made from this list. To add a method, add an entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast._app import peers
from medseg_fast._app.peers import Peer

Array = NDArray[Any]
Run = Callable[..., tuple[Array, dict[str, Any]]]


@dataclass(frozen=True)
class Option:
    """One option of a method: a keyword of its `run`, ``--`` and dashes on the command line.

    `kind` is how its text is read. An "index" is one voxel, "z,y,x"; `several` options may be
    given more than once and arrive as a list. Without a default (None) and not `required`, the
    function's own default holds.
    """

    name: str
    kind: Literal["int", "float", "flag", "index", "text"] | tuple[str, ...]
    help: str
    default: Any = None
    required: bool = False
    several: bool = False


@dataclass(frozen=True)
class Method:
    """One way to segment.

    ``run(image, **options)`` returns a mask (bool) or labels (integers), and what the method found
    besides (a threshold) as a dict that can be written as JSON.
    """

    name: str
    family: str
    summary: str
    run: Run
    options: tuple[Option, ...] = ()
    peer: Peer | None = None


def split(image: Array, t: float, *, dark: bool = False) -> Array:
    """Mask of the pixels above `t` (``image > t``), or with `dark` of those at or below it."""
    if dark:
        return ms.threshold(image, -math.inf, t)
    if image.dtype.kind == "f":
        at = np.asarray(t, image.dtype)
        return ms.threshold(image, np.nextafter(at, np.inf, dtype=image.dtype))
    return ms.threshold(image, math.floor(t) + 1)


def _interval(image: Array, *, lower: float = -math.inf, upper: float = math.inf) -> Any:
    return ms.threshold(image, lower, upper), {}


LOWER = Option("lower", "float", "smallest intensity inside")
UPPER = Option("upper", "float", "largest intensity inside")
DARK = Option("dark", "flag", "the object is darker than its surroundings", False)

METHODS: dict[str, Method] = {}


def _add(method: Method) -> None:
    METHODS[method.name] = method


_add(
    Method(
        "threshold",
        "threshold",
        "intensities from --lower to --upper, both included",
        _interval,
        (LOWER, UPPER),
        Peer("NumPy", "numpy", peers.interval),
    )
)
