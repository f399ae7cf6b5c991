"""The same method from the library people use today, for the demo and `medseg-fast bench`.

Each function takes the options of our method and returns that library's mask or labels. Libraries
are imported when called: none of them is needed to segment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Peer:
    """A library, the module to look for, and ``run(image, **options) -> mask or labels``."""

    library: str
    module: str
    run: Callable[..., Array]

    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def version(self) -> str:
        return version(self.library)


def interval(image: Array, *, lower: float = -math.inf, upper: float = math.inf) -> Array:
    return np.asarray((image >= lower) & (image <= upper))
