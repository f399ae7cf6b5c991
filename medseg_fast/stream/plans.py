"""Operations prepared for a stream: one shape and dtype, all of Python's memory allocated before.

Each is called with an image and returns its own output array, which the next call overwrites.
`medseg_fast.CannyPlan` is one of them, made to be called with ``out=``: `EdgePlan` does that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast.canny import CannyPlan
from medseg_fast.components import largest_component
from medseg_fast.gaussian import gaussian
from medseg_fast.morphology import morphological_gradient
from medseg_fast.region import connected_threshold
from medseg_fast.threshold import threshold
from medseg_fast.threshold_histogram import threshold_otsu
from medseg_fast.watershed import watershed

__all__ = [
    "EdgePlan",
    "LargestPlan",
    "NetworkPlan",
    "RegionGrowPlan",
    "SmoothPlan",
    "ThresholdPlan",
    "WatershedPlan",
]


def digest(value: Any) -> str:
    """Some digits of the SHA-256 of arrays and what holds them, for what is too long for a log."""
    total = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, dict):
            part = list(part.items())
        if isinstance(part, (list, tuple)):
            total.update(f"{len(part)}:".encode())
            for each in part:
                add(each)
        elif isinstance(part, np.ndarray):
            total.update(f"{part.dtype}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            total.update(repr(part).encode())

    add(value)
    return f"sha256:{total.hexdigest()[:16]}"


class _Plan:
    """Checks what comes in, once per frame."""

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None:
        self._op = type(self).__name__
        self.shape = tuple(_checks.integer(self._op, "shape", n, 1) for n in shape)
        self.dtype = np.dtype(dtype)
        if self.dtype.kind not in "buif" or self.dtype.itemsize > 8:
            raise TypeError(
                f"{self._op}: dtype must be bool, integer or float of at most 64 bits, "
                f"got {self.dtype}"
            )

    def checked(self, image: ArrayLike) -> NDArray[Any]:
        """The image as an array of the plan's shape and dtype."""
        array = _checks.as_array(self._op, image)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"{self._op}: image must have shape {self.shape} and dtype {self.dtype}, "
                f"got {array.shape} and {array.dtype}"
            )
        return array

    def __repr__(self) -> str:
        settings = [f"{name}={value!r}" for name, value in self._settings().items()]
        return f"{self._op}({', '.join([repr(self.shape), repr(self.dtype.name), *settings])})"

    def _settings(self) -> dict[str, Any]:
        return {}


class SmoothPlan(_Plan):
    """`gaussian` for a stream, in float32 and the image's own units.

    Parameters
    ----------
    shape, dtype
        Of every image.
    sigma : float
        As for `gaussian`.
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, sigma: float = 1.0) -> None:
        super().__init__(shape, dtype)
        self._sigma = sigma
        self._smooth = np.zeros(self.shape, np.float32)
        self(np.zeros(self.shape, self.dtype))  # raises for a sigma that never fits

    def __call__(self, image: ArrayLike) -> NDArray[np.float32]:
        """The smoothed image; the next call overwrites it."""
        array = self.checked(image)
        gaussian(array, self._sigma, preserve_range=True, dtype=np.float32, out=self._smooth)
        return self._smooth

    def _settings(self) -> dict[str, Any]:
        return {"sigma": self._sigma}


class ThresholdPlan(_Plan):
    """`threshold` for a stream.

    Parameters
    ----------
    shape : tuple of int
        Of every image.
    dtype : dtype
        Of every image.
    threshold : number or "otsu"
        Pixels of at least this value are inside; "otsu" finds it anew in every image.
    upper : number, optional
        Pixels above it are outside.
    largest : bool, optional
        Keep the largest component alone.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        threshold: float | str = "otsu",
        upper: float | None = None,
        *,
        largest: bool = False,
    ) -> None:
        super().__init__(shape, dtype)
        if isinstance(threshold, str) and threshold != "otsu":
            raise ValueError(f"{self._op}: threshold must be a number or 'otsu', got {threshold!r}")
        if not isinstance(threshold, str):
            _checks.number(self._op, "threshold", threshold)
        if upper is not None:
            _checks.number(self._op, "upper", upper)
        self._threshold, self._upper, self._largest = threshold, upper, largest
        self._mask = np.zeros(self.shape, bool)
        self._part = np.zeros(self.shape, bool) if largest else self._mask
        otsu_below = threshold == "otsu" and upper is not None
        self._below = np.zeros(self.shape, bool) if otsu_below else self._mask
        self(np.zeros(self.shape, self.dtype))  # raises for limits that never fit

    def __call__(self, image: ArrayLike) -> NDArray[np.bool_]:
        """The mask of one image; the next call overwrites it."""
        array = self.checked(image)
        # Otsu's value belongs to the lower class, a limit of the user's to the upper one.
        if isinstance(self._threshold, str):
            np.greater(array, threshold_otsu(array), out=self._mask)
            if self._upper is not None:
                np.less_equal(array, self._upper, out=self._below)
                self._mask &= self._below
        else:
            threshold(array, self._threshold, self._upper, out=self._mask)
        if self._largest:
            largest_component(self._mask, out=self._part)
        return self._part

    def _settings(self) -> dict[str, Any]:
        return {"threshold": self._threshold, "upper": self._upper, "largest": self._largest}


class LargestPlan(_Plan):
    """`largest_component` of a mask, for a stream.

    Parameters
    ----------
    shape : tuple of int
        Of every mask.
    connectivity : int, optional
        As for `largest_component`.
    """

    def __init__(self, shape: Sequence[int], *, connectivity: int | None = None) -> None:
        super().__init__(shape, bool)
        self._connectivity = connectivity
        self._part = np.zeros(self.shape, bool)
        self(self._part.copy())  # raises for a connectivity that never fits

    def __call__(self, mask: ArrayLike) -> NDArray[np.bool_]:
        """The largest component of one mask; the next call overwrites it."""
        return largest_component(self.checked(mask), self._connectivity, out=self._part)

    def _settings(self) -> dict[str, Any]:
        return {"connectivity": self._connectivity}


class RegionGrowPlan(_Plan):
    """`connected_threshold` for a stream: the region around seeds that stay where they are.

    Parameters
    ----------
    shape, dtype
        Of every image.
    seeds, lower, upper, connectivity
        As for `connected_threshold`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        seeds: Any,
        lower: float,
        upper: float,
        *,
        connectivity: int = 1,
    ) -> None:
        super().__init__(shape, dtype)
        self._arguments = (seeds, lower, upper, connectivity)
        self._mask = np.zeros(self.shape, bool)
        self(np.zeros(self.shape, self.dtype))  # raises for arguments that never fit

    def __call__(self, image: ArrayLike) -> NDArray[np.bool_]:
        """The region in one image; the next call overwrites it."""
        return connected_threshold(self.checked(image), *self._arguments, out=self._mask)

    def _settings(self) -> dict[str, Any]:
        names = ("seeds", "lower", "upper", "connectivity")
        return dict(zip(names, self._arguments, strict=True))


class WatershedPlan(_Plan):
    """Marker watershed on the morphological gradient, for a stream.

    Parameters
    ----------
    shape, dtype
        Of every image.
    markers : array_like
        Integer labels where objects are sure to be, 0 elsewhere; `set_markers` changes them.
    connectivity : int, optional
        As for `watershed`.
    size : int, optional
        Of the gradient's box, in pixels.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        markers: ArrayLike,
        *,
        connectivity: int = 1,
        size: int = 3,
    ) -> None:
        super().__init__(shape, dtype)
        self._connectivity, self._size = connectivity, size
        self._gradient = np.zeros(self.shape, self.dtype)
        self.set_markers(markers)
        self(np.zeros(self.shape, self.dtype))  # raises for options that never fit

    def set_markers(self, markers: ArrayLike) -> None:
        """Use a copy of other markers from the next image on."""
        given = np.asarray(markers)
        if given.shape != self.shape or given.dtype.kind not in "iu":
            raise ValueError(
                f"{self._op}: markers must be integers of shape {self.shape}, "
                f"got {given.dtype} of shape {given.shape}"
            )
        self._markers = given.copy("C")
        self._labels = np.zeros_like(self._markers)

    def __call__(self, image: ArrayLike) -> NDArray[Any]:
        """The labels of one image; the next call overwrites them."""
        morphological_gradient(self.checked(image), self._size, out=self._gradient)
        return watershed(self._gradient, self._markers, self._connectivity, out=self._labels)

    def _settings(self) -> dict[str, Any]:
        return {
            "markers": digest(self._markers),
            "connectivity": self._connectivity,
            "size": self._size,
        }


class EdgePlan(_Plan):
    """`CannyPlan` with an output array of its own.

    Parameters
    ----------
    shape, dtype, **options
        As for `CannyPlan`.
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike = np.uint8, **options: Any) -> None:
        super().__init__(shape, dtype)
        self._options = options
        self._plan: Callable[..., Any] = CannyPlan(shape, dtype, **options)
        self._edges = np.zeros(self.shape, bool)

    def __call__(self, image: ArrayLike) -> NDArray[np.bool_]:
        """The edges of one image; the next call overwrites them."""
        self._plan(image, out=self._edges)
        return self._edges

    def _settings(self) -> dict[str, Any]:
        return self._options


class NetworkPlan(_Plan):
    """A compiled network for a stream: from grey or colour images to labels.

    Parameters
    ----------
    shape, dtype
        Of every image, (H, W) or, with channels last, (H, W, C).
    network : callable, str or path-like
        (1, C, H, W) of float32 -> logits (1, classes, H, W): a plan of `medseg_fast.nn.optimize`,
        a file of one, or anything else that is called so with NumPy arrays.
    intensities : (low, high), optional
        What becomes 0 and 1. Default: the range of the dtype for unsigned integers; other images
        are taken as they are.

    Notes
    -----
    One class means a mask, of which a logit above 0 is the inside. Labels are uint8, beyond 256
    classes uint16.

    A log has the SHA-256 of a file, a digest of a plan's contents, and of other networks their name
    alone.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        network: Any,
        *,
        intensities: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(shape, dtype)
        if len(self.shape) not in (2, 3):
            raise ValueError(f"{self._op}: shape must be (H, W) or (H, W, C), got {self.shape}")
        given = network
        if isinstance(network, (str, os.PathLike)):
            from medseg_fast.nn import load_plan

            network = load_plan(os.fspath(network))
        if not callable(network):
            raise TypeError(f"{self._op}: network must be callable, got {type(network).__name__}")
        if (getattr(network, "metadata", None) or {}).get("structured"):
            raise ValueError(f"{self._op}: network must label pixels, not patches (StructuredLoss)")
        if intensities is None and self.dtype.kind in "bu":
            intensities = (0.0, 1.0 if self.dtype == bool else float(np.iinfo(self.dtype).max))
        if intensities is not None and not intensities[0] < intensities[1]:
            raise ValueError(f"{self._op}: intensities must be (low, high) with low < high")
        # PyTorch is loaded with this module: only for those who have networks.
        from medseg_fast.nn.functional import resample_argmax

        self._largest = resample_argmax
        self._network, self._intensities = network, intensities
        self._file = _file_digest(given) if network is not given else ""
        rows, columns, *channels = self.shape
        self._input = np.zeros((1, *(channels or [1]), rows, columns), np.float32)
        # Ours writes to an array that is kept; others allocate their logits anew.
        shapes: Sequence[tuple[int, ...]] = getattr(network, "output_shapes", ())
        kept = len(shapes) == 1 and not getattr(network, "fallbacks", True)
        self._logits = np.zeros(shapes[0], np.float32) if kept else None
        self._labels: NDArray[Any] = np.zeros((rows, columns), np.uint8)

    def __call__(self, image: ArrayLike) -> NDArray[Any]:
        """The labels of one image; the next call overwrites them."""
        array = self.checked(image)
        planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        np.copyto(self._input[0], planes, casting="unsafe")
        if self._intensities is not None:
            low, high = self._intensities
            if low:
                self._input -= np.float32(low)
            self._input *= np.float32(1 / (high - low))
        if self._logits is None:
            logits = np.asarray(self._network(self._input))
        else:
            self._network(self._input, out=[self._logits])
            logits = self._logits
        if logits.ndim != 4 or logits.shape[0] != 1 or logits.shape[2:] != self._labels.shape:
            raise ValueError(
                f"{self._op}: network must return (1, classes, {self.shape[0]}, {self.shape[1]}), "
                f"got {logits.shape}"
            )
        kind = np.min_scalar_type(logits.shape[1] - 1)
        if self._labels.dtype != kind:
            self._labels = np.zeros(self._labels.shape, kind)
        if logits.shape[1] == 1:
            np.greater(logits[0, 0], 0, out=self._labels.view(bool))
        elif logits.shape[1] == 2:
            np.greater(logits[0, 1], logits[0, 0], out=self._labels.view(bool))
        else:
            self._largest(logits[0], size=self._labels.shape, out=self._labels)
        return self._labels

    def _settings(self) -> dict[str, Any]:
        return {"network": self._file or _identity(self._network), "intensities": self._intensities}


def _file_digest(path: Any) -> str:
    return f"file sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"


def _identity(network: Any) -> str:
    """What tells networks apart in a log: of a plan of ours its contents, else a name."""
    if not getattr(network, "fallbacks", True):
        return f"{network!r} {digest(network.parts())}"
    return str(getattr(network, "__qualname__", type(network).__qualname__))
