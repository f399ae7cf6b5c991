"""What `predict` runs on windows: a plan here, modules in `_module_runner`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.nn import _arrays
from medseg_fast.nn._optimize._detector import DetectorPlan
from medseg_fast.nn._optimize._plan import Plan

_OP = "predict"


class Runner:
    """A model, and what there is to know about it.

    Attributes
    ----------
    ndim, channels : int
        Spatial axes and channels that it sees.
    pixels : dtype
        Of its windows.
    metadata : mapping
        What was saved with it.
    mirror : list of tuple of int
        Axes of (N, C, ...) that are flipped, for each pass of which the mean is taken.
    """

    ndim: int
    channels: int
    pixels: type[np.floating[Any]] = np.float32
    metadata: Mapping[str, Any]

    def __init__(self) -> None:
        self.mirror: list[tuple[int, ...]] = [()]

    def running(self) -> AbstractContextManager[Any]:
        """For as long as windows are given."""
        return nullcontext()

    def window(self, length: int, size: int, axis: int) -> tuple[int, int]:
        """Pixels along an axis of its input and of its answer, for an image of this size."""
        raise NotImplementedError

    def lengths(self, window: Any) -> Any:
        """The window that was asked for, if any, or the one that the model has."""
        return window if window is not None else self.metadata.get("window")

    def answer(self, windows: Any) -> Any:
        """What the model makes of windows."""
        raise NotImplementedError

    def given(self, windows: NDArray[Any]) -> Any:
        """Windows as the model takes them."""
        return windows

    def expected(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the logits for windows of this size."""
        raise NotImplementedError

    def __call__(self, windows: NDArray[Any], roll: int) -> Any:
        """Logits of windows whose axis `roll` is in front, in that order, too."""
        x = self.given(np.moveaxis(windows, 2, 2 + roll))
        total: Any = None
        for flips in self.mirror:
            logits = _arrays.flipped(self._logits(_arrays.flipped(x, flips)), flips)
            total = logits if total is None else total + logits
        mean = total / len(self.mirror) if len(self.mirror) > 1 else total
        return _arrays.moved(mean, 2 + roll, 2)

    def _logits(self, x: Any) -> Any:
        answer = first_of(self.answer(x))
        size = tuple(x.shape[2:])
        shape = getattr(answer, "shape", None)
        if _arrays.is_tensor(answer) != _arrays.is_tensor(x):
            shape = None
        if shape is None or tuple(shape[2:]) != self.expected(size):
            got = tuple(shape) if shape is not None else type(answer).__name__
            raise ValueError(
                f"{_OP}: model must return logits of shape (N, classes, "
                f"{', '.join(map(str, self.expected(size)))}) for windows of {size}, got {got}"
            )
        side = self.metadata.get("structured")
        if side is None:
            return answer
        if answer.shape[1] != side**self.ndim:
            raise ValueError(
                f"{_OP}: model must return a logit for each voxel of a patch of side {side}, as "
                f'metadata["structured"] says, got {answer.shape[1]}'
            )
        return _arrays.merged(answer, side)


class PlanRunner(Runner):
    """A plan: its windows have the one size that it was made for."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        shape = plan.input_shapes[0]
        if len(plan.input_shapes) != 1 or len(shape) not in (4, 5):
            raise ValueError(f"{_OP}: model must be a plan of one image, got {plan!r}")
        if len(plan.output_shapes[0]) != len(shape):
            raise ValueError(
                f"{_OP}: model must return logits of each pixel, got a plan of results of shape "
                f"{plan.output_shapes[0]}"
            )
        self.batch, self.channels, *size = shape
        self.size = tuple(size)
        self.ndim = len(self.size)
        self.metadata = plan.metadata

    def lengths(self, window: Any) -> Any:
        """Its own."""
        if window is not None:
            given = tuple(window) if isinstance(window, Sequence) else (window,) * self.ndim
            if given != self.size:
                raise ValueError(
                    f"{_OP}: window must be the one that the plan was made for, {self.size}, "
                    f"got {window!r}"
                )
        return self.size

    def window(self, length: int, size: int, axis: int) -> tuple[int, int]:
        return length, self.expected(self.size)[axis]

    def expected(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return self.plan.output_shapes[0][2:]

    def answer(self, windows: Any) -> Any:
        """Some at a time, as many as the plan takes; the last ones may be repeated."""
        parts = []
        for first in range(0, len(windows), self.batch):
            part = windows[first : first + self.batch]
            lack = self.batch - len(part)
            if lack:
                part = np.concatenate([part, *[part[-1:]] * lack])
            answer = first_of(self.plan(np.ascontiguousarray(part)))
            parts.append(answer[: self.batch - lack])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


def first_of(answer: Any) -> Any:
    """The result that counts among those of a model."""
    if isinstance(answer, Mapping):
        answer = answer.get("out", next(iter(answer.values()), None))
    return answer[0] if isinstance(answer, (tuple, list)) else answer


def runner(model: Callable[[Any], Any], rank: int) -> Runner:
    """For a plan, or a module; `rank` is that of the image."""
    if isinstance(model, Plan):
        return PlanRunner(model)
    if isinstance(model, DetectorPlan):
        raise TypeError(f"{_OP}: model must label pixels; `instances` takes {model!r}")
    if not callable(model):
        raise TypeError(f"{_OP}: model must be callable, got {type(model).__name__}")
    from medseg_fast.nn._module_runner import ModuleRunner

    return ModuleRunner(model, rank)
