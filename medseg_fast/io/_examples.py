"""Real scans that come with the package, for demonstrations and tests."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple


class Example(NamedTuple):
    """A scan, its ground truth, and where they come from."""

    name: str
    image: Path
    truth: Path
    description: str
    licence: str


_EXAMPLES = {
    "ct_lung_tumour": (
        "chest CT in HU around a lung tumour, with the tumour outlined by hand",
        "BSD-3-Clause",
    ),
    "mr_head_t1": (
        "T1-weighted MR of a whole head, with a brain mask made by ITK's K-means",
        "Apache-2.0",
    ),
}


def examples() -> tuple[str, ...]:
    """Names of the scans that come with the package."""
    return tuple(_EXAMPLES)


def example(name: str) -> Example:
    """A scan that comes with the package: its files, and a mask as ground truth.

    Parameters
    ----------
    name : str
        One of `examples`.

    Returns
    -------
    example : Example
        ``io.read(example.image)`` and ``io.read(example.truth)`` have the same shape and place.
        data/ATTRIBUTION.md in the package names sources and licences.
    """
    if name not in _EXAMPLES:
        raise ValueError(f"example: name must be one of {', '.join(_EXAMPLES)}, got {name!r}")
    folder = Path(str(files("medseg_fast") / "data"))
    description, licence = _EXAMPLES[name]
    return Example(
        name,
        folder / f"{name}.nii.gz",
        folder / f"{name}_truth.nii.gz",
        description,
        licence,
    )
