"""Cases in memory, normalised; on disk where wanted, so that the next run starts at once."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks, io
from medseg_fast.data._normalise import MODALITIES, normalise
from medseg_fast.data._pairs import Pair
from medseg_fast.data._resample import resample
from medseg_fast.io.volume import Volume

Array = NDArray[Any]

_OP = "Cases"
_VERSION = 1  # of what is kept on disk: raised where the same settings give other numbers


class Case(NamedTuple):
    """An image (C, *spatial) of float32, its label (*spatial), the voxel size in mm if known."""

    name: str
    image: NDArray[np.float32]
    label: Array
    spacing: tuple[float, ...] | None


class Cases(Sequence[Case]):
    """The cases of `read_pairs`, read when first asked for, then kept.

    Parameters
    ----------
    pairs : sequence of Pair
    modality : str or sequence of str, optional
        As `normalise` takes it; one for all channels or one each.
    spacing : sequence of float, optional
        Voxel size in mm to resample to. Default: the files' own.
    memory : bool, optional
        Keep cases that were read.
    cache : path, optional
        Folder that keeps them as ``.npy``, written whole or not at all, and read by memory map. A
        file that changes, or other settings, make new ones.
    **options
        Of `normalise`: `window`, `weight_kg`, `dose_bq`.

    Notes
    -----
    Labels are unsigned integers where the mask's are not negative: 0 and 255 alone, as pictures
    have them, become 0 and 1. May be shared by threads.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        modality: str | Sequence[str] = "zscore",
        spacing: Sequence[float] | None = None,
        memory: bool = True,
        cache: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.pairs = list(pairs)
        kinds = [modality] if isinstance(modality, str) else list(modality)
        for kind in kinds:
            if kind not in MODALITIES:
                raise ValueError(
                    f"{_OP}: modality must be of {', '.join(MODALITIES)}, got {kind!r}"
                )
        self.modality = kinds
        self.spacing = None
        if spacing is not None:
            self.spacing = _checks.spacing(_OP, spacing, len(spacing))
        self.options = options
        self.cache = None if cache is None else Path(cache)
        if self.cache is not None:
            self.cache.mkdir(parents=True, exist_ok=True)
        self._kept: dict[int, Case] | None = {} if memory else None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | Sequence[Case]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        if self._kept is None:
            return self._load(number)
        with self._lock:
            if number not in self._kept:
                self._kept[number] = self._load(number)
            return self._kept[number]

    def __iter__(self) -> Iterator[Case]:
        return (self[i] for i in range(len(self)))

    def _load(self, number: int) -> Case:
        pair = self.pairs[number]
        if self.cache is None:
            return self._read(pair)
        stem = self.cache / f"{pair.name}.{self._key(pair)}"
        files = [Path(f"{stem}.{part}.npy") for part in ("image", "label", "spacing")]
        if not all(file.exists() for file in files):
            case = self._read(pair)
            for file, array in zip(
                files, (case.image, case.label, np.array(case.spacing or ())), strict=True
            ):
                _write(file, array)
        image, label = (np.load(file, mmap_mode="r") for file in files[:2])
        sizes = tuple(np.load(files[2]).tolist())
        return Case(pair.name, image, label, sizes or None)

    def _key(self, pair: Pair) -> str:
        """What the numbers of a case depend on."""
        facts: list[Any] = [_VERSION, self.modality, self.spacing, sorted(self.options.items())]
        for path in (*pair.images, pair.mask):
            state = path.stat()
            facts.append([str(path.absolute()), state.st_size, state.st_mtime_ns])
        return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]

    def _read(self, pair: Pair) -> Case:
        volumes = [io.read(path) for path in pair.images]
        image = np.concatenate([_channels(volume) for volume in volumes])
        mask = io.read(pair.mask)
        label = _labels(mask, pair.mask)
        if label.shape != image.shape[1:]:
            raise ValueError(
                f"{_OP}: {pair.mask} has shape {label.shape}, its image {image.shape[1:]}"
            )
        first = volumes[0]
        sizes = first.spacing if first.has_geometry else None
        if sizes and mask.has_geometry and not np.allclose(sizes, mask.spacing, rtol=1e-3):
            raise ValueError(
                f"{_OP}: {pair.mask} has voxels of {mask.spacing} mm, its image of {sizes} mm"
            )
        pixels = self._normalised(image, pair)
        if self.spacing is not None:
            if sizes is None:
                raise ValueError(f"{_OP}: {pair.images[0]} says no spacing to resample from")
            pixels, label = resample(pixels, label, sizes, self.spacing)
            sizes = self.spacing
        return Case(pair.name, pixels, label, sizes)

    def _normalised(self, image: Array, pair: Pair) -> NDArray[np.float32]:
        if len(self.modality) == 1:
            return normalise(image, self.modality[0], **self.options)
        if len(self.modality) != len(image):
            raise ValueError(
                f"{_OP}: {pair.name} has {len(image)} channels, for {len(self.modality)} modalities"
            )
        each = zip(image, self.modality, strict=True)
        return np.concatenate([normalise(c[None], kind, **self.options) for c, kind in each])


def _channels(volume: Volume) -> Array:
    """(C, *spatial)."""
    if "t" in volume.axes:
        raise ValueError(f"{_OP}: an image must have no time axis, got axes {volume.axes!r}")
    return np.moveaxis(volume.array, -1, 0) if "c" in volume.axes else volume.array[None]


def _labels(mask: Volume, path: Path) -> Array:
    label = _channels(mask)
    if (label[1:3] != label[0]).any():  # grey, and perhaps opacity
        raise ValueError(f"{_OP}: {path} is in colour: a mask has one number a pixel")
    label = label[0]
    if label.dtype.kind == "f":
        whole = label.astype(np.int32)
        if (whole != label).any():
            raise ValueError(f"{_OP}: {path} holds numbers that are not whole")
        label = whole
    if label.dtype == np.uint8 and not np.isin(label, (0, 255), invert=True).any():
        label = (label > 0).view(np.uint8)
    if label.dtype == np.bool_:
        label = label.view(np.uint8)
    small = label.size and label.dtype.kind == "i" and label.min() >= 0 and label.max() < 256
    return np.ascontiguousarray(label, np.uint8 if small else None)


def _write(path: Path, array: Array) -> None:
    """Under its name only when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
