"""Which mask belongs to which image."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_OP = "read_pairs"

_SUFFIX = re.compile(
    r"(\.nii\.gz|\.nii|\.nrrd|\.nhdr|\.mha|\.mhd|\.npy|\.npz|\.tiff?|\.png|\.jpe?g|\.bmp|\.dcm)$",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"_(\d{4})$")  # nnU-Net's, one file for each
_MASKS = ("masks", "labels", "labelsTr")
_IMAGES = ("images", "imagesTr")
_WORDS = re.compile(
    r"[_\-. ](image|img|scan|mask|masks|label|labels|seg|segmentation|gt|truth)$", re.IGNORECASE
)

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class Pair(NamedTuple):
    """A case on disk: its images, one for each channel or one that has all, and its mask."""

    name: str
    images: tuple[Path, ...]
    mask: Path


def read_pairs(images: Files, masks: Files | None = None) -> list[Pair]:
    """Find images and their masks by name.

    Parameters
    ----------
    images : path, or sequence of paths
        A folder of images, or files. Without `masks` a folder that holds the folders ``images``
        and ``masks`` or ``labels`` (or nnU-Net's ``imagesTr`` and ``labelsTr``).
    masks : path, or sequence of paths, optional
        A folder of masks, or files.

    Returns
    -------
    pairs : list of Pair
        Name, paths of the images, path of the mask; sorted by name.

    Raises
    ------
    FileNotFoundError
        If a folder or file is not there.
    ValueError
        If there is no image, an image has no mask or several, or a mask no image.

    Notes
    -----
    Names are compared without the suffix of the format and a last word such as ``_image`` or
    ``_mask``; a mask may also have any words after the image's name (``Image_01L_1stHO.png``).
    Where all images end in four digits and no mask is called so (``case_0000.nii.gz``,
    ``case_0001.nii.gz``, ``case.nii.gz``), these are channels of a case. Files of other formats,
    and hidden ones, are not looked at.

    Examples
    --------
    >>> pairs = read_pairs(["a/x_image.png"], ["b/x_mask.png"])  # doctest: +SKIP
    >>> pairs[0].name  # doctest: +SKIP
    'x'
    """
    if masks is None:
        if not isinstance(images, (str, os.PathLike)):
            raise ValueError(f"{_OP}: masks must be given where images are files")
        folder = Path(images)
        images = _inside(folder, _IMAGES)
        masks = _inside(folder, _MASKS)
    found, targets = _files(images, "images"), _files(masks, "masks")
    cases = _by_case(found, {_stem(path) for path in targets})
    paired: dict[str, list[Path]] = defaultdict(list)
    alone = []
    for mask in targets:
        name = _name_of(mask, cases)
        if name is None:
            alone.append(mask.name)
        else:
            paired[name].append(mask)
    missing = [name for name in cases if name not in paired]
    several = [name for name, files in paired.items() if len(files) > 1]
    for names, what in (
        (missing, "images without a mask"),
        (alone, "masks without an image"),
        (several, "images with several masks"),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ValueError(f"{_OP}: {what}: {', '.join(sorted(names)[:5])}{more}")
    return [Pair(name, tuple(cases[name]), paired[name][0]) for name in sorted(cases)]


def _inside(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(f"{_OP}: {folder} has no folder {' or '.join(names)}")


def _files(given: Files, what: str) -> list[Path]:
    """The image files that are meant, sorted."""
    if isinstance(given, (str, os.PathLike)):
        folder = Path(given)
        if not folder.is_dir():
            raise FileNotFoundError(f"{_OP}: {what}: no folder {folder}")
        files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
        files = [p for p in files if _SUFFIX.search(p.name)]
    else:
        files = [Path(p) for p in given]
        if absent := [str(p) for p in files if not p.exists()]:
            raise FileNotFoundError(f"{_OP}: {what}: no file {absent[0]}")
    if not files:
        raise ValueError(f"{_OP}: {what}: no image file in {given}")
    return sorted(files)


def _stem(path: Path) -> str:
    return _SUFFIX.sub("", path.name)


def _by_case(images: list[Path], masks: set[str]) -> dict[str, list[Path]]:
    """Images by the name of their case; `masks`: the masks' names."""
    stems = [_stem(path) for path in images]
    cases: dict[str, list[Path]] = defaultdict(list)
    if all(_CHANNEL.search(stem) for stem in stems) and not masks & set(stems):
        for path, stem in zip(images, stems, strict=True):
            cases[_CHANNEL.sub("", stem)].append(path)
        counts = {len(files) for files in cases.values()}
        if len(counts) > 1:
            raise ValueError(f"{_OP}: images: cases have {sorted(counts)} channels")
        return dict(cases)
    for path, stem in zip(images, stems, strict=True):
        cases[_WORDS.sub("", stem)].append(path)
    for name, files in cases.items():
        if len(files) > 1:
            raise ValueError(f"{_OP}: images: several are called {name}: {files[0]}, {files[1]}")
    return dict(cases)


def _name_of(mask: Path, cases: dict[str, list[Path]]) -> str | None:
    """The case of a mask: the longest name that its own begins with."""
    stem = _stem(mask)
    for name in (stem, _WORDS.sub("", stem)):
        if name in cases:
            return name
    begins = [name for name in cases if stem.startswith((name + "_", name + "-"))]
    return max(begins, key=len) if begins else None
