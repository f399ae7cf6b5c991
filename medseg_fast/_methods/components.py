"""Methods that number connected regions."""

from __future__ import annotations

import math
from typing import Any

import medseg_fast as ms
from medseg_fast._app import peers
from medseg_fast._app.peers import Peer
from medseg_fast._methods._method import CONNECTIVITY, LOWER, UPPER, Array, Method

_C = "components"


def _components(
    image: Array, *, lower: float = -math.inf, upper: float = math.inf, **options: Any
) -> tuple[Array, dict[str, Any]]:
    labels, count = ms.label(ms.threshold(image, lower, upper), return_num=True, **options)
    return labels, {"components": int(count)}


METHODS = (
    Method(
        "components",
        _C,
        "a number for each connected region with intensities from --lower to --upper",
        _components,
        (LOWER, UPPER, CONNECTIVITY),
        peer=Peer("scikit-image", "skimage", peers.components),
    ),
)
