"""What the morphology of images and of masks share: footprints run one after the other."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _footprint
from medseg_fast._cpu import core
from medseg_fast._footprint import Flat

# In the order of the kernels' BorderMode; the last three are constants.
MODES = {"reflect": 0, "constant": 1, "nearest": 2, "mirror": 3, "wrap": 4}
MODES |= {"max": 1, "min": 1, "ignore": 1}
# In the order of the kernels' Extremes.
MINIMUM, MAXIMUM, RANGE = 0, 1, 2
BASE_MINUS_MINIMUM, MAXIMUM_MINUS_BASE, BASE_MINUS_MAXIMUM, MINIMUM_MINUS_BASE = 3, 4, 5, 6
OF_MINIMUM = (MINIMUM, BASE_MINUS_MINIMUM, MINIMUM_MINUS_BASE)

# A footprint as scikit-image takes it: an array, or a sequence of (array, number of times).
Footprint = ArrayLike | Sequence[tuple[ArrayLike, int]]


def constant(op: str, dtype: np.dtype[Any], mode: str, cval: Any, minimum: bool) -> NDArray[Any]:
    """The value beyond the border where the mode is a constant, as an array of one element."""
    value = _checks.number(op, "cval", cval)
    if mode == "constant":  # 0.0 and -0.0 are one key
        return _constant.__wrapped__(dtype, mode, value, minimum)
    return _constant(dtype, mode, 0, minimum)


@functools.lru_cache(maxsize=256)
def _constant(dtype: np.dtype[Any], mode: str, value: float | int, minimum: bool) -> NDArray[Any]:
    if mode == "ignore":
        mode = "max" if minimum else "min"
    if dtype.kind == "f":
        least, most = -np.inf, np.inf
    elif dtype.kind == "b":
        least, most = 0, 1
    else:
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    value = {"max": most, "min": least}.get(mode, value)
    if dtype.kind != "f":  # as if the result were cut to the dtype
        value = int(min(max(value, least), most))
    with np.errstate(over="ignore"):
        return np.array([value]).astype(dtype)


class Run:
    """Extremes over several footprints, one after the other, from an image into an output."""

    def __init__(self, op: str, image: Any, out: Any, mode: str, cval: Any) -> None:
        self.op, self.mode, self.cval = op, mode, cval
        if not isinstance(mode, str) or mode not in MODES:
            raise ValueError(
                f"{op}: unsupported mode {mode!r}; mode must be one of {', '.join(MODES)}"
            )
        self.image = _checks.image(op, image)
        if self.image.ndim == 0:
            raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
        self.out = _checks.output(op, out, self.image.shape, self.image.dtype)
        self.written = _checks.scratch(self.out, self.image)

    def footprint(self, footprint: Any) -> list[Flat]:
        return _footprint.read(self.op, footprint, self.image.ndim)

    def __call__(
        self, *chain: tuple[list[Flat], int], base: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Apply footprints in order, each with its kind of extreme; return the output.

        The last kind may be a difference with `base`, without it with the image.
        """
        if self.image.size:
            self.into(self.written, *chain, base=self.image if base is None else base)
        return _checks.finish(self.out, self.written)

    def into(
        self, out: NDArray[Any], *chain: tuple[list[Flat], int], base: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        image = self.image
        stages = []
        for flats, kind in chain:
            plain = MINIMUM if kind in OF_MINIMUM else MAXIMUM
            cval = constant(self.op, image.dtype, self.mode, self.cval, kind in OF_MINIMUM)
            passes = [
                stage
                for flat in _footprint.merged(flats)
                for stage in _footprint.plan(flat, image.shape)
            ]
            stages += [(stage, plain, cval) for stage in passes[:-1]]
            stages.append((passes[-1], kind, cval))
        border = MODES[self.mode]
        with targets(out, len(stages)) as written:
            for (stage, kind, cval), target in zip(stages, written, strict=True):
                of = None if kind in (MINIMUM, MAXIMUM, RANGE) else base
                core.extremes(image, stage.shape, stage.parts, border, cval, kind, of, target)
                image = target
        return out


_MOST_KEPT = 4 << 20  # bytes
_kept: list[NDArray[np.uint8]] = []  # one array at most


@contextmanager
def targets(out: NDArray[Any], passes: int) -> Iterator[list[NDArray[Any]]]:
    """Where each pass writes: `out` and a spare array in turn, the last one `out`.

    A small spare array is kept for the next call: fresh memory would take longer than a pass.
    """
    if passes < 2:
        yield [out]
        return
    try:
        memory = _kept.pop()  # nobody else's now
    except IndexError:
        memory = np.empty(0, np.uint8)
    if not out.nbytes <= memory.nbytes <= max(_MOST_KEPT, out.nbytes):
        memory = _checks.empty((out.nbytes,), np.uint8)
    spare = memory[: out.nbytes].view(out.dtype).reshape(out.shape)
    yield [spare if left % 2 else out for left in reversed(range(passes))]
    if memory.nbytes <= _MOST_KEPT:
        _kept[:] = [memory]


def mirrored(flats: list[Flat]) -> list[Flat]:
    return [flat.mirrored() for flat in flats]
